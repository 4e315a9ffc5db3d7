// What happens on the way of a call: slots, passes, what the host writes down. See device_board.h.
#include "layers/monitor/device_board.h"

#include <algorithm>
#include <cmath>

#include "keel/ops/cast.h"
#include "layers/monitor/rest.h"
#include "op/checks.h"

namespace keel {

extern OpDef op_assign, op_copy, op_relayout;

namespace {

/// A block of memory that holds values, and slots behind them.
constexpr size_t kBlock = kSampleRoom + kSlots * sizeof(BoardSlot);
BoardSlot* slots_of(void* block) { return block ? reinterpret_cast<BoardSlot*>(static_cast<std::byte*>(block) + kSampleRoom) : nullptr; }
std::byte* before_slots(BoardSlot* slots, uint32_t bytes) { return reinterpret_cast<std::byte*>(slots) - bytes; }
void* block_of(BoardSlot* slots) { return before_slots(slots, kSampleRoom); }

}  // namespace

DeviceBoards::~DeviceBoards() {
  for (const auto& b : boards) {
    bool made;
    // The device must not write to memory that is gone.
    if (!b->under_way.empty()) b->driver->collected(b->d.index, b->under_way.back().ticket, true, &made);
    for (const Part& p : b->under_way) b->driver->unpin(block_of(p.slots));
    for (BoardSlot* s : b->spare) b->driver->unpin(block_of(s));
    b->kernels->settle(b->d.index, nullptr, nullptr), b->kernels->pace(b->d.index, {});
    b->driver->free(b->d.index, block_of(b->slots), kBlock);
  }
}

/// The board of `d`; -1 where it has none.
int DeviceBoards::board_of(Device d) {
  for (size_t i = 0; i < boards.size(); ++i)
    if (boards[i]->d == d) return int(i);
  auto b = std::make_unique<Board>();
  b->d = d, b->driver = &driver_of(d), b->kernels = static_cast<const DeviceKernels*>(b->driver->kernels);
  const DeviceKernels& k = *b->kernels;
  if (!k.observe || !k.forbid || !k.pace || !k.settle || !k.gather) return -1;
  if (!b->driver->collect || !b->driver->collected || !b->driver->pin) return -1;
  b->slots = slots_of(b->driver->allocate(d.index, kBlock, "monitor"));
  if (!b->slots) raise(Error(ErrorCode::memory, "no room on " + to_string(d) + " for what the monitor gathers").op("Monitor"));
  const std::vector<std::byte> empty(kBlock);
  boards.push_back(std::move(b));
  Board& made = *boards.back();
  if (const char* wrong = made.driver->copy(d.index, block_of(made.slots), empty.data(), kBlock, CopyWay::to_device)) raise_device(wrong);
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

/// What passes left out of results that tell most.
void DeviceBoards::see_whole(const Call& c, const Tensors& out, Board& b, const Event& e) {
  constexpr size_t kMost = size_t(4) << 20;  // bytes; more would take a time of its own
  for (int i = 0; i < out.size() && i < c.op.out.size(); ++i)
    if (const Tensor& made = i == 0 && c.into ? *c.into : out[i]; counts(made, b.d) && made.nbytes() <= kMost)
      pass(b, made, e.slot + uint32_t(i), Look::rest);
}

/// Sends the board's numbers off, unless `most` copies are under way already.
const char* DeviceBoards::flush(Board& b, size_t most, bool& full) {
  full = b.used > 1 && b.under_way.size() >= most;
  if (b.used <= 1 || full) return nullptr;
  if (b.spare.empty()) b.spare.push_back(slots_of(b.driver->pin(kBlock)));
  if (!b.spare.back()) return b.spare.pop_back(), "no pinned memory for what the monitor gathers";
  Part p{.id = b.part, .slots = b.spare.back()};
  if (const char* wrong = b.driver->collect(b.d.index, before_slots(p.slots, b.sampled), before_slots(b.slots, b.sampled),
                                            b.sampled + b.used * sizeof(BoardSlot), &p.ticket))
    return wrong;
  b.spare.pop_back();
  b.under_way.push_back(p);
  b.used = 1, b.sampled = 0, ++b.part;
  return nullptr;
}

void DeviceBoards::make_room(MonitorState& m, Board& b, size_t slots) {
  const bool fits = b.used + slots <= kSlots;
  if (fits && b.takes_values()) return;
  m.settle(false);
  bool full;
  if (const char* wrong = flush(b, fits ? kMostUnderWay : kMostCopies, full)) raise_device(wrong);
  if (full && !fits) m.settle(true);  // half a million results ahead of the device
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

static void keep_params(const Call& c, DeviceBoards::Event& e) {
  e.params = std::make_unique<std::byte[]>(c.op.params.size);
  std::memcpy(e.params.get(), c.params, c.op.params.size);
}

/// Notes the settings of an optimiser's step, where they lie on the host.
static void note_settings(const Call& c, DeviceBoards::Event& e) {
  const TensorImpl* const s = c.in.has(0) ? &impl(c.in[0]) : nullptr;
  if (!s || s->device != cpu_device || s->spec.dtype != f64 || s->spec.shape.rank() != 1 || s->spec.shape[0] > 8) return;
  e.settings = int(s->spec.shape[0]);
  for (int i = 0; i < e.settings; ++i) std::memcpy(e.setting + i, s->data + i * s->strides[0] * 8, 8);
}

/// Results that are watched in every step.
static bool is_small(const Call& c) {
  for (const Spec& s : c.out)
    if (s.shape.unknown() || s.shape.numel() * int64_t(size_of(s.dtype)) > kSmall) return false;
  return true;
}

/// A step with a setting that is no number does not run: that is known at once, unlike what is in its gradients.
bool DeviceBoards::refuse(MonitorState& m, const Call& c, int at_board, uint32_t at, bool first) {
  std::unique_ptr<Event> e = new_event(m);
  note_settings(c, *e);
  const bool bad = !std::all_of(e->setting, e->setting + e->settings, [](double v) { return std::isfinite(v); });
  if (bad) {
    e->kind = Event::update, e->refused = true, e->site = at, e->op = &c.op, e->first = first;
    keep_params(c, *e);
    for (int i = 0; i < c.in.size(); ++i) e->in.push_back(operand(c.in[i], boards[size_t(at_board)]->d));
    step_open = true;
    queue.push_back(std::move(e));
  } else {
    e->clear(), booked_events.push_back(std::move(e));
  }
  return bad;
}

/// What the host knows of a call before it runs.
void DeviceBoards::describe(MonitorState& m, Call& c, Board& b, Event& e, uint32_t at) {
  e.part = b.part, e.site = at, e.op = &c.op, e.recording = c.recording, e.light = m.light;
  const Frame* outer = c.scope.frame;
  while (outer && outer->up) outer = outer->up;
  e.outer = outer ? outer->op : nullptr;
  if (c.into) {
    const GradMeta* const g = impl(*c.into).grad;
    e.into = true, e.into_weight = g && g->requires_grad;
  }
  if (c.scope.phase != Phase::optimiser || !MonitorState::is_update(c.op)) return;
  e.kind = Event::update, e.made = b.used++, e.old_gradients = m.goes_along_old_gradients(c);
  e.guard.holds = m.options.protect, e.guard.board = b.slots + e.made, c.guard = &e.guard;
  note_settings(c, e);
}

/// Looks at input `i` if nobody has seen its memory, or a rule asks for what no slot tells.
void DeviceBoards::look_at_input(const MonitorState& m, const Call& c, int i, Board& b, Operand& o, uint32_t at) {
  const TensorImpl& x = impl(c.in[i]);
  Storage& s = *x.storage;
  Known& k = known[&s];
  const auto version = [&] { return s.version.load(std::memory_order_relaxed); };
  // What the call writes into has a new version already.
  const bool mine = arg_of(c.op, i).written || (c.into && impl(*c.into).storage.get() == &s);
  const bool seen = k.writer && (k.is(s) || (mine && k.version + 1 == version()));
  o.fresh = !seen;
  if (m.light && s.writer != kLeftOut) return;  // if nothing is known of it, it is not looked at
  const WatchedArgument* const argument = m.sites[at].argument.get();
  if (seen && !(argument && argument->input == i && !k.covers(x))) return;
  o.slot = int32_t(b.used++);
  pass(b, c.in[i], uint32_t(o.slot), seen ? Look::part : Look::whole);  // what comes from outside is seen once
  if (seen) return;
  if (!*s.writer && version() == 0) s.writer = kLookedAt;  // other memory that comes to lie here has another
  k.writer = s.writer, k.version = version(), k.part = b.part, k.slot = uint32_t(o.slot), k.site = ~uint32_t(0);
  k.describe(x);
  o.writer = s.writer;
}

/// The slot of what a call copies, if it is on the board: the copy has the same statistics. Else slot 0.
uint32_t DeviceBoards::slot_of_copied(const Call& c, const Board& b) {
  const int copied = &c.op == &op_assign ? 1 : &c.op == &op_copy || &c.op == &op_relayout ? 0 : -1;
  if (copied < 0 || !counts(c.in[copied], b.d)) return 0;
  const TensorImpl& x = impl(c.in[copied]);
  const Known& k = known[x.storage.get()];
  const bool whole = k.is(*x.storage) && k.part == b.part && k.covers(x);
  return whole && x.spec.dtype == c.out[0].dtype && k.elements == c.out[0].shape.numel() ? k.slot : 0;
}

/// Runs an optimiser's step with `word` as the one that asks for no step.
static Tensors run_with_word(Call& c, const Tensor& word, Device d, Watch watch) {
  SmallVector<const Tensor*, 16> in(c.in.data(), c.in.data() + c.in.size());
  SmallVector<const Spec*, 16> specs;
  in[1] = &word;
  for (int i = 0; i < c.specs.size(); ++i) specs.push_back(i == 1 ? &impl(word).spec : &c.specs[i]);
  Call worded{
      c.op,        c.params, Inputs(in.data(), int(in.size())), Specs(specs.data(), int(specs.size())), c.out, c.site, c.scope, c.into,
      c.recording, c.guard};
  return run_backend_on(d, worded, watch);
}

/// What a call has written is known from now on, whether it has a slot or not.
void DeviceBoards::note_results(const Call& c, const Tensors& out, Board& b, Event& e) {
  const int declared = c.op.out.size();
  for (int i = 0; i < c.in.size(); ++i) {
    if (!arg_of(c.op, i).written || !counts(c.in[i], b.d)) continue;
    Storage& s = *impl(c.in[i]).storage;
    Known& k = known[&s];
    k.writer = s.writer, k.version = s.version.load(std::memory_order_relaxed), k.part = 0, k.site = ~uint32_t(0);
  }
  for (int i = 0; i < out.size(); ++i) {
    const Tensor& made = i == 0 && c.into ? *c.into : out[i];
    const bool watched = counts(out[i], b.d) && counts(made, b.d);
    if (watched && !*impl(made).storage->writer) impl(made).storage->writer = c.op.name;
    Operand o = operand(made, b.d);
    if (watched) {
      const TensorImpl& y = impl(made);
      Known& k = known[y.storage.get()];
      k.writer = o.writer, k.version = o.version, k.describe(y);
      const bool own = i < declared && (i + 1 < declared || out.size() <= declared) && y.spec.dtype == impl(out[i]).spec.dtype;
      k.slot = e.slot + uint32_t(i), k.part = own ? b.part : 0, k.site = e.site;
      e.count[std::min(i, declared - 1)] += uint64_t(k.elements);
    }
    e.out.push_back(std::move(o));
  }
}

void DeviceBoards::watch(MonitorState& m, Call& c, int at_board, uint32_t at, bool first, Tensors& out) {
  Board& b = *boards[size_t(at_board)];
  const OpDef& op = c.op;
  const ArgDef* const last = op.in.size() ? &op.in[op.in.size() - 1] : nullptr;
  const bool lists = last && last->variadic && last->written;  // many tensors that others have seen
  const int declared = op.out.size(), singles = lists ? std::min(op.in.size() - 1, c.in.size()) : c.in.size();
  const bool update = c.scope.phase == Phase::optimiser && MonitorState::is_update(op);
  if (m.light && !first && !update && !m.sites[at].tells_all() && !is_small(c)) return run_unwatched(c, b, out);
  make_room(m, b, size_t(declared + singles + 2));
  if (known.size() > kMostKnown) known.clear(), outside.clear();
  step_open = true;
  set_pace(m, b);

  std::unique_ptr<Event> event = new_event(m);
  Event& e = *event;
  e.board = at_board, e.first = first;
  describe(m, c, b, e, at);
  for (int i = 0; i < c.in.size(); ++i) {
    Operand o = operand(c.in[i], b.d);
    if (i < singles && counts(c.in[i], b.d) && !(&op == &op_assign && i == 0))  // what is only written to may hold anything
      look_at_input(m, c, i, b, o, at);
    e.in.push_back(std::move(o));
  }
  if (lists) {
    int begin = op.in.size() - 1, end = c.in.size();
    if (update) MonitorState::gradients_of(c, begin, end);
    see_rest(c, b, begin, end);
  }
  const bool takes_values = b.takes_values();  // or rules about values rest in this call
  if (takes_values) plan_before(m, c, b, e, at);
  for (int i = 0; i < c.in.size(); ++i)
    if (arg_of(op, i).written) settle_memory(b, c.in[i]);
  if (c.into) settle_memory(b, *c.into);

  Tensor word;
  if (update && m.options.protect && singles >= 2 && !std::strcmp(op.in[1].name, "skip")) word = guard(c, b, e);
  const uint32_t copied = slot_of_copied(c, b), own = b.used;
  e.slot = copied ? copied : own, b.used += uint32_t(declared);
  set_pace(m, b);
  const Watch watch{.board = copied ? nullptr : b.slots + own};
  const ScopeGuard keep;
  if (c.into) c.scope.monitor = nullptr;  // a result that is copied into its place is no other op's
  out = word.defined() ? run_with_word(c, word, b.d, watch) : run_backend_on(b.d, c, watch);

  if (update) watch_weights(c, b, e);
  if (watch && m.sites[at].tells_all()) see_whole(c, out, b, e);
  if (takes_values) plan_after(m, c, out, b, e, at);
  if (first || update || !e.wanted.asks.empty()) keep_params(c, e);  // for rules that look at a call once, and those about values
  note_results(c, out, b, e);
  queue.push_back(std::move(event));
}

bool MonitorState::has_board(Device d) {
  if (!boards) boards = std::make_shared<DeviceBoards>();
  return boards->board_of(d) >= 0;
}

Tensors MonitorState::watch_on_device(Call& c, Device d, uint32_t at, bool first) {
  const int board = boards->board_of(d);
  const bool update = c.scope.phase == Phase::optimiser && is_update(c.op);
  Tensors out;
  if (update && options.protect && boards->refuse(*this, c, board, at, first))
    out.push_back(c.in[c.op.out[0].alias_of]);
  else
    boards->watch(*this, c, board, at, first, out);
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
    if (!*to.storage->writer) to.storage->writer = kLookedAt;
    auto e = boards->new_event(*this);
    e->kind = DeviceBoards::Event::brought, e->taint = kind;
    e->in.push_back(boards->operand(out[0], to.device));
    DeviceBoards::Known& k = boards->known[to.storage.get()];
    k.writer = e->in[0].writer, k.version = e->in[0].version, k.part = 0;
    boards->queue.push_back(std::move(e));
  }
  return out;
}

bool monitor_rests() {
  auto* const m = static_cast<MonitorState*>(scope().monitor);
  // Whoever holds weights back, or wants to stop, needs the ops.
  if (!m || !m->light || m->options.protect || m->debug || m->options.break_on != BreakOn::never) return false;
  for (const auto& b : m->boards->boards)
    if (const char* wrong = b->kernels->settle(b->d.index, nullptr, nullptr)) raise_device(wrong);
  m->boards->known.clear(), m->boards->outside.clear();  // replays write without saying so
  return m->boards->step_open = true;
}

void monitor_sees(const Tensors& results, bool usual) {
  auto* const m = static_cast<MonitorState*>(scope().monitor);
  m->boards->laps.unusual |= !usual;
  const ScopeGuard keep;
  scope().grad = false;
  for (const Tensor& t : results)
    if (t.defined() && is_inexact(t.dtype()) && t.nbytes() <= kSmall && t.device() != cpu_device && m->has_board(t.device())) {
      impl(t).storage->writer = kLeftOut;
      t.clone();  // what it reads is looked at
    }
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
    const char* wrong = boards->flush(*b, kMostUnderWay, full);
    if (!wrong && full) settle(false), wrong = boards->flush(*b, kMostUnderWay, full);
    // Where the host is still that far ahead, the board goes on to gather: what it holds travels with the next step's.
    if (wrong) raise_device(wrong);
  }
  if (times_device() && !boards->boards.empty()) {
    const DeviceBoards::Board& b = *boards->boards[0];
    DeviceBoards::Laps& l = boards->laps;
    const uint64_t ticket = !b.under_way.empty() && b.under_way.back().id + 1 == b.part ? b.under_way.back().ticket : 0;
    // A step of which nothing was watched collects nothing.
    l.ends.push_back({ticket == l.last ? 0 : ticket, light, ++l.steps > 3 && !std::exchange(l.unusual, false)});
    l.last = ticket;
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
  if (boards->boards.empty()) return;
  if (!times_device()) {  // with a fixed rhythm devices keep step with the CPU
    light = !governor.whole() && !whole_steps && !debug;
    return;
  }
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
    if (device_share > budget() && level < kMostLevels)
      ++level;
    else if (device_share < budget() / 5 && level > 0)
      --level;
    l.settled = level == was, l.with.clear(), l.without.clear();
  }
  if (whole_steps || debug || l.steps < 3) return;
  // Steps without, to compare with: some until it has settled, then few.
  light = duty() > 1 ? step % duty() != 0 : step % (l.settled ? 16 : 4) == 3;
}

}  // namespace keel
