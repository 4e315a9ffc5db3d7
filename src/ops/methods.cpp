// Tensor's methods and operators: each one is the free function of the same name.
#include "keel/ops/softmax.h"
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

Tensor Tensor::mean() const { return keel::mean(*this); }
Tensor Tensor::mean(const MeanParams& p) const { return keel::mean(*this, p); }
Tensor Tensor::var() const { return keel::var(*this); }
Tensor Tensor::var(const VarParams& p) const { return keel::var(*this, p); }
Tensor Tensor::stddev() const { return keel::stddev(*this); }
Tensor Tensor::stddev(const VarParams& p) const { return keel::stddev(*this, p); }
Tensor Tensor::max() const { return keel::max(*this); }
Tensor Tensor::max(const ReduceParams& p) const { return keel::max(*this, p); }
Tensor Tensor::min() const { return keel::min(*this); }
Tensor Tensor::min(const ReduceParams& p) const { return keel::min(*this, p); }
Tensor Tensor::prod() const { return keel::prod(*this); }
Tensor Tensor::prod(const SumParams& p) const { return keel::prod(*this, p); }
Tensor Tensor::any() const { return keel::any(*this); }
Tensor Tensor::any(const AllParams& p) const { return keel::any(*this, p); }
Tensor Tensor::all() const { return keel::all(*this); }
Tensor Tensor::all(const AllParams& p) const { return keel::all(*this, p); }
Tensor Tensor::argmax() const { return keel::argmax(*this); }
Tensor Tensor::argmax(const ArgParams& p) const { return keel::argmax(*this, p); }
Tensor Tensor::argmin() const { return keel::argmin(*this); }
Tensor Tensor::argmin(const ArgParams& p) const { return keel::argmin(*this, p); }
Tensor Tensor::norm() const { return keel::norm(*this); }
Tensor Tensor::norm(const NormParams& p) const { return keel::norm(*this, p); }
Tensor Tensor::softmax(const SoftmaxParams& p) const { return keel::softmax(*this, p); }
Tensor Tensor::log_softmax(const SoftmaxParams& p) const { return keel::log_softmax(*this, p); }
Tensor Tensor::cumsum(const CumsumParams& p) const { return keel::cumsum(*this, p); }

Tensor Tensor::abs() const { return keel::abs(*this); }
Tensor Tensor::exp() const { return keel::exp(*this); }
Tensor Tensor::log() const { return keel::log(*this); }
Tensor Tensor::sqrt() const { return keel::sqrt(*this); }
Tensor Tensor::square() const { return keel::square(*this); }
Tensor Tensor::sin() const { return keel::sin(*this); }
Tensor Tensor::cos() const { return keel::cos(*this); }
Tensor Tensor::tanh() const { return keel::tanh(*this); }
Tensor Tensor::sigmoid() const { return keel::sigmoid(*this); }
Tensor Tensor::relu() const { return keel::relu(*this); }
Tensor Tensor::pow(const Operand& e) const { return keel::pow(*this, e); }
Tensor Tensor::clamp(Scalar lo, Scalar hi) const { return keel::clamp(*this, lo, hi); }
Tensor Tensor::masked_fill(const Tensor& mask, Scalar v) const { return keel::masked_fill(*this, mask, v); }

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
KEEL_DEFINE_OPERATOR(%, remainder)
KEEL_DEFINE_OPERATOR(==, equal)
KEEL_DEFINE_OPERATOR(!=, not_equal)
KEEL_DEFINE_OPERATOR(<, less)
KEEL_DEFINE_OPERATOR(<=, less_equal)
KEEL_DEFINE_OPERATOR(>, greater)
KEEL_DEFINE_OPERATOR(>=, greater_equal)
KEEL_DEFINE_OPERATOR(&, bitwise_and)
KEEL_DEFINE_OPERATOR(|, bitwise_or)
KEEL_DEFINE_OPERATOR(^, bitwise_xor)
#undef KEEL_DEFINE_OPERATOR
Tensor operator-(const Tensor& x) { return neg(x); }
Tensor operator~(const Tensor& x) { return bitwise_not(x); }
Tensor operator!(const Tensor& x) { return logical_not(x); }

}  // namespace keel
