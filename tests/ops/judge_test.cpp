// The judges: each looks at every sample of every op from one side.
#include <gtest/gtest.h>

#include <cmath>

#include "core/allocator.h"
#include "core/impl.h"
#include "op/scope.h"
#include "ops/judge.h"

namespace keel::testing_cases {
namespace {

Tolerance tolerance_for(const OpCase& c, DType t) { return t == f64 ? c.f64_tolerance : t == f16 ? c.f16_tolerance : t == bf16 ? c.bf16_tolerance : c.f32_tolerance; }

/// The largest finite value of a floating dtype; beyond it the oracle's value must have become infinite.
double largest(DType t) { return t == f16 ? 65504.0 : t == bf16 ? 3.3895e38 : t == f32 ? 3.4028234e38 : 1.7e308; }

/// Compares every output with the oracle's; says where the worst element is.
void expect_close(const Tensors& got, const Tensors& want, Tolerance tol, const std::string& what) {
  for (int64_t k = 0; k < got.size() && k < want.size(); ++k) {
    if (!got[k].defined() || !want[k].defined()) continue;
    ASSERT_EQ(got[k].shape(), want[k].shape()) << what << ", output " << k;
    const DType t = got[k].dtype();
    const Tensor g = got[k].contiguous(), w = want[k].contiguous();
    const std::byte *a = impl(g).data, *b = impl(w).data;
    for (int64_t i = 0; i < g.size(); ++i, a += size_of(t), b += size_of(w.dtype())) {
      if (!is_inexact(t)) {
        ASSERT_EQ(read_int(a, t), read_int(b, w.dtype())) << what << ", output " << k << ", element " << i;
        continue;
      }
      const double x = read_double(a, t), y = read_double(b, w.dtype());
      if (std::isnan(y)) {
        ASSERT_TRUE(std::isnan(x)) << what << ", output " << k << ", element " << i << ": got " << x << ", want nan";
      } else if (std::isinf(y) || std::fabs(y) > largest(t)) {
        ASSERT_TRUE((std::isinf(x) && std::signbit(x) == std::signbit(y)) || std::fabs(x) > 0.99 * largest(t)) << what << ", output " << k << ", element " << i << ": got " << x << ", want " << y;
      } else {
        ASSERT_LE(std::fabs(x - y), tol.abs + tol.rel * std::fabs(y)) << what << ", output " << k << ", element " << i << ": got " << x << ", want " << y;
      }
    }
  }
}

/// The same values under other strides: transposed memory, every second element, reversed.
Tensor restride(const Tensor& t, int way) {
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
    Tensor view = slice_view(make_tensor(t.dtype(), wide), p);
    view.copy_(t);
    return view;
  }
  const Tensor reversed = t.flip({-1});
  return reversed.clone().flip({-1});
}

TEST_P(Judge, AgreesWithOracle) {
  if (op.why_no_oracle) GTEST_SKIP() << op.why_no_oracle;
  each([&](const Sample& s, const Tensors& in, DType t, const std::string& what) { expect_close(run_op(op, s.params, fresh(op, in)), run_oracle(op, s.params, fresh(op, in)), tolerance_for(c, t), what); });
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
        if (all[k].defined() && all[k].dtype() == f64 && s.in[size_t(k)].differentiable) leaves.push_back(all[k].requires_grad_()), at.push_back(k), elements += all[k].size();
      if (leaves.empty() || elements == 0 || elements > (order == 1 ? 400 : 120)) continue;
      auto f = [&](const Tensors& x) {
        Tensors in = all, out;
        for (size_t k = 0; k < at.size(); ++k) in[at[k]] = x[int64_t(k)];
        int n = 0;
        for (Tensor& y : run_op(op, s.params, in))
          if (y.defined() && is_inexact(y.dtype()) && !op.out[std::min(n++, op.out.size() - 1)].only_when_recording && y.tracked()) out.push_back(y);
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
