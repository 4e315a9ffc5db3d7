#pragma once
#include <charconv>
#include <cstdint>
#include <string>

#include "keel/numerics/bits.h"

#pragma GCC visibility push(default)
/// Numbers as text, for reports; no locale has a say.
namespace keel::numerics::detail {

inline std::string text_of(uint64_t n) {
  char buffer[24];
  return {buffer, std::to_chars(buffer, buffer + sizeof(buffer), n).ptr};
}
/// The shortest text that reads back as x, in its own type.
template <Float T>
std::string text_of(T x) {
  if (is_nan(x)) return "nan";
  if (is_inf(x)) return sign_bit(x) ? "-inf" : "inf";
  char buffer[40];
  if constexpr (std::is_same_v<T, double>) {
    return {buffer, std::to_chars(buffer, buffer + sizeof(buffer), x).ptr};
  } else {
    return {buffer, std::to_chars(buffer, buffer + sizeof(buffer), static_cast<float>(x)).ptr};
  }
}
/// x with so many significant digits.
inline std::string text_of(double x, int digits) {
  if (!is_finite(x)) return text_of(x);
  char buffer[40];
  return {buffer, std::to_chars(buffer, buffer + sizeof(buffer), x, std::chars_format::general, digits).ptr};
}
/// "3 of 8 (37.5 %)"
inline std::string share_text(int64_t part, int64_t total) {
  std::string s = text_of(static_cast<uint64_t>(part)) + " of " + text_of(static_cast<uint64_t>(total));
  if (total > 0) s += " (" + text_of(100.0 * static_cast<double>(part) / static_cast<double>(total), 3) + " %)";
  return s;
}

}  // namespace keel::numerics::detail
#pragma GCC visibility pop
