// Writing into existing memory. An in-place op is its ordinary op followed by `assign`; with gradients about, the written tensor takes over the node of the result. Where nothing is tracked,
// an elementwise op writes straight into its operand.
#include "ops/common.h"

namespace keel {

KEEL_OP(assign, NoParams) {
  def.doc("Writes `value`, broadcast and cast, into the memory of `x`.").in("x", kinds::any).alone().written().in("value", kinds::any).alone().out("y").alias(0).primitive().promote(Promote::none)
      .no_oracle("writes in place")
      .infer([](auto&, Specs in) {
        if (!(broadcast(in[0].shape, in[1].shape) == in[0].shape))
          fail(ErrorCode::shape, "a value of shape " + to_string(in[1].shape) + " does not fit into " + to_string(in[0].shape));
        return in[0];
      });
}

namespace {

void refuse(const Tensor& self, const char* name, const char* why, const char* hint) {
  raise(Error(ErrorCode::autograd, why).op(name).arg("x", to_string(impl(self).spec)).hint(hint).path(scope().path));
}

int kind_of(DType t) { return t == DType::boolean ? 0 : is_integer(t) ? 1 : t < DType::complex64 ? 2 : 3; }

/// Whether a tensor of shape `y` broadcasts to `x`, which keeps its shape.
bool fits_into(const Shape& y, const Shape& x) {
  if (y.rank() > x.rank()) return false;
  for (int i = 1; i <= y.rank(); ++i)
    if (y[-i] != x[-i] && y[-i] != 1) return false;
  return true;
}

/// Makes `y`, computed from `self`, the value of `self`.
Tensor& write_back(Tensor& self, const Tensor& y, const char* name) {
  const bool linked = scope().grad && (self.tracked() || y.tracked());
  if (linked) {
    const TensorImpl& s = impl(self);
    if (self.tracked() && self.is_leaf())
      refuse(self, name, "a leaf that requires a gradient cannot be written in place while gradients are recorded", "inside NoGrad it can; or compute a new tensor");
    if (s.grad && s.grad->is_view) refuse(self, name, "a tracked view cannot be written in place", "where(mask, value, x) or scatter makes a new tensor with the right gradient");
    if (!self.tracked() && s.storage && s.storage.use_count() > 1) refuse(self, name, "a tracked value cannot be written into memory that other tensors share", "where(mask, value, x) or concat makes a new tensor with the right gradient");
  }
  if (!fits_into(y.shape(), self.shape()))
    raise(Error(ErrorCode::shape, "a value of shape " + to_string(y.shape()) + " does not fit into the tensor").op(name).arg("x", to_string(impl(self).spec)).hint("it must broadcast to the shape of x; the op that is not in place makes a tensor of any shape").path(scope().path));
  if (impl(y).weak) check_holds(self.dtype(), scalar_of(y), name);
  {
    ScopeGuard guard;
    scope().grad = false, scope().writer = name;
    Tensor value = y;
    if (impl(y).weak) value = full(Shape(), scalar_of(y), {.dtype = self.dtype(), .device = self.device()});  // a number would take a dtype of its own
    else if (impl(y).spec.dtype != impl(self).spec.dtype) value = cast(y, self.dtype());
    else if (impl(y).storage && y.shares_storage(self)) value = y.clone();  // x.copy_(flip(x)) must not read what it has written
    call(op_assign, NoParams{}, self, value);
  }
  if (linked) {
    Tensor fit = y.dtype() == self.dtype() && y.shape() == self.shape() ? y : expand(cast(y, self.dtype()), self.shape());
    if (fit.tracked() && fit.is_leaf()) fit = reshape(fit, fit.shape());  // a leaf has no node to take over
    if (fit.is(self)) return self;
    GradMeta& m = grad_meta(self);
    m.node = {}, m.slot = 0, m.requires_grad = false, m.is_view = false;
    if (fit.tracked()) m.node = impl(fit).grad->node, m.slot = impl(fit).grad->slot;  // else the tensor is a constant from now on
  }
  return self;
}

/// Whether `o` can be an operand of an op that writes straight into a tensor like `s`: a number of no higher kind, or a tensor of the same dtype and shape in other memory.
bool can_join(const TensorImpl& s, const TensorImpl& o) {
  if (o.weak) return !(is_integer(s.spec.dtype) && o.spec.dtype == f64) && s.spec.dtype != DType::boolean;
  return o.spec.dtype == s.spec.dtype && o.spec.shape == s.spec.shape && o.storage.get() != s.storage.get();
}

/// What the gradient of `op` keeps of the memory that is about to be written is kept as a copy: `h *= w` needs the old h for the gradient of w.
void save_before_writing(const OpDef& op, const void* params, const TensorImpl& self, const Tensor** in, Tensor* copies, int n) {
  Needs needs;
  for (int i = 0; i < n; ++i)
    if (in[i]->defined() && in[i]->tracked() && is_inexact(in[i]->dtype())) needs.bits |= 1u << i;
  const Saves keep = op.saved(params, needs);
  for (int i = 0; i < n; ++i)
    if (((keep.in >> i) & 1) && in[i]->defined() && self.storage && impl(*in[i]).storage.get() == self.storage.get()) copies[i] = in[i]->clone(), in[i] = &copies[i];
}

template <class P, class... T>
Tensor& in_place(Tensor& self, const OpDef& op, const P& params, const char* name, const T&... others) {
  if (!self.defined()) raise(Error(ErrorCode::value, "empty tensor").op(name));
  const TensorImpl& s = impl(self);
  const Tensor* in[] = {&self, &others...};
  const Inputs inputs(in, 1 + int(sizeof...(T)));
  need_registry();
  const bool tracked = scope().grad && (self.tracked() || ... || (others.defined() && others.tracked()));
  if (!tracked && op.elementwise && s.storage && !scope().trace) {
    if ((true && ... && (others.defined() && can_join(s, impl(others)))) && is_dense(s.spec.shape, s.strides) && contains(op.in[0].kinds, s.spec.dtype)) {
      ScopeGuard guard;
      scope().grad = false, scope().writer = name;
      dispatch_into(op, &params, inputs, self);
      return self;
    }
  }
  Tensor copies[1 + sizeof...(T)];
  if (tracked) save_before_writing(op, &params, s, in, copies, inputs.size());
  const Tensor y = dispatch_one(op, &params, inputs, __builtin_return_address(0));
  if (kind_of(y.dtype()) > kind_of(s.spec.dtype))
    raise(Error(ErrorCode::dtype, std::string("a result of ") + name_of(y.dtype()) + " would be cut down to " + name_of(s.spec.dtype)).op(name).arg("x", to_string(s.spec)).hint("the op that is not in place makes a tensor of the wider dtype; x.copy_(...) casts").path(scope().path));
  return write_back(self, y, name);
}

}  // namespace

extern OpDef op_add, op_sub, op_mul, op_div, op_relu, op_clamp;

Tensor& Tensor::copy_(const Operand& src) { return AtCaller(), write_back(*this, src.tensor(), "copy_"); }
Tensor& Tensor::fill_(Scalar v) { return AtCaller(), write_back(*this, Operand(v).tensor(), "fill_"); }
Tensor& Tensor::zero_() { return AtCaller(), fill_(0); }
Tensor& Tensor::add_(const Operand& o) { return AtCaller(), in_place(*this, op_add, NoParams{}, "add_", o.tensor()); }
Tensor& Tensor::sub_(const Operand& o) { return AtCaller(), in_place(*this, op_sub, NoParams{}, "sub_", o.tensor()); }
Tensor& Tensor::mul_(const Operand& o) { return AtCaller(), in_place(*this, op_mul, NoParams{}, "mul_", o.tensor()); }
Tensor& Tensor::div_(const Operand& o) { return AtCaller(), in_place(*this, op_div, NoParams{}, "div_", o.tensor()); }
Tensor& Tensor::relu_() { return AtCaller(), in_place(*this, op_relu, NoParams{}, "relu_"); }
Tensor& Tensor::clamp_(Scalar lo, Scalar hi) { return AtCaller(), in_place(*this, op_clamp, NoParams{}, "clamp_", make_scalar(lo), make_scalar(hi)); }
Tensor& Tensor::masked_fill_(const Tensor& mask, Scalar v) { return AtCaller(), write_back(*this, keel::masked_fill(*this, mask, v), "masked_fill_"); }

void Tensor::operator=(const Operand& v) && { copy_(v); }

}  // namespace keel
