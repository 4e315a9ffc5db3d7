// The autocast layer rewrites an op's inputs through the public `cast`, so that autograd and the trace see the casts as ops like any other.
#include "keel/autocast.h"

#include <memory>
#include <unordered_map>

#include "base/json.h"
#include "core/impl.h"
#include "keel/error.h"
#include "keel/ops/cast.h"
#include "layers/autocast.h"
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

  std::unique_ptr<AutocastPolicy> policy;
  std::string policy_text;
  std::unordered_map<const char*, std::unordered_map<const OpDef*, DType>> known;  // by interned path: what the policy said
  DType dtype_for(const OpDef& op, const char* path) {
    const auto [at, fresh] = known[path].try_emplace(&op, DType::none);
    if (fresh) at->second = policy->dtype_for(path, op.name);
    return at->second;
  }
};

DType AutocastPolicy::dtype_for(std::string_view path, std::string_view op) const {
  const Rule* best = nullptr;
  for (const Rule& r : rules) {
    const bool inside = r.path.empty() || path == r.path || (path.starts_with(r.path) && path[r.path.size()] == '.');
    if (!inside || !(r.op.empty() || op == r.op)) continue;
    if (!best || r.path.size() > best->path.size() || (r.path.size() == best->path.size() && best->op.empty())) best = &r;
  }
  return best ? best->dtype : low;
}

std::string AutocastPolicy::json() const {
  std::string s;
  base::JsonWriter w(s);
  w.begin_object().key("low").value(name_of(low)).key("rules").begin_array();
  for (const Rule& r : rules) {
    w.begin_object();
    if (!r.path.empty()) w.key("path").value(r.path);
    if (!r.op.empty()) w.key("op").value(r.op);
    w.key("dtype").value(name_of(r.dtype)).end_object();
  }
  w.end_array().end_object();
  return s;
}

AutocastPolicy AutocastPolicy::from_json(std::string_view text) {
  const auto refuse = [](const std::string& what) { raise(Error(ErrorCode::value, "no autocast policy: " + what).op("AutocastPolicy")); };
  const auto document = base::parse_json(text);
  if (!document) refuse(document.message());
  const base::JsonValue root = document->root();
  const auto dtype = [&](base::JsonValue v) {
    const DType t = dtype_from_name(std::string(v.as_string()).c_str());
    if (t == DType::none) refuse("'" + std::string(v.as_string()) + "' is no dtype");
    return t;
  };
  AutocastPolicy p;
  if (!root.is(base::JsonType::object) || !root["rules"].is(base::JsonType::array)) refuse("needs \"low\" and \"rules\"");
  p.low = dtype(root["low"]);
  for (base::JsonValue r = root["rules"].first(); r; r = r.next())
    p.rules.push_back({std::string(r["path"].as_string()), std::string(r["op"].as_string()), dtype(r["dtype"])});
  return p;
}

Autocast::Autocast(DType low, bool enabled) {
  if (low != DType::none && low != f16 && low != bf16)
    raise(Error(ErrorCode::dtype, std::string("autocast lowers to f16 or bf16, not to ") + name_of(low)).op("Autocast"));
  Scope& s = scope();
  outer_ = s.autocast, outer_cache_ = s.autocast_cache;
  s.autocast = enabled ? low : DType::none;
  if (s.autocast != DType::none) cache_ = new AutocastCache;
  s.autocast_cache = cache_;
}
Autocast::Autocast(const AutocastPolicy& policy, bool enabled) : Autocast(policy.low == f32 ? bf16 : policy.low, enabled) {
  const auto known = [](DType t) {
    if (t != f16 && t != bf16 && t != f32)
      raise(Error(ErrorCode::dtype, std::string("a policy names f16, bf16 or f32, not ") + name_of(t)).op("Autocast"));
  };
  known(policy.low);
  for (const AutocastPolicy::Rule& r : policy.rules) known(r.dtype);
  if (cache_) cache_->policy = std::make_unique<AutocastPolicy>(policy), cache_->policy_text = policy.json();
}
Autocast::~Autocast() {
  Scope& s = scope();
  s.autocast = outer_, s.autocast_cache = outer_cache_;
  delete cache_;
}
DType autocast_dtype() { return scope().autocast; }
const std::string& autocast_policy() {
  static const std::string none;
  const auto* cache = static_cast<const AutocastCache*>(scope().autocast_cache);
  return cache ? cache->policy_text : none;
}

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
  DType low = scope().autocast;
  if (auto* cache = static_cast<AutocastCache*>(scope().autocast_cache); cache && cache->policy && op.cast == Cast::lower)
    low = cache->dtype_for(op, scope().path);
  const bool lowers = op.cast == Cast::lower && low != f32;
  for (int i = 0; i < n; ++i) {
    if (!touches(i)) continue;
    const DType t = impl(*in[i]).spec.dtype;
    if (lowers && (t == f32 || ((t == f16 || t == bf16) && t != low)))
      keep.push_back(lowered(*in[i], low));
    else if (!lowers && (t == f16 || t == bf16))
      keep.push_back(cast(*in[i], f32));
    else
      continue;
    in[i] = &keep.back();
  }
}

}  // namespace keel
