// Rules about how values are spread, which the largest and the smallest do not tell. They sample whole lines of a result, every few steps,
// each place in its turn.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "backend/float_bits.h"
#include "core/impl.h"
#include "layers/monitor/monitor.h"
#include "layers/monitor/suggest.h"

namespace keel {

extern OpDef op_add, op_batch_norm, op_conv2d, op_layer_norm, op_linear, op_matmul, op_mul, op_relu, op_rms_norm;

namespace {

constexpr int64_t kSamples = 1024, kLeast = 256;  // values a sample, and values of a result that is worth one
constexpr int kWindow = 16, kSettled = 12;        // samples that the newest is compared with, at most and at least

/// Calls f(x, k, column) with parts of whole rows, k values as floats each from that column on, some kSamples in all, other rows each time.
template <class F>
void sample_rows(const TensorImpl& y, uint64_t seed, F&& f) {
  const int64_t n = y.spec.shape.numel(), width = std::min(y.spec.shape[-1], kSamples), rows = n / y.spec.shape[-1];
  const auto size = int64_t(size_of(y.spec.dtype));
  const int64_t looked = std::min(rows, std::max<int64_t>(1, kSamples / width));
  float line[kSamples];
  for (int64_t k = 0; k < looked; ++k) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    const int64_t row = looked == rows ? k : int64_t((seed >> 33) % uint64_t(rows)), slack = y.spec.shape[-1] - width,
                  from = row * y.spec.shape[-1] + (slack ? int64_t((seed >> 17) % uint64_t(slack + 1)) : 0);
    const std::byte* p = y.data + from * size;
    if (y.spec.dtype == DType::f32) {
      std::memcpy(line, p, size_t(width) * 4);
    } else if (y.spec.dtype == DType::bf16) {
      for (int64_t i = 0; i < width; ++i) {
        uint16_t bits;
        std::memcpy(&bits, p + i * 2, 2);
        line[i] = std::bit_cast<float>(uint32_t(bits) << 16);
      }
    } else {
      for (int64_t i = 0; i < width; ++i) line[i] = float(read_double(p + i * size, y.spec.dtype));
    }
    f(line, width, from - row * y.spec.shape[-1]);
  }
}

/// Results whose outliers grow when a network is about to leave a narrow format: sums and products, not what selects or squashes.
bool spreads(const OpDef& op) {
  return &op == &op_linear || &op == &op_matmul || &op == &op_mul || &op == &op_add || &op == &op_conv2d || &op == &op_layer_norm ||
         &op == &op_rms_norm || &op == &op_batch_norm;
}

}  // namespace

void MonitorState::look_at_values(const Call& c, const Tensor& out, uint32_t at) {
  const TensorImpl& y = impl(out);
  const bool gradient = c.scope.phase == Phase::backward && y.spec.dtype == f16, units = &c.op == &op_relu && y.spec.shape.rank() <= 3;
  if (!(gradient || (c.scope.phase == Phase::forward && (units || spreads(c.op)))) || !is_inexact(y.spec.dtype) ||
      is_complex(y.spec.dtype) || y.spec.shape.rank() == 0 || y.spec.shape.numel() < kLeast || y.device.type != DeviceType::cpu ||
      !is_contiguous(y.spec.shape, y.strides))
    return;
  WatchedSite& s = sites[at];
  if (s.results[0].now.nan + s.results[0].now.inf) return;
  if (!s.values) s.values = std::make_unique<WatchedValues>();
  WatchedValues& v = *s.values;
  if (v.last_step == step) return;  // one call a step stands for all
  v.last_step = step;
  if (gradient) return look_at_zeros(out, at, v);
  if (units) return look_at_units(out, at, v);
  // Scaled by the largest magnitude, so that fourth powers neither overflow nor vanish.
  const double high = std::max(magnitude_of(s.results[0].now.max_bits, y.spec.dtype), 1e-300);
  const auto scale = float(1 / high);
  double two[4] = {}, four[4] = {};
  int64_t n = 0;
  sample_rows(y, uint64_t(step) << 20 ^ at, [&](const float* x, int64_t k, int64_t) {
    float a[4] = {}, b[4] = {};
    for (int64_t i = 0; i < k; ++i) {
      const float u = x[i] * scale, q = u * u;
      a[i & 3] += q, b[i & 3] += q * q;
    }
    for (int j = 0; j < 4; ++j) two[j] += double(a[j]), four[j] += double(b[j]);
    n += k;
  });
  const double sum2 = two[0] + two[1] + two[2] + two[3], sum4 = four[0] + four[1] + four[2] + four[3];
  if (!(sum2 > 0) || !(sum4 > 0) || !std::isfinite(sum4 / sum2)) return;
  v.kurtosis.push(std::log2(double(n) * sum4 / (sum2 * sum2)));
  judge_kurtosis(at, v, y.spec.dtype);
}

/// Units of a relu that are 0 in every one of the rows that were looked at: no gradient reaches them, nothing wakes them.
void MonitorState::look_at_units(const Tensor& out, uint32_t at, WatchedValues& v) {
  constexpr int64_t kRows = 512;
  const TensorImpl& y = impl(out);
  const int64_t width = y.spec.shape[-1];
  if (width > kSamples) return;
  if (int64_t(v.alive.size()) != width) v.alive.assign(size_t(width), 0), v.rows = 0;
  sample_rows(y, uint64_t(step) << 20 ^ at, [&](const float* x, int64_t k, int64_t) {
    for (int64_t i = 0; i < k; ++i) v.alive[size_t(i)] |= x[i] > 0;
    ++v.rows;
  });
  if (v.rows < kRows) return;
  const auto dead = int64_t(std::count(v.alive.begin(), v.alive.end(), uint8_t(0)));
  const double share = double(dead) / double(width);
  const int64_t rows = v.rows;
  std::fill(v.alive.begin(), v.alive.end(), uint8_t(0)), v.rows = 0;
  if (share < 0.5) return;
  Monitor::Finding about;
  about.severity = dead == width ? Severity::warning : Severity::info, about.value = share;
  about.suggestion = {"stable_op", 0, "leaky_relu or gelu, which let a gradient through; and a smaller learning rate"};
  about.text = std::to_string(dead) + " of " + std::to_string(width) + " units of " + sites[at].op->name + " were 0 in all of " +
               std::to_string(rows) + " sampled rows: they learn nothing" +
               (dead == width ? ", and neither does what lies before them" : "");
  warn(Detector::underflow, at, 0, "dead units", std::move(about));
}

/// Targets of a cross entropy that are no probabilities: a loss without a lower end. Looked at in the first steps, then now and then.
void MonitorState::look_at_targets(const Tensor& t, const WatchedSite& s, uint32_t at) {
  if (s.results[0].calls >= 4 && (uint64_t(step) + at) % 64) return;
  const TensorImpl& x = impl(t);
  const int64_t n = x.spec.shape.numel(), stride = std::max<int64_t>(1, n / 4096);
  if (x.device.type != DeviceType::cpu || !is_contiguous(x.spec.shape, x.strides)) return;
  double least = 0, most = 1;
  for (int64_t i = 0; i < n; i += stride) {
    const double v = read_double(x.data + i * int64_t(size_of(x.spec.dtype)), x.spec.dtype);
    least = std::min(least, v), most = std::max(most, v);
  }
  if (least >= -0.01 && most <= 1.01) return;  // 16-bit floats round
  Monitor::Finding about;
  about.severity = Severity::warning, about.value = most > 1.01 ? most : least;
  about.suggestion = {"data", 0, "targets between 0 and 1: count classes from 0, scale or shift labels"};
  about.text = std::string("'") + s.op->in[s.argument->input].name + "' of " + s.op->name + " holds " + number(about.value) +
               ", which is no probability: such a target rewards any logit, however large, and the loss has no lower end";
  warn(Detector::bad_input, at, 0, "targets", std::move(about));
}

/// Gradients of f16 that turn into zeros, while the largest comes down to the end of the format.
void MonitorState::look_at_zeros(const Tensor& out, uint32_t at, WatchedValues& v) {
  const WatchedResult& r = sites[at].results[0];
  double zeros = 0, n = 0;
  sample_rows(impl(out), uint64_t(step) << 20 ^ at, [&](const float* x, int64_t k, int64_t) {
    for (int64_t i = 0; i < k; ++i) zeros += x[i] == 0;
    n += double(k);
  });
  v.zeros.push(zeros / n);
  float least = 1;
  for (int k = 1; k < v.zeros.size(); ++k) least = std::min(least, v.zeros.back(k));
  const bool flushed = v.zeros.size() >= 8 && (zeros < n) && (double(v.zeros.back()) > double(least) + 0.05);
  v.heavy = flushed ? uint8_t(std::min(v.heavy + 1, 200)) : uint8_t(0);
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
void MonitorState::judge_kurtosis(uint32_t site, WatchedValues& v, DType t) {
  if (v.kurtosis.size() <= kSettled) return;
  double median, spread;
  v.kurtosis.centre(median, spread, kWindow, 1 + v.heavy);  // what is suspect already is no measure
  const double now = double(v.kurtosis.back()), over = now - median;
  const bool heavy = over > std::log2(3.0) && over > 3 * spread && now > std::log2(10.0);
  v.heavy = heavy ? uint8_t(std::min(v.heavy + 1, 200)) : uint8_t(0);
  if (v.heavy != 3) return;
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
