#include "ops/cases.h"

#include <cmath>
#include <limits>

#include "core/impl.h"
#include "op/scope.h"

namespace keel {
void register_cases(testing_cases::CaseList& list);
}

namespace keel::testing_cases {

const CaseList& all_cases() {
  static const CaseList list = [] {
    CaseList l;
    register_cases(l);
    return l;
  }();
  return list;
}

namespace {

/// splitmix64: small, and nothing of the library under test.
uint64_t mix(uint64_t& s) {
  uint64_t z = s += 0x9e3779b97f4a7c15;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9, z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}
double unit(uint64_t& s) { return (double(mix(s) >> 11) + 0.5) * 0x1p-53; }

Tensor make(const Arg& a, DType dtype, uint64_t seed) {
  if (a.fill == Arg::Fill::absent) return {};
  Tensor t = make_tensor(a.dtype != DType::none ? a.dtype : dtype, a.shape);
  std::byte* p = impl(t).data;
  const size_t step = size_of(t.dtype());
  uint64_t s = seed;
  const double inf = std::numeric_limits<double>::infinity();
  const bool narrow = t.dtype() == f16;
  const double odd[] = {std::nan(""),
                        inf,
                        -inf,
                        0.0,
                        -0.0,
                        narrow ? 6e-8 : 1e-45,
                        narrow ? -6e-8 : -1e-45,
                        narrow ? 65504 : 3.3e38,
                        narrow ? -65504 : -3.3e38,
                        1,
                        -1,
                        0.5,
                        88.0,
                        -88.0,
                        1e-3};
  for (int64_t i = 0; i < t.size(); ++i, p += step) {
    double v = 0;
    switch (a.fill) {
      case Arg::Fill::normal: v = std::sqrt(-2 * std::log(unit(s))) * std::cos(6.283185307179586 * unit(s)); break;
      case Arg::Fill::uniform: v = a.lo + (a.hi - a.lo) * unit(s); break;
      case Arg::Fill::integers: case Arg::Fill::bools: v = std::floor(a.lo + (a.hi - a.lo) * unit(s)); break;
      case Arg::Fill::values: v = a.values[size_t(i) % a.values.size()]; break;
      case Arg::Fill::special: v = odd[size_t(i) % std::size(odd)]; break;
      case Arg::Fill::absent: break;
    }
    if (is_inexact(t.dtype())) write_scalar(p, t.dtype(), Scalar(v));
    else write_scalar(p, t.dtype(), Scalar(int64_t(v)));
  }
  return t;
}

}  // namespace

Tensors make_inputs(const std::vector<Arg>& in, DType dtype, uint64_t seed) {
  Tensors t;
  for (size_t i = 0; i < in.size(); ++i) t.push_back(make(in[i], dtype, seed * 1000003 + i * 7919 + 1));
  return t;
}

std::string describe(const OpCase& c, const Sample& s, DType dtype) {
  std::string text = c.op + "(";
  for (size_t i = 0; i < s.in.size(); ++i) {
    if (i) text += ", ";
    const Arg& a = s.in[i];
    text += a.fill == Arg::Fill::absent ? "none" : to_string(Spec{a.dtype != DType::none ? a.dtype : dtype, a.shape});
    if (a.fill == Arg::Fill::special) text += " special";
  }
  const OpDef* op = registry().find(c.op.c_str());
  const std::string p = op ? op->params.text(s.params.data()) : "";
  return text + (p.empty() ? "" : ", " + p) + ")";
}

Tensors run_op(const OpDef& op, const std::vector<char>& params, const Tensors& in) {
  alignas(16) char p[1024];
  std::memcpy(p, params.data(), params.size());
  SmallVector<const Tensor*, 16> ptr;
  for (const Tensor& t : in) ptr.push_back(&t);
  return dispatch(op, p, Inputs(ptr.data(), int(ptr.size())), nullptr);
}

Tensors run_oracle(const OpDef& op, const std::vector<char>& params, const Tensors& in) {
  Tensors wide;
  for (const Tensor& t : in) wide.push_back(t.defined() && is_floating(t.dtype()) ? cast(t, f64) : t);
  ScopeGuard guard;
  scope().oracle = true;
  scope().grad = false;
  return run_op(op, params, wide);
}

}  // namespace keel::testing_cases
