// Rules that need no history: they look at a call when it is made at a place for the first time, and at sums that stand still.
#include <algorithm>
#include <cmath>

#include "core/impl.h"
#include "keel/ops/attention.h"
#include "layers/monitor/lint_rules.h"
#include "layers/monitor/monitor.h"
#include "layers/monitor/sampling.h"

namespace keel {

extern OpDef op_add, op_arange, op_attention, op_cast, op_div, op_lerp, op_mul, op_pow, op_sub;

namespace {

/// Entropy in bits of the five leading bits of the exponent: 5 where all exponents are equally likely, as in memory that nobody wrote;
/// numbers that somebody computed have 2 or 3.
double exponent_entropy(const Sample& x) {
  int exponent_bits = 8, low = 0;
  switch (x.dtype) {
    case DType::f64: exponent_bits = 11, low = 52; break;
    case DType::f32: low = 23; break;
    case DType::bf16: low = 7; break;
    case DType::f16: exponent_bits = 5, low = 10; break;
    default: return 0;
  }
  int count[32] = {};
  const std::vector<uint64_t> bits = x.all<uint64_t>();
  for (const uint64_t b : bits) ++count[b >> (low + exponent_bits - 5) & 31];
  double h = 0;
  for (const int c : count)
    if (c) h -= double(c) / double(bits.size()) * std::log2(double(c) / double(bits.size()));
  return h;
}

}  // namespace

void MonitorState::lint_call(const Call& c, uint32_t at) {
  WatchedSite& s = sites[at];
  for (int i = 0; i < c.in.size() && i < 2; ++i)
    if (const Written* w = c.in[i].defined() ? known(c.in[i], true) : nullptr) s.from[i] = w->site;
  s.twice = c.in.size() == 2 && c.in[0].defined() && c.in[1].defined() && c.in[0].is(c.in[1]);
  if (c.scope.phase == Phase::backward) return;
  const bool whole = &c.op == &op_cast && is_integer(impl(c.in[0]).spec.dtype), was = s.from[0] < sites.size() && sites[s.from[0]].counts;
  s.counts = &c.op == &op_arange || whole || (&c.op == &op_cast && was);
  const auto speak = [&](Severity severity, Detector d, uint32_t blamed, const char* kind, double value, Suggestion to_do,
                         std::string text) {
    Monitor::Finding about;
    about.severity = severity, about.value = value, about.suggestion = std::move(to_do), about.text = std::move(text);
    warn(d, blamed, 0, kind, std::move(about));
  };
  LintCall call{.op = &c.op, .params = c.params, .call = int(at), .phase = c.scope.phase, .recording = c.recording};
  if (c.in.size() && c.in[0].defined())
    call.in = impl(c.in[0]).spec.dtype, call.shape = &impl(c.in[0]).spec.shape, call.in_elements = call.shape->numel();
  if (c.out.size()) call.out = c.out[0].dtype, call.out_elements = c.out[0].shape.numel();
  find_numbers(c, call.numbers);
  if (&c.op == &op_mul || &c.op == &op_div)
    for (int i = &c.op == &op_div; i < 2; ++i)
      if (const double v = std::abs(call.numbers[i].given); v > 0) s.factor = float(&c.op == &op_div ? -std::log2(v) : std::log2(v));
  if (const double e = call.numbers[1].given; &c.op == &op_pow && call.numbers[1].dtype != DType::none && e < 1 && e != 0) {
    s.argument = std::make_unique<WatchedArgument>();
    s.argument->input = 0, s.argument->power = float(e);
  }
  if (&c.op == &op_pow && !impl(c.in[1]).weak) {  // whose power may be any
    s.argument = std::make_unique<WatchedArgument>();
    s.argument->input = 0;
  }
  const LintMakers makers{.of = this,
                          .op = [](const void* of, int k) { return static_cast<const MonitorState*>(of)->sites[size_t(k)].op; },
                          .maker =
                              [](const void* of, int k, int i) {
                                const MonitorState& m = *static_cast<const MonitorState*>(of);
                                const uint32_t from = i < 2 ? m.sites[size_t(k)].from[i] : ~0u;
                                return from < m.sites.size() ? int(from) : -1;
                              },
                          .twice = [](const void* of, int k) { return static_cast<const MonitorState*>(of)->sites[size_t(k)].twice; },
                          .exact = false};
  lint_rules(call, makers,
             [&](const LintWord& w) { speak(w.severity, Detector::lint, uint32_t(w.call), w.rule, w.value, w.suggestion, w.text); });
}

/// Memory that nobody wrote.
void MonitorState::plan_exponents(const Call& c, const Sight& sight, Wanted& to) {
  if (c.scope.phase == Phase::backward) return;
  for (int i = 0; i < c.in.size() && i < 8; ++i) {
    if (!sight.takes(c.in[i])) continue;
    const TensorImpl& x = impl(c.in[i]);
    const bool parameter = x.grad && x.grad->requires_grad;
    const int64_t n = x.spec.shape.numel();
    if (n < 128 || !is_dense(x.spec.shape, x.strides) || (!parameter && *x.storage->writer)) continue;
    to.ask(ValueRule::exponents, i, {{.count = std::min<int64_t>(n, 256), .stride = std::max<int64_t>(1, n / 256)}});
  }
}

void MonitorState::judge_exponents(const Call& c, uint32_t at, Samples found) {
  for (const Sample& s : found) {
    if (exponent_entropy(s) < 4.5) continue;
    Monitor::Finding about;
    about.severity = Severity::warning;
    about.suggestion = {"data", 0, "write it before it is read: zeros, an initialiser, or a file"};
    about.text = std::string("'") + c.op.in[std::min(s.operand, c.op.in.size() - 1)].name + "' of " + c.op.name + " (" +
                 to_string(impl(c.in[s.operand]).spec) + ") has exponents as random bits have them: it looks like memory that nobody wrote";
    warn(Detector::uninitialised, at, 0, "uninitialised", std::move(about));
  }
}

/// Whether `c` adds, subtracts or mixes two tensors of few digits, so that it may be a step of a running sum; or, through which no gradient
/// is recorded, a small one of many digits and what may be a number: a count, a time, a mean over steps.
bool MonitorState::may_add_up(const Call& c) {
  if ((&c.op != &op_add && &c.op != &op_sub && &c.op != &op_lerp) || c.in.size() < 2 || c.out.size() != 1 || !is_inexact(c.out[0].dtype))
    return false;
  const TensorImpl &a = impl(c.in[0]), &b = impl(c.in[1]);
  if (!(a.spec == c.out[0]) || a.weak) return false;
  if (format_of(c.out[0].dtype).digits <= 11) return b.spec == c.out[0] && !b.weak;
  return c.out[0].dtype == f32 && !c.recording && c.scope.phase == Phase::forward && &c.op != &op_lerp && a.spec.shape.numel() <= 64 &&
         (b.weak || b.spec == c.out[0]);
}

/// 64 elements of a running sum: before, what is added, and after.
void MonitorState::plan_running_sum(const Call& c, const Sight& sight, Wanted& to) {
  const bool by_number = impl(c.in[1]).weak;
  if (!sight.takes_rows(c.in[0]) ||
      !(by_number ? read_double(impl(c.in[1]).data, impl(c.in[1]).spec.dtype) != 0 : sight.takes_rows(c.in[1])))
    return;
  const int64_t n = c.out[0].shape.numel(), k = std::min<int64_t>(n, 64);
  for (const int operand : {0, by_number ? 0 : 1, -1}) to.ask(ValueRule::running_sum, operand, {{.count = k, .stride = n / k}});
}

/// A sum of many terms in a format of few digits: more than half of it stands still, sixteen times in a row.
void MonitorState::judge_running_sum(uint32_t at, const std::vector<float>& before, const std::vector<float>& added,
                                     const std::vector<float>& after) {
  int due = 0, stuck = 0;
  const bool mixes = sites[at].op == &op_lerp;
  for (size_t i = 0; i < before.size(); ++i)
    if (mixes ? added[i] != before[i] : added[i] != 0) ++due, stuck += after[i] == before[i];
  WatchedResult& r = sites[at].results[0];
  if (r.stuck.add(2 * stuck > due) != 16) return;
  Monitor::Finding about;
  about.severity = Severity::warning, about.value = double(stuck) / due, about.lost_ulps = 0.5;
  about.suggestion = {"accumulator", 0,
                      format_of(r.dtype).digits <= 11 ? "add up in f32 and cast the sum" : "count in integers, or add up in f64"};
  about.text = "a running sum in " + std::string(name_of(r.dtype)) + " stands still: " + std::to_string(stuck) + " of " +
               std::to_string(due) + " sampled values did not change though " + sites[at].op->name +
               " had something for them, sixteen times in a row";
  warn(Detector::absorbed_update, at, 0, "accumulation", std::move(about));
}

/// Four rows of attention probabilities; of attention as one op, what four rows are made of: the last query of four heads, and all of the
/// keys that it sees.
void MonitorState::plan_attention(const Call& c, const Tensor& out, const Sight& sight, Wanted& to) {
  if (&c.op != &op_attention) {
    const Shape& shape = impl(out).spec.shape;
    const int64_t n = shape.rank() < 3 ? 0 : shape[-1], rows = n ? shape.numel() / n : 0;
    if (n < 4 || n > 4096 || rows < 4 || !sight.takes_rows(out)) return;
    to.ask(ValueRule::attention, -1);
    for (int64_t k = 0; k < 4; ++k) to.line({.from = (k * rows / 4 + rows / 8) * n, .count = n});
    return;
  }
  if (c.in.has(3) || !sight.takes(c.in[0]) || !sight.takes(c.in[1])) return;
  const TensorImpl &q = impl(c.in[0]), &k = impl(c.in[1]);
  const Shape &sq = q.spec.shape, &sk = k.spec.shape;
  const int64_t heads = std::min<int64_t>(4, sq[0] * sq[1]), width = sq[3], keys = sk[2];
  const int64_t bytes = heads * (keys + 1) * width * int64_t(size_of(q.spec.dtype));
  if (keys < 4 || sq[2] < 1 || q.strides[3] != 1 || k.strides[3] != 1 || bytes > std::min<int64_t>(sight.room, 1 << 20)) return;
  for (const int operand : {0, 1}) {
    to.ask(ValueRule::attention, operand);
    for (int64_t i = 0; i < heads; ++i) {
      const int64_t at = i * (sq[0] * sq[1]) / heads, b = at / sq[1], h = at % sq[1];
      if (operand == 0)
        to.line({.from = b * q.strides[0] + h * q.strides[1] + (sq[2] - 1) * q.strides[2], .count = width});
      else
        to.line({.from = b * k.strides[0] + h / (sq[1] / sk[1]) * k.strides[1], .count = width, .lines = keys, .pitch = k.strides[2]});
    }
  }
}

/// Their entropy, as a share of the largest possible.
void MonitorState::judge_attention_rows(const Call& c, uint32_t at, Samples found) {
  WatchedArgument& a = *sites[at].argument;
  std::vector<double> p = found[0].all<double>();
  if (&c.op == &op_attention) {
    if (found.size() < 2) return;
    const std::vector<double> q = std::move(p), k = found[1].all<double>();
    const auto width = size_t(c.in[0].shape()[3]), heads = q.size() / width, keys = k.size() / q.size();
    const double factor = static_cast<const AttentionParams*>(c.params)->factor(int64_t(width));
    p.assign(heads * keys, 0);
    if (heads < 4) p.assign(4 * keys, 0);
    for (size_t i = 0; i < 4; ++i) {
      const size_t h = i % heads;
      double top = -INFINITY, total = 0;
      double* const row = &p[i * keys];
      for (size_t j = 0; j < keys; ++j) {
        for (size_t d = 0; d < width; ++d) row[j] += factor * q[h * width + d] * k[(h * keys + j) * width + d];
        top = std::max(top, row[j]);
      }
      for (size_t j = 0; j < keys; ++j) total += row[j] = std::exp(row[j] - top);
      for (size_t j = 0; j < keys; ++j) row[j] /= total;
    }
  }
  const size_t n = p.size() / 4;
  for (size_t k = 0; k < 4; ++k) {
    double h = 0;
    for (size_t i = k * n; i < (k + 1) * n; ++i)
      if (p[i] > 0) h -= p[i] * std::log(p[i]);
    a.sum += h / std::log(double(n)), ++a.sampled;
  }
}

}  // namespace keel
