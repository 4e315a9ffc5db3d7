#pragma once
#include "keel/numerics/compare.h"

#pragma push_macro("near")
#undef near
#pragma GCC visibility push(default)
/// Snapping numbers to values that they nearly are. Results have the type of x (double for an integer x); NaN and the infinities pass
/// unchanged unless said otherwise; default tolerances follow from the type, 1e-9 for double.
namespace keel::numerics::clamp {

using compare::AbsOptions;
using compare::NearOptions;

/// |x| <= abs_tol ? +0 : x. Subnormals and -0 become +0 as well; abs_tol = 0 turns -0 into +0 and changes nothing else.
template <Number T>
constexpr detail::Result<T> to_zero(T x, const AbsOptions& p = {}) {
  using R = detail::Result<T>;
  return compare::near_zero(x, p) ? R(0) : detail::keep<R>(x);
}
/// The nearest integer, ties to even, where x lies within abs_tol of it, else x: 2.9999999999 gives 3, 2.5 stays, -1e-10 gives +0. The
/// result is a floating point number.
template <Number T>
constexpr detail::Result<T> to_int(T x, const AbsOptions& p = {}) {
  using R = detail::Result<T>;
  using C = detail::Compute<T>;
  if (!compare::is_integer(x, p)) return detail::keep<R>(x);
  const C n = detail::round_even(detail::compute<C>(x));
  return is_zero(n) ? R(0) : detail::round_to<R>(n);
}
/// `target` where x is near it, else x. The result has the common type of both.
template <Number T, Number V>
constexpr detail::Result<T, V> to_value(T x, V target, const NearOptions& p = {}) {
  using R = detail::Result<T, V>;
  return compare::near(x, target, p) ? detail::keep<R>(target) : detail::keep<R>(x);
}
/// The first of `targets` that x is near to, which need not be the nearest, else x.
template <Number T, detail::Range R = detail::List>
constexpr detail::Result<T, detail::ElementOf<R>> to_values(T x, const R& targets, const NearOptions& p = {}) {
  using Out = detail::Result<T, detail::ElementOf<R>>;
  const auto* data = std::data(targets);
  for (size_t i = 0; i < std::size(targets); ++i)
    if (compare::near(x, data[i], p)) return detail::keep<Out>(data[i]);
  return detail::keep<Out>(x);
}
/// max(lo, min(x, hi)), both as Python has them: the second argument wins only where it is really smaller (larger). So bounds in the wrong
/// order give lo, NaN as lo gives NaN, NaN as hi is no bound, and NaN as x passes. `clamp_safe` is the strict one.
template <Number T, Number L, Number H>
constexpr detail::Result3<T, L, H> to_range(T x, L lo, H hi) {
  using R = detail::Result3<T, L, H>;
  using C = detail::Compute3<T, L, H>;
  const C v = detail::compute<C>(x), low = detail::compute<C>(lo), high = detail::compute<C>(hi);
  if (is_nan(v)) return detail::keep<R>(x);
  const bool cut = detail::less(high, v);
  if (!detail::less(low, cut ? high : v)) return detail::keep<R>(lo);
  return cut ? detail::keep<R>(hi) : detail::keep<R>(x);
}
/// min(max(x, lo), hi); NaN where x or a bound is NaN. Among zeros of different sign x stays. Raises InvalidValueError where lo > hi.
template <Number T, Number L, Number H>
constexpr detail::Result3<T, L, H> clamp_safe(T x, L lo, H hi) {
  using R = detail::Result3<T, L, H>;
  using C = detail::Compute3<T, L, H>;
  const C v = detail::compute<C>(x), low = detail::compute<C>(lo), high = detail::compute<C>(hi);
  if (detail::less(high, low)) detail::raise_invalid("clamp_safe: lo must not be greater than hi", detail::compute<double>(low));
  if (is_nan(v)) return detail::keep<R>(x);
  if (is_nan(low) || (detail::less(v, low) && !is_nan(high))) return detail::keep<R>(lo);
  if (is_nan(high) || detail::less(high, v)) return detail::keep<R>(hi);
  return detail::keep<R>(x);
}

/// `to_zero` of each value.
template <detail::Range R = detail::List>
auto to_zero_many(const R& values, const AbsOptions& p = {}) {
  return detail::map(values, [&](auto x) { return clamp::to_zero(x, p); });
}
/// `to_int` of each value.
template <detail::Range R = detail::List>
auto to_int_many(const R& values, const AbsOptions& p = {}) {
  return detail::map(values, [&](auto x) { return clamp::to_int(x, p); });
}
/// `to_range` of each value.
template <detail::Range R = detail::List, Number L, Number H>
auto to_range_many(const R& values, L lo, H hi) {
  return detail::map(values, [&](auto x) { return clamp::to_range(x, lo, hi); });
}

}  // namespace keel::numerics::clamp
#pragma GCC visibility pop
#pragma pop_macro("near")
