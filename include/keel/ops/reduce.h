#pragma once
#include "keel/op.h"

#pragma GCC visibility push(default)
namespace keel {

struct SumParams {
  [[no_unique_address]] ByName by_name = ByName();
  Axes axis = {};
  bool keepdim = false;
  DType dtype = DType::none;
  static constexpr void fields(auto& p, auto&& f) {
    f("axis", p.axis, "axes to reduce; none given: all");
    f("keepdim", p.keepdim, "keep reduced axes with extent 1");
    f("dtype", p.dtype, "dtype of the result; integers and bools sum in i64 or u64 where not given");
  }
};
struct MeanParams {
  [[no_unique_address]] ByName by_name = ByName();
  Axes axis = {};
  bool keepdim = false;
  static constexpr void fields(auto& p, auto&& f) {
    f("axis", p.axis, "axes to reduce; none given: all");
    f("keepdim", p.keepdim, "keep reduced axes with extent 1");
  }
};
struct VarParams {
  [[no_unique_address]] ByName by_name = ByName();
  Axes axis = {};
  bool keepdim = false;
  double correction = 0;
  static constexpr void fields(auto& p, auto&& f) {
    f("axis", p.axis, "axes to reduce; none given: all");
    f("keepdim", p.keepdim, "keep reduced axes with extent 1");
    f("correction", p.correction, "subtracted from the count: 0 as NumPy, 1 for the unbiased form");
  }
};
/// max, min
struct ReduceParams {
  [[no_unique_address]] ByName by_name = ByName();
  Axes axis = {};
  bool keepdim = false;
  static constexpr void fields(auto& p, auto&& f) {
    f("axis", p.axis, "axes to reduce; none given: all");
    f("keepdim", p.keepdim, "keep reduced axes with extent 1");
  }
};
struct AllParams {
  [[no_unique_address]] ByName by_name = ByName();
  Axes axis = {};
  bool keepdim = false;
  static constexpr void fields(auto& p, auto&& f) {
    f("axis", p.axis, "axes to reduce; none given: all");
    f("keepdim", p.keepdim, "keep reduced axes with extent 1");
  }
};
struct ArgParams {
  [[no_unique_address]] ByName by_name = ByName();
  Axes axis = {};
  bool keepdim = false;
  static constexpr void fields(auto& p, auto&& f) {
    f("axis", p.axis, "one axis; none given: over the flattened tensor");
    f("keepdim", p.keepdim, "keep the reduced axis with extent 1");
  }
};
struct NormParams {
  [[no_unique_address]] ByName by_name = ByName();
  double p = 2;
  Axes axis = {};
  bool keepdim = false;
  static constexpr void fields(auto& q, auto&& f) {
    f("p", q.p, "order: 1, 2, infinity, or any positive number");
    f("axis", q.axis, "axes to reduce; none given: all");
    f("keepdim", q.keepdim, "keep reduced axes with extent 1");
  }
};
struct CumsumParams {
  [[no_unique_address]] ByName by_name = ByName();
  int64_t axis = 0;
  static constexpr void fields(auto& p, auto&& f) { f("axis", p.axis, "axis along which to add up"); }
};

// Reductions. 16-bit floats accumulate in f32, f32 in f32 by a fixed tree, integers in 64 bits. `sum(x, {0, 1})` takes axes as a plain list; that overload is a
// template, because g++ 12 also converts {.axis = 1} to Axes and then prefers the function that is none.
Tensor sum(const Tensor& x, const SumParams& p = {});
template <class = void> Tensor sum(const Tensor& x, const Axes& axes) { return sum(x, SumParams{.axis = axes}); }
Tensor mean(const Tensor& x, const MeanParams& p = {});
template <class = void> Tensor mean(const Tensor& x, const Axes& axes) { return mean(x, MeanParams{.axis = axes}); }
/// Two passes: the mean first. Correction 0.
Tensor var(const Tensor& x, const VarParams& p = {});
Tensor stddev(const Tensor& x, const VarParams& p = {});
Tensor prod(const Tensor& x, const SumParams& p = {});
/// NaN where any element is NaN; an empty reduction is ValueError. Ties share the gradient evenly.
Tensor max(const Tensor& x, const ReduceParams& p = {});
Tensor min(const Tensor& x, const ReduceParams& p = {});
Tensor any(const Tensor& x, const AllParams& p = {});
/// Index (i64) of the first largest element; NaN counts as largest.
Tensor argmax(const Tensor& x, const ArgParams& p = {});
Tensor argmin(const Tensor& x, const ArgParams& p = {});
Tensor norm(const Tensor& x, const NormParams& p = {});
/// log(sum(exp(x))), shifted by the maximum.
Tensor logsumexp(const Tensor& x, const ReduceParams& p = {});
Tensor cumsum(const Tensor& x, const CumsumParams& p);

}  // namespace keel
#pragma GCC visibility pop
