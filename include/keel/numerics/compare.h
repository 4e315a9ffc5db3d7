#pragma once
#include <optional>

#include "keel/numerics/range.h"
#include "keel/numerics/tolerances.h"

#pragma push_macro("near")  // some systems' headers define it
#undef near
#pragma GCC visibility push(default)
/// Comparing computed numbers.
///
/// Numbers of one type are compared in that type (16- and 8-bit ones in float), an integer with a floating point number in double, two
/// different floating point types in the wider one. Tolerances that are not given follow from the types (`tolerances`), the looser of the
/// two; between integers they are 0, so that integers are compared exactly. A negative or NaN tolerance admits nothing. No comparison
/// throws.
namespace keel::numerics::compare {

struct NearOptions {
  [[no_unique_address]] detail::ByName by_name = detail::ByName();
  std::optional<double> rel_tol = {};  ///< share of the larger magnitude; by type if not given, 1e-9 for double
  std::optional<double> abs_tol = {};  ///< by type if not given, 1e-9 for double
  bool equal_nan = false;              ///< whether NaN is near NaN
};
struct TolOptions {
  [[no_unique_address]] detail::ByName by_name = detail::ByName();
  std::optional<double> tol = {};  ///< by type if not given, 1e-9 for double
};
struct AbsOptions {
  [[no_unique_address]] detail::ByName by_name = detail::ByName();
  std::optional<double> abs_tol = {};  ///< by type if not given, 1e-9 for double
};

}  // namespace keel::numerics::compare

namespace keel::numerics::detail {

/// |x| <= tol for a tolerance that may be anything.
template <class C>
constexpr bool within(C x, C tol) {
  return at_most(absolute(x), tol);
}
template <class C>
constexpr C larger(C a, C b) {
  return less(a, b) || is_nan(a) ? b : a;
}

template <class C>
constexpr bool near_floats(C a, C b, C rel, C abs, bool equal_nan) {
  if (is_nan(a) || is_nan(b)) return equal_nan && is_nan(a) && is_nan(b);
  if (same(a, b)) return true;
  if (!is_finite(a) || !is_finite(b)) return false;
  // What follows asks first whether a difference or product would overflow, so that it stays a constant expression.
  constexpr C kLargest = -FloatTraits<C>::lowest();
  const C x = absolute(a), y = absolute(b), size = larger(x, y);
  if (sign_bit(a) != sign_bit(b) && less(C(kLargest / 2), C(x / 2 + y / 2))) return false;
  const C distance = absolute(C(a - b));
  if (within(distance, abs)) return true;
  if (is_nan(rel)) return false;
  if (less(C(1), rel) && less(C(kLargest / rel), size)) return true;
  return within(distance, C(rel * size));
}

constexpr bool less(Whole a, Whole b) {
  if (a.negative != b.negative) return a.negative;
  return a.negative ? a.size > b.size : a.size < b.size;
}
/// n <= tol
constexpr bool whole_within(uint64_t n, double tol) {
  if (!at_most(0.0, tol)) return false;
  return at_most(18446744073709551616.0, tol) || n <= static_cast<uint64_t>(tol);
}
constexpr bool near_wholes(Whole a, Whole b, double rel, double abs) {
  const uint64_t big = a.size < b.size ? b.size : a.size, little = a.size < b.size ? a.size : b.size;
  const bool apart = a.negative != b.negative;
  uint64_t distance = apart ? big + little : big - little;
  if (apart && distance < big) distance = ~uint64_t(0);
  return distance == 0 || whole_within(distance, abs) || whole_within(distance, rel * static_cast<double>(big));
}

}  // namespace keel::numerics::detail

namespace keel::numerics::compare {

/// Whether a and b are near: a == b, or both finite and |a - b| <= max(rel_tol * max(|a|, |b|), abs_tol). Symmetric.
/// NaN is near to nothing (to NaN with `equal_nan`), an infinity only to itself, +0 to -0. A difference that overflows the type in which it
/// is computed is not near; that of two 16- or 8-bit numbers never does. bools are near where they are equal.
/// Formula: Python's math.isclose, with the test for infinities before the tolerance, which may itself become infinite.
template <Number A, Number B>
constexpr bool near(A a, B b, const NearOptions& p = {}) {
  if constexpr (std::is_same_v<A, bool> && std::is_same_v<B, bool>) {
    return a == b;
  } else if constexpr (Integer<A> && Integer<B>) {
    return detail::near_wholes(detail::whole(a), detail::whole(b), p.rel_tol.value_or(0), p.abs_tol.value_or(0));
  } else {
    using C = detail::Compute<A, B>;
    constexpr Tolerance t = tolerances<A, B>();
    return detail::near_floats(detail::compute<C>(a), detail::compute<C>(b), detail::option<C>(p.rel_tol.value_or(t.rel)),
                               detail::option<C>(p.abs_tol.value_or(t.abs)), p.equal_nan);
  }
}
/// `near` under a name that no system header defines as a macro.
template <Number A, Number B>
constexpr bool is_near(A a, B b, const NearOptions& p = {}) {
  return compare::near(a, b, p);
}

/// `near` by the relative tolerance alone: a == b, or |a - b| <= tol * max(|a|, |b|). Only 0 is near to 0.
template <Number A, Number B>
constexpr bool near_rel(A a, B b, const TolOptions& p = {}) {
  return compare::near(a, b, {.rel_tol = p.tol.value_or(tolerances<A, B>().rel), .abs_tol = 0.0});
}
/// `near` by the absolute tolerance alone: a == b, or |a - b| <= tol.
template <Number A, Number B>
constexpr bool near_abs(A a, B b, const TolOptions& p = {}) {
  return compare::near(a, b, {.rel_tol = 0.0, .abs_tol = p.tol.value_or(tolerances<A, B>().abs)});
}
/// Whether |x| <= abs_tol. False for NaN and the infinities, whatever the tolerance.
template <Number T>
constexpr bool near_zero(T x, const AbsOptions& p = {}) {
  if constexpr (Integer<T>) {
    return detail::whole_within(detail::whole(x).size, p.abs_tol.value_or(0));
  } else {
    using C = detail::Compute<T>;
    const C v = detail::compute<C>(x);
    return is_finite(v) && detail::within(v, detail::option<C>(p.abs_tol.value_or(tolerances<T>().abs)));
  }
}

/// Whether a < b or a is near b. False where a or b is NaN (but for `equal_nan`).
template <Number A, Number B>
constexpr bool less_or_near(A a, B b, const NearOptions& p = {}) {
  if (compare::near(a, b, p)) return true;
  if constexpr (Integer<A> && Integer<B>) {
    return detail::less(detail::whole(a), detail::whole(b));
  } else {
    using C = detail::Compute<A, B>;
    return detail::less(detail::compute<C>(a), detail::compute<C>(b));
  }
}
/// Whether a > b or a is near b. False where a or b is NaN (but for `equal_nan`).
template <Number A, Number B>
constexpr bool greater_or_near(A a, B b, const NearOptions& p = {}) {
  return compare::less_or_near(b, a, p);
}
/// 0 if a is near b, else -1 if a < b, else 1. A NaN gives 1, on whichever side it stands, so the result is antisymmetric only without NaN;
/// with tolerances it is no ordering that a sort could use.
template <Number A, Number B>
constexpr int compare(A a, B b, const NearOptions& p = {}) {
  return compare::near(a, b, p) ? 0 : compare::less_or_near(a, b, p) ? -1 : 1;
}

/// Whether x lies within abs_tol of an integer: |x - round(x)| <= abs_tol, ties to even. Numbers too large for a fraction (1e300) are
/// integers; NaN and the infinities are not.
template <Number T>
constexpr bool is_integer(T x, const AbsOptions& p = {}) {
  if constexpr (Integer<T>) {
    return !p.abs_tol || *p.abs_tol >= 0;
  } else {
    using C = detail::Compute<T>;
    const C v = detail::compute<C>(x), tol = detail::option<C>(p.abs_tol.value_or(tolerances<T>().abs));
    if (!is_finite(v)) return false;
    return detail::within(C(v - detail::round_even(v)), tol);
  }
}

/// Whether the numbers of each pair are near; true without pairs.
template <detail::PairRange R = detail::PairList>
constexpr bool all_near(const R& pairs, const NearOptions& p = {}) {
  const auto* data = std::data(pairs);
  for (size_t i = 0; i < std::size(pairs); ++i)
    if (!compare::near(data[i].first, data[i].second, p)) return false;
  return true;
}
/// `near` of each pair.
template <detail::PairRange R = detail::PairList>
std::vector<bool> near_many(const R& pairs, const NearOptions& p = {}) {
  return detail::map(pairs, [&](const auto& pair) { return compare::near(pair.first, pair.second, p); });
}
/// `near_zero` of each value.
template <detail::Range R = detail::List>
std::vector<bool> near_zero_many(const R& values, const AbsOptions& p = {}) {
  return detail::map(values, [&](auto x) { return compare::near_zero(x, p); });
}
/// `is_integer` of each value.
template <detail::Range R = detail::List>
std::vector<bool> is_integer_many(const R& values, const AbsOptions& p = {}) {
  return detail::map(values, [&](auto x) { return compare::is_integer(x, p); });
}

}  // namespace keel::numerics::compare
#pragma GCC visibility pop
#pragma pop_macro("near")
