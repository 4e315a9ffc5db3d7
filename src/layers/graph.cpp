// A recorded graph: running it again, and showing it.
#include <algorithm>

#include "core/device_driver.h"
#include "keel/autograd.h"
#include "keel/error.h"
#include "keel/random.h"
#include "layers/trace.h"
#include "op/checks.h"

namespace keel {
namespace {

using Kind = GraphValue::Kind;

const GraphData& recorded(const Ref<GraphData>& g) {
  if (!g) raise(Error(ErrorCode::value, "an empty Graph").op("Graph").hint("trace(f, inputs) makes one"));
  return *g;
}

void check_spec(const Spec& want, const Tensor& got, const std::string& what) {
  const Spec& have = impl(got).spec;
  if (have == want) return;
  const bool dtype = have.dtype != want.dtype;
  raise(Error(dtype ? ErrorCode::dtype : ErrorCode::shape, what + " was " + to_string(want) + " when the graph was recorded")
            .op("Graph::run")
            .arg("now", to_string(have))
            .hint("record again for other shapes and dtypes"));
}

std::string name(int v) { return "%" + std::to_string(v); }

std::string operand(const GraphData& g, int v) {
  if (v < 0) return "none";
  const GraphValue& x = g.values[size_t(v)];
  return x.kind == Kind::number ? to_string(scalar_of(x.held)) : name(v);
}

std::string where(const GraphNode& n) {
  std::string s = n.path;
  if (n.phase != Phase::forward) s += (s.empty() ? "" : ", ") + std::string(n.phase == Phase::backward ? "backward" : "optimiser");
  return s;
}

/// Values that a node makes, as against inputs that it gives back.
bool fresh(const GraphNode& n, int v) { return v >= 0 && std::find(n.in.begin(), n.in.end(), v) == n.in.end(); }

}  // namespace

Graph::Graph() noexcept = default;
Graph::Graph(GraphData* data) : data_(data) {}
Graph::Graph(const Graph&) noexcept = default;
Graph::Graph(Graph&&) noexcept = default;
Graph& Graph::operator=(const Graph&) noexcept = default;
Graph::~Graph() = default;

int64_t Graph::size() const {
  int64_t n = 0;
  for (const GraphNode& x : recorded(data_).nodes) n += x.kind == GraphNode::Kind::op;
  return n;
}

GraphWalk::GraphWalk(const GraphData& g, const Tensors& inputs) : graph(g), values(g.values.size()) {
  if (inputs.size() != g.inputs.size())
    raise(Error(ErrorCode::value, "the graph takes " + std::to_string(g.inputs.size()) + " inputs, got " + std::to_string(inputs.size()))
              .op("Graph::run"));
  for (size_t i = 0; i < values.size(); ++i) {
    const GraphValue& v = g.values[i];
    if (v.kind == Kind::captured) check_spec(v.spec, v.held, "a tensor that the recorded code used");
    if (v.kind == Kind::captured || v.kind == Kind::number) values[i] = v.held;
    if (v.kind == Kind::key) values[i] = default_generator().key();
  }
  for (int64_t i = 0; i < inputs.size(); ++i) {
    if (!inputs[i].defined()) raise(Error(ErrorCode::value, "input " + std::to_string(i) + " is an empty tensor").op("Graph::run"));
    check_spec(g.values[size_t(g.inputs[i])].spec, inputs[i], "input " + std::to_string(i));
    values[size_t(g.inputs[i])] = inputs[i];
  }
}

void GraphWalk::run() {
  ScopeGuard guard;
  scope().grad = false, scope().autocast = DType::none;
  const char* const outer = scope().path;
  for (const GraphNode& n : graph.nodes) {
    scope().path = outer;
    run_node(n);
    for (int v : n.last) values[size_t(v)] = Tensor();
  }
}

void GraphWalk::tell(const Tensor* const* t, const char* written, int64_t n) const {
  if (!recorded || !driver_of(*recorded).piece) return;
  SmallVector<MemoryUse, 16> uses;
  for (int64_t i = 0; i < n; ++i) {
    const Storage* const s = t[i]->defined() ? impl(*t[i]).storage.get() : nullptr;
    if (s && s->data) uses.push_back({s->data, s->data + s->bytes, written[i] != 0});
  }
  driver_of(*recorded).piece(recorded->index, int(uses.size()), uses.data());
}

/// In the scope that `run` makes.
void GraphWalk::run_node(const GraphNode& n) {
  Scope& s = scope();
  if (*n.path) s.path = n.path;
  s.phase = n.phase;
  SmallVector<const Tensor*, 16> in;
  SmallVector<const Spec*, 16> specs;
  static const Tensor absent;
  static constexpr Spec no_spec{};
  for (int v : n.in) {
    in.push_back(v < 0 ? &absent : &values[size_t(v)]);
    specs.push_back(in.back()->defined() ? &impl(*in.back()).spec : &no_spec);
  }
  if (n.kind == GraphNode::Kind::gradient) {
    if (collect) {
      const auto of_leaf = std::find_if(gradients.begin(), gradients.end(), [&](const auto& g) { return g.first == n.in[0]; });
      of_leaf == gradients.end() ? void(gradients.emplace_back(n.in[0], *in[1])) : void(of_leaf->second = *in[1]);
    } else {
      Tensor leaf = *in[0];
      leaf.set_grad(*in[1]);
    }
    return;
  }
  if (n.kind == GraphNode::Kind::alias) {
    values[size_t(n.out[0])] = alias_of(*in[0]);
    return;
  }
  SmallVector<char, 16> written;
  for (int64_t i = 0; i < n.in.size(); ++i) written.push_back(n.op->in[std::min(int(i), n.op->in.size() - 1)].written);
  tell(in.data(), written.data(), in.size());
  for (int i = int(n.in.size()); i < n.op->in.size(); ++i) specs.push_back(&no_spec);
  SpecList out_specs;
  for (int v : n.out) out_specs.push_back(v < 0 ? Spec{} : graph.values[size_t(v)].spec);
  for (const GraphAccess& w : n.writes)
    for (int64_t i = 0; i < n.in.size(); ++i)
      if (n.in[i] >= 0 && graph.values[size_t(n.in[i])].root == w.root && n.op->in[std::min(int(i), n.op->in.size() - 1)].written) {
        note_write(*in[i], n.op->name);
        break;
      }
  Frame frame{n.op, n.params.get(), in.data(), int(in.size()), n.site, nullptr};
  s.frame = &frame;
  Call c{*n.op, n.params.get(), Inputs(in.data(), int(in.size())), Specs(specs.data(), int(specs.size())), out_specs, n.site, s};
  c.recording = n.recording;
  const std::optional<Determinism> outer = s.determinism;
  keep_determinism(s, n.determinism);
  Tensors out = run_below_autograd(c);
  s.frame = nullptr, s.determinism = outer;
  for (int64_t i = 0; i < out.size(); ++i) {
    if (home && !stray && out[i].defined() && !impl(out[i]).weak && !(impl(out[i]).device == *home)) stray = n.op;
    if (n.out[i] >= 0 && fresh(n, n.out[i])) values[size_t(n.out[i])] = std::move(out[i]);
  }
}

Tensors GraphWalk::outputs() const {
  Tensors out;
  for (int v : graph.outputs) out.push_back(v < 0 ? Tensor() : values[size_t(v)]);
  return out;
}

Tensors Graph::run(const Tensors& inputs) const {
  const GraphData& g = recorded(data_);
  GraphWalk walk(g, inputs);
  Generator& generator = default_generator();
  if (g.random_blocks) {
    if (scope().trace)
      raise(Error(ErrorCode::unsupported, "a graph with random ops cannot be replayed inside a recording").op("Graph::run"));
    generator.fold(generator.state().offset);
  }
  walk.run();
  if (g.random_blocks) generator.fold(g.random_blocks);
  return walk.outputs();
}

bool Graph::conflicts(int64_t i, int64_t j) const {
  const GraphData& g = recorded(data_);
  SmallVector<const GraphNode*, 2> pair;
  int64_t at = 0;
  for (const GraphNode& n : g.nodes) {
    if (n.kind != GraphNode::Kind::op) continue;
    if (at == i || at == j) pair.push_back(&n);
    ++at;
  }
  if (i < 0 || j < 0 || pair.size() != 2)
    raise(Error(ErrorCode::index, "the graph has ops 0 to " + std::to_string(at - 1)).op("Graph::conflicts"));
  const auto touches = [](const SmallVector<GraphAccess, 1>& writes, const GraphNode& n) {
    for (const GraphAccess& w : writes) {
      for (const GraphAccess& r : n.reads)
        if (r.root == w.root) return true;
      for (const GraphAccess& x : n.writes)
        if (x.root == w.root) return true;
    }
    return false;
  };
  return touches(pair[0]->writes, *pair[1]) || touches(pair[1]->writes, *pair[0]);
}

std::string Graph::text() const {
  const GraphData& g = recorded(data_);
  std::string s = "graph(";
  for (int64_t i = 0; i < g.inputs.size(); ++i)
    s += (i ? ", " : "") + name(g.inputs[i]) + ": " + to_string(g.values[size_t(g.inputs[i])].spec);
  s += ")\n";
  for (size_t i = 0; i < g.values.size(); ++i) {
    const GraphValue& v = g.values[i];
    if (v.kind == Kind::captured)
      s += "  " + name(int(i)) + ": " + to_string(v.spec) + " = captured" + (v.root != int(i) ? ", part of " + name(v.root) : "") + "\n";
    if (v.kind == Kind::key) s += "  " + name(int(i)) + ": " + to_string(v.spec) + " = the generator's key\n";
  }
  for (const GraphNode& n : g.nodes) {
    s += "  ";
    if (n.kind == GraphNode::Kind::gradient) {
      s += "grad of " + operand(g, n.in[0]) + " = " + operand(g, n.in[1]) + "\n";
      continue;
    }
    std::string results;
    for (int v : n.out)
      if (fresh(n, v)) results += (results.empty() ? "" : ", ") + name(v) + ": " + to_string(g.values[size_t(v)].spec);
    if (!results.empty()) s += results + " = ";
    if (n.kind == GraphNode::Kind::alias) {
      s += "alias(" + name(n.in[0]) + ")";
    } else {
      s += std::string(n.op->name) + "(";
      for (int64_t i = 0; i < n.in.size(); ++i) s += (i ? ", " : "") + operand(g, n.in[i]);
      const std::string params = n.op->params.text(n.params.get());
      s += (params.empty() ? "" : (n.in.empty() ? "" : "; ") + params) + ")";
    }
    for (int64_t i = 0; i < n.writes.size(); ++i) s += (i ? ", " : " writes ") + name(n.writes[i].root);
    if (const std::string at = where(n); !at.empty()) s += "  # " + at;
    s += "\n";
  }
  s += "  return";
  for (int64_t i = 0; i < g.outputs.size(); ++i) s += (i ? ", " : " ") + operand(g, g.outputs[i]);
  return s + "\n";
}

std::string Graph::dot() const {
  const GraphData& g = recorded(data_);
  std::string s = "digraph keel {\n  node [shape=box, fontname=\"monospace\"];\n";
  for (size_t i = 0; i < g.values.size(); ++i) {
    const GraphValue& v = g.values[i];
    const bool input = v.kind == Kind::input;
    if (!input && v.kind != Kind::captured && v.kind != Kind::key) continue;
    s += "  v" + std::to_string(i) + " [shape=ellipse" + (input ? "" : ", style=dashed") + ", label=\"" +
         (input                 ? "input "
          : v.kind == Kind::key ? "key "
                                : "captured ") +
         to_string(v.spec) + "\"];\n";
  }
  std::vector<int> maker(g.values.size(), -1);
  const auto source = [&](int v) { return maker[size_t(v)] < 0 ? "v" + std::to_string(v) : "n" + std::to_string(maker[size_t(v)]); };
  for (size_t i = 0; i < g.nodes.size(); ++i) {
    const GraphNode& n = g.nodes[i];
    std::string label = n.kind == GraphNode::Kind::gradient ? "gradient" : n.kind == GraphNode::Kind::alias ? "alias" : n.op->name;
    if (n.kind == GraphNode::Kind::op)
      if (const std::string params = n.op->params.text(n.params.get()); !params.empty()) label += "\\n" + params;
    if (*n.path) label += std::string("\\n") + n.path;
    const char* colour = n.phase == Phase::backward ? "\"#d0e0f0\"" : n.phase == Phase::optimiser ? "\"#f0e0d0\"" : "white";
    s += "  n" + std::to_string(i) + " [label=\"" + label + "\", style=filled, fillcolor=" + colour + "];\n";
    for (int v : n.in)
      if (v >= 0 && g.values[size_t(v)].kind != Kind::number)
        s += "  " + source(v) + " -> n" + std::to_string(i) + " [label=\"" + to_string(g.values[size_t(v)].spec) + "\"];\n";
    for (int v : n.out)
      if (v >= 0) maker[size_t(v)] = int(i);  // a write, too, is what later readers depend on
    for (const GraphAccess& w : n.writes) maker[size_t(w.root)] = int(i);
  }
  for (int64_t i = 0; i < g.outputs.size(); ++i)
    if (g.outputs[i] >= 0)
      s += "  " + source(g.outputs[i]) + " -> out" + std::to_string(i) + ";\n  out" + std::to_string(i) +
           " [shape=ellipse, label=\"output " + std::to_string(i) + "\"];\n";
  return s + "}\n";
}

}  // namespace keel
