// An op that a program registers gets what built-in ops get: checks, autograd, autocast, trace, monitor, gradient checks, errors.
#include <gtest/gtest.h>

#include <cstring>

#include "keel/keel.h"

namespace keel {
extern OpDef op_add;
}

namespace program {
using namespace keel;

struct GatedParams {
  [[no_unique_address]] ByName by_name = ByName();
  double slope = 1.0;
  static constexpr void fields(auto& p, auto&& f) { f("slope", p.slope, "steepness of the gate"); }
};
Tensor gated(const Tensor& a, const Tensor& b, const GatedParams& p = {});
Tensor norm4(const Tensor& x);

/// a * sigmoid(slope * b), with a gradient rule of its own.
KEEL_OP(gated, GatedParams) {
  def.doc("a * sigmoid(slope * b)").in("a", kinds::floating).in("b", kinds::floating).out("y").cast(Cast::lower)
      .infer([](auto&, Specs in) {
        if (!(in[0].shape == in[1].shape))
          raise(Error(ErrorCode::shape, "a and b differ").op("gated").arg("a", to_string(in[0])).arg("b", to_string(in[1])));
        return in[0];
      })
      .saves([](auto&, Needs n) {
        Saves s(In{1});
        if (n[1]) s.add(In{0});
        return s;
      })
      .vjp([](auto& p, const VjpArgs& a) -> Tensors {
        const Tensor s = sigmoid(a.in[1] * p.slope);
        return {a.needs[0] ? a.g[0] * s : Tensor(), a.needs[1] ? a.g[0] * a.in[0] * s * (1 - s) * p.slope : Tensor()};
      })
      .decompose([](auto& p, Inputs in) { return in[0] * sigmoid(in[1] * p.slope); });
}
/// Made of other ops only: the gradient flows through them.
KEEL_OP(norm4, NoParams) {
  def.doc("sum(x^4)").in("x", kinds::floating).out("y").infer([](auto&, Specs in) { return Spec{in[0].dtype, Shape()}; })
      .decompose([](auto&, Inputs in) { return sum(square(square(in[0]))); });
}

/// The values of x, with a gradient of its own: its decomposition has nothing to do.
KEEL_OP(twice_as_steep, NoParams) {
  def.doc("x, whose gradient counts twice").in("x", kinds::floating).out("y").infer([](auto&, Specs in) { return in[0]; }).saves(Out{0})
      .vjp([](auto&, const VjpArgs& a) -> Tensors { return {a.g[0] * 2}; })
      .decompose([](auto&, Inputs in) { return in[0]; });
}

/// x, whose gradient rule adds the gradients of two uses itself and counts how often it was asked to.
int pairs_added = 0;
KEEL_OP(passed_on, NoParams) {
  def.doc("x").in("x", kinds::floating).out("y").infer([](auto&, Specs in) { return in[0]; })
      .takes_two_gradients(op_add)
      .vjp([](auto&, const VjpArgs& a) -> Tensors {
        if (a.second) ++pairs_added;
        return {a.second ? a.g[0] + *a.second : a.g[0]};
      })
      .decompose([](auto&, Inputs in) { return in[0] * 1; });
}

Tensor passed_on(const Tensor& x) { return call(op_passed_on, NoParams{}, x); }
Tensor gated(const Tensor& a, const Tensor& b, const GatedParams& p) { return call(op_gated, p, a, b); }
Tensor norm4(const Tensor& x) { return call(op_norm4, NoParams{}, x); }
Tensor twice_as_steep(const Tensor& x) { return call(op_twice_as_steep, NoParams{}, x); }

void register_ops() {
  static const bool once = [] {
    register_op_gated(registry());
    register_op_norm4(registry());
    register_op_twice_as_steep(registry());
    register_op_passed_on(registry());
    registry().validate();
    return true;
  }();
  (void)once;
}

}  // namespace program

namespace keel {
namespace {

using program::gated;
using program::norm4;

class UserOp : public testing::Test {
 protected:
  void SetUp() override { program::register_ops(); }
};
Tensor numbers(const Shape& s, DType t = f32) { return sin(arange(s.numel(), {.dtype = f64})).reshape(s).astype(t); }

TEST_F(UserOp, IsFoundByName) {
  const OpDef* d = registry().find("gated");
  ASSERT_TRUE(d);
  EXPECT_STREQ(d->in[1].name, "b");
  const program::GatedParams p{.slope = 2};
  EXPECT_EQ(d->params.text(&p), "slope=2");
}

TEST_F(UserOp, RunsAndPromotes) {
  const Tensor y = gated(numbers({3}), numbers({3}, f64));
  EXPECT_EQ(y.dtype(), f64);
  EXPECT_TRUE(allclose(y, numbers({3}).astype(f64) * sigmoid(numbers({3}, f64))));
}

TEST_F(UserOp, ErrorsNameIt) {
  try {
    gated(numbers({3}), numbers({4}));
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.op(), "gated");
    EXPECT_EQ(e.code(), ErrorCode::shape);
  }
}

TEST_F(UserOp, MayAddTwoGradientsItself) {
  const auto pairs_in = [](auto&& backward_pass) {
    program::pairs_added = 0;
    backward_pass();
    return program::pairs_added;
  };
  const auto gradient = [](int uses, bool hook = false) {
    const Tensor x = numbers({5}).requires_grad_(), y = program::passed_on(x);
    if (hook) register_hook(y, [](const Tensor& g) { return g * 2; });
    Tensor loss = sum(y * 2);
    if (uses > 1) loss = loss + sum(y * 3);
    if (uses > 2) loss = loss + sum(y * 4);
    loss.backward();
    return x.grad();
  };
  EXPECT_EQ(pairs_in([&] { EXPECT_TRUE(allclose(gradient(1), full({5}, 2))); }), 0);
  EXPECT_EQ(pairs_in([&] { EXPECT_TRUE(allclose(gradient(2), full({5}, 5))); }), 1);
  EXPECT_EQ(pairs_in([&] { EXPECT_TRUE(allclose(gradient(3), full({5}, 9))); }), 1);
  // Whoever listens to the gradient of y gets the sum.
  EXPECT_EQ(pairs_in([&] { EXPECT_TRUE(allclose(gradient(2, true), full({5}, 10))); }), 0);
  // So does whoever wants to differentiate again, or asks for the gradient of y.
  const Tensor x = numbers({5}).requires_grad_(), y = program::passed_on(x), loss = sum(y * y) + sum(y * 3);
  EXPECT_EQ(pairs_in([&] {
              const Tensor g = grad({loss}, {x}, {.create_graph = true})[0];
              EXPECT_TRUE(allclose(grad({sum(g * g)}, {x})[0], 4 * (2 * x.detach() + 3)));
            }), 0);
  EXPECT_EQ(pairs_in([&] { EXPECT_TRUE(allclose(grad({loss}, {y})[0], 2 * x.detach() + 3)); }), 0);
}

TEST_F(UserOp, GradientsOfBothKinds) {
  Tensor a = numbers({2, 3}, f64), b = numbers({2, 3}, f64) * 0.5 + 0.1;
  a.requires_grad_(), b = b.detach().requires_grad_();
  gradcheck([](const Tensors& in) { return gated(in[0], in[1], {.slope = 1.5}); }, {a, b});
  gradgradcheck([](const Tensors& in) { return gated(in[0], in[1], {.slope = 1.5}); }, {a, b});
  gradcheck([](const Tensors& in) { return norm4(in[0]); }, {a});
  gradgradcheck([](const Tensors& in) { return norm4(in[0]); }, {a});
}

TEST_F(UserOp, AutocastLowersAndGradientsComeBackInF32) {
  Tensor a = numbers({4}), b = numbers({4});
  a.requires_grad_();
  Tensor y;
  {
    Autocast guard(bf16);
    y = gated(a, b);
    EXPECT_EQ(y.dtype(), bf16);
    EXPECT_EQ(gated(numbers({4}, f64), b).dtype(), f64);
    {
      Autocast off(DType::none);
      EXPECT_EQ(gated(a, b).dtype(), f32);
    }
    EXPECT_EQ(exp(y).dtype(), f32);  // wants range: column fp32
    EXPECT_EQ((y + 1).dtype(), bf16);
  }
  EXPECT_EQ(gated(a, b).dtype(), f32);
  EXPECT_EQ(autocast_dtype(), DType::none);
  sum(y).backward();
  EXPECT_EQ(a.grad().dtype(), f32);
  EXPECT_TRUE(allclose(a.grad(), sigmoid(b), {.rel = 0.02, .abs = 0.02}));
}

TEST_F(UserOp, TraceRecordsItAsOneOp) {
  const Tensor a = numbers({4}), b = numbers({4});
  Graph g = trace([](const Tensors& in) { return gated(in[0], in[1], {.slope = 3}); }, {a, b});
  EXPECT_EQ(g.text(),
            "graph(%0: f32[4], %1: f32[4])\n"
            "  %2: f32[4] = gated(%0, %1; slope=3)\n"
            "  return %2\n");
  const Tensor z = numbers({4}) * 2, want = gated(z, b, {.slope = 3}), got = g.run({z, b})[0];
  EXPECT_EQ(std::memcmp(want.raw_data(), got.raw_data(), want.nbytes()), 0);
}

TEST_F(UserOp, MonitorNamesIt) {
  Monitor m;
  m.step();
  Tensor y = gated(full({2}, 1e30), ones({2})), z = gated(full({2}, 3e38) * 1.0, full({2}, 0.5));
  EXPECT_TRUE(m.findings().empty());
  bool seen = false;
  for (const auto& s : m.statistics())
    if (s.op == "gated") {
      seen = true;
      EXPECT_GT(s.largest, 1e29);
    }
  EXPECT_TRUE(seen);
}

TEST_F(UserOp, RegisteringTwiceIsRefused) { EXPECT_THROW(program::register_op_gated(registry()), Error); }

// ---- autocast in general ----

TEST_F(UserOp, AutocastCastsAWeightOnceUntilItIsWritten) {
  Tensor w = numbers({4}), x = numbers({4}, bf16);
  w.requires_grad_();
  Autocast guard(bf16);
  const auto casts = [&](auto&& f) {
    Monitor m;
    f();
    int64_t n = 0;
    for (const auto& s : m.statistics())
      if (s.op == "cast") n += s.calls;
    return n;
  };
  EXPECT_EQ(casts([&] { gated(w, x), gated(x, w), gated(w, w); }), 1);
  {
    NoGrad off;
    w.mul_(2.0);
  }
  EXPECT_EQ(casts([&] { gated(w, x), gated(x, w); }), 1);
  EXPECT_EQ(casts([&] { gated(w, x); }), 0);
}

TEST_F(UserOp, AutocastWeightServesSeveralBackwardPasses) {
  Tensor w = numbers({4}), x = numbers({4}, bf16);
  w.requires_grad_();
  Autocast guard(bf16);
  for (int i = 0; i < 2; ++i) sum(gated(w, x)).backward();
  Tensor once = numbers({4});
  once.requires_grad_();
  sum(gated(once, x)).backward();
  EXPECT_TRUE(allclose(w.grad(), once.grad() * 2));
}

TEST_F(UserOp, AutocastCacheDoesNotLeakIntoATrace) {
  Tensor w = numbers({4}), x = numbers({4}, bf16);
  w.requires_grad_();
  Autocast guard(bf16);
  gated(w, x);
  Graph g = trace([&](const Tensors& in) { return gated(w, in[0]); }, {x});
  {
    NoGrad off;
    w.mul_(2.0);
  }
  EXPECT_TRUE(array_equal(g.run({x})[0], gated(w, x)));
}

TEST_F(UserOp, AutocastRefusesOtherDtypes) {
  EXPECT_THROW(Autocast guard(i32), Error);
  EXPECT_THROW(Autocast guard(f64), Error);
  Autocast disabled(bf16, false);
  EXPECT_EQ(autocast_dtype(), DType::none);
}

TEST_F(UserOp, AutocastUnderNoGradStillTrainsLater) {
  Tensor w = numbers({4}), x = numbers({4}, bf16);
  w.requires_grad_();
  Autocast guard(bf16);
  {
    NoGrad off;
    EXPECT_FALSE(gated(w, x).tracked());
  }
  EXPECT_TRUE(gated(w, x).tracked());
}

TEST_F(UserOp, ResultIsNeverItsInput) {
  const int64_t before = memory_stats().bytes_in_use;
  {
    Tensor x = tensor({1.0f, 2.0f}, {.requires_grad = true});
    const Tensor y = program::twice_as_steep(x);
    EXPECT_TRUE(x.requires_grad());
    sum(y).backward();
    EXPECT_TRUE(array_equal(x.grad(), tensor({2.0f, 2.0f})));
    NoGrad off;
    Tensor z = program::twice_as_steep(x);
    z.add_(1);
    EXPECT_TRUE(array_equal(x, tensor({1.0f, 2.0f})));
  }
  EXPECT_EQ(memory_stats().bytes_in_use, before);  // nothing holds itself alive
}

}  // namespace
}  // namespace keel
