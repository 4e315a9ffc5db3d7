// The backward pass: iterative, on the calling thread, in a fixed order (latest node first). A first walk counts how many gradients each node and leaf will receive; a node runs when it has them all.
#include <algorithm>
#include <unordered_map>
#include <vector>

#include "keel/error.h"
#include "keel/ops/cast.h"
#include "keel/ops/creation.h"
#include "keel/ops/elementwise.h"
#include "keel/ops/reduce.h"
#include "keel/ops/view.h"
#include "layers/autograd.h"
#include "op/checks.h"

namespace keel {

constinit std::atomic<void (*)(const Tensor&)> leaf_watch{nullptr};

Tensor conform(Tensor g, const Spec& to) {
  const Shape& have = impl(g).spec.shape;
  if (!(have == to.shape)) {
    KEEL_ASSERT(have.rank() >= to.shape.rank());
    Axes axes;
    const int extra = have.rank() - to.shape.rank();
    for (int i = 0; i < have.rank(); ++i)
      if (i < extra || (to.shape[i - extra] == 1 && have[i] != 1)) axes.push_back(i);
    if (!axes.empty()) g = sum(g, {.axis = axes, .keepdim = true});
    if (extra || !(impl(g).spec.shape == to.shape)) g = reshape(g, to.shape);
  }
  if (impl(g).spec.dtype != to.dtype) g = cast(g, to.dtype);
  return g;
}

namespace {

struct Task {
  Node* node = nullptr;      // or
  Tensor leaf;               // a leaf
  int64_t waiting = 0;       // gradients still to come
  bool needed = true;        // leads to an input of interest
  Tensors grads;             // one an output of the node; one for a leaf
};

struct Engine {
  const BackwardRequest& r;
  std::vector<Task> tasks;
  std::unordered_map<const void*, int> index;
  std::vector<std::pair<uint64_t, int>> ready;  // heap by seq, latest first
  std::vector<Callback<void()>> at_end;
  Tensors results;

  explicit Engine(const BackwardRequest& request) : r(request) {}

  static const void* key(const Edge& e) { return e.node ? static_cast<const void*>(e.node.get()) : static_cast<const void*>(e.leaf.impl()); }
  int task_of(const Edge& e) {
    auto [it, fresh] = index.try_emplace(key(e), int(tasks.size()));
    if (fresh) {
      Task& t = tasks.emplace_back();
      if (e.node) t.node = static_cast<Node*>(e.node.get()), t.grads.resize(t.node->out_specs.size());
      else t.leaf = e.leaf, t.grads.resize(1);
    }
    return it->second;
  }

  /// Walks from the outputs and counts the edges that lead into each task.
  void discover(const std::vector<Edge>& roots) {
    std::vector<int> stack;
    for (const Edge& e : roots) {
      const size_t before = tasks.size();
      const int t = task_of(e);
      if (tasks.size() > before) stack.push_back(t);
    }
    while (!stack.empty()) {
      Node* n = tasks[size_t(stack.back())].node;
      stack.pop_back();
      if (!n) continue;
      for (const Edge& e : n->edges) {
        if (!e.valid()) continue;
        const size_t before = tasks.size();
        const int t = task_of(e);
        ++tasks[size_t(t)].waiting;
        if (tasks.size() > before) stack.push_back(t);
      }
    }
  }

  /// With inputs given, marks only what lies on a path to one of them.
  void prune() {
    if (!r.inputs) return;
    std::vector<int> order(tasks.size());
    for (size_t i = 0; i < order.size(); ++i) order[i] = int(i), tasks[i].needed = false;
    for (const Tensor& x : *r.inputs)
      if (auto it = index.find(key(edge_of(x))); it != index.end()) tasks[size_t(it->second)].needed = true;
    std::sort(order.begin(), order.end(), [&](int a, int b) { return seq(a) < seq(b); });  // dependencies first
    for (int i : order) {
      Task& t = tasks[size_t(i)];
      if (!t.node) continue;
      for (const Edge& e : t.node->edges)
        if (e.valid() && tasks[size_t(index.at(key(e)))].needed) t.needed = true;
    }
  }
  uint64_t seq(int t) const { return tasks[size_t(t)].node ? tasks[size_t(t)].node->seq : 0; }

  void deliver(const Edge& e, Tensor g) {
    Task& t = tasks[size_t(index.at(key(e)))];
    Tensor& slot = t.grads[t.node ? e.slot : 0];
    slot = slot.defined() ? add(slot, g) : std::move(g);
  }
  void arrived(const Edge& e) {
    const int i = index.at(key(e));
    if (--tasks[size_t(i)].waiting == 0) push(i);
  }
  void push(int i) {
    ready.emplace_back(seq(i), i);
    std::push_heap(ready.begin(), ready.end());
  }

  static void apply_hooks(const Tensor& owner, Tensor& g) {
    const GradMeta* m = impl(owner).grad;
    if (!m || !m->hooks || !g.defined()) return;
    for (auto& [id, hook] : static_cast<TensorHooks*>(m->hooks)->grad)
      if (hook)
        if (Tensor changed = hook(g); changed.defined()) g = changed;
  }

  void accumulate(const Tensor& leaf, Tensor g) {
    GradMeta& m = *impl(leaf).grad;
    if (!m.grad.defined()) {
      const TensorImpl& gi = impl(g);
      const bool mine = gi.refs.load() == 1 && gi.storage && gi.storage.use_count() == 1 && is_dense(gi.spec.shape, gi.strides);
      m.grad = mine || r.create_graph ? g : g.clone();
      if (TraceSink* trace = scope().trace) trace->gradient(trace, leaf, m.grad);
    } else if (r.create_graph) {
      m.grad = add(m.grad, g);
      if (TraceSink* trace = scope().trace) trace->gradient(trace, leaf, m.grad);
    } else {
      m.grad.add_(g);
    }
    if (auto* watch = leaf_watch.load(std::memory_order_relaxed)) watch(leaf);
    if (!m.hooks) return;
    for (auto& [id, hook] : static_cast<TensorHooks*>(m.hooks)->post)
      if (hook) hook(leaf);
  }

  void capture(const void* k, uint32_t slot, const Tensor& g) {
    if (!r.inputs) return;
    for (int64_t i = 0; i < r.inputs->size(); ++i) {
      const Edge e = edge_of((*r.inputs)[i]);
      if (e.valid() && key(e) == k && (e.leaf.defined() || e.slot == slot)) results[i] = g;
    }
  }

  void run_task(int i) {
    Task t = std::move(tasks[size_t(i)]);
    if (!t.node) {
      Tensor g = t.grads[0];
      t.grads[0] = Tensor();
      apply_hooks(t.leaf, g);
      if (!g.defined()) return;
      if (r.inputs) return capture(t.leaf.impl(), 0, g);
      return accumulate(t.leaf, std::move(g));
    }
    bool any = false;
    for (int64_t k = 0; k < t.grads.size(); ++k) {
      for (const Node::OutHook& h : t.node->out_hooks)
        if (h.slot == uint32_t(k) && t.grads[k].defined())
          if (Tensor changed = h.hook(t.grads[k]); changed.defined()) t.grads[k] = changed;
      any |= t.grads[k].defined();
      capture(t.node, uint32_t(k), t.grads[k]);
    }
    Tensors grads;
    if (any && t.needed) {
      grads = t.node->run(t.grads, r.create_graph);
      for (int64_t k = 0; k < grads.size(); ++k)
        if (grads[k].defined() && !(r.inputs && !tasks[size_t(index.at(key(t.node->edges[k])))].needed)) deliver(t.node->edges[k], std::move(grads[k]));
    }
    for (const Edge& e : t.node->edges)
      if (e.valid()) arrived(e);
    if (any && t.needed && !r.retain_graph && !r.create_graph) t.node->release_saved();
  }

  Tensors run();
};

thread_local Engine* current = nullptr;

Tensors Engine::run() {
  if (r.cotangents.size() && r.cotangents.size() != r.outputs.size())
    raise(Error(ErrorCode::value, "got " + std::to_string(r.cotangents.size()) + " cotangents for " + std::to_string(r.outputs.size()) + " outputs").op("backward"));
  std::vector<Edge> roots;
  std::vector<Tensor> seeds;
  for (int64_t i = 0; i < r.outputs.size(); ++i) {
    const Tensor& y = r.outputs[i];
    if (!y.defined()) raise(Error(ErrorCode::value, "an output is an empty tensor").op("backward"));
    if (!y.tracked())
      raise(Error(ErrorCode::autograd, "the tensor does not depend on anything that requires a gradient").op("backward").arg("output", to_string(impl(y).spec))
                .hint("create leaves with {.requires_grad = true}, and check that no NoGrad was alive while it was computed"));
    Tensor g = i < r.cotangents.size() ? r.cotangents[i] : Tensor();
    if (!g.defined()) {
      if (y.size() != 1)
        raise(Error(ErrorCode::autograd, "the output has " + std::to_string(y.size()) + " elements, so its cotangent must be given").op("backward").arg("output", to_string(impl(y).spec))
                  .hint("sum or mean it to a single number, or pass a cotangent of its shape"));
      g = ones_like(y);
    } else if (!(g.shape() == y.shape())) {
      raise(Error(ErrorCode::shape, "the cotangent's shape differs from the output's").op("backward").arg("output", to_string(impl(y).spec)).arg("cotangent", to_string(impl(g).spec)));
    }
    roots.push_back(edge_of(y));
    seeds.push_back(std::move(g));
  }
  if (r.inputs) results.resize(r.inputs->size());
  discover(roots);
  prune();
  for (size_t i = 0; i < roots.size(); ++i) deliver(roots[i], seeds[i]);
  seeds.clear();
  for (const Edge& e : roots) {
    const int t = index.at(key(e));
    if (tasks[size_t(t)].waiting == 0 && std::none_of(ready.begin(), ready.end(), [&](auto& p) { return p.second == t; })) push(t);
  }
  while (!ready.empty()) {
    std::pop_heap(ready.begin(), ready.end());
    const int t = ready.back().second;
    ready.pop_back();
    run_task(t);
  }
  if (r.inputs && !r.allow_unused)
    for (int64_t i = 0; i < results.size(); ++i)
      if (!results[i].defined())
        raise(Error(ErrorCode::autograd, "the outputs do not depend on input " + std::to_string(i)).op("grad").arg("input", to_string(impl((*r.inputs)[i]).spec)).hint("pass allow_unused = true to get an empty tensor for it"));
  for (auto& f : at_end) f();
  return std::move(results);
}

}  // namespace

Tensors run_backward(const BackwardRequest& r) {
  ScopeGuard guard;
  scope().grad = r.create_graph;
  scope().phase = Phase::backward;
  Engine e(r);
  struct Current {
    Engine* up;
    explicit Current(Engine* e) : up(current) { current = e; }
    ~Current() { current = up; }
  } keep(&e);
  return e.run();
}

void on_backward_end(Callback<void()> f) {
  if (!current) raise(Error(ErrorCode::autograd, "no backward pass is running").op("on_backward_end"));
  current->at_end.push_back(std::move(f));
}

Tensors grad(const Tensors& outputs, const Tensors& inputs, const GradOptions& o, const Tensors& cotangents) {
  for (const Tensor& x : inputs)
    if (!x.defined() || !x.tracked()) raise(Error(ErrorCode::autograd, "an input does not require a gradient").op("grad").hint("create it with {.requires_grad = true}"));
  return run_backward({outputs, cotangents, &inputs, o.retain_graph, o.create_graph, o.allow_unused});
}
void backward(const Tensors& outputs, const Tensors& cotangents, const GradOptions& o) { run_backward({outputs, cotangents, nullptr, o.retain_graph, o.create_graph, true}); }

}  // namespace keel
