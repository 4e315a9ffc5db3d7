// Optimiser steps, averages and gradient clipping over many tensors in one call.
//
// All elements of all tensors form one range, cut into blocks that never cross a tensor; threads take runs of blocks. A stretch of memory that the lists share goes straight to the vector loop; f16 and bf16
// parameters, and lists that lie differently in memory, pass through a small buffer. Every list is read once and written at most once. Scalars that depend on the step count are made in f64, once a block.
#include <algorithm>
#include <atomic>
#include <cmath>

#include "backend/cpu/loops/loops.h"
#include "backend/cpu/loops/optim.h"
#include "backend/kernel.h"
#include "core/impl.h"
#include "keel/ops/optim_step.h"
#include "keel/parallel.h"

namespace keel::cpu {
namespace {

constexpr int64_t kBlock = 16384, kStage = 256;
constexpr int kMaxLists = 6;

int64_t blocks_of(const TensorView& x) { return (x.size() + kBlock - 1) / kBlock; }

/// Calls f(tensor, lo, hi) for every block of every tensor, in parallel where there is enough to do. `index` counts blocks over all tensors.
template <class F>
void each_block(const TensorView* tensors, int64_t count, F f) {
  int64_t total = 0, elements = 0;
  for (int64_t k = 0; k < count; ++k) total += blocks_of(tensors[k]), elements += tensors[k].size();
  const int64_t grain = std::max<int64_t>(1, 2 * kBlock / (elements / std::max<int64_t>(total, 1) + 1));
  parallel_for(0, total, grain, [&](int64_t begin, int64_t end) {
    int64_t k = 0, first = 0;  // the tensor of the next block, and its first block
    for (int64_t b = begin; b < end; ++b) {
      while (b - first >= blocks_of(tensors[k])) first += blocks_of(tensors[k++]);
      const int64_t lo = (b - first) * kBlock;
      f(k, lo, std::min(tensors[k].size(), lo + kBlock), b);
    }
  });
}

bool same_layout(const TensorView& a, const TensorView& b) { return a.strides() == b.strides(); }

/// Where element `i`, in row-major order, of `v` lies.
int64_t offset_of(const TensorView& v, int64_t i) {
  int64_t at = 0;
  for (int k = v.rank() - 1; k >= 0; --k) at += i % v.dim(k) * v.stride(k), i /= v.dim(k);
  return at;
}

/// Reads or writes elements lo..hi of `v`, in row-major order, from or to `buffer` of type T.
template <class T>
void stage_in(const TensorView& v, int64_t lo, int64_t hi, T* buffer) {
  const std::byte* p = static_cast<const std::byte*>(v.data);
  const int64_t size = int64_t(size_of(v.dtype));
  if (v.contiguous()) return convert_loop(v.dtype, dtype_of<T>)(p + lo * size, buffer, hi - lo, nullptr);
  for (int64_t i = lo; i < hi; ++i) buffer[i - lo] = T(read_double(p + offset_of(v, i) * size, v.dtype));
}
template <class T>
void stage_out(const TensorView& v, int64_t lo, int64_t hi, const T* buffer) {
  std::byte* p = static_cast<std::byte*>(v.data);
  const int64_t size = int64_t(size_of(v.dtype));
  if (v.contiguous()) return convert_loop(dtype_of<T>, v.dtype)(buffer, p + lo * size, hi - lo, nullptr);
  for (int64_t i = lo; i < hi; ++i) write_scalar(p + offset_of(v, i) * size, v.dtype, Scalar(double(buffer[i - lo])));
}

/// `low`, where there is one, becomes what list 0 becomes.
template <class T>
void run_staged(StepRule rule, DType t, const TensorView* const* list, int lists, const TensorView* low, int64_t lo, int64_t hi, const StepScalars& s) {
  alignas(64) T buffer[kMaxLists][kStage];
  const StepLoop loop = step_loop(rule, t);
  for (; lo < hi; lo += kStage) {
    const int64_t end = std::min(hi, lo + kStage);
    void* p[kMaxLists];
    for (int k = 0; k < lists; ++k) p[k] = buffer[k], stage_in(*list[k], lo, end, buffer[k]);
    loop(p, end - lo, s);
    for (int k = 0; k < lists; ++k)
      if (k != 1) stage_out(*list[k], lo, end, buffer[k]);
    if (low) stage_out(*low, lo, end, buffer[0]);
  }
}

/// The least magnitude that rounds to infinity in `t`, of numbers of the type that computes.
double end_of(DType t) { return t == f16 ? 65520 : t == bf16 ? 0x1.ffp127 : double(INFINITY); }

/// Runs `rule` on every tensor. `scalars(k)` makes what tensor k needs. With `master` a list of masters stands behind the others and is stepped in place of the first.
template <class F>
void run_rule(StepRule rule, const TensorView* first, int64_t count, int lists, F scalars, bool master = false, StepGuard* guard = nullptr) {
  each_block(first, count, [&](int64_t k, int64_t lo, int64_t hi, int64_t) {
    const TensorView* list[kMaxLists];
    for (int i = 0; i < lists; ++i) list[i] = &first[i * count + k];
    const TensorView* const low = master ? list[0] : nullptr;
    if (master) list[0] = &first[lists * count + k];
    const DType t = list[0]->dtype == f64 ? f64 : f32;
    bool direct = !master && is_dense(list[0]->shape(), list[0]->strides());
    for (int i = 0; i < lists; ++i) direct &= list[i]->dtype == t && same_layout(*list[i], *list[0]);
    StepScalars s = scalars(k);
    s.guard = guard, s.tensor = k, s.limit = end_of(first[k].dtype);
    if (direct) {
      void* p[kMaxLists];
      for (int i = 0; i < lists; ++i) p[i] = list[i]->ptr<std::byte>() + lo * int64_t(size_of(t));
      step_loop(rule, t)(p, hi - lo, s);
    } else if (t == f64) {
      run_staged<double>(rule, t, list, lists, low, lo, hi, s);
    } else {
      run_staged<float>(rule, t, list, lists, low, lo, hi, s);
    }
  });
}

double& count_of(const TensorView& v) { return *v.ptr<double>(); }

/// Whether the input behind the settings asks for no step.
bool skipped(const KernelArgs& a) { return a.in[1].present() && read_double(a.in[1].data, a.in[1].dtype) != 0; }

}  // namespace
}  // namespace keel::cpu

using namespace keel;
using namespace keel::cpu;

KEEL_CPU_KERNEL(sgd_step) {
  k.input(0, Layout::contiguous).run([](const KernelArgs& a) -> KernelStatus {
    if (skipped(a)) return {};
    const auto& p = a.get<SgdStepParams>();
    const int lists = (p.momentum ? 4 : 2) + p.master;
    const int64_t n = (a.n_in - 2) / lists;
    const double *h = a.in[0].ptr<double>(), lr = h[0], momentum = h[1], dampening = h[2], decay = h[3];
    const TensorView *first = a.in + 2, *steps = first + (lists - 1) * n;
    run_rule(p.momentum ? StepRule::sgd_momentum : StepRule::sgd, first, n, p.momentum ? 3 : 2, [&](int64_t i) {
      return StepScalars{{-lr, decay, p.maximize ? -1.0 : 1.0, momentum, 1 - dampening}, decay != 0, p.momentum && count_of(steps[i]) == 0, p.nesterov};
    }, p.master, a.guard);
    for (int64_t i = 0; p.momentum && i < n; ++i) count_of(steps[i]) += 1;
    return {};
  });
}

KEEL_CPU_KERNEL(adam_step) {
  k.input(0, Layout::contiguous).run([](const KernelArgs& a) -> KernelStatus {
    if (skipped(a)) return {};
    const auto& p = a.get<AdamStepParams>();
    const int lists = (p.amsgrad ? 6 : 5) + p.master;
    const int64_t n = (a.n_in - 2) / lists;
    const double *h = a.in[0].ptr<double>(), lr = h[0], beta1 = h[1], beta2 = h[2], eps = h[3], decay = h[4];
    const TensorView *first = a.in + 2, *steps = first + (lists - 1) * n;
    run_rule(p.amsgrad ? StepRule::amsgrad : StepRule::adam, first, n, lists - 1 - p.master, [&](int64_t i) {
      const double step = count_of(steps[i]) + 1, c1 = 1 - std::pow(beta1, step), c2 = 1 - std::pow(beta2, step);
      return StepScalars{{-(lr / c1), p.decoupled ? 0 : decay, p.maximize ? -1.0 : 1.0, 1 - beta1, beta2, 1 - beta2, std::sqrt(c2), eps, p.decoupled ? 1 - lr * decay : 1}, !p.decoupled && decay != 0};
    }, p.master, a.guard);
    for (int64_t i = 0; i < n; ++i) count_of(steps[i]) += 1;
    return {};
  });
}

KEEL_CPU_KERNEL(rmsprop_step) {
  k.input(0, Layout::contiguous).run([](const KernelArgs& a) -> KernelStatus {
    if (skipped(a)) return {};
    const auto& p = a.get<RmspropStepParams>();
    const int lists = 4 + p.centered + p.momentum + p.master;
    const int64_t n = (a.n_in - 2) / lists;
    const double *h = a.in[0].ptr<double>(), lr = h[0], alpha = h[1], eps = h[2], decay = h[3], momentum = h[4];
    const TensorView *first = a.in + 2, *steps = first + (lists - 1) * n;
    const StepRule rule = p.centered ? p.momentum ? StepRule::rmsprop_centered_momentum : StepRule::rmsprop_centered : p.momentum ? StepRule::rmsprop_momentum : StepRule::rmsprop;
    run_rule(rule, first, n, lists - 1 - p.master, [&](int64_t) { return StepScalars{{-lr, decay, p.maximize ? -1.0 : 1.0, alpha, 1 - alpha, eps, momentum}, decay != 0}; }, p.master, a.guard);
    for (int64_t i = 0; i < n; ++i) count_of(steps[i]) += 1;
    return {};
  });
}

KEEL_CPU_KERNEL(ema_step) {
  k.input(0, Layout::contiguous).run([](const KernelArgs& a) -> KernelStatus {
    const double decay = *a.in[0].ptr<double>();
    run_rule(StepRule::ema, a.in + 1, (a.n_in - 1) / 2, 2, [&](int64_t) { return StepScalars{{1 - decay}}; });
    return {};
  });
}

KEEL_CPU_KERNEL(clip_norm) {
  k.input(0, Layout::contiguous).workspace([](const KernelArgs& a) -> size_t {
     int64_t blocks = 0;
     for (int i = 1; i < a.n_in; ++i) blocks += blocks_of(a.in[i]);
     return size_t(blocks) * sizeof(double);
   }).run([](const KernelArgs& a) -> KernelStatus {
    const double order = a.get<ClipNormParams>().p, limit = *a.in[0].ptr<double>();
    const TensorView* first = a.in + 1;
    const int64_t n = a.n_in - 1;
    auto* partial = static_cast<double*>(a.workspace);
    const NormKind kind = order == 2 ? NormKind::squares : std::isinf(order) ? NormKind::largest : NormKind::magnitudes;
    each_block(first, n, [&](int64_t k, int64_t lo, int64_t hi, int64_t block) {
      const TensorView& x = first[k];
      const bool plain = kind != NormKind::magnitudes || order == 1;
      if (plain && (x.dtype == f32 || x.dtype == f64) && is_dense(x.shape(), x.strides())) {
        partial[block] = norm_partial(kind, x.dtype, x.ptr<std::byte>() + lo * int64_t(size_of(x.dtype)), hi - lo);
        return;
      }
      double buffer[kStage], sum = 0;
      for (; lo < hi; lo += kStage) {
        const int64_t m = std::min(kStage, hi - lo);
        stage_in(x, lo, lo + m, buffer);
        if (!plain)
          for (int64_t i = 0; i < m; ++i) buffer[i] = std::pow(std::fabs(buffer[i]), order);
        const double part = norm_partial(kind, f64, buffer, m);
        sum = kind != NormKind::largest ? sum + part : std::isnan(part) || part > sum ? part : sum;
      }
      partial[block] = sum;
    });
    double sum = 0;
    int64_t blocks = 0;
    for (int64_t i = 0; i < n; ++i) blocks += blocks_of(first[i]);
    for (int64_t b = 0; b < blocks; ++b) sum = kind != NormKind::largest ? sum + partial[b] : std::isnan(partial[b]) || partial[b] > sum ? partial[b] : sum;
    const double norm = order == 2 ? std::sqrt(sum) : order == 1 || std::isinf(order) ? sum : std::pow(sum, 1 / order);
    write_scalar(a.out[0].data, a.out[0].dtype, Scalar(norm));
    const double factor = limit / (norm + 1e-6);
    if (factor >= 1 || std::isinf(limit)) return {};
    run_rule(StepRule::scale, first, n, 1, [&](int64_t) { return StepScalars{{factor}}; });
    return {};
  });
}

KEEL_CPU_KERNEL(unscale) {
  k.input(0, Layout::contiguous).run([](const KernelArgs& a) -> KernelStatus {
    const TensorView* first = a.in + 1;
    std::atomic<bool> bad{false};
    each_block(first, a.n_in - 1, [&](int64_t k, int64_t lo, int64_t hi, int64_t) {
      const TensorView& x = first[k];
      double largest = 0;  // NaN where one value is, infinity where one value is
      if ((x.dtype == f32 || x.dtype == f64) && is_dense(x.shape(), x.strides())) {
        largest = norm_partial(NormKind::largest, x.dtype, x.ptr<std::byte>() + lo * int64_t(size_of(x.dtype)), hi - lo);
      } else {
        double buffer[kStage];
        for (; lo < hi && std::isfinite(largest); lo += kStage) {
          const int64_t m = std::min(kStage, hi - lo);
          stage_in(x, lo, lo + m, buffer);
          largest = norm_partial(NormKind::largest, f64, buffer, m);
        }
      }
      if (!std::isfinite(largest)) bad.store(true, std::memory_order_relaxed);
    });
    *a.out[0].ptr<float>() = bad.load() ? 1.0f : 0.0f;
    const double factor = *a.in[0].ptr<double>();
    if (factor != 1) run_rule(StepRule::scale, first, a.n_in - 1, 1, [&](int64_t) { return StepScalars{{factor}}; });
    return {};
  });
}

KEEL_CPU_KERNEL(update_scale) {
  k.dtypes(set_of(f32)).run([](const KernelArgs& a) -> KernelStatus {
    const auto& p = a.get<UpdateScaleParams>();
    float& scale = *a.in[0].ptr<float>();
    int64_t& tracker = *a.in[1].ptr<int64_t>();
    bool bad = false;
    for (int i = 2; i < a.n_in; ++i) bad |= read_double(a.in[i].data, a.in[i].dtype) != 0;
    if (bad) {
      scale = float(double(scale) * p.backoff_factor), tracker = 0;
    } else if (++tracker >= p.growth_interval) {
      const double next = double(scale) * p.growth_factor;
      if (std::isfinite(float(next))) scale = float(next);
      tracker = 0;
    }
    return {};
  });
}
