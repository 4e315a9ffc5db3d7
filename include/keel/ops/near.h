#pragma once
#include "keel/numerics/tolerances.h"
#include "keel/ops/safe.h"

#pragma push_macro("near")  // some systems' headers define it
#undef near
#pragma GCC visibility push(default)
/// Comparison with tolerances and in units in the last place. Results have no gradient.
namespace keel {

/// The tolerances of a dtype, as `numerics::tolerances<T>` has them for its C++ type: 0 and 0 for integers and bools.
numerics::Tolerance tolerances(DType t, numerics::Profile profile = numerics::Profile::keel);
/// The looser of the tolerances of two dtypes, each of rel and abs.
numerics::Tolerance tolerances(DType a, DType b, numerics::Profile profile = numerics::Profile::keel);

struct NearParams {
  [[no_unique_address]] ByName by_name = ByName();
  double rel_tol = kNotGiven;
  double abs_tol = kNotGiven;
  bool equal_nan = false;
  static constexpr void fields(auto& p, auto&& f) {
    f("rel_tol", p.rel_tol, "share of the larger magnitude; that of the dtype (tolerances) where not given; not negative");
    f("abs_tol", p.abs_tol, "absolute tolerance; that of the dtype where not given; not negative");
    f("equal_nan", p.equal_nan, "whether NaN is near NaN");
  }
};
/// Whether a == b, or both are finite and |a - b| <= max(rel_tol * max(|a|, |b|), abs_tol); bool, element by element. Symmetric. An infinity is near to itself only; a difference that overflows is not near. Integers
/// are exact where no tolerance is given. 16- and 8-bit floats compare in f32, with the tolerances of their own dtype; of two float dtypes, the looser count.
Tensor near(const Operand& a, const Operand& b, const NearParams& p = {});
/// `near` under a name that no system header defines as a macro.
Tensor is_near(const Operand& a, const Operand& b, const NearParams& p = {});
/// Whether all are near; true without elements. 0-d bool.
Tensor all_near(const Operand& a, const Operand& b, const NearParams& p = {});
/// Whether any are near; false without elements. 0-d bool.
Tensor any_near(const Operand& a, const Operand& b, const NearParams& p = {});
/// How many are near. 0-d i64.
Tensor count_near(const Operand& a, const Operand& b, const NearParams& p = {});
/// Share of those that are near; NaN without elements. 0-d of the default float.
Tensor fraction_near(const Operand& a, const Operand& b, const NearParams& p = {});

struct NearZeroParams {
  [[no_unique_address]] ByName by_name = ByName();
  double abs_tol = kNotGiven;
  static constexpr void fields(auto& p, auto&& f) { f("abs_tol", p.abs_tol, "largest |x| that is near zero; that of the dtype (tolerances) where not given; not negative"); }
};
/// Whether |x| <= abs_tol; false for NaN and infinities. bool, element by element.
Tensor near_zero(const Tensor& x, const NearZeroParams& p = {});

struct UlpWithinParams {
  [[no_unique_address]] ByName by_name = ByName();
  int64_t max_ulps = 4;
  static constexpr void fields(auto& p, auto&& f) { f("max_ulps", p.max_ulps, "how many steps apart two values may be; not negative"); }
};
/// The distance from x to the next larger value, in the dtype of x. Infinity for the largest value and the infinities (NaN in f8e4m3fn), NaN for NaN.
Tensor ulp_of(const Tensor& x);
/// How many representable values lie from a to b: both zeros are one, an infinity is one step beyond the largest value. i64; the largest i64 where one is NaN or the count does not fit.
Tensor ulp_diff(const Tensor& a, const Tensor& b);
/// Whether a == b, or both are finite and at most max_ulps steps apart. bool.
Tensor ulp_within(const Tensor& a, const Tensor& b, const UlpWithinParams& p = {});
/// The next larger value, as C's nextafter towards infinity; infinity and NaN stay.
Tensor ulp_next(const Tensor& x);
/// The next smaller value; -infinity and NaN stay.
Tensor ulp_prev(const Tensor& x);

}  // namespace keel
#pragma GCC visibility pop
#pragma pop_macro("near")
