// Placed copies (concat, pad, the gradient of a slice) and tensors made from positions (arange, linspace, eye).
#include "keel/ops/combine.h"

#include "backend/cuda/copy.h"
#include "backend/cuda/pointwise.cuh"
#include "keel/ops/creation.h"
#include "keel/ops/view.h"

using namespace keel;
using namespace keel::cuda;

namespace {

/// Sources of the elements of one axis: before it, behind it, and how edges continue.
struct PadWalk {
  int rank;
  PadMode mode;
  int64_t extent[kMaxRank], inside[kMaxRank], before[kMaxRank], stride[kMaxRank];
  PadWalk(const PadParams& p, const TensorView& x, const TensorView& y) : rank(y.rank()), mode(p.mode) {
    for (int i = 0; i < rank; ++i) extent[i] = y.dim(i), inside[i] = x.dim(i), before[i] = p.before[i], stride[i] = x.stride(i);
  }
};
template <class T>
__global__ void __launch_bounds__(kThreads) pad_kernel(int64_t n, PadWalk w, const T* x, T* y, T value) {
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= n) return;
  int64_t rest = i, from = 0;
  bool within = true;
#pragma unroll
  for (int k = kMaxRank - 1; k >= 0; --k) {
    if (k >= w.rank) continue;
    int64_t s = rest % w.extent[k] - w.before[k];
    rest /= w.extent[k];
    if (s < 0 || s >= w.inside[k]) {
      if (w.mode == PadMode::constant)
        within = false;
      else if (w.mode == PadMode::replicate)
        s = s < 0 ? 0 : w.inside[k] - 1;
      else
        s = s < 0 ? -s : 2 * (w.inside[k] - 1) - s;
    }
    from += s * w.stride[k];
  }
  y[i] = within ? x[from] : value;
}

struct WholeSteps {
  uint64_t start, step;
  template <class T>
  __device__ T at(int64_t i) const {
    const auto v = int64_t(start + uint64_t(i) * step);
    if constexpr (std::is_integral_v<T>)
      return T(v);
    else
      return convert<T>(double(v));
  }
};
struct RealSteps {
  double start, step, stop;
  int64_t last;  // the position of `stop`
  template <class T>
  __device__ T at(int64_t i) const {
    return convert<T>(i == last ? stop : start + double(i) * step);
  }
};
struct Diagonal {
  int64_t columns;
  template <class T>
  __device__ T at(int64_t i) const {
    return convert<T>(i / columns == i % columns ? 1.0 : 0.0);
  }
};
template <class T, class F>
__global__ void __launch_bounds__(kThreads) make_kernel(int64_t n, F f, T* y) {
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i < n) y[i] = f.template at<T>(i);
}
template <class F>
KernelStatus make(const KernelArgs& a, F f) {
  const int64_t n = a.out[0].size();
  if (n == 0) return {};
  use(a.device);
  Ordered::call(a.out[0].dtype, [&](auto t) {
    using T = decltype(t);
    make_kernel<T><<<unsigned(ceil_div(n, kThreads)), kThreads, 0, stream(a)>>>(n, f, a.out[0].ptr<T>());
  });
  return launched();
}

}  // namespace

KEEL_CUDA_KERNEL(concat) {
  k.run([](const KernelArgs& a) -> KernelStatus {
    const TensorView& y = a.out[0];
    const int64_t axis = a.get<ConcatParams>().axis;
    const int at = int(axis < 0 ? axis + y.rank() : axis);
    auto* to = static_cast<char*>(y.data);
    for (int i = 0; i < a.n_in; ++i) {
      const TensorView part{to, y.dtype, a.in[i].shape_, y.strides_};
      if (KernelStatus s = copy_view(a.in[i], part, a.device, stream(a)); s.code) return s;
      to += a.in[i].dim(at) * y.stride(at) * int64_t(size_of(y.dtype));
    }
    return {};
  });
}
KEEL_CUDA_KERNEL(slice_backward) {
  k.run([](const KernelArgs& a) -> KernelStatus {
    const auto& p = a.get<SliceBackwardParams>();
    const TensorView &g = a.in[0], &y = a.out[0];
    use(a.device);
    if (g.size() != y.size()) cudaMemsetAsync(y.data, 0, size_t(y.size()) * size_of(y.dtype), stream(a));
    if (g.size() == 0) return launched();
    auto* to = static_cast<char*>(y.data);
    Strides st;
    for (int i = 0; i < y.rank(); ++i) st.push_back(y.stride(i) * p.step[i]), to += p.start[i] * y.stride(i) * int64_t(size_of(y.dtype));
    return copy_view(g, {to, y.dtype, g.shape_, &st}, a.device, stream(a));
  });
}
KEEL_CUDA_KERNEL(pad) {
  k.dtypes(kinds::ordered).run([](const KernelArgs& a) -> KernelStatus {
    const auto& p = a.get<PadParams>();
    const TensorView &x = a.in[0], &y = a.out[0];
    const int64_t n = y.size();
    if (n == 0) return {};
    use(a.device);
    const PadWalk w(p, x, y);
    Ordered::call(x.dtype, [&](auto t) {
      using T = decltype(t);
      pad_kernel<T><<<unsigned(ceil_div(n, kThreads)), kThreads, 0, stream(a)>>>(n, w, x.ptr<T>(), y.ptr<T>(), convert<T>(p.value));
    });
    return launched();
  });
}
KEEL_CUDA_KERNEL(arange) {
  k.dtypes(kinds::ordered).run([](const KernelArgs& a) {
    const auto& p = a.get<ArangeParams>();
    if (p.start.kind() != f64 && p.step.kind() != f64) return make(a, WholeSteps{uint64_t(p.start.to_int()), uint64_t(p.step.to_int())});
    return make(a, RealSteps{p.start.to_double(), p.step.to_double(), 0, -1});
  });
}
KEEL_CUDA_KERNEL(linspace) {
  k.dtypes(kinds::ordered).run([](const KernelArgs& a) {
    const auto& p = a.get<LinspaceParams>();
    const int64_t last = p.count > 1 ? p.count - 1 : -1;
    return make(a, RealSteps{p.start, p.count > 1 ? (p.stop - p.start) / double(p.count - 1) : 0, p.stop, last});
  });
}
KEEL_CUDA_KERNEL(eye) {
  k.dtypes(kinds::ordered).run([](const KernelArgs& a) { return make(a, Diagonal{a.out[0].dim(1)}); });
}
