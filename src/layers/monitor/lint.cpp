// Rules that need no history: they look at a call when it is made at a place for the first time, and at sums that stand still.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "backend/float_bits.h"
#include "core/impl.h"
#include "layers/monitor/lint_rules.h"
#include "layers/monitor/monitor.h"

namespace keel {

extern OpDef op_add, op_div, op_mul, op_pow;

namespace {

/// The bits of element `i` counted in memory, without the sign.
uint64_t bits_of(const TensorImpl& x, int64_t i) {
  uint64_t bits = 0;
  const size_t size = size_of(x.spec.dtype);
  std::memcpy(&bits, x.data + i * int64_t(size), size);
  return bits & float_bits(x.spec.dtype).magnitude;
}

/// Entropy in bits of the five leading bits of the exponent, over 256 elements: 5 where all exponents are equally likely, as in memory
/// that nobody wrote; numbers that somebody computed have 2 or 3.
double exponent_entropy(const TensorImpl& x) {
  const int64_t n = x.spec.shape.numel(), looked = std::min<int64_t>(n, 256);
  int exponent_bits = 8, low = 0;
  switch (x.spec.dtype) {
    case DType::f64: exponent_bits = 11, low = 52; break;
    case DType::f32: low = 23; break;
    case DType::bf16: low = 7; break;
    case DType::f16: exponent_bits = 5, low = 10; break;
    default: return 0;
  }
  int count[32] = {};
  for (int64_t k = 0; k < looked; ++k) ++count[bits_of(x, k * n / looked) >> (low + exponent_bits - 5) & 31];
  double h = 0;
  for (const int c : count)
    if (c) h -= double(c) / double(looked) * std::log2(double(c) / double(looked));
  return h;
}

}  // namespace

void MonitorState::lint_call(const Call& c, uint32_t at) {
  WatchedSite& s = sites[at];
  for (int i = 0; i < c.in.size() && i < 2; ++i)
    if (const Written* w = c.in[i].defined() ? known(c.in[i], true) : nullptr) s.from[i] = w->site;
  s.twice = c.in.size() == 2 && c.in[0].defined() && c.in[1].defined() && c.in[0].is(c.in[1]);
  if (c.scope.phase == Phase::backward) return;
  const auto speak = [&](Severity severity, Detector d, uint32_t blamed, const char* kind, double value, Suggestion to_do,
                         std::string text) {
    Monitor::Finding about;
    about.severity = severity, about.value = value, about.suggestion = std::move(to_do), about.text = std::move(text);
    warn(d, blamed, 0, kind, std::move(about));
  };
  LintCall call{.op = &c.op, .params = c.params, .call = int(at), .phase = c.scope.phase, .recording = c.recording};
  if (c.in.size() && c.in[0].defined()) call.in = impl(c.in[0]).spec.dtype, call.in_elements = impl(c.in[0]).spec.shape.numel();
  if (c.out.size()) call.out = c.out[0].dtype, call.out_elements = c.out[0].shape.numel();
  find_numbers(c, call.numbers);
  if (&c.op == &op_mul || &c.op == &op_div)
    for (int i = &c.op == &op_div; i < 2; ++i)
      if (const double v = std::abs(call.numbers[i].given); v > 0) s.factor = float(&c.op == &op_div ? -std::log2(v) : std::log2(v));
  if (const double e = call.numbers[1].given; &c.op == &op_pow && call.numbers[1].dtype != DType::none && e < 1 && e != 0) {
    s.argument = std::make_unique<WatchedArgument>();
    s.argument->input = 0, s.argument->power = float(e);
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
  lint_rules(call, makers, [&](const LintWord& w) {
    speak(w.severity, Detector::lint, uint32_t(w.call), w.rule, w.value, w.suggestion, w.text);
  });
  // Memory that nobody wrote.
  for (int i = 0; i < c.in.size() && i < 8; ++i) {
    if (!c.in[i].defined()) continue;
    const TensorImpl& x = impl(c.in[i]);
    const bool parameter = x.grad && x.grad->requires_grad;
    if (x.weak || x.spec.shape.numel() < 128 || x.device.type != DeviceType::cpu || !is_dense(x.spec.shape, x.strides) ||
        (!parameter && (!x.storage || *x.storage->writer)))
      continue;
    if (exponent_entropy(x) < 4.5) continue;
    speak(Severity::warning, Detector::uninitialised, at, "uninitialised", 0,
          {"data", 0, "write it before it is read: zeros, an initialiser, or a file"},
          std::string("'") + c.op.in[std::min(i, c.op.in.size() - 1)].name + "' of " + c.op.name + " (" + to_string(x.spec) +
              ") has exponents as random bits have them: it looks like memory that nobody wrote");
  }
}

/// The running sums of `c`: 64 elements of what it adds to, before it runs.
int MonitorState::sample_sum(const Call& c, float* before) const {
  if (&c.op != &op_add || c.in.size() != 2 || c.out.size() != 1 || format_of(c.out[0].dtype).digits > 11 || !is_inexact(c.out[0].dtype))
    return 0;
  const TensorImpl &a = impl(c.in[0]), &b = impl(c.in[1]);
  if (a.weak || b.weak || !(a.spec == c.out[0]) || !(b.spec == c.out[0]) || a.device.type != DeviceType::cpu ||
      !is_contiguous(a.spec.shape, a.strides) || !is_contiguous(b.spec.shape, b.strides))
    return 0;
  if (!wrote_last(c.in[0], last_site)) return 0;
  const int64_t n = a.spec.shape.numel(), k = std::min<int64_t>(n, 64);
  for (int64_t i = 0; i < k; ++i) before[i] = float(read_double(a.data + (i * n / k) * int64_t(size_of(a.spec.dtype)), a.spec.dtype));
  return int(k);
}

/// A sum of many terms in a format of few digits: more than half of it stands still, sixteen times in a row.
void MonitorState::judge_sum(const Call& c, const Tensor& out, uint32_t at, const float* before, int k) {
  const TensorImpl &y = impl(out), &b = impl(c.in[1]);
  const int64_t n = y.spec.shape.numel();
  const auto size = int64_t(size_of(y.spec.dtype));
  int due = 0, stuck = 0;
  for (int64_t i = 0; i < k; ++i) {
    const int64_t at_element = (i * n / k) * size;
    if (read_double(b.data + at_element, y.spec.dtype) == 0) continue;
    ++due, stuck += float(read_double(y.data + at_element, y.spec.dtype)) == before[i];
  }
  WatchedResult& r = sites[at].results[0];
  r.stuck = 2 * stuck > due ? uint8_t(std::min(r.stuck + 1, 200)) : uint8_t(0);
  if (r.stuck != 16) return;
  Monitor::Finding about;
  about.severity = Severity::warning, about.value = double(stuck) / due, about.lost_ulps = 0.5;
  about.suggestion = {"accumulator", 0, "add up in f32 and cast the sum"};
  about.text = "a running sum in " + std::string(name_of(y.spec.dtype)) + " stands still: " + std::to_string(stuck) + " of " +
               std::to_string(due) + " sampled values did not change though something was added, sixteen times in a row";
  warn(Detector::absorbed_update, at, 0, "accumulation", std::move(about));
}

/// Entropy of four rows of attention probabilities, as a share of the largest possible.
void MonitorState::look_at_attention(const Tensor& out, WatchedArgument& a) const {
  const TensorImpl& y = impl(out);
  const int rank = y.spec.shape.rank();
  if (rank < 3 || y.device.type != DeviceType::cpu || !is_contiguous(y.spec.shape, y.strides)) return;
  const int64_t n = y.spec.shape[-1], rows = n ? y.spec.shape.numel() / n : 0;
  if (n < 4 || n > 4096 || rows < 4) return;
  for (int64_t k = 0; k < 4; ++k) {
    const int64_t row = k * rows / 4 + rows / 8;
    double h = 0;
    for (int64_t i = 0; i < n; ++i)
      if (const double p = read_double(y.data + (row * n + i) * int64_t(size_of(y.spec.dtype)), y.spec.dtype); p > 0) h -= p * std::log(p);
    a.sum += h / std::log(double(n)), ++a.sampled;
  }
}

}  // namespace keel
