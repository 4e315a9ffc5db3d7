// Which rules look at values, and how they are served on the CPU.
#include "layers/monitor/sampling.h"

#include <bit>
#include <cstring>

#include "backend/float_bits.h"
#include "layers/monitor/monitor.h"

namespace keel {

extern OpDef op_assign;

namespace {

template <class T>
T value_at(const std::byte* p, DType t) {
  if constexpr (std::is_same_v<T, uint64_t>) {
    uint64_t bits = 0;
    std::memcpy(&bits, p, size_of(t));
    return bits;
  } else {
    return T(read_double(p, t));
  }
}

}  // namespace

template <class T>
void Sample::read(T* to) const {
  const auto size = int64_t(size_of(dtype));
  const std::byte* next = data;
  for (const Lines& l : lines)
    for (int64_t k = 0; k < l.lines; ++k) {
      const std::byte* p = packed ? next : data + (l.from + k * l.pitch) * size;
      const int64_t step = packed ? size : l.stride * size;
      next += l.count * size;
      if (std::is_same_v<T, float> && dtype == f32 && step == 4) {  // the usual ones, without a call a value
        std::memcpy(to, p, size_t(l.count) * 4), to += l.count;
      } else if (!std::is_same_v<T, uint64_t> && dtype == f32) {
        for (int64_t i = 0; i < l.count; ++i, p += step) {
          float v;
          std::memcpy(&v, p, 4), *to++ = T(v);
        }
      } else if (!std::is_same_v<T, uint64_t> && dtype == bf16) {
        for (int64_t i = 0; i < l.count; ++i, p += step) {
          uint16_t bits;
          std::memcpy(&bits, p, 2), *to++ = T(std::bit_cast<float>(uint32_t(bits) << 16));
        }
      } else {
        for (int64_t i = 0; i < l.count; ++i, p += step) *to++ = value_at<T>(p, dtype);
      }
    }
}
template void Sample::read(float*) const;
template void Sample::read(double*) const;
template void Sample::read(uint64_t*) const;

ValueRules MonitorState::rules_before(const Call& c, uint32_t at, bool first, int64_t turn) const {
  ValueRules r;
  if (!options.foretell) return r;
  if (first) r.add(ValueRule::exponents);
  if (turn < 0) return r;
  if (const auto& a = sites[at].argument) {
    if (a->kind == WatchedArgument::vanishes) r.add(ValueRule::denominator);
    if (a->kind == WatchedArgument::targets) r.add(ValueRule::targets);
  }
  if (may_add_up(c)) r.add(ValueRule::running_sum);
  return r;
}

ValueRules MonitorState::rules_after(const Call& c, uint32_t at, int64_t turn) const {
  ValueRules r;
  if (turn < 0 || !options.foretell) return r;
  // Sites take turns, so that every step pays the same.
  if (options.shadow_every > 0 && (turn + at) % options.shadow_every == 0) {
    if (has_product(c.op)) r.add(ValueRule::product);
    if (has_rows(c.op)) r.add(ValueRule::rows);
  }
  if ((uint64_t(turn) + at) % kValuesEvery == 0) r.add(ValueRule::spread);
  if (const auto& a = sites[at].argument; a && a->kind == WatchedArgument::attends && turn % 8 == 0) r.add(ValueRule::attention);
  if (has_slopes(c, at, turn)) r.add(ValueRule::slopes);
  if (may_stand_still(c) || (&c.op == &op_assign && impl(c.in[0]).device == cpu_device)) r.add(ValueRule::mixture);
  return r;
}

bool MonitorState::plan(ValueRule r, const Call& c, const Tensor& out, uint32_t at, const Sight& sight, Wanted& to) {
  const size_t asks = to.asks.size();
  switch (r) {
    case ValueRule::exponents: plan_exponents(c, sight, to); break;
    case ValueRule::denominator: plan_denominator(c, at, sight, to); break;
    case ValueRule::targets: plan_targets(c, at, sight, to); break;
    case ValueRule::running_sum: plan_running_sum(c, sight, to); break;
    case ValueRule::product: plan_product(c, out, at, sight, to); break;
    case ValueRule::rows: plan_rows(c, out, at, sight, to); break;
    case ValueRule::spread: plan_spread(c, out, at, sight, to); break;
    case ValueRule::attention: plan_attention(c, out, sight, to); break;
    case ValueRule::slopes: plan_slopes(c, out, sight, to); break;
    case ValueRule::mixture: plan_mixture(c, out, sight, to); break;
    case ValueRule::data:
    case ValueRule::weights:
    case ValueRule::update: break;  // of devices only: plan_before
  }
  return to.asks.size() > asks;
}

void MonitorState::judge(ValueRule r, const Call& c, uint32_t at, Samples s) {
  switch (r) {
    case ValueRule::exponents: return judge_exponents(c, at, s);
    case ValueRule::denominator: return judge_denominator(at, s[0]);
    case ValueRule::targets: return judge_targets(at, s[0]);
    case ValueRule::running_sum: return judge_running_sum(at, s[0].all<float>(), s[1].all<float>(), s[2].all<float>());
    case ValueRule::product: return judge_product(c, at, s);
    case ValueRule::rows: return judge_rows(c, at, s);
    case ValueRule::spread: return judge_spread(c, at, s[0]);
    case ValueRule::attention: return judge_attention_rows(c, at, s);
    case ValueRule::slopes: return judge_slopes(c, at, s[0]);
    case ValueRule::mixture: return judge_mixture(c, at, s);
    case ValueRule::data:
    case ValueRule::weights:
    case ValueRule::update: return;
  }
}

void MonitorState::look_at_values(ValueRule r, const Call& c, const Tensor& out, uint32_t at) {
  wanted.clear();
  if (!plan(r, c, out, at, {}, wanted)) return;
  SmallVector<Sample, 4> s;
  for (size_t k = 0; k < wanted.asks.size(); ++k) {
    const int operand = wanted.asks[k].operand;
    s.push_back(sample_of(operand < 0 ? out : c.in[operand], wanted, k));
  }
  judge(r, c, at, {s.data(), size_t(s.size())});
}

}  // namespace keel
