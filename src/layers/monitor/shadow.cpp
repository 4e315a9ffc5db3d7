// Now and then, some values of a matrix product, a sum, a norm or a softmax are computed again in f64, to measure what rounding cost;
// and to notice a result that is wrong.
#include <algorithm>
#include <cmath>

#include "core/impl.h"
#include "keel/ops/norm.h"
#include "keel/ops/reduce.h"
#include "keel/ops/softmax.h"
#include "layers/monitor/monitor.h"
#include "layers/monitor/sampling.h"
#include "layers/monitor/suggest.h"

namespace keel {

extern OpDef op_layer_norm, op_linear, op_matmul, op_mean, op_rms_norm, op_softmax, op_sum;

namespace {

constexpr int kSamples = 8;           // values of a product
constexpr int kRows = 2, kOfRow = 4;  // rows, and values of each
constexpr int64_t kMostTerms = 16384;

uint64_t scatter(uint64_t x) {
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9, x = (x ^ x >> 27) * 0x94d049bb133111eb;
  return x ^ x >> 31;
}

/// Where value `k` lies of a row that began with the random number `r`.
int64_t place_in_row(uint64_t r, int k, int64_t width) { return int64_t(scatter(r + uint64_t(k)) % uint64_t(width)); }

/// How many elements of `x` make one of a sum, or are normalised together, if they are neighbours; 0: they are not.
int64_t row_width(const Call& c, const TensorImpl& x) {
  const int rank = x.spec.shape.rank();
  if (rank == 0) return 0;
  if (&c.op == &op_softmax) {
    const int64_t axis = static_cast<const SoftmaxParams*>(c.params)->axis;
    return axis == -1 || axis == rank - 1 ? x.spec.shape[-1] : 0;
  }
  int trailing = 0;
  if (&c.op == &op_layer_norm || &c.op == &op_rms_norm) {
    trailing = int(static_cast<const LayerNormParams*>(c.params)->axes);
  } else {
    const Axes& axes = &c.op == &op_sum ? static_cast<const SumParams*>(c.params)->axis : static_cast<const MeanParams*>(c.params)->axis;
    uint32_t mask = 0;
    for (const int64_t a : axes) mask |= 1u << unsigned(a < 0 ? a + rank : a);
    if (axes.size() == 0) mask = (1u << unsigned(rank)) - 1;
    while (trailing < rank && (mask >> unsigned(rank - 1 - trailing) & 1)) ++trailing;
    if (mask != ((1u << unsigned(trailing)) - 1) << unsigned(rank - trailing)) return 0;
  }
  int64_t width = 1;
  for (int k = 1; k <= trailing; ++k) width *= x.spec.shape[-k];
  return width;
}

}  // namespace

/// The worst of some values that were computed twice.
struct Drift {
  double ulps = 0, got = 0, exact = 0;
  double offset = 0;   // how many deviations the mean of a normalised row is from 0
  double squares = 0;  // the largest sum of squares of a normalised row,
  double most = 0;     // and the largest magnitude that was seen in one
  int looked = 0;
  DType dtype = DType::none;
  /// `scale`: the magnitude that rounding is measured by.
  void see(double g, double e, double scale) {
    const Format f = format_of(dtype);
    if (!std::isfinite(g) || !std::isfinite(e) || !(scale > std::exp2(f.normal2))) return;
    ++looked;
    if (const double u = std::abs(g - e) / (scale * std::exp2(1 - f.digits)); u > ulps) ulps = u, got = g, exact = e;
  }
};

bool MonitorState::has_product(const OpDef& op) { return &op == &op_linear || &op == &op_matmul; }
bool MonitorState::has_rows(const OpDef& op) {
  return &op == &op_layer_norm || &op == &op_rms_norm || &op == &op_softmax || &op == &op_sum || &op == &op_mean;
}

namespace {

/// The random number that sample `k` of a call at site `at` begins with.
uint64_t draw(int64_t step, uint32_t at, int k) { return scatter(uint64_t(step) << 32 ^ uint64_t(at) << 8 ^ uint64_t(k)); }

/// What a norm multiplies by and adds, if it does; -1: it does not.
struct Affine {
  int weight = -1, bias = -1;
  explicit Affine(const Call& c) {
    const auto given = [&](int i) { return c.in.size() > i && c.in[i].defined() ? i : -1; };
    if (&c.op == &op_layer_norm || &c.op == &op_rms_norm) weight = given(1);
    if (&c.op == &op_layer_norm) bias = given(2);
  }
};

}  // namespace

/// Rows of the first operand, columns of the second, and what they made.
void MonitorState::plan_product(const Call& c, const Tensor& out, uint32_t at, const Sight& sight, Wanted& to) {
  if (!sight.takes(c.in[0]) || !sight.takes(c.in[1]) || !sight.takes(out)) return;
  const TensorImpl &a = impl(c.in[0]), &b = impl(c.in[1]), &y = impl(out);
  if (a.spec.shape.rank() < 2 || b.spec.shape.rank() < 2 || y.spec.shape.rank() < 2) return;
  const bool linear = &c.op == &op_linear;
  // Leading axes of the first operand and the result as one; a product of stacks is looked at in its first member.
  if (linear && !(is_contiguous(a.spec.shape, a.strides) && is_contiguous(y.spec.shape, y.strides))) return;
  const int64_t terms = a.spec.shape[-1], columns = y.spec.shape[-1];
  if (terms == 0 || terms > kMostTerms || columns == 0) return;
  const int64_t rows = linear ? y.spec.shape.numel() / columns : y.spec.shape[-2];
  const int64_t row_of_a = linear ? terms : a.strides[-2], row_of_y = linear ? columns : y.strides[-2];
  const int64_t step_of_b = b.strides[linear ? -1 : -2], column_of_b = b.strides[linear ? -2 : -1];
  const int64_t bytes = terms * int64_t(size_of(a.spec.dtype) + size_of(b.spec.dtype));
  const int samples = int(std::clamp<int64_t>(sight.room / bytes, 1, kSamples));
  const int bias = linear && c.in.size() > 2 && c.in[2].defined() ? 2 : -1;
  if (bias >= 0 && !sight.takes(c.in[bias])) return;
  const auto each = [&](int operand, auto lines) {
    to.ask(ValueRule::product, operand);
    for (int s = 0; s < samples; ++s) {
      const uint64_t r = draw(step, at, s);
      to.line(lines(int64_t((r >> 32) % uint64_t(rows)), int64_t((r & 0xffffffff) % uint64_t(columns))));
    }
  };
  each(0, [&](int64_t i, int64_t) { return Lines{.from = i * row_of_a, .count = terms, .stride = a.strides[-1]}; });
  each(1, [&](int64_t, int64_t j) { return Lines{.from = j * column_of_b, .count = terms, .stride = step_of_b}; });
  each(-1, [&](int64_t i, int64_t j) { return Lines{.from = i * row_of_y + j * (linear ? 1 : y.strides[-1]), .count = 1}; });
  if (bias >= 0) each(bias, [&](int64_t, int64_t j) { return Lines{.from = j * impl(c.in[bias]).strides[-1], .count = 1}; });
}

void MonitorState::judge_product(const Call& c, uint32_t at, Samples found) {
  const std::vector<double> a = found[0].all<double>(), b = found[1].all<double>(), y = found[2].all<double>(),
                            bias = found.size() > 3 ? found[3].all<double>() : std::vector<double>(y.size());
  const size_t terms = a.size() / y.size();
  Drift d{.dtype = c.out[0].dtype};
  for (size_t s = 0; s < y.size(); ++s) {
    double exact = bias[s], size = std::abs(exact);
    for (size_t k = s * terms; k < (s + 1) * terms; ++k) {
      const double v = a[k] * b[k];
      exact += v, size += std::abs(v);
    }
    d.see(y[s], exact, std::max(std::abs(exact), size / std::sqrt(double(terms))));
  }
  judge_shadow(c, at, d);
}

/// Two rows of a sum, a norm, a softmax.
void MonitorState::plan_rows(const Call& c, const Tensor& out, uint32_t at, const Sight& sight, Wanted& to) {
  if (!sight.takes_rows(c.in[0]) || !sight.takes_rows(out)) return;
  const TensorImpl& x = impl(c.in[0]);
  const int64_t width = row_width(c, x);
  if (width < 2 || width > 4 * kMostTerms || kRows * width * int64_t(size_of(x.spec.dtype)) > sight.room) return;
  const Affine affine(c);
  for (const int i : {affine.weight, affine.bias})
    if (i >= 0 && !sight.takes_rows(c.in[i])) return;
  const bool sums = &c.op == &op_sum || &c.op == &op_mean;
  const auto each = [&](int operand, auto lines) {
    to.ask(ValueRule::rows, operand);
    for (int s = 0; s < kRows; ++s) {
      const uint64_t r = draw(step, at, s);
      lines(int64_t(r % uint64_t(x.spec.shape.numel() / width)), r);
    }
  };
  const auto values = [&](int operand, bool of_rows) {
    each(operand, [&](int64_t row, uint64_t r) {
      for (int k = 0; k < kOfRow; ++k) to.line({.from = (of_rows ? row * width : 0) + place_in_row(r, k, width), .count = 1});
    });
  };
  each(0, [&](int64_t row, uint64_t) { to.line({.from = row * width, .count = width}); });
  if (sums)
    each(-1, [&](int64_t row, uint64_t) { to.line({.from = row, .count = 1}); });
  else
    values(-1, true);
  for (const int i : {affine.weight, affine.bias})
    if (i >= 0) values(i, false);
}

void MonitorState::judge_rows(const Call& c, uint32_t at, Samples found) {
  const std::vector<double> x = found[0].all<double>(), y = found[1].all<double>();
  const Affine affine(c);
  const auto factors = [&](int input, double missing) {
    for (const Sample& s : found)
      if (input >= 0 && s.operand == input) return s.all<double>();
    return std::vector<double>(y.size(), missing);
  };
  const std::vector<double> weight = factors(affine.weight, 1), bias = factors(affine.bias, 0);
  const auto width = int64_t(x.size()) / kRows;
  const bool norm = &c.op == &op_layer_norm || &c.op == &op_rms_norm, sums = &c.op == &op_sum || &c.op == &op_mean;
  Drift d{.dtype = c.out[0].dtype};
  for (int s = 0; s < kRows; ++s) {
    const std::span<const double> line(x.data() + s * width, size_t(width));
    double total = 0, size = 0, most = -INFINITY;
    for (const double v : line) total += v, size += std::abs(v), most = std::max(most, v);
    if (!std::isfinite(total) && &c.op != &op_softmax) continue;
    if (sums) {
      const double by = &c.op == &op_mean ? double(width) : 1;
      d.see(y[size_t(s)], total / by, std::max(std::abs(total), size / std::sqrt(double(width))) / by);
      continue;
    }
    const double mean = &c.op == &op_layer_norm ? total / double(width) : 0;
    double squares = 0, parts = 0;
    for (const double v : line) {
      if (norm)
        squares += (v - mean) * (v - mean), d.most = std::max(d.most, std::abs(v));
      else if (most > -INFINITY)
        parts += std::exp(v - most);
    }
    squares /= double(width);
    const double inverse = norm ? 1 / std::sqrt(squares + static_cast<const LayerNormParams*>(c.params)->eps) : 0;
    // A row without variance is what epsilon is for, and one that is masked throughout has no softmax.
    if (norm ? std::sqrt(squares) * inverse < 0.5 : !(parts > 0)) continue;
    if (norm) d.offset = std::max(d.offset, std::abs(mean) / std::sqrt(squares)), d.squares = std::max(d.squares, squares * double(width));
    for (int k = 0; k < kOfRow; ++k) {
      const auto i = size_t(s * kOfRow + k);
      const double v = line[size_t(place_in_row(draw(step, at, s), k, width))];
      if (!norm) {
        const double e = std::exp(v - most) / parts;
        if (e > std::exp2(format_of(d.dtype).normal2 + 4)) d.see(y[i], e, e);
        continue;
      }
      const double e = (v - mean) * inverse * weight[i] + bias[i];
      d.see(y[i], e, std::max(std::abs(e), std::abs(weight[i])));
    }
  }
  judge_shadow(c, at, d);
}

void MonitorState::judge_shadow(const Call& c, uint32_t at, const Drift& d) {
  if (!(d.ulps > options.max_ulp_drift)) return;
  Monitor::Finding about;
  about.severity = Severity::warning, about.lost_ulps = d.ulps, about.value = d.got;
  // What has outgrown the squares of f32 was made before the norm.
  const uint32_t from = sites[at].from[0];
  const bool outgrown = d.dtype != DType::f64 && d.squares > std::exp2(128);
  if (outgrown && c.scope.phase == Phase::forward && from < sites.size() && sites[from].op->in.size()) {
    about.value = d.most, about.suggestion = suggestion(from, 0);
    about.text = std::string(sites[from].op->name) + " reaches " + number(d.most) + ": the squares that " + c.op.name +
                 " adds up in f32 overflow, and what it gives is " + number(d.got) + " instead of " + number(d.exact);
    warn(Detector::headroom, from, 0, "range", std::move(about));
    return;
  }
  if (outgrown)
    about.suggestion = {"stable_op", 0,
                        "bound what comes into this norm: it adds up squares in f32, which overflow from magnitudes of " +
                            number(std::sqrt(std::exp2(128) / d.squares) * d.most) + " on, and what it multiplies by is then 0"};
  else if (d.offset > 100)
    about.suggestion = {
        "stable_op", 0,
        "take a constant off before this norm, or have a norm earlier: the mean of its rows is " + number(d.offset) + " deviations from 0"};
  else
    about.suggestion = {"hardware", 0,
                        "run the step again from the same numbers: if it comes out clean, the memory or processor is to blame"};
  about.text = std::string(c.op.name) + " gave " + number(d.got) + " where the same in f64 is " + number(d.exact) + ": " + number(d.ulps) +
               " units in the last place off, measured on " + std::to_string(d.looked) + " values";
  warn(Detector::lost_bits, at, 0, "drift", std::move(about));
}

}  // namespace keel
