#pragma once
#include <bit>
#include <cstdint>
#include <type_traits>

#pragma GCC visibility push(default)
/// Sixteen- and eight-bit floating point scalars. Each is its bit pattern; arithmetic and comparison happen in float, through the implicit
/// conversion, and rounding back is explicit. All conversions work on bits, so neither the rounding mode nor flush-to-zero of the host
/// changes a result, and all are constexpr.
namespace keel {

/// What a cast to an 8-bit float does with a finite value that rounds beyond the largest one: `saturate` gives the largest value with its
/// sign, `nan_or_inf` gives NaN in float8_e4m3fn, which has no infinity, and infinity in float8_e5m2. An infinity is no overflow: in both
/// modes it becomes NaN in float8_e4m3fn and stays infinity in float8_e5m2.
enum class Overflow : uint8_t { saturate, nan_or_inf };

namespace detail {

template <class T>
struct FloatBits;
template <>
struct FloatBits<float> {
  using Bits = uint32_t;
  static constexpr int mantissa = 23, bias = 127;
};
template <>
struct FloatBits<double> {
  using Bits = uint64_t;
  static constexpr int mantissa = 52, bias = 1023;
};

/// Rounds `value` to nearest, ties to even, into Exp exponent and Man mantissa bits; one rounding whatever the source. A NaN keeps its sign
/// and upper payload and becomes quiet, as the hardware conversions do.
template <int Exp, int Man, bool HasInf, class From>
constexpr uint32_t encode_float(From value, Overflow overflow) {
  using Source = FloatBits<From>;
  using Bits = typename Source::Bits;
  constexpr int kWidth = sizeof(Bits) * 8, kBias = (1 << (Exp - 1)) - 1, kDrop = Source::mantissa - Man;
  constexpr Bits kOne = 1, kSourceInf = ((kOne << (kWidth - 1 - Source::mantissa)) - 1) << Source::mantissa;
  constexpr uint32_t kSign = 1u << (Exp + Man), kTop = ((1u << Exp) - 1) << Man;
  constexpr uint32_t kLargest = HasInf ? kTop - 1 : (kSign - 2), kBeyond = HasInf ? kTop : kSign - 1;
  const Bits raw = std::bit_cast<Bits>(value), u = raw & ~(kOne << (kWidth - 1));
  const uint32_t sign = (raw >> (kWidth - 1)) != 0 ? kSign : 0;
  if (u >= kSourceInf) {
    if (u == kSourceInf) return sign | kBeyond;
    if constexpr (!HasInf) return sign | kBeyond;
    return sign | kTop | (1u << (Man - 1)) | (static_cast<uint32_t>(u >> kDrop) & ((1u << Man) - 1));
  }
  constexpr Bits kRebase = static_cast<Bits>(Source::bias - kBias) << Source::mantissa, kMinNormal = kRebase + (kOne << Source::mantissa);
  uint32_t code = 0;
  if (kBias == Source::bias || u >= kMinNormal) {
    const Bits r = u - kRebase;
    const Bits rounded = (r + ((kOne << (kDrop - 1)) - 1) + ((r >> kDrop) & 1)) >> kDrop;
    if (rounded > kLargest) return sign | (HasInf && Exp + Man == 15 ? kBeyond : overflow == Overflow::saturate ? kLargest : kBeyond);
    code = static_cast<uint32_t>(rounded);
  } else {
    const int shift = kDrop + 1 + (Source::bias - kBias) - static_cast<int>(u >> Source::mantissa);
    if (shift > Source::mantissa + 2) return sign;
    const Bits m = (u & ((kOne << Source::mantissa) - 1)) | (kOne << Source::mantissa);
    code = static_cast<uint32_t>((m + ((kOne << (shift - 1)) - 1) + ((m >> shift) & 1)) >> shift);
  }
  return sign | code;
}

/// The exact float of a code.
template <int Exp, int Man, bool HasInf>
constexpr float decode_float(uint32_t bits) {
  constexpr int kBias = (1 << (Exp - 1)) - 1;
  constexpr uint32_t kSign = 1u << (Exp + Man), kTop = ((1u << Exp) - 1) << Man, kRebase = static_cast<uint32_t>(127 - kBias) << 23;
  const uint32_t sign = (bits & kSign) << (31 - Exp - Man), u = bits & (kSign - 1);
  if constexpr (Exp == 8) return std::bit_cast<float>(sign | (u << (23 - Man)));
  if (HasInf ? u >= kTop : u == kSign - 1)
    return std::bit_cast<float>(sign | 0x7f800000u | ((HasInf ? u & ~kTop : 1u << (Man - 1)) << (23 - Man)));
  if (u >= (1u << Man)) return std::bit_cast<float>(sign | ((u << (23 - Man)) + kRebase));
  if (u == 0) return std::bit_cast<float>(sign);
  const int lead = static_cast<int>(std::bit_width(u)) - 1;
  return std::bit_cast<float>(sign | (static_cast<uint32_t>(128 - kBias - Man + lead) << 23) | ((u << (23 - lead)) & 0x7fffffu));
}

/// An integer as a double that rounds to any format of at most 24 digits as the integer itself would: what does not fit is kept as a sticky
/// bit.
template <class Int>
constexpr double sticky_double(Int v) {
  if constexpr (sizeof(Int) < 8) {
    return static_cast<double>(v);
  } else {
    const bool negative = v < 0;
    const uint64_t u = negative ? 0 - static_cast<uint64_t>(v) : static_cast<uint64_t>(v);
    const double d = u < (uint64_t(1) << 53) ? static_cast<double>(u) : static_cast<double>((u >> 11) | ((u & 0x7ff) != 0)) * 2048.0;
    return negative ? -d : d;
  }
}

template <class Self, class Bits, int Exp, int Man, bool HasInf = true>
struct SmallFloat {
  Bits bits;

  SmallFloat() = default;
  explicit constexpr SmallFloat(float v, Overflow o = Overflow::saturate) : bits(static_cast<Bits>(encode_float<Exp, Man, HasInf>(v, o))) {}
  explicit constexpr SmallFloat(double v, Overflow o = Overflow::saturate)
      : bits(static_cast<Bits>(encode_float<Exp, Man, HasInf>(v, o))) {}
  template <class Int>
  requires std::is_integral_v<Int>
  explicit constexpr SmallFloat(Int v, Overflow o = Overflow::saturate) : SmallFloat(sticky_double(v), o) {}

  static constexpr Self from_bits(Bits b) {
    Self s{};
    s.bits = b;
    return s;
  }
  constexpr operator float() const { return decode_float<Exp, Man, HasInf>(bits); }
  constexpr Self& operator+=(float v) { return assign(float(*this) + v); }
  constexpr Self& operator-=(float v) { return assign(float(*this) - v); }
  constexpr Self& operator*=(float v) { return assign(float(*this) * v); }
  constexpr Self& operator/=(float v) { return assign(float(*this) / v); }

 private:
  constexpr Self& assign(float v) {
    bits = SmallFloat(v).bits;
    return static_cast<Self&>(*this);
  }
};

}  // namespace detail

/// IEEE binary16. A finite value that rounds beyond 65504 becomes infinity, as IEEE 754 has it.
struct float16 : detail::SmallFloat<float16, uint16_t, 5, 10> {
  using SmallFloat::SmallFloat;
};
/// The upper half of a binary32. Overflow becomes infinity.
struct bfloat16 : detail::SmallFloat<bfloat16, uint16_t, 8, 7> {
  using SmallFloat::SmallFloat;
};
/// OCP 8-bit float with 4 exponent and 3 mantissa bits: no infinity, one NaN code of each sign, largest 448. Overflow as `Overflow` says.
struct float8_e4m3fn : detail::SmallFloat<float8_e4m3fn, uint8_t, 4, 3, false> {
  using SmallFloat::SmallFloat;
};
/// OCP 8-bit float with 5 exponent and 2 mantissa bits: the upper half of a float16, largest 57344. Overflow as `Overflow` says.
struct float8_e5m2 : detail::SmallFloat<float8_e5m2, uint8_t, 5, 2> {
  using SmallFloat::SmallFloat;
};

namespace detail {
template <class T, int Digits, int MaxExponent, int MinExponent, bool HasInf, auto MaxBits, auto InfBits, auto NanBits>
struct TraitsOf {
  static constexpr int digits = Digits;             ///< significant bits, the hidden one included
  static constexpr int max_exponent = MaxExponent;  ///< exponent of the largest binade: values there are in [2^e, 2^(e+1))
  static constexpr int min_exponent = MinExponent;  ///< exponent of the smallest normal value
  static constexpr bool has_infinity = HasInf;
  static constexpr T max() { return std::bit_cast<T>(MaxBits); }
  static constexpr T lowest() {
    return std::bit_cast<T>(static_cast<decltype(MaxBits)>(MaxBits | (decltype(MaxBits)(1) << (sizeof(T) * 8 - 1))));
  }
  static constexpr T min_normal() { return std::bit_cast<T>(static_cast<decltype(MaxBits)>(decltype(MaxBits)(1) << (Digits - 1))); }
  static constexpr T min_subnormal() { return std::bit_cast<T>(decltype(MaxBits)(1)); }
  /// Distance from 1 to the next larger value.
  static constexpr T epsilon() {
    double e = 1;
    for (int i = 1; i < Digits; ++i) e *= 0.5;
    return T(e);
  }
  /// Infinity, or NaN where the format has none.
  static constexpr T infinity() { return std::bit_cast<T>(InfBits); }
  static constexpr T quiet_nan() { return std::bit_cast<T>(NanBits); }
};
}  // namespace detail

/// Limits of a floating point type, for the six that Keel has.
template <class T>
struct FloatTraits;
template <>
struct FloatTraits<double> : detail::TraitsOf<double, 53, 1023, -1022, true, uint64_t(0x7fefffffffffffff), uint64_t(0x7ff0000000000000),
                                              uint64_t(0x7ff8000000000000)> {};
template <>
struct FloatTraits<float> : detail::TraitsOf<float, 24, 127, -126, true, uint32_t(0x7f7fffff), uint32_t(0x7f800000), uint32_t(0x7fc00000)> {
};
template <>
struct FloatTraits<float16> : detail::TraitsOf<float16, 11, 15, -14, true, uint16_t(0x7bff), uint16_t(0x7c00), uint16_t(0x7e00)> {};
template <>
struct FloatTraits<bfloat16> : detail::TraitsOf<bfloat16, 8, 127, -126, true, uint16_t(0x7f7f), uint16_t(0x7f80), uint16_t(0x7fc0)> {};
template <>
struct FloatTraits<float8_e4m3fn> : detail::TraitsOf<float8_e4m3fn, 4, 8, -6, false, uint8_t(0x7e), uint8_t(0x7f), uint8_t(0x7f)> {};
template <>
struct FloatTraits<float8_e5m2> : detail::TraitsOf<float8_e5m2, 3, 15, -14, true, uint8_t(0x7b), uint8_t(0x7c), uint8_t(0x7e)> {};

static_assert(sizeof(float16) == 2 && sizeof(bfloat16) == 2 && sizeof(float8_e4m3fn) == 1 && sizeof(float8_e5m2) == 1);
static_assert(std::is_trivially_copyable_v<float16> && std::is_trivially_default_constructible_v<float8_e5m2>);

}  // namespace keel
#pragma GCC visibility pop
