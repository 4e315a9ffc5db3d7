#pragma once
// What the files of batch_norm share: operands of one value a channel, the ways over rows of channels, statistics of a batch, and how the
// forward forms are listed.
#include "backend/cuda/batch_norm_rows.cuh"
#include "backend/cuda/math.cuh"
#include "backend/cuda/pointwise.cuh"
#include "keel/ops/norm.h"

namespace keel::cuda::channel_norm {

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
inline size_t round_up(size_t n) { return (n + 255) / 256 * 256; }

inline bool given(const KernelArgs& a, int i) { return i < a.n_in && a.in[i].present(); }
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

/// Parts that sums over rows of channels have; 0 where they are made another way.
int64_t row_parts(const TensorView& x, int device);

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
            c, a.device, stream(a), packs<T>(x), static_cast<const float*>(mean), static_cast<const float*>(rstd), given_data<T>(a, weight),
            given_data<T>(a, bias), added ? packs<T>(a.in[residual]) : nullptr, packs_to<T>(a.out[0]));
      };
      if constexpr (!relu)
        go(std::integral_constant<Then, Then::nothing>());
      else
        added ? go(std::integral_constant<Then, Then::add_relu>()) : go(std::integral_constant<Then, Then::relu>());
      return launched();
    }
  const Channels by(x.rank(), x.dim(1));
  Number<T> one{narrow<T>(C(1)), {}, {}}, zero{narrow<T>(C(0)), {}, {}};
  const TensorView in[6] = {x,
                            by.view(mean, dtype_of<C>),
                            by.view(rstd, dtype_of<C>),
                            given(a, weight) ? by.view(a.in[weight].data, x.dtype) : one.view(),
                            given(a, bias) ? by.view(a.in[bias].data, x.dtype) : zero.view(),
                            added ? a.in[residual] : zero.view()};
  KernelArgs b = a;
  b.in = in, b.n_in = relu ? 6 : 5;
  if constexpr (relu)
    return pointwise<T, T, C, C, T, T, T>(b, ApplyRelu<T>());
  else
    return pointwise<T, T, C, C, T, T>(b, Apply<T>());
}

/// Workspace of a training call. Its first part, `channel_room`, holds the inverse roots that statistics leave.
inline size_t channel_room(int64_t channels) { return round_up(size_t(channels) * 8); }
size_t statistics_room(const KernelArgs& a);
/// Mean and variance of the batch to outputs 1 and 2, the inverse roots to the workspace.
KernelStatus batch_statistics(const KernelArgs& a);
/// The inverse roots of variances, to the begin of the workspace.
void inverse_roots(const KernelArgs& a, const TensorView& var, double eps);

/// Workspace of a gradient without a relu, and the gradient itself: g, x, mean, rstd, weight.
size_t gradient_room(const TensorView& g, const TensorView& x, int device);
KernelStatus batch_norm_gradient(const KernelArgs& a);

/// Means of the sums of a gradient that blocks left in parts, and gradients of weight and bias. With `var` the inverse roots are made of
/// it, and kept.
template <class T>
__global__ void __launch_bounds__(channel_rows::kFinish, 1)
    finish_gradient(int64_t channels, int64_t parts, double count, const channel_rows::Sums<double>* part, const Compute<T>* rstd,
                    const Compute<T>* var, double eps, Compute<T>* rstd_of_var, const T* weight, T* dweight, T* dbias, Compute<T>* scale,
                    Compute<T>* mean_g, Compute<T>* mean_product) {
  using C = Compute<T>;
  int64_t c;
  double g, product;
  if (!channel_rows::sum_parts(channels, parts, part, c, g, product)) return;
  if (dweight) dweight[c] = narrow<T>(C(product));
  if (dbias) dbias[c] = narrow<T>(C(g));
  const C r = var ? C(1) / root_of(var[c] + C(eps)) : rstd[c];
  if (var) rstd_of_var[c] = r;
  scale[c] = weight ? r * widen(weight[c]) : r;
  mean_g[c] = C(g / count), mean_product[c] = C(product / count);
}

/// What kernels have in common whose first operands, up to `x`, may lie in any order.
inline KernelDef& channel_def(KernelDef& k, int x) {
  for (int i = 0; i < 10; ++i) k.input(i, i <= x ? Layout::strided : Layout::contiguous);
  return k.dtypes(kinds::floating).output(0, Layout::like_inputs);
}
/// Refusal of calls without elements, and of statistics, inputs `first` and the next, that are not of the dtype that input `x` computes in.
template <int x, int first>
const char* refuse_statistics(const void*, Specs in) {
  if (in[0].shape.numel() == 0) return "no elements";
  const DType t = in[x].dtype == f64 ? f64 : f32;
  return in[first].dtype == t && in[first + 1].dtype == t ? nullptr : "statistics of another dtype";
}

template <bool relu>
KernelStatus train(const KernelArgs& a) {
  use(a.device);
  KernelStatus s = batch_statistics(a);
  if (!s.code) Floats::call(a.in[0].dtype, [&](auto t) { s = apply<decltype(t), relu>(a, a.out[1].data, a.workspace, 1); });
  return s;
}
template <bool relu>
KernelStatus evaluate(const KernelArgs& a) {
  use(a.device);
  inverse_roots(a, a.in[2], a.get<BatchNormParams>().eps);
  KernelStatus s;
  Floats::call(a.in[0].dtype, [&](auto t) { s = apply<decltype(t), relu>(a, a.in[1].data, a.workspace, 3); });
  return s;
}
/// Input `residual` may lie in any order.
template <bool relu>
void define_training(KernelDef& k) {
  channel_def(k, 0)
      .input(3, Layout::strided)
      .refuses([](const void*, Specs in) -> const char* { return in[0].shape.numel() == 0 ? "no elements" : nullptr; })
      .workspace(statistics_room)
      .run(train<relu>);
}
template <bool relu>
void define_evaluation(KernelDef& k) {
  channel_def(k, 0)
      .input(5, Layout::strided)
      .refuses(refuse_statistics<0, 1>)
      .workspace([](const KernelArgs& a) { return channel_room(a.in[0].dim(1)); })
      .run(evaluate<relu>);
}

}  // namespace keel::cuda::channel_norm
