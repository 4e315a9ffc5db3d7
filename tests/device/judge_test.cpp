// The judges of another device (KEEL_TEST_DEVICE, else cuda:0 where there is one): every op against the float64 oracle on the CPU, with
// odd strides, and with the same error texts.
#include "ops/judge.h"

namespace keel::testing_cases {
namespace {

/// The device to judge; the CPU where there is none.
Device judged() {
  const char* name = std::getenv("KEEL_TEST_DEVICE");
  return name ? device(name) : device("auto");
}
#define KEEL_SKIP_WITHOUT_DEVICE() \
  const Device there = judged();   \
  if (there == cpu_device) GTEST_SKIP() << "no other device here"

/// The inputs on `d`, but for those that stay on the host.
Tensors moved(const OpDef& op, const Tensors& in, Device d) {
  Tensors out;
  for (int64_t i = 0; i < in.size(); ++i) {
    const ArgDef& a = op.in[std::min(int(i), op.in.size() - 1)];
    out.push_back(!in[i].defined() || a.host || impl(in[i]).weak ? in[i] : in[i].to(d));
  }
  return out;
}
Tensors back(const Tensors& in) {
  Tensors out;
  for (const Tensor& t : in) out.push_back(t.defined() ? t.to(cpu_device) : t);
  return out;
}
/// Params whose `device` is `d`.
std::vector<char> on_device(const OpDef& op, std::vector<char> params, Device d) {
  if (op.params.device_offset >= 0 && op.params.device_offset + sizeof(Device) <= params.size())
    std::memcpy(params.data() + op.params.device_offset, &d, sizeof d);
  return params;
}

class DeviceJudge : public Judge {};

TEST_P(DeviceJudge, AgreesWithOracle) {
  KEEL_SKIP_WITHOUT_DEVICE();
  if (op.why_no_oracle) GTEST_SKIP() << op.why_no_oracle;
  each([&](const Sample& s, const Tensors& in, DType t, const std::string& what) {
    const Tensors got = run_op(op, on_device(op, s.params, there), moved(op, fresh(op, in), there));
    for (const Tensor& y : got) {
      if (!y.defined() || op.view || c.op == "transfer") continue;
      ASSERT_EQ(y.device(), there) << what;
    }
    expect_close(back(got), run_oracle(op, s.params, fresh(op, in)), tolerance_for(c, t), what + " on " + to_string(there));
  });
}

TEST_P(DeviceJudge, StridesDoNotMatter) {
  KEEL_SKIP_WITHOUT_DEVICE();
  if (op.random || op.in.size() == 0) GTEST_SKIP() << "has no inputs to restride";
  each([&](const Sample& s, const Tensors& in, DType t, const std::string& what) {
    const Tensors plain = run_op(op, s.params, fresh(op, in));
    for (int way = 0; way < 3; ++way) {
      Tensors odd;
      for (const Tensor& x : moved(op, fresh(op, in), there)) odd.push_back(x.defined() && x.device() == there ? restride(x, way) : x);
      Tensors wide;
      for (const Tensor& y : plain) wide.push_back(y.defined() && is_floating(y.dtype()) ? cast(y, f64) : y);
      expect_close(back(run_op(op, on_device(op, s.params, there), odd)), wide, tolerance_for(c, t),
                   what + " restrided, way " + std::to_string(way) + ", on " + to_string(there));
    }
  });
}

/// Two runs give the same bits, and random ops those of the CPU.
TEST_P(DeviceJudge, BitsAreRepeatable) {
  KEEL_SKIP_WITHOUT_DEVICE();
  each([&](const Sample& s, const Tensors& in, DType, const std::string& what) {
    const std::vector<char> params = on_device(op, s.params, there);
    const Tensors one = back(run_op(op, params, moved(op, fresh(op, in), there)));
    expect_same_bits(one, back(run_op(op, params, moved(op, fresh(op, in), there))), what);
    if (op.random && !HasFatalFailure()) expect_close(one, run_op(op, s.params, fresh(op, in)), {1e-5, 1e-5}, what);
  });
}

TEST_P(DeviceJudge, GradientIsTheSame) {
  KEEL_SKIP_WITHOUT_DEVICE();
  if (c.no_grad) GTEST_SKIP() << c.no_grad;
  if (!(c.dtypes & kinds::floating)) GTEST_SKIP() << "takes no floats";
  for (size_t i = 0; i < c.samples.size(); ++i) {
    const Sample& s = c.samples[i];
    const std::string what = describe(c, s, f64);
    if (!s.grad || (wanted_case() && what != wanted_case())) continue;
    SCOPED_TRACE("rerun with KEEL_CASE='" + what + "'");
    const auto gradients = [&](Device d) {
      Tensors in = moved(op, make_inputs(s.in, f64, i + 1), d), grads;
      for (int64_t k = 0; k < in.size(); ++k)
        if (in[k].defined() && in[k].dtype() == f64 && s.in[size_t(k)].differentiable && !op.in[std::min(int(k), op.in.size() - 1)].host)
          in[k].requires_grad_();
      Tensor total;
      for (const Tensor& y : run_op(op, on_device(op, s.params, d), in)) {
        if (!y.defined() || !y.tracked() || !is_inexact(y.dtype())) continue;
        const Tensor part = (y * y).sum();
        total = total.defined() ? total + part : part;
      }
      if (!total.defined()) return grads;
      total.backward();
      for (const Tensor& x : in) grads.push_back(x.defined() && x.requires_grad() ? x.grad() : Tensor());
      return back(grads);
    };
    expect_close(gradients(there), gradients(cpu_device), {1e-9, 1e-10}, what + " gradient on " + to_string(there));
    if (HasFatalFailure()) return;
  }
}

TEST_P(DeviceJudge, RefusesBadInput) {
  KEEL_SKIP_WITHOUT_DEVICE();
  for (const ErrorSample& s : c.errors) {
    try {
      run_op(op, on_device(op, s.params, there), moved(op, make_inputs(s.in, f32, 1), there));
      synchronize(there);
      ADD_FAILURE() << c.op << ": no error, expected one with \"" << s.text << "\"";
    } catch (const Error& e) {
      EXPECT_EQ(int(e.code()), int(s.code)) << e.what();
      EXPECT_NE(std::string(e.what()).find(s.text), std::string::npos) << "\"" << s.text << "\" is not in:\n" << e.what();
    }
  }
}

INSTANTIATE_TEST_SUITE_P(OnDevice, DeviceJudge, ::testing::Range(0, int(all_cases().ops.size())), test_name);

}  // namespace
}  // namespace keel::testing_cases
