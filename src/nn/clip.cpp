#include "keel/nn/clip.h"

#include <cmath>

#include "core/impl.h"
#include "core/scope.h"
#include "keel/error.h"
#include "keel/ops/creation.h"
#include "keel/ops/optim_step.h"
#include "op/scope.h"

namespace keel {
extern OpDef op_clip_norm;
}

namespace keel::nn {

Tensor clip_grad_norm(const Tensors& parameters, double max_norm, const ClipOptions& o) {
  if (!(max_norm > 0)) raise(Error(ErrorCode::value, "max_norm must be positive, got " + to_string(Scalar(max_norm))).op("clip_grad_norm"));
  ScopeGuard guard;
  scope().grad = false, scope().autocast = DType::none, scope().phase = Phase::optimiser;
  const Tensor limit = make_tensor(f64, Shape());
  *reinterpret_cast<double*>(impl(limit).data) = max_norm;
  SmallVector<const Tensor*, 64> in;
  in.push_back(&limit);
  for (const Tensor& p : parameters)
    if (const GradMeta* m = p.defined() ? impl(p).grad : nullptr; m && m->grad.defined()) in.push_back(&m->grad), note_write(m->grad, "clip_grad_norm");
  if (in.size() == 1) return zeros(Shape());
  const ClipNormParams params{.p = o.p};
  auto clip = [&] { return dispatch_one(op_clip_norm, &params, Inputs(in.data(), int(in.size())), __builtin_return_address(0)); };
  if (!o.error_if_nonfinite) return clip();
  double& bound = *reinterpret_cast<double*>(impl(limit).data);
  bound = INFINITY;  // look only
  const Tensor norm = clip();
  if (!std::isfinite(norm.item())) raise(Error(ErrorCode::numeric, "the norm of the gradients is " + to_string(Scalar(norm.item()))).op("clip_grad_norm"));
  bound = max_norm;
  return clip();
}

void clip_grad_value(const Tensors& parameters, double limit) {
  if (!(limit >= 0)) raise(Error(ErrorCode::value, "limit must not be negative, got " + to_string(Scalar(limit))).op("clip_grad_value"));
  ScopeGuard guard;
  scope().grad = false, scope().phase = Phase::optimiser;
  for (const Tensor& p : parameters)
    if (p.defined() && p.grad().defined()) p.grad().clamp_(-limit, limit);
}

}  // namespace keel::nn
