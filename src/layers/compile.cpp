// Steps that are recorded, captured by the device and replayed. A kind of inputs goes through stages: it runs, is recorded, its recording
// runs and is looked at, and is captured; or it stays where it can go no further.
#include "keel/compile.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <unordered_map>

#include "base/env.h"
#include "core/device_driver.h"
#include "keel/autograd.h"
#include "keel/error.h"
#include "keel/matmul_precision.h"
#include "keel/random.h"
#include "layers/autocast.h"
#include "layers/fuse.h"
#include "layers/monitor/rest.h"
#include "layers/trace.h"
#include "op/checks.h"
#include "op/device_call.h"

namespace keel {
namespace {

using Kind = GraphValue::Kind;

constexpr size_t kMost = 8;     // recordings that are kept
constexpr int kPatience = 8;    // recordings of one kind of inputs, in all
constexpr int64_t kAlign = 16;  // how far kernels look at addresses

/// What must be as it was for a recording to serve.
struct Key {
  struct Input {
    Spec spec;
    Strides strides;
    Device device;
    int64_t place = 0;
    bool tracked = false;
    bool operator==(const Input&) const = default;
  };
  std::vector<Input> inputs;
  bool grad, oracle;
  Determinism determinism;
  MatmulPrecision precision;
  DType autocast;
  std::string policy;  // of autocast
  bool operator==(const Key&) const = default;
};
int64_t place_of(const TensorImpl& x) {
  return x.device.type == DeviceType::cpu ? 0 : int64_t(reinterpret_cast<uintptr_t>(x.data) % kAlign);
}
Key key_of(const Tensors& inputs) {
  const Scope& s = scope();
  Key k{{}, s.grad, s.oracle, determinism_of(s), float32_matmul_precision(), s.autocast, autocast_policy()};
  for (const Tensor& t : inputs) {
    const TensorImpl& x = impl(t);
    k.inputs.push_back({x.spec, x.strides, x.device, place_of(x), x.tracked()});
  }
  return k;
}

/// A tensor's memory from its first to its last element.
struct Block {
  std::byte* begin;
  size_t bytes;
  explicit Block(const TensorImpl& x) {
    const ElementSpan span(x);
    begin = x.data ? x.data + span.low * int64_t(size_of(x.spec.dtype)) : nullptr, bytes = span.bytes(x.spec.dtype);
  }
};
/// Memory for a tensor on `d` whose elements lie among each other, and to addresses, as those of `x` do; not filled.
Tensor room_like(const TensorImpl& x, Device d) {
  const ElementSpan span(x);
  const auto size = int64_t(size_of(x.spec.dtype)), before = -span.low * size;
  const int64_t pad = ((place_of(x) - before) % kAlign + kAlign) % kAlign / size * size;
  const size_t bytes = span.bytes(x.spec.dtype);
  return make_view(allocate_storage(bytes ? bytes + size_t(pad) : 0, d), x.spec.dtype, x.spec.shape, x.strides, (before + pad) / size);
}
/// Copies within one device, queued together.
class Copies {
 public:
  explicit Copies(Device d) : d_(d) {}
  void add(const Tensor& to, const Tensor& from) {
    const Block a(impl(to)), b(impl(from));
    if (a.bytes) to_.push_back(a.begin), from_.push_back(b.begin), bytes_.push_back(a.bytes);
  }
  void queue() const {
    const DeviceDriver& driver = driver_of(d_);
    if (!driver.copies) {
      for (int64_t i = 0; i < to_.size(); ++i) device_copy(d_, to_[i], from_[i], bytes_[i], CopyWay::within);
    } else if (const char* wrong = driver.copies(d_.index, int(to_.size()), to_.data(), from_.data(), bytes_.data())) {
      raise(Error(ErrorCode::device, wrong).op("compile"));
    }
  }

 private:
  Device d_;
  SmallVector<void*, 8> to_;
  SmallVector<const void*, 8> from_;
  SmallVector<size_t, 8> bytes_;
};

/// Whether a captured tensor is still what it was: the same memory, and in the hands of those who held it beside the recording.
struct Watch {
  int value;
  const std::byte* data;
  bool held, shared;       // by others: the object, its memory
  bool wants_gradient;     // as the program set it
  int32_t storage_owners;  // within the recording
};
/// What a leaf's gradient must be when a step begins.
struct Start {
  enum Want : uint8_t { undefined, defined, same } want;
  int leaf;
  const TensorImpl* gradient = nullptr;  // kept alive by the graph, which uses it
};

/// Memory of a capture beside what the driver keeps, and the capture itself.
struct Capture {
  Device device;
  void* recording = nullptr;
  Tensors inputs;  // undefined where host memory is read
  struct Host {
    int value;
    size_t at;
  };
  std::vector<Host> host;         // what nodes read of host memory, and where in the block
  std::vector<std::byte> staged;  // the block as it was sent last
  Ref<Storage> block;
  Tensors outputs;
  std::vector<std::pair<int, Tensor>> gradients;       // by leaf
  std::vector<std::pair<int, const char*>> writes;     // values from outside
  KeptCalls calls;
  bool sent = false;
  Capture() = default;
  Capture(const Capture&) = delete;
  ~Capture() {
    if (recording) driver_of(device).forget(device.index, recording);
  }
};

struct Entry {
  enum Stage : uint8_t { warm, record, look, capture, replay, walk, run } stage = warm;
  Key key;
  int64_t calls = 0, recordings = 0;
  uint64_t used = 0;
  std::string reason;
  Ref<GraphData> graph;
  std::vector<Watch> watches;
  std::vector<Start> starts;
  std::vector<KnownMode> modes;
  std::unique_ptr<FusedKernels> fused;  // of `graph`
  bool waiting = false;                 // for kernels of chains
  int64_t had = 0;                      // kernels of chains, when the capture was made
  std::unique_ptr<Capture> made;

  bool serves(const Tensors& inputs) const;
  void settle(Stage s, std::string why) { stage = s, reason = std::move(why), made.reset(); }
};

const char* name_of_op(const OpDef* op) { return op ? op->name : "the step"; }

}  // namespace

struct detail::CompiledState : RefCounted {
  Callback<Tensors(const Tensors&)> f;
  CompileOptions options;
  std::vector<std::unique_ptr<Entry>> entries;
  uint64_t calls = 0;
  int64_t replays = 0;
  bool captured = false;
  bool usual = true;  // the last call did what later ones will do: it recorded and captured nothing
  std::string reason = "it was not called yet", report = "nothing was captured yet\n";
  static void destroy(CompiledState* s) { delete s; }

  Entry* known_entry(const Key& key, const Tensors& inputs) const;
  Entry& entry_for(Key key, const Tensors& inputs);
  Tensors plain(const Tensors& inputs, std::string why) {
    reason = std::move(why);
    return f(inputs);
  }
  Tensors record(Entry& e, const Tensors& inputs);
  Tensors walk(Entry& e, const Tensors& inputs);
  const char* write_down(Entry& e, const Tensors& inputs, void* rehearsal, Capture& c);
  void make_capture(Entry& e, const Tensors& inputs);
  Tensors replay(Entry& e, const Tensors& inputs);
  Tensors call(const Tensors& inputs);
  bool may_replay(const Tensors& inputs) const;
  Tensors unwatched(const Tensors& inputs);
};
using detail::CompiledState;

namespace {

/// A recording that notes what a replay could not do, instead of refusing it.
struct Listener {
  std::unique_ptr<Recorder> recorder = new_recorder();
  struct Read {
    const Storage* storage;
    Device device;
    bool inside;  // memory that the step made
    uint64_t mark;
  };
  std::vector<Read> reads;
  struct Old {
    Tensor gradient;
    bool cleared;  // the first thing that became of it
  };
  std::unordered_map<const TensorImpl*, Old> old;  // gradients of leaves, when the step first changed them
  void (*record_gradient)(TraceSink*, const Tensor&, const Tensor&) = nullptr;

  static Listener& of(TraceSink* s);
  Listener();
  ~Listener();
};
thread_local Listener* listening = nullptr;

Listener::Listener() {
  recorder->lenient = true;
  record_gradient = recorder->gradient;
  recorder->gradient = [](TraceSink* s, const Tensor& leaf, const Tensor& grad) {
    Listener& l = *listening;
    l.old.try_emplace(&impl(leaf), Old{leaf.grad(), !grad.defined()});
    l.record_gradient(s, leaf, grad);
  };
  recorder->host_read = [](TraceSink* s, const TensorImpl& t) {
    if (!t.storage) return;
    const uint64_t m = t.storage->traced;
    listening->reads.push_back({t.storage.get(), t.device, m >> 32 == static_cast<Recorder*>(s)->id && uint32_t(m) != 0, t.traced});
  };
  listening = this;
}
Listener::~Listener() {
  recorder->end();
  listening = nullptr;
}

const GraphNode* maker_of(const GraphData& g, int value) {
  for (const GraphNode& n : g.nodes)
    for (const int v : n.out)
      if (v == value && n.kind == GraphNode::Kind::op) return &n;
  return nullptr;
}

/// Why running the recording would not do what the step does; empty where it would.
std::string unlike(const Listener& l, const GraphData& g, const Tensors& out) {
  const Recorder& r = *l.recorder;
  if (!r.trouble.empty()) return r.trouble;
  for (const Listener::Read& read : l.reads) {
    bool written = false;
    if (const auto it = r.memory.find(read.storage); it != r.memory.end())
      for (const GraphNode& n : g.nodes)
        for (const GraphAccess& w : n.writes) written |= w.root == it->second.root;
    if (!read.inside && !written && read.device == cpu_device) continue;  // settings and the like, which no step changes
    const bool known = read.mark >> 32 == r.id && uint32_t(read.mark);
    const GraphNode* n = known ? maker_of(g, int(uint32_t(read.mark)) - 1) : nullptr;
    return n ? std::string("the host looks at the result of ") + n->op->name : "the host looks at a tensor that the step works on";
  }
  if (g.random_blocks < 0) return "it seeds the generator";
  bool differentiated = false;
  for (const GraphNode& n : g.nodes) {
    differentiated |= n.kind == GraphNode::Kind::gradient || n.phase == Phase::backward;
    if (n.kind != GraphNode::Kind::op || !n.op->random) continue;
    for (int64_t i = 0; i < n.in.size(); ++i)
      if (n.op->in[std::min(int(i), n.op->in.size() - 1)].host && n.in[i] >= 0 && g.values[size_t(n.in[i])].kind != Kind::key)
        return std::string(n.op->name) + " draws from a generator of its own";
  }
  for (const Tensor& t : out)
    if (t.defined() && impl(t).grad && impl(t).grad->node && !differentiated)
      return "a result carries a gradient; call backward() inside, or return it detached";
  return {};
}

/// The rules for gradients at the begin of a step, read off what the recording saw of them.
std::vector<Start> starts_of(const Listener& l, const GraphData& g) {
  std::vector<Start> rules;
  bool trains = false;
  for (const GraphNode& n : g.nodes) trains |= n.kind == GraphNode::Kind::gradient || n.phase != Phase::forward;
  std::unordered_map<const TensorImpl*, int> leaves;
  for (size_t i = 0; i < g.values.size(); ++i) {
    const GraphValue& v = g.values[i];
    if (v.kind != Kind::captured && v.kind != Kind::input) continue;
    const TensorImpl* leaf = v.held.impl();
    const auto uses = [&](const Tensor& t) {
      return t.defined() && l.recorder->externals.contains(t.impl());
    };
    if (const auto it = l.old.find(leaf); it != l.old.end()) {
      const Tensor& before = it->second.gradient;
      if (uses(before))
        rules.push_back({Start::same, int(i), before.impl()});
      else
        rules.push_back({before.defined() ? Start::defined : Start::undefined, int(i)});
    } else if (trains && leaf->grad && leaf->grad->requires_grad) {
      const Tensor& now = leaf->grad->grad;
      if (uses(now))
        rules.push_back({Start::same, int(i), now.impl()});
      else
        rules.push_back({now.defined() ? Start::defined : Start::undefined, int(i)});
    }
  }
  return rules;
}

bool wants_gradient(const TensorImpl& x) { return x.grad && x.grad->requires_grad; }

std::vector<Watch> watches_of(const GraphData& g) {
  std::unordered_map<const Storage*, int32_t> owners;
  for (const GraphValue& v : g.values)
    if (v.kind == Kind::captured && impl(v.held).storage) ++owners[impl(v.held).storage.get()];
  std::vector<Watch> all;
  for (size_t i = 0; i < g.values.size(); ++i) {
    if (g.values[i].kind != Kind::captured) continue;
    const TensorImpl& x = impl(g.values[i].held);
    const int32_t within = x.storage ? owners[x.storage.get()] : 0;
    all.push_back({int(i), x.data, x.refs.load() > 1, x.storage.use_count() > within, wants_gradient(x), within});
  }
  return all;
}

/// The gradient that the leaf of `s` has now; null: none.
const TensorImpl* gradient_of(const GraphData& g, const Start& s, const Tensors& inputs) {
  const GraphValue& v = g.values[size_t(s.leaf)];
  const TensorImpl* leaf = v.held.impl();
  for (int64_t i = 0; v.kind == Kind::input && i < inputs.size(); ++i)
    if (g.inputs[i] == s.leaf) leaf = inputs[i].impl();
  return leaf->grad ? leaf->grad->grad.impl() : nullptr;
}
/// Whether the step would begin from where the recording began.
bool as_recorded(const Entry& e, const Tensors& inputs) {
  const GraphData& g = *e.graph;
  for (const Watch& w : e.watches) {
    const GraphValue& v = g.values[size_t(w.value)];
    const TensorImpl& x = impl(v.held);
    if (x.data != w.data || !(x.spec == v.spec) || (w.held && x.refs.load() == 1) || wants_gradient(x) != w.wants_gradient) return false;
    if (w.shared && x.storage.use_count() <= w.storage_owners) return false;
  }
  for (const Start& s : e.starts)
    if (s.want == Start::same && gradient_of(g, s, inputs) != s.gradient) return false;
  return true;
}

/// The device of everything that is not in host memory; the CPU where there is nothing else. False: several.
bool device_of(const GraphData& g, const Tensors& inputs, Device& d) {
  d = cpu_device;
  const auto see = [&](const Tensor& t) {
    const TensorImpl& x = impl(t);
    if (x.weak || x.device == cpu_device) return true;
    if (d == cpu_device) d = x.device;
    return d == x.device;
  };
  for (const GraphValue& v : g.values)
    if (v.kind == Kind::captured && !see(v.held)) return false;
  for (const Tensor& t : inputs)
    if (!see(t)) return false;
  if (d != cpu_device) return true;
  for (const GraphNode& n : g.nodes)  // all made inside
    if (n.op && n.op->params.device_offset >= 0 && n.kind == GraphNode::Kind::op && !n.in.size())
      d = *reinterpret_cast<const Device*>(n.params.get() + n.op->params.device_offset);
  return true;
}

/// Ends the driver's recording, whatever happens.
struct Writing {
  Device d;
  bool open = true;
  explicit Writing(Device device) : d(device) { device_notes().recording = true; }
  const char* end(void** recording) {
    open = false, device_notes().recording = false;
    return driver_of(d).record_end(d.index, recording);
  }
  ~Writing() {
    if (open) end(nullptr);
  }
};

/// Copies what nodes read of host memory into `staged`; whether it changed.
bool stage(Capture& c, const GraphData& g, const Tensors& inputs) {
  bool changed = !c.sent;
  for (const Capture::Host& h : c.host) {
    const GraphValue& v = g.values[size_t(h.value)];
    const Tensor* t = v.kind == Kind::key ? &default_generator().key() : &v.held;
    for (int64_t i = 0; v.kind == Kind::input && i < inputs.size(); ++i)
      if (g.inputs[i] == h.value) t = &inputs[i];
    const Block from(impl(*t));
    if (!from.bytes || std::memcmp(c.staged.data() + h.at, from.begin, from.bytes) == 0) continue;
    std::memcpy(c.staged.data() + h.at, from.begin, from.bytes);
    changed = true;
  }
  return changed;
}

}  // namespace

/// Steps that begin with gradients and steps that begin without, in training and not, have recordings of their own.
bool Entry::serves(const Tensors& inputs) const {
  for (const KnownMode& m : modes)
    if (!m.holds()) return false;
  for (const Start& s : starts)
    if ((gradient_of(*graph, s, inputs) != nullptr) != (s.want != Start::undefined)) return false;
  return true;
}

Entry* CompiledState::known_entry(const Key& key, const Tensors& inputs) const {
  for (const auto& e : entries)
    if (e->key == key && e->serves(inputs)) return e.get();
  return nullptr;
}
Entry& CompiledState::entry_for(Key key, const Tensors& inputs) {
  if (Entry* const e = known_entry(key, inputs)) return e->used = calls, *e;
  if (entries.size() == kMost) {
    size_t oldest = 0;
    for (size_t i = 1; i < kMost; ++i)
      if (entries[i]->used < entries[oldest]->used) oldest = i;
    entries.erase(entries.begin() + int64_t(oldest));
  }
  entries.push_back(std::make_unique<Entry>());
  Entry& e = *entries.back();
  e.key = std::move(key), e.used = calls, e.stage = options.warm_up ? Entry::warm : Entry::record;
  return e;
}

Tensors CompiledState::record(Entry& e, const Tensors& inputs) {
  e.made.reset(), e.fused.reset(), e.graph.reset(), e.watches.clear(), e.starts.clear(), e.modes.clear();
  if (e.recordings++ == kPatience) {
    e.settle(Entry::run, "what it works on was replaced between its calls time and again");
    return f(inputs);
  }
  reason = "it is being recorded";
  Tensors out;
  Listener l;
  Recorder& r = *l.recorder;
  r.begin(inputs);
  out = f(inputs);
  r.end();
  if (r.trouble.empty() && r.graph->random_blocks >= 0) {
    r.finish(out);
    for (int64_t i = 0; i < inputs.size(); ++i) r.graph->values[size_t(r.graph->inputs[i])].held = inputs[i];  // for the rules
  }
  for (KnownMode& m : r.modes)
    if (m.mode->alive) e.modes.push_back(std::move(m));  // others were the step's own
  if (std::string why = unlike(l, *r.graph, out); !why.empty()) {
    e.settle(Entry::run, std::move(why));
  } else {
    e.graph = r.graph;
    e.starts = starts_of(l, *e.graph);
    e.stage = Entry::look;
  }
  for (const int v : r.graph->inputs) r.graph->values[size_t(v)].held = Tensor();
  for (Tensor& t : out)
    if (t.defined() && impl(t).grad && impl(t).grad->node && e.stage == Entry::look) t = t.detach();
  l.old.clear();
  if (e.graph) e.watches = watches_of(*e.graph);
  return out;
}

Tensors CompiledState::walk(Entry& e, const Tensors& inputs) {
  const GraphData& g = *e.graph;
  GraphWalk w(g, inputs);
  Device d;
  const bool one = device_of(g, inputs, d);
  if (e.stage == Entry::look) w.home = &d;
  DeviceNotes& notes = device_notes();
  notes = {};
  Generator& generator = default_generator();
  if (g.random_blocks) generator.fold(generator.state().offset);
  w.run();
  if (g.random_blocks) generator.fold(g.random_blocks);
  if (e.stage == Entry::look) {
    const auto stay = [&](std::string why) { e.settle(Entry::walk, std::move(why)); };
    bool writes = false;
    for (const GraphNode& n : g.nodes)
      for (const GraphAccess& a : n.writes) writes |= g.values[size_t(a.root)].kind == Kind::input;
    if (!one)
      stay("it works on several devices");
    else if (d == cpu_device)
      stay("the CPU has nothing to capture");
    else if (!driver_of(d).record_begin)
      stay(to_string(d) + " captures nothing");
    else if (notes.host_runs)
      stay(std::string(name_of_op(notes.op)) + " has no kernel on " + to_string(d) + " and runs on the CPU");
    else if (notes.copies)
      stay(std::string(name_of_op(notes.op)) + " copies between " + to_string(d) + " and the host");
    else if (notes.waits)
      stay(std::string(name_of_op(notes.op)) + " waits for " + to_string(d));
    else if (w.stray)
      stay(std::string(w.stray->name) + " does not run on " + to_string(d));
    else if (writes)
      stay("it writes into an input");
    else
      e.stage = Entry::capture, e.reason = "it is being captured";
  }
  return w.outputs();
}

/// Fills `c`, which knows its device, with a recording; with a rehearsal of it where none is given. What went wrong; null: nothing.
const char* CompiledState::write_down(Entry& e, const Tensors& inputs, void* rehearsal, Capture& c) {
  const GraphData& g = *e.graph;
  const DeviceDriver& driver = driver_of(c.device);
  GraphWalk w(g, inputs);
  w.collect = true;
  // A block for what nodes read of host memory.
  size_t room = 0;
  std::vector<char> seen(g.values.size());
  for (const GraphNode& n : g.nodes)
    for (int64_t i = 0; n.kind == GraphNode::Kind::op && i < n.in.size(); ++i) {
      const int v = n.in[i];
      if (v < 0 || seen[size_t(v)] || !n.op->in[std::min(int(i), n.op->in.size() - 1)].host) continue;
      seen[size_t(v)] = 1;
      const TensorImpl& x = impl(w.values[size_t(v)]);
      if (x.weak) continue;
      c.host.push_back({v, room});
      room += (Block(x).bytes + kAlign - 1) / kAlign * kAlign;
    }
  c.staged.resize(room);
  if (const char* wrong = driver.record_begin(c.device.index, rehearsal)) return wrong;
  Writing writing(c.device);
  w.recorded = &c.device;
  c.block = allocate_storage(room, c.device);
  for (const Capture::Host& h : c.host) {
    Tensor& t = w.values[size_t(h.value)];
    const TensorImpl& x = impl(t);
    const auto size = int64_t(size_of(x.spec.dtype));
    t = make_view(c.block, x.spec.dtype, x.spec.shape, x.strides, int64_t(h.at) / size - ElementSpan(x).low);
  }
  for (int64_t i = 0; i < inputs.size(); ++i) {
    const bool here = impl(inputs[i]).device == c.device;
    c.inputs.push_back(here ? room_like(impl(inputs[i]), c.device) : Tensor());
    if (here) w.values[size_t(g.inputs[i])] = c.inputs[i];
  }
  {
    const KeepCalls keep(c.calls);
    e.fused && e.fused->ready() ? e.fused->run(w) : w.run();
  }
  c.outputs = w.outputs();
  c.gradients = std::move(w.gradients);
  w.values.clear();
  return writing.end(&c.recording);
}

void CompiledState::make_capture(Entry& e, const Tensors& inputs) {
  const GraphData& g = *e.graph;
  e.settle(Entry::walk, "an error ended its capture");  // unless all goes well
  Device d;
  device_of(g, inputs, d);
  const DeviceDriver& driver = driver_of(d);
  if (!driver.fusion || !options.fuse || base::env_string("KEEL_FUSE") == "0") {
    report = driver.fusion ? "fusion is off\n" : to_string(d) + " fuses nothing\n";
  } else {
    if (!e.fused) e.fused = std::make_unique<FusedKernels>(g, d);
    e.waiting = !e.fused->settled(), e.had = e.fused->ready();
    report = e.fused->text();
  }
  // Gradients that the step replaces: their memory may be that of the capture before this one.
  for (const Start& start : e.starts) {
    const GraphValue& v = g.values[size_t(start.leaf)];
    if (start.want == Start::defined && v.kind == Kind::captured) Tensor(v.held).set_grad(Tensor());
  }
  const auto capture = [&] {
    auto c = std::make_unique<Capture>();
    c->device = d;
    return c;
  };
  void* rehearsal = nullptr;
  {
    const auto made = capture();
    if (const char* wrong = write_down(e, inputs, nullptr, *made)) return e.settle(Entry::walk, wrong);
    rehearsal = std::exchange(made->recording, nullptr);  // of which nobody holds memory then
  }
  auto made = capture();
  if (const char* wrong = write_down(e, inputs, rehearsal, *made)) return e.settle(Entry::walk, wrong);
  for (const GraphNode& n : g.nodes)
    for (const GraphAccess& a : n.writes)
      if (g.values[size_t(a.root)].kind == Kind::captured) made->writes.emplace_back(a.root, n.op->name);
  e.reason.clear();
  e.stage = Entry::replay, e.made = std::move(made);
}

Tensors CompiledState::replay(Entry& e, const Tensors& inputs) {
  const GraphData& g = *e.graph;
  Capture& c = *e.made;
  const DeviceDriver& driver = driver_of(c.device);
  Generator& generator = default_generator();
  if (g.random_blocks) generator.fold(generator.state().offset);
  Copies in(c.device), given(c.device);
  for (int64_t i = 0; i < inputs.size(); ++i)
    if (c.inputs[i].defined()) in.add(c.inputs[i], inputs[i]);
  in.queue();
  if (stage(c, g, inputs)) {
    c.sent = false;
    if (!c.staged.empty()) device_copy(c.device, c.block->data, c.staged.data(), c.staged.size(), CopyWay::to_device);
    c.sent = true;
  }
  for (const auto& [value, writer] : c.writes) note_write(g.values[size_t(value)].held, writer);
  if (const char* wrong = driver.replay(c.device.index, c.recording))
    raise(Error(ErrorCode::device, wrong).op("compile").note("while replaying a captured step"));
  if (g.random_blocks) generator.fold(g.random_blocks);
  for (const auto& [leaf, gradient] : c.gradients) {
    const GraphValue& v = g.values[size_t(leaf)];
    Tensor to = v.held;
    for (int64_t i = 0; v.kind == Kind::input && i < inputs.size(); ++i)
      if (g.inputs[i] == leaf) to = inputs[i];
    to.set_grad(gradient);
  }
  Tensors out;
  for (int64_t i = 0; i < c.outputs.size(); ++i) {
    const int v = g.outputs[i];
    if (v < 0) {
      out.push_back(Tensor());
      continue;
    }
    const GraphValue& value = g.values[size_t(v)];
    const Kind owner = g.values[size_t(value.root)].kind;
    int64_t same = 0;
    while (same < i && g.outputs[same] != v) ++same;
    if (same < i) {
      out.push_back(out[same]);
    } else if (value.kind == Kind::input) {
      for (int64_t k = 0; k < inputs.size(); ++k)
        if (g.inputs[k] == v) out.push_back(inputs[k]);
    } else if (value.kind == Kind::captured || value.kind == Kind::number || owner == Kind::captured) {
      out.push_back(c.outputs[i]);
    } else {
      out.push_back(room_like(impl(c.outputs[i]), c.device));
      given.add(out[i], c.outputs[i]);
    }
  }
  given.queue();
  ++replays, captured = true, reason.clear();
  return out;
}

Tensors CompiledState::call(const Tensors& inputs) {
  ++calls;
  captured = false;
  if (!scope().monitor) return unwatched(inputs);
  if (scope().trace || !may_replay(inputs) || !monitor_rests()) return plain(inputs, "a monitor watches");
  Tensors out;
  {
    const ScopeGuard keep;
    scope().monitor = nullptr;
    out = unwatched(inputs);
  }
  monitor_sees(out, usual);
  return out;
}

/// Whether such a call is replayed, or may be after some more.
bool CompiledState::may_replay(const Tensors& inputs) const {
  for (const Tensor& t : inputs)
    if (!t.defined()) return false;
  const Entry* const e = known_entry(key_of(inputs), inputs);
  return !e || e->stage <= Entry::replay;
}

Tensors CompiledState::unwatched(const Tensors& inputs) {
  usual = true;
  if (scope().trace) return plain(inputs, "another recording is in progress");
  for (const Tensor& t : inputs) {
    if (!t.defined() || impl(t).weak) return plain(inputs, "an input is no tensor with memory");
    if (impl(t).grad && impl(t).grad->node) return plain(inputs, "an input was computed with a gradient");
    for (const Tensor& other : inputs)
      if (&other != &t && (t.is(other) || t.shares_storage(other))) return plain(inputs, "two inputs share memory");
  }
  Entry& e = entry_for(key_of(inputs), inputs);
  usual = e.stage >= Entry::replay;
  if (e.stage == Entry::warm) {
    if (++e.calls == options.warm_up) e.stage = Entry::record;
    return plain(inputs, "it is warming up");
  }
  if (e.stage == Entry::run) return plain(inputs, e.reason);
  if (e.stage == Entry::record || !as_recorded(e, inputs)) {
    e.stage = Entry::record, e.reason.clear(), usual = false;
    Tensors out = record(e, inputs);
    if (e.stage == Entry::run) reason = e.reason;
    return out;
  }
  if (e.stage == Entry::replay && e.waiting && e.fused->settled()) {
    e.waiting = false, report = e.fused->text();
    if (e.fused->ready() > e.had) e.stage = Entry::capture, usual = false;
  }
  if (e.stage == Entry::capture) make_capture(e, inputs);
  if (e.stage == Entry::replay) return replay(e, inputs);
  reason = e.stage == Entry::look ? "its recording is being looked at" : e.reason;
  Tensors out = walk(e, inputs);
  if (!e.reason.empty()) reason = e.reason;
  return out;
}

Compiled::Compiled() noexcept = default;
Compiled::Compiled(const Callback<Tensors(const Tensors&)>& f, const CompileOptions& o) : state_(new CompiledState) {
  if (o.warm_up < 0) raise(Error(ErrorCode::value, "warm_up must not be negative, got " + std::to_string(o.warm_up)).op("compile"));
  state_->f = f, state_->options = o;
}
Compiled::Compiled(const Compiled&) noexcept = default;
Compiled::Compiled(Compiled&&) noexcept = default;
Compiled& Compiled::operator=(const Compiled&) noexcept = default;
Compiled& Compiled::operator=(Compiled&&) noexcept = default;
Compiled::~Compiled() = default;

namespace {
CompiledState& state_of(const Ref<CompiledState>& s) {
  if (!s) raise(Error(ErrorCode::value, "an empty Compiled").op("compile").hint("compile(f) makes one"));
  return *s;
}
}  // namespace

Tensors Compiled::operator()(const Tensors& inputs) const {
  // A step that destroys its own handle still has itself.
  const Ref<CompiledState> keep = state_;
  return state_of(keep).call(inputs);
}
bool Compiled::captured() const { return state_of(state_).captured; }
const std::string& Compiled::reason() const { return state_of(state_).reason; }
int64_t Compiled::replays() const { return state_of(state_).replays; }
const std::string& Compiled::report() const { return state_of(state_).report; }

}  // namespace keel
