#include "backend/cuda/fuse_norm.h"

#include <cstring>
#include <string_view>

#include "backend/cuda/norm_sum.h"
#include "backend/cuda/runtime.h"
#include "base/env.h"

namespace keel::cuda {
namespace {

/// Operands with mean, without it: g, x, mean, rstd, weight.
bool centered_of(const FusedOp& o) { return std::string_view(o.op) == "layer_norm_backward"; }
bool norm_gradient(const FusedOp& o) { return centered_of(o) || std::string_view(o.op) == "rms_norm_backward"; }

}  // namespace

bool begins_norm_sum(const FusedOp& o, const DType* in, const Shape& shape, const char** refusal) {
  if (!norm_gradient(o)) return false;
  static const bool wanted = base::env_string("KEEL_FUSE") == "all";  // has not been measured yet
  const int operands = centered_of(o) ? 5 : 4;
  bool fit = wanted && o.n_in == operands && adds_to_norm_gradient(o.dtype, shape, *static_cast<const NormBackwardParams*>(o.params), true);
  for (int i = 0; i < o.n_in && fit; ++i) fit = in[i] == (i < 2 || i == operands - 1 ? o.dtype : DType::f32);
  *refusal = fit ? nullptr : "the gradient of this norm adds nothing";
  return true;
}

std::unique_ptr<NormSum> norm_sum_of(const FusedProgram& p, const char** refusal) {
  *refusal = nullptr;
  if (!norm_gradient(p.ops[0])) return nullptr;
  const FusedOp &norm = p.ops[0], &sum = p.ops[1];
  auto made = std::make_unique<NormSum>();
  made->centered = centered_of(norm), made->params = *static_cast<const NormBackwardParams*>(norm.params);
  made->dtype = norm.dtype, made->shape = p.shape;
  const FusedSlot dx = FusedSlot(p.n_sources);
  bool good = p.n_ops == 2 && std::string_view(sum.op) == "add" && sum.n_in == 2 && (sum.in[0] == dx) != (sum.in[1] == dx);
  if (good) {
    made->more = sum.in[0] == dx ? sum.in[1] : sum.in[0];
    for (int i = 0; i < norm.n_in; ++i) made->in[i] = norm.in[i];
    for (int i = 0; i < p.n_results; ++i) {
      const FusedResult& r = p.results[i];
      if (r.slot == dx && r.part >= 1 && r.part <= 2)
        made->out[r.part] = i;
      else if (r.slot == dx + 1)
        made->out[0] = i;
      else
        good = false;
    }
  }
  good = good && made->out[0] >= 0 && (!made->params.need_weight || made->out[1] >= 0) &&
         (!made->centered || !made->params.need_bias || made->out[2] >= 0);
  if (good) return made;
  *refusal = "the gradient before the addition is used elsewhere, too";
  return nullptr;
}

const char* NormSum::run(int device, const void* const* sources, void* const* results) const {
  if (const cudaError_t e = ready(device)) return text_of(e, "setting up the device");
  const Strides dense;  // nobody looks at it
  TensorView views[5], to[3];
  for (int i = 0; i < 5; ++i)
    if (in[i] >= 0) views[i] = {const_cast<void*>(sources[in[i]]), dtype, &shape, &dense};
  for (int i = 0; i < 3; ++i)
    if (out[i] >= 0) to[i] = {results[out[i]], dtype, &shape, &dense};
  KernelArgs a;
  a.params = &params, a.in = views, a.out = to, a.n_in = centered ? 5 : 4, a.n_out = centered ? 3 : 2;
  a.device = device, a.stream = stream_of(device);
  const size_t room = norm_gradient_room(a);
  a.workspace = allocate(device, room, "a chain");
  if (!a.workspace) return "no memory is left for a chain";
  const KernelStatus s = norm_gradient_and_sum(a, centered, sources[more]);
  release(device, a.workspace, room);  // for work that is queued later
  return s.code ? s.what : nullptr;
}

}  // namespace keel::cuda
