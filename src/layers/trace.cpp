// The trace layer: lets the op run, and notes it. A tensor is known by a mark that the recording leaves on the object, so that nothing has
// to
// be kept alive; what bears no mark came from outside.
#include "layers/trace.h"

#include <algorithm>
#include <atomic>
#include <cstring>

#include "base/log.h"
#include "keel/error.h"
#include "keel/random.h"
#include "layers/monitor/lint_rules.h"
#include "op/checks.h"

namespace keel {
namespace {

std::atomic<uint64_t> next_recording{1};

uint64_t mark(const Recorder& r, int value) { return r.id << 32 | uint32_t(value + 1); }
bool marked(const Recorder& r, uint64_t m) { return m >> 32 == r.id && uint32_t(m); }
int value_in(uint64_t m) { return int(uint32_t(m)) - 1; }

bool writes_inputs(const OpDef& op) {
  for (const ArgDef& a : op.in)
    if (a.written) return true;
  return false;
}

}  // namespace

int Recorder::add_value(GraphValue v) {
  graph->values.push_back(std::move(v));
  return int(graph->values.size()) - 1;
}

/// From now on `t` is known as `value`, which owns the memory unless a view of something known.
void Recorder::bind(const Tensor& t, int value) {
  TensorImpl& x = impl(t);
  x.traced = mark(*this, value);
  if (x.storage && !marked(*this, x.storage->traced) && !memory.contains(x.storage.get())) x.storage->traced = mark(*this, value);
}

int Recorder::value_of(const Tensor& t) {
  if (!t.defined()) return -1;
  const TensorImpl& x = impl(t);
  if (marked(*this, x.traced)) return value_in(x.traced);
  if (auto it = externals.find(&x); it != externals.end()) return it->second;
  GraphValue v;
  v.spec = x.spec;
  if (x.weak) {
    v.kind = GraphValue::Kind::number, v.held = t, v.root = int(graph->values.size());
    return add_value(std::move(v));
  }
  v.strides = x.strides, v.offset = x.offset;
  const auto known = x.storage ? memory.find(x.storage.get()) : memory.end();
  const bool inside = x.storage && marked(*this, x.storage->traced);
  if (inside || (known != memory.end() && graph->values[size_t(known->second.root)].kind == GraphValue::Kind::input)) {
    // A new object on memory that the recording knows, as `detach` makes it: it stands for the value that lies just there.
    const int root = inside ? value_in(x.storage->traced) : known->second.root;
    for (size_t k = graph->values.size(); k-- > 0;) {
      const GraphValue& w = graph->values[k];
      if (w.root != root || !(w.spec == x.spec) || !(w.strides == x.strides) || w.offset != x.offset) continue;
      v.kind = GraphValue::Kind::alias, v.root = root;
      const int value = add_value(std::move(v));
      GraphNode n;
      n.kind = GraphNode::Kind::alias, n.path = scope().path, n.phase = scope().phase;
      n.in.push_back(int(k)), n.out.push_back(value);
      add_node(std::move(n));
      impl(t).traced = mark(*this, value);
      return value;
    }
    if (lenient) return trouble = "it uses a view, made outside, of memory that the step makes", -1;
    fail(ErrorCode::unsupported, "an input is a view that was made outside the recording, of memory that the recording makes",
         "make the view inside");
  }
  const bool is_key = t.is(key);
  v.kind = is_key ? GraphValue::Kind::key : GraphValue::Kind::captured, v.held = t;
  v.root = known != memory.end() ? known->second.root : int(graph->values.size());
  const int root = v.root, value = add_value(std::move(v));
  externals.emplace(&x, value);
  if (x.storage && known == memory.end()) memory.emplace(x.storage.get(), Memory{root, x.storage->version.load(std::memory_order_relaxed)});
  return value;
}

void Recorder::depends_on(ModuleMode& mode) {
  for (const KnownMode& m : modes)
    if (m.mode.get() == &mode) return;
  modes.push_back({Ref(&mode), mode.training});
}

GraphAccess Recorder::access(const Tensor& t, int value) {
  const TensorImpl& x = impl(t);
  if (!x.storage) return {value, 0};
  const uint32_t now = x.storage->version.load(std::memory_order_relaxed);
  const auto it = memory.find(x.storage.get());
  return {graph->values[size_t(value)].root, it == memory.end() ? now : now - it->second.first_version};
}

void Recorder::add_node(GraphNode n) { graph->nodes.push_back(std::move(n)); }

void Recorder::begin(const Tensors& inputs) {
  if (scope().trace) raise(Error(ErrorCode::unsupported, "a recording is in progress on this thread already").op("Trace"));
  graph = Ref<GraphData>(new GraphData);
  externals.clear(), memory.clear(), pending.clear(), trouble.clear();
  id = next_recording.fetch_add(1, std::memory_order_relaxed);
  Generator& g = default_generator();
  g.fold(g.state().offset);  // offsets count from here, in every replay
  key = g.key();
  for (const Tensor& t : inputs) {
    if (!t.defined()) raise(Error(ErrorCode::value, "an input is an empty tensor").op("Trace"));
    for (const Tensor& other : inputs)
      if (&other != &t && (t.is(other) || t.shares_storage(other)))
        raise(Error(ErrorCode::value, "two inputs share memory")
                  .op("Trace")
                  .arg("input", to_string(impl(t).spec))
                  .hint("clone() one of them"));
    const int value = value_of(t);
    graph->values[size_t(value)].kind = GraphValue::Kind::input;
    graph->inputs.push_back(value);
  }
  recording = true;
  scope().trace = this;
}

void Recorder::end() {
  if (!recording) return;
  recording = false;
  scope().trace = nullptr;
  Generator& g = default_generator();
  graph->random_blocks = g.key().is(key) ? g.state().offset : -1;  // -1: seeded anew meanwhile, told by `finish`
  if (graph->host_reads && !lenient)
    base::log(LogLevel::warning, "trace",
              std::to_string(graph->host_reads) +
                  " values were read by the host while a trace recorded: what was done with them will not be done again by a replay");
}

Graph Recorder::finish(const Tensors& outputs) const {
  if (!graph) raise(Error(ErrorCode::value, "nothing was recorded").op("Trace").hint("{ auto guard = trace.record(inputs); ... }"));
  if (recording)
    raise(Error(ErrorCode::value, "the recording has not ended").op("Trace").hint("let the guard that record() gave go first"));
  if (graph->random_blocks < 0)
    raise(Error(ErrorCode::unsupported, "the generator was seeded anew while recording; a replay could not go on from it").op("Trace"));
  GraphData& g = *graph;
  g.outputs.clear();
  for (const Tensor& t : outputs) g.outputs.push_back(const_cast<Recorder*>(this)->value_of(t));
  // What each value is used for last.
  std::vector<char> later(g.values.size());
  for (int v : g.outputs)
    if (v >= 0) later[size_t(v)] = 1;
  for (size_t i = g.nodes.size(); i-- > 0;) {
    GraphNode& n = g.nodes[i];
    n.last.clear();
    const auto see = [&](int v) {
      if (v < 0 || later[size_t(v)]) return;
      later[size_t(v)] = 1;
      const GraphValue::Kind k = g.values[size_t(v)].kind;
      if (k == GraphValue::Kind::result || k == GraphValue::Kind::alias) n.last.push_back(v);
    };
    for (int v : n.in) see(v);
    for (int v : n.out) see(v);
  }
  return Graph(graph.get());
}

Tensors layer::trace(Call& c) {
  auto& r = *static_cast<Recorder*>(c.scope.trace);
  if (r.watch) return r.watch(r, c);
  if (!r.trouble.empty()) return run_below_trace(c);
  for (const Spec& s : c.out)
    if (s.shape.unknown()) {
      if (r.lenient) return r.trouble = std::string("the shape of ") + c.op.name + "'s result depends on the data", run_below_trace(c);
      fail(ErrorCode::unsupported, "the result's shape depends on the data, which a recording cannot follow",
           "compute it outside the trace, or use a mask and where");
    }
  GraphNode n;
  n.op = &c.op, n.recording = c.recording, n.phase = c.scope.phase, n.path = c.scope.path, n.site = c.site;
  n.determinism = determinism_of(c.scope);
  n.params = std::make_unique<std::byte[]>(c.op.params.size);
  std::memcpy(n.params.get(), c.params, c.op.params.size);
  const bool writes = writes_inputs(c.op);
  LintCall::Number numbers[2];
  find_numbers(c, numbers);
  for (int i = 0; i < c.in.size(); ++i) {
    const int v = r.value_of(c.in[i]);
    if (!r.trouble.empty()) return run_below_trace(c);
    n.in.push_back(v);
    if (i < 2 && v >= 0 && numbers[i].dtype != DType::none) r.graph->values[size_t(v)].given = numbers[i].given;
    if (v < 0 || impl(c.in[i]).weak) continue;
    const GraphAccess a = r.access(c.in[i], v);
    n.reads.push_back(a);
    if (!writes || !c.op.in[std::min(i, c.op.in.size() - 1)].written) continue;
    const auto it = std::find(r.pending.begin(), r.pending.end(), impl(c.in[i]).storage.get());
    if (it == r.pending.end()) continue;  // in the list of tensors that the op may write, but this call does not
    *it = r.pending.back(), r.pending.pop_back();
    n.writes.push_back(a);
  }
  Tensors out = run_below_trace(c);
  for (const Tensor& y : out) {
    if (!y.defined()) {
      n.out.push_back(-1);
      continue;
    }
    const TensorImpl& t = impl(y);
    if (marked(r, t.traced) || r.externals.contains(&t)) {  // the op gave an input back: it wrote into it
      n.out.push_back(r.value_of(y));
      continue;
    }
    GraphValue v;
    v.spec = t.spec, v.strides = t.strides, v.offset = t.offset;
    v.root = int(r.graph->values.size());
    if (t.storage && marked(r, t.storage->traced))
      v.root = value_in(t.storage->traced);
    else if (const auto it = r.memory.find(t.storage.get()); it != r.memory.end())
      v.root = it->second.root;
    const int value = r.add_value(std::move(v));
    n.out.push_back(value);
    r.bind(y, value);
  }
  r.add_node(std::move(n));
  return out;
}

// ---- the public face ----

std::unique_ptr<Recorder> new_recorder() {
  auto made = std::make_unique<Recorder>();
  made->wrote = [](TraceSink* s, const TensorImpl& t) { static_cast<Recorder*>(s)->pending.push_back(t.storage.get()); };
  made->gradient = [](TraceSink* s, const Tensor& leaf, const Tensor& grad) {
    auto& r = *static_cast<Recorder*>(s);
    if (!r.trouble.empty()) return;
    GraphNode n;
    n.kind = GraphNode::Kind::gradient, n.path = scope().path, n.phase = scope().phase;
    n.in.push_back(r.value_of(leaf)), n.in.push_back(r.value_of(grad));
    r.add_node(std::move(n));
  };
  made->host_read = [](TraceSink* s, const TensorImpl& t) {
    auto& r = *static_cast<Recorder*>(s);
    if (t.storage && marked(r, t.storage->traced)) ++r.graph->host_reads;
  };
  return made;
}

Trace::Trace() : recorder_(new_recorder().release()) {}
Trace::~Trace() {
  recorder_->end();
  delete recorder_;
}
Trace::Recording::Recording(Recorder* r) : recorder_(r) {}
Trace::Recording::~Recording() { recorder_->end(); }
Trace::Recording Trace::record(const Tensors& inputs) {
  recorder_->begin(inputs);
  return Recording(recorder_);
}
Graph Trace::graph(const Tensors& outputs) const { return recorder_->finish(outputs); }

Graph detail::trace(const Callback<Tensors(const Tensors&)>& f, const Tensors& inputs) {
  Trace t;
  Tensors out;
  {
    auto guard = t.record(inputs);
    out = f(inputs);
  }
  return t.graph(out);
}

}  // namespace keel
