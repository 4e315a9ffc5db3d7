// The level of determinism: who is told, and what keeps it.
#include <gtest/gtest.h>

#include <string>
#include <thread>

#include "backend/kernel.h"
#include "core/scope.h"
#include "keel/keel.h"

namespace keel {

/// 1 where the kernel that varies ran, 2 where the other one did, 3 where that was told to be invariant, 4 where sums may come in any order; the
/// gradient says so of its own call.
KEEL_OP(demo_level, NoParams) {
  def.doc("level of the call").in("x", kinds::floating).out("y").primitive().no_oracle("tells of the kernel")
      .infer([](auto&, Specs in) { return in[0]; })
      .vjp([](auto&, const VjpArgs& a) -> Tensors { return {call(op_demo_level, NoParams{}, a.g[0])}; });
}
Tensor demo_level(const Tensor& x) { return call(op_demo_level, NoParams{}, x); }

namespace {

KernelStatus fill(const KernelArgs& a, float v) {
  for (int64_t i = 0; i < a.out[0].size(); ++i) a.out[0].ptr<float>()[i] = v;
  return {};
}
constexpr double kVarying = 1, kHolding = 2, kInvariant = 3, kAnyOrder = 4;

class DeterminismLevel : public testing::Test {
 protected:
  void SetUp() override {
    static const bool once = [] {
      register_op_demo_level(registry());
      registry().validate();
      static KernelEntry varying, holding;
      varying.name = "cpu.demo_level_varying", holding.name = "cpu.demo_level";
      const DTypeSet f = set_of(DType::f32);
      KernelDef(varying).dtypes(f).inputs(Layout::contiguous).varies().run([](const KernelArgs& a) { return fill(a, a.any_order ? kAnyOrder : kVarying); });
      KernelDef(holding).dtypes(f).inputs(Layout::contiguous).run([](const KernelArgs& a) {
        return fill(a, a.invariant ? kInvariant : kHolding);
      });
      cpu_kernels().add(op_demo_level, varying), cpu_kernels().add(op_demo_level, holding);
      return true;
    }();
    (void)once;
  }
  void TearDown() override { set_determinism(Determinism::run); }

  static double level() { return demo_level(ones({2}))[{0}].item(); }
  static Tensor leaf() { return ones({2}).requires_grad_(); }
};

TEST_F(DeterminismLevel, GuardsAndTheDefault) {
  EXPECT_EQ(determinism(), Determinism::run);
  EXPECT_EQ(level(), kVarying);
  {
    const DeterminismGuard guard(Determinism::invariant);
    EXPECT_EQ(level(), kInvariant);
    {
      const DeterminismGuard inner(Determinism::run);
      EXPECT_EQ(level(), kVarying);
    }
    EXPECT_EQ(level(), kInvariant);
    double there = 0;
    std::thread([&] { there = level(); }).join();
    EXPECT_EQ(there, kVarying) << "a guard is its thread's";
  }
  EXPECT_EQ(level(), kVarying);
  set_determinism(Determinism::invariant);
  EXPECT_EQ(determinism(), Determinism::invariant);
  double there = 0;
  std::thread([&] { there = level(); }).join();
  EXPECT_EQ(there, kInvariant);
  {
    const DeterminismGuard inner(Determinism::run);
    EXPECT_EQ(level(), kVarying);
  }
  EXPECT_EQ(level(), kInvariant);
}

TEST_F(DeterminismLevel, ABackwardPassKeepsTheLevel) {
  const Tensor x = leaf(), z = leaf();
  const auto part = [](const Tensor& t) { return demo_level(t); };
  Tensor y, plain = demo_level(leaf());
  {
    const DeterminismGuard guard(Determinism::invariant);
    y = demo_level(x);
    y = y + checkpoint(part, z);
  }
  sum(y).backward();
  EXPECT_EQ(x.grad()[{0}].item(), kInvariant);
  EXPECT_EQ(z.grad()[{0}].item(), kInvariant) << "run again for its gradient";
  const Tensor w = leaf();
  y = demo_level(w);
  const DeterminismGuard guard(Determinism::invariant);
  sum(y).backward();
  EXPECT_EQ(w.grad()[{0}].item(), kInvariant) << "the caller of the backward pass asks for more";
}

TEST_F(DeterminismLevel, FastIsLessThanWhatOthersAskFor) {
  const Tensor x = leaf(), z = leaf();
  Tensor y;
  {
    const DeterminismGuard guard(Determinism::fast);
    EXPECT_EQ(level(), kAnyOrder);
    y = demo_level(x) + demo_level(z);
    sum(demo_level(z)).backward();
  }
  EXPECT_EQ(z.grad()[{0}].item(), kAnyOrder);
  sum(y).backward();
  EXPECT_EQ(x.grad()[{0}].item(), kVarying) << "a backward pass outside of the guard keeps what is promised there";
  set_determinism(Determinism::fast);
  EXPECT_EQ(level(), kAnyOrder);
  const DeterminismGuard guard(Determinism::run);
  EXPECT_EQ(level(), kVarying);
}

TEST_F(DeterminismLevel, LevelsHaveNames) {
  for (const Determinism level : {Determinism::fast, Determinism::run, Determinism::invariant})
    EXPECT_EQ(determinism_from_name(name_of(level)), level);
  EXPECT_THROW(determinism_from_name("faster"), Error);
}

TEST_F(DeterminismLevel, RecordingsKeepTheLevel) {
  const Graph g = trace(
      [](const Tensors& in) {
        const Tensor first = demo_level(in[0]);
        const DeterminismGuard guard(Determinism::invariant);
        return Tensors{first, demo_level(in[0])};
      },
      {ones({2})});
  Tensors out = g.run({ones({2})});
  EXPECT_EQ(out[0][{0}].item(), kVarying);
  EXPECT_EQ(out[1][{0}].item(), kInvariant);
  EXPECT_EQ(determinism(), Determinism::run);
  const Compiled c = compile([](const Tensors& in) { return demo_level(in[0]); });
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(c({ones({2})})[0][{0}].item(), kVarying);
    const DeterminismGuard guard(Determinism::invariant);
    EXPECT_EQ(c({ones({2})})[0][{0}].item(), kInvariant);
  }
}

}  // namespace
}  // namespace keel
