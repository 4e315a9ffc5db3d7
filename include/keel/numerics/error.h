#pragma once
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <optional>

#pragma GCC visibility push(default)
namespace keel::numerics {

/// Base of what the scalar core throws. The text is at most 159 characters and is kept in place: making and copying one never allocates.
class NumericsError : public std::exception {
 public:
  explicit NumericsError(const char* text) noexcept {
    size_t n = 0;
    for (; text[n] != 0 && n + 1 < sizeof(text_); ++n) text_[n] = text[n];
    text_[n] = 0;
  }
  const char* what() const noexcept override { return text_; }

 private:
  char text_[160];
};
/// The name that the scalar core's first version gave it.
using NeonError = NumericsError;

/// An argument for which the function has no answer; `value` is that argument where there is one.
class InvalidValueError : public NumericsError {
 public:
  explicit InvalidValueError(const char* text, std::optional<double> value = {}) noexcept : NumericsError(text), value_(value) {}
  std::optional<double> value() const noexcept { return value_; }

 private:
  std::optional<double> value_;
};

/// No values, where at least one is needed.
class EmptyInputError : public NumericsError {
 public:
  explicit EmptyInputError(const char* text = "Cannot operate on empty values") noexcept : NumericsError(text) {}
};

namespace detail {

/// The one way out. Without exceptions: prints and aborts.
template <class E>
[[noreturn]] void raise(const E& e) {
#ifdef __cpp_exceptions
  throw e;
#else
  std::fputs(e.what(), stderr);
  std::abort();
#endif
}
[[noreturn]] inline void raise_invalid(const char* text, std::optional<double> value = {}) { raise(InvalidValueError(text, value)); }
[[noreturn]] inline void raise_empty() { raise(EmptyInputError()); }
[[noreturn]] inline void raise_lengths(size_t a, const char* a_name, size_t b, const char* b_name) {
  char text[160];
  std::snprintf(text, sizeof(text), "Input sequences must have equal length (got %zu for %s and %zu for %s)", a, a_name, b, b_name);
  raise(InvalidValueError(text));
}

}  // namespace detail
}  // namespace keel::numerics
#pragma GCC visibility pop
