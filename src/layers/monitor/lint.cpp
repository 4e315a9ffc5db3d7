// Rules that need no history: they look at a call when it is made at a place for the first time, and at sums that stand still.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <string_view>

#include "backend/float_bits.h"
#include "core/impl.h"
#include "layers/monitor/monitor.h"
#include "layers/monitor/suggest.h"

namespace keel {

extern OpDef op_add, op_log, op_log2, op_maximum, op_mean, op_mul, op_softmax, op_sqrt, op_square, op_sub, op_sum;

namespace {

std::string number(double v) {
  char text[32];
  std::snprintf(text, sizeof text, "%.3g", v);
  return text;
}

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

struct Epsilon {
  double value = NAN;
};
double epsilon_of(const Call& c) {
  Epsilon e;
  FieldSink sink{&e, [](void* to, const FieldInfo& info, void* member) {
                   if (std::string_view(info.name) == "eps" && info.kind == FieldKind::number)
                     static_cast<Epsilon*>(to)->value = *static_cast<double*>(member);
                 }};
  c.op.params.visit(const_cast<void*>(c.params), sink);
  return e.value;
}

/// The smallest power of ten whose power -3/2, the slope of its inverse root, is still a number of the format.
double least_epsilon(DType t) { return std::pow(10, std::ceil(std::log10(std::exp2(-2.0 / 3 * format_of(t).max2)))); }

}  // namespace

void MonitorState::lint_call(const Call& c, uint32_t at) {
  WatchedSite& s = sites[at];
  for (int i = 0; i < c.in.size() && i < 2; ++i)
    if (const Written* w = c.in[i].defined() ? known(c.in[i]) : nullptr) s.from[i] = w->site;
  if (c.scope.phase == Phase::backward) return;
  const auto speak = [&](Severity severity, Detector d, const char* kind, double value, Suggestion to_do, std::string text) {
    Monitor::Finding about;
    about.severity = severity, about.value = value, about.suggestion = std::move(to_do), about.text = std::move(text);
    warn(d, at, 0, kind, std::move(about));
  };
  // A number that the dtype of the call rounds to 0.
  if (const Frame* f = c.scope.frame; f && f->op == &c.op && f->inputs)
    for (int i = 0; i < f->n_inputs && i < c.in.size(); ++i) {
      if (!f->inputs[i]->defined() || !c.in[i].defined() || !impl(*f->inputs[i]).weak || !impl(c.in[i]).weak) continue;
      const TensorImpl &given = impl(*f->inputs[i]), &used = impl(c.in[i]);
      if (!is_inexact(used.spec.dtype) || is_complex(used.spec.dtype) || is_complex(given.spec.dtype)) continue;
      const double wanted =
          is_inexact(given.spec.dtype) ? read_double(given.data, given.spec.dtype) : double(read_int(given.data, given.spec.dtype));
      if (wanted == 0 || read_double(used.data, used.spec.dtype) != 0) continue;
      const double eps = least_epsilon(used.spec.dtype);
      speak(Severity::warning, Detector::lint, "epsilon", wanted, {"epsilon", eps, "use " + number(eps) + ", or compute in f32"},
            std::string("the number ") + number(wanted) + " given to " + c.op.name + " is 0 in " + name_of(used.spec.dtype) +
                ", whose smallest number is " + number(std::exp2(format_of(used.spec.dtype).tiny2)));
    }
  if (has_risk(c.op.risk, Risk::divides) && c.in.size() && c.in[0].defined() && is_inexact(impl(c.in[0]).spec.dtype)) {
    const DType t = impl(c.in[0]).spec.dtype;
    if (const double eps = epsilon_of(c); eps == eps && format_of(t).narrow && eps < std::exp2(format_of(t).tiny2))
      speak(Severity::warning, Detector::lint, "epsilon", eps, {"epsilon", 1e-5, "use 1e-5"},
            std::string("epsilon ") + number(eps) + " of " + c.op.name + " is below the smallest " + name_of(t) +
                ": a row without variance gets a factor beyond its range");
  }
  const auto made_by = [&](int i) -> const WatchedSite* {
    const Written* w = i < c.in.size() && c.in[i].defined() ? known(c.in[i]) : nullptr;
    return w ? &sites[w->site] : nullptr;
  };
  const auto origin = [&](const WatchedSite* w) -> const OpDef* { return w && w->from[0] < sites.size() ? sites[w->from[0]].op : nullptr; };
  const WatchedSite* a = made_by(0);
  if ((&c.op == &op_log || &c.op == &op_log2) && a && a->op == &op_softmax)
    speak(Severity::warning, Detector::lint, "log of softmax", 0, {"stable_op", 0, "log_softmax (or cross_entropy on the logits)"},
          "log of softmax: where logits differ by more than " + number(-0.6931 * format_of(a->results[0].dtype).tiny2) +
              " the probability is 0 and its logarithm -inf");
  const auto is_mean = [](const OpDef* o) { return o == &op_mean || o == &op_sum; };
  const auto is_square = [](const OpDef* o) { return o == &op_square || o == &op_mul; };
  if (&c.op == &op_sub)
    if (const WatchedSite* b = made_by(1); a && b && is_mean(a->op) && is_square(origin(a)) && is_square(b->op) && is_mean(origin(b)))
      speak(Severity::info, Detector::lint, "one-pass variance", 0, suggest_for_cancellation(op_sqrt),
            "mean of squares less square of mean: where the mean is large against the deviation, nothing is left of the difference");
  if (&c.op == &op_sqrt && c.recording && a && a->op == &op_sum && is_square(origin(a)))
    speak(Severity::info, Detector::lint, "norm by hand", 0, {"stable_op", 0, "norm_safe, or an epsilon under the root"},
          "the root of a sum of squares has no finite gradient where all of them are 0");
  // Memory that nobody wrote.
  for (int i = 0; i < c.in.size() && i < 8; ++i) {
    if (!c.in[i].defined()) continue;
    const TensorImpl& x = impl(c.in[i]);
    const bool parameter = x.grad && x.grad->requires_grad;
    if (x.weak || x.spec.shape.numel() < 128 || x.device.type != DeviceType::cpu || !is_dense(x.spec.shape, x.strides) ||
        (!parameter && (!x.storage || *x.storage->writer)))
      continue;
    if (exponent_entropy(x) < 4.5) continue;
    speak(Severity::warning, Detector::uninitialised, "uninitialised", 0,
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
