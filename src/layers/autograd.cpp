// The autograd layer: runs the op below, and where a gradient is wanted, hangs a node behind its outputs.
#include "layers/autograd.h"

#include <cstring>

#include "core/pool.h"
#include "keel/error.h"
#include "op/checks.h"

namespace keel {
namespace {

std::atomic<uint64_t> next_seq{1};

/// Nodes waiting to be freed on this thread, linked through `next_dead`, so that freeing one never recurses into the next.
thread_local constinit Node* waiting = nullptr;
thread_local constinit bool digging = false;

void free_node(NodeBase* base) {
  auto* n = static_cast<Node*>(base);
  n->next_dead = waiting, waiting = n;
  if (digging) return;
  digging = true;
  while (Node* dead = waiting) {
    waiting = dead->next_dead;
    if (dead->params != dead->inline_params) delete[] dead->params;
    dead->~Node();
    give_object(PoolKind::node, dead);
  }
  digging = false;
}

void check_view_fresh(const Tensor& t) {
  const TensorImpl& x = impl(t);
  if (x.grad && x.grad->is_view && x.storage && x.storage->version.load(std::memory_order_relaxed) != x.grad->view_version)
    raise(op_error(ErrorCode::autograd, std::string("a tracked view is used after ") + x.storage->writer + " wrote into its base; the view's gradient would be wrong")
              .hint("take the view again after the write, or use where/scatter instead of writing in place"));
}

}  // namespace

Ref<Node> Node::create(const char* name) {
  auto* n = new (take_object<Node>(PoolKind::node)) Node;
  n->refs.store(1, std::memory_order_relaxed);
  n->free_self = free_node;
  n->seq = next_seq.fetch_add(1, std::memory_order_relaxed);
  n->name = name;
  n->path = scope().path, n->determinism = determinism_of(scope());
  return Ref<Node>::adopt(n);
}

void Node::set_params(const OpDef& def, const void* p) {
  if (def.params.size > kInlineParams) params = new std::byte[def.params.size];
  std::memcpy(params, p, def.params.size);
}

Edge edge_of(const Tensor& t) {
  Edge e;
  if (!t.defined() || !impl(t).tracked()) return e;
  const GradMeta& m = *impl(t).grad;
  if (m.node) e.node = m.node, e.slot = m.slot;
  else e.leaf = t;
  return e;
}

void attach(const Tensor& out, const Ref<Node>& n, uint32_t slot) {
  GradMeta& m = grad_meta(out);
  m.node = Ref<NodeBase>(n.get()), m.slot = slot, m.requires_grad = false;
}

Tensors layer::autograd(Call& c) {
  Needs needs;
  for (int i = 0; i < c.in.size(); ++i) {
    if (!c.in[i].defined() || !impl(c.in[i]).tracked()) continue;
    check_view_fresh(c.in[i]);
    if (i < 32 && is_inexact(impl(c.in[i]).spec.dtype)) needs.bits |= 1u << i;
  }
  c.recording = true;
  Tensors out = run_below_autograd(c);
  Ref<Node> n = Node::create(c.op.name);
  n->op = &c.op, n->needs = needs, n->site = c.site;
  n->set_params(c.op, c.params);
  if (&c.op == &op_slice_view) n->in_strides = impl(c.in[0]).strides;
  const Saves keep = c.op.saved(c.params, needs);
  for (int i = 0; i < c.in.size(); ++i) {
    const Tensor& x = c.in[i];
    n->edges.push_back(edge_of(x));
    n->in_specs.push_back(x.defined() ? impl(x).spec : Spec{});
    const bool wanted = x.defined() && (i >= 32 || ((keep.in >> i) & 1));
    n->saved_in.push_back(wanted ? Saved{x, x.version()} : Saved{});
  }
  for (int i = 0; i < out.size(); ++i) {
    const Tensor& y = out[i];
    n->out_specs.push_back(y.defined() ? impl(y).spec : Spec{});
    n->saved_out.push_back(y.defined() && ((keep.out >> i) & 1) ? Saved{alias_of(y), y.version()} : Saved{});
    if (!y.defined() || !is_inexact(impl(y).spec.dtype)) continue;
    attach(y, n, uint32_t(i));
    if (c.op.view || c.op.out[std::min(i, c.op.out.size() - 1)].alias_of >= 0) impl(y).grad->is_view = true, impl(y).grad->view_version = y.version();
  }
  return out;
}

namespace {
/// A saved tensor as the gradient may use it; an error where its memory was written since.
void check_unwritten(const Saved& s, const Node& n, const char* role) {
  if (!s.t.defined() || !impl(s.t).storage) return;
  const Storage& st = *impl(s.t).storage;
  if (st.version.load(std::memory_order_relaxed) != s.version)
    raise(Error(ErrorCode::autograd, std::string("'") + role + "' was saved for the gradient, and " + st.writer + " wrote into it before the backward pass")
              .op(n.name).arg("saved", to_string(impl(s.t).spec)).hint("use the op that makes a new tensor instead of the one in place, or clone() first").path(n.path));
}
}  // namespace

void Node::release_saved() {
  released = bool(custom);  // a node that kept nothing can run again
  for (Saved& s : saved_in) released |= s.t.defined(), s.t = Tensor();
  for (Saved& s : saved_out) released |= s.t.defined(), s.t = Tensor();
  custom = {};
}

/// Whether summing over some axes makes a tensor of shape `to` out of one of shape `from`.
static bool sums_to(const Shape& from, const Shape& to) {
  const int extra = from.rank() - to.rank();
  if (extra < 0) return false;
  for (int i = 0; i < to.rank(); ++i)
    if (to[i] != 1 && to[i] != from[extra + i]) return false;
  return true;
}
[[noreturn]] static void refuse_gradient(const Node& n, int i, const Tensor& g) {
  raise(Error(ErrorCode::shape, "the gradient of input " + std::to_string(i) + " came in another shape")
            .op(n.name).arg("input", to_string(n.in_specs[i])).arg("gradient", to_string(impl(g).spec))
            .hint("a gradient has the shape of its input, or one that the input broadcasts to").path(n.path));
}

Tensors Node::run(const Tensors& cotangents, bool create_graph, const Tensor* second) {
  if (released)
    raise(Error(ErrorCode::autograd, "the graph was already freed by an earlier backward pass").op(name).hint("pass retain_graph = true to the first backward to go through it twice").path(path));
  ScopeGuard guard;
  Scope& s = scope();
  s.grad = create_graph, s.autocast = DType::none, s.path = path, s.phase = Phase::backward;
  keep_determinism(s, determinism);
  Frame frame{op, params, nullptr, 0, site, nullptr};
  s.frame = op ? &frame : nullptr;
  Tensors grads;
  if (custom) {
    for (const Saved& x : saved_in) check_unwritten(x, *this, "input");
    grads = custom(*this, cotangents, create_graph);
  } else {
    Tensors outs;
    SmallVector<const Tensor*, 4> in, out, g;
    SmallVector<const Spec*, 4> is, os;
    for (int i = 0; i < saved_in.size(); ++i) {
      check_unwritten(saved_in[i], *this, op->in[std::min(i, op->in.size() - 1)].name);
      in.push_back(&saved_in[i].t), is.push_back(&in_specs[i]);
    }
    for (int i = 0; i < saved_out.size(); ++i) {
      check_unwritten(saved_out[i], *this, "result");
      Tensor y = saved_out[i].t;
      if (y.defined() && create_graph) {
        y = alias_of(y);
        attach(y, Ref<Node>(this), uint32_t(i));
      }
      outs.push_back(y);
    }
    for (int i = 0; i < outs.size(); ++i) out.push_back(&outs[i]), os.push_back(&out_specs[i]);
    for (int i = 0; i < cotangents.size(); ++i) g.push_back(&cotangents[i]);
    const VjpArgs a{Inputs(in.data(), int(in.size())), Inputs(out.data(), int(out.size())), Inputs(g.data(), int(g.size())), second, needs,
                    Specs(is.data(), int(is.size())), Specs(os.data(), int(os.size()))};
    op->vjp(params, a, grads);
  }
  if (grads.size() > edges.size())
    raise(Error(ErrorCode::autograd, "the gradient gave " + std::to_string(grads.size()) + " tensors for " + std::to_string(edges.size()) + " inputs").op(name).path(path));
  for (int i = 0; i < grads.size(); ++i) {
    if (!edges[i].valid()) {
      grads[i] = Tensor();
    } else if (grads[i].defined()) {
      if (!sums_to(impl(grads[i]).spec.shape, in_specs[i].shape)) refuse_gradient(*this, i, grads[i]);
      grads[i] = conform(std::move(grads[i]), in_specs[i]);
    }
  }
  if (!hooks.empty()) {
    const auto now = hooks;  // a copy: a hook may remove itself
    for (auto& [id, hook] : now) hook(grads);
  }
  return grads;
}

}  // namespace keel
