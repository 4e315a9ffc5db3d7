// batch_norm over x [n, c, ...] in any layout, training and evaluation: statistics by the driver of reductions, the rest elementwise with
// operands of one value a channel. Rows of channels without gaps, which convolution gives, have kernels of their own (batch_norm_rows.cuh).
// Gradients are in batch_norm_backward.cu, forms with a relu behind in batch_norm_relu.cu.
#include "backend/cuda/batch_norm.cuh"
#include "backend/cuda/reduction.cuh"

using namespace keel;
using namespace keel::cuda;
using namespace keel::cuda::channel_norm;

namespace {

/// Mean and variance of a channel.
template <class T>
struct Moments : Spread<T> {
  struct Out {
    Compute<T> mean, var;
  };
  __device__ Out finish(typename Spread<T>::A a, int64_t n) const { return {Compute<T>(a.mean), Compute<T>(a.squares / double(n))}; }
};

Dims all_but_channels(int rank) {
  Dims axes;
  axes.push_back(0);
  for (int i = 2; i < rank; ++i) axes.push_back(i);
  return axes;
}

template <class C, class Out>
__global__ void __launch_bounds__(kThreads) split_moments(int64_t c, const Out* m, double eps, C* mean, C* var, C* rstd) {
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i < c) mean[i] = m[i].mean, var[i] = m[i].var, rstd[i] = C(1) / root_of(m[i].var + C(eps));
}
template <class C>
__global__ void __launch_bounds__(kThreads) rstd_kernel(int64_t c, const C* var, double eps, C* rstd) {
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i < c) rstd[i] = C(1) / root_of(var[i] + C(eps));
}

/// Mean and variance of all channels, of whatever layout, by the driver of reductions.
template <class T>
KernelStatus reduce_moments(const KernelArgs& a, char* room) {
  using C = Compute<T>;
  const TensorView& x = a.in[0];
  const int64_t c = x.dim(1);
  auto* moments = reinterpret_cast<typename Moments<T>::Out*>(room);
  const Channels by(x.rank(), c);
  TensorView out[1] = {by.view(moments, f32)};
  KernelArgs b = a;
  b.out = out, b.workspace = room + round_up(size_t(c) * 16);
  if (const KernelStatus s = reduce(b, all_but_channels(x.rank()), Moments<T>()); s.code) return s;
  split_moments<C><<<unsigned(ceil_div(c, kThreads)), kThreads, 0, stream(a)>>>(c, moments, a.get<BatchNormParams>().eps, a.out[1].ptr<C>(),
                                                                                a.out[2].ptr<C>(), static_cast<C*>(a.workspace));
  return launched();
}
/// The same of rows of channels.
template <class T>
KernelStatus row_moments(const KernelArgs& a, char* room) {
  const TensorView& x = a.in[0];
  const auto cut = rows_of<T>(x, a.device);
  auto* parts = reinterpret_cast<channel_rows::Sums<double>*>(room);
  channel_rows::start<channel_rows::moments<T>, 1>(cut, a.device, stream(a), packs<T>(x), parts);
  channel_rows::finish_moments<T><<<unsigned(ceil_div(x.dim(1), 32)), channel_rows::kFinish, 0, stream(a)>>>(
      cut, a.get<BatchNormParams>().eps, x.ptr<T>(), parts, a.out[1].ptr<float>(), a.out[2].ptr<float>(), static_cast<float*>(a.workspace));
  return launched();
}

/// A row of numbers with gaps.
template <class C>
struct Spaced {
  C* p;
  int64_t step;
  explicit Spaced(const TensorView& v) : p(v.ptr<C>()), step(v.stride(0)) {}
  __device__ C& operator[](int64_t i) const { return p[i * step]; }
};
template <class C>
__global__ void __launch_bounds__(kThreads) update_kernel(int64_t channels, C keep, C share, C unbiased, Spaced<C> mean, Spaced<C> var,
                                                          int64_t* batches, Spaced<C> batch_mean, Spaced<C> batch_var) {
  const int64_t c = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (c == 0) ++*batches;
  if (c >= channels) return;
  mean[c] = mean[c] * keep + batch_mean[c] * share;
  var[c] = var[c] * keep + batch_var[c] * unbiased * share;
}

}  // namespace

size_t channel_norm::statistics_room(const KernelArgs& a) {
  const TensorView& x = a.in[0];
  const int64_t c = x.dim(1), parts = row_parts(x, a.device);
  return channel_room(c) + (parts ? size_t(parts * c) * sizeof(channel_rows::Sums<double>)
                                  : round_up(size_t(c) * 16) + reduction_workspace(a, all_but_channels(x.rank()), 24));
}
KernelStatus channel_norm::batch_statistics(const KernelArgs& a) {
  const TensorView& x = a.in[0];
  char* const room = static_cast<char*>(a.workspace) + channel_room(x.dim(1));
  KernelStatus s;
  Floats::call(x.dtype, [&](auto t) {
    using T = decltype(t);
    if constexpr (!std::is_same_v<T, double>)
      if (in_rows<T>({&x})) {
        s = row_moments<T>(a, room);
        return;
      }
    s = reduce_moments<T>(a, room);
  });
  return s;
}
void channel_norm::inverse_roots(const KernelArgs& a, const TensorView& var, double eps) {
  const int64_t c = var.size();
  const auto run = [&](auto t) {
    using C = decltype(t);
    rstd_kernel<C><<<unsigned(ceil_div(c, kThreads)), kThreads, 0, stream(a)>>>(c, var.ptr<C>(), eps, static_cast<C*>(a.workspace));
  };
  var.dtype == f64 ? run(double()) : run(float());
}
int64_t channel_norm::row_parts(const TensorView& x, int device) {
  int64_t parts = 0;
  Floats::call(x.dtype, [&](auto t) {
    using T = decltype(t);
    if constexpr (!std::is_same_v<T, double>)
      if (in_rows<T>({&x})) parts = rows_of<T>(x, device).parts();
  });
  return parts;
}

KEEL_CUDA_KERNEL(batch_norm) { define_training<false>(k); }
KEEL_CUDA_KERNEL(batch_norm_eval) { define_evaluation<false>(k); }
KEEL_CUDA_KERNEL(batch_norm_update) {
  k.dtypes(set_of(DType::f32, DType::f64)).run([](const KernelArgs& a) {
    const auto& p = a.get<BatchNormUpdateParams>();
    const int64_t c = a.in[0].dim(0);
    use(a.device);
    const auto run = [&](auto t) {
      using C = decltype(t);
      const auto row = [&](int i) { return Spaced<C>(a.in[i]); };
      update_kernel<C><<<unsigned(ceil_div(c + 1, kThreads)), kThreads, 0, stream(a)>>>(c, C(1 - p.momentum), C(p.momentum),
                                                                                        C(double(p.count) / double(p.count - 1)), row(0),
                                                                                        row(1), a.in[2].ptr<int64_t>(), row(3), row(4));
    };
    a.in[0].dtype == DType::f64 ? run(double()) : run(float());
    return launched();
  });
}
