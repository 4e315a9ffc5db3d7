#pragma once
#include <optional>
#include <string>
#include <utility>

#pragma GCC visibility push(default)
/// The outcome of something that may fail for reasons outside the program: a file that is missing or malformed.
namespace keel {

/// Why an operation failed: one line for a person, naming the file and the place in it.
struct Failure {
  std::string message;
};

/// A `T` or a Failure. Test it before use: `value()` of a failed result is a bug of the caller.
template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::move(value)) {}
  Result(Failure failure) : failure_(std::move(failure)) {}

  bool ok() const { return value_.has_value(); }
  explicit operator bool() const { return ok(); }
  T& value() & { return *value_; }
  const T& value() const& { return *value_; }
  T&& value() && { return std::move(*value_); }
  T& operator*() & { return *value_; }
  const T& operator*() const& { return *value_; }
  T&& operator*() && { return std::move(*value_); }
  T* operator->() { return &*value_; }
  const T* operator->() const { return &*value_; }

  /// The failure, to hand on; empty message where there is none.
  const Failure& failure() const { return failure_; }
  const std::string& message() const { return failure_.message; }

 private:
  std::optional<T> value_;
  Failure failure_;
};

/// Success without a value, or a Failure.
template <>
class [[nodiscard]] Result<void> {
 public:
  Result() = default;
  Result(Failure failure) : ok_(false), failure_(std::move(failure)) {}
  bool ok() const { return ok_; }
  explicit operator bool() const { return ok_; }
  const Failure& failure() const { return failure_; }
  const std::string& message() const { return failure_.message; }

 private:
  bool ok_ = true;
  Failure failure_;
};

}  // namespace keel
#pragma GCC visibility pop
