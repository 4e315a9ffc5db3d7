// The backward pass: iterative, on the calling thread, in a fixed order (latest node first). A first walk finds every node and counts how many gradients each leaf will receive. A node comes after
// all that it depends on, so it has all its gradients when its turn comes; a leaf takes its sum when the last one has arrived.
#include <algorithm>
#include <iterator>
#include <vector>

#include "base/threads.h"
#include "keel/error.h"
#include "keel/ops/cast.h"
#include "keel/ops/combine.h"
#include "keel/ops/creation.h"
#include "keel/ops/elementwise.h"
#include "keel/ops/reduce.h"
#include "keel/ops/view.h"
#include "layers/autograd.h"
#include "layers/monitor/monitor.h"
#include "op/checks.h"
#include "op/scope.h"

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

/// The gradient of a slice, and the node that made the slice.
struct Piece {
  Ref<NodeBase> node;
  Tensor g;
  const SliceParams& place() const { return *reinterpret_cast<const SliceParams*>(static_cast<const Node*>(node.get())->params); }
};

/// The axis that the pieces share out among them, leaving nothing and taking nothing twice; -1 where they do not. Puts them in order.
int axis_of(std::vector<Piece>& pieces, const Shape& whole) {
  int axis = -1;
  for (const Piece& p : pieces) {
    const SliceParams& s = p.place();
    for (int i = 0; i < whole.rank(); ++i) {
      if (s.step[i] != 1) return -1;
      if (s.start[i] == 0 && s.stop[i] == whole[i]) continue;
      if (axis >= 0 && axis != i) return -1;
      axis = i;
    }
  }
  if (axis < 0) return -1;
  std::sort(pieces.begin(), pieces.end(), [&](const Piece& a, const Piece& b) { return a.place().start[axis] < b.place().start[axis]; });
  int64_t end = 0;
  for (const Piece& p : pieces) {
    if (p.place().start[axis] != end) return -1;
    end = p.place().stop[axis];
  }
  return end == whole[axis] ? axis : -1;
}

/// Whether pieces, in order, are slices of one tensor already, laid out by `order`.
bool lie_in_place(const std::vector<Piece>& pieces, const Spec& whole, const Strides& order) {
  const TensorImpl& first = impl(pieces[0].g);
  for (const Piece& p : pieces) {
    const TensorImpl& x = impl(p.g);
    if (!x.storage || x.storage.get() != first.storage.get() || x.spec.dtype != whole.dtype) return false;
    int64_t offset = first.offset;
    for (int i = 0; i < whole.shape.rank(); ++i) {
      if (x.spec.shape[i] > 1 && x.strides[i] != order[i]) return false;
      offset += p.place().start[i] * order[i];
    }
    if (x.offset != offset) return false;
  }
  return true;
}

struct Task {
  Node* node = nullptr;    // or
  Tensor leaf;             // a leaf
  uint64_t seq = 0;        // the node's; 0 for leaves
  int first_target = 0;    // where the targets of its edges begin
  int waiting = 0;         // leaf: gradients still to come
  bool needed = true;      // leads to an input of interest
  Tensors grads;           // one an output of the node; one for a leaf
  Tensor second;           // beside grads[0], for a row that adds the two itself
  std::vector<Piece> pieces;  // gradients of slices of the tensor, not yet in `grads`
  const void* key() const { return node ? static_cast<const void*>(node) : static_cast<const void*>(leaf.impl()); }
};

/// What a pass works with; kept by the thread for the next pass.
struct Buffers {
  std::vector<Task> tasks;
  std::vector<int> slots;    // open addressing: task + 1, 0 for none
  std::vector<int> targets;  // tasks that the edges of nodes lead to; -1 where no gradient flows
  std::vector<int> order;    // nodes, latest first
  std::vector<int> stack;
};
thread_local Buffers spare;

/// Several threads may run backward passes that end in the same leaf.
base::Mutex leaf_locks[16];

struct Engine {
  const BackwardRequest& r;
  Buffers b = std::move(spare);  // a pass inside this one finds none and makes its own
  std::vector<Callback<void()>> at_end;
  Tensors results;

  explicit Engine(const BackwardRequest& request) : r(request) { b.slots.assign(std::max<size_t>(64, b.slots.size() > 4096 ? 64 : b.slots.size()), 0); }
  ~Engine() {
    b.tasks.clear(), b.targets.clear(), b.order.clear(), b.stack.clear();
    if (b.tasks.capacity() < 65536) spare = std::move(b);
  }

  static const void* key(const Edge& e) { return e.node ? static_cast<const void*>(e.node.get()) : static_cast<const void*>(e.leaf.impl()); }
  size_t place(const void* k) const { return size_t((uint64_t(reinterpret_cast<uintptr_t>(k)) >> 4) * 0x9e3779b97f4a7c15 >> 20) & (b.slots.size() - 1); }
  int find(const void* k) const {
    for (size_t at = place(k);; at = (at + 1) & (b.slots.size() - 1)) {
      if (b.slots[at] == 0) return -1;
      if (b.tasks[size_t(b.slots[at] - 1)].key() == k) return b.slots[at] - 1;
    }
  }
  /// The task of the node or leaf that `e` leads to; a new one goes onto the stack.
  int task_of(const Edge& e) {
    const void* k = key(e);
    size_t at = place(k);
    for (; b.slots[at]; at = (at + 1) & (b.slots.size() - 1))
      if (b.tasks[size_t(b.slots[at] - 1)].key() == k) return b.slots[at] - 1;
    const int i = int(b.tasks.size());
    Task& t = b.tasks.emplace_back();
    if (e.node) {
      t.node = static_cast<Node*>(e.node.get()), t.seq = t.node->seq;
      t.grads.resize(t.node->out_specs.size());
      b.order.push_back(i);
      b.stack.push_back(i);
    } else {
      t.leaf = e.leaf, t.grads.resize(1);
    }
    b.slots[at] = i + 1;
    if (b.tasks.size() * 2 > b.slots.size()) {
      b.slots.assign(b.slots.size() * 4, 0);
      for (size_t j = 0; j < b.tasks.size(); ++j) {
        size_t free = place(b.tasks[j].key());
        while (b.slots[free]) free = (free + 1) & (b.slots.size() - 1);
        b.slots[free] = int(j) + 1;
      }
    }
    return i;
  }

  /// Walks from the outputs, finds every task, and counts the gradients that leaves will get.
  void discover(const std::vector<Edge>& roots) {
    for (const Edge& e : roots)
      if (const int t = task_of(e); !e.node) ++b.tasks[size_t(t)].waiting;
    while (!b.stack.empty()) {
      const int i = b.stack.back();
      b.stack.pop_back();
      const Node& n = *b.tasks[size_t(i)].node;
      b.tasks[size_t(i)].first_target = int(b.targets.size());
      for (const Edge& e : n.edges) {
        const int t = e.valid() ? task_of(e) : -1;
        b.targets.push_back(t);
        if (t >= 0 && !e.node) ++b.tasks[size_t(t)].waiting;
      }
    }
    std::sort(b.order.begin(), b.order.end(), [&](int x, int y) { return b.tasks[size_t(x)].seq > b.tasks[size_t(y)].seq; });
  }

  /// With inputs given, marks only what lies on a path to one of them.
  void prune() {
    if (!r.inputs) return;
    for (Task& t : b.tasks) t.needed = false;
    for (const Tensor& x : *r.inputs)
      if (const int i = find(key(edge_of(x))); i >= 0) b.tasks[size_t(i)].needed = true;
    for (size_t k = b.order.size(); k-- > 0;) {  // dependencies first
      Task& t = b.tasks[size_t(b.order[k])];
      for (int64_t e = 0; e < t.node->edges.size(); ++e)
        if (const int to = b.targets[size_t(t.first_target + e)]; to >= 0 && b.tasks[size_t(to)].needed) t.needed = true;
    }
  }

  /// Nobody else sees the memory of g.
  static bool exclusive(const Tensor& g) {
    const TensorImpl& gi = impl(g);
    return gi.refs.load() == 1 && gi.storage && gi.storage.use_count() == 1 && is_dense(gi.spec.shape, gi.strides);
  }
  /// Sums may be made in place: nothing records them.
  bool plain() const { return !r.create_graph && !scope().trace; }

  /// Whether the row of `t` adds two gradients of its first result in the pass that reads them.
  bool takes_two(const Task& t, const Tensor& g) const {
    if (!t.node || !t.node->op || !t.node->op->adds_gradients || t.second.defined() || r.create_graph || r.inputs) return false;
    const Node& n = *t.node;
    const int with = n.op->adds_for;
    return n.hooks.empty() && n.out_hooks.empty() && (with < 0 || (n.edges.size() > with && n.edges[with].valid())) &&
           impl(t.grads[0]).spec == impl(g).spec && has_kernel(*n.op->adds_gradients, impl(g).device.type);
  }
  void deliver(int task, uint32_t slot, Tensor g) {
    if (!b.tasks[size_t(task)].pieces.empty()) join(task);
    Tensor& sum = b.tasks[size_t(task)].grads[slot];
    if (!sum.defined()) sum = std::move(g);
    else if (slot == 0 && takes_two(b.tasks[size_t(task)], g)) b.tasks[size_t(task)].second = std::move(g);
    else if (plain() && exclusive(sum) && impl(sum).spec == impl(g).spec) sum.add_(g);
    else sum = add(sum, g);
  }
  /// Adds the gradient of a slice to where it belongs, once the whole's gradient has memory: n slices of one tensor cost one pass over it, not n.
  bool deliver_slice(Node& n, int task, const Tensor& g) {
    if (n.op != &op_slice_view || n.released || !plain() || task < 0 || !b.tasks[size_t(task)].needed) return false;
    Tensor& sum = b.tasks[size_t(task)].grads[n.edges[0].node ? n.edges[0].slot : 0];
    if (!sum.defined() || !exclusive(sum) || impl(sum).spec.dtype != impl(g).spec.dtype) return false;
    ScopeGuard guard;
    scope().grad = false, scope().autocast = DType::none, scope().path = n.path, scope().phase = Phase::backward;
    slice_view(sum, *reinterpret_cast<const SliceParams*>(n.params)).add_(g);
    return true;
  }
  /// Keeps the gradient of a slice until the whole's is wanted: slices that share out a tensor are written once, side by side.
  bool keep_slice(Node& n, int task, const Tensor& g) {
    if (n.op != &op_slice_view || n.released || r.create_graph || task < 0 || !b.tasks[size_t(task)].needed) return false;
    Task& t = b.tasks[size_t(task)];
    if (t.grads.size() != 1 || t.grads[0].defined()) return false;
    t.pieces.push_back({Ref<NodeBase>(&n), g});
    return true;
  }
  void join(int task) {
    std::vector<Piece> pieces = std::move(b.tasks[size_t(task)].pieces);
    b.tasks[size_t(task)].pieces.clear();
    Node& first = *static_cast<Node*>(pieces[0].node.get());
    const Spec& whole = first.in_specs[0];
    const int axis = axis_of(pieces, whole.shape);
    const Strides order = is_dense(whole.shape, first.in_strides) ? first.in_strides : contiguous_strides(whole.shape);
    if (axis >= 0 && scope().trace) {  // by ops, which can be recorded: axes in the order of memory, side by side, and back
      ScopeGuard guard;
      scope().grad = false, scope().autocast = DType::none, scope().path = first.path;
      const int rank = whole.shape.rank();
      Axes there, back;
      for (int i = 0; i < rank; ++i) there.push_back(i);
      std::stable_sort(there.begin(), there.end(), [&](int64_t x, int64_t y) { return order[int(x)] > order[int(y)]; });
      back.resize(rank);
      for (int i = 0; i < rank; ++i) back[int(there[i])] = i;
      Tensors parts;
      for (const Piece& p : pieces) parts.push_back(permute(p.g, there));
      b.tasks[size_t(task)].grads[0] = permute(concat(parts, {.axis = int(back[axis])}), back);
      return;
    }
    if (axis >= 0 && lie_in_place(pieces, whole, order)) {
      b.tasks[size_t(task)].grads[0] = make_view(pieces[0].g, whole.shape, order, impl(pieces[0].g).offset);
      return;
    }
    if (axis >= 0) {
      const Tensor sum = make_tensor(whole.dtype, whole.shape, order, impl(pieces[0].g).device);
      ScopeGuard guard;
      scope().grad = false, scope().autocast = DType::none, scope().path = first.path;
      // What the pieces hold was seen when they were made; only where it is broken must the monitor learn where it went.
      // Of a device's it is not known yet whether they are.
      if (scope().monitor && impl(sum).device == cpu_device && static_cast<MonitorState*>(scope().monitor)->tainted.empty()) scope().monitor = nullptr;
      for (const Piece& p : pieces) slice_view(sum, p.place()).copy_(p.g);
      b.tasks[size_t(task)].grads[0] = sum;
      return;
    }
    for (Piece& p : pieces) {
      Node& n = *static_cast<Node*>(p.node.get());
      if (deliver_slice(n, task, p.g)) continue;
      Tensors made = n.run({p.g}, false);
      deliver(task, 0, std::move(made[0]));
    }
  }
  /// One of the gradients of a leaf came or will not come.
  void arrived(int task) {
    Task& t = b.tasks[size_t(task)];
    if (!t.node && --t.waiting == 0) finish_leaf(t);
  }

  /// A hook's replacement must be what it replaces.
  static Tensor checked(const Tensor& g, const Spec& want) {
    if (!(impl(g).spec == want))
      raise(Error(ErrorCode::autograd, "a hook replaced a gradient by a tensor of another dtype or shape").op("backward").arg("gradient", to_string(want)).arg("replacement", to_string(impl(g).spec)));
    return g;
  }

  static void apply_hooks(const Tensor& owner, Tensor& g) {
    const GradMeta* m = impl(owner).grad;
    if (!m || !m->hooks || !g.defined()) return;
    const auto hooks = static_cast<TensorHooks*>(m->hooks)->grad;  // a copy: a hook may remove itself
    for (auto& [id, hook] : hooks)
      if (Tensor changed = hook(g); changed.defined()) g = checked(changed, impl(owner).spec);
  }

  void accumulate(const Tensor& leaf, Tensor g) {
    GradMeta& m = *impl(leaf).grad;
    add_to_leaf(leaf, m, std::move(g));
    if (auto* watch = leaf_watch.load(std::memory_order_relaxed)) watch(leaf);
    if (!m.hooks) return;
    const auto hooks = static_cast<TensorHooks*>(m.hooks)->post;
    for (auto& [id, hook] : hooks) hook(leaf);
  }

  void add_to_leaf(const Tensor& leaf, GradMeta& m, Tensor g) {
    const std::lock_guard lock(leaf_locks[size_t(reinterpret_cast<uintptr_t>(leaf.impl()) >> 8) % std::size(leaf_locks)]);
    if (!m.grad.defined()) {
      Tensor first = r.create_graph || exclusive(g) ? g : g.clone();
      if (TraceSink* trace = scope().trace) trace->gradient(trace, leaf, first);
      m.grad = std::move(first);
    } else if (r.create_graph) {
      Tensor sum = add(m.grad, g);
      if (TraceSink* trace = scope().trace) trace->gradient(trace, leaf, sum);
      m.grad = std::move(sum);
    } else {
      m.grad.add_(g);
    }
  }

  void capture(const void* k, uint32_t slot, const Tensor& g) {
    if (!r.inputs) return;
    for (int64_t i = 0; i < r.inputs->size(); ++i) {
      const Edge e = edge_of((*r.inputs)[i]);
      if (e.valid() && key(e) == k && (e.leaf.defined() || e.slot == slot)) results[i] = g;
    }
  }

  void finish_leaf(Task& t) {
    if (!t.pieces.empty()) join(int(&t - b.tasks.data()));
    const Tensor leaf = t.leaf;
    Tensor g = std::move(t.grads[0]);
    t.grads[0] = Tensor();
    if (!g.defined()) return;
    apply_hooks(leaf, g);
    if (r.inputs) return capture(leaf.impl(), 0, g);
    accumulate(leaf, std::move(g));
  }

  void run_node(int i) {
    if (!b.tasks[size_t(i)].pieces.empty()) join(i);
    Node& n = *b.tasks[size_t(i)].node;
    Tensors cotangents = std::move(b.tasks[size_t(i)].grads);
    const bool needed = b.tasks[size_t(i)].needed;
    const int first = b.tasks[size_t(i)].first_target;
    bool any = false;
    for (int64_t k = 0; k < cotangents.size(); ++k) {
      if (!n.out_hooks.empty() && cotangents[k].defined()) {
        const auto hooks = n.out_hooks;
        for (const Node::OutHook& h : hooks)
          if (h.slot == uint32_t(k))
            if (Tensor changed = h.hook(cotangents[k]); changed.defined()) cotangents[k] = checked(changed, n.out_specs[k]);
      }
      any |= cotangents[k].defined();
      if (r.inputs) capture(&n, uint32_t(k), cotangents[k]);
    }
    const bool run = any && needed;
    if (run) {
      Tensors grads;
      const int to = b.targets[size_t(first)];
      const bool kept = n.hooks.empty() && (keep_slice(n, to, cotangents[0]) || deliver_slice(n, to, cotangents[0]));
      if (!kept) {
        const Tensor second = std::move(b.tasks[size_t(i)].second);
        grads = n.run(cotangents, r.create_graph, second.defined() ? &second : nullptr);
      }
      for (int64_t k = 0; k < grads.size(); ++k) {
        const int to = b.targets[size_t(first + k)];
        if (to >= 0 && grads[k].defined() && b.tasks[size_t(to)].needed) deliver(to, n.edges[k].node ? n.edges[k].slot : 0, std::move(grads[k]));
      }
      if (!r.retain_graph && !r.create_graph) n.release_saved();
    }
    for (int64_t k = 0; k < n.edges.size(); ++k)
      if (const int to = b.targets[size_t(first + k)]; to >= 0) arrived(to);
  }

  Tensors run();
};

thread_local Engine* current = nullptr;

Tensors Engine::run() {
  if (r.cotangents.size() && r.cotangents.size() != r.outputs.size())
    raise(Error(ErrorCode::value, "got " + std::to_string(r.cotangents.size()) + " cotangents for " + std::to_string(r.outputs.size()) + " outputs").op("backward").hint("one cotangent an output, an empty tensor where the output is a single number"));
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
      raise(Error(ErrorCode::shape, "the cotangent's shape differs from the output's").op("backward").arg("output", to_string(impl(y).spec)).arg("cotangent", to_string(impl(g).spec)).hint("the cotangent is the derivative of what comes after, one number an element of the output"));
    }
    roots.push_back(edge_of(y));
    seeds.push_back(std::move(g));
  }
  if (r.inputs) results.resize(r.inputs->size());
  discover(roots);
  prune();
  for (size_t i = 0; i < roots.size(); ++i) deliver(find(key(roots[i])), roots[i].node ? roots[i].slot : 0, std::move(seeds[i]));
  for (const Edge& e : roots)
    if (!e.node) arrived(find(key(e)));
  for (size_t k = 0; k < b.order.size(); ++k) run_node(b.order[k]);
  if (r.inputs && !r.allow_unused)
    for (int64_t i = 0; i < results.size(); ++i)
      if (!results[i].defined())
        raise(Error(ErrorCode::autograd, "the outputs do not depend on input " + std::to_string(i)).op("grad").arg("input", to_string(impl((*r.inputs)[i]).spec)).hint("pass allow_unused = true to get an empty tensor for it"));
  for (auto& f : at_end) f();
  return std::move(results);
}

}  // namespace

Tensors run_backward(const BackwardRequest& r) {
  if (scope().monitor && !r.inputs && r.outputs.size() == 1 && r.outputs[0].defined()) static_cast<MonitorState*>(scope().monitor)->root(r.outputs[0]);
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

bool accumulating() { return current && !current->r.inputs; }

Tensors grad(const Tensors& outputs, const Tensors& inputs, const GradOptions& o, const Tensors& cotangents) {
  for (const Tensor& x : inputs)
    if (!x.defined() || !x.tracked()) raise(Error(ErrorCode::autograd, "an input does not require a gradient").op("grad").hint("create it with {.requires_grad = true}"));
  return run_backward({outputs, cotangents, &inputs, o.retain_graph, o.create_graph, o.allow_unused});
}
void backward(const Tensors& outputs, const Tensors& cotangents, const GradOptions& o) { run_backward({outputs, cotangents, nullptr, o.retain_graph, o.create_graph, true}); }

}  // namespace keel
