// Losses. cross_entropy reads the logits once for the loss and the logarithm of the sum, its gradient once more, and neither keeps another
// tensor of their size. Losses of rows and of blocks are summed in a fixed order.
#include "keel/ops/loss.h"

#include "backend/cuda/around.cuh"
#include "backend/cuda/fault.cuh"
#include "backend/cuda/math.cuh"

using namespace keel;
using namespace keel::cuda;

namespace {

/// What rows need to know of their targets.
struct Targets {
  const void* p;
  DType dtype;
  int64_t ignore;
  Reporter reporter;
  Targets(const KernelArgs& a, const TensorView& t, int64_t ignore, int64_t classes)
      : p(t.data), dtype(t.dtype), ignore(ignore), reporter(a, KernelStatus::place(0, classes, "target")) {}
  /// The class of a row, or -1 where it does not count.
  __device__ int64_t of(int64_t row) const {
    const int64_t t = load_index(p, dtype, row);
    return t == ignore ? -1 : reporter.place(t, row);
  }
};

constexpr int kWhole = 1024;  // threads of a kernel that is one block

/// The sum over the threads of a block, in a fixed order; in thread 0.
template <int threads, class C>
__device__ C block_sum(C v) {
  __shared__ C warps[threads / 32];
#pragma unroll
  for (int d = 16; d; d >>= 1) v += __shfl_down_sync(~0u, v, d);
  __syncthreads();
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = v;
  __syncthreads();
  v = 0;
  if (threadIdx.x == 0)
    for (int w = 0; w < threads / 32; ++w) v += warps[w];
  return v;
}

/// Targets of which some may not count; none where `p` is null.
struct Classes {
  const void* p = nullptr;
  DType dtype = DType::none;
  int64_t ignore = 0;
  Classes() = default;
  explicit Classes(const Targets& t) : p(t.p), dtype(t.dtype), ignore(t.ignore) {}
  __device__ bool counts(int64_t i) const { return load_index(p, dtype, i) != ignore; }
};
/// One block: how many targets count.
__global__ void __launch_bounds__(kWhole) count_targets(int64_t n, Classes classes, double* count) {
  int64_t own = 0;
#pragma unroll 4
  for (int64_t i = threadIdx.x; i < n; i += kWhole) own += classes.counts(i);
  const double c = block_sum<kWhole>(double(own));
  if (threadIdx.x == 0) *count = c;
}
/// One block: y = the sum of x, for the mean divided by how many of `classes` count, where there are any, or else by `count`.
template <class T, class C>
__global__ void __launch_bounds__(kWhole) sum_losses(int64_t n, const C* x, bool mean, Classes classes, double count, T* y) {
  C c = 0;
#pragma unroll 4
  for (int64_t i = threadIdx.x; i < n; i += kWhole) c += x[i];
  c = block_sum<kWhole>(c);
  if (mean && classes.p) {
    int64_t own = 0;
#pragma unroll 4
    for (int64_t i = threadIdx.x; i < n; i += kWhole) own += classes.counts(i);
    count = block_sum<kWhole>(double(own));
  }
  if (threadIdx.x == 0) *y = narrow<T>(mean ? c / C(count) : c);
}
template <class T, class C>
__global__ void __launch_bounds__(kThreads) copy_losses(int64_t n, const C* x, T* y) {
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i < n) y[i] = narrow<T>(x[i]);
}
/// The rows' losses as the result wants them; `classes`: the targets of rows that may not count.
template <class T>
KernelStatus reduce_losses(const KernelArgs& a, Reduction r, int64_t n, const Compute<T>* losses, const Classes& classes) {
  const cudaStream_t s = stream(a);
  T* y = a.out[0].ptr<T>();
  if (r == Reduction::none) {
    if (n) copy_losses<T><<<unsigned(ceil_div(n, kThreads)), kThreads, 0, s>>>(n, losses, y);
    return launched();
  }
  // Who goes on with what the rows gave, as gradients do, need not wait for their sum.
  const auto* const targets = static_cast<const char*>(classes.p);
  const MemoryUse uses[] = {
      {losses, losses + n, false}, {targets, targets + (targets ? n * int64_t(size_of(classes.dtype)) : 0), false}, {y, y + 1, true}};
  piece(a.device, 3, uses);
  sum_losses<T><<<1, kWhole, 0, s>>>(n, losses, r == Reduction::mean, classes, double(n), y);
  return launched();
}

// ---- cross entropy ----
struct Smoothing {
  double share;  // spread over all classes
  template <class C>
  __device__ C loss(C nll, C spread, int64_t n) const {
    return share == 0 ? nll : nll * C(1 - share) + spread * C(share / double(n));
  }
};

/// Rows whose targets are classes.
struct ByClass {
  template <class C>
  static __device__ C finish(C nll, C deviations, C log_sum, int64_t n, const Smoothing& s) {
    return s.loss(nll, -(deviations - C(n) * log_sum), n);
  }
  template <class T, int G, int P>
  struct Kernel : RowForm<G> {
    using C = Compute<T>;
    static __device__ void run(int64_t row, int64_t n, const T* x, Targets targets, Smoothing smoothing, C* losses, C* lse) {
      const RowOf<T, G, P> r(x, row, n);
      C top = -INFINITY, sum = 0, deviations = 0;
      r.each([&](int64_t, C v) { top = MaxOf()(top, v); });
      top = row_combine<G>(top, C(-INFINITY), MaxOf());
      r.each([&](int64_t, C v) { sum += exp_of(v - top), deviations += v - top; });
      sum = row_combine<G>(sum, C(0), SumOf());
      if (smoothing.share != 0) deviations = row_combine<G>(deviations, C(0), SumOf());
      if (r.lane) return;
      const C log_sum = log_of(sum);
      const int64_t t = targets.of(row);
      if (lse) lse[row] = top + log_sum;
      losses[row] = t < 0 ? C(0) : finish(-((widen(x[row * n + t]) - top) - log_sum), deviations, log_sum, n, smoothing);
    }
  };
  template <class T, class C>
  static __device__ void column(int64_t row, int64_t at, int64_t n, int64_t step, const T* x, Targets targets, Smoothing smoothing,
                                C* losses, C* lse) {
    C top = -INFINITY, sum = 0, deviations = 0;
    for (int64_t k = 0; k < n; ++k) top = MaxOf()(top, widen(x[at + k * step]));
    for (int64_t k = 0; k < n; ++k) sum += exp_of(widen(x[at + k * step]) - top), deviations += widen(x[at + k * step]) - top;
    const C log_sum = log_of(sum);
    const int64_t t = targets.of(row);
    if (lse) lse[row] = top + log_sum;
    losses[row] = t < 0 ? C(0) : finish(-((widen(x[at + t * step]) - top) - log_sum), deviations, log_sum, n, smoothing);
  }
};
/// Rows whose targets are probabilities.
struct ByProbability {
  template <class T, int G, int P>
  struct Kernel : RowForm<G> {
    using C = Compute<T>;
    static __device__ void run(int64_t row, int64_t n, const T* x, const T* target, Smoothing smoothing, C* losses, C* lse) {
      const RowOf<T, G, P> r(x, row, n), p(target, row, n);
      C top = -INFINITY, sum = 0, deviations = 0, dot = 0;
      r.each([&](int64_t, C v) { top = MaxOf()(top, v); });
      top = row_combine<G>(top, C(-INFINITY), MaxOf());
      r.each([&](int64_t, C v) { sum += exp_of(v - top), deviations += v - top; });
      sum = row_combine<G>(sum, C(0), SumOf());
      const C log_sum = log_of(sum);
      r.each([&](int64_t, C v, C w) { dot += w * ((v - top) - log_sum); }, p);
      dot = row_combine<G>(dot, C(0), SumOf());
      if (smoothing.share != 0) deviations = row_combine<G>(deviations, C(0), SumOf());
      if (r.lane) return;
      if (lse) lse[row] = top + log_sum;
      losses[row] = ByClass::finish(-dot, deviations, log_sum, n, smoothing);
    }
  };
  template <class T, class C>
  static __device__ void column(int64_t row, int64_t at, int64_t n, int64_t step, const T* x, const T* target, Smoothing smoothing,
                                C* losses, C* lse) {
    C top = -INFINITY, sum = 0, deviations = 0, dot = 0;
    for (int64_t k = 0; k < n; ++k) top = MaxOf()(top, widen(x[at + k * step]));
    for (int64_t k = 0; k < n; ++k) sum += exp_of(widen(x[at + k * step]) - top), deviations += widen(x[at + k * step]) - top;
    const C log_sum = log_of(sum);
    for (int64_t k = 0; k < n; ++k) dot += widen(target[at + k * step]) * ((widen(x[at + k * step]) - top) - log_sum);
    if (lse) lse[row] = top + log_sum;
    losses[row] = ByClass::finish(-dot, deviations, log_sum, n, smoothing);
  }
};

/// What gradients are divided by: a number; or of a few rows how many of their targets count, found by each warp; or nothing.
struct Share {
  static constexpr int64_t kFew = 256;
  const double* number = nullptr;
  Classes classes;
  int64_t rows = 0;
  /// By all threads of a warp.
  template <class C>
  __device__ C of(C v) const {
    if (number) return v / C(*number);
    if (!classes.p) return v;
    uint32_t own = 0;
    for (int64_t i = threadIdx.x % 32; i < rows; i += 32) own += classes.counts(i);
    return v / C(double(__reduce_add_sync(~0u, own)));
  }
};

/// g (exp(x - lse) - want).
struct ClassGradient {
  template <class C, class T>
  static __device__ C scale(int64_t row, const T* g, bool each, const double* counted) {
    const C v = widen(g[each ? row : 0]);
    return counted ? v / C(*counted) : v;
  }
  template <class C>
  static __device__ C one(C x, C lse, C g, bool hit, double share, int64_t n) {
    const C rest = C(share / double(n));
    return g * (exp_of(x - lse) - (hit ? C(1 - share) + rest : rest));
  }
  template <class T, int G, int P>
  struct Kernel : RowForm<G> {
    using C = Compute<T>;
    template <class Own, class Y>
    static __device__ void run(int64_t row, int64_t n, const T* x, const Own* g, bool each, Share share, Targets targets, Smoothing s,
                               const C* lse, Y dx) {
      const RowOf<T, G, P> r(x, row, n);
      const int64_t t = targets.of(row);
      const C by = share.of(C(widen(g[each ? row : 0]))), l = lse[row];
      r.write(dx + row * n, [&](int64_t i, C v) { return t < 0 ? C(0) : one(v, l, by, i == t, s.share, n); });
    }
  };
  template <class T, class Own, class C>
  static __device__ void column(int64_t row, int64_t at, int64_t n, int64_t step, const T* x, const Own* g, bool each, Share share,
                                Targets targets, Smoothing s, const C* lse, T* dx) {
    const int64_t t = targets.of(row);
    const C by = scale<C>(row, g, each, share.number), l = lse[row];
    for (int64_t k = 0; k < n; ++k) dx[at + k * step] = narrow<T>(t < 0 ? C(0) : one(widen(x[at + k * step]), l, by, k == t, s.share, n));
  }
};

// ---- long rows of 16-bit logits, as language models have them ----
constexpr float kLog2e = 1.44269504f;
constexpr int64_t kLong = 2048;  // from here on a block takes a row and reads it once
/// 2^x to two units of f32's last place, far below what 16 bits hold.
__device__ __forceinline__ float two_to(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
/// f(index, pack) for this thread's packs of a row; four are on their way at a time.
template <class T, class F>
__device__ __forceinline__ void each_pack(const T* row, int64_t n, F f) {
  const auto* p = reinterpret_cast<const Pack<T, 8>*>(row);
  const int packs = int(n / 8);
  int i = int(threadIdx.x);
  for (; i + 3 * kThreads < packs; i += 4 * kThreads) {
    Pack<T, 8> k[4];
#pragma unroll
    for (int j = 0; j < 4; ++j) k[j] = p[i + j * kThreads];
#pragma unroll
    for (int j = 0; j < 4; ++j) f(i + j * kThreads, k[j]);
  }
  for (; i < packs; i += kThreads) f(i, p[i]);
}
struct PlainMax {
  __device__ float operator()(float a, float b) const { return fmaxf(a, b); }
};
/// A block a row: the sum of exponentials follows the largest value so far (Milakov and Gimelshein 2018). NaN reaches the sum.
template <class T>
__global__ void __launch_bounds__(kThreads)
    long_row_loss(int64_t n, const T* x, Targets targets, Smoothing smoothing, float* losses, float* lse) {
  const int64_t row = blockIdx.x;
  const bool smooth = smoothing.share != 0;
  float top = -INFINITY, sum = 0, plain = 0;
  each_pack(x + row * n, n, [&](int, const Pack<T, 8>& k) {
    float v[8], most = -INFINITY;
#pragma unroll
    for (int j = 0; j < 8; ++j) v[j] = widen(k.v[j]), most = fmaxf(most, v[j]);
    if (most > top) sum *= two_to((top - most) * kLog2e), top = most;
    const float base = top == -INFINITY ? 0.f : top * kLog2e;
    float part = 0;
#pragma unroll
    for (int j = 0; j < 8; ++j) part += two_to(__fmaf_rn(v[j], kLog2e, -base));
    sum += part;
    if (smooth) {
#pragma unroll
      for (int j = 0; j < 8; ++j) plain += v[j];
    }
  });
  const float all = row_combine<kThreads>(top, -INFINITY, PlainMax());
  if (top != -INFINITY) sum *= two_to((top - all) * kLog2e);
  sum = row_combine<kThreads>(sum, 0.f, SumOf());
  if (smooth) plain = row_combine<kThreads>(plain, 0.f, SumOf());
  if (threadIdx.x) return;
  const float log_sum = log_of(sum);
  const int64_t t = targets.of(row);
  if (lse) lse[row] = all + log_sum;
  losses[row] = t < 0 ? 0.f : ByClass::finish(-((widen(x[row * n + t]) - all) - log_sum), plain - float(n) * all, log_sum, n, smoothing);
}
template <class T, class Own>
__global__ void __launch_bounds__(kThreads)
    long_row_gradient(int64_t n, const T* x, const Own* g, bool each, Share share, Targets targets, Smoothing s, const float* lse, T* dx) {
  const int64_t row = blockIdx.x, t = targets.of(row);
  const float by = share.of(float(widen(g[each ? row : 0]))), base = lse[row] * kLog2e, rest = float(s.share / double(n)),
              hit = float(1 - s.share) + rest;
  const int at = t < 0 ? -1 : int(t / 8), place = int(t % 8);
  each_pack(x + row * n, n, [&](int i, const Pack<T, 8>& k) {
    Pack<T, 8> out;
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      const float p = two_to(__fmaf_rn(widen(k.v[j]), kLog2e, -base));
      out.v[j] = narrow<T>(t < 0 ? 0.f : by * (p - (i == at && j == place ? hit : rest)));
    }
    reinterpret_cast<Pack<T, 8>*>(dx + row * n)[i] = out;
  });
}
/// Whether the two kernels above take these rows.
template <class T>
bool long_rows(const Around& v, const TensorView& x) {
  return sizeof(T) == 2 && v.inner == 1 && v.n >= kLong && v.n % 8 == 0 && v.n < (int64_t(1) << 31) && aligned16(x);
}

// ---- nll ----
template <class T, class C>
__global__ void __launch_bounds__(kThreads) nll_kernel(int64_t rows, int64_t n, int64_t inner, const T* x, Targets targets, C* losses) {
  const int64_t row = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (row >= rows) return;
  const int64_t t = targets.of(row);
  losses[row] = t < 0 ? C(0) : -widen(x[(row / inner * n + t) * inner + row % inner]);
}
template <class T>
__global__ void __launch_bounds__(kThreads)
    nll_gradient(int64_t rows, int64_t n, int64_t inner, const T* g, bool each, const double* counted, Targets targets, T* dx) {
  const int64_t row = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (row >= rows) return;
  const int64_t t = targets.of(row);
  if (t >= 0) dx[(row / inner * n + t) * inner + row % inner] = narrow<T>(-ClassGradient::scale<Compute<T>>(row, g, each, counted));
}

/// Workspace: a loss a row.
size_t rows_bytes(int64_t rows) { return size_t(rows) * 8; }
/// What a gradient is divided by: the count of targets in the workspace, made where the mean is wanted; else null.
const double* counted_targets(const KernelArgs& a, Reduction r, const Targets& t, int64_t rows) {
  if (r != Reduction::mean) return nullptr;
  auto* count = static_cast<double*>(a.workspace);
  count_targets<<<1, kWhole, 0, stream(a)>>>(rows, Classes(t), count);
  return count;
}

// ---- element against element ----
struct Square {
  template <class C>
  __device__ C operator()(C x, C t) const {
    return (x - t) * (x - t);
  }
};
struct Absolute {
  template <class C>
  __device__ C operator()(C x, C t) const {
    return x > t ? x - t : t > x ? t - x : (x - t) * (x - t);  // NaN stays
  }
};
struct Logits {
  template <class C>
  __device__ C operator()(C x, C t) const {
    return ((x > 0 || x != x ? x : C(0)) - x * t) + log1p_of(exp_of(x > 0 ? -x : x));
  }
};
template <class F, class T, class C>
__global__ void __launch_bounds__(kThreads) pair_parts(int64_t n, const T* x, const T* t, C* parts) {
  C c = 0;
  for (int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x; i < n; i += int64_t(gridDim.x) * kThreads)
    c += F()(widen(x[i]), widen(t[i]));
  c = block_sum<kThreads>(c);
  if (threadIdx.x == 0) parts[blockIdx.x] = c;
}
/// Blocks that sum `n` losses: few enough for one block to add their parts.
int64_t parts_of(int64_t n) { return std::min<int64_t>(ceil_div(n, 4 * kThreads), 1024); }

template <class F>
void define_pair(KernelDef& k) {
  k.dtypes(kinds::floating)
      .inputs(Layout::contiguous)
      .workspace([](const KernelArgs& a) { return size_t(parts_of(a.in[0].size())) * 8; })
      .run([](const KernelArgs& a) {
        const Reduction r = a.get<LossParams>().reduction;
        const int64_t n = a.in[0].size(), parts = parts_of(n);
        if (r == Reduction::none) return binary<Floats>(a, F());
        use(a.device);
        Floats::call(a.in[0].dtype, [&](auto type) {
          using T = decltype(type);
          auto* part = static_cast<Compute<T>*>(a.workspace);
          if (n) pair_parts<F><<<unsigned(parts), kThreads, 0, stream(a)>>>(n, a.in[0].ptr<T>(), a.in[1].ptr<T>(), part);
          sum_losses<T><<<1, kWhole, 0, stream(a)>>>(parts, part, r == Reduction::mean, Classes(), double(n), a.out[0].ptr<T>());
        });
        return launched();
      });
}

}  // namespace

KEEL_CUDA_KERNEL(cross_entropy) {
  k.late()
      .dtypes(kinds::floating)
      .inputs(Layout::contiguous)
      .refuses([](const void*, Specs in) -> const char* {
        return is_floating(in[1].dtype) && in[1].dtype != in[0].dtype ? "probabilities of another dtype" : nullptr;
      })
      .workspace([](const KernelArgs& a) { return rows_bytes(Around(a.in[0].shape(), a.get<CrossEntropyParams>().axis).rows()); })
      .run([](const KernelArgs& a) {
        const auto& p = a.get<CrossEntropyParams>();
        const TensorView &x = a.in[0], &target = a.in[1];
        const Around v(x.shape(), p.axis);
        KernelStatus s;
        use(a.device);
        Floats::call(x.dtype, [&](auto t) {
          using T = decltype(t);
          using C = Compute<T>;
          auto* losses = static_cast<C*>(a.workspace);
          C* lse = a.n_out > 1 && a.out[1].present() ? a.out[1].ptr<C>() : nullptr;
          const T* logits = x.ptr<T>();
          const Smoothing smoothing{p.label_smoothing};
          if (is_floating(target.dtype)) {
            const T* probabilities = target.ptr<T>();
            s = around<ByProbability, T>(a, v, aligned16(x) && aligned16(target), logits, probabilities, smoothing, losses, lse);
            if (!s.code) s = reduce_losses<C>(a, p.reduction, v.rows(), losses, Classes());
          } else {
            const Targets targets(a, target, p.ignore_index, v.n);
            bool taken = false;
            if constexpr (sizeof(T) == 2)
              if (v.rows() && long_rows<T>(v, x)) {
                long_row_loss<<<unsigned(v.rows()), kThreads, 0, stream(a)>>>(v.n, logits, targets, smoothing, losses, lse);
                s = launched(), taken = true;
              }
            if (!taken) s = around<ByClass, T>(a, v, aligned16(x), logits, targets, smoothing, losses, lse);
            if (!s.code) s = reduce_losses<C>(a, p.reduction, v.rows(), losses, Classes(targets));
          }
        });
        return s;
      });
}
KEEL_CUDA_KERNEL(cross_entropy_backward) {
  k.late()
      .stats()
      .dtypes(kinds::floating)
      .inputs(Layout::contiguous)
      .refuses([](const void*, Specs in) -> const char* {
        const DType wide = in[1].dtype == f64 ? f64 : f32;
        if (in[0].dtype != wide && in[0].dtype != in[1].dtype) return "a gradient of another dtype";
        return in[3].dtype == wide ? nullptr : "lse of another dtype";
      })
      .workspace([](const KernelArgs&) -> size_t { return 8; })
      .run([](const KernelArgs& a) {
        const auto& p = a.get<CrossEntropyParams>();
        const TensorView& x = a.in[1];
        const Around v(x.shape(), p.axis);
        KernelStatus s;
        use(a.device);
        Floats::call(x.dtype, [&](auto t) {
          using T = decltype(t);
          using C = Compute<T>;
          const Targets targets(a, a.in[2], p.ignore_index, v.n);
          Share share;
          if (p.reduction == Reduction::mean && v.inner == 1 && v.rows() <= Share::kFew)
            share.classes = Classes(targets), share.rows = v.rows();
          else
            share.number = counted_targets(a, p.reduction, targets, v.rows());
          if constexpr (sizeof(T) == 2)
            if (v.rows() && long_rows<T>(v, x) && aligned16(a.out[0])) {  // watched or not, the same bits
              const auto run = [&](const auto* g) {
                long_row_gradient<<<unsigned(v.rows()), kThreads, 0, stream(a)>>>(
                    v.n, static_cast<const T*>(x.ptr<T>()), g, p.reduction == Reduction::none, share, targets, Smoothing{p.label_smoothing},
                    static_cast<const float*>(a.in[3].ptr<float>()), a.out[0].ptr<T>());
                s = then_watch(a, launched());
              };
              return a.in[0].dtype == x.dtype ? run(static_cast<const T*>(a.in[0].ptr<T>()))
                                              : run(static_cast<const float*>(a.in[0].ptr<float>()));
            }
          const T* logits = x.ptr<T>();
          const C* lse = a.in[3].ptr<C>();
          const auto go = [&](const auto* g) {
            s = around_watched<ClassGradient, T>(a, v, aligned16(x) && aligned16(a.out[0]), logits, g, p.reduction == Reduction::none,
                                                 share, targets, Smoothing{p.label_smoothing}, lse);
          };
          a.in[0].dtype == x.dtype ? go(static_cast<const T*>(a.in[0].ptr<T>())) : go(static_cast<const C*>(a.in[0].ptr<C>()));
        });
        return s;
      });
}
KEEL_CUDA_KERNEL(nll_loss) {
  k.late()
      .dtypes(kinds::floating)
      .inputs(Layout::contiguous)
      .workspace([](const KernelArgs& a) { return rows_bytes(a.in[1].size()); })
      .run([](const KernelArgs& a) {
        const auto& p = a.get<NllParams>();
        const Around v(a.in[0].shape(), p.axis);
        const Targets targets(a, a.in[1], p.ignore_index, v.n);
        KernelStatus s;
        use(a.device);
        Floats::call(a.in[0].dtype, [&](auto t) {
          using T = decltype(t);
          auto* losses = static_cast<Compute<T>*>(a.workspace);
          if (v.rows()) nll_kernel<<<v.blocks(), kThreads, 0, stream(a)>>>(v.rows(), v.n, v.inner, a.in[0].ptr<T>(), targets, losses);
          s = reduce_losses<T>(a, p.reduction, v.rows(), losses, Classes(targets));
        });
        return s;
      });
}
KEEL_CUDA_KERNEL(nll_loss_backward) {
  k.late()
      .dtypes(kinds::floating)
      .inputs(Layout::contiguous)
      .workspace([](const KernelArgs&) -> size_t { return 8; })
      .run([](const KernelArgs& a) {
        const auto& p = a.get<NllBackwardParams>();
        const TensorView& dx = a.out[0];
        const Around v(dx.shape(), p.axis);
        use(a.device);
        const Targets targets(a, a.in[1], p.ignore_index, v.n);
        const double* counted = counted_targets(a, p.reduction, targets, v.rows());
        cudaMemsetAsync(dx.data, 0, size_t(dx.size()) * size_of(dx.dtype), stream(a));
        Floats::call(dx.dtype, [&](auto t) {
          using T = decltype(t);
          if (v.rows())
            nll_gradient<T><<<v.blocks(), kThreads, 0, stream(a)>>>(v.rows(), v.n, v.inner, a.in[0].ptr<T>(),
                                                                    p.reduction == Reduction::none, counted, targets, dx.ptr<T>());
        });
        return launched();
      });
}
KEEL_CUDA_KERNEL(mse_loss) { define_pair<Square>(k); }
KEEL_CUDA_KERNEL(l1_loss) { define_pair<Absolute>(k); }
KEEL_CUDA_KERNEL(bce_with_logits) { define_pair<Logits>(k); }
