// The autocast layer rewrites an op's inputs through the public `cast`, so that autograd and the trace see the casts as ops like any other.
#include "keel/autocast.h"

#include <unordered_map>

#include "core/impl.h"
#include "keel/error.h"
#include "keel/ops/cast.h"
#include "op/scope.h"

namespace keel {

/// Casts of leaves that this guard has made. Holding the leaf keeps its address from being used again.
struct AutocastCache {
  struct Entry {
    Tensor leaf, low;
    uint32_t version = 0;
    bool tracked = false;         // made while gradients were recorded
    const void* trace = nullptr;  // by which trace it was recorded: another one must record it again
  };
  std::unordered_map<const TensorImpl*, Entry> entries;
};

Autocast::Autocast(DType low, bool enabled) {
  if (low != DType::none && low != f16 && low != bf16)
    raise(Error(ErrorCode::dtype, std::string("autocast lowers to f16 or bf16, not to ") + name_of(low)).op("Autocast"));
  Scope& s = scope();
  outer_ = s.autocast, outer_cache_ = s.autocast_cache;
  s.autocast = enabled ? low : DType::none;
  if (s.autocast != DType::none) cache_ = new AutocastCache;
  s.autocast_cache = cache_;
}
Autocast::~Autocast() {
  Scope& s = scope();
  s.autocast = outer_, s.autocast_cache = outer_cache_;
  delete cache_;
}
DType autocast_dtype() { return scope().autocast; }

namespace {

/// A tensor's low form is kept for leaves that want a gradient: weights, which many ops of a step share.
Tensor lowered(const Tensor& x, DType low) {
  const Scope& s = scope();
  auto* cache = static_cast<AutocastCache*>(s.autocast_cache);
  const GradMeta* g = impl(x).grad;
  if (!cache || !g || !g->requires_grad || g->node) return cast(x, low);
  AutocastCache::Entry& e = cache->entries[x.impl()];
  if (!e.low.defined() || e.low.dtype() != low || e.version != x.version() || e.tracked != s.grad || e.trace != s.trace)
    e = {x, cast(x, low), x.version(), s.grad, s.trace};
  return e.low;
}

}  // namespace

void layer::autocast(const OpDef& op, const Tensor** in, int n, SmallVector<Tensor, 4>& keep) {
  const auto touches = [&](int i) {
    return in[i]->defined() && op.in[i < op.in.size() ? i : op.in.size() - 1].grouped && !impl(*in[i]).weak;
  };
  for (int i = 0; i < n; ++i)
    if (touches(i)) {
      const DType t = impl(*in[i]).spec.dtype;
      if (t == f64 || is_complex(t)) return;  // all inputs will be promoted to that
    }
  const DType low = scope().autocast;
  for (int i = 0; i < n; ++i) {
    if (!touches(i)) continue;
    const DType t = impl(*in[i]).spec.dtype;
    if (op.cast == Cast::lower && (t == f32 || ((t == f16 || t == bf16) && t != low)))
      keep.push_back(lowered(*in[i], low));
    else if (op.cast == Cast::fp32 && (t == f16 || t == bf16))
      keep.push_back(cast(*in[i], f32));
    else
      continue;
    in[i] = &keep.back();
  }
}

}  // namespace keel
