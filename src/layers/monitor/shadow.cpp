// Now and then, some values of a matrix product, a sum, a norm or a softmax are computed again in f64, to measure what rounding cost;
// and to notice a result that is wrong.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/impl.h"
#include "keel/ops/norm.h"
#include "keel/ops/reduce.h"
#include "keel/ops/softmax.h"
#include "layers/monitor/monitor.h"
#include "layers/monitor/suggest.h"

namespace keel {

extern OpDef op_layer_norm, op_linear, op_matmul, op_mean, op_rms_norm, op_softmax, op_sum;

namespace {

constexpr int kSamples = 8;
constexpr int64_t kMostTerms = 16384;

uint64_t scatter(uint64_t x) {
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9, x = (x ^ x >> 27) * 0x94d049bb133111eb;
  return x ^ x >> 31;
}

/// A matrix within a tensor: element (i, j) lies at i * row + j * column, in elements.
struct Matrix {
  const TensorImpl* x;
  int64_t row, column;
  double at(int64_t i, int64_t j) const {
    if (x->spec.dtype == f32) {  // the usual one, without the call
      float v;
      std::memcpy(&v, x->data + (i * row + j * column) * 4, 4);
      return double(v);
    }
    return read_double(x->data + (i * row + j * column) * int64_t(size_of(x->spec.dtype)), x->spec.dtype);
  }
};

/// The value `i` of a contiguous tensor.
double value(const TensorImpl& x, int64_t i) { return Matrix{&x, 0, 1}.at(0, i); }

bool is_product(const OpDef& op) { return &op == &op_linear || &op == &op_matmul; }

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

bool MonitorState::wants_shadow(const Call& c, uint32_t at) const {
  if (!is_product(c.op) && &c.op != &op_layer_norm && &c.op != &op_rms_norm && &c.op != &op_softmax && &c.op != &op_sum &&
      &c.op != &op_mean)
    return false;
  // Sites take turns, so that every step pays the same.
  return options.shadow_every > 0 && options.foretell && governor.whole() && (int64_t(rotation) + at) % options.shadow_every == 0;
}

void MonitorState::shadow(const Call& c, const Tensor& out, uint32_t at) {
  if (!is_product(c.op)) return shadow_rows(c, out, at);
  const TensorImpl &a = impl(c.in[0]), &b = impl(c.in[1]), &y = impl(out);
  for (const TensorImpl* t : {&a, &b, &y})
    if (t->device.type != DeviceType::cpu || t->weak || is_complex(t->spec.dtype) || t->spec.shape.rank() < 2) return;
  const bool linear = &c.op == &op_linear;
  // Leading axes of the first operand and the result as one; a product of stacks is looked at in its first member.
  const bool flat = linear && is_contiguous(a.spec.shape, a.strides) && is_contiguous(y.spec.shape, y.strides);
  const int64_t terms = a.spec.shape[-1], columns = y.spec.shape[-1];
  if (terms == 0 || terms > kMostTerms || columns == 0 || (linear && !flat) || y.spec.shape.numel() == 0) return;
  const int64_t rows = linear ? y.spec.shape.numel() / columns : y.spec.shape[-2];
  const Matrix left{&a, linear ? terms : a.strides[-2], a.strides[-1]}, result{&y, linear ? columns : y.strides[-2], y.strides[-1]};
  const Matrix right = linear ? Matrix{&b, b.strides[-1], b.strides[-2]} : Matrix{&b, b.strides[-2], b.strides[-1]};
  const TensorImpl* bias = linear && c.in.size() > 2 && c.in[2].defined() ? &impl(c.in[2]) : nullptr;
  Drift d{.dtype = y.spec.dtype};
  for (int s = 0; s < kSamples; ++s) {
    const uint64_t r = scatter(uint64_t(step) << 32 ^ uint64_t(at) << 8 ^ uint64_t(s));
    const auto i = int64_t((r >> 32) % uint64_t(rows)), j = int64_t((r & 0xffffffff) % uint64_t(columns));
    double exact = bias ? read_double(bias->data + j * bias->strides[-1] * int64_t(size_of(bias->spec.dtype)), bias->spec.dtype) : 0;
    double size = std::abs(exact);
    for (int64_t k = 0; k < terms; ++k) {
      const double v = left.at(i, k) * right.at(k, j);
      exact += v, size += std::abs(v);
    }
    d.see(result.at(i, j), exact, std::max(std::abs(exact), size / std::sqrt(double(terms))));
  }
  judge_shadow(c, at, d);
}

/// Two rows of a sum, a norm, a softmax.
void MonitorState::shadow_rows(const Call& c, const Tensor& out, uint32_t at) {
  const TensorImpl &x = impl(c.in[0]), &y = impl(out);
  for (const TensorImpl* t : {&x, &y})
    if (t->device.type != DeviceType::cpu || t->weak || !is_inexact(t->spec.dtype) || is_complex(t->spec.dtype) ||
        !is_contiguous(t->spec.shape, t->strides))
      return;
  const int64_t width = row_width(c, x);
  if (width < 2 || width > 4 * kMostTerms || x.spec.shape.numel() == 0) return;
  const int64_t rows = x.spec.shape.numel() / width;
  const bool norm = &c.op == &op_layer_norm || &c.op == &op_rms_norm, sums = &c.op == &op_sum || &c.op == &op_mean;
  Drift d{.dtype = y.spec.dtype};
  for (int s = 0; s < 2; ++s) {
    const uint64_t r = scatter(uint64_t(step) << 32 ^ uint64_t(at) << 8 ^ uint64_t(s));
    const int64_t row = int64_t(r % uint64_t(rows)), from = row * width;
    double total = 0, size = 0, most = -INFINITY;
    for (int64_t i = 0; i < width; ++i) {
      const double v = value(x, from + i);
      total += v, size += std::abs(v), most = std::max(most, v);
    }
    if (!std::isfinite(total) && &c.op != &op_softmax) continue;
    if (sums) {
      const double by = &c.op == &op_mean ? double(width) : 1;
      d.see(value(y, row), total / by, std::max(std::abs(total), size / std::sqrt(double(width))) / by);
      continue;
    }
    const double mean = &c.op == &op_layer_norm ? total / double(width) : 0;
    double squares = 0, parts = 0;
    for (int64_t i = 0; i < width; ++i) {
      const double v = value(x, from + i);
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
    for (int k = 0; k < kSamples / 2; ++k) {
      const int64_t i = int64_t(scatter(r + uint64_t(k)) % uint64_t(width));
      const double v = value(x, from + i);
      if (!norm) {
        const double e = std::exp(v - most) / parts;
        if (e > std::exp2(format_of(d.dtype).normal2 + 4)) d.see(value(y, from + i), e, e);
        continue;
      }
      const auto factor = [&](int input, double missing) {
        if (c.in.size() <= input || !c.in[input].defined()) return missing;
        const TensorImpl& w = impl(c.in[input]);
        return is_contiguous(w.spec.shape, w.strides) ? value(w, i) : double(NAN);
      };
      const double w = factor(1, 1), b = &c.op == &op_layer_norm ? factor(2, 0) : 0;
      d.see(value(y, from + i), (v - mean) * inverse * w + b, std::max(std::abs((v - mean) * inverse * w + b), std::abs(w)));
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
