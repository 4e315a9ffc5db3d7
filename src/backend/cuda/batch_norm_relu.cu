// batch_norm with a relu behind it, and where it is given a residual between the two.
#include "backend/cuda/batch_norm.cuh"

using namespace keel;
using namespace keel::cuda;
using namespace keel::cuda::channel_norm;

namespace {

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
  size_t bytes(int device) const { return round_up(size_t(channels) * 8) + masked_bytes() + gradient_room(rows ? g : masked, x, device); }
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
      finish_gradient<T><<<unsigned(ceil_div(v.channels, 32)), channel_rows::kFinish, 0, s>>>(
          v.channels, c.parts(), double(c.rows), parts, nullptr, var, eps, rstd, weight, v.p.need_weight ? a.out[1].ptr<T>() : nullptr,
          v.p.need_bias ? a.out[2].ptr<T>() : nullptr, scale, mean_g, mean_product);
      if (!v.p.need_x) return;
      auto* dx = packs_to<T>(a.out[0]);
      if (masked)
        channel_rows::start<channel_rows::gradient<T>, 2>(c, a.device, s, masked, x, mean, rstd, scale, mean_g, mean_product, dx);
      else
        channel_rows::start<channel_rows::relu_gradient<T, from_y>, 2 + from_y>(c, a.device, s, g, x, y, mean, var, eps, weight, bias,
                                                                                scale, mean_g, mean_product, dx);
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
  inverse_roots(a, a.in[3], v.p.eps);
  const Channels by(v.x.rank(), v.channels);
  Number<T> one{narrow<T>(C(1)), {}, {}}, zero{narrow<T>(C(0)), {}, {}};
  const DType t = dtype_of<C>;
  KernelArgs b = a;
  b.out = &v.masked, b.n_out = 1;
  TensorView in[6] = {v.g,
                      v.from_y ? a.in[6] : v.x,
                      by.view(a.in[2].data, t),
                      by.view(rstd, t),
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
  return batch_norm_gradient(d);
}

void define_relu_backward(KernelDef& k) {
  channel_def(k, 1)
      .input(6, Layout::strided)
      .input(7, Layout::strided)
      .output(3, Layout::like_inputs)
      .refuses(refuse_statistics<1, 2>)
      .workspace([](const KernelArgs& a) { return ReluBackward(a).bytes(a.device); })
      .run([](const KernelArgs& a) {
        KernelStatus s;
        use(a.device);
        Floats::call(a.in[1].dtype, [&](auto t) { s = relu_backward<decltype(t)>(a); });
        return s;
      });
}

}  // namespace

KEEL_CUDA_KERNEL(batch_norm_relu) { define_training<true>(k); }
KEEL_CUDA_KERNEL(batch_norm_relu_eval) { define_evaluation<true>(k); }
KEEL_CUDA_KERNEL(batch_norm_relu_backward) { define_relu_backward(k); }
KEEL_CUDA_KERNEL(batch_norm_relu_sum_backward) { define_relu_backward(k); }
