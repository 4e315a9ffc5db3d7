#include "keel/nn/init.h"

#include <cmath>

#include "core/impl.h"
#include "keel/autograd.h"
#include "keel/error.h"
#include "keel/ops/creation.h"
#include "keel/ops/random.h"

namespace keel::nn::init {
namespace {

void write(const char* name, const Tensor& t, const Tensor& value) {
  if (!t.defined()) raise(Error(ErrorCode::value, "an empty tensor cannot be initialised").op(name));
  NoGrad off;
  Tensor(t).copy_(value);
}

struct Fans {
  double in, out;
};
Fans fans(const char* name, const Tensor& t) {
  if (!t.defined() || t.rank() < 2)
    raise(Error(ErrorCode::shape, "needs a tensor of rank 2 or more, [out, in, window...]").op(name).arg("t", t.defined() ? to_string(impl(t).spec) : "empty").hint("normal, uniform and constant take any shape"));
  const double window = double(t.size()) / (double(t.shape()[0]) * double(t.shape()[1]));
  return {double(t.shape()[1]) * window, double(t.shape()[0]) * window};
}

TensorOptions like(const Tensor& t) { return {.dtype = t.dtype(), .device = t.device()}; }

double kaiming_gain(const char* name, const Tensor& t, const KaimingOptions& o) {
  const Fans f = fans(name, t);
  return calculate_gain(o.nonlinearity, o.slope) / std::sqrt(o.fan == Fan::in ? f.in : f.out);
}

/// Where the normal distribution function reaches p in (0, 1): Wichura's algorithm AS 241 (PPND16), relative accuracy 1e-16.
double normal_quantile(double p) {
  auto ratio = [](double x, const double (&a)[8], const double (&b)[7]) {
    double n = a[7], d = b[6];
    for (int i = 6; i >= 0; --i) n = n * x + a[i];
    for (int i = 5; i >= 0; --i) d = d * x + b[i];
    return n / (d * x + 1);
  };
  static constexpr double a[8] = {3.3871328727963666080, 1.3314166789178437745e2, 1.9715909503065514427e3, 1.3731693765509461125e4,
                                  4.5921953931549871457e4, 6.7265770927008700853e4, 3.3430575583588128105e4, 2.5090809287301226727e3};
  static constexpr double b[7] = {4.2313330701600911252e1, 6.8718700749205790830e2, 5.3941960214247511077e3, 2.1213794301586595867e4, 3.9307895800092710610e4, 2.8729085735721942674e4, 5.2264952788528545610e3};
  static constexpr double c[8] = {1.42343711074968357734, 4.63033784615654529590, 5.76949722146069140550, 3.64784832476320460504, 1.27045825245236838258, 2.41780725177450611770e-1, 2.27238449892691845833e-2, 7.74545014278341407640e-4};
  static constexpr double d[7] = {2.05319162663775882187, 1.67638483018380384940, 6.89767334985100004550e-1, 1.48103976427480074590e-1, 1.51986665636164571966e-2, 5.47593808499534494600e-4, 1.05075007164441684324e-9};
  static constexpr double e[8] = {6.65790464350110377720, 5.46378491116411436990, 1.78482653991729133580, 2.96560571828504891230e-1, 2.65321895265761230930e-2, 1.24266094738807843860e-3, 2.71155556874348757815e-5, 2.01033439929228813265e-7};
  static constexpr double f[7] = {5.99832206555887937690e-1, 1.36929880922735805310e-1, 1.48753612908506148525e-2, 7.86869131145613259100e-4, 1.84631831751005468180e-5, 1.42151175831644588870e-7, 2.04426310338993978564e-15};
  const double q = p - 0.5;
  if (std::fabs(q) <= 0.425) return q * ratio(0.180625 - q * q, a, b);
  const double r = std::sqrt(-std::log(q < 0 ? p : 1 - p));
  const double x = r <= 5 ? ratio(r - 1.6, c, d) : ratio(r - 5, e, f);
  return q < 0 ? -x : x;
}
double normal_cdf(double x) { return 0.5 * std::erfc(-x * 0.70710678118654752440); }

}  // namespace

double calculate_gain(Nonlinearity n, double slope) {
  switch (n) {
    case Nonlinearity::linear: case Nonlinearity::sigmoid: return 1;
    case Nonlinearity::tanh: return 5.0 / 3;
    case Nonlinearity::relu: return std::sqrt(2.0);
    case Nonlinearity::leaky_relu: return std::sqrt(2 / (1 + slope * slope));
    case Nonlinearity::selu: return 0.75;
  }
  return 1;
}

void constant(const Tensor& t, double value) {
  if (!t.defined()) raise(Error(ErrorCode::value, "an empty tensor cannot be initialised").op("constant"));
  NoGrad off;
  Tensor(t).fill_(value);
}
void zeros(const Tensor& t) { constant(t, 0); }
void ones(const Tensor& t) { constant(t, 1); }

void normal(const Tensor& t, const NormalOptions& o) {
  if (!(o.std >= 0)) raise(Error(ErrorCode::value, "std must not be negative, got " + std::to_string(o.std)).op("normal"));
  write("normal", t, keel::normal(t.shape(), o.mean, o.std, like(t)));
}
void uniform(const Tensor& t, const UniformOptions& o) {
  if (!(o.low <= o.high)) raise(Error(ErrorCode::value, "low must not be above high, got " + std::to_string(o.low) + " and " + std::to_string(o.high)).op("uniform"));
  write("uniform", t, keel::uniform(t.shape(), o.low, o.high, like(t)));
}
void trunc_normal(const Tensor& t, const TruncNormalOptions& o) {
  if (!(o.low < o.high) || !(o.std > 0)) raise(Error(ErrorCode::value, "low must be below high and std positive").op("trunc_normal"));
  const double low = normal_cdf((o.low - o.mean) / o.std), high = normal_cdf((o.high - o.mean) / o.std);
  Tensor x = keel::uniform(t.shape(), low, high, {.dtype = f64});
  double* p = x.data<double>();
  for (int64_t i = 0; i < x.size(); ++i) p[i] = std::min(std::max(o.mean + o.std * normal_quantile(std::min(std::max(p[i], 1e-300), 1 - 0x1p-53)), o.low), o.high);
  write("trunc_normal", t, x.to(t.device()));
}
void xavier_uniform(const Tensor& t, const XavierOptions& o) {
  const Fans f = fans("xavier_uniform", t);
  const double bound = o.gain * std::sqrt(6 / (f.in + f.out));
  uniform(t, {.low = -bound, .high = bound});
}
void xavier_normal(const Tensor& t, const XavierOptions& o) {
  const Fans f = fans("xavier_normal", t);
  normal(t, {.std = o.gain * std::sqrt(2 / (f.in + f.out))});
}
void kaiming_uniform(const Tensor& t, const KaimingOptions& o) {
  const double bound = std::sqrt(3.0) * kaiming_gain("kaiming_uniform", t, o);
  uniform(t, {.low = -bound, .high = bound});
}
void kaiming_normal(const Tensor& t, const KaimingOptions& o) { normal(t, {.std = kaiming_gain("kaiming_normal", t, o)}); }

}  // namespace keel::nn::init
