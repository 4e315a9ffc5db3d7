// Now and then, some values of a matrix product are computed again in f64, to measure what rounding cost; and to notice a product that is
// wrong.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/impl.h"
#include "layers/monitor/monitor.h"

namespace keel {

extern OpDef op_linear, op_matmul;

namespace {

constexpr int kSamples = 8;
constexpr int64_t kMostTerms = 16384;

std::string number(double v) {
  char text[32];
  std::snprintf(text, sizeof text, "%.3g", v);
  return text;
}

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

}  // namespace

bool MonitorState::wants_shadow(const Call& c, uint32_t at) const {
  if (&c.op != &op_linear && &c.op != &op_matmul) return false;
  // Sites take turns, so that every step pays the same.
  return options.shadow_every > 0 && options.foretell && (step + at) % (options.shadow_every * every) == 0;
}

void MonitorState::shadow(const Call& c, const Tensor& out, uint32_t at) {
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
  double worst = 0, worst_got = 0, worst_exact = 0;
  for (int s = 0; s < kSamples; ++s) {
    const uint64_t r = scatter(uint64_t(step) << 32 ^ uint64_t(at) << 8 ^ uint64_t(s));
    const auto i = int64_t((r >> 32) % uint64_t(rows)), j = int64_t((r & 0xffffffff) % uint64_t(columns));
    double exact = bias ? read_double(bias->data + j * bias->strides[-1] * int64_t(size_of(bias->spec.dtype)), bias->spec.dtype) : 0;
    double size = std::abs(exact);
    for (int64_t k = 0; k < terms; ++k) {
      const double v = left.at(i, k) * right.at(k, j);
      exact += v, size += std::abs(v);
    }
    const double got = result.at(i, j), scale = std::max(std::abs(exact), size / std::sqrt(double(terms)));
    if (!std::isfinite(got) || !std::isfinite(exact) || !(scale > std::exp2(format_of(y.spec.dtype).normal2))) continue;
    const double ulps = std::abs(got - exact) / (scale * std::exp2(1 - format_of(y.spec.dtype).digits));
    if (ulps > worst) worst = ulps, worst_got = got, worst_exact = exact;
  }
  if (!(worst > options.max_ulp_drift)) return;
  Monitor::Finding about;
  about.severity = Severity::warning, about.lost_ulps = worst, about.value = worst_got;
  about.suggestion = {"hardware", 0,
                      "run the step again from the same numbers: if it comes out clean, the memory or processor is to blame"};
  about.text = std::string(c.op.name) + " gave " + number(worst_got) + " where the same sum in f64 is " + number(worst_exact) + ": " +
               number(worst) + " units in the last place off, measured on " + std::to_string(kSamples) + " values";
  warn(Detector::lost_bits, at, 0, "drift", std::move(about));
}

}  // namespace keel
