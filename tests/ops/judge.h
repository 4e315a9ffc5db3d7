#pragma once
// What judges share: a test of one list of cases, sample by sample.
#include <gtest/gtest.h>

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

inline std::vector<DType> dtypes_of(const OpCase& c) {
  std::vector<DType> out;
  for (int t = 1; t < kDTypes; ++t)
    if (contains(c.dtypes, DType(t)) && !(small_run() && (DType(t) == f64 || DType(t) == bf16))) out.push_back(DType(t));
  return out;
}

/// Whether two dense tensors of one dtype and shape have the same bits, but for the bits inside a NaN: of a sum of two NaN IEEE 754 leaves open which one comes out, and so does the compiler.
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

inline std::string test_name(const ::testing::TestParamInfo<int>& i) { return all_cases().ops[size_t(i.param)].op + "_" + std::to_string(i.param); }

}  // namespace keel::testing_cases
