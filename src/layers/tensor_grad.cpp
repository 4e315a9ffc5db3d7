// The gradient side of Tensor, functions of a user's own, checkpointing.
#include <cstring>

#include "keel/error.h"
#include "keel/ops/creation.h"
#include "keel/random.h"
#include "layers/autograd.h"
#include "op/checks.h"

namespace keel {

static_assert(sizeof(Scope) <= 96);
detail::ScopeKeeper::ScopeKeeper() { std::memcpy(saved_, &scope(), sizeof(Scope)); }
detail::ScopeKeeper::~ScopeKeeper() { std::memcpy(static_cast<void*>(&scope()), saved_, sizeof(Scope)); }
void detail::set_grad_mode(bool on) { scope().grad = on; }
bool grad_enabled() { return scope().grad; }

bool Tensor::requires_grad() const { return p_ && p_->tracked(); }
bool Tensor::tracked() const { return p_ && p_->tracked(); }
bool Tensor::is_leaf() const { return !(p_ && p_->grad && p_->grad->node); }
Tensor& Tensor::requires_grad_(bool on) {
  if (!p_) raise(Error(ErrorCode::value, "empty tensor").op("requires_grad_"));
  if (on && !is_inexact(p_->spec.dtype)) raise(Error(ErrorCode::dtype, "only floating and complex tensors can require a gradient").op("requires_grad_").arg("x", to_string(p_->spec)).hint("cast first, as in x.astype(f32)"));
  if (!is_leaf()) {
    if (on) return *this;
    raise(Error(ErrorCode::autograd, "a computed tensor always follows its inputs").op("requires_grad_").arg("x", to_string(p_->spec)).hint("x.detach() leaves the graph"));
  }
  grad_meta(*this).requires_grad = on;
  return *this;
}
Tensor Tensor::grad() const { return p_ && p_->grad ? p_->grad->grad : Tensor(); }
void Tensor::set_grad(const Tensor& g) {
  if (g.defined() && !(g.shape() == shape())) raise(Error(ErrorCode::shape, "the gradient's shape differs").op("set_grad").arg("x", to_string(p_->spec)).arg("grad", to_string(g.impl()->spec)));
  if (TraceSink* trace = scope().trace) trace->gradient(trace, *this, g);
  grad_meta(*this).grad = g;
}
void Tensor::zero_grad() {
  if (!p_ || !p_->grad) return;
  if (TraceSink* trace = scope().trace) trace->gradient(trace, *this, Tensor());
  p_->grad->grad = Tensor();
}
void Tensor::backward() const { keel::backward(Tensors{*this}); }
void Tensor::backward(const Tensor& cotangent, bool retain_graph, bool create_graph) const {
  keel::backward(Tensors{*this}, cotangent.defined() ? Tensors{cotangent} : Tensors{}, {.retain_graph = retain_graph, .create_graph = create_graph});
}
Tensor Tensor::detach() const {
  if (!p_) return {};
  return alias_of(*this);
}

namespace {
TensorHooks& hooks_of(const Tensor& t, const char* what) {
  if (!t.tracked()) raise(Error(ErrorCode::autograd, "a hook needs a tensor that requires a gradient").op(what));
  GradMeta& m = grad_meta(t);
  if (!m.hooks) m.hooks = new TensorHooks, m.free_hooks = [](void* p) { delete static_cast<TensorHooks*>(p); };
  return *static_cast<TensorHooks*>(m.hooks);
}
std::atomic<int64_t> next_hook{1};
}  // namespace

int64_t register_hook(const Tensor& t, GradHook hook) {
  const int64_t id = next_hook++;
  if (!t.is_leaf()) {
    static_cast<Node&>(*impl(t).grad->node).out_hooks.push_back({id, impl(t).grad->slot, std::move(hook)});
    return id;
  }
  hooks_of(t, "register_hook").grad.emplace_back(id, std::move(hook));
  return id;
}
int64_t register_post_accumulate_hook(const Tensor& leaf, Callback<void(const Tensor&)> hook) {
  if (!leaf.is_leaf()) raise(Error(ErrorCode::autograd, "post-accumulate hooks belong to leaves").op("register_post_accumulate_hook"));
  const int64_t id = next_hook++;
  hooks_of(leaf, "register_post_accumulate_hook").post.emplace_back(id, std::move(hook));
  return id;
}
int64_t register_node_hook(const Tensor& t, Callback<void(Tensors&)> hook) {
  if (t.is_leaf()) raise(Error(ErrorCode::autograd, "a leaf has no node").op("register_node_hook"));
  const int64_t id = next_hook++;
  static_cast<Node&>(*impl(t).grad->node).hooks.emplace_back(id, std::move(hook));
  return id;
}
void remove_hook(const Tensor& t, int64_t id) {
  GradMeta* m = t.defined() ? impl(t).grad : nullptr;
  if (!m) return;
  if (m->hooks) {
    auto& h = *static_cast<TensorHooks*>(m->hooks);
    std::erase_if(h.grad, [&](auto& e) { return e.first == id; });
    std::erase_if(h.post, [&](auto& e) { return e.first == id; });
  }
  if (m->node) {
    auto& n = static_cast<Node&>(*m->node);
    std::erase_if(n.hooks, [&](auto& e) { return e.first == id; });
    std::erase_if(n.out_hooks, [&](auto& e) { return e.id == id; });
  }
}

const Tensor& FunctionContext::saved(int64_t i) const {
  if (i < 0 || i >= saved_.size())
    raise(Error(ErrorCode::index, "tensor " + std::to_string(i) + " of " + std::to_string(saved_.size()) + " saved ones")
              .op("FunctionContext::saved").hint("what forward gives to ctx.save(a, b) is saved(0) and saved(1) in backward"));
  return saved_[i];
}

struct FunctionAccess {
  static Tensors& saved(FunctionContext& c) { return c.saved_; }
  static void set_needs(FunctionContext& c, uint64_t n) { c.needs_ = n; }
};

namespace {

[[noreturn]] void refuse_empty_result(const char* op) {
  raise(Error(ErrorCode::value, "forward gave an empty tensor").op(op).hint("a default-constructed Tensor has no value yet"));
}

}  // namespace

Tensors detail::apply_function(const char* name, const Tensors& inputs, Callback<Tensors(FunctionContext&)> forward, BackwardFunction backward) {
  bool wants = false;
  uint64_t needs = 0;
  for (int64_t i = 0; i < inputs.size(); ++i)
    if (scope().grad && inputs[i].tracked()) wants = true, needs |= uint64_t(1) << i;
  FunctionContext ctx;
  FunctionAccess::set_needs(ctx, needs);
  Tensors out;
  {
    NoGrad off;
    out = forward(ctx);
  }
  for (const Tensor& y : out)
    if (!y.defined()) refuse_empty_result(name);
  if (!wants) return out;
  for (Tensor& y : out)
    for (const Tensor& x : inputs)
      if (y.is(x)) y = alias_of(y);  // a function that gives an input back
  Ref<Node> n = Node::create(name);
  for (const Tensor& x : inputs) n->edges.push_back(edge_of(x)), n->in_specs.push_back(impl(x).spec);
  n->needs.bits = uint32_t(needs);
  SmallVector<int, 4> own;  // saved tensors that are outputs: kept without their node, or the graph would own itself
  for (const Tensor& s : FunctionAccess::saved(ctx)) {
    int slot = -1;
    for (int64_t k = 0; k < out.size(); ++k)
      if (s.is(out[k])) slot = int(k);
    own.push_back(slot);
    n->saved_in.push_back({slot >= 0 ? alias_of(s) : s, s.version()});
  }
  FunctionAccess::saved(ctx).clear();
  for (int64_t k = 0; k < out.size(); ++k) {
    n->out_specs.push_back(impl(out[k]).spec);
    if (is_inexact(out[k].dtype())) attach(out[k], n, uint32_t(k));
  }
  n->custom = [ctx, own, backward](Node& self, const Tensors& g, bool create_graph) mutable -> Tensors {
    FunctionContext c = ctx;
    for (int64_t i = 0; i < self.saved_in.size(); ++i) {
      Tensor s = self.saved_in[i].t;
      if (own[i] >= 0 && create_graph) s = alias_of(s), attach(s, Ref<Node>(&self), uint32_t(own[i]));
      FunctionAccess::saved(c).push_back(s);
    }
    Tensors cot;
    Device d;  // where the gradients that did come are
    for (const Tensor& t : g)
      if (t.defined()) d = t.device();
    for (int64_t k = 0; k < self.out_specs.size(); ++k) cot.push_back(k < g.size() && g[k].defined() ? g[k] : zeros(self.out_specs[k].shape, {.dtype = self.out_specs[k].dtype, .device = d}));
    Tensors grads = backward(c, cot);
    if (grads.size() != self.in_specs.size())
      raise(Error(ErrorCode::autograd, "backward gave " + std::to_string(grads.size()) + " gradients for " + std::to_string(self.in_specs.size()) + " inputs")
                .op(self.name).hint("one an input, in their order; Tensor() where ctx.needs(i) is false"));
    return grads;
  };
  return out;
}

Tensor checkpoint_list(Callback<Tensor(const Tensors&)> f, const Tensors& inputs) {
  if (!scope().grad) return f(inputs);
  const Generator::State before = default_generator().state();
  const Scope outer = scope();
  Tensor out;
  {
    NoGrad off;
    out = f(inputs);
  }
  if (!out.defined()) refuse_empty_result("checkpoint");
  Ref<Node> n = Node::create("checkpoint");
  for (const Tensor& x : inputs) {
    n->edges.push_back(edge_of(x)), n->in_specs.push_back(impl(x).spec);
    n->saved_in.push_back({x, x.version()});
  }
  for (const Tensor& x : inputs)
    if (out.is(x)) out = alias_of(out);
  out = out.tracked() ? alias_of(out) : out;
  n->out_specs.push_back(impl(out).spec);
  attach(out, n, 0);
  n->custom = [f, before, outer](Node& self, const Tensors& g, bool create_graph) -> Tensors {
    if (create_graph)
      raise(Error(ErrorCode::autograd, "a checkpointed part cannot be differentiated twice").op("checkpoint").hint("run it without checkpoint where create_graph is wanted"));
    struct KeepGenerator {
      Generator::State state = default_generator().state();
      ~KeepGenerator() { default_generator().set_state(state); }
    } keep;
    default_generator().set_state(before);
    Tensors in, wanted;
    for (const Saved& s : self.saved_in) {
      Tensor x = s.t.detach();
      if (s.t.tracked()) wanted.push_back(x.requires_grad_());
      in.push_back(x);
    }
    Tensors found;
    {
      // As it was then, but for guards that may be gone by now: who watches and who records is decided by who runs the backward pass.
      ScopeGuard guard;
      Scope& s = scope();
      s.grad = true, s.oracle = outer.oracle, s.path = outer.path, s.module = outer.module, s.autocast = outer.autocast;
      s.autocast_cache = nullptr, s.frame = nullptr;
      Tensor y = f(in);
      if (y.tracked() && accumulating()) keel::backward(Tensors{y}, Tensors{g[0]});
      else if (y.tracked() && !wanted.empty()) found = keel::grad(Tensors{y}, wanted, {.allow_unused = true}, Tensors{g[0]});
    }
    Tensors grads;
    int64_t next = 0;
    for (const Tensor& x : in) grads.push_back(found.empty() ? x.grad() : x.tracked() ? found[next++] : Tensor());
    return grads;
  };
  return out;
}

}  // namespace keel
