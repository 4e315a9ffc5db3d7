#pragma once
#include <cstdint>

#include "keel/base/ref.h"
#include "keel/scalar.h"

#pragma GCC visibility push(default)
namespace keel {

class Tensor;
struct TensorImpl;

/// An end of a slice that is not given.
struct None {
  explicit constexpr None() = default;
};
inline constexpr None none{};
struct Ellipsis {
  explicit constexpr Ellipsis() = default;
};
/// Stands for as many full axes as fit.
inline constexpr Ellipsis ellipsis{};
struct NewAxis {
  explicit constexpr NewAxis() = default;
};
/// Inserts an axis of extent 1.
inline constexpr NewAxis newaxis{};

/// start:stop:step as in Python; negative values count from the end, a negative step walks backwards.
struct Slice {
  struct Bound {
    int64_t value = 0;
    bool given = false;
    constexpr Bound(None) {}
    constexpr Bound(int64_t v) : value(v), given(true) {}
    constexpr Bound(int v) : value(v), given(true) {}
  };
  Bound start, stop;
  int64_t step = 1;
};
constexpr Slice slice(Slice::Bound start, Slice::Bound stop, int64_t step = 1) { return {start, stop, step}; }

struct AllParams;
/// As an index: the whole axis. As a function: `all(x, {.axis = 0})`, whether all elements are true.
struct All {
  Tensor operator()(const Tensor& x) const;
  Tensor operator()(const Tensor& x, const AllParams& p) const;
};
inline constexpr All all{};

/// One entry of `x[{...}]`: an integer, a slice, `all`, `ellipsis`, `newaxis`, an integer array or a boolean mask.
class Index {
 public:
  enum class Kind : uint8_t { integer, slice, ellipsis, newaxis, array };
  template <class T>
    requires(std::is_integral_v<T> && !std::is_same_v<T, bool>)
  constexpr Index(T i) : value_(int64_t(i)), kind_(Kind::integer) {}
  Index(bool) = delete;
  Index(Slice s) : slice_(s), kind_(Kind::slice) {}
  Index(All) : kind_(Kind::slice) {}
  Index(Ellipsis) : kind_(Kind::ellipsis) {}
  Index(NewAxis) : kind_(Kind::newaxis) {}
  Index(const Tensor& t);

  Kind kind() const { return kind_; }
  int64_t value() const { return value_; }
  const Slice& slice() const { return slice_; }
  const Tensor& array() const;

  Index(const Index&);
  Index& operator=(const Index&);
  ~Index();

 private:
  int64_t value_ = 0;
  Slice slice_{none, none, 1};
  Kind kind_;
  TensorImpl* array_ = nullptr;
};

}  // namespace keel
#pragma GCC visibility pop
