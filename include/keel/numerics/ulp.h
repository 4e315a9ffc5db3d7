#pragma once
#include "keel/numerics/range.h"

#pragma GCC visibility push(default)
/// Units in the last place: distances counted in representable numbers. An integer argument counts as double; two types count as the wider
/// one. Everything is constexpr, takes constant time and reads bit patterns only. float8_e4m3fn has no infinity: its NaN stands beyond 448.
namespace keel::numerics::ulp {

struct WithinOptions {
  [[no_unique_address]] detail::ByName by_name = detail::ByName();
  int64_t max_ulps = 4;
};

/// The next larger number, as C's nextafter(x, +inf): after the largest comes infinity (NaN in float8_e4m3fn), after the largest negative
/// one -0. Infinity and NaN stay; after -infinity comes the lowest number.
template <Number T>
constexpr detail::Result<T> next(T x) {
  using R = detail::Result<T>;
  const R v = detail::keep<R>(x);
  if (is_nan(v) || (is_inf(v) && !sign_bit(v))) return v;
  const R up = from_ordered<R>(ordered(v) + 1);
  return is_zero(up) ? std::bit_cast<R>(detail::kSign<R>) : up;
}
/// The next smaller number, as C's nextafter(x, -inf): the mirror of `next`.
template <Number T>
constexpr detail::Result<T> prev(T x) {
  using R = detail::Result<T>;
  const R v = detail::keep<R>(x);
  return is_nan(v) || (is_inf(v) && sign_bit(v)) ? v : from_ordered<R>(ordered(v) - 1);
}
/// The number n steps up (down for n < 0): `next` or `prev` n times, in constant time. NaN and the infinities stay, whatever n; beyond the
/// largest number lies infinity (NaN in float8_e4m3fn).
template <Number T>
constexpr detail::Result<T> add(T x, int64_t n) {
  using R = detail::Result<T>;
  const R v = detail::keep<R>(x);
  if (!is_finite(v) || n == 0) return v;
  constexpr auto kEnd = static_cast<int64_t>(detail::kBeyond<R>);
  const int64_t from = ordered(v);
  if (n > 0 ? from > kEnd - n : from < -kEnd - n) return from_ordered<R>(n > 0 ? kEnd : -kEnd);
  const R to = from_ordered<R>(from + n);
  return is_zero(to) && n > 0 ? std::bit_cast<R>(detail::kSign<R>) : to;
}
/// The distance to the next larger number, |next(x) - x|, in the type of x: of(1.0) = 2^-52, of(-1.0) = 2^-53, of(0.0) = 5e-324, an
/// infinity for the largest number and the infinities (NaN for 448 in float8_e4m3fn). Raises InvalidValueError for NaN. Differs from
/// Python's math.ulp, the distance away from zero, for negative powers of two and the largest number.
template <Number T>
constexpr detail::Result<T> of(T x) {
  using R = detail::Result<T>;
  using B = detail::Bits<R>;
  const R v = detail::keep<R>(x);
  if (is_nan(v)) detail::raise_invalid("Cannot compute the ULP of NaN", detail::compute<double>(v));
  constexpr int kDigits = FloatTraits<R>::digits;
  const B code = static_cast<B>(detail::code_of(v) - (sign_bit(v) && !is_zero(v) ? 1 : 0));
  if (!is_finite(v) || (!sign_bit(v) && static_cast<B>(code + 1) == detail::kBeyond<R>)) return detail::beyond<R>();
  const int field = static_cast<int>(code >> (kDigits - 1)), shift = field > 0 ? field - 1 : 0;
  const B step = shift < kDigits - 1 ? static_cast<B>(B(1) << shift) : static_cast<B>(static_cast<B>(shift - kDigits + 2) << (kDigits - 1));
  return std::bit_cast<R>(step);
}

/// How many steps lie between a and b; counts across zero, whose two signs are one number: diff(-5e-324, 5e-324) = 2. Symmetric, 0 exactly
/// where a == b. Raises InvalidValueError where one of them is NaN or an infinity, even if both are the same.
/// For double the count may exceed that of int64_t, hence uint64_t.
template <Number A, Number B>
constexpr uint64_t diff(A a, B b) {
  using R = detail::Result<A, B>;
  const R x = detail::keep<R>(a), y = detail::keep<R>(b);
  if (is_nan(x) || is_nan(y)) detail::raise_invalid("Cannot compute a distance in ULPs to NaN");
  if (!is_finite(x) || !is_finite(y)) detail::raise_invalid("Cannot compute a distance in ULPs to an infinity");
  const int64_t p = ordered(x), q = ordered(y);
  return p < q ? static_cast<uint64_t>(q) - static_cast<uint64_t>(p) : static_cast<uint64_t>(p) - static_cast<uint64_t>(q);
}
/// Whether a == b, or both are finite and at most max_ulps steps apart. NaN is within nothing, an infinity only within itself.
template <Number A, Number B>
constexpr bool within(A a, B b, const WithinOptions& p = {}) {
  using R = detail::Result<A, B>;
  const R x = detail::keep<R>(a), y = detail::keep<R>(b);
  if (detail::same(x, y)) return true;
  return is_finite(x) && is_finite(y) && p.max_ulps >= 0 && diff(x, y) <= static_cast<uint64_t>(p.max_ulps);
}

/// `of` each value.
template <detail::Range R = detail::List>
auto of_many(const R& values) {
  return detail::map(values, [](auto x) { return ulp::of(x); });
}
/// `diff` of a_values[i] and b_values[i]. Raises InvalidValueError where the lengths differ.
template <detail::Range A = detail::List, detail::Range B = detail::List>
std::vector<uint64_t> diff_many(const A& a_values, const B& b_values) {
  return detail::zip(a_values, "a_values", b_values, "b_values", [](auto a, auto b) { return ulp::diff(a, b); });
}
/// `within` of a_values[i] and b_values[i]. Raises InvalidValueError where the lengths differ.
template <detail::Range A = detail::List, detail::Range B = detail::List>
std::vector<bool> within_many(const A& a_values, const B& b_values, const WithinOptions& p = {}) {
  return detail::zip(a_values, "a_values", b_values, "b_values", [&](auto a, auto b) { return ulp::within(a, b, p); });
}

}  // namespace keel::numerics::ulp
#pragma GCC visibility pop
