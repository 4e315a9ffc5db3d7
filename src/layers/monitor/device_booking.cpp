// What happens when a board's numbers have arrived: calls are booked in the order of the program. See device_board.h.
#include "layers/monitor/device_board.h"

namespace keel {

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
        if (wrong = boards->flush(*b, kMostCopies, full); full && !wrong) wrong = boards->book_arrived(*this, true);
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

/// What is known of a tensor that no watched op wrote.
const DeviceBoards::Outside* DeviceBoards::found_outside(const Tensor& t) const {
  const TensorImpl& x = impl(t);
  const auto it = outside.find(x.storage.get());
  const bool fits = it != outside.end() && it->second.version == x.storage->version.load(std::memory_order_relaxed) &&
                    it->second.offset == x.offset && it->second.seen.count == uint64_t(x.spec.shape.numel());
  return fits ? &it->second : nullptr;
}

int64_t MonitorState::first_bad_on_device(const Tensor& t) const {
  const DeviceBoards::Outside* const o = boards ? boards->found_outside(t) : nullptr;
  return o ? o->first_bad : -1;
}

std::vector<float> MonitorState::some_on_device(const Tensor& t) const {
  const DeviceBoards::Outside* const o = boards ? boards->found_outside(t) : nullptr;
  return o ? o->values : std::vector<float>();
}

namespace {

/// A storage as it was when the call was made.
void restore(const DeviceBoards::Operand& o) {
  if (!o.t.defined() || !impl(o.t).storage || !*o.writer) return;
  Storage& s = *impl(o.t).storage;
  s.version.store(o.version, std::memory_order_relaxed), s.writer = o.writer;
}

Taint taint_of(const MonitorState& m, const Tensor& t) {
  return t.defined() && impl(t).storage ? m.tainted.find(impl(t).storage.get()) : TaintedStorages::clean;
}

}  // namespace

/// Books an event as if it had just happened.
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
  for (const Operand& o : e.in)
    if (o.t.defined() && impl(o.t).device != cpu_device) restore(o);
  m.light_booking = e.light;
  switch (e.kind) {
    case Event::root: return m.root(e.in[0].t);
    case Event::brought: return m.tainted.set(impl(e.in[0].t).storage.get(), e.taint);
    case Event::end: return book_end(m);
    case Event::call:
    case Event::update: return book_call(m, e);
  }
}

void DeviceBoards::book_end(MonitorState& m) {
  m.judge_step();
  m.write_step();
  m.step_ops = m.step_nan = m.step_inf = m.step_subnormal = 0, m.step_largest = 0;
  m.bad_site = ~uint32_t(0), m.backward_ran = m.updated = m.jump_seen = m.jump_told = false;
}

/// What was seen of inputs that nobody had seen before.
void DeviceBoards::book_inputs(MonitorState& m, const Event& e) {
  for (const Operand& o : e.in) {
    if (o.fresh && o.t.defined() && impl(o.t).storage) m.tainted.set(impl(o.t).storage.get(), TaintedStorages::clean);
    if (o.slot < 0) continue;
    const TensorImpl& x = impl(o.t);
    const uint64_t first = numbers->slots[o.slot].first;
    outside[x.storage.get()] = {x.storage, part_of(uint32_t(o.slot), uint64_t(x.spec.shape.numel())), x.offset, o.version,
                                first ? int64_t(~first) : -1};
  }
}

void DeviceBoards::book_call(MonitorState& m, Event& e) {
  const WatchedSite& site = m.sites[e.site];
  SmallVector<const Tensor*, 16> in;
  SmallVector<const Spec*, 16> specs;
  SpecList made;
  Tensors out;
  constexpr Spec absent{};
  for (const Operand& o : e.in) in.push_back(&o.t), specs.push_back(o.t.defined() ? &impl(o.t).spec : &absent);
  for (const Operand& o : e.out) made.push_back(o.t.defined() ? impl(o.t).spec : Spec{}), out.push_back(o.t);
  book_inputs(m, e);
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
  keep_values(c, e);
  judge(m, c, e, Moment::before);
  if (e.kind == Event::update && !book_step(m, c, e)) return;
  book_results(m, c, out, e);
  if (e.kind == Event::update) {
    m.judge_made(c, e.site, e.guard, e.settings ? e.setting : nullptr);
    judge_update(m, c, e);
  } else {
    judge(m, c, e, Moment::after);
  }
}

/// An optimiser's step; false: it was not made.
bool DeviceBoards::book_step(MonitorState& m, Call& c, Event& e) {
  if (e.op->in.size() > 1 && !std::strcmp(e.op->in[1].name, "skip") && c.in.has(1)) {
    StatSlot word;
    m.look(c.in[1], word);
    if (word.max_bits.load() > 0) return false;  // a gradient scaler left it out
  }
  const bool set = e.settings == 0 || m.judge_settings(c, e.site, e.setting, e.settings);
  bool bad = e.refused && !set;
  for (const uint32_t g : e.gradients) bad |= numbers->slots[g].nan + numbers->slots[g].inf > 0;
  if (bad) {
    for (const uint32_t i : m.pending) m.found[i].about.severity = Severity::fault;
    m.pending.clear();
    m.note_blocked();
    return false;
  }
  m.note_update();
  m.judge_uncleared(c, e.site, e.old_gradients);
  if (const BoardSlot& made = numbers->slots[e.made]; made.seen)
    e.guard.note(int64_t(~made.first), int64_t(made.seen), uint32_t(made.part));
  c.guard = &e.guard;
  return true;
}

void DeviceBoards::book_results(MonitorState& m, Call& c, const Tensors& out, const Event& e) {
  const int declared = e.op->out.size();
  Taint before[16];
  const bool overwrites = !m.tainted.empty() || e.into || e.op->out[0].alias_of >= 0;
  for (int i = 0; overwrites && i < c.in.size() && i < 16; ++i) before[i] = taint_of(m, c.in[i]);
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
  if (e.kind == Event::update && e.count[0] && slots[0].max_bits.load() >= float_bits(c.out[0].dtype).inf)
    worst = std::max(worst, slots[0].nan.load() ? TaintedStorages::nan : TaintedStorages::inf);
  m.spread(c, worst);
}

}  // namespace keel
