#pragma once
#include <bit>
#include <cstdint>
#include <type_traits>

#include "keel/numerics/types.h"

#pragma GCC visibility push(default)
/// What the scalar core knows about a number without computing with it. Everything here reads bit patterns, so that neither flush-to-zero
/// nor -ffast-math changes an answer, and all of it is constexpr.
namespace keel::numerics {

/// The six floating point types: double, float, float16, bfloat16, float8_e4m3fn, float8_e5m2.
template <class T>
concept Float = std::is_same_v<T, double> || std::is_same_v<T, float> || std::is_same_v<T, float16> || std::is_same_v<T, bfloat16> ||
    std::is_same_v<T, float8_e4m3fn> || std::is_same_v<T, float8_e5m2>;
/// Integers, and bool as 0 and 1.
template <class T>
concept Integer = std::is_integral_v<T>;
/// What the functions of the scalar core take.
template <class T>
concept Number = Float<T> || Integer<T>;

namespace detail {

/// First member of options: they are always given by name.
struct ByName {
  explicit constexpr ByName() = default;
};

template <Float T>
using Bits = std::conditional_t<sizeof(T) == 8, uint64_t,
                                std::conditional_t<sizeof(T) == 4, uint32_t, std::conditional_t<sizeof(T) == 2, uint16_t, uint8_t>>>;
template <Float T>
constexpr Bits<T> bits_of(T x) {
  return std::bit_cast<Bits<T>>(x);
}
template <Float T>
inline constexpr Bits<T> kSign = static_cast<Bits<T>>(Bits<T>(1) << (sizeof(T) * 8 - 1));
/// The code after the largest value: infinity, or the NaN of a format that has none.
template <Float T>
inline constexpr Bits<T> kBeyond = static_cast<Bits<T>>(kSign<T> -
                                                        (FloatTraits<T>::has_infinity ? Bits<T>(1) << (FloatTraits<T>::digits - 1) : 1));
template <Float T>
constexpr T beyond() {
  return std::bit_cast<T>(kBeyond<T>);
}
/// The code of |x|; codes without the sign are ordered as their values, NaN last.
template <Float T>
constexpr Bits<T> code_of(T x) {
  return static_cast<Bits<T>>(bits_of(x) & ~kSign<T>);
}

}  // namespace detail

/// Whether x is NaN.
template <Float T>
constexpr bool is_nan(T x) {
  return FloatTraits<T>::has_infinity ? detail::code_of(x) > detail::kBeyond<T> : detail::code_of(x) == detail::kBeyond<T>;
}
/// Whether x is an infinity; never so in float8_e4m3fn.
template <Float T>
constexpr bool is_inf(T x) {
  return FloatTraits<T>::has_infinity && detail::code_of(x) == detail::kBeyond<T>;
}
/// Whether x is neither NaN nor an infinity.
template <Float T>
constexpr bool is_finite(T x) {
  return detail::code_of(x) < detail::kBeyond<T>;
}
/// Whether x is +0 or -0.
template <Float T>
constexpr bool is_zero(T x) {
  return detail::code_of(x) == 0;
}
/// Whether x is nonzero and smaller than the smallest normal value of its type.
template <Float T>
constexpr bool is_subnormal(T x) {
  return detail::code_of(x) != 0 && (detail::code_of(x) >> (FloatTraits<T>::digits - 1)) == 0;
}
/// Whether the sign bit of x is set, also that of -0 and of a NaN.
template <Float T>
constexpr bool sign_bit(T x) {
  return (detail::bits_of(x) & detail::kSign<T>) != 0;
}

/// The position of x among the values of its type: 0 for both zeros, 1 for the smallest positive value, -1 for the largest negative one,
/// and so on; an infinity is one step beyond the largest value. Neighbours differ by 1 everywhere, also across zero, and a < b exactly
/// where ordered(a) < ordered(b). A NaN lies beyond the infinities and has no meaning here.
template <Float T>
constexpr int64_t ordered(T x) {
  const auto code = static_cast<int64_t>(detail::code_of(x));
  return sign_bit(x) ? -code : code;
}
/// The value at a position; positions beyond an infinity give the infinity (NaN in float8_e4m3fn). Inverse of `ordered`, 0 gives +0.
template <Float T>
constexpr T from_ordered(int64_t position) {
  using B = detail::Bits<T>;
  constexpr auto kEnd = static_cast<int64_t>(detail::kBeyond<T>);
  const bool negative = position < 0;
  const int64_t code = position < -kEnd || position > kEnd ? kEnd : negative ? -position : position;
  return std::bit_cast<T>(static_cast<B>(static_cast<B>(code) | (negative ? detail::kSign<T> : B(0))));
}

namespace detail {

template <Float T>
constexpr T absolute(T x) {
  return std::bit_cast<T>(code_of(x));
}
/// a == b by IEEE 754: the zeros are equal, NaN equals nothing.
template <Float T>
constexpr bool same(T a, T b) {
  return ordered(a) == ordered(b) && !is_nan(a) && !is_nan(b);
}
/// a < b by IEEE 754.
template <Float T>
constexpr bool less(T a, T b) {
  return ordered(a) < ordered(b) && !is_nan(a) && !is_nan(b);
}
/// a <= b by IEEE 754.
template <Float T>
constexpr bool at_most(T a, T b) {
  return ordered(a) <= ordered(b) && !is_nan(a) && !is_nan(b);
}

/// The double of a float, whatever the host does with subnormals.
constexpr double widen(float x) {
  const uint32_t u = code_of(x);
  uint64_t wide = static_cast<uint64_t>(u) << 29;
  if (u >= 0x7f800000u) {
    wide |= uint64_t(0x7ff) << 52;
  } else if (u >= 0x00800000u) {
    wide += uint64_t(1023 - 127) << 52;
  } else if (u != 0) {
    const int lead = static_cast<int>(std::bit_width(u)) - 1;
    wide = (static_cast<uint64_t>(1023 - 149 + lead) << 52) | ((static_cast<uint64_t>(u) << (52 - lead)) & ((uint64_t(1) << 52) - 1));
  }
  return std::bit_cast<double>(wide | (static_cast<uint64_t>(sign_bit(x)) << 63));
}
/// The float nearest to a double, ties to even, whatever the host does with subnormals.
constexpr float narrow(double x) { return std::bit_cast<float>(keel::detail::encode_float<8, 23, true>(x, Overflow::nan_or_inf)); }

/// Where a function of A and B computes: double if one of them is a double or an integer, else float.
template <Number A, Number B = A>
using Compute = std::conditional_t<std::is_same_v<A, double> || std::is_same_v<B, double> || Integer<A> || Integer<B>, double, float>;

template <class A, class B>
struct ResultOf {
  using Type = std::conditional_t<std::is_same_v<A, double> || std::is_same_v<B, double>, double, float>;
};
template <Float A>
struct ResultOf<A, A> {
  using Type = A;
};
template <Integer A, Integer B>
struct ResultOf<A, B> {
  using Type = double;
};
template <Float A, Integer B>
struct ResultOf<A, B> {
  using Type = A;
};
template <Integer A, Float B>
struct ResultOf<A, B> {
  using Type = B;
};
/// The floating point type of a result: that of A and B where they agree, the floating one of a float and an integer, double for integers,
/// else the wider one; float for two different 16- or 8-bit types.
template <Number A, Number B = A>
using Result = typename ResultOf<A, B>::Type;

/// The same of three.
template <Number A, Number B, Number C>
using Result3 = typename std::conditional_t<Integer<A> && Integer<B>, ResultOf<B, C>, ResultOf<Result<A, B>, C>>::Type;
template <Number A, Number B, Number C>
using Compute3 = std::conditional_t<std::is_same_v<Compute<A, B>, double>, double, Compute<A, C>>;

/// x in float or double, exactly; an integer beyond 2^53 is rounded.
template <class C, Number T>
constexpr C compute(T x) {
  if constexpr (std::is_same_v<C, T> || Integer<T>) {
    return static_cast<C>(x);
  } else if constexpr (std::is_same_v<C, double>) {
    return widen(static_cast<float>(x));
  } else {
    return static_cast<float>(x);
  }
}
/// An option in the type in which its function computes.
template <class C>
constexpr C option(double v) {
  if constexpr (std::is_same_v<C, double>) {
    return v;
  } else {
    return narrow(v);
  }
}
/// The result, rounded once; 8-bit floats saturate as their casts do.
template <Float R, class C>
constexpr R round_to(C v) {
  if constexpr (std::is_same_v<R, C>) {
    return v;
  } else if constexpr (std::is_same_v<R, float>) {
    return narrow(v);
  } else {
    return R(v);
  }
}

/// x itself where it has that type, else rounded as `round_to` does.
template <Float R, Number T>
constexpr R keep(T x) {
  if constexpr (std::is_same_v<R, T>) {
    return x;
  } else {
    return round_to<R>(compute<std::conditional_t<std::is_same_v<R, double> || Integer<T>, double, float>>(x));
  }
}

/// An integer as sign and magnitude, so that no difference overflows.
struct Whole {
  bool negative;
  uint64_t size;
};
template <Integer T>
constexpr Whole whole(T x) {
  if constexpr (std::is_signed_v<T>) {
    return {x < 0, x < 0 ? uint64_t(0) - static_cast<uint64_t>(x) : static_cast<uint64_t>(x)};
  } else {
    return {false, static_cast<uint64_t>(x)};
  }
}

/// The integer nearest to a finite x, ties to even, with the sign of x; the host's rounding mode has no say.
template <class C>
constexpr C round_even(C x) {
  constexpr int kDigits = FloatTraits<C>::digits;
  if (static_cast<int>(code_of(x) >> (kDigits - 1)) >= FloatTraits<C>::max_exponent + kDigits - 1) return x;  // |x| >= 2^(digits - 1)
  const C size = absolute(x);
  auto n = static_cast<int64_t>(size);
  const C fraction = size - static_cast<C>(n);
  if (less(C(0.5), fraction) || (same(C(0.5), fraction) && (n & 1) != 0)) ++n;
  return std::bit_cast<C>(static_cast<Bits<C>>(bits_of(static_cast<C>(n)) | (bits_of(x) & kSign<C>)));
}
/// Whether a finite x has no fraction.
template <class C>
constexpr bool is_whole(C x) {
  return same(round_even(x), x);
}

}  // namespace detail
}  // namespace keel::numerics
#pragma GCC visibility pop
