// batch_norm over x [n, c, ...] in any layout, alone and with a relu behind it, training, evaluation and backward: statistics by the
// driver of reductions, the rest elementwise with operands of one value a channel. Rows of channels without gaps, which convolution gives,
// have kernels of their own (batch_norm_rows.cuh).
#include "backend/cuda/batch_norm_rows.cuh"
#include "backend/cuda/math.cuh"
#include "backend/cuda/reduction.cuh"
#include "keel/ops/norm.h"

using namespace keel;
using namespace keel::cuda;

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
/// [c] as a view that broadcasts along axis 1 of a tensor of that rank.
struct Channels {
  Shape shape;
  Strides strides;
  Channels(int rank, int64_t c) {
    shape.resize(rank, 1), strides.resize(rank);
    for (int i = 0; i < rank; ++i) strides[i] = 0;
    shape[1] = c, strides[1] = 1;
  }
  TensorView view(const void* p, DType t) const { return {const_cast<void*>(p), t, &shape, &strides}; }
};
/// A number in host memory.
template <class T>
struct Number {
  T value;
  Shape shape;
  Strides strides;
  TensorView view() {
    TensorView v{&value, dtype_of<T>, &shape, &strides};
    v.on_host = true;
    return v;
  }
};
size_t round_up(size_t n) { return (n + 255) / 256 * 256; }

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
template <class T>
struct Apply {
  using C = Compute<T>;
  __device__ T operator()(T x, C mean, C rstd, T weight, T bias) const {
    return narrow<T>((widen(x) - mean) * rstd * widen(weight) + widen(bias));
  }
};
/// With a residual and a relu.
template <class T>
struct ApplyRelu {
  using C = Compute<T>;
  __device__ T operator()(T x, C mean, C rstd, T weight, T bias, T residual) const {
    const C v = (widen(x) - mean) * rstd * widen(weight) + widen(bias) + widen(residual);
    return narrow<T>(v <= C(0) ? C(0) : v);
  }
};
/// g where y, given or made again, is above 0.
template <class T>
struct Through {
  using C = Compute<T>;
  __device__ T operator()(T g, T y) const { return widen(y) <= C(0) ? narrow<T>(C(0)) : g; }
  __device__ T operator()(T g, T x, C mean, C rstd, T weight, T bias) const { return (*this)(g, Apply<T>()(x, mean, rstd, weight, bias)); }
};
template <class T>
struct Plus {
  __device__ T operator()(T a, T b) const { return narrow<T>(widen(a) + widen(b)); }
};
bool given(const KernelArgs& a, int i) { return i < a.n_in && a.in[i].present(); }
template <class T>
const T* given_data(const KernelArgs& a, int i) {
  return given(a, i) ? a.in[i].ptr<T>() : nullptr;
}
/// Whether all of `v` are rows of channels, as kernels of 16-byte vectors take them.
template <class T>
bool in_rows(std::initializer_list<const TensorView*> v) {
  if constexpr (std::is_same_v<T, double>) return false;
  for (const TensorView* x : v)
    if (!channel_rows::fits<T>(*x)) return false;
  return true;
}
template <class T>
channel_rows::Cut rows_of(const TensorView& x, int device) {
  return channel_rows::Cut::of<T>(x.size() / x.dim(1), x.dim(1), processors(device));
}
template <class T>
const channel_rows::Pack<T>* packs(const TensorView& v) {
  return static_cast<const channel_rows::Pack<T>*>(v.data);
}
template <class T>
channel_rows::Pack<T>* packs_to(const TensorView& v) {
  return static_cast<channel_rows::Pack<T>*>(v.data);
}

/// y = (x - mean) rstd weight + bias; with `relu`, and input `weight` + 2 where it is given, what follows.
template <class T, bool relu>
KernelStatus apply(const KernelArgs& a, const void* mean, const void* rstd, int weight) {
  using C = Compute<T>;
  using channel_rows::Then;
  const TensorView& x = a.in[0];
  const int bias = weight + 1, residual = weight + 2;
  const bool added = relu && given(a, residual);
  if constexpr (!std::is_same_v<T, double>)
    if (in_rows<T>({&x, &a.out[0]}) && (!added || in_rows<T>({&a.in[residual]}))) {
      const auto c = rows_of<T>(x, a.device);
      const auto go = [&]<Then then>(std::integral_constant<Then, then>) {
        channel_rows::start<channel_rows::apply<T, then>, then == Then::add_relu ? 2 : 1>(
            c, a.device, stream(a), packs<T>(x), static_cast<const float*>(mean), static_cast<const float*>(rstd),
            given_data<T>(a, weight), given_data<T>(a, bias), added ? packs<T>(a.in[residual]) : nullptr, packs_to<T>(a.out[0]));
      };
      if constexpr (!relu)
        go(std::integral_constant<Then, Then::nothing>());
      else
        added ? go(std::integral_constant<Then, Then::add_relu>()) : go(std::integral_constant<Then, Then::relu>());
      return launched();
    }
  const Channels by(x.rank(), x.dim(1));
  Number<T> one{narrow<T>(C(1)), {}, {}}, zero{narrow<T>(C(0)), {}, {}};
  const TensorView in[6] = {x, by.view(mean, dtype_of<C>), by.view(rstd, dtype_of<C>),
                            given(a, weight) ? by.view(a.in[weight].data, x.dtype) : one.view(),
                            given(a, bias) ? by.view(a.in[bias].data, x.dtype) : zero.view(), added ? a.in[residual] : zero.view()};
  KernelArgs b = a;
  b.in = in, b.n_in = relu ? 6 : 5;
  if constexpr (relu)
    return pointwise<T, T, C, C, T, T, T>(b, ApplyRelu<T>());
  else
    return pointwise<T, T, C, C, T, T>(b, Apply<T>());
}

/// Sums of g and of g (x - mean) rstd.
template <class C>
struct alignas(2 * sizeof(C)) Pair {
  C g, product;
};
/// The grid is (channels or tiles of 32 of them, parts). A block takes one channel, or with `tiled` 32, eight rows at a time.
template <class T, bool tiled>
__global__ void __launch_bounds__(kThreads)
    gradient_parts(int64_t channels, int64_t extent, int64_t share, DeviceWalk<2> w, int64_t g_step, int64_t x_step, const T* g, const T* x,
                   const Compute<T>* mean, const Compute<T>* rstd, Pair<double>* parts) {
  using C = Compute<T>;
  const int64_t c = tiled ? int64_t(blockIdx.x) * 32 + threadIdx.x % 32 : blockIdx.x, from = int64_t(blockIdx.y) * share,
                to = from + share < extent ? from + share : extent;
  const int lane = tiled ? int(threadIdx.x / 32) : int(threadIdx.x), lanes = tiled ? kThreads / 32 : kThreads;
  Pair<double> sum{0, 0};
  if (c < channels) {
    const C m = mean[c], r = rstd[c];
    for (int64_t i = from + lane; i < to; i += lanes) {
      int64_t at[2];
      offsets_of(w, i, at);
      const C v = widen(g[at[0] + c * g_step]), normal = (widen(x[at[1] + c * x_step]) - m) * r;
      sum.g += double(v), sum.product += double(v * normal);
    }
  }
  __shared__ double all[2][kThreads];
  all[0][threadIdx.x] = sum.g, all[1][threadIdx.x] = sum.product;
  __syncthreads();
  if (lane || c >= channels) return;
  for (int k = 1; k < lanes; ++k) {
    const int from_lane = tiled ? k * 32 + int(threadIdx.x) : k;
    sum.g += all[0][from_lane], sum.product += all[1][from_lane];
  }
  parts[blockIdx.y * channels + c] = sum;
}
/// With `var` the inverse roots are made of it, and kept.
template <class T>
__global__ void __launch_bounds__(channel_rows::kFinish, 1)
    gradient_sums(int64_t channels, int64_t parts, double count, const Pair<double>* part, const Compute<T>* rstd, const Compute<T>* var,
                  double eps, Compute<T>* rstd_of_var, const T* weight, T* dweight, T* dbias, Compute<T>* scale, Compute<T>* mean_g,
                  Compute<T>* mean_product) {
  using C = Compute<T>;
  int64_t c;
  Pair<double> sum;
  const auto one = [&](int64_t i) { return channel_rows::Sums<double>{part[i].g, part[i].product}; };
  if (!channel_rows::sum_parts(channels, parts, one, c, sum.g, sum.product)) return;
  if (dweight) dweight[c] = narrow<T>(C(sum.product));
  if (dbias) dbias[c] = narrow<T>(C(sum.g));
  const C r = var ? C(1) / root_of(var[c] + C(eps)) : rstd[c];
  if (var) rstd_of_var[c] = r;
  scale[c] = weight ? r * widen(weight[c]) : r;
  mean_g[c] = C(sum.g / count), mean_product[c] = C(sum.product / count);
}
template <class T>
struct Gradient {
  using C = Compute<T>;
  __device__ T operator()(T g, T x, C mean, C rstd, C scale, C mean_g, C mean_product) const {
    return narrow<T>(scale * ((widen(g) - mean_g) - (widen(x) - mean) * rstd * mean_product));
  }
};

/// Parts that sums over rows of channels have; 0 where they are made another way.
int64_t row_parts(const TensorView& x, int device) {
  int64_t parts = 0;
  Floats::call(x.dtype, [&](auto t) {
    using T = decltype(t);
    if constexpr (!std::is_same_v<T, double>)
      if (in_rows<T>({&x})) parts = rows_of<T>(x, device).parts();
  });
  return parts;
}
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
  size_t bytes() const { return round_up(size_t(space * channels) * sizeof(Pair<double>)) + 3 * round_up(size_t(channels) * 8); }
};
template <class T>
KernelStatus backward(const KernelArgs& a) {
  using C = Compute<T>;
  const auto& p = a.get<BatchNormBackwardParams>();
  const TensorView &g = a.in[0], &x = a.in[1];
  const Backward v(g, x, a.device);
  const cudaStream_t s = stream(a);
  auto* space = static_cast<char*>(a.workspace);
  auto* parts = reinterpret_cast<Pair<double>*>(space);
  space += round_up(size_t(v.space * v.channels) * sizeof(Pair<double>));
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
      channel_rows::start<channel_rows::gradient_sums<T>, 2>(c, a.device, s, packs<T>(g), packs<T>(x), mean, rstd,
                                                             reinterpret_cast<channel_rows::Sums<double>*>(parts));
    }
  const DeviceWalk<2> w(v.w, v.extent);
  const auto sums = [&]<bool tiled>(std::bool_constant<tiled>) {
    const dim3 grid(unsigned(tiled ? ceil_div(v.channels, 32) : v.channels), unsigned(v.parts));
    gradient_parts<T, tiled>
        <<<grid, kThreads, 0, s>>>(v.channels, v.extent, v.share, w, g.stride(1), x.stride(1), g.ptr<T>(), x.ptr<T>(), mean, rstd, parts);
  };
  if (!rows) v.tiled ? sums(std::true_type()) : sums(std::false_type());
  gradient_sums<T><<<unsigned(ceil_div(v.channels, 32)), channel_rows::kFinish, 0, s>>>(
      v.channels, count, double(v.extent), parts, rstd, nullptr, 0, nullptr, given_data<T>(a, 4),
      p.need_weight ? a.out[1].ptr<T>() : nullptr, p.need_bias ? a.out[2].ptr<T>() : nullptr, scale, mean_g, mean_product);
  if (!p.need_x) return launched();
  if constexpr (!std::is_same_v<T, double>)
    if (rows && in_rows<T>({&a.out[0]})) {
      const auto c = rows_of<T>(x, a.device);
      channel_rows::start<channel_rows::gradient<T>, 2>(c, a.device, s, packs<T>(g), packs<T>(x), mean, rstd, scale, mean_g,
                                                        mean_product, packs_to<T>(a.out[0]));
      return launched();
    }
  const Channels by(x.rank(), v.channels);
  const DType t = dtype_of<C>;
  const TensorView in[7] = {g, x, by.view(mean, t), by.view(rstd, t), by.view(scale, t), by.view(mean_g, t), by.view(mean_product, t)};
  KernelArgs b = a;
  b.in = in, b.n_in = 7;
  return pointwise<T, T, T, C, C, C, C, C>(b, Gradient<T>());
}

/// The gradient behind a relu: in one go where all are rows; else what the relu lets through is written first, to the residual's gradient
/// or to the workspace.
struct ReluBackward {
  const BatchNormReluBackwardParams& p;
  const TensorView &g, &x;
  bool from_y, two, rows;  // two: input 7 is a second gradient
  int64_t channels;
  Strides dense;
  TensorView masked;
  explicit ReluBackward(const KernelArgs& a)
      : p(a.get<BatchNormReluBackwardParams>()), g(a.in[0]), x(a.in[1]), from_y(given(a, 6)), two(given(a, 7)), channels(x.dim(1)) {
    rows = false;
    Floats::call(x.dtype, [&](auto t) {
      using T = decltype(t);
      rows = in_rows<T>({&g, &x}) && (!from_y || in_rows<T>({&a.in[6]})) && (!p.need_x || in_rows<T>({&a.out[0]})) &&
             (!p.need_residual || in_rows<T>({&a.out[3]})) && (!two || (from_y && p.need_residual && in_rows<T>({&a.in[7]})));
    });
    dense.resize(x.rank());
    int64_t step = 1;
    for (int i = x.rank() - 1; i >= 0; --i) dense[i] = step, step *= x.dim(i);
    masked = p.need_residual ? a.out[3] : TensorView{nullptr, x.dtype, &x.shape(), &dense};
  }
  ReluBackward(const ReluBackward&) = delete;
  size_t masked_bytes() const { return rows || p.need_residual ? 0 : round_up(size_t(x.size()) * size_of(x.dtype)); }
  size_t bytes(int device) const {
    return round_up(size_t(channels) * 8) + masked_bytes() + Backward(rows ? g : masked, x, device).bytes();
  }
};
template <class T>
KernelStatus relu_in_rows(const KernelArgs& a, const ReluBackward& v) {
  if constexpr (!std::is_same_v<T, double>) {
    const cudaStream_t s = stream(a);
    const auto c = rows_of<T>(v.x, a.device);
    auto* space = static_cast<char*>(a.workspace);
    const auto take = [&](size_t bytes) {
      auto* at = space;
      space += round_up(bytes);
      return at;
    };
    const auto numbers = [&] { return reinterpret_cast<float*>(take(size_t(v.channels) * 8)); };
    float *rstd = numbers(), *scale = numbers(), *mean_g = numbers(), *mean_product = numbers();
    auto* parts = reinterpret_cast<channel_rows::Sums<double>*>(space);
    const float *mean = a.in[2].ptr<float>(), *var = a.in[3].ptr<float>();
    const T *weight = given_data<T>(a, 4), *bias = given_data<T>(a, 5);
    const auto *g = packs<T>(v.g), *x = packs<T>(v.x), *y = v.from_y ? packs<T>(a.in[6]) : nullptr;
    auto* masked = v.p.need_residual ? packs_to<T>(a.out[3]) : nullptr;
    const double eps = v.p.eps;
    const auto go = [&]<bool from_y>(std::bool_constant<from_y>) {
      const auto sums = [&]<bool two>(std::bool_constant<two>) {
        channel_rows::start<channel_rows::relu_gradient_sums<T, from_y, two>, 2 + from_y + two>(
            c, a.device, s, g, x, y, mean, var, eps, weight, bias, parts, masked, two ? packs<T>(a.in[7]) : nullptr);
      };
      if constexpr (from_y)
        v.two ? sums(std::true_type()) : sums(std::false_type());
      else
        sums(std::false_type());
      gradient_sums<T><<<unsigned(ceil_div(v.channels, 32)), channel_rows::kFinish, 0, s>>>(
          v.channels, c.parts(), double(c.rows), reinterpret_cast<const Pair<double>*>(parts), nullptr, var, eps, rstd, weight,
          v.p.need_weight ? a.out[1].ptr<T>() : nullptr, v.p.need_bias ? a.out[2].ptr<T>() : nullptr, scale, mean_g, mean_product);
      if (!v.p.need_x) return;
      auto* dx = packs_to<T>(a.out[0]);
      if (masked)
        channel_rows::start<channel_rows::gradient<T>, 2>(c, a.device, s, masked, x, mean, rstd, scale, mean_g, mean_product, dx);
      else
        channel_rows::start<channel_rows::relu_gradient<T, from_y>, 2 + from_y>(
            c, a.device, s, g, x, y, mean, var, eps, weight, bias, scale, mean_g, mean_product, dx);
    };
    v.from_y ? go(std::true_type()) : go(std::false_type());
  }
  return launched();
}
template <class T>
KernelStatus relu_backward(const KernelArgs& a) {
  using C = Compute<T>;
  ReluBackward v(a);
  if (v.rows) return relu_in_rows<T>(a, v);
  auto* space = static_cast<char*>(a.workspace);
  auto* rstd = reinterpret_cast<C*>(space);
  space += round_up(size_t(v.channels) * 8);
  if (!v.masked.data) v.masked.data = space;
  space += v.masked_bytes();
  rstd_kernel<C><<<unsigned(ceil_div(v.channels, kThreads)), kThreads, 0, stream(a)>>>(v.channels, a.in[3].ptr<C>(), v.p.eps, rstd);
  const Channels by(v.x.rank(), v.channels);
  Number<T> one{narrow<T>(C(1)), {}, {}}, zero{narrow<T>(C(0)), {}, {}};
  const DType t = dtype_of<C>;
  KernelArgs b = a;
  b.out = &v.masked, b.n_out = 1;
  TensorView in[6] = {v.g, v.from_y ? a.in[6] : v.x, by.view(a.in[2].data, t), by.view(rstd, t),
                      given(a, 4) ? by.view(a.in[4].data, v.x.dtype) : one.view(),
                      given(a, 5) ? by.view(a.in[5].data, v.x.dtype) : zero.view()};
  if (v.two) {
    const TensorView both[2] = {v.g, a.in[7]};
    b.in = both, b.n_in = 2;
    if (const KernelStatus s = pointwise<T, T, T>(b, Plus<T>()); s.code) return s;
    in[0] = v.masked;
  }
  b.in = in, b.n_in = v.from_y ? 2 : 6;
  const KernelStatus s = v.from_y ? pointwise<T, T, T>(b, Through<T>()) : pointwise<T, T, T, C, C, T, T>(b, Through<T>());
  if (s.code) return s;
  const Shape row({v.channels});
  const Strides step({1});
  const BatchNormBackwardParams p{.need_x = v.p.need_x, .need_weight = v.p.need_weight, .need_bias = v.p.need_bias};
  const TensorView rest[5] = {v.masked, v.x, a.in[2], TensorView{rstd, t, &row, &step}, given(a, 4) ? a.in[4] : TensorView{}};
  KernelArgs d = a;
  d.params = &p, d.in = rest, d.n_in = 5, d.n_out = 3, d.workspace = space;
  return backward<T>(d);
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

DType statistics_of(DType t) { return t == f64 ? f64 : f32; }
KernelDef& channel_def(KernelDef& k, int x) {
  for (int i = 0; i < 10; ++i) k.input(i, i <= x ? Layout::strided : Layout::contiguous);
  return k.dtypes(kinds::floating).output(0, Layout::like_inputs);
}

template <bool relu>
KernelStatus train(const KernelArgs& a) {
  const TensorView& x = a.in[0];
  const int64_t c = x.dim(1);
  KernelStatus s;
  use(a.device);
  Floats::call(x.dtype, [&](auto t) {
    using T = decltype(t);
    using C = Compute<T>;
    using Out = typename Moments<T>::Out;
    auto* space = static_cast<char*>(a.workspace);
    const size_t one = round_up(size_t(c) * 16);
    auto* moments = reinterpret_cast<Out*>(space);
    auto* rstd = reinterpret_cast<C*>(space + one);
    if constexpr (!std::is_same_v<T, double>)
      if (in_rows<T>({&x})) {
        const auto cut = rows_of<T>(x, a.device);
        auto* parts = reinterpret_cast<channel_rows::Sums<double>*>(space + 3 * one);
        channel_rows::start<channel_rows::moments<T>, 1>(cut, a.device, stream(a), packs<T>(x), parts);
        channel_rows::finish_moments<T><<<unsigned(ceil_div(c, 32)), channel_rows::kFinish, 0, stream(a)>>>(
            cut, a.get<BatchNormParams>().eps, x.ptr<T>(), parts, a.out[1].ptr<float>(), a.out[2].ptr<float>(),
            reinterpret_cast<float*>(rstd));
        s = apply<T, relu>(a, a.out[1].data, rstd, 1);
        return;
      }
    const Channels by(x.rank(), c);
    TensorView out[1] = {by.view(moments, f32)};
    KernelArgs b = a;
    b.out = out, b.workspace = space + 3 * one;
    if (s = reduce(b, all_but_channels(x.rank()), Moments<T>()); s.code) return;
    split_moments<C><<<unsigned(ceil_div(c, kThreads)), kThreads, 0, stream(a)>>>(c, moments, a.get<BatchNormParams>().eps,
                                                                                  a.out[1].ptr<C>(), a.out[2].ptr<C>(), rstd);
    s = apply<T, relu>(a, a.out[1].data, rstd, 1);
  });
  return s;
}
template <bool relu>
KernelStatus evaluate(const KernelArgs& a) {
  KernelStatus s;
  const int64_t c = a.in[0].dim(1);
  use(a.device);
  Floats::call(a.in[0].dtype, [&](auto t) {
    using C = Compute<decltype(t)>;
    auto* rstd = static_cast<C*>(a.workspace);
    rstd_kernel<C><<<unsigned(ceil_div(c, kThreads)), kThreads, 0, stream(a)>>>(c, a.in[2].ptr<C>(), a.get<BatchNormParams>().eps, rstd);
    s = apply<decltype(t), relu>(a, a.in[1].data, rstd, 3);
  });
  return s;
}
/// Input `residual` may lie in any order.
template <bool relu>
void define_training(KernelDef& k) {
  channel_def(k, 0)
      .input(3, Layout::strided)
      .refuses([](const void*, Specs in) -> const char* { return in[0].shape.numel() == 0 ? "no elements" : nullptr; })
      .workspace([](const KernelArgs& a) {
        const int64_t parts = row_parts(a.in[0], a.device);
        return 3 * round_up(size_t(a.in[0].dim(1)) * 16) +
               (parts ? size_t(parts * a.in[0].dim(1)) * sizeof(channel_rows::Sums<double>)
                      : reduction_workspace(a, all_but_channels(a.in[0].rank()), 24));
      })
      .run(train<relu>);
}
template <bool relu>
void define_evaluation(KernelDef& k) {
  channel_def(k, 0)
      .input(5, Layout::strided)
      .refuses([](const void*, Specs in) -> const char* {
        if (in[0].shape.numel() == 0) return "no elements";
        const DType t = statistics_of(in[0].dtype);
        return in[1].dtype == t && in[2].dtype == t ? nullptr : "statistics of another dtype";
      })
      .workspace([](const KernelArgs& a) { return round_up(size_t(a.in[0].dim(1)) * 8); })
      .run(evaluate<relu>);
}

void define_relu_backward(KernelDef& k) {
  channel_def(k, 1)
      .input(6, Layout::strided)
      .input(7, Layout::strided)
      .output(3, Layout::like_inputs)
      .refuses([](const void*, Specs in) -> const char* {
        if (in[0].shape.numel() == 0) return "no elements";
        const DType t = statistics_of(in[1].dtype);
        return in[2].dtype == t && in[3].dtype == t ? nullptr : "statistics of another dtype";
      })
      .workspace([](const KernelArgs& a) { return ReluBackward(a).bytes(a.device); })
      .run([](const KernelArgs& a) {
        KernelStatus s;
        use(a.device);
        Floats::call(a.in[1].dtype, [&](auto t) { s = relu_backward<decltype(t)>(a); });
        return s;
      });
}

}  // namespace

KEEL_CUDA_KERNEL(batch_norm) { define_training<false>(k); }
KEEL_CUDA_KERNEL(batch_norm_relu) { define_training<true>(k); }
KEEL_CUDA_KERNEL(batch_norm_eval) { define_evaluation<false>(k); }
KEEL_CUDA_KERNEL(batch_norm_relu_eval) { define_evaluation<true>(k); }
KEEL_CUDA_KERNEL(batch_norm_relu_backward) { define_relu_backward(k); }
KEEL_CUDA_KERNEL(batch_norm_relu_sum_backward) { define_relu_backward(k); }
KEEL_CUDA_KERNEL(batch_norm_backward) {
  channel_def(k, 1)
      .refuses([](const void*, Specs in) -> const char* {
        if (in[0].shape.numel() == 0) return "no elements";
        const DType t = statistics_of(in[1].dtype);
        return in[2].dtype == t && in[3].dtype == t ? nullptr : "statistics of another dtype";
      })
      .workspace([](const KernelArgs& a) { return Backward(a.in[0], a.in[1], a.device).bytes(); })
      .run([](const KernelArgs& a) {
        KernelStatus s;
        use(a.device);
        Floats::call(a.in[1].dtype, [&](auto t) { s = backward<decltype(t)>(a); });
        return s;
      });
}
KEEL_CUDA_KERNEL(batch_norm_update) {
  k.dtypes(set_of(DType::f32, DType::f64)).run([](const KernelArgs& a) {
    const auto& p = a.get<BatchNormUpdateParams>();
    const int64_t c = a.in[0].dim(0);
    use(a.device);
    const auto run = [&](auto t) {
      using C = decltype(t);
      const auto row = [&](int i) { return Spaced<C>(a.in[i]); };
      update_kernel<C><<<unsigned(ceil_div(c + 1, kThreads)), kThreads, 0, stream(a)>>>(
          c, C(1 - p.momentum), C(p.momentum), C(double(p.count) / double(p.count - 1)), row(0), row(1), a.in[2].ptr<int64_t>(), row(3),
          row(4));
    };
    a.in[0].dtype == DType::f64 ? run(double()) : run(float());
    return launched();
  });
}
