// The judges: each looks at every sample of every op from one side.
#include <gtest/gtest.h>

#include <cmath>

#include "core/allocator.h"
#include "core/impl.h"
#include "op/scope.h"
#include "ops/judge.h"

namespace keel::testing_cases {
namespace {

TEST_P(Judge, AgreesWithOracle) {
  if (op.why_no_oracle) GTEST_SKIP() << op.why_no_oracle;
  each([&](const Sample& s, const Tensors& in, DType t, const std::string& what) {
    expect_close(run_op(op, s.params, fresh(op, in)), run_oracle(op, s.params, fresh(op, in)), tolerance_for(c, t), what);
  });
}

TEST_P(Judge, StridesDoNotMatter) {
  if (op.random || op.in.size() == 0) GTEST_SKIP() << "has no inputs to restride";
  each([&](const Sample& s, const Tensors& in, DType t, const std::string& what) {
    const Tensors plain = run_op(op, s.params, fresh(op, in));
    for (int way = 0; way < 3; ++way) {
      Tensors odd;
      for (const Tensor& x : fresh(op, in)) odd.push_back(restride(x, way));
      Tensors wide;
      for (const Tensor& y : plain) wide.push_back(y.defined() && is_floating(y.dtype()) ? cast(y, f64) : y);
      expect_close(run_op(op, s.params, odd), wide, tolerance_for(c, t), what + " restrided, way " + std::to_string(way));
    }
  });
}

TEST_P(Judge, ThreadsDoNotChangeBits) {
  const int64_t threads = num_threads();
  each([&](const Sample& s, const Tensors& in, DType, const std::string& what) {
    set_num_threads(1);
    const Tensors one = run_op(op, s.params, fresh(op, in));
    set_num_threads(2);
    const Tensors two = run_op(op, s.params, fresh(op, in));
    expect_same_bits(one, two, what);
  });
  set_num_threads(threads);
}

TEST_P(Judge, StaysInsideItsMemory) {
  set_red_zones(true);
  each([&](const Sample& s, const Tensors& in, DType, const std::string&) {
    Tensors copies;
    for (const Tensor& x : in) copies.push_back(x.defined() ? x.clone() : x);
    run_op(op, s.params, copies);
  });
  set_red_zones(false);
}

#if defined(__cpp_exceptions)
TEST_P(Judge, GradientIsRight) {
  if (c.no_grad) GTEST_SKIP() << c.no_grad;
  if (!(c.dtypes & kinds::floating)) GTEST_SKIP() << "takes no floats";
  for (int order = 1; order <= (c.second && !small_run() ? 2 : 1); ++order) {
    for (size_t i = 0; i < c.samples.size(); ++i) {
      const Sample& s = c.samples[i];
      const std::string what = describe(c, s, f64);
      if (!s.grad || (wanted_case() && what != wanted_case())) continue;
      SCOPED_TRACE("order " + std::to_string(order) + ", rerun with KEEL_CASE='" + what + "'");
      Tensors all = make_inputs(s.in, f64, i + 1), leaves;
      std::vector<int64_t> at;
      int64_t elements = 0;
      for (int64_t k = 0; k < all.size(); ++k)
        if (all[k].defined() && all[k].dtype() == f64 && s.in[size_t(k)].differentiable)
          leaves.push_back(all[k].requires_grad_()), at.push_back(k), elements += all[k].size();
      if (leaves.empty() || elements == 0 || elements > (order == 1 ? 400 : 120)) continue;
      auto f = [&](const Tensors& x) {
        Tensors in = all, out;
        for (size_t k = 0; k < at.size(); ++k) in[at[k]] = x[int64_t(k)];
        int n = 0;
        for (Tensor& y : run_op(op, s.params, in))
          if (y.defined() && is_inexact(y.dtype()) && !op.out[std::min(n++, op.out.size() - 1)].only_when_recording && y.tracked())
            out.push_back(y);
        return out;
      };
      try {
        if (order == 1) gradcheck(f, leaves, {.abs = c.grad_abs, .rel = c.grad_rel});
        else gradgradcheck(f, leaves, {.abs = c.grad_abs, .rel = c.grad_rel});
      } catch (const Error& e) {
        FAIL() << what << "\n" << e.what();
      }
    }
  }
}

TEST_P(Judge, RefusesBadInput) {
  for (const ErrorSample& s : c.errors) {
    try {
      run_op(op, s.params, make_inputs(s.in, f32, 1));
      ADD_FAILURE() << c.op << ": no error, expected one with \"" << s.text << "\"";
    } catch (const Error& e) {
      EXPECT_EQ(int(e.code()), int(s.code)) << e.what();
      EXPECT_NE(std::string(e.what()).find(s.text), std::string::npos) << "\"" << s.text << "\" is not in:\n" << e.what();
      EXPECT_EQ(e.op(), c.op) << e.what();
    }
  }
}
#endif

INSTANTIATE_TEST_SUITE_P(Ops, Judge, ::testing::Range(0, int(all_cases().ops.size())), test_name);
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(Judge);

}  // namespace
}  // namespace keel::testing_cases
