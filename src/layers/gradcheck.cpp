// Gradients against differences. The numeric side is the fourth-order central difference at several steps; the pair of steps that agree best gives the value, and their disagreement its error.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <vector>

#include "keel/error.h"
#include "keel/ops.h"
#include "layers/autograd.h"

namespace keel {
namespace {

/// Fixed cotangents without symmetry, so that no error cancels.
Tensor cotangent_for(const Tensor& y, int64_t salt) {
  Tensor v = empty(y.shape(), {.dtype = f64});
  double* p = v.data<double>();
  for (int64_t i = 0; i < v.size(); ++i) p[i] = 0.5 + std::fmod(0.6180339887498949 * double(i + 1 + 13 * salt), 1.0);
  return v;
}

double contracted(const Tensors& y, const Tensors& v) {
  double s = 0;
  for (int64_t k = 0; k < y.size(); ++k) {
    const Tensor a = y[k].contiguous();
    const double *p = static_cast<const Tensor&>(a).data<double>(), *q = static_cast<const Tensor&>(v[k]).data<double>();
    for (int64_t i = 0; i < a.size(); ++i)
      if (p[i] != 0 || !std::isfinite(q[i])) s += p[i] * q[i];
  }
  return s;
}

struct Numeric {
  double value, error;
};

template <class F>
Numeric difference(F&& at, double x) {
  const double scale = std::max(1.0, std::fabs(x));
  Numeric best{0, INFINITY};
  double before = NAN;
  for (double h : {4e-3, 1e-3, 2.5e-4, 6e-5, 1.5e-5}) {
    h *= scale;
    const double d = (8 * (at(x + h) - at(x - h)) - (at(x + 2 * h) - at(x - 2 * h))) / (12 * h);
    const double e = std::fabs(d - before);
    if (e < best.error) best = {d, e};
    if (e <= 1e-11 * std::max(1.0, std::fabs(d))) break;
    before = d;
  }
  return best;
}

std::string row(int64_t input, int64_t element, double analytic, double numeric) {
  char text[128];
  std::snprintf(text, sizeof text, "input %lld, element %lld: analytic %.12g, numeric %.12g", static_cast<long long>(input), static_cast<long long>(element), analytic, numeric);
  return text;
}

bool check(const TestedFunction& f, const Tensors& inputs, const GradcheckOptions& o, const char* name) {
  ScopeGuard guard;
  scope().grad = true;
  Tensors x;
  for (const Tensor& t : inputs) {
    if (t.dtype() != f64) raise(Error(ErrorCode::dtype, "differences need f64 inputs").op(name).arg("input", to_string(impl(t).spec)));
    Tensor c = t.detach().clone().contiguous();
    x.push_back(t.tracked() ? c.requires_grad_() : c);
  }
  const Tensors all = f(x);
  Tensors y, v;
  std::vector<int64_t> kept;
  for (int64_t k = 0; k < all.size(); ++k)
    if (all[k].defined() && all[k].tracked() && all[k].dtype() == f64) y.push_back(all[k]), kept.push_back(k), v.push_back(cotangent_for(all[k], k));
  Tensors wrt;
  std::vector<int64_t> at;
  for (int64_t k = 0; k < x.size(); ++k)
    if (x[k].tracked()) wrt.push_back(x[k]), at.push_back(k);
  Tensors analytic;
  if (!y.empty()) analytic = grad(y, wrt, {.allow_unused = true}, v);
  std::vector<std::pair<double, std::string>> wrong;
  for (size_t w = 0; w < at.size(); ++w) {
    Tensor& xi = x[at[w]];
    const Tensor g = !y.empty() && analytic[int64_t(w)].defined() ? analytic[int64_t(w)].contiguous() : zeros(xi.shape(), {.dtype = f64});
    double* p = static_cast<double*>(static_cast<void*>(impl(xi).data));
    for (int64_t i = 0; i < xi.size(); ++i) {
      const double keep = p[i], a = static_cast<const Tensor&>(g).data<double>()[i];
      if (y.empty()) continue;
      const Numeric n = difference([&](double value) {
        p[i] = value;
        const Tensors fresh = f(x);
        Tensors used;
        for (int64_t k : kept) used.push_back(fresh[k]);
        return contracted(used, v);
      }, keep);
      p[i] = keep;
      const double scale = std::max(std::fabs(a), std::fabs(n.value));
      const double allowed = o.abs + o.rel * scale + std::min(n.error, 1e-6 * scale + 1e-8);
      const double off = std::fabs(a - n.value);
      if (!(off <= allowed)) wrong.emplace_back(std::isnan(off) ? INFINITY : off / allowed, row(at[w], i, a, n.value));
    }
  }
  if (wrong.empty()) return true;
  if (!o.raise) return false;
  std::sort(wrong.begin(), wrong.end(), [](auto& a, auto& b) { return a.first > b.first; });
  Error e(ErrorCode::autograd, std::to_string(wrong.size()) + " gradients differ from differences");
  e.op(name);
  for (size_t i = 0; i < wrong.size() && i < 5; ++i) e.note(wrong[i].second);
  raise(e);
}

}  // namespace

bool detail::gradcheck(const TestedFunction& f, const Tensors& inputs, const GradcheckOptions& o) { return check(f, inputs, o, "gradcheck"); }

bool detail::gradgradcheck(const TestedFunction& f, const Tensors& inputs, const GradcheckOptions& o) {
  // The gradient as a function of the inputs and of the cotangents, checked like any other.
  const int64_t n = inputs.size();
  Tensors both = inputs;
  Tensors shapes;
  {
    EnableGrad on;
    for (const Tensor& y : f(inputs))
      if (y.defined() && y.tracked() && y.dtype() == f64) both.push_back(cotangent_for(y, both.size()).requires_grad_());
  }
  if (both.size() == n) return true;
  auto gradient = [&f, n](const Tensors& in) -> Tensors {
    Tensors x, y, v, wrt;
    for (int64_t i = 0; i < n; ++i) x.push_back(in[i]);
    for (int64_t i = n; i < in.size(); ++i) v.push_back(in[i]);
    for (const Tensor& t : f(x))
      if (t.defined() && t.tracked() && t.dtype() == f64) y.push_back(t);
    for (const Tensor& t : x)
      if (t.tracked()) wrt.push_back(t);
    Tensors g = grad(y, wrt, {.create_graph = true, .allow_unused = true}, v);
    for (int64_t i = 0; i < g.size(); ++i)
      if (!g[i].defined()) g[i] = zeros(wrt[i].shape(), {.dtype = f64});
    return g;
  };
  return check(gradient, both, o, "gradgradcheck");
}

}  // namespace keel
