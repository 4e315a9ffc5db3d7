// Gradients of batch_norm without a relu: sums over the elements of each channel in parts, then elementwise.
#include "backend/cuda/batch_norm.cuh"

using namespace keel;
using namespace keel::cuda;
using namespace keel::cuda::channel_norm;

namespace {

/// Sums of g and of g (x - mean) rstd. The grid is (channels or tiles of 32 of them, parts). A block takes one channel, or with `tiled` 32,
/// eight rows at a time.
template <class T, bool tiled>
__global__ void __launch_bounds__(kThreads)
    gradient_parts(int64_t channels, int64_t extent, int64_t share, DeviceWalk<2> w, int64_t g_step, int64_t x_step, const T* g, const T* x,
                   const Compute<T>* mean, const Compute<T>* rstd, channel_rows::Sums<double>* parts) {
  using C = Compute<T>;
  const int64_t c = tiled ? int64_t(blockIdx.x) * 32 + threadIdx.x % 32 : blockIdx.x, from = int64_t(blockIdx.y) * share,
                to = from + share < extent ? from + share : extent;
  const int lane = tiled ? int(threadIdx.x / 32) : int(threadIdx.x), lanes = tiled ? kThreads / 32 : kThreads;
  channel_rows::Sums<double> sum{0, 0};
  if (c < channels) {
    const C m = mean[c], r = rstd[c];
    for (int64_t i = from + lane; i < to; i += lanes) {
      int64_t at[2];
      offsets_of(w, i, at);
      const C v = widen(g[at[0] + c * g_step]), normal = (widen(x[at[1] + c * x_step]) - m) * r;
      sum.first += double(v), sum.second += double(v * normal);
    }
  }
  __shared__ double all[2][kThreads];
  all[0][threadIdx.x] = sum.first, all[1][threadIdx.x] = sum.second;
  __syncthreads();
  if (lane || c >= channels) return;
  for (int k = 1; k < lanes; ++k) {
    const int from_lane = tiled ? k * 32 + int(threadIdx.x) : k;
    sum.first += all[0][from_lane], sum.second += all[1][from_lane];
  }
  parts[blockIdx.y * channels + c] = sum;
}
template <class T>
struct Gradient {
  using C = Compute<T>;
  __device__ T operator()(T g, T x, C mean, C rstd, C scale, C mean_g, C mean_product) const {
    return narrow<T>(scale * ((widen(g) - mean_g) - (widen(x) - mean) * rstd * mean_product));
  }
};

struct Backward {
  Walk<2> w;
  int64_t channels, extent = 1, parts, share, space;
  bool tiled;
  explicit Backward(const TensorView& g, const TensorView& x, int device) : channels(x.dim(1)) {
    for (int i = x.rank() - 1; i >= 0; --i) {
      if (i == 1) continue;
      w.push(x.dim(i), {g.stride(i), x.stride(i)});
      extent *= x.dim(i);
    }
    tiled = channels >= 16 && x.stride(1) == 1 && (w.rank == 0 || w.stride[1][0] != 1);
    const int64_t blocks = tiled ? ceil_div(channels, 32) : channels;
    parts = std::max<int64_t>(1, std::min(ceil_div(4 * processors(device), std::max<int64_t>(blocks, 1)), extent / (tiled ? 64 : 2048)));
    share = ceil_div(extent, parts);
    space = std::max(parts, row_parts(x, device));
  }
  size_t bytes() const {
    return round_up(size_t(space * channels) * sizeof(channel_rows::Sums<double>)) + 3 * round_up(size_t(channels) * 8);
  }
};
template <class T>
KernelStatus backward(const KernelArgs& a) {
  using C = Compute<T>;
  const auto& p = a.get<BatchNormBackwardParams>();
  const TensorView &g = a.in[0], &x = a.in[1];
  const Backward v(g, x, a.device);
  const cudaStream_t s = stream(a);
  auto* space = static_cast<char*>(a.workspace);
  auto* parts = reinterpret_cast<channel_rows::Sums<double>*>(space);
  space += round_up(size_t(v.space * v.channels) * sizeof(channel_rows::Sums<double>));
  const auto take = [&] {
    auto* at = reinterpret_cast<C*>(space);
    space += round_up(size_t(v.channels) * 8);
    return at;
  };
  C *scale = take(), *mean_g = take(), *mean_product = take();
  const C *mean = a.in[2].ptr<C>(), *rstd = a.in[3].ptr<C>();
  const bool rows = in_rows<T>({&g, &x});
  int64_t count = v.parts;
  if constexpr (!std::is_same_v<T, double>)
    if (rows) {
      const auto c = rows_of<T>(x, a.device);
      count = c.parts();
      channel_rows::start<channel_rows::gradient_sums<T>, 2>(c, a.device, s, packs<T>(g), packs<T>(x), mean, rstd, parts);
    }
  const DeviceWalk<2> w(v.w, v.extent);
  const auto sums = [&]<bool tiled>(std::bool_constant<tiled>) {
    const dim3 grid(unsigned(tiled ? ceil_div(v.channels, 32) : v.channels), unsigned(v.parts));
    gradient_parts<T, tiled>
        <<<grid, kThreads, 0, s>>>(v.channels, v.extent, v.share, w, g.stride(1), x.stride(1), g.ptr<T>(), x.ptr<T>(), mean, rstd, parts);
  };
  if (!rows) v.tiled ? sums(std::true_type()) : sums(std::false_type());
  finish_gradient<T><<<unsigned(ceil_div(v.channels, 32)), channel_rows::kFinish, 0, s>>>(
      v.channels, count, double(v.extent), parts, rstd, nullptr, 0, nullptr, given_data<T>(a, 4),
      p.need_weight ? a.out[1].ptr<T>() : nullptr, p.need_bias ? a.out[2].ptr<T>() : nullptr, scale, mean_g, mean_product);
  if (!p.need_x) return launched();
  if constexpr (!std::is_same_v<T, double>)
    if (rows && in_rows<T>({&a.out[0]})) {
      const auto c = rows_of<T>(x, a.device);
      channel_rows::start<channel_rows::gradient<T>, 2>(c, a.device, s, packs<T>(g), packs<T>(x), mean, rstd, scale, mean_g, mean_product,
                                                        packs_to<T>(a.out[0]));
      return launched();
    }
  const Channels by(x.rank(), v.channels);
  const DType t = dtype_of<C>;
  const TensorView in[7] = {g, x, by.view(mean, t), by.view(rstd, t), by.view(scale, t), by.view(mean_g, t), by.view(mean_product, t)};
  KernelArgs b = a;
  b.in = in, b.n_in = 7;
  return pointwise<T, T, T, C, C, C, C, C>(b, Gradient<T>());
}

}  // namespace

size_t channel_norm::gradient_room(const TensorView& g, const TensorView& x, int device) { return Backward(g, x, device).bytes(); }
KernelStatus channel_norm::batch_norm_gradient(const KernelArgs& a) {
  KernelStatus s;
  use(a.device);
  Floats::call(a.in[1].dtype, [&](auto t) { s = backward<decltype(t)>(a); });
  return s;
}

KEEL_CUDA_KERNEL(batch_norm_backward) {
  channel_def(k, 1)
      .refuses(refuse_statistics<1, 2>)
      .workspace([](const KernelArgs& a) { return gradient_room(a.in[0], a.in[1], a.device); })
      .run(batch_norm_gradient);
}
