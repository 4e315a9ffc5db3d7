#pragma once
#include <cstdint>
#include <string>
#include <type_traits>

#include "keel/dtype.h"

#pragma GCC visibility push(default)
namespace keel {

template <class T>
concept Arithmetic = std::is_arithmetic_v<T>;

/// A number of weak type: beside a tensor it takes the tensor's dtype where its kind (bool < integer < floating) allows. Alone it is bool, i64, u64 or f64 by its C++ type.
class Scalar {
 public:
  constexpr Scalar() : i_(0), kind_(DType::i64) {}
  template <Arithmetic T>
  constexpr Scalar(T v) : i_(0), kind_(DType::i64) {
    if constexpr (std::is_same_v<T, bool>) kind_ = DType::boolean, i_ = v;
    else if constexpr (std::is_floating_point_v<T>) kind_ = DType::f64, f_ = double(v);
    else if constexpr (std::is_unsigned_v<T> && sizeof(T) == 8) kind_ = v > uint64_t(INT64_MAX) ? DType::u64 : DType::i64, i_ = int64_t(v);
    else i_ = int64_t(v);
  }
  /// boolean, i64, u64 (only above the i64 range) or f64.
  constexpr DType kind() const { return kind_; }
  constexpr double to_double() const { return kind_ == DType::f64 ? f_ : kind_ == DType::u64 ? double(uint64_t(i_)) : double(i_); }
  constexpr int64_t to_int() const { return kind_ == DType::f64 ? int64_t(f_) : i_; }
  constexpr bool to_bool() const { return kind_ == DType::f64 ? f_ != 0 : i_ != 0; }
  constexpr bool operator==(const Scalar& o) const { return kind_ == o.kind_ && i_ == o.i_; }

 private:
  union {
    int64_t i_;
    double f_;
  };
  DType kind_;
};

std::string to_string(const Scalar& s);

}  // namespace keel
#pragma GCC visibility pop
