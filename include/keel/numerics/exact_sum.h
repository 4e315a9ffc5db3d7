#pragma once
#include <cstdint>

#include "keel/numerics/bits.h"

#pragma GCC visibility push(default)
namespace keel::numerics::detail {

/// The exact sum of any number of finite floating point numbers and integers: a fixed point number wide enough for all of them, in digits
/// of 32 bits that each have 31 bits of room, so that carries wait for 2^29 additions. Weight of digit 0: 2^-1106, 32 bits below the
/// smallest double, so that a mean rounds rightly too. Nothing rounds before the end; the order of the values has no influence,
/// intermediate sums cannot overflow, and, in integers, no compiler option changes it. Source: Kulisch, "Computer Arithmetic and Validity",
/// chapter 8; the result is that of Shewchuk's method, which Python's math.fsum uses.
class ExactSum {
 public:
  template <Number T>
  constexpr void add(T x) {
    if constexpr (Integer<T>) {
      const Whole w = whole(x);
      add_scaled(w.size, kUnit, w.negative);
    } else {
      const double v = compute<double>(x);
      const uint64_t code = code_of(v), field = code >> 52;
      const uint64_t digits = field == 0 ? code : (code & ((uint64_t(1) << 52) - 1)) | (uint64_t(1) << 52);
      add_scaled(digits, 32 + static_cast<int>(field == 0 ? 0 : field - 1), sign_bit(v));
    }
  }

  /// The sum, correctly rounded; an infinity where it is too large for R (NaN in float8_e4m3fn). Ends the summation.
  template <Float R>
  constexpr R round() {
    settle();
    return finish<R>(false);
  }
  /// The sum divided by n > 0, correctly rounded. Ends the summation.
  template <Float R>
  constexpr R mean(uint64_t n) {
    settle();
    uint64_t rest = 0;
    for (int i = kSize - 1; i >= 0; --i) {
      if ((n >> 32) == 0) {
        const uint64_t part = rest << 32 | static_cast<uint64_t>(digit_[i]);
        digit_[i] = static_cast<int64_t>(part / n), rest = part % n;
      } else {
        uint64_t quotient = 0;
        for (int bit = 31; bit >= 0; --bit) {
          const bool wraps = (rest >> 63) != 0;
          rest = rest << 1 | (static_cast<uint64_t>(digit_[i]) >> bit & 1);
          quotient <<= 1;
          if (wraps || rest >= n) rest -= n, quotient |= 1;
        }
        digit_[i] = static_cast<int64_t>(quotient);
      }
    }
    return finish<R>(rest != 0);
  }

 private:
  static constexpr int kSize = 70, kUnit = 1106;
  static constexpr int64_t kMask = 0xffffffff;

  /// Adds x * 2^(shift - 1106).
  constexpr void add_scaled(uint64_t x, int shift, bool negative) {
    if (x == 0) return;
    if (++waiting_ == (1 << 29)) carry();
    const int i = shift / 32, by = shift % 32;
    const uint64_t low = (x & 0xffffffff) << by, high = (x >> 32) << by;
    const auto a = static_cast<int64_t>(low & 0xffffffff), b = static_cast<int64_t>((low >> 32) + (high & 0xffffffff)),
               c = static_cast<int64_t>(high >> 32);
    digit_[i] += negative ? -a : a;
    digit_[i + 1] += negative ? -b : b;
    digit_[i + 2] += negative ? -c : c;
  }
  constexpr void carry() {
    for (int i = 0; i + 1 < kSize; ++i) digit_[i + 1] += digit_[i] >> 32, digit_[i] &= kMask;
    waiting_ = 0;
  }
  /// To sign and magnitude.
  constexpr void settle() {
    carry();
    if (digit_[kSize - 1] >= 0) return;
    negative_ = true;
    for (int64_t& d : digit_) d = -d;
    carry();
  }
  template <Float R>
  constexpr R finish(bool rest) const {
    int top = kSize - 1;
    while (top > 0 && digit_[top] == 0) --top;
    const int lead = top * 32 + static_cast<int>(std::bit_width(static_cast<uint64_t>(digit_[top]))) - 1;
    const int lowest = lead - 52 < 32 ? 32 : lead - 52, at = lowest / 32, by = lowest % 32;
    uint64_t digits = (static_cast<uint64_t>(digit_[at]) | static_cast<uint64_t>(at + 1 < kSize ? digit_[at + 1] : 0) << 32) >> by;
    if (by != 0 && at + 2 < kSize) digits |= static_cast<uint64_t>(digit_[at + 2]) << (64 - by);
    digits &= (uint64_t(1) << 53) - 1;
    bool sticky = rest;
    for (int i = 0; i < at; ++i) sticky = sticky || (digit_[i] & (i + 1 == at && by == 0 ? kMask >> 1 : kMask)) != 0;
    bool half = false;
    if (by == 0) {
      half = (digit_[at - 1] >> 31) != 0;
    } else {
      half = ((digit_[at] >> (by - 1)) & 1) != 0;
      sticky = sticky || (digit_[at] & ((int64_t(1) << (by - 1)) - 1)) != 0;
    }
    uint64_t code = (static_cast<uint64_t>(lowest - 32) << 52) + digits;
    constexpr uint64_t kInfinity = uint64_t(0x7ff) << 52;
    if (lowest - 32 >= 2046) return signed_value<R>(kInfinity);
    if constexpr (std::is_same_v<R, double>) {
      if (half && (sticky || (digits & 1) != 0)) ++code;
    } else {
      code |= static_cast<uint64_t>(half || sticky);  // rounded to odd, so that the second rounding is as good as one
    }
    return signed_value<R>(code < kInfinity ? code : kInfinity);
  }
  template <Float R>
  constexpr R signed_value(uint64_t code) const {
    const double v = std::bit_cast<double>(code | (static_cast<uint64_t>(negative_) << 63));
    if constexpr (std::is_same_v<R, double> || std::is_same_v<R, float>) {
      return round_to<R>(v);
    } else {
      return R(v, Overflow::nan_or_inf);
    }
  }

  int64_t digit_[kSize] = {};
  int waiting_ = 0;
  bool negative_ = false;
};

}  // namespace keel::numerics::detail
#pragma GCC visibility pop
