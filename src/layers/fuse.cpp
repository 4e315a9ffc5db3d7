// Finding chains. Nodes are looked at in their order. A chain that may still grow is open; an elementwise node that reads what open chains
// of its shape make joins them, and they become one. Any other node that needs what an open chain makes, or touches memory that it
// writes, closes it: the chain runs before that node. Open chains never depend on each other, so all of a chain may run where it closes.
#include "layers/fuse.h"

#include <algorithm>

#include "keel/ops/norm.h"
#include "keel/ops/softmax.h"
#include "op/checks.h"

namespace keel {

extern OpDef op_assign, op_copy, op_softmax, op_softmax_backward, op_log_softmax, op_log_softmax_backward, op_layer_norm, op_rms_norm,
    op_add, op_layer_norm_backward, op_rms_norm_backward;

namespace {

using Kind = GraphValue::Kind;

constexpr size_t kMostNodes = 32, kMostWithRows = 16;  // of a chain
constexpr size_t kMostTouches = 24;                    // values from outside that a chain reads or writes
constexpr int kWindow = 64;  // nodes that a chain waits for its next one: what it reads and frees lives that much longer

/// Whether no two elements share memory.
bool apart(const Shape& s, const Strides& st) {
  int order[kMaxRank], n = 0;
  for (int i = 0; i < s.rank(); ++i)
    if (s[i] > 1) order[n++] = i;
  std::sort(order, order + n, [&](int a, int b) { return st[a] < st[b]; });
  int64_t reach = 0;  // of the axes so far
  for (int k = 0; k < n; ++k) {
    if (st[order[k]] <= reach) return false;
    reach += st[order[k]] * (s[order[k]] - 1);
  }
  return true;
}

struct Finder {
  const GraphData& g;
  const char* (*takes)(const FusedOp& o, const DType* in, const Shape& shape);
  std::vector<int> origin;    // of each value: what an alias stands for
  std::vector<int> owner;     // of each value: the open chain whose nodes make it, or -1
  std::vector<char> further;  // values that are no op's first result
  struct Open {
    std::vector<int> nodes, after;
    Shape shape;
    std::vector<int> reads, writes;  // values from outside whose memory it reads or writes
    int at = 0;                      // of its last node
    bool open = true;
    DType rows = DType::none;  // of its ops on rows, where it has any
    bool assigns = false;
  };
  std::vector<Open> all;
  std::vector<int> open;  // indices into `all`, in the order of their first nodes
  std::vector<FusePlan::Step> steps;

  Finder(const GraphData& graph, const char* (*may)(const FusedOp&, const DType*, const Shape&))
      : g(graph), takes(may), origin(g.values.size()), owner(g.values.size(), -1), further(g.values.size()) {
    for (size_t i = 0; i < origin.size(); ++i) origin[i] = int(i);
  }

  const GraphValue& value(int v) const { return g.values[size_t(v)]; }
  bool number(int v) const { return value(v).kind == Kind::number; }
  bool is_assign(const GraphNode& n) const { return n.op == &op_assign; }
  /// Whether the op computes along the last axis, of operands of its result's shape; those of norms beside x are one row for all.
  bool on_rows(const GraphNode& n) const {
    const GraphValue& y = value(n.out[0]);
    const Shape& shape = y.spec.shape;
    const bool norm = n.op == &op_layer_norm || n.op == &op_rms_norm;
    if (shape.rank() == 0) return false;
    if (norm) {
      if (reinterpret_cast<const LayerNormParams*>(n.params.get())->axes != 1) return false;
    } else {
      if (n.op != &op_softmax && n.op != &op_log_softmax && n.op != &op_softmax_backward && n.op != &op_log_softmax_backward) return false;
      const int64_t axis = reinterpret_cast<const SoftmaxParams*>(n.params.get())->axis;
      if (axis != -1 && axis != shape.rank() - 1) return false;
    }
    for (int64_t i = 0; i < n.in.size(); ++i) {
      if (n.in[i] < 0) continue;
      const GraphValue& x = value(n.in[i]);
      if (number(n.in[i]) || x.spec.dtype != y.spec.dtype) return false;
      if (norm && i ? x.spec.shape.rank() != 1 || x.spec.shape[0] != shape[-1] : !(x.spec.shape == shape)) return false;
    }
    for (int64_t i = 1; i < n.out.size(); ++i)
      if (n.out[i] >= 0 && (value(n.out[i]).kind != Kind::result || value(n.out[i]).root != n.out[i])) return false;
    return true;
  }
  /// A gradient of a norm, to which another gradient may be added while it is written: a chain of two.
  static bool adds(const GraphNode& n) { return n.op == &op_layer_norm_backward || n.op == &op_rms_norm_backward; }
  bool adds_fits(const GraphNode& n) const {
    const auto& p = *reinterpret_cast<const NormBackwardParams*>(n.params.get());
    const GraphValue &dx = value(n.out[0]), &g = value(n.in[0]), &x = value(n.in[1]);
    if (p.axes != 1 || !p.need_x || dx.spec.shape.rank() == 0 || !(g.spec == dx.spec) || !(x.spec == dx.spec)) return false;
    for (const int v : n.in)
      if (v >= 0 && (number(v) || value(v).offset || !is_contiguous(value(v).spec.shape, value(v).strides))) return false;
    for (const int v : n.out)
      if (v >= 0 && (value(v).kind != Kind::result || value(v).root != v)) return false;
    return is_contiguous(dx.spec.shape, dx.strides);
  }
  /// The addition that goes with it.
  bool is_its_sum(const GraphNode& n, const GraphNode& norm) const {
    if (n.op != &op_add || n.in.size() != 2) return false;
    const int a = origin[size_t(n.in[0])], b = origin[size_t(n.in[1])], dx = norm.out[0];
    const int other = a == dx ? b : a;
    if ((a == dx) == (b == dx) || number(other) || owner[size_t(other)] >= 0) return false;
    const GraphValue &y = value(n.out[0]), &d = value(dx), &o = value(other);
    return y.spec == d.spec && o.spec == d.spec && y.strides == d.strides && o.strides == d.strides && o.offset == 0;
  }
  /// Operands without absent ones at the end; -1: one in front of another is absent.
  static int operands(const GraphNode& n) {
    int64_t count = n.in.size();
    while (count && n.in[count - 1] < 0) --count;
    for (int64_t i = 0; i < count; ++i)
      if (n.in[i] < 0) return -1;
    return int(count);
  }
  DType rows_of(const GraphNode& n) const { return is_assign(n) || n.op->elementwise ? DType::none : value(n.out[0]).spec.dtype; }
  /// The same elements of the same memory.
  bool same_place(int a, int b) const {
    const GraphValue &x = value(a), &y = value(b);
    return a == b || (x.root == y.root && x.spec == y.spec && x.strides == y.strides && x.offset == y.offset);
  }

  /// Whether the node is one that chains are made of. `shape`: of what it computes.
  bool fits(const GraphNode& n, Shape& shape) const {
    if (n.kind != GraphNode::Kind::op) return false;
    const int count = operands(n);
    if (count <= 0 || count > FusedOp::kMostInputs) return false;
    if (is_assign(n)) {
      const GraphValue &x = value(n.in[0]), &y = value(n.in[1]);
      shape = x.spec.shape;
      return n.out.size() == 1 && n.out[0] == n.in[0] && !number(n.in[1]) && x.kind != Kind::number && x.spec.dtype == y.spec.dtype &&
             shape.numel() && apart(x.spec.shape, x.strides);
    }
    if (n.op->random || n.op->view || n.writes.size() || !n.out.size() || n.out[0] < 0) return false;
    if (n.op->elementwise ? n.out.size() != 1 || count != n.in.size() : !(adds(n) ? adds_fits(n) : on_rows(n))) return false;
    const GraphValue& y = value(n.out[0]);
    if (y.kind != Kind::result || y.root != n.out[0]) return false;
    shape = y.spec.shape;
    if (shape.unknown() || shape.numel() == 0 || !apart(shape, y.strides)) return false;
    if (n.op == &op_copy) return true;
    FusedOp o{n.op->name, n.params.get(), y.spec.dtype, int32_t(count), {}};
    DType in[FusedOp::kMostInputs] = {};
    for (int i = 0; i < count; ++i) {
      const ArgDef& a = n.op->in[std::min(i, n.op->in.size() - 1)];
      if (a.host || a.written || a.variadic) return false;
      in[i] = value(n.in[i]).spec.dtype, o.in[i] = FusedSlot(i);
    }
    return !takes || !takes(o, in, shape);
  }

  bool root_among(int root, const std::vector<int>& values) const {
    return std::any_of(values.begin(), values.end(), [&](int v) { return value(v).root == root; });
  }
  /// Whether the node must come after chain `c`.
  bool follows(const GraphNode& n, int c) const {
    const Open& o = all[size_t(c)];
    for (int64_t i = 0; i < n.in.size(); ++i) {
      if (n.in[i] < 0 || number(n.in[i])) continue;
      if (owner[size_t(origin[size_t(n.in[i])])] == c) return true;
      const int root = value(n.in[i]).root;
      if (owner[size_t(root)] == c || root_among(root, o.writes)) return true;
      if (n.op && n.op->in.size() && n.op->in[std::min(int(i), n.op->in.size() - 1)].written && root_among(root, o.reads)) return true;
    }
    for (const GraphAccess& w : n.writes)
      if (owner[size_t(w.root)] == c || root_among(w.root, o.reads) || root_among(w.root, o.writes)) return true;
    return false;
  }
  /// Whether ops on rows of dtype `rows`, if any, go with a chain, and with writes in place if `assigns`: a row that a thread has written
  /// another may still read.
  static bool rows_agree(DType rows, bool assigns, const Open& o) {
    if (rows == DType::none && o.rows == DType::none) return true;
    return (rows == o.rows || rows == DType::none || o.rows == DType::none) && !assigns && !o.assigns && o.nodes.size() < kMostWithRows;
  }
  const GraphNode& first_of(const Open& o) const { return g.nodes[size_t(o.nodes.front())]; }
  /// Whether chain `c` can hold the node: what it writes is touched at just one place, element by element.
  bool agrees(const GraphNode& n, const Open& o) const {
    const bool assigns = is_assign(n);
    if (!o.nodes.empty() && adds(n)) return false;
    if (!o.nodes.empty() && adds(first_of(o))) return o.nodes.size() == 1 && is_its_sum(n, first_of(o));
    if (!rows_agree(rows_of(n), assigns, o)) return false;
    for (const int id : n.in) {
      if (id < 0 || number(id)) continue;
      const int v = origin[size_t(id)];
      if (owner[size_t(v)] >= 0 && value(v).kind == Kind::result && further[size_t(v)]) return false;
      for (const int w : o.writes)
        if (value(w).root == value(v).root && !same_place(v, w)) return false;
    }
    if (!assigns) return true;
    const int x = origin[size_t(n.in[0])];
    if (owner[size_t(x)] >= 0) return true;  // its own memory: nobody has another view of it yet
    for (const int r : o.reads)
      if (value(r).root == value(x).root && !same_place(r, x)) return false;
    const int y = origin[size_t(n.in[1])];
    return owner[size_t(y)] >= 0 || value(y).root != value(x).root || same_place(x, y);
  }

  void close(int c) {
    Open& o = all[size_t(c)];
    o.open = false;
    open.erase(std::find(open.begin(), open.end(), c));
    for (int& w : owner)
      if (w == c) w = -1;
    steps.push_back({-1, c, {}});
  }
  void join(int into, int from) {
    Open &a = all[size_t(into)], &b = all[size_t(from)];
    a.nodes.insert(a.nodes.end(), b.nodes.begin(), b.nodes.end());
    std::sort(a.nodes.begin(), a.nodes.end());
    a.after.insert(a.after.end(), b.after.begin(), b.after.end());
    std::sort(a.after.begin(), a.after.end());
    a.reads.insert(a.reads.end(), b.reads.begin(), b.reads.end());
    a.writes.insert(a.writes.end(), b.writes.begin(), b.writes.end());
    if (a.rows == DType::none) a.rows = b.rows;
    a.assigns |= b.assigns;
    for (int& w : owner)
      if (w == from) w = into;
    b.open = false;
    open.erase(std::find(open.begin(), open.end(), from));
  }
  void add(int c, int at) {
    Open& o = all[size_t(c)];
    const GraphNode& n = g.nodes[size_t(at)];
    o.nodes.push_back(at), o.at = at;
    const bool assigns = is_assign(n);
    o.assigns |= assigns;
    if (const DType rows = rows_of(n); rows != DType::none) o.rows = rows;
    const auto touch = [&](std::vector<int>& list, int v) {
      for (const int w : list)
        if (same_place(v, w)) return;
      list.push_back(v);
    };
    for (int64_t i = assigns; i < n.in.size(); ++i) {
      if (n.in[i] < 0) continue;
      const int v = origin[size_t(n.in[i])];
      if (!number(v) && owner[size_t(v)] != c) touch(o.reads, v);
    }
    if (assigns) {
      const int x = origin[size_t(n.in[0])];
      if (owner[size_t(x)] != c) touch(o.writes, x);
    } else {
      for (int64_t i = 0; i < n.out.size(); ++i)
        if (n.out[i] >= 0) owner[size_t(n.out[i])] = c, further[size_t(n.out[i])] = i > 0;
    }
  }

  void see(int at) {
    const GraphNode& n = g.nodes[size_t(at)];
    const auto close_all = [&](auto which) {
      for (size_t i = 0; i < open.size();)
        if (which(open[i]))
          close(open[i]);
        else
          ++i;
    };
    close_all([&](int c) { return at - all[size_t(c)].at > kWindow; });
    Shape shape;
    if (n.kind == GraphNode::Kind::alias) {
      const int from = origin[size_t(n.in[0])];
      origin[size_t(n.out[0])] = from;
      if (const int c = owner[size_t(from)]; c >= 0) return all[size_t(c)].after.push_back(at);
      return steps.push_back({at, -1, {}});  // touches no memory
    }
    if (n.kind == GraphNode::Kind::gradient) {
      const int c = n.in[1] < 0 ? -1 : owner[size_t(origin[size_t(n.in[1])])];
      close_all([&](int o) {  // the last gradient of a leaf counts
        return o != c && std::any_of(all[size_t(o)].after.begin(), all[size_t(o)].after.end(), [&](int k) {
                 return g.nodes[size_t(k)].kind == GraphNode::Kind::gradient && g.nodes[size_t(k)].in[0] == n.in[0];
               });
      });
      if (c >= 0) return all[size_t(c)].after.push_back(at);
      return steps.push_back({at, -1, {}});
    }
    if (!fits(n, shape)) {
      close_all([&](int c) { return follows(n, c); });
      return steps.push_back({at, -1, {}});
    }
    // The chains that it goes on with; they are independent of each other, and so may run together.
    int home = -1;
    for (size_t i = 0; i < open.size();) {
      const int c = open[i];
      if (!follows(n, c)) {
        ++i;
        continue;
      }
      const Open& o = all[size_t(c)];
      bool takes_it = o.shape == shape && o.nodes.size() < kMostNodes &&
                      o.reads.size() + o.writes.size() + size_t(n.in.size()) <= kMostTouches && agrees(n, o);
      if (takes_it && home >= 0) {
        const Open& h = all[size_t(home)];
        takes_it = !adds(first_of(h)) && !adds(first_of(o)) && h.nodes.size() + o.nodes.size() < kMostNodes &&
                   rows_agree(h.rows, h.assigns, o) && (h.rows == DType::none || h.nodes.size() + o.nodes.size() < kMostWithRows) &&
                   h.reads.size() + h.writes.size() + o.reads.size() + o.writes.size() + size_t(n.in.size()) <= kMostTouches;
      }
      if (!takes_it) {
        close(c);
      } else if (home < 0) {
        home = c, ++i;
      } else {
        join(home, c);
      }
    }
    if (home < 0) {
      home = int(all.size());
      all.push_back({{}, {}, shape, {}, {}, at, true, DType::none, false});
      open.push_back(home);
      if (!agrees(n, all.back())) {  // a write that shifts elements of its own memory
        open.pop_back(), all.back().open = false;
        return steps.push_back({at, -1, {}});
      }
    }
    add(home, at);
  }

  /// Makes of the nodes a program's slots.
  FuseChain chain_of(const Open& o, const std::vector<std::vector<int>>& users) const {
    FuseChain c;
    c.nodes = o.nodes, c.shape = o.shape, c.rows = o.rows != DType::none;
    std::merge(o.nodes.begin(), o.nodes.end(), o.after.begin(), o.after.end(), std::back_inserter(c.one_by_one));
    struct Place {
      int value, slot;  // slot < 0: source -1 - slot, for now
    };
    std::vector<Place> places;
    const auto find = [&](int v) -> Place* {
      for (Place& p : places)
        if (number(v) || number(p.value) ? p.value == v : same_place(p.value, v)) return &p;
      return nullptr;
    };
    const auto slot_of = [&](int id) {
      const int v = origin[size_t(id)];
      if (const Place* p = find(v)) return p->slot;
      c.sources.push_back(v);
      places.push_back({v, -int(c.sources.size())});
      return places.back().slot;
    };
    const auto put = [&](int v, int slot) {
      if (Place* p = find(v))
        p->slot = slot;
      else
        places.push_back({v, slot});
    };
    std::vector<std::pair<int, std::vector<int>>> ops;
    std::vector<int> made, written;
    struct Part {
      int value, of, part;
    };
    std::vector<Part> parts;
    for (const int at : o.nodes) {
      const GraphNode& n = g.nodes[size_t(at)];
      if (is_assign(n)) {
        const int slot = slot_of(n.in[1]), x = origin[size_t(n.in[0])];
        put(x, slot);
        const auto here = [&](int v) { return same_place(v, x); };
        if (std::none_of(made.begin(), made.end(), here) && std::none_of(written.begin(), written.end(), here)) written.push_back(x);
        continue;
      }
      made.push_back(n.out[0]);
      for (int64_t i = 1; i < n.out.size(); ++i)
        if (n.out[i] >= 0) parts.push_back({n.out[i], n.out[0], int(i)});
      if (n.op == &op_copy) {
        put(n.out[0], slot_of(n.in[0]));
        continue;
      }
      std::vector<int> in;
      for (const int v : n.in)
        if (v >= 0) in.push_back(slot_of(v));
      put(n.out[0], int(ops.size()));
      ops.emplace_back(at, in);
    }
    const int first = int(c.sources.size());
    const auto final_slot = [&](int slot) { return FusedSlot(slot < 0 ? -1 - slot : first + slot); };
    for (const auto& [at, in] : ops) {
      c.ops.push_back({at, {}});
      for (const int s : in) c.ops.back().in.push_back(final_slot(s));
    }
    // What others see: nodes outside of the chain, and what the graph gives back.
    const auto inside = [&](int at) { return std::binary_search(o.nodes.begin(), o.nodes.end(), at); };
    std::vector<int> seen;  // values of the chain, under all their names, that others use
    for (const int at : o.after) {
      const GraphNode& n = g.nodes[size_t(at)];
      bool needed = n.kind == GraphNode::Kind::gradient;
      if (!needed)
        for (const int u : users[size_t(n.out[0])]) needed |= u < 0 || !inside(u);
      if (!needed) continue;
      c.after.push_back(at);
      seen.push_back(origin[size_t(n.kind == GraphNode::Kind::gradient ? n.in[1] : n.in[0])]);
    }
    const auto is_needed = [&](int v) {
      bool needed = std::find(seen.begin(), seen.end(), v) != seen.end();
      for (const int u : users[size_t(v)]) needed |= u < 0 || (!inside(u) && std::find(o.after.begin(), o.after.end(), u) == o.after.end());
      return needed;
    };
    for (const int v : made)
      if (is_needed(v)) c.results.push_back({final_slot(find(v)->slot), v, false, 0});
    for (const Part& p : parts)
      if (is_needed(p.value)) c.results.push_back({final_slot(find(p.of)->slot), p.value, false, p.part});
    for (const int v : written) c.results.push_back({final_slot(find(v)->slot), v, true, 0});
    return c;
  }

  FusePlan plan() {
    for (size_t i = 0; i < g.nodes.size(); ++i) see(int(i));
    while (!open.empty()) close(open.front());
    std::vector<std::vector<int>> users(g.values.size());  // -1: the graph gives it back
    for (size_t i = 0; i < g.nodes.size(); ++i)
      for (const int v : g.nodes[i].in)
        if (v >= 0) users[size_t(v)].push_back(int(i));
    for (const int v : g.outputs)
      if (v >= 0) users[size_t(v)].push_back(-1);
    FusePlan p;
    for (const FusePlan::Step& s : steps) {
      if (s.chain < 0) {
        p.steps.push_back(s);
        continue;
      }
      const Open& o = all[size_t(s.chain)];
      FuseChain c = o.nodes.size() > 1 ? chain_of(o, users) : FuseChain();
      if (o.nodes.size() == 1 || c.results.empty()) {
        std::vector<int> nodes = o.nodes;
        nodes.insert(nodes.end(), o.after.begin(), o.after.end());
        std::sort(nodes.begin(), nodes.end());
        for (const int at : nodes) p.steps.push_back({at, -1, {}});
        continue;
      }
      p.steps.push_back({-1, int(p.chains.size()), {}});
      p.chains.push_back(std::move(c));
    }
    // What each value is used for last, as in Recorder::finish.
    std::vector<char> later(g.values.size());
    for (const int v : g.outputs)
      if (v >= 0) later[size_t(v)] = 1;
    for (size_t i = p.steps.size(); i-- > 0;) {
      FusePlan::Step& s = p.steps[i];
      const auto use = [&](int v) {
        if (v < 0 || later[size_t(v)]) return;
        later[size_t(v)] = 1;
        const Kind k = value(v).kind;
        if (k == Kind::result || k == Kind::alias) s.last.push_back(v);
      };
      const auto node = [&](int at) {
        for (const int v : g.nodes[size_t(at)].in) use(v);
        for (const int v : g.nodes[size_t(at)].out) use(v);
      };
      if (s.node >= 0) {
        node(s.node);
        continue;
      }
      // Also what only its own nodes would make, for where they run one by one.
      const FuseChain& c = p.chains[size_t(s.chain)];
      for (const int at : c.one_by_one) node(at);
      for (const int v : c.sources) use(v);
      for (const FuseChain::Result& r : c.results) use(r.value);
    }
    return p;
  }
};

}  // namespace

int64_t FusePlan::saved() const {
  int64_t n = 0;
  for (const FuseChain& c : chains) n += int64_t(c.nodes.size()) - 1;
  return n;
}

FusePlan find_chains(const GraphData& g, const char* (*takes)(const FusedOp& o, const DType* in, const Shape& shape)) {
  return Finder(g, takes).plan();
}

std::string chain_text(const GraphData& g, const FuseChain& c) {
  std::string s;
  for (const int at : c.nodes) s += (s.empty() ? "" : ", ") + std::string(g.nodes[size_t(at)].op->name);
  const int v = c.results.front().value;
  return s + ": " + to_string(g.values[size_t(v)].spec);
}

ChainProgram::ChainProgram(const GraphData& g, const FuseChain& c) {
  for (const int v : c.sources) {
    const GraphValue& x = g.values[size_t(v)];
    FusedSource s{x.spec.dtype, nullptr, {}};
    if (x.kind == Kind::number) {
      s.number = impl(x.held).data;
    } else {
      const int missing = c.shape.rank() - x.spec.shape.rank();
      for (int i = 0; i < c.shape.rank(); ++i) {
        const int at = i - missing;
        s.strides.push_back(at < 0 || x.spec.shape[at] == 1 ? 0 : x.strides[at]);
      }
    }
    sources.push_back(s);
  }
  for (const FuseChain::Op& op : c.ops) {
    const GraphNode& n = g.nodes[size_t(op.node)];
    FusedOp o{n.op->name, n.params.get(), g.values[size_t(n.out[0])].spec.dtype, int32_t(op.in.size()), {}};
    for (int64_t i = 0; i < op.in.size(); ++i) o.in[i] = op.in[i];
    ops.push_back(o);
  }
  for (const FuseChain::Result& r : c.results) results.push_back({r.slot, g.values[size_t(r.value)].strides, r.part});
  program = {c.shape, sources.data(), ops.data(), results.data(), int32_t(sources.size()), int32_t(ops.size()), int32_t(results.size()),
             c.rows};
}

}  // namespace keel
