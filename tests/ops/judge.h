#pragma once
// What judges share: a test of one list of cases, sample by sample.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "backend/float_bits.h"
#include "core/impl.h"
#include "op/scope.h"
#include "ops/cases.h"

namespace keel::testing_cases {

inline bool small_run() {
  const char* s = std::getenv("KEEL_TEST_SAMPLES");
  return s && std::string(s) == "small";
}
inline const char* wanted_case() { return std::getenv("KEEL_CASE"); }

/// The dtypes to try: those of the case, or those of a small run, or KEEL_TEST_DTYPE alone where it is among them.
inline std::vector<DType> dtypes_of(const OpCase& c) {
  std::vector<DType> out;
  if (const char* only = std::getenv("KEEL_TEST_DTYPE"))
    for (int t = 1; t < kDTypes; ++t)
      if (name_of(DType(t)) == std::string(only) && contains(c.dtypes, DType(t))) return {DType(t)};
  for (int t = 1; t < kDTypes; ++t)
    if (contains(c.dtypes, DType(t)) && !(small_run() && (DType(t) == f64 || DType(t) == bf16))) out.push_back(DType(t));
  return out;
}

/// Whether two dense tensors of one dtype and shape have the same bits, but for the bits inside a NaN: of a sum of two NaN IEEE 754 leaves
/// open which one comes out, and so does the compiler.
inline bool same_bits(const Tensor& x, const Tensor& y) {
  if (std::memcmp(impl(x).data, impl(y).data, x.nbytes()) == 0) return true;
  const DType t = x.dtype() == complex64 ? f32 : x.dtype() == complex128 ? f64 : x.dtype();
  if (!is_floating(t)) return false;
  const FloatBits f = float_bits(t);
  const size_t bytes = size_of(t);
  const auto nan = [&](uint64_t u) { return f.has_inf ? (u & f.magnitude) > f.inf : (u & f.magnitude) == f.magnitude; };
  for (size_t i = 0; i < size_t(x.nbytes()); i += bytes) {
    uint64_t u = 0, v = 0;
    std::memcpy(&u, impl(x).data + i, bytes), std::memcpy(&v, impl(y).data + i, bytes);
    if (u != v && !(nan(u) && nan(v))) return false;
  }
  return true;
}
inline void expect_same_bits(const Tensors& a, const Tensors& b, const std::string& what) {
  ASSERT_EQ(a.size(), b.size()) << what;
  for (int64_t k = 0; k < a.size(); ++k) {
    ASSERT_EQ(a[k].defined(), b[k].defined()) << what;
    if (!a[k].defined()) continue;
    ASSERT_EQ(a[k].shape(), b[k].shape()) << what;
    ASSERT_EQ(a[k].dtype(), b[k].dtype()) << what;
    const Tensor x = a[k].contiguous(), y = b[k].contiguous();
    if (x.size() == 0) continue;
    ASSERT_TRUE(same_bits(x, y)) << what << ", output " << k << " differs in its bits";
  }
}

/// The inputs, with copies of those that the op writes, so that it can be run again.
inline Tensors fresh(const OpDef& op, const Tensors& in) {
  Tensors out = in;
  for (int64_t i = 0; i < out.size(); ++i)
    if (out[i].defined() && op.in[std::min(int(i), op.in.size() - 1)].written) out[i] = out[i].clone();
  return out;
}

inline Tolerance tolerance_for(const OpCase& c, DType t) {
  return t == f64 ? c.f64_tolerance : t == f16 ? c.f16_tolerance : t == bf16 ? c.bf16_tolerance : c.f32_tolerance;
}

/// The largest finite value of a floating dtype; beyond it the oracle's value must have become infinite.
inline double largest(DType t) { return t == f16 ? 65504.0 : t == bf16 ? 3.3895e38 : t == f32 ? 3.4028234e38 : 1.7e308; }

/// By how much, relatively, rounding a wider number once to `t` changes it at most.
inline double rounding_of(DType t) { return t == bf16 ? 0x1p-8 : t == f16 ? 0x1p-11 : 0; }

/// Compares every output with the oracle's; says where the worst element is. A result of 16 bits where the call computes in more may be off
/// by its own rounding.
inline void expect_close(const Tensors& got, const Tensors& want, Tolerance tol, const std::string& what) {
  for (int64_t k = 0; k < got.size() && k < want.size(); ++k) {
    if (!got[k].defined() || !want[k].defined()) continue;
    ASSERT_EQ(got[k].shape(), want[k].shape()) << what << ", output " << k;
    const DType t = got[k].dtype();
    const Tensor g = got[k].contiguous(), w = want[k].contiguous();
    const std::byte *a = impl(g).data, *b = impl(w).data;
    const double rel = w.dtype() == t ? tol.rel : std::max(tol.rel, 1.001 * rounding_of(t));
    for (int64_t i = 0; i < g.size(); ++i, a += size_of(t), b += size_of(w.dtype())) {
      if (!is_inexact(t)) {
        ASSERT_EQ(read_int(a, t), read_int(b, w.dtype())) << what << ", output " << k << ", element " << i;
        continue;
      }
      const double x = read_double(a, t), y = read_double(b, w.dtype());
      if (std::isnan(y)) {
        ASSERT_TRUE(std::isnan(x)) << what << ", output " << k << ", element " << i << ": got " << x << ", want nan";
      } else if (std::isinf(y) || std::fabs(y) > largest(t)) {
        ASSERT_TRUE((std::isinf(x) && std::signbit(x) == std::signbit(y)) || std::fabs(x) > 0.99 * largest(t))
            << what << ", output " << k << ", element " << i << ": got " << x << ", want " << y;
      } else {
        ASSERT_LE(std::fabs(x - y), tol.abs + rel * std::fabs(y))
            << what << ", output " << k << ", element " << i << ": got " << x << ", want " << y;
      }
    }
  }
}

/// The same values under other strides: transposed memory, every second element, reversed.
inline Tensor restride(const Tensor& t, int way) {
  if (!t.defined() || t.rank() == 0) return t;
  const int n = int(t.rank());
  if (way == 0) {
    Dims order, back;
    for (int i = n - 1; i >= 0; --i) order.push_back(i), back.push_back(i);
    return t.permute(order).clone().contiguous().permute(back);
  }
  if (way == 1) {
    Shape wide = t.shape();
    wide[n - 1] *= 2;
    SliceParams p;
    for (int i = 0; i < n; ++i) p.start.push_back(0), p.stop.push_back(wide[i]), p.step.push_back(i == n - 1 ? 2 : 1);
    Tensor view = slice_view(make_tensor(t.dtype(), wide, t.device()), p);
    view.copy_(t);
    return view;
  }
  const Tensor reversed = t.flip({-1});
  return reversed.clone().flip({-1});
}

class Judge : public ::testing::TestWithParam<int> {
 protected:
  const OpCase& c = all_cases().ops[size_t(GetParam())];
  const OpDef& op = *registry().find(c.op.c_str());

  template <class F>
  void each(F&& f) {
    ASSERT_NE(registry().find(c.op.c_str()), nullptr) << c.op << " is no registered op";
    for (size_t i = 0; i < c.samples.size(); ++i) {
      for (DType t : dtypes_of(c)) {
        const std::string what = describe(c, c.samples[i], t);
        if (wanted_case() && what != wanted_case()) continue;
        SCOPED_TRACE("rerun with KEEL_CASE='" + what + "'");
        f(c.samples[i], make_inputs(c.samples[i].in, t, i + 1), t, what);
        if (HasFatalFailure()) return;
      }
    }
  }
};

inline std::string test_name(const ::testing::TestParamInfo<int>& i) {
  return all_cases().ops[size_t(i.param)].op + "_" + std::to_string(i.param);
}

}  // namespace keel::testing_cases
