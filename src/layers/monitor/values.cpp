// Rules about how values are spread, which the largest and the smallest do not tell. They sample whole lines of a result, every few steps,
// each place in its turn.
#include <algorithm>
#include <cmath>

#include "core/impl.h"
#include "layers/monitor/monitor.h"
#include "layers/monitor/sampling.h"
#include "layers/monitor/suggest.h"

namespace keel {

extern OpDef op_add, op_batch_norm, op_batch_norm_relu, op_conv2d, op_layer_norm, op_linear, op_matmul, op_mul, op_relu, op_rms_norm;

namespace {

constexpr int64_t kSamples = 1024, kLeast = 256;  // values a sample, and values of a result that is worth one
constexpr int kWindow = 16, kSettled = 12;        // samples that the newest is compared with, at most and at least

/// Parts of whole rows, some kSamples values in all, other rows each time.
void ask_for_rows(const TensorImpl& y, uint64_t seed, Wanted& to) {
  const int64_t all = y.spec.shape[-1], width = std::min(all, kSamples), rows = y.spec.shape.numel() / all,
                looked = std::min(rows, std::max<int64_t>(1, kSamples / width));
  if (looked == rows && width == all) return to.line({.count = rows * all});
  for (int64_t k = 0; k < looked; ++k) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    const int64_t row = looked == rows ? k : int64_t((seed >> 33) % uint64_t(rows)), slack = all - width;
    to.line({.from = row * all + (slack ? int64_t((seed >> 17) % uint64_t(slack + 1)) : 0), .count = width});
  }
}

/// Results whose outliers grow when a network is about to leave a narrow format: sums and products, not what selects or squashes.
bool spreads(const OpDef& op) {
  return &op == &op_linear || &op == &op_matmul || &op == &op_mul || &op == &op_add || &op == &op_conv2d || &op == &op_layer_norm ||
         &op == &op_rms_norm || &op == &op_batch_norm;
}

bool is_narrow_gradient(const Call& c, const Spec& y) { return c.scope.phase == Phase::backward && y.dtype == f16; }
bool has_units(const Call& c, const Spec& y) {
  return (&c.op == &op_relu || &c.op == &op_batch_norm_relu) && y.shape.rank() >= 1 && y.shape.rank() <= 4;
}
/// Units of an activation: features, or the channels of pictures.
int64_t units_of(const Shape& s) { return s.rank() == 4 ? s[1] : s[-1]; }

/// All channels of some places of some pictures, kSamples values in all, other places each time.
void ask_for_channels(const Shape& s, uint64_t seed, Wanted& to) {
  const int64_t channels = s[1], places = s[2] * s[3], all = s[0] * places, looked = std::clamp<int64_t>(kSamples / channels, 1, all);
  for (int64_t k = 0; k < looked; ++k) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    const int64_t at = looked == all ? k : int64_t((seed >> 33) % uint64_t(all));
    to.line({.from = at / places * channels * places + at % places, .count = channels, .stride = places});
  }
}

}  // namespace

void MonitorState::plan_spread(const Call& c, const Tensor& out, uint32_t at, const Sight& sight, Wanted& to) {
  const bool forward = c.scope.phase == Phase::forward;
  if (!(forward ? spreads(c.op) || has_units(c, impl(out).spec) : c.scope.phase == Phase::backward) || !sight.takes_rows(out)) return;
  const Spec& y = impl(out).spec;
  const bool units = has_units(c, y);
  if (!(is_narrow_gradient(c, y) || (forward && (units || spreads(c.op)))) || y.shape.rank() == 0 || y.shape.numel() < kLeast ||
      (units && units_of(y.shape) > kSamples))
    return;
  WatchedSite& s = sites[at];
  if (!s.values) s.values = std::make_unique<WatchedValues>();
  if (s.values->last_step == step) return;  // one call a step stands for all
  s.values->last_step = step;
  to.ask(ValueRule::spread, -1);
  if (units && y.shape.rank() == 4)
    ask_for_channels(y.shape, uint64_t(step) << 20 ^ at, to);
  else
    ask_for_rows(impl(out), uint64_t(step) << 20 ^ at, to);
}

void MonitorState::judge_spread(const Call& c, uint32_t at, const Sample& sample) {
  const WatchedSite& s = sites[at];
  if (s.results[0].now.nan + s.results[0].now.inf) return;
  WatchedValues& v = *s.values;
  const std::vector<float> x = sample.all<float>();
  if (is_narrow_gradient(c, c.out[0])) return judge_zeros(at, v, x);
  if (has_units(c, c.out[0])) return judge_units(at, v, x, units_of(c.out[0].shape));
  if (&c.op == &op_linear && c.out[0].shape[-1] <= kSamples) judge_alike(at, v, x, c.out[0].shape[-1]);
  // What grows longer and longer has ever longer tails.
  if (const int64_t n = c.out[0].shape.numel(); n > v.largest) {
    if (v.largest && n > v.largest + v.largest / 10) v.kurtosis = {}, v.heavy = {};
    v.largest = n;
  }
  judge_kurtosis(at, v, x, c.out[0].dtype);
}

/// Units of a relu that are 0 in every one of the rows that were looked at: no gradient reaches them, nothing wakes them.
void MonitorState::judge_units(uint32_t at, WatchedValues& v, const std::vector<float>& x, int64_t width) {
  constexpr int64_t kRows = 512;
  if (int64_t(v.alive.size()) != width) v.alive.assign(size_t(width), 0), v.rows = 0;
  for (size_t from = 0; from < x.size(); from += size_t(width), ++v.rows)
    for (size_t i = 0; i < size_t(width); ++i) v.alive[i] |= x[from + i] > 0;
  if (v.rows < kRows) return;
  const auto dead = int64_t(std::count(v.alive.begin(), v.alive.end(), uint8_t(0)));
  const double share = double(dead) / double(width);
  const int64_t rows = v.rows;
  std::fill(v.alive.begin(), v.alive.end(), uint8_t(0)), v.rows = 0;
  if (share < 0.5) return;
  Monitor::Finding about;
  about.severity = 10 * dead >= 9 * width ? Severity::warning : Severity::info, about.value = share;
  about.suggestion = {"stable_op", 0, "leaky_relu or gelu, which let a gradient through; and a smaller learning rate"};
  about.text = std::to_string(dead) + " of " + std::to_string(width) + " units of " + sites[at].op->name + " were 0 in all of " +
               std::to_string(rows) + " sampled rows: they learn nothing" +
               (dead == width ? ", and neither does what lies before them" : "");
  warn(Detector::underflow, at, 0, "dead units", std::move(about));
}

/// Targets of a cross entropy that are no probabilities: a loss without a lower end. Looked at in the first steps, then now and then.
void MonitorState::plan_targets(const Call& c, uint32_t at, const Sight& sight, Wanted& to) {
  const WatchedSite& s = sites[at];
  const int input = s.argument->input;
  if ((s.begun > 4 && (uint64_t(step) + at) % 64) || input >= c.in.size() || !sight.takes_rows(c.in[input])) return;
  to.ask(ValueRule::targets, input, {evenly(c.in[input].size(), 4096)});
}

void MonitorState::judge_targets(uint32_t at, const Sample& sample) {
  const WatchedSite& s = sites[at];
  double least = 0, most = 1;
  for (const double v : sample.all<double>()) least = std::min(least, v), most = std::max(most, v);
  if (least >= -0.01 && most <= 1.01) return;  // 16-bit floats round
  Monitor::Finding about;
  about.severity = Severity::warning, about.value = most > 1.01 ? most : least;
  about.suggestion = {"data", 0, "targets between 0 and 1: count classes from 0, scale or shift labels"};
  about.text = std::string("'") + s.op->in[s.argument->input].name + "' of " + s.op->name + " holds " + number(about.value) +
               ", which is no probability: such a target rewards any logit, however large, and the loss has no lower end";
  warn(Detector::bad_input, at, 0, "targets", std::move(about));
}

/// Gradients of f16 that turn into zeros, while the largest comes down to the end of the format.
void MonitorState::judge_zeros(uint32_t at, WatchedValues& v, const std::vector<float>& x) {
  const WatchedResult& r = sites[at].results[0];
  const auto zeros = double(std::count(x.begin(), x.end(), 0.0f)), n = double(x.size());
  v.zeros.push(zeros / n);
  float least = 1;
  for (int k = 1; k < v.zeros.size(); ++k) least = std::min(least, v.zeros.back(k));
  const bool flushed = v.zeros.size() >= 8 && (zeros < n) && (double(v.zeros.back()) > double(least) + 0.05);
  v.heavy.add(flushed);
  if (v.heavy < 3 || !r.series || r.series->size() < 8) return;
  float low, most;
  r.series->range(r.series->size(), low, most);
  const double high = double(r.series->back().high);
  if (!(high < -10) || !(double(most) - high >= 2)) return;
  Monitor::Finding about;
  // A note: where a softmax or an activation saturates, gradients vanish too, and no scale brings them back.
  about.severity = Severity::info, about.value = zeros / n;
  about.suggestion = suggest_loss_scale(DType::f16, most);
  about.text = number(100 * zeros / n) + " % of the f16 gradients that " + sites[at].op->name + " wrote are 0, unlike before (" +
               number(100 * double(least)) + " %): they are too small for the format; the largest is " + number(std::exp2(high));
  warn(Detector::underflow, at, 0, "flushed", std::move(about));
}

/// A few values carry all the weight, unlike before: kurtosis is above three times its median, and three deviations, three times in a row.
void MonitorState::judge_kurtosis(uint32_t site, WatchedValues& v, const std::vector<float>& x, DType t) {
  // Scaled by the largest magnitude, so that fourth powers neither overflow nor vanish.
  float high = 0;
  for (const float u : x) high = std::max(high, std::abs(u));
  const float scale = 1 / high;
  double sum2 = 0, sum4 = 0;
  for (size_t from = 0; from < x.size(); from += kSamples) {
    float two[4] = {}, four[4] = {};
    for (size_t i = from; i < std::min(x.size(), from + size_t(kSamples)); ++i) {
      const float u = x[i] * scale, q = u * u;
      two[i & 3] += q, four[i & 3] += q * q;
    }
    for (int j = 0; j < 4; ++j) sum2 += double(two[j]), sum4 += double(four[j]);
  }
  if (!(sum2 > 0) || !(sum4 > 0) || !std::isfinite(sum4 / sum2)) return;
  v.kurtosis.push(std::log2(double(x.size()) * sum4 / (sum2 * sum2)));
  if (v.kurtosis.size() <= kSettled) return;
  double median, spread;
  v.kurtosis.centre(median, spread, kWindow, 1 + v.heavy);  // what is suspect already is no measure
  const double now = double(v.kurtosis.back()), over = now - median;
  const bool heavy = over > std::log2(3.0) && over > 3 * spread && now > std::log2(10.0);
  if (v.heavy.add(heavy) != 3) return;
  const Format f = format_of(t);
  Monitor::Finding about;
  // Only formats of few exponents lose the many for the few.
  about.severity = f.narrow ? Severity::warning : Severity::info, about.value = std::exp2(now);
  if (f.narrow)
    about.suggestion = {"dtype", 0, "bf16 for this layer, or a norm before it: one scale no longer fits all of its channels"};
  else
    about.suggestion = {"stable_op", 0, "rms_norm before this layer, if it is to be cast to 8 or 16 bits"};
  about.text = std::string("outliers grow in the result of ") + sites[site].op->name + ": its kurtosis (mean x^4 / (mean x^2)^2) is " +
               number(std::exp2(now)) + ", its median before " + number(std::exp2(median));
  warn(Detector::kurtosis, site, 0, "kurtosis", std::move(about));
}

}  // namespace keel
