#pragma once
#include <cmath>
#include <optional>

#include "keel/numerics/exact_sum.h"
#include "keel/numerics/range.h"

#pragma GCC visibility push(default)
/// Arithmetic whose undefined cases have an answer that the caller chose: `otherwise`, or nothing. Results have the common type of the
/// arguments (double for integers); 16- and 8-bit ones compute in float, an integer with a floating point number in double, and round once.
/// Options are checked at every call: an `otherwise` that overflows the type of the result raises InvalidValueError.
namespace keel::numerics::safe {

struct DivOptions {
  [[no_unique_address]] detail::ByName by_name = detail::ByName();
  std::optional<double> otherwise = {};  ///< the result where the denominator counts as zero; nothing if not given
  double zero_tol = 0;                   ///< |b| <= zero_tol counts as zero; rounded to the type that computes
};
struct ZeroTolOptions {
  [[no_unique_address]] detail::ByName by_name = detail::ByName();
  double zero_tol = 0;
};
struct OtherwiseOptions {
  [[no_unique_address]] detail::ByName by_name = detail::ByName();
  std::optional<double> otherwise = {};  ///< the result where there is none
};
struct LogOptions {
  [[no_unique_address]] detail::ByName by_name = detail::ByName();
  std::optional<double> base = {};  ///< e if not given
  std::optional<double> otherwise = {};
};

}  // namespace keel::numerics::safe

namespace keel::numerics::detail {

/// `otherwise` in the type of a result.
template <Float R>
constexpr std::optional<R> answer(const std::optional<double>& otherwise) {
  if (!otherwise) return {};
  if constexpr (std::is_same_v<R, double>) {
    return otherwise;
  } else if constexpr (std::is_same_v<R, float>) {
    const float v = narrow(*otherwise);
    if (is_finite(*otherwise) && !is_finite(v)) raise_invalid("otherwise is too large for the type of the result", *otherwise);
    return v;
  } else {
    const R v(*otherwise, Overflow::nan_or_inf);
    if (!is_nan(*otherwise) && (is_nan(v) || (is_finite(*otherwise) && !is_finite(v))))
      raise_invalid("otherwise is too large for the type of the result", *otherwise);
    return v;
  }
}
/// Whether |b| <= zero_tol; NaN is not.
template <class C>
constexpr bool counts_as_zero(C b, double zero_tol) {
  if (is_nan(zero_tol) || (sign_bit(zero_tol) && !is_zero(zero_tol))) raise_invalid("zero_tol must be non-negative", zero_tol);
  return at_most(absolute(b), option<C>(zero_tol));
}
/// Whether rounding v to R gives an infinity (NaN in float8_e4m3fn), saturation aside.
template <Float R, class C>
constexpr bool overflows(C v) {
  if constexpr (std::is_same_v<R, C>) {
    return is_inf(v);
  } else if constexpr (std::is_same_v<R, float>) {
    return is_inf(narrow(v));
  } else {
    return !is_finite(R(v, Overflow::nan_or_inf));
  }
}

}  // namespace keel::numerics::detail

namespace keel::numerics::safe {

/// a / b, or `otherwise` where |b| <= zero_tol, whatever a is: 0/0, NaN/0 and a/-0 too. NaN as b, inf/inf and NaN/b give NaN, finite/inf
/// gives a zero, a quotient that overflows an infinity (8-bit floats saturate). Where subnormals are flushed, take the smallest normal
/// value of the type as zero_tol. Raises InvalidValueError for a negative or NaN zero_tol.
template <Number A, Number B>
constexpr std::optional<detail::Result<A, B>> div(A a, B b, const DivOptions& p = {}) {
  using R = detail::Result<A, B>;
  using C = detail::Compute<A, B>;
  const std::optional<R> otherwise = detail::answer<R>(p.otherwise);
  const C y = detail::compute<C>(b);
  if (detail::counts_as_zero(y, p.zero_tol)) return otherwise;
  return detail::round_to<R>(C(detail::compute<C>(a) / y));
}
/// `div` with 0 where |b| <= zero_tol.
template <Number A, Number B>
constexpr detail::Result<A, B> div_or_zero(A a, B b, const ZeroTolOptions& p = {}) {
  return *safe::div(a, b, {.otherwise = 0.0, .zero_tol = p.zero_tol});
}
/// `div` with an infinity where |b| <= zero_tol: of the sign of a alone, since the sign of a zero that stands for a small number means
/// nothing; NaN for 0/0, +infinity for NaN/0. float8_e4m3fn has no infinity and gives NaN.
template <Number A, Number B>
constexpr detail::Result<A, B> div_or_inf(A a, B b, const ZeroTolOptions& p = {}) {
  using R = detail::Result<A, B>;
  using C = detail::Compute<A, B>;
  const C x = detail::compute<C>(a), y = detail::compute<C>(b);
  if (!detail::counts_as_zero(y, p.zero_tol)) return detail::round_to<R>(C(x / y));
  if (is_zero(x)) return FloatTraits<R>::quiet_nan();
  const R inf = detail::beyond<R>();
  return sign_bit(x) && !is_nan(x) ? std::bit_cast<R>(static_cast<detail::Bits<R>>(detail::bits_of(inf) | detail::kSign<R>)) : inf;
}
/// The remainder of a / b rounded towards zero, C's fmod: exact, with the sign of a, mod(-7, 3) = -1; `otherwise` where |b| <= zero_tol,
/// whatever a is. mod(a, inf) = a for finite a; NaN gives NaN. Raises InvalidValueError for an infinite a, as Python's math.fmod does.
template <Number A, Number B>
std::optional<detail::Result<A, B>> mod(A a, B b, const DivOptions& p = {}) {
  using R = detail::Result<A, B>;
  using C = detail::Compute<A, B>;
  const std::optional<R> otherwise = detail::answer<R>(p.otherwise);
  const C x = detail::compute<C>(a), y = detail::compute<C>(b);
  if (detail::counts_as_zero(y, p.zero_tol)) return otherwise;
  if (is_nan(x) || is_nan(y)) return FloatTraits<R>::quiet_nan();
  if (is_inf(x)) detail::raise_invalid("mod of an infinity", detail::compute<double>(x));
  return detail::round_to<R>(C(std::fmod(x, y)));
}
/// The square root, correctly rounded; `otherwise` for x < 0, also -infinity. sqrt(-0) = -0, NaN gives NaN.
template <Number T>
std::optional<detail::Result<T>> sqrt(T x, const OtherwiseOptions& p = {}) {
  using R = detail::Result<T>;
  using C = detail::Compute<T>;
  const std::optional<R> otherwise = detail::answer<R>(p.otherwise);
  const C v = detail::compute<C>(x);
  if (detail::less(v, C(0))) return otherwise;
  return detail::round_to<R>(C(std::sqrt(v)));
}
/// The logarithm to `base` (e if not given); `otherwise` where x <= 0 or the base is 1 or not positive. log(inf) = inf, NaN gives NaN.
/// Bases 2 and 10 go through log2 and log10, which are exact at powers of the base (log(1000, 10) is 3, where log(x) / log(base) is not);
/// others are log(x) / log(base).
template <Number T>
std::optional<detail::Result<T>> log(T x, const LogOptions& p = {}) {
  using R = detail::Result<T>;
  using C = detail::Compute<T>;
  const std::optional<R> otherwise = detail::answer<R>(p.otherwise);
  const C v = detail::compute<C>(x), base = detail::option<C>(p.base.value_or(2));
  if (detail::at_most(v, C(0)) || detail::at_most(base, C(0)) || detail::same(base, C(1))) return otherwise;
  if (!p.base) return detail::round_to<R>(C(std::log(v)));
  if (detail::same(base, C(2))) return detail::round_to<R>(C(std::log2(v)));
  if (detail::same(base, C(10))) return detail::round_to<R>(C(std::log10(v)));
  return detail::round_to<R>(C(std::log(v) / std::log(base)));
}
/// base to the power of exp by C's pow; `otherwise` where there is no real result (a negative base, a fraction as exp), where 0 has a
/// negative exponent, and where finite arguments overflow the type of the result. x^0 = 1 and 1^x = 1 for every x, also NaN; other NaN give
/// NaN; infinite arguments as in C: pow(0, -inf) = inf, pow(-1, inf) = 1.
template <Number A, Number B>
std::optional<detail::Result<A, B>> pow(A base, B exp, const OtherwiseOptions& p = {}) {
  using R = detail::Result<A, B>;
  using C = detail::Compute<A, B>;
  const std::optional<R> otherwise = detail::answer<R>(p.otherwise);
  const C x = detail::compute<C>(base), y = detail::compute<C>(exp);
  if (is_zero(y) || detail::same(x, C(1))) return R(1);
  if (is_nan(x) || is_nan(y)) return FloatTraits<R>::quiet_nan();
  if (is_finite(x) && is_finite(y)) {
    if (is_zero(x) ? sign_bit(y) : sign_bit(x) && !detail::is_whole(y)) return otherwise;
    const C v = std::pow(x, y);
    return detail::overflows<R>(v) ? otherwise : detail::round_to<R>(v);
  }
  return detail::round_to<R>(C(std::pow(x, y)));
}

}  // namespace keel::numerics::safe

namespace keel::numerics::detail {

/// What the special values among `values` make of their sum; nothing if all are finite.
template <Float R, class T>
constexpr std::optional<R> special_sum(const T* values, size_t n) {
  if constexpr (Float<T>) {
    bool nan = false, up = false, down = false;
    for (size_t i = 0; i < n; ++i) {
      nan = nan || is_nan(values[i]);
      if (is_inf(values[i])) (sign_bit(values[i]) ? down : up) = true;
    }
    if (up && down) raise_invalid("The sum of infinities of both signs is undefined");
    if (nan) return FloatTraits<R>::quiet_nan();
    if (up) return beyond<R>();
    if (down) return std::bit_cast<R>(static_cast<Bits<R>>(bits_of(beyond<R>()) | kSign<R>));
  }
  return {};
}

}  // namespace keel::numerics::detail

namespace keel::numerics::safe {

/// The sum of all values, correctly rounded to their type (double for integers): the result of Python's math.fsum, but also where partial
/// sums overflow. Independent of the order and of compiler options. A sum of zeros is +0. NaN gives NaN, infinities of one sign the
/// infinity. Raises EmptyInputError without values, InvalidValueError for infinities of both signs and for a sum too large for the type.
template <detail::Range V = detail::List>
constexpr detail::Result<detail::ElementOf<V>> sum_exact(const V& values) {
  using R = detail::Result<detail::ElementOf<V>>;
  const auto* data = std::data(values);
  const size_t n = std::size(values);
  if (n == 0) detail::raise_empty();
  if (const std::optional<R> special = detail::special_sum<R>(data, n)) return *special;
  detail::ExactSum sum;
  for (size_t i = 0; i < n; ++i) sum.add(data[i]);
  const R result = sum.template round<R>();
  if (!is_finite(result)) detail::raise_invalid("The sum is too large for its type", detail::compute<double>(result));
  return result;
}
/// The mean of all values: their exact sum divided by their number, rounded once to their type (double for integers). It never overflows.
/// Special values and errors as in `sum_exact`.
template <detail::Range V = detail::List>
constexpr detail::Result<detail::ElementOf<V>> mean_exact(const V& values) {
  using R = detail::Result<detail::ElementOf<V>>;
  const auto* data = std::data(values);
  const size_t n = std::size(values);
  if (n == 0) detail::raise_empty();
  if (const std::optional<R> special = detail::special_sum<R>(data, n)) return *special;
  detail::ExactSum sum;
  for (size_t i = 0; i < n; ++i) sum.add(data[i]);
  return sum.template mean<R>(n);
}

/// `div` of a_values[i] and b_values[i]. Raises InvalidValueError where the lengths differ.
template <detail::Range A = detail::List, detail::Range B = detail::List>
auto div_many(const A& a_values, const B& b_values, const DivOptions& p = {}) {
  return detail::zip(a_values, "a_values", b_values, "b_values", [&](auto a, auto b) { return safe::div(a, b, p); });
}
/// `sqrt` of each value.
template <detail::Range V = detail::List>
auto sqrt_many(const V& values, const OtherwiseOptions& p = {}) {
  return detail::map(values, [&](auto x) { return safe::sqrt(x, p); });
}
/// `log` of each value.
template <detail::Range V = detail::List>
auto log_many(const V& values, const LogOptions& p = {}) {
  return detail::map(values, [&](auto x) { return safe::log(x, p); });
}
/// `pow` of bases[i] and exps[i]. Raises InvalidValueError where the lengths differ.
template <detail::Range A = detail::List, detail::Range B = detail::List>
auto pow_many(const A& bases, const B& exps, const OtherwiseOptions& p = {}) {
  return detail::zip(bases, "bases", exps, "exps", [&](auto a, auto b) { return safe::pow(a, b, p); });
}

}  // namespace keel::numerics::safe
#pragma GCC visibility pop
