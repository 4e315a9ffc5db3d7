#pragma once
#include "keel/dtype.h"
#include "keel/numerics/safe.h"
#include "keel/numerics/tolerances.h"

namespace keel {

/// Calls f(T()) with the C++ type of a floating dtype; float for the others.
template <class F>
constexpr auto with_float(DType t, F f) {
  switch (t) {
    case DType::f64: return f(double());
    case DType::f16: return f(float16());
    case DType::bf16: return f(bfloat16());
    case DType::f8e4m3fn: return f(float8_e4m3fn());
    case DType::f8e5m2: return f(float8_e5m2());
    default: return f(float());
  }
}

/// The largest finite value of a floating dtype.
constexpr double largest_of(DType t) {
  return with_float(t, [](auto v) { return double(FloatTraits<decltype(v)>::max()); });
}
/// Whether `v` is NaN, or a value of floating dtype `t` once it is rounded: no finite number that overflows, and no infinity where there
/// is none.
constexpr bool fits(double v, DType t) {
  return with_float(t, [v](auto zero) {
    using T = decltype(zero);
    if (numerics::is_nan(v)) return true;
    if (numerics::is_inf(v)) return FloatTraits<T>::has_infinity;
    return !numerics::detail::overflows<T>(v);
  });
}
/// The smallest number that rounds to an infinity.
constexpr double overflow_of(DType t) { return t == f16 ? 65520.0 : t == bf16 ? 0x1.ffp127 : FloatTraits<double>::infinity(); }
/// Default tolerances of a dtype; 0 for integers and bools.
constexpr numerics::Tolerance tolerance_of(DType t, numerics::Profile profile = numerics::Profile::keel) {
  if (!is_floating(t)) return {};
  return with_float(t, [profile](auto v) { return numerics::tolerances<decltype(v)>(profile); });
}
/// The largest |b| that counts as zero where f32 or f64 computes.
constexpr double zero_tolerance(double zero_tol, bool skip_subnormal, DType compute) {
  const double below = compute == f64 ? 0x1p-1022 - 0x1p-1074 : 0x1p-126 - 0x1p-149;  // the largest subnormal number
  return skip_subnormal && zero_tol < below ? below : zero_tol;
}

}  // namespace keel
