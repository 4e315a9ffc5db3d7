#pragma once
#include "keel/tensor.h"

#pragma GCC visibility push(default)
namespace keel {

namespace detail {
[[noreturn]] void refuse_tensor_of(const Tensor& t, DType dtype, int rank);
}  // namespace detail

/// A Tensor whose element type and rank are known at compile time: `TensorOf<float, 2> m = x;` checks both once (DTypeError, ShapeError),
/// then `m(i, j)` reads and writes without checks. Shares the tensor's memory; writes through it are not seen by autograd, nor by version
/// counts.
template <class T, int Rank>
class TensorOf : public Tensor {
  static_assert(dtype_of<T> != DType::none, "no dtype stands for this element type");
  static_assert(Rank >= 0 && Rank <= kMaxRank, "rank is at most 8");

 public:
  TensorOf() = default;
  TensorOf(const Tensor& t) : Tensor(t) { bind(); }
  TensorOf(Tensor&& t) : Tensor(static_cast<Tensor&&>(t)) { bind(); }
  TensorOf(const TensorOf&) = default;
  TensorOf(TensorOf&&) noexcept = default;
  TensorOf& operator=(const TensorOf&) & = default;
  TensorOf& operator=(TensorOf&&) & noexcept = default;
  template <class U, int R>
  requires(!std::is_same_v<U, T> || R != Rank) TensorOf(const TensorOf<U, R>&)
  = delete;

  /// The element at (i, j, ...), from the front; not checked.
  template <class... At>
  requires(sizeof...(At) == Rank && (std::is_integral_v<At> && ...)) T& operator()(At... i) const {
    int64_t at = 0;
    int axis = 0;
    ((at += int64_t(i) * steps_[axis++]), ...);
    return first_[at];
  }
  /// Extent of one axis, known to exist.
  int64_t extent(int axis) const { return extents_[axis]; }

 private:
  T* first_ = nullptr;
  int64_t extents_[Rank ? Rank : 1] = {}, steps_[Rank ? Rank : 1] = {};

  void bind() {
    if (!defined() || dtype() != dtype_of<T> || rank() != Rank) detail::refuse_tensor_of(*this, dtype_of<T>, Rank);
    const Tensor& self = *this;
    first_ = const_cast<T*>(self.template data<T>());
    for (int k = 0; k < Rank; ++k) extents_[k] = self.shape()[k], steps_[k] = self.strides()[k];
  }
};

}  // namespace keel
#pragma GCC visibility pop
