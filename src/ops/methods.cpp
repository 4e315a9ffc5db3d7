// Tensor's methods and operators: each one is the free function of the same name.
#include "ops/common.h"

namespace keel {

Tensor Tensor::reshape(const Shape& s) const { return keel::reshape(*this, s); }
Tensor Tensor::view(const Shape& s) const {
  Tensor y = keel::reshape(*this, s);
  if (!y.shares_storage(*this))
    raise(Error(ErrorCode::shape, "the strides do not allow a view of shape " + to_string(s)).op("view").arg("x", to_string(p_->spec)).hint("reshape copies where it must"));
  return y;
}
Tensor Tensor::transpose() const { return keel::transpose(*this); }
Tensor Tensor::transpose(int64_t a, int64_t b) const { return keel::transpose(*this, a, b); }
Tensor Tensor::permute(const Dims& order) const { return keel::permute(*this, order); }
Tensor Tensor::flatten(int64_t first, int64_t last) const { return keel::flatten(*this, first, last); }
Tensor Tensor::squeeze() const { return keel::squeeze(*this); }
Tensor Tensor::squeeze(int64_t axis) const { return keel::squeeze(*this, axis); }
Tensor Tensor::unsqueeze(int64_t axis) const { return keel::unsqueeze(*this, axis); }
Tensor Tensor::expand(const Shape& s) const { return keel::expand(*this, s); }
Tensor Tensor::broadcast_to(const Shape& s) const { return keel::broadcast_to(*this, s); }
Tensor Tensor::flip(const Axes& axes) const { return keel::flip(*this, axes); }

Tensor Tensor::sum() const { return keel::sum(*this); }
Tensor Tensor::sum(const SumParams& p) const { return keel::sum(*this, p); }

Tensor Tensor::to(DType t) const { return cast(*this, t); }
Tensor Tensor::astype(DType t) const { return cast(*this, t); }
Tensor Tensor::to(Device d) const {
  if (d == device()) return *this;
  raise(Error(ErrorCode::device, "no backend for " + to_string(d) + " is loaded").op("to").arg("x", to_string(p_->spec)));
}
Tensor Tensor::clone() const { return copy(*this); }
Tensor Tensor::contiguous() const { return is_contiguous() ? *this : keel::contiguous(*this); }
Tensor Tensor::channels_last() const { return keel::channels_last(*this); }

#define KEEL_DEFINE_OPERATOR(SYMBOL, NAME)                                                                 \
  Tensor operator SYMBOL(const Tensor& a, const Tensor& b) { return NAME(a, b); }                          \
  Tensor operator SYMBOL(const Tensor& a, const Scalar& b) { return NAME(a, b); }                          \
  Tensor operator SYMBOL(const Scalar& a, const Tensor& b) { return NAME(a, b); }
KEEL_DEFINE_OPERATOR(+, add)
KEEL_DEFINE_OPERATOR(-, sub)
KEEL_DEFINE_OPERATOR(*, mul)
KEEL_DEFINE_OPERATOR(/, div)
#undef KEEL_DEFINE_OPERATOR
Tensor operator-(const Tensor& x) { return neg(x); }

}  // namespace keel
