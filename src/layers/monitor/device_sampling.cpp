// Rules that look at values, of tensors on a device: what they want to see is gathered before a board's slots, and judged when it has
// arrived. See device_board.h.
#include "layers/monitor/device_board.h"

namespace keel {

namespace {

Sight sight_of(const DeviceBoards::Board& b) { return {b.d, kRoomOfRule}; }

/// Whether boards take all lists of an optimiser's step: then it is sampled.
bool takes_lists(const Call& c, const Sight& sight) {
  for (int i = c.op.in.size() - 1; i < c.in.size(); ++i)
    if (!sight.takes(c.in[i]) || !is_dense(impl(c.in[i]).spec.shape, impl(c.in[i]).strides)) return false;
  return true;
}

}  // namespace

/// Asks for what rules want to see before the call runs.
void DeviceBoards::plan_before(MonitorState& m, const Call& c, Board& b, Event& e, uint32_t at) {
  const Sight sight = sight_of(b);
  for (int i = 0; i < int(e.in.size()) && i < 8; ++i)  // what comes from outside may turn out to be to blame
    if (e.in[i].slot >= 0 && e.in[i].fresh && sight.takes_rows(c.in[i]) && !c.in[i].requires_grad())
      e.wanted.ask(ValueRule::data, i, {evenly(c.in[i].size(), 256)});
  m.rules_before(c, at, e.first, m.turn(true)).each([&](ValueRule r) {
    if (r == ValueRule::running_sum) {
      const Storage* const s = impl(c.in[0]).storage.get();
      const auto k = known.find(s);
      if (k == known.end() || k->second.site != at) return;
      const uint32_t version = s->version.load(std::memory_order_relaxed);
      if (k->second.version != version && k->second.version + 1 != version) return;  // another op wrote it since
    }
    m.plan(r, c, {}, at, sight, e.wanted);
  });
  if (e.kind == Event::update && !m.light && m.options.foretell && e.settings && takes_lists(c, sight)) {
    const size_t asks = e.wanted.asks.size(), lines = e.wanted.lines.size();
    MonitorState::plan_update(c, e.wanted);
    int64_t bytes = 0;
    for (size_t k = asks; k < e.wanted.asks.size(); ++k)
      bytes += e.wanted.elements(e.wanted.asks[k]) * int64_t(size_of(impl(c.in[e.wanted.asks[k].operand]).spec.dtype)) + 15;
    if (bytes > kRoomOfCall - kRoomOfRule) e.wanted.asks.resize(asks), e.wanted.lines.resize(lines);
  }
  gather(c, nullptr, b, e);
}

/// And after it has run.
void DeviceBoards::plan_after(MonitorState& m, const Call& c, const Tensors& out, Board& b, Event& e, uint32_t at) {
  const Tensor& made = c.into ? *c.into : out[0];
  m.rules_after(c, at, m.turn(true)).each([&](ValueRule r) { m.plan(r, c, made, at, sight_of(b), e.wanted); });
  gather(c, &out, b, e);
}

/// Gives room to what has none yet and can be looked at now, and asks the device for it.
void DeviceBoards::gather(const Call& c, const Tensors* out, Board& b, Event& e) {
  std::vector<Gather> list;
  for (Wanted::Ask& a : e.wanted.asks) {
    if (a.place || (!out && !a.before())) continue;
    const TensorImpl& x = impl(a.operand >= 0 ? c.in[a.operand] : c.into ? *c.into : (*out)[-1 - a.operand]);
    const auto size = int64_t(size_of(x.spec.dtype));
    b.sampled += uint32_t((e.wanted.elements(a) * size + 15) / 16 * 16), a.place = b.sampled;
    std::byte* to = reinterpret_cast<std::byte*>(b.slots) - a.place;
    for (uint32_t k = a.first; k < a.end; ++k) {
      list.push_back({x.data, x.spec.dtype, e.wanted.lines[k], to});
      to += e.wanted.lines[k].size() * size;
    }
  }
  if (list.empty()) return;
  if (const char* wrong = b.kernels->gather(b.d.index, int(list.size()), list.data())) raise_device(wrong);
}

/// What has arrived of what a rule asked for.
SmallVector<Sample, 8> DeviceBoards::samples(const Call& c, const Event& e, ValueRule rule) const {
  SmallVector<Sample, 8> s;
  for (const Wanted::Ask& a : e.wanted.asks) {
    if (a.rule != rule) continue;
    const DType t = a.operand >= 0 ? impl(c.in[a.operand]).spec.dtype : c.out[-1 - a.operand].dtype;
    const std::byte* const p = reinterpret_cast<const std::byte*>(numbers->slots) - a.place;
    s.push_back({a.operand, t, {e.wanted.lines.data() + a.first, e.wanted.lines.data() + a.end}, p, true});
  }
  return s;
}

/// Lets the rules of this moment judge what has arrived.
void DeviceBoards::judge(MonitorState& m, const Call& c, const Event& e, Moment when) {
  ValueRules asked;
  for (const Wanted::Ask& a : e.wanted.asks)
    if (moment_of(a.rule) == when) asked.add(a.rule);
  asked.each([&](ValueRule r) {
    const auto s = samples(c, e, r);
    m.judge(r, c, e.site, {s.data(), size_t(s.size())});
  });
}

/// Keeps values of what no op made.
void DeviceBoards::keep_values(const Call& c, const Event& e) {
  for (const Sample& s : samples(c, e, ValueRule::data))
    if (const auto at = outside.find(impl(c.in[s.operand]).storage.get()); at != outside.end()) at->second.values = s.all<float>();
}

/// An optimiser's step that has been made.
void DeviceBoards::judge_update(MonitorState& m, const Call& c, const Event& e) {
  SmallVector<Sample, 8> s = samples(c, e, ValueRule::weights);
  if (s.empty()) return;
  for (Sample& after : samples(c, e, ValueRule::update)) s.push_back(after);
  m.judge_device_update(c, e.site, e.setting, {s.data(), size_t(s.size())});
}

}  // namespace keel
