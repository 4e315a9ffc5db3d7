// Steps of SGD and Adam over many tensors: a launch takes as many as its parameters hold. In the order of operations of the rows' CPU
// kernels (backend/cpu/loops/optim.cpp).
#include <cmath>

#include "backend/cuda/math.cuh"
#include "backend/cuda/pointwise.cuh"
#include "keel/ops/optim_step.h"

using namespace keel;
using namespace keel::cuda;

namespace {

constexpr int kMost = 40, kLists = 6, kLow = 5, kChunk = 8192;
constexpr size_t kMade = 160;  // bytes of a rule
constexpr int kAtOnce = 4, kTurns = 2;  // elements of a vector; vectors a thread asks for before it uses the first
constexpr int kLeast = kThreads * kAtOnce, kStep = kLeast * kTurns;  // the fewest elements of a block; those it has under way

/// What one launch works on: list k of tensor i at p[k][i]; tensor i owns the chunks from begin[i] on. Where parameters have masters, list
/// 0 is the masters and list kLow the parameters; else that one is null.
struct Batch {
  void* p[kLists][kMost];
  double* step[kMost];
  int64_t size[kMost];
  uint32_t begin[kMost + 1];
  int count;
  int chunk;          // elements a block
  uint64_t wide;      // bit i: all lists of tensor i begin where vectors may
  const float* skip;  // not 0 there: everything stays as it is; null: nobody asks
  __device__ bool stays() const { return skip && *skip != 0; }
  /// The tensor that a block belongs to.
  __device__ int tensor_of(uint32_t block) const {
    int low = 0, high = count;  // it is in [low, high)
    while (high - low > 1) {
      const int middle = (low + high) / 2;
      (begin[middle] <= block ? low : high) = middle;
    }
    return low;
  }
  void cut(int elements) {
    chunk = elements;
    for (int i = 0; i < count; ++i) begin[i + 1] = begin[i] + uint32_t(ceil_div(size[i], chunk));
  }
};

/// Numbers of a row's first input: their values when the kernel is called, or, for a call that is recorded, where they will be. What
/// follows from them is computed on the device in either case.
struct Settings {
  double value[5] = {};
  const double* at = nullptr;
  explicit Settings(const TensorView& v) {
    const auto* p = v.ptr<double>();
    if (!v.on_host)
      at = p;
    else
      for (int64_t i = 0; i < v.size() && i < 5; ++i) value[i] = p[i];
  }
  __device__ double operator[](int i) const { return at ? at[i] : value[i]; }
};

/// a + w (b - a), from the nearer end.
template <class C>
struct Lerp {
  C weight;
  bool near_a;
  __device__ C operator()(C a, C b) const {
    const C step = weight * (b - a);
    return near_a ? a + step : b - step;
  }
};
template <class C>
__device__ Lerp<C> lerp(double w) {
  return {C(w) < C(0.5) ? C(w) : C(1) - C(w), C(w) < C(0.5)};
}

/// Where nobody looks over a step.
struct Unguarded {
  static constexpr bool on = false;
};
/// What a StepGuard asks for, of the tensors from number `first` on.
struct Guarded {
  static constexpr bool on = true;
  BoardSlot* to;
  int64_t first;
  bool holds;
};
/// What one thread saw of elements that its step made infinite.
struct Made {
  uint32_t elements = 0, lists = 0;
  __device__ void post(const Unguarded&, int) const {}
  __device__ void post(const Guarded& g, int tensor) const {
    if (elements == 0) return;
    atomicAdd(reinterpret_cast<unsigned long long*>(&g.to->seen), static_cast<unsigned long long>(elements));
    atomicOr(reinterpret_cast<unsigned long long*>(&g.to->part), static_cast<unsigned long long>(lists));
    atomicMax(reinterpret_cast<unsigned long long*>(&g.to->first), ~static_cast<unsigned long long>(g.first + tensor));
  }
};

/// The least magnitude that is infinite as a T, of numbers of the type that computes.
template <class T>
__device__ constexpr Compute<T> end_of() {
  if constexpr (std::is_same_v<T, half>)
    return 65520.0F;
  else if constexpr (std::is_same_v<T, bfloat>)
    return 0x1.ffp127F;
  else
    return Compute<T>(INFINITY);
}

/// Looks over one element: `x` is what its lists become, `old` what they were. In the order of hold() of the CPU's loops.
template <class T, int uses, class C>
__device__ __forceinline__ void look_over(const Guarded& g, const C (&old)[kLists], C (&x)[kLists], int lists, Made& made) {
  uint32_t bad = !(fabs(x[0]) < end_of<T>());
#pragma unroll
  for (int k = 2; k < uses; ++k)
    if (k < lists && !(fabs(x[k]) < C(INFINITY))) bad |= 1u << k;
  if (bad == 0) return;
  bool was_good = true;
#pragma unroll
  for (int k = 0; k < uses; ++k)
    if (k < lists) was_good = was_good && fabs(old[k]) < C(INFINITY);
  if (was_good) ++made.elements, made.lists |= bad;
#pragma unroll
  for (int k = 0; k < uses; ++k)
    if (g.holds && k < lists) x[k] = old[k];
}

template <class C, bool amsgrad>
struct Adam {  // lists: p, g, m, v; with amsgrad the largest v
  static constexpr bool kGuarded = true;
  static constexpr int kUses = amsgrad ? 5 : 4;  // lists at most
  Settings hyper;  // lr, beta1, beta2, eps, weight decay
  bool maximize, decoupled;
  Lerp<C> first = {};
  C sign = 1, decay = 0, old_square = 0, new_square = 0;
  C rate = 0, eps = 0, shrink = 1;  // of the tensor at hand, which has its own count of steps
  __device__ void begin(double steps_before) {
    const double lr = hyper[0], beta1 = hyper[1], beta2 = hyper[2], epsilon = hyper[3], wd = hyper[4];
    const double step = steps_before + 1, c1 = 1 - pow(beta1, step), root = sqrt(1 - pow(beta2, step));
    first = lerp<C>(1 - beta1), sign = maximize ? -1 : 1, old_square = C(beta2), new_square = C(1 - beta2);
    decay = decoupled ? C(0) : C(wd);
    rate = C(-(lr / c1) * root), eps = C(epsilon * root), shrink = C(decoupled ? 1 - lr * wd : 1);
  }
  __device__ void operator()(C* x) const {
    x[0] = x[0] * shrink;
    C g = x[1] * sign;
    if (decay != 0) g = g + decay * x[0];
    x[2] = first(x[2], g);
    x[3] = x[3] * old_square + (new_square * g) * g;
    C v = x[3];
    if (amsgrad) v = x[4] = x[3] > x[4] || x[3] != x[3] ? x[3] : x[4];  // a NaN moves in and stays
    x[0] = x[0] + quotient(rate * x[2], root_of(v) + eps);
  }
};

template <class C>
struct Sgd {  // lists: p, g; with momentum the buffer
  static constexpr bool kGuarded = true;
  static constexpr int kUses = 3;
  Settings hyper;  // lr, momentum, dampening, weight decay
  bool maximize, with_momentum, nesterov, fresh = false;
  C rate = 0, decay = 0, sign = 1, momentum = 0, share = 1;
  __device__ void begin(double steps_before) {
    fresh = steps_before == 0;
    rate = C(-hyper[0]), momentum = C(hyper[1]), share = C(1 - hyper[2]), decay = C(hyper[3]), sign = maximize ? -1 : 1;
  }
  __device__ void operator()(C* x) const {
    C g = x[1] * sign;
    if (decay != 0) g = g + decay * x[0];
    if (with_momentum) {
      x[2] = fresh ? g : x[2] * momentum + share * g;
      g = nesterov ? g + momentum * x[2] : x[2];
    }
    x[0] = x[0] + rate * g;
  }
};

template <class C>
struct Rmsprop {  // lists: p, g, squares; with `centered` means; with momentum the buffer
  static constexpr bool kGuarded = true;
  static constexpr int kUses = 5;
  Settings hyper;  // lr, alpha, eps, weight decay, momentum
  bool maximize, centered, with_momentum;
  C rate = 0, alpha = 0, eps = 0, decay = 0, sign = 1, momentum = 0;
  __device__ void begin(double) {
    rate = C(hyper[0]), alpha = C(hyper[1]), eps = C(hyper[2]), decay = C(hyper[3]), momentum = C(hyper[4]), sign = maximize ? -1 : 1;
  }
  __device__ void operator()(C* x) const {
    C g = x[1] * sign;
    if (decay != 0) g = g + decay * x[0];
    x[2] = alpha * x[2] + (1 - alpha) * g * g;
    C square = x[2];
    if (centered) x[3] = alpha * x[3] + (1 - alpha) * g, square = square - x[3] * x[3], square = square < 0 ? C(0) : square;  // rounding may take it below
    C step = g / (C(sqrt(square)) + eps);
    if (with_momentum) {
      C& buffer = centered ? x[4] : x[3];
      step = buffer = momentum * buffer + step;
    }
    x[0] = x[0] - rate * step;
  }
};
template <class C>
struct Ema {  // lists: the average, the parameter
  static constexpr bool kGuarded = false;
  static constexpr int kUses = 2;
  Settings hyper;  // decay
  C decay = 0, share = 0;
  __device__ void begin(double) { decay = C(hyper[0]), share = C(1 - hyper[0]); }
  __device__ void operator()(C* x) const { x[0] = decay * x[0] + share * x[1]; }
};

template <class T, class Rule, class Guard, class C>
__device__ __forceinline__ void step_guarded(const Rule& rule, C (&x)[kLists], int lists, const Guard& guard, Made& made) {
  if constexpr (Guard::on) {
    C old[kLists];
#pragma unroll
    for (int k = 0; k < Rule::kUses; ++k) old[k] = x[k];
    rule(x);
    look_over<T, Rule::kUses>(guard, old, x, lists, made);
  } else {
    rule(x);
  }
}

/// T: the parameters' and gradients' type; the rest, masters too, is of the type that computes.
template <class T, class Rule, class Guard>
__device__ __forceinline__ void step_one(const Rule& rule, void* const (&p)[kLists], const int64_t (&at)[kLists], int lists,
                                         const Guard& guard, Made& made) {
  using C = Compute<T>;
  C x[kLists];
  const bool master = p[kLow] != nullptr;
  x[0] = master ? static_cast<const C*>(p[0])[at[0]] : C(widen(static_cast<const T*>(p[0])[at[0]]));
  x[1] = widen(static_cast<const T*>(p[1])[at[1]]);
#pragma unroll
  for (int k = 2; k < kLow; ++k)
    if (k < lists) x[k] = static_cast<const C*>(p[k])[at[k]];
  step_guarded<T>(rule, x, lists, guard, made);
  if (master) static_cast<C*>(p[0])[at[0]] = x[0];
  static_cast<T*>(master ? p[kLow] : p[0])[master ? at[kLow] : at[0]] = narrow<T>(x[0]);
#pragma unroll
  for (int k = 2; k < kLow; ++k)
    if (k < lists) static_cast<C*>(p[k])[at[k]] = x[k];
}
template <class T>
struct alignas(sizeof(T) * kAtOnce > 16 ? 16 : sizeof(T) * kAtOnce) Few {
  T v[kAtOnce];
};
/// The same for kAtOnce neighbouring elements, in vectors: asked for, stepped, and written.
template <class T, int uses>
struct Vectors {
  using C = Compute<T>;
  Few<T> p, g;
  Few<C> list[uses];
  template <class E>
  static __device__ __forceinline__ Few<E>& at(void* list, int64_t e) {
    return *reinterpret_cast<Few<E>*>(static_cast<E*>(list) + e);
  }
  __device__ __forceinline__ void load(void* const (&from)[kLists], int64_t e, int lists) {
    g = at<T>(from[1], e);
    if (from[kLow])
      list[0] = at<C>(from[0], e);
    else
      p = at<T>(from[0], e);
#pragma unroll
    for (int k = 2; k < uses; ++k)
      if (k < lists) list[k] = at<C>(from[k], e);
  }
  template <class Rule, class Guard>
  __device__ __forceinline__ void step(const Rule& rule, bool master, int lists, const Guard& guard, Made& made) {
#pragma unroll
    for (int j = 0; j < kAtOnce; ++j) {
      C x[kLists];
      x[0] = master ? list[0].v[j] : C(widen(p.v[j])), x[1] = widen(g.v[j]);
#pragma unroll
      for (int k = 2; k < uses; ++k) x[k] = k < lists ? list[k].v[j] : C(0);
      step_guarded<T>(rule, x, lists, guard, made);
#pragma unroll
      for (int k = 2; k < uses; ++k)
        if (k < lists) list[k].v[j] = x[k];
      list[0].v[j] = x[0], p.v[j] = narrow<T>(x[0]);
    }
  }
  __device__ __forceinline__ void store(void* const (&to)[kLists], int64_t e, int lists) const {
    const bool master = to[kLow] != nullptr;
    if (master) at<C>(to[0], e) = list[0];
    at<T>(master ? to[kLow] : to[0], e) = p;
#pragma unroll
    for (int k = 2; k < uses; ++k)
      if (k < lists) at<C>(to[k], e) = list[k];
  }
};
/// What the tensors' counts of steps make of the rule, which takes powers; and the counts go up.
template <class Rule>
__global__ void begin_kernel(Batch b, Rule rule, Rule* made) {
  const int i = int(threadIdx.x);
  if (i >= b.count) return;
  static_assert(sizeof(Rule) % 8 == 0);
  // A step asks for its rule before it knows whether it stays, and for bytes between fields along with their neighbours.
  for (size_t k = 0; k < sizeof(Rule) / 8; ++k) reinterpret_cast<volatile uint64_t*>(made + i)[k] = 0;
  if (b.stays()) return;
  rule.begin(b.step[i] ? *b.step[i] : 0);
  made[i] = rule;
  if (b.step[i]) *b.step[i] += 1;
}
template <class T, class Rule, class Guard>
__global__ void __launch_bounds__(kThreads, sizeof(Compute<T>) == 8 ? 2 : 4)
    step_kernel(Batch b, const Rule* __restrict__ rules, int lists, Guard guard) {
  const int i = b.tensor_of(blockIdx.x);
  void* p[kLists];
#pragma unroll
  for (int k = 0; k < kLists; ++k) p[k] = b.p[k][i];
  const int64_t from = int64_t(blockIdx.x - b.begin[i]) * b.chunk, to = from + b.chunk < b.size[i] ? from + b.chunk : b.size[i];
  const int64_t vectors = b.wide >> i & 1 ? from + (to - from) / kAtOnce * kAtOnce : from;
  Vectors<T, Rule::kUses> some[kTurns];
  const auto each = [&](int64_t first, auto f) {
#pragma unroll
    for (int k = 0; k < kTurns; ++k)
      if (const int64_t e = first + (k * kThreads + int(threadIdx.x)) * kAtOnce; e < vectors) f(some[k], e);
  };
  const Rule rule = rules[i];
  Made made;
  for (int64_t first = from; first < vectors; first += kStep) {
    each(first, [&](Vectors<T, Rule::kUses>& v, int64_t e) { v.load(p, e, lists); });
    if (b.stays()) return;
    each(first, [&](Vectors<T, Rule::kUses>& v, int64_t e) {
      v.step(rule, p[kLow] != nullptr, lists, guard, made);
      v.store(p, e, lists);
    });
  }
  if (b.stays()) return;
  for (int64_t e = vectors + threadIdx.x; e < to; e += kThreads) step_one<T>(rule, p, {e, e, e, e, e, e}, lists, guard, made);
  made.post(guard, i);
}
/// One tensor whose lists lie in different orders or with gaps.
template <class T, class Rule, class Guard>
__global__ void __launch_bounds__(kThreads) step_strided(Batch b, DeviceWalk<kLists> w, const Rule* rule, int lists, Guard guard) {
  const int64_t e = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (e >= b.size[0] || b.stays()) return;
  void* p[kLists];
#pragma unroll
  for (int k = 0; k < kLists; ++k) p[k] = b.p[k][0];
  int64_t at[kLists];
  offsets_of(w, e, at);
  Made made;
  step_one<T>(*rule, p, at, lists, guard, made);
  made.post(guard, 0);
}

/// Whether all lists of tensor `i` lie alike and without gaps.
bool alike(const TensorView* first, int64_t n, int64_t i, int lists) {
  const TensorView& p = first[i];
  const TensorView* const one[1] = {&p};
  if (!Walk<1>(one).dense(0)) return false;
  for (int k = 1; k < lists; ++k)
    for (int d = 0; d < p.rank(); ++d)
      if (p.dim(d) != 1 && first[k * n + i].stride(d) != p.stride(d)) return false;
  return true;
}

/// Runs `rule_of(C())` on `lists` lists of `n` tensors, the first being a.in[from]; with `master` the next one holds masters; step counts
/// are the list behind, or none where `counts` says so. Where there are two inputs before the lists, the second is the word that asks for
/// no step.
template <class F>
KernelStatus run_steps(const KernelArgs& a, int from, int lists, bool master, bool counts, F rule_of) {
  use(a.device);
  const int all = lists + master;
  const int64_t n = (a.n_in - from) / (all + counts);
  const TensorView* const first = a.in + from;
  const float* const skip = from > 1 && a.in[1].present() ? a.in[1].ptr<float>() : nullptr;
  for (int64_t i = 0; i < n;) {
    Batch b{};
    const DType t = first[i].dtype;
    const bool dense = alike(first, n, i, all);
    const int64_t at0 = i;
    int64_t total = 0;
    b.skip = skip;
    for (; i < n && b.count < (dense ? kMost : 1) && first[i].dtype == t && (!dense || alike(first, n, i, all)); ++i) {
      const int at = b.count++;
      for (int k = 0; k < lists; ++k) b.p[k][at] = first[k * n + i].data;
      if (master) b.p[kLow][at] = b.p[0][at], b.p[0][at] = first[lists * n + i].data;
      b.step[at] = counts ? first[all * n + i].ptr<double>() : nullptr;
      b.size[at] = first[i].size();
      total += b.size[at];
      bool wide = true;
      for (int k = 0; k < kLists; ++k) wide &= reinterpret_cast<uintptr_t>(b.p[k][at]) % 16 == 0;
      b.wide |= uint64_t(wide) << at;
    }
    // A few parameters are shared out among many blocks.
    b.cut(int(std::min<int64_t>(kChunk, std::max<int64_t>(1, total / (4 * processors(a.device) * kLeast)) * kLeast)));
    Floats::call(t, [&](auto type) {
      using T = decltype(type);
      const auto rule = rule_of(Compute<T>());
      using Rule = std::remove_const_t<decltype(rule)>;
      static_assert(sizeof(Rule) <= kMade);
      auto* const rules = reinterpret_cast<Rule*>(static_cast<char*>(a.workspace) + at0 * kMade);
      begin_kernel<<<1, kMost, 0, stream(a)>>>(b, rule, rules);
      if (!b.begin[b.count]) return;
      const auto step = [&](auto guard) {
        if (dense) return void(step_kernel<T><<<b.begin[b.count], kThreads, 0, stream(a)>>>(b, rules, lists, guard));
        const TensorView* views[kLists];
        for (int k = 0; k < kLists; ++k) views[k] = &first[(k < lists ? k : 0) * n + at0];
        if (master) views[kLow] = views[0], views[0] = &first[lists * n + at0];
        step_strided<T><<<unsigned(ceil_div(b.size[0], kThreads)), kThreads, 0, stream(a)>>>(
            b, DeviceWalk<kLists>(Walk<kLists>(views), b.size[0]), rules, lists, guard);
      };
      if constexpr (Rule::kGuarded)
        if (a.guard) return step(Guarded{a.guard->board, at0, a.guard->holds});
      step(Unguarded());
    });
  }
  return launched();
}

// ---- clipping ----
/// The power sums of the chunks of a batch, in f64; order 0 stands for infinity.
__device__ inline double joined(double order, double a, double b) { return order == 0 ? (a != a ? a : b != b ? b : a > b ? a : b) : a + b; }
__device__ inline double block_joined(double order, double v) {
  __shared__ double all[kThreads];
  all[threadIdx.x] = v;
  for (int half = kThreads / 2; half; half /= 2) {
    __syncthreads();
    if (int(threadIdx.x) < half) all[threadIdx.x] = joined(order, all[threadIdx.x], all[threadIdx.x + half]);
  }
  __syncthreads();
  return all[0];
}
/// The elements of this block's chunk: f(element).
template <class T, class F>
__device__ __forceinline__ void each_of_chunk(const Batch& b, const DeviceWalk<1>& w, bool dense, F f) {
  const int i = b.tensor_of(blockIdx.x);
  T* p = static_cast<T*>(b.p[0][i]);
  const int64_t from = int64_t(blockIdx.x - b.begin[i]) * b.chunk, to = from + b.chunk < b.size[i] ? from + b.chunk : b.size[i];
  for (int64_t e = from + threadIdx.x; e < to; e += kThreads) {
    int64_t at[1] = {e};
    if (!dense) offsets_of(w, e, at);
    f(p[at[0]]);
  }
}
template <class T>
__global__ void __launch_bounds__(kThreads) power_sums(Batch b, DeviceWalk<1> w, bool dense, double order, double* parts) {
  double sum = 0;
  each_of_chunk<T>(b, w, dense, [&](T& x) {
    const double v = fabs(double(widen(x)));
    sum = joined(order, sum, order == 2 ? v * v : order == 1 || order == 0 ? v : pow(v, order));
  });
  sum = block_joined(order, sum);
  if (threadIdx.x == 0) parts[blockIdx.x] = sum;
}
__global__ void __launch_bounds__(kThreads)
    clip_factor(int64_t n, const double* parts, double order, Settings limit, void* norm, DType t, double* factor) {
  double sum = 0;
  for (int64_t i = threadIdx.x; i < n; i += kThreads) sum = joined(order, sum, parts[i]);
  sum = block_joined(order, sum);
  if (threadIdx.x) return;
  const double v = order == 2 ? sqrt(sum) : order == 1 || order == 0 ? sum : pow(sum, 1 / order);
  if (t == DType::f64)
    *static_cast<double*>(norm) = v;
  else if (t == DType::f32)
    *static_cast<float*>(norm) = float(v);
  else if (t == DType::f16)
    *static_cast<half*>(norm) = __double2half(v);
  else
    *static_cast<bfloat*>(norm) = __double2bfloat16(v);
  const double by = limit[0] / (v + 1e-6);
  *factor = by >= 1 || isinf(limit[0]) ? 1 : by;
}
template <class T>
__global__ void __launch_bounds__(kThreads) scale_kernel(Batch b, DeviceWalk<1> w, bool dense, const double* factor) {
  const double by = *factor;
  if (by == 1) return;
  each_of_chunk<T>(b, w, dense, [&](T& x) { x = narrow<T>(widen(x) * Compute<T>(by)); });
}
/// Calls f(T(), batch, walk, dense) for batches of the tensors from a.in[1] on.
template <class F>
void each_batch(const KernelArgs& a, F f) {
  const TensorView* const first = a.in + 1;
  const int64_t n = a.n_in - 1;
  for (int64_t i = 0; i < n;) {
    Batch b{};
    const DType t = first[i].dtype;
    const bool dense = alike(first, n, i, 1);
    const TensorView* const one[1] = {&first[i]};
    const DeviceWalk<1> w(Walk<1>(one), first[i].size());
    for (; i < n && b.count < (dense ? kMost : 1) && first[i].dtype == t && (!dense || alike(first, n, i, 1)); ++i) {
      const int at = b.count++;
      b.p[0][at] = first[i].data, b.size[at] = first[i].size();
    }
    b.cut(kChunk);
    if (b.begin[b.count]) Floats::call(t, [&](auto type) { f(type, b, w, dense); });
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads) unscale_kernel(Batch b, DeviceWalk<1> w, bool dense, const double* inverse, float* found) {
  const double by = *inverse;
  bool bad = false;
  each_of_chunk<T>(b, w, dense, [&](T& x) {
    const auto v = widen(x);
    bad |= !isfinite(v);
    if (by != 1) x = narrow<T>(v * Compute<T>(by));
  });
  if (__syncthreads_or(bad) && threadIdx.x == 0) *found = 1;  // all that write, write the same
}
constexpr int kFound = 16;
struct FoundList {
  const float* p[kFound];
  int count;
};
__global__ void update_scale_kernel(float* scale, int64_t* tracker, FoundList found, UpdateScaleParams p) {
  bool bad = false;
  for (int i = 0; i < found.count; ++i) bad |= *found.p[i] != 0;
  if (bad) {
    *scale = float(double(*scale) * p.backoff_factor), *tracker = 0;
  } else if (++*tracker >= p.growth_interval) {
    const float next = float(double(*scale) * p.growth_factor);
    if (isfinite(next)) *scale = next;
    *tracker = 0;
  }
}

/// State is of the dtype that computes; the rows promise it.
KernelDef& list_def(KernelDef& k) { return k.inputs(Layout::strided).input(0, Layout::contiguous); }
/// With a rule made for each tensor, of which there are two lists at least.
KernelDef& step_def(KernelDef& k) {
  return list_def(k).workspace([](const KernelArgs& a) { return size_t(a.n_in / 2) * kMade; });
}
const char* refuse_wide_word(const void*, Specs in) { return in.has(1) && in[1].dtype != DType::f32 ? "a word of another dtype" : nullptr; }

}  // namespace

KEEL_CUDA_KERNEL(adam_step) {
  step_def(k).refuses(refuse_wide_word).run([](const KernelArgs& a) {
    const auto& p = a.get<AdamStepParams>();
    const auto run = [&]<bool amsgrad>(std::bool_constant<amsgrad>) {
      return run_steps(a, 2, 4 + amsgrad, p.master, true,
                       [&](auto c) { return Adam<decltype(c), amsgrad>{Settings(a.in[0]), p.maximize, p.decoupled}; });
    };
    return p.amsgrad ? run(std::true_type()) : run(std::false_type());
  });
}
KEEL_CUDA_KERNEL(sgd_step) {
  step_def(k).refuses(refuse_wide_word).run([](const KernelArgs& a) {
    const auto& p = a.get<SgdStepParams>();
    return run_steps(a, 2, p.momentum ? 3 : 2, p.master, p.momentum,
                     [&](auto c) { return Sgd<decltype(c)>{Settings(a.in[0]), p.maximize, p.momentum, p.nesterov}; });
  });
}
KEEL_CUDA_KERNEL(rmsprop_step) {
  step_def(k).refuses(refuse_wide_word).run([](const KernelArgs& a) {
    const auto& p = a.get<RmspropStepParams>();
    return run_steps(a, 2, 3 + p.centered + p.momentum, p.master, true,
                     [&](auto c) { return Rmsprop<decltype(c)>{Settings(a.in[0]), p.maximize, p.centered, p.momentum}; });
  });
}
KEEL_CUDA_KERNEL(ema_step) {
  step_def(k).run([](const KernelArgs& a) {
    return run_steps(a, 1, 2, false, false, [&](auto c) { return Ema<decltype(c)>{Settings(a.in[0])}; });
  });
}
KEEL_CUDA_KERNEL(clip_norm) {
  list_def(k)
      .workspace([](const KernelArgs& a) {
        int64_t chunks = 1;
        for (int i = 1; i < a.n_in; ++i) chunks += ceil_div(a.in[i].size(), kChunk);
        return size_t(chunks) * 8;
      })
      .run([](const KernelArgs& a) {
        const double p = a.get<ClipNormParams>().p, order = std::isinf(p) ? 0 : p;
        const Settings limit(a.in[0]);
        auto* factor = static_cast<double*>(a.workspace);
        int64_t parts = 0;
        use(a.device);
        each_batch(a, [&](auto t, const Batch& b, const DeviceWalk<1>& w, bool dense) {
          power_sums<decltype(t)><<<b.begin[b.count], kThreads, 0, stream(a)>>>(b, w, dense, order, factor + 1 + parts);
          parts += b.begin[b.count];
        });
        clip_factor<<<1, kThreads, 0, stream(a)>>>(parts, factor + 1, order, limit, a.out[0].data, a.out[0].dtype, factor);
        each_batch(a, [&](auto t, const Batch& b, const DeviceWalk<1>& w, bool dense) {
          scale_kernel<decltype(t)><<<b.begin[b.count], kThreads, 0, stream(a)>>>(b, w, dense, factor);
        });
        return launched();
      });
}
KEEL_CUDA_KERNEL(unscale) {
  k.inputs(Layout::strided).run([](const KernelArgs& a) {
    use(a.device);
    auto* found = a.out[0].ptr<float>();
    if (const cudaError_t e = cudaMemsetAsync(found, 0, sizeof *found, stream(a)))
      return KernelStatus::device(text_of(e, "clearing a word"));
    each_batch(a, [&](auto t, const Batch& b, const DeviceWalk<1>& w, bool dense) {
      unscale_kernel<decltype(t)><<<b.begin[b.count], kThreads, 0, stream(a)>>>(b, w, dense, a.in[0].ptr<double>(), found);
    });
    return launched();
  });
}
KEEL_CUDA_KERNEL(update_scale) {
  k.dtypes(set_of(DType::f32))
      .refuses([](const void*, Specs in) -> const char* {
        for (int i = 2; i < in.size(); ++i)
          if (in[i].dtype != DType::f32) return "words of another dtype";
        return in.size() > 2 + kFound ? "more than 16 words" : nullptr;
      })
      .run([](const KernelArgs& a) {
        use(a.device);
        FoundList found{};
        for (int i = 2; i < a.n_in; ++i) found.p[found.count++] = a.in[i].ptr<float>();
        update_scale_kernel<<<1, 1, 0, stream(a)>>>(a.in[0].ptr<float>(), a.in[1].ptr<int64_t>(), found, a.get<UpdateScaleParams>());
        return launched();
      });
}
