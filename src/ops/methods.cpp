// Tensor's methods and operators: each one is the free function of the same name. AtCaller: where the program called the method is where the op was called.
#include "keel/ops/matmul.h"
#include "keel/ops/softmax.h"
#include "ops/common.h"

namespace keel {

Tensor Tensor::reshape(const Shape& s) const { return AtCaller(), keel::reshape(*this, s); }
Tensor Tensor::view(const Shape& s) const {
  Tensor y = keel::reshape(*this, s);
  if (!y.shares_storage(*this))
    raise(Error(ErrorCode::shape, "the strides do not allow a view of shape " + to_string(s)).op("view").arg("x", to_string(p_->spec)).hint("reshape copies where it must"));
  return y;
}
Tensor Tensor::transpose() const { return AtCaller(), keel::transpose(*this); }
Tensor Tensor::transpose(int64_t a, int64_t b) const { return AtCaller(), keel::transpose(*this, a, b); }
Tensor Tensor::permute(const Dims& order) const { return AtCaller(), keel::permute(*this, order); }
Tensor Tensor::flatten(int64_t first, int64_t last) const { return AtCaller(), keel::flatten(*this, first, last); }
Tensor Tensor::squeeze() const { return AtCaller(), keel::squeeze(*this); }
Tensor Tensor::squeeze(int64_t axis) const { return AtCaller(), keel::squeeze(*this, axis); }
Tensor Tensor::unsqueeze(int64_t axis) const { return AtCaller(), keel::unsqueeze(*this, axis); }
Tensor Tensor::expand(const Shape& s) const { return AtCaller(), keel::expand(*this, s); }
Tensor Tensor::broadcast_to(const Shape& s) const { return AtCaller(), keel::broadcast_to(*this, s); }
Tensor Tensor::flip(const Axes& axes) const { return AtCaller(), keel::flip(*this, axes); }

Tensor Tensor::sum() const { return AtCaller(), keel::sum(*this); }
Tensor Tensor::sum(const SumParams& p) const { return AtCaller(), keel::sum(*this, p); }

Tensor Tensor::mean() const { return AtCaller(), keel::mean(*this); }
Tensor Tensor::mean(const MeanParams& p) const { return AtCaller(), keel::mean(*this, p); }
Tensor Tensor::var() const { return AtCaller(), keel::var(*this); }
Tensor Tensor::var(const VarParams& p) const { return AtCaller(), keel::var(*this, p); }
Tensor Tensor::stddev() const { return AtCaller(), keel::stddev(*this); }
Tensor Tensor::stddev(const VarParams& p) const { return AtCaller(), keel::stddev(*this, p); }
Tensor Tensor::max() const { return AtCaller(), keel::max(*this); }
Tensor Tensor::max(const ReduceParams& p) const { return AtCaller(), keel::max(*this, p); }
Tensor Tensor::min() const { return AtCaller(), keel::min(*this); }
Tensor Tensor::min(const ReduceParams& p) const { return AtCaller(), keel::min(*this, p); }
Tensor Tensor::prod() const { return AtCaller(), keel::prod(*this); }
Tensor Tensor::prod(const SumParams& p) const { return AtCaller(), keel::prod(*this, p); }
Tensor Tensor::any() const { return AtCaller(), keel::any(*this); }
Tensor Tensor::any(const AllParams& p) const { return AtCaller(), keel::any(*this, p); }
Tensor Tensor::all() const { return AtCaller(), keel::all(*this); }
Tensor Tensor::all(const AllParams& p) const { return AtCaller(), keel::all(*this, p); }
Tensor Tensor::argmax() const { return AtCaller(), keel::argmax(*this); }
Tensor Tensor::argmax(const ArgParams& p) const { return AtCaller(), keel::argmax(*this, p); }
Tensor Tensor::argmin() const { return AtCaller(), keel::argmin(*this); }
Tensor Tensor::argmin(const ArgParams& p) const { return AtCaller(), keel::argmin(*this, p); }
Tensor Tensor::norm() const { return AtCaller(), keel::norm(*this); }
Tensor Tensor::norm(const NormParams& p) const { return AtCaller(), keel::norm(*this, p); }
Tensor Tensor::softmax(const SoftmaxParams& p) const { return AtCaller(), keel::softmax(*this, p); }
Tensor Tensor::log_softmax(const SoftmaxParams& p) const { return AtCaller(), keel::log_softmax(*this, p); }
Tensor Tensor::cumsum(const CumsumParams& p) const { return AtCaller(), keel::cumsum(*this, p); }

Tensor Tensor::abs() const { return AtCaller(), keel::abs(*this); }
Tensor Tensor::exp() const { return AtCaller(), keel::exp(*this); }
Tensor Tensor::log() const { return AtCaller(), keel::log(*this); }
Tensor Tensor::sqrt() const { return AtCaller(), keel::sqrt(*this); }
Tensor Tensor::square() const { return AtCaller(), keel::square(*this); }
Tensor Tensor::sin() const { return AtCaller(), keel::sin(*this); }
Tensor Tensor::cos() const { return AtCaller(), keel::cos(*this); }
Tensor Tensor::tanh() const { return AtCaller(), keel::tanh(*this); }
Tensor Tensor::sigmoid() const { return AtCaller(), keel::sigmoid(*this); }
Tensor Tensor::relu() const { return AtCaller(), keel::relu(*this); }
Tensor Tensor::pow(const Operand& e) const { return AtCaller(), keel::pow(*this, e); }
Tensor Tensor::clamp(Scalar lo, Scalar hi) const { return AtCaller(), keel::clamp(*this, lo, hi); }
Tensor Tensor::matmul(const Tensor& o) const { return keel::matmul(*this, o); }
Tensor Tensor::masked_fill(const Tensor& mask, Scalar v) const { return AtCaller(), keel::masked_fill(*this, mask, v); }

Tensor Tensor::to(DType t) const { return AtCaller(), cast(*this, t); }
Tensor Tensor::astype(DType t) const { return AtCaller(), cast(*this, t); }
Tensor Tensor::to(Device d) const { return AtCaller(), transfer(*this, d); }
Tensor Tensor::clone() const { return AtCaller(), copy(*this); }
Tensor Tensor::contiguous() const { return AtCaller(), is_contiguous() ? *this : keel::contiguous(*this); }
Tensor Tensor::channels_last() const { return AtCaller(), keel::channels_last(*this); }

#define KEEL_DEFINE_OPERATOR(SYMBOL, NAME)                                                                 \
  Tensor operator SYMBOL(const Tensor& a, const Tensor& b) { return AtCaller(), NAME(a, b); }                          \
  Tensor operator SYMBOL(const Tensor& a, const Scalar& b) { return AtCaller(), NAME(a, b); }                          \
  Tensor operator SYMBOL(const Scalar& a, const Tensor& b) { return AtCaller(), NAME(a, b); }
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
Tensor operator-(const Tensor& x) { return AtCaller(), neg(x); }
Tensor operator~(const Tensor& x) { return AtCaller(), bitwise_not(x); }
Tensor operator!(const Tensor& x) { return AtCaller(), logical_not(x); }

}  // namespace keel
