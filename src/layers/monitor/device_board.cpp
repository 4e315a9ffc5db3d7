// Results on a device: kernels add their statistics to the slots of a board in the device's memory, and nobody waits. What the host knows
// of a call (its place, its operands) goes into a queue; at the end of a step the board is copied to pinned memory and cleared, both by
// queued work, and when the copy has arrived the queue is booked in the order of the program by the code that serves the CPU. That code
// sees stand-ins of tensors: the same shapes and the same identity of memory, but no memory.
#include <cstring>
#include <deque>
#include <utility>

#include "backend/float_bits.h"
#include "core/impl.h"
#include "keel/error.h"
#include "keel/ops/cast.h"
#include "layers/monitor/monitor.h"
#include "op/checks.h"
#include "op/device_call.h"

namespace keel {

extern OpDef op_assign, op_copy, op_relayout;

namespace {

using Taint = TaintedStorages::Kind;
constexpr uint32_t kSlots = 16384;    // of a board
constexpr size_t kMostUnderWay = 8;   // copies of boards
constexpr size_t kMostKnown = 65536;  // storages
constexpr char kLookedAt[] = "";      // the writer of memory that came from outside and has been looked at; a name without letters

[[noreturn]] void raise_device(const char* wrong) { raise(about_call(Error(ErrorCode::device, wrong)).note("while watching its results")); }

const ArgDef& arg_of(const OpDef& op, int i) { return op.in[std::min(i, op.in.size() - 1)]; }

/// Tensors whose statistics a board takes.
bool counts(const Tensor& t, Device d) {
  if (!t.defined()) return false;
  const TensorImpl& x = impl(t);
  return !x.weak && x.device == d && x.storage && on_boards(x.spec.dtype) && x.spec.shape.numel() > 0;
}

}  // namespace

struct DeviceBoards {
  /// A tensor of a call: a stand-in, with what its storage said when the call returned.
  struct Operand {
    Tensor t;
    const char* writer = "";
    size_t bytes = 0;
    uint32_t version = 0;
    int32_t slot = -1;   // where this very operand was looked at
    bool fresh = false;  // and nobody had seen its memory before
  };
  struct Event {
    enum Kind : uint8_t { call, update, root, end } kind = call;
    bool first = false, recording = false, into = false, into_weight = false, guarded = false, light = false;
    int64_t step = 0, epoch = 0;
    int32_t board = -1;  // -1: it needs no numbers
    uint64_t part = 0;
    uint32_t site = 0, slot = 0;
    const OpDef *op = nullptr, *outer = nullptr;
    std::unique_ptr<std::byte[]> params;
    SmallVector<Operand, 4> in;
    SmallVector<Operand, 2> out;
    uint64_t count[4] = {};
    std::vector<uint32_t> gradients;  // slots
    uint32_t samples = 0;             // of an update: the first slot; 0: none
    double settings[8] = {};
    void clear() {
      in.clear(), out.clear(), gradients.clear(), params.reset();
      kind = call, first = recording = into = into_weight = guarded = light = false;
      board = -1, part = 0, site = slot = samples = 0, op = outer = nullptr;
      std::fill(std::begin(count), std::end(count), uint64_t(0));
    }
  };
  /// One filling of a board, on its way to the host.
  struct Part {
    uint64_t id = 0, ticket = 0;
    BoardSlot* slots = nullptr;  // pinned
    bool arrived = false;
  };
  struct Board {
    Device d;
    const DeviceDriver* driver = nullptr;
    const DeviceKernels* kernels = nullptr;
    BoardSlot* slots = nullptr;  // on the device; the same address as long as the monitor lives
    uint32_t used = 1;           // slot 0 is the passes' own
    uint32_t first = 1;          // samples lie before this one
    uint64_t part = 1;
    std::deque<Part> under_way;
    std::vector<BoardSlot*> spare;
  };
  /// How long steps take on the device, with and without: the times between the collections at their ends.
  struct Laps {
    struct End {
      uint64_t ticket;  // 0: nothing was collected
      bool light, counts;
    };
    std::deque<End> ends;
    std::vector<float> with, without;  // milliseconds
    uint64_t steps = 0;
    bool settled = false;  // the last decision was to leave it
  };
  /// What is known of a storage while calls are made.
  struct Known {
    Ref<Storage> stand_in;
    const char* writer = nullptr;
    uint32_t version = 0, slot = 0;
    uint64_t part = 0;  // 0: no slot of its own
    int64_t offset = 0, elements = 0;
    DType dtype = DType::none;
    bool dense = false;
    bool seen_whole = false;  // what a pass left out has been asked for
    bool is(const Storage& s) const { return writer == s.writer && version == s.version.load(std::memory_order_relaxed); }
    /// Whether `x` holds the values that the slot is about, in whatever order.
    bool covers(const TensorImpl& x) const {
      return dense && offset == x.offset && elements == x.spec.shape.numel() && dtype == x.spec.dtype && is_dense(x.spec.shape, x.strides);
    }
    void describe(const TensorImpl& x) {
      offset = x.offset, elements = x.spec.shape.numel(), dtype = x.spec.dtype, dense = is_dense(x.spec.shape, x.strides);
      seen_whole = false;
    }
  };
  /// Memory that no watched op wrote, when it was looked at.
  struct Outside {
    Ref<Storage> stand_in;
    StatSlot::Part seen;
    int64_t offset = 0;
    uint32_t version = 0;
  };
  /// What a MonitorState keeps of the running step, for the step that is being booked.
  struct Late {
    int64_t step = 0, epoch = 0, step_ops = 0, step_nan = 0, step_inf = 0, step_subnormal = 0;
    double step_largest = 0;
    uint32_t last_site = 0, bad_site = ~uint32_t(0), skips = 0;
    uint8_t bad_output = 0;
    bool backward_ran = false, updated = false, jump_seen = false;
    std::vector<uint32_t> touched, touched_arguments, pending;
    void exchange(MonitorState& m) {
      std::swap(step, m.step), std::swap(epoch, m.epoch), std::swap(step_ops, m.step_ops), std::swap(step_nan, m.step_nan);
      std::swap(step_inf, m.step_inf), std::swap(step_subnormal, m.step_subnormal), std::swap(step_largest, m.step_largest);
      std::swap(last_site, m.last_site), std::swap(bad_site, m.bad_site), std::swap(skips, m.skips), std::swap(bad_output, m.bad_output);
      std::swap(backward_ran, m.backward_ran), std::swap(updated, m.updated), std::swap(jump_seen, m.jump_seen);
      touched.swap(m.touched), touched_arguments.swap(m.touched_arguments), pending.swap(m.pending);
    }
  };

  std::vector<std::unique_ptr<Board>> boards;
  std::deque<std::unique_ptr<Event>> queue;
  std::vector<std::unique_ptr<Event>> booked_events;  // to be used again: they are large
  std::unique_ptr<Event> new_event(const MonitorState& m) {
    if (booked_events.empty()) booked_events.push_back(std::make_unique<Event>());
    std::unique_ptr<Event> e = std::move(booked_events.back());
    booked_events.pop_back();
    e->step = m.step, e->epoch = m.epoch;
    return e;
  }
  std::unordered_map<const Storage*, Known> known;
  std::unordered_map<const Storage*, Outside> outside;  // by stand-in
  Late late;
  Laps laps;
  bool step_open = false;      // something was queued since the last end of a step
  const Event* now = nullptr;  // being booked
  const Part* numbers = nullptr;

  ~DeviceBoards();
  int board_of(Device d);
  void watch(MonitorState& m, Call& c, int at_board, uint32_t at, bool first, Tensors& out);
  void run_unwatched(Call& c, Board& b, Tensors& out);
  void look(const MonitorState& m, const Tensor& t, StatSlot& slot) const;
  const char* flush(Board& b, bool& full);
  void make_room(MonitorState& m, Board& b, size_t slots);
  const char* book_arrived(MonitorState& m, bool wait);
  void book(MonitorState& m, Event& e);
  Operand operand(const Tensor& t, Device d);
  Tensor guard(Call& c, Board& b, Event& e);
  void watch_weights(const Call& c, Board& b, Event& e);
  void pass(Board& b, const Tensor& t, uint32_t slot, Look look);
  void set_pace(const MonitorState& m, Board& b) { b.kernels->pace(b.d.index, {m.device_every(), m.looks, b.slots, b.used, b.first}); }
  void settle_memory(Board& b, const Tensor& t);
  void sample_update(const Call& c, Board& b, const Event& e, bool before);
  void see_rest(const Call& c, Board& b, int first, int end);
  /// What a slot about `count` elements says; the count that it gives is of those that were looked at.
  StatSlot::Part part_of(uint32_t slot, uint64_t count) const {
    const BoardSlot& s = numbers->slots[slot];
    if (s.part && !s.whole) count = std::min<uint64_t>(count, std::max<uint64_t>(s.seen, 1));
    return {.max_bits = s.max_bits, .min_bits = ~s.low_bits, .count = count, .nan = s.nan, .inf = s.inf, .subnormal = s.subnormal};
  }
  void recycle();
};

DeviceBoards::~DeviceBoards() {
  for (const auto& b : boards) {
    bool made;
    // The device must not write to memory that is gone.
    if (!b->under_way.empty()) b->driver->collected(b->d.index, b->under_way.back().ticket, true, &made);
    for (const Part& p : b->under_way) b->driver->unpin(p.slots);
    for (BoardSlot* s : b->spare) b->driver->unpin(s);
    b->kernels->settle(b->d.index, nullptr, nullptr), b->kernels->pace(b->d.index, {});
    b->driver->free(b->d.index, b->slots, kSlots * sizeof(BoardSlot));
  }
}

/// The board of `d`; -1 where it has none.
int DeviceBoards::board_of(Device d) {
  for (size_t i = 0; i < boards.size(); ++i)
    if (boards[i]->d == d) return int(i);
  auto b = std::make_unique<Board>();
  b->d = d, b->driver = &driver_of(d), b->kernels = static_cast<const DeviceKernels*>(b->driver->kernels);
  const DeviceKernels& k = *b->kernels;
  if (!k.observe || !k.forbid || !k.pace || !k.settle || !b->driver->collect || !b->driver->collected || !b->driver->pin) return -1;
  b->slots = static_cast<BoardSlot*>(b->driver->allocate(d.index, kSlots * sizeof(BoardSlot), "monitor"));
  if (!b->slots) raise(Error(ErrorCode::memory, "no room on " + to_string(d) + " for what the monitor gathers").op("Monitor"));
  const std::vector<BoardSlot> empty(kSlots);
  boards.push_back(std::move(b));
  Board& made = *boards.back();
  if (const char* wrong = made.driver->copy(d.index, made.slots, empty.data(), kSlots * sizeof(BoardSlot), CopyWay::to_device))
    raise_device(wrong);
  return int(boards.size() - 1);
}

// ---- while calls are made ----

DeviceBoards::Operand DeviceBoards::operand(const Tensor& t, Device d) {
  if (!t.defined()) return {};
  const TensorImpl& x = impl(t);
  if (x.weak || x.device != d || !x.storage) return {.t = t};
  Storage& s = *x.storage;
  Known& k = known[&s];
  if (!k.stand_in || k.stand_in->bytes != s.bytes || k.stand_in->data != s.data) {
    k = {};
    k.stand_in = borrow_storage(s.data, s.bytes, false, nullptr, nullptr);  // an address to tell it by; nobody reads there
    k.stand_in->device = d;
  }
  return {.t = make_view(k.stand_in, x.spec.dtype, x.spec.shape, x.strides, x.offset),
          .writer = s.writer,
          .bytes = s.bytes,
          .version = s.version.load(std::memory_order_relaxed)};
}

void DeviceBoards::pass(Board& b, const Tensor& t, uint32_t slot, Look look) {
  const TensorImpl& x = impl(t);
  const TensorView view{x.data, x.spec.dtype, &x.spec.shape, &x.strides, false};
  BoardSlot* const to = b.slots + slot;
  if (const char* wrong = b.kernels->observe(b.d.index, 1, &view, &to, look)) raise_device(wrong);
}

/// Passes that were put off are to see `t` as it is.
void DeviceBoards::settle_memory(Board& b, const Tensor& t) {
  if (!t.defined() || impl(t).device != b.d || !impl(t).storage) return;
  const Storage& s = *impl(t).storage;
  if (const char* wrong = b.kernels->settle(b.d.index, s.data, static_cast<const std::byte*>(s.data) + s.bytes)) raise_device(wrong);
}

/// What passes left out of gradients that an op is about to use: they are always seen whole.
void DeviceBoards::see_rest(const Call& c, Board& b, int first, int end) {
  constexpr int kMost = 64;
  TensorView views[kMost];
  BoardSlot* to[kMost];
  int n = 0;
  for (int i = first; i < end; ++i) {
    if (counts(c.in[i], b.d)) {
      const TensorImpl& x = impl(c.in[i]);
      const auto it = known.find(x.storage.get());
      if (it != known.end() && it->second.is(*x.storage) && it->second.part == b.part && it->second.covers(x) && !it->second.seen_whole) {
        it->second.seen_whole = true;
        views[n] = {x.data, x.spec.dtype, &x.spec.shape, &x.strides, false}, to[n++] = b.slots + it->second.slot;
      }
    }
    if (n < kMost && (n == 0 || i + 1 < end)) continue;
    if (const char* wrong = b.kernels->observe(b.d.index, n, views, to, Look::rest)) raise_device(wrong);
    n = 0;
  }
}

/// Sends the board's numbers off.
const char* DeviceBoards::flush(Board& b, bool& full) {
  full = b.used > 1 && b.under_way.size() >= kMostUnderWay;
  if (b.used <= 1 || full) return nullptr;
  if (b.spare.empty()) b.spare.push_back(static_cast<BoardSlot*>(b.driver->pin(kSlots * sizeof(BoardSlot))));
  if (!b.spare.back()) return b.spare.pop_back(), "no pinned memory for what the monitor gathers";
  Part p{.id = b.part, .slots = b.spare.back()};
  if (const char* wrong = b.driver->collect(b.d.index, p.slots, b.slots, b.used * sizeof(BoardSlot), &p.ticket)) return wrong;
  b.spare.pop_back();
  b.under_way.push_back(p);
  b.used = b.first = 1, ++b.part;
  return nullptr;
}

void DeviceBoards::make_room(MonitorState& m, Board& b, size_t slots) {
  if (b.used + slots <= kSlots) return;
  m.settle(false);
  bool full;
  if (const char* wrong = flush(b, full)) raise_device(wrong);
  if (!full) return;
  m.settle(true);  // a program that never calls step(), far ahead of its device
}

/// A word on the device: whether the gradients of an update are to be left unused.
Tensor DeviceBoards::guard(Call& c, Board& b, Event& e) {
  int first, end;
  MonitorState::gradients_of(c, first, end);
  const uint32_t rest = b.used++;  // for all that have no slot on the board now
  e.gradients.push_back(rest);
  for (int i = first; i < end; ++i) {
    if (!counts(c.in[i], b.d)) continue;
    const TensorImpl& x = impl(c.in[i]);
    const auto it = known.find(x.storage.get());
    if (it != known.end() && it->second.is(*x.storage) && it->second.part == b.part && it->second.covers(x))
      e.gradients.push_back(it->second.slot);
    else
      pass(b, c.in[i], rest, Look::whole);
  }
  Tensor also = c.in.has(1) ? c.in[1] : Tensor();
  if (also.defined() && also.dtype() != f32) {
    const ScopeGuard keep;
    scope().monitor = nullptr, scope().trace = nullptr, scope().grad = false;
    also = cast(also, f32);
  }
  const Tensor word = make_tensor(f32, Shape(), b.d);
  const float* const other = also.defined() ? reinterpret_cast<const float*>(impl(also).data) : nullptr;
  if (const char* wrong = b.kernels->forbid(b.d.index, b.slots, int(e.gradients.size()), e.gradients.data(), other,
                                            reinterpret_cast<float*>(impl(word).data)))
    raise_device(wrong);
  return word;
}

/// Weights before a step, and after it with gradients and moments: a few lines of each.
void DeviceBoards::sample_update(const Call& c, Board& b, const Event& e, bool before) {
  std::vector<TensorView> x;
  std::vector<uint32_t> at;
  MonitorState::sampled_tensors(c, before, x, at);
  std::vector<BoardSlot*> to;
  for (const uint32_t slot : at) to.push_back(b.slots + e.samples + slot);
  if (const char* wrong = b.kernels->sample(b.d.index, int(x.size()), x.data(), to.data())) raise_device(wrong);
}

/// The row's result is the first weight; an update that leaves the format may begin with any.
void DeviceBoards::watch_weights(const Call& c, Board& b, Event& e) {
  int first, end;
  MonitorState::gradients_of(c, first, end);
  const int begin = 2 * first - end;
  if (begin != c.op.in.size() - 1) return;  // no step whose lists are known
  const DType dtype = impl(c.in[begin]).spec.dtype;
  constexpr int kMost = 64;
  TensorView views[kMost];
  BoardSlot* to[kMost];
  int n = 0;
  for (int i = begin + 1; i < first; ++i) {
    if (counts(c.in[i], b.d) && impl(c.in[i]).spec.dtype == dtype) {
      const TensorImpl& x = impl(c.in[i]);
      views[n] = {x.data, x.spec.dtype, &x.spec.shape, &x.strides, false}, to[n++] = b.slots + e.slot;
      e.count[0] += uint64_t(x.spec.shape.numel());
    }
    if (n < kMost && (n == 0 || i + 1 < first)) continue;
    if (const char* wrong = b.kernels->observe(b.d.index, n, views, to, Look::whole)) raise_device(wrong);
    n = 0;
  }
}

/// A call of a step that is watched in part. What it writes is not noted: what of it outlives the step is looked at when it is next used.
void DeviceBoards::run_unwatched(Call& c, Board& b, Tensors& out) {
  for (int i = 0; i < c.in.size(); ++i)
    if (arg_of(c.op, i).written) settle_memory(b, c.in[i]);
  if (c.into) settle_memory(b, *c.into);
  const ScopeGuard keep;
  if (c.into) c.scope.monitor = nullptr;
  out = run_backend_on(b.d, c, {});
}

/// Results that are watched in every step.
static bool is_small(const Call& c) {
  for (const Spec& s : c.out)
    if (s.shape.unknown() || s.shape.numel() * int64_t(size_of(s.dtype)) > 4096) return false;
  return true;
}

void DeviceBoards::watch(MonitorState& m, Call& c, int at_board, uint32_t at, bool first, Tensors& out) {
  Board& b = *boards[size_t(at_board)];
  const OpDef& op = c.op;
  const ArgDef* const last = op.in.size() ? &op.in[op.in.size() - 1] : nullptr;
  const bool lists = last && last->variadic && last->written;  // many tensors that others have seen
  const int declared = op.out.size(), singles = lists ? std::min(op.in.size() - 1, c.in.size()) : c.in.size();
  const bool update = c.scope.phase == Phase::optimiser && MonitorState::is_update(op);
  uint32_t sampled = 0;
  if (update && !m.light && m.options.foretell && b.kernels->sample && lists) {
    sampled = MonitorState::sampled_slots(c);
    // Numbers that the host knows, of dense tensors that boards take.
    const TensorImpl* const settings = c.in.has(0) ? &impl(c.in[0]) : nullptr;
    bool good = settings && settings->device == cpu_device && settings->spec.dtype == f64 && settings->spec.shape.rank() == 1 &&
                settings->spec.shape[0] <= 8;
    for (int i = op.in.size() - 1; good && i < c.in.size(); ++i)
      good = counts(c.in[i], b.d) && is_dense(impl(c.in[i]).spec.shape, impl(c.in[i]).strides);
    if (!good || sampled > kSlots / 2) sampled = 0;
  }
  if (m.light && !first && !update && !is_small(c)) return run_unwatched(c, b, out);
  make_room(m, b, size_t(declared + singles + 1) + sampled);
  if (known.size() > kMostKnown) known.clear(), outside.clear();
  step_open = true;
  set_pace(m, b);

  std::unique_ptr<Event> event = new_event(m);
  Event& e = *event;
  e.board = at_board, e.part = b.part, e.site = at, e.op = &op, e.first = first,
  e.recording = c.recording;
  const Frame* outer = c.scope.frame;
  while (outer && outer->up) outer = outer->up;
  e.outer = outer ? outer->op : nullptr;
  if (first || sampled) {  // the rules that look at a call once, and those about updates
    e.params = std::make_unique<std::byte[]>(op.params.size);
    std::memcpy(e.params.get(), c.params, op.params.size);
  }
  e.light = m.light;
  if (update) e.kind = Event::update;
  if (c.into) {
    const GradMeta* const g = impl(*c.into).grad;
    e.into = true, e.into_weight = g && g->requires_grad;
  }

  const WatchedArgument* const argument = m.sites[at].argument.get();
  for (int i = 0; i < c.in.size(); ++i) {
    Operand o = operand(c.in[i], b.d);
    if (i < singles && counts(c.in[i], b.d) && !(&op == &op_assign && i == 0)) {  // what is only written to may hold anything
      const TensorImpl& x = impl(c.in[i]);
      Storage& s = *x.storage;
      Known& k = known[&s];
      // What the call writes into has a new version already.
      const bool mine = arg_of(op, i).written || (c.into && impl(*c.into).storage.get() == &s);
      const bool seen = k.writer && (k.is(s) || (mine && k.version + 1 == s.version.load(std::memory_order_relaxed)));
      if (m.light) {
        o.fresh = !seen;  // nothing is known of it, and it is not looked at
      } else if (!seen || (argument && argument->input == i && !k.covers(x))) {
        o.slot = int32_t(b.used++);
        pass(b, c.in[i], uint32_t(o.slot), seen ? Look::part : Look::whole);  // what comes from outside is seen once
        if ((o.fresh = !seen)) {
          if (!*s.writer && s.version.load(std::memory_order_relaxed) == 0)
            s.writer = kLookedAt;  // other memory that comes to lie here has another
          k.writer = s.writer, k.version = s.version.load(std::memory_order_relaxed), k.part = b.part, k.slot = uint32_t(o.slot);
          k.describe(x);
          o.writer = s.writer;
        }
      }
    }
    e.in.push_back(std::move(o));
  }

  if (lists) {
    int begin = op.in.size() - 1, end = c.in.size();
    if (update) MonitorState::gradients_of(c, begin, end);
    see_rest(c, b, begin, end);
  }
  for (int i = 0; i < c.in.size(); ++i)
    if (arg_of(op, i).written) settle_memory(b, c.in[i]);
  if (c.into) settle_memory(b, *c.into);

  Tensor word;
  if (update && m.options.protect && singles >= 2 && !std::strcmp(op.in[1].name, "skip")) word = guard(c, b, e), e.guarded = true;
  if (sampled) {
    e.samples = b.used, b.first = b.used += sampled;
    const TensorImpl& settings = impl(c.in[0]);
    for (int64_t i = 0; i < settings.spec.shape.numel(); ++i) std::memcpy(e.settings + i, settings.data + i * settings.strides[0] * 8, 8);
    sample_update(c, b, e, true);
  }
  e.slot = b.used, b.used += uint32_t(declared);
  set_pace(m, b);
  Watch watch{.board = b.slots + e.slot};
  // A copy has the statistics of what it copies.
  const int copied = &op == &op_assign ? 1 : &op == &op_copy || &op == &op_relayout ? 0 : -1;
  if (copied >= 0 && counts(c.in[copied], b.d)) {
    const TensorImpl& x = impl(c.in[copied]);
    const Known& k = known[x.storage.get()];
    if (k.is(*x.storage) && k.part == b.part && k.covers(x) && x.spec.dtype == c.out[0].dtype && k.elements == c.out[0].shape.numel())
      e.slot = k.slot, watch = {};
  }
  const ScopeGuard keep;
  if (c.into) c.scope.monitor = nullptr;  // a result that is copied into its place is no other op's
  if (word.defined()) {
    SmallVector<const Tensor*, 16> in(c.in.data(), c.in.data() + c.in.size());
    SmallVector<const Spec*, 16> specs;
    in[1] = &word;
    for (int i = 0; i < c.specs.size(); ++i) specs.push_back(i == 1 ? &impl(word).spec : &c.specs[i]);
    Call guarded{op,     c.params,   Inputs(in.data(), int(in.size())), Specs(specs.data(), int(specs.size())), c.out, c.site, c.scope,
                 c.into, c.recording};
    out = run_backend_on(b.d, guarded, watch);
  } else {
    out = run_backend_on(b.d, c, watch);
  }

  if (update) watch_weights(c, b, e);
  if (sampled) sample_update(c, b, e, false);
  // What has been written is known by now, whether it has a slot or not.
  for (int i = 0; i < c.in.size(); ++i) {
    if (!arg_of(op, i).written || !counts(c.in[i], b.d)) continue;
    Storage& s = *impl(c.in[i]).storage;
    Known& k = known[&s];
    k.writer = s.writer, k.version = s.version.load(std::memory_order_relaxed), k.part = 0;
  }
  for (int i = 0; i < out.size(); ++i) {
    const Tensor& made = i == 0 && c.into ? *c.into : out[i];
    const bool watched = counts(out[i], b.d) && counts(made, b.d);
    if (watched && !*impl(made).storage->writer) impl(made).storage->writer = op.name;
    Operand o = operand(made, b.d);
    if (watched) {
      const TensorImpl& y = impl(made);
      Known& k = known[y.storage.get()];
      k.writer = o.writer, k.version = o.version, k.describe(y);
      const bool own = i < declared && (i + 1 < declared || out.size() <= declared) && y.spec.dtype == impl(out[i]).spec.dtype;
      k.slot = e.slot + uint32_t(i), k.part = own ? b.part : 0;
      e.count[std::min(i, declared - 1)] += uint64_t(k.elements);
    }
    e.out.push_back(std::move(o));
  }
  queue.push_back(std::move(event));
}

bool MonitorState::has_board(Device d) {
  if (!boards) boards = std::make_shared<DeviceBoards>();
  return boards->board_of(d) >= 0;
}

Tensors MonitorState::watch_on_device(Call& c, Device d, uint32_t at, bool first) {
  Tensors out;
  boards->watch(*this, c, boards->board_of(d), at, first, out);
  if (debug) settle(true, true);  // the op is to raise; debug mode may wait
  return out;
}

Tensors MonitorState::transfer(Call& c) {
  Tensors out = run_backend(c, nullptr);
  const TensorImpl &from = impl(c.in[0]), &to = impl(out[0]);
  if (!from.storage || !to.storage || !is_inexact(to.spec.dtype)) return out;
  Taint kind = tainted.find(from.storage.get());
  if (to.device == cpu_device) {
    StatSlot s;
    observe(out[0], s);
    if (!boards || s.nan.load() + s.inf.load() == 0) return out;
    settle(true);  // it has arrived: the copy waited
    if (const auto it = boards->known.find(from.storage.get()); it != boards->known.end() && it->second.is(*from.storage))
      kind = tainted.find(it->second.stand_in.get());
    if (kind != TaintedStorages::clean) tainted.set(to.storage.get(), kind);
  } else if (kind != TaintedStorages::clean && has_board(to.device)) {  // which the first copy of a program makes
    boards->operand(out[0], to.device);
    DeviceBoards::Known& k = boards->known[to.storage.get()];
    if (!*to.storage->writer) to.storage->writer = kLookedAt;
    k.writer = to.storage->writer, k.version = to.storage->version.load(std::memory_order_relaxed), k.part = 0;
    tainted.set(k.stand_in.get(), kind);
  }
  return out;
}

bool MonitorState::root_on_device(const Tensor& t) {
  const Device d = impl(t).device;
  if (!boards || boards->now || d == cpu_device) return false;
  auto e = boards->new_event(*this);
  e->kind = DeviceBoards::Event::root;
  e->in.push_back(boards->operand(t, d));
  boards->queue.push_back(std::move(e));
  return boards->step_open = true;
}

void MonitorState::end_device_step() {
  if (!boards->step_open) return;
  boards->step_open = false;
  for (const auto& b : boards->boards) {
    bool full;
    const char* wrong = boards->flush(*b, full);
    if (!wrong && full) {  // the host is many steps ahead
      bool made;
      wrong = b->driver->collected(b->d.index, b->under_way.front().ticket, true, &made);
      settle(false);
      if (!wrong) wrong = boards->flush(*b, full);
    }
    if (wrong) raise_device(wrong);
  }
  if (device_budget() > 0 && !boards->boards.empty()) {
    const DeviceBoards::Board& b = *boards->boards[0];
    const bool made = !b.under_way.empty() && b.under_way.back().id + 1 == b.part;
    boards->laps.ends.push_back({made ? b.under_way.back().ticket : 0, light, ++boards->laps.steps > 3});
  }
  auto e = boards->new_event(*this);
  e->kind = DeviceBoards::Event::end;
  boards->queue.push_back(std::move(e));
}

void MonitorState::break_laps() {
  if (boards) boards->laps.ends.clear();
}

void MonitorState::govern_device() {
  light = false;
  if (!(device_budget() > 0) || boards->boards.empty()) return;
  DeviceBoards::Laps& l = boards->laps;
  const DeviceBoards::Board& b = *boards->boards[0];
  if (!b.kernels->elapsed) return;
  for (bool made = true; made && l.ends.size() > 1;) {
    const auto from = l.ends[0], to = l.ends[1];
    if (from.ticket && to.ticket) {
      if (b.driver->collected(b.d.index, to.ticket, false, &made) || !made) break;
      float ms = 0;
      if (to.counts && !b.kernels->elapsed(b.d.index, from.ticket, to.ticket, &ms)) (to.light ? l.without : l.with).push_back(ms);
    }
    l.ends.pop_front();
  }
  constexpr size_t kEnough = 8;
  if (l.with.size() >= kEnough && l.without.size() >= kEnough) {
    const auto median = [](std::vector<float>& v) {
      std::nth_element(v.begin(), v.begin() + std::ptrdiff_t(v.size() / 2), v.end());
      return double(v[v.size() / 2]);
    };
    const double without = median(l.without);
    device_share = without > 0 ? std::max(0.0, median(l.with) / without - 1) / duty() : 0;
    const uint32_t was = level;
    if (device_share > device_budget() && level < kMostLevels)
      ++level;
    else if (device_share < device_budget() / 5 && level > 0)
      --level;
    l.settled = level == was, l.with.clear(), l.without.clear();
  }
  if (whole_steps || debug || l.steps < 3) return;
  // Steps without, to compare with: some until it has settled, then few.
  light = duty() > 1 ? step % duty() != 0 : step % (l.settled ? 16 : 4) == 3;
}

// ---- when numbers have arrived ----

/// Parts that nobody will ask for again.
void DeviceBoards::recycle() {
  for (size_t i = 0; i < boards.size(); ++i) {
    Board& b = *boards[i];
    uint64_t needed = b.part;
    for (const auto& e : queue)
      if (e->board == int(i)) {
        needed = e->part;
        break;
      }
    while (!b.under_way.empty() && b.under_way.front().arrived && b.under_way.front().id < needed)
      b.spare.push_back(b.under_way.front().slots), b.under_way.pop_front();
  }
}

const char* DeviceBoards::book_arrived(MonitorState& m, bool wait) {
  if (now) return nullptr;
  while (!queue.empty()) {
    const Event& e = *queue.front();
    numbers = nullptr;
    if (e.board >= 0) {
      Board& b = *boards[size_t(e.board)];
      for (Part& p : b.under_way) {
        if (p.id != e.part) continue;
        if (!p.arrived)
          if (const char* wrong = b.driver->collected(b.d.index, p.ticket, wait, &p.arrived)) return wrong;
        if (p.arrived) numbers = &p;
      }
      if (!numbers) break;
    }
    std::unique_ptr<Event> event = std::move(queue.front());
    queue.pop_front();
    book(m, *event);
    if (queue.empty() || queue.front()->board != event->board || queue.front()->part != event->part) recycle();
    event->clear(), booked_events.push_back(std::move(event));
  }
  recycle();
  return nullptr;
}

void MonitorState::settle(bool wait, bool may_raise) {
  if (!boards || boards->now) return;
  const char* wrong = nullptr;
  const bool before = std::exchange(quiet, true);
  if (wait)
    for (const auto& b : boards->boards) {
      bool full = true;
      for (int i = 0; i < 2 && full && !wrong; ++i)
        if (wrong = boards->flush(*b, full); full && !wrong) wrong = boards->book_arrived(*this, true);
    }
  if (!wrong) wrong = boards->book_arrived(*this, wait);
  quiet = before;
  if (wrong) {  // the device is broken: there are no numbers to wait for
    boards->queue.clear();
    if (may_raise) raise_device(wrong);
    return;
  }
  if (wait) {
    boards->late.exchange(*this);
    fold_touched();
    boards->late.exchange(*this);
  }
  if (!may_raise) return;
  if (const size_t i = std::exchange(raise_fault, 0)) {
    const Monitor::Finding f = finding(found[i - 1]);
    raise(Error(ErrorCode::numeric, f.text)
              .op(f.op.c_str())
              .path(f.path.c_str())
              .note("site: " + f.site)
              .note("step: " + std::to_string(f.step) + ", " + f.phase));
  }
}

bool MonitorState::undecided_on_device(size_t i) const {
  const auto& p = boards->late.pending;
  return std::find(p.begin(), p.end(), uint32_t(i)) != p.end();
}

void MonitorState::look(const Tensor& t, StatSlot& slot) const {
  const TensorImpl& x = impl(t);
  if (x.weak || x.device == cpu_device || !boards || !boards->now) return observe(t, slot);
  boards->look(*this, t, slot);
}

void DeviceBoards::look(const MonitorState& m, const Tensor& t, StatSlot& slot) const {
  const TensorImpl& x = impl(t);
  for (const Operand& o : now->in)
    if (o.slot >= 0 && o.t.is(t)) return slot.merge(part_of(uint32_t(o.slot), uint64_t(x.spec.shape.numel())));
  const FloatBits f = float_bits(x.spec.dtype);
  if (const Taint kind = m.tainted.find(x.storage.get()); kind != TaintedStorages::clean) {
    const bool nan = kind == TaintedStorages::nan;
    return slot.merge({.max_bits = f.inf + nan, .count = 1, .nan = nan, .inf = !nan});
  }
  const auto it = outside.find(x.storage.get());
  if (it != outside.end() && it->second.version == x.storage->version.load(std::memory_order_relaxed)) {
    StatSlot::Part p = it->second.seen;
    if (it->second.offset != x.offset || p.count != uint64_t(x.spec.shape.numel())) p.max_bits = 0, p.min_bits = ~uint64_t(0);
    return slot.merge(p);  // of another part only whether it is broken
  }
  if (const Written* w = m.known(t, true)) slot.merge({.max_bits = w->max_bits, .min_bits = w->min_bits, .count = w->elements});
}

/// Books one call as if it had just run.
void DeviceBoards::book(MonitorState& m, Event& e) {
  struct Turn {
    DeviceBoards& b;
    MonitorState& m;
    ScopeGuard keep;
    Turn(DeviceBoards& boards, MonitorState& state, const Event& e) : b(boards), m(state) {
      b.late.exchange(m), m.step = e.step, m.epoch = e.epoch, b.now = &e;
    }
    ~Turn() { b.late.exchange(m), b.now = nullptr; }
  } turn(*this, m, e);
  const auto restore = [](const Operand& o) {
    if (!o.t.defined() || !impl(o.t).storage || !*o.writer) return;
    Storage& s = *impl(o.t).storage;
    s.version.store(o.version, std::memory_order_relaxed), s.writer = o.writer;
  };
  for (const Operand& o : e.in)
    if (o.t.defined() && impl(o.t).device != cpu_device) restore(o);
  m.light_booking = e.light;
  if (e.kind == Event::root) return m.root(e.in[0].t);
  if (e.kind == Event::end) {
    m.judge_step();
    m.write_step();
    m.step_ops = m.step_nan = m.step_inf = m.step_subnormal = 0, m.step_largest = 0;
    m.bad_site = ~uint32_t(0), m.backward_ran = m.updated = m.jump_seen = false;
    return;
  }

  const WatchedSite& site = m.sites[e.site];
  const int declared = e.op->out.size();
  SmallVector<const Tensor*, 16> in;
  SmallVector<const Spec*, 16> specs;
  SpecList made;
  Tensors out;
  constexpr Spec absent{};
  for (const Operand& o : e.in) {
    in.push_back(&o.t), specs.push_back(o.t.defined() ? &impl(o.t).spec : &absent);
    if (o.fresh && o.t.defined() && impl(o.t).storage) m.tainted.set(impl(o.t).storage.get(), TaintedStorages::clean);
    if (o.slot < 0) continue;
    const TensorImpl& x = impl(o.t);
    outside[x.storage.get()] = {x.storage, part_of(uint32_t(o.slot), uint64_t(x.spec.shape.numel())), x.offset, o.version};
  }
  for (const Operand& o : e.out) made.push_back(o.t.defined() ? impl(o.t).spec : Spec{}), out.push_back(o.t);
  Scope& s = scope();
  const Frame above{e.outer, nullptr, nullptr, 0, site.site, nullptr};
  const Frame frame{e.op, e.params.get(), in.data(), int(in.size()), site.site, e.outer && e.outer != e.op ? &above : nullptr};
  s.phase = site.phase, s.path = site.path, s.frame = &frame, s.monitor = nullptr, s.trace = nullptr;
  Call c{*e.op,
         e.params.get(),
         Inputs(in.data(), int(in.size())),
         Specs(specs.data(), int(specs.size())),
         made,
         site.site,
         s,
         e.into ? &out[0] : nullptr,
         e.recording};

  if (e.first)
    for (int i = 0; i < c.in.size() && i < 2; ++i)
      if (const Written* w = c.in[i].defined() && impl(c.in[i]).storage ? m.known(c.in[i], true) : nullptr)
        m.sites[e.site].from[i] = w->site;
  if (e.first && m.options.foretell) m.lint_call(c, e.site);
  if (m.sites[e.site].argument) m.look_at_argument(c, m.sites[e.site], e.site);
  if (e.kind == Event::update) {
    if (e.op->in.size() > 1 && !std::strcmp(e.op->in[1].name, "skip") && c.in.has(1)) {
      StatSlot word;
      m.look(c.in[1], word);
      if (word.max_bits.load() > 0) return;  // a gradient scaler left this step out
    }
    bool bad = false;
    for (const uint32_t g : e.gradients) bad |= numbers->slots[g].nan + numbers->slots[g].inf > 0;
    if (bad) {
      for (const uint32_t i : m.pending) m.found[i].about.severity = Severity::fault;
      m.pending.clear();
      if (m.blocked_step != m.step) ++m.blocked, m.blocked_step = m.step;
      return;
    }
    m.note_update();
    if (e.samples) m.after_device_update(c, e.site, e.settings, numbers->slots + e.samples);
  }
  Taint before[16];
  const bool overwrites = !m.tainted.empty() || e.into || e.op->out[0].alias_of >= 0;
  if (overwrites)
    for (int i = 0; i < c.in.size() && i < 16; ++i)
      before[i] = c.in[i].defined() && impl(c.in[i]).storage ? m.tainted.find(impl(c.in[i]).storage.get()) : TaintedStorages::clean;
  Taint worst = m.worst_of(c);
  alignas(StatSlot) std::byte room[4 * sizeof(StatSlot)];
  auto* slots = reinterpret_cast<StatSlot*>(room);
  for (int i = 0; i < declared; ++i) {
    new (slots + i) StatSlot;
    if (e.count[i]) slots[i].merge(part_of(e.slot + uint32_t(i), e.count[i]));
    if (e.into_weight && e.count[i] && !m.pending.empty() &&
        numbers->slots[e.slot + uint32_t(i)].nan + numbers->slots[e.slot + uint32_t(i)].inf)
      m.note_update();
  }
  for (const Operand& o : e.out) {
    restore(o);
    if (o.t.defined() && impl(o.t).storage) outside.erase(impl(o.t).storage.get());
  }
  m.last_site = e.site;
  m.take(c, out, slots, overwrites ? before : nullptr);
  if (e.kind == Event::update && e.count[0] && slots[0].max_bits.load() >= float_bits(made[0].dtype).inf)
    worst = std::max(worst, slots[0].nan.load() ? TaintedStorages::nan : TaintedStorages::inf);
  m.spread(c, worst);
}

}  // namespace keel
