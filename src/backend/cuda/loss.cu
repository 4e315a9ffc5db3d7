// Losses but cross_entropy: of log-probabilities by classes, and of elements against elements.
#include "backend/cuda/loss.cuh"
#include "backend/cuda/math.cuh"

using namespace keel;
using namespace keel::cuda;

namespace {

/// One block: how many targets count.
__global__ void __launch_bounds__(kWhole) count_targets(int64_t n, Classes classes, double* count) {
  int64_t own = 0;
#pragma unroll 4
  for (int64_t i = threadIdx.x; i < n; i += kWhole) own += classes.counts(i);
  const double c = block_sum<kWhole>(double(own));
  if (threadIdx.x == 0) *count = c;
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
    nll_gradient(int64_t rows, int64_t n, int64_t inner, LossGradients<T> g, const double* counted, Targets targets, T* dx) {
  const int64_t row = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (row >= rows) return;
  const int64_t t = targets.of(row);
  if (t < 0) return;
  const Compute<T> v = g.of(row);
  dx[(row / inner * n + t) * inner + row % inner] = narrow<T>(-(counted ? v / Compute<T>(*counted) : v));
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

const double* keel::cuda::counted_targets(const KernelArgs& a, Reduction r, const Targets& t, int64_t rows) {
  if (r != Reduction::mean) return nullptr;
  auto* count = static_cast<double*>(a.workspace);
  count_targets<<<1, kWhole, 0, stream(a)>>>(rows, Classes(t), count);
  return count;
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
            nll_gradient<T><<<v.blocks(), kThreads, 0, stream(a)>>>(v.rows(), v.n, v.inner, LossGradients<T>(a.in[0], p.reduction), counted,
                                                                    targets, dx.ptr<T>());
        });
        return launched();
      });
}
KEEL_CUDA_KERNEL(mse_loss) { define_pair<Square>(k); }
KEEL_CUDA_KERNEL(l1_loss) { define_pair<Absolute>(k); }
KEEL_CUDA_KERNEL(bce_with_logits) { define_pair<Logits>(k); }
