// Every kind of row that a program may register, with a kernel of its own: aux outputs, variadic inputs, writes in place, keys, shapes that
// the data decides, fallbacks.
#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <string>

#include "backend/kernel.h"
#include "core/impl.h"
#include "keel/keel.h"
#include "op/scope.h"

namespace keel {

// ---- the rows ----

/// x / 2; its kernel takes f32 only.
KEEL_OP(demo_halve, NoParams) {
  def.doc("x / 2").in("x", kinds::floating).out("y").infer([](auto&, Specs in) { return in[0]; })
      .vjp([](auto&, const VjpArgs& a) -> Tensors { return {a.g[0] * 0.5}; })
      .decompose([](auto&, Inputs in) { return in[0] * 0.5; });
}
/// sqrt(x), with 1 / sqrt(x) for the gradient only.
KEEL_OP(demo_root, NoParams) {
  def.doc("sqrt(x)").in("x", kinds::floating).out("y").aux("inverse").saves(Out{1})
      .infer([](auto&, Specs in) { return SpecList{in[0], in[0]}; })
      .vjp([](auto&, const VjpArgs& a) -> Tensors { return {a.g[0] * a.out[1] * 0.5}; })
      .decompose([](auto&, Inputs in) -> Tensors { return {sqrt(in[0]), rsqrt(in[0])}; });
}
/// The sum of k * x_k, of any number of tensors.
KEEL_OP(demo_weighted, NoParams) {
  def.doc("sum of k * x[k]").variadic("x", kinds::floating).out("y").infer([](auto&, Specs in) { return in[0]; })
      .vjp([](auto&, const VjpArgs& a) {
        Tensors g(a.in_specs.size());
        for (int k = 0; k < a.in_specs.size(); ++k)
          if (a.needs[k]) g[k] = a.g[0] * double(k);
        return g;
      })
      .decompose([](auto&, Inputs in) {
        Tensor y = zeros_like(in[0]);
        for (int k = 1; k < in.size(); ++k) y = y + in[k] * double(k);
        return y;
      });
}
/// x += y, in x's own memory.
KEEL_OP(demo_accumulate, NoParams) {
  def.doc("x += y").in("x", kinds::floating).written().in("y", kinds::floating).out("x").alias(0).primitive().infer([](auto&, Specs in) {
    if (!(in[0].shape == in[1].shape)) raise(Error(ErrorCode::shape, "x and y differ").op("demo_accumulate"));
    return in[0];
  });
}
struct DemoNoiseParams {
  [[no_unique_address]] ByName by_name = ByName();
  int64_t offset = 0;
  static constexpr void fields(auto& p, auto&& f) { f("offset", p.offset, "where in the stream it begins"); }
};
/// x plus a number in [0, 1) that depends on the key and the offset alone.
KEEL_OP(demo_noise, DemoNoiseParams) {
  def.doc("x + noise")
      .in("x", kinds::floating)
      .in("key", set_of(u64))
      .alone()
      .out("y")
      .random()
      .primitive()
      .no_oracle("random")
      .infer([](auto&, Specs in) { return in[0]; })
      .vjp([](auto&, const VjpArgs& a) -> Tensors {
        return {a.g[0], Tensor()};
      });
}
/// The positive elements.
KEEL_OP(demo_positive, NoParams) {
  def.doc("elements above 0").in("x", kinds::floating).out("y").primitive().infer([](auto&, Specs in) {
    return Spec{in[0].dtype, Shape({Extent::unknown})};
  });
}

Tensor demo_halve(const Tensor& x) { return call(op_demo_halve, NoParams{}, x); }
Tensor demo_root(const Tensor& x) { return std::move(call_all(op_demo_root, NoParams{}, x)[0]); }
Tensor demo_weighted(const Tensors& x) { return std::move(call_list(op_demo_weighted, NoParams{}, x)[0]); }
Tensor demo_accumulate(Tensor& x, const Tensor& y) { return call(op_demo_accumulate, NoParams{}, x, y); }
Tensor demo_noise(const Tensor& x) {
  Generator& g = default_generator();
  const int64_t offset = g.reserve(x.size());
  return call(op_demo_noise, DemoNoiseParams{.offset = offset}, x, g.key());
}
Tensor demo_positive(const Tensor& x) { return call(op_demo_positive, NoParams{}, x); }

namespace {
std::atomic<int> halve_runs{0}, halve_slots{0}, root_inverses{0};
}
}  // namespace keel

// ---- the kernels ----

KEEL_CPU_KERNEL(demo_halve) {
  k.dtypes(set_of(DType::f32)).inputs(Layout::contiguous).stats().run([](const KernelArgs& a) -> KernelStatus {
    ++halve_runs;
    StatSlot::Part part;
    const auto *x = a.in[0].ptr<const float>();
    auto* y = a.out[0].ptr<float>();
    for (int64_t i = 0; i < a.out[0].size(); ++i) {
      y[i] = x[i] * 0.5f;
      uint32_t u;
      std::memcpy(&u, y + i, 4);
      u &= 0x7fffffff;
      part.max_bits = std::max<uint64_t>(part.max_bits, u), part.min_bits = std::min<uint64_t>(part.min_bits, u - 1), ++part.count;
    }
    for (StatSlot* s : a.stats) halve_slots += s != nullptr;
    if (a.stats[0]) a.stats[0]->merge(part);
    return {};
  });
}
KEEL_CPU_KERNEL(demo_root) {
  k.dtypes(set_of(DType::f32)).inputs(Layout::contiguous).run([](const KernelArgs& a) -> KernelStatus {
    for (int64_t i = 0; i < a.out[0].size(); ++i) a.out[0].ptr<float>()[i] = std::sqrt(a.in[0].ptr<const float>()[i]);
    if (!a.out[1].present()) return {};
    ++root_inverses;
    for (int64_t i = 0; i < a.out[0].size(); ++i) a.out[1].ptr<float>()[i] = 1 / std::sqrt(a.in[0].ptr<const float>()[i]);
    return {};
  });
}
KEEL_CPU_KERNEL(demo_accumulate) {
  k.dtypes(set_of(DType::f32)).inputs(Layout::contiguous).run([](const KernelArgs& a) -> KernelStatus {
    for (int64_t i = 0; i < a.out[0].size(); ++i)
      if (!(a.in[1].ptr<const float>()[i] < 100)) return KernelStatus::element("y must be below 100", i);
    for (int64_t i = 0; i < a.out[0].size(); ++i) a.out[0].ptr<float>()[i] += a.in[1].ptr<const float>()[i];
    return {};
  });
}
KEEL_CPU_KERNEL(demo_noise) {
  k.dtypes(set_of(DType::f32)).inputs(Layout::contiguous).run([](const KernelArgs& a) -> KernelStatus {
    const auto* key = a.in[1].ptr<const uint64_t>();
    for (int64_t i = 0; i < a.out[0].size(); ++i) {
      const uint64_t z = (key[0] * 31 + (key[1] + uint64_t(a.get<DemoNoiseParams>().offset)) * 4 + uint64_t(i)) * 0x9e3779b97f4a7c15;
      a.out[0].ptr<float>()[i] = a.in[0].ptr<const float>()[i] + float(z >> 40) * 0x1p-24f;
    }
    return {};
  });
}
KEEL_CPU_KERNEL(demo_positive) {
  k.dtypes(set_of(DType::f32)).inputs(Layout::contiguous)
      .count([](const KernelArgs& a, Shape* outs) -> KernelStatus {
        int64_t n = 0;
        for (int64_t i = 0; i < a.in[0].size(); ++i) n += a.in[0].ptr<const float>()[i] > 0;
        outs[0] = Shape({n});
        return {};
      })
      .run([](const KernelArgs& a) -> KernelStatus {
        float* y = a.out[0].ptr<float>();
        for (int64_t i = 0; i < a.in[0].size(); ++i)
          if (const float v = a.in[0].ptr<const float>()[i]; v > 0) *y++ = v;
        return {};
      });
}

namespace keel {
namespace {

class OpRow : public testing::Test {
 protected:
  void SetUp() override {
    static const bool once = [] {
      for (auto* f : {register_op_demo_halve, register_op_demo_root, register_op_demo_weighted, register_op_demo_accumulate,
                      register_op_demo_noise, register_op_demo_positive})
        f(registry());
      registry().validate();
      for (auto* f : {cpu::register_kernel_demo_halve, cpu::register_kernel_demo_root, cpu::register_kernel_demo_accumulate,
                      cpu::register_kernel_demo_noise, cpu::register_kernel_demo_positive})
        f(cpu_kernels());
      return true;
    }();
    (void)once;
  }
};
Tensor numbers(const Shape& s, DType t = f32) { return (sin(arange(s.numel(), {.dtype = f64})) * 3).reshape(s).astype(t); }
template <class F>
std::string error_of(F f, ErrorCode want) {
  try {
    f();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), want) << e.what();
    return e.what();
  }
  ADD_FAILURE() << "no error";
  return "";
}
int64_t fallbacks_of(const char* op) {
  for (const FallbackCount& f : fallback_report())
    if (std::string(f.op) == op) return f.calls;
  return 0;
}

TEST_F(OpRow, KernelRunsAndIsGivenASlotOnlyWhileAMonitorWatches) {
  const Tensor x = numbers({5});
  halve_runs = halve_slots = 0;
  const Tensor plain = demo_halve(x);
  EXPECT_EQ(halve_runs, 1);
  EXPECT_EQ(halve_slots, 0);  // nobody watches: not one pointer
  Monitor m;
  const Tensor watched = demo_halve(x);
  EXPECT_EQ(halve_runs, 2);
  EXPECT_EQ(halve_slots, 1);
  EXPECT_TRUE(array_equal(plain, watched));
  ASSERT_EQ(m.statistics().size(), 1u);
  EXPECT_EQ(m.statistics()[0].largest, plain.abs().max().item());
  EXPECT_EQ(kernels_of(op_demo_halve), std::vector<std::string>{"cpu.demo_halve"});
}

TEST_F(OpRow, FallbacksAreCountedByOp) {
  const Tensor x = ones({5}, {.dtype = f64}), own = ones({5});
  const int64_t all = fallback_calls(), before = fallbacks_of("demo_halve");
  demo_halve(own);  // the kernel's dtype
  EXPECT_EQ(fallback_calls(), all);
  std::vector<std::string> told;
  set_log_sink([](void* list, const LogRecord& r) {
    if (r.topic == "dispatch") static_cast<std::vector<std::string>*>(list)->emplace_back(r.text);
  }, &told);
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(allclose(demo_halve(x), x * 0.5));
  set_log_sink(nullptr);
  set_log_level(LogLevel::off);
  if (before == 0) {
    EXPECT_EQ(told, std::vector<std::string>{"demo_halve: cpu.demo_halve does not take f64; its decomposition runs instead"});
  }  // once
  EXPECT_EQ(fallbacks_of("demo_halve"), before + 3);
  EXPECT_EQ(fallback_calls(), all + 3);
}

TEST_F(OpRow, KernelUnderAutogradTraceAndStrides) {
  const Tensor wide = numbers({4, 6});
  EXPECT_TRUE(array_equal(demo_halve(wide.transpose(0, 1)), wide.transpose(0, 1) * 0.5));  // the kernel is given dense copies
  Tensor x = numbers({4});
  x.requires_grad_();
  sum(demo_halve(x)).backward();
  EXPECT_TRUE(array_equal(x.grad(), full({4}, 0.5)));
  Graph g = trace([](const Tensors& in) { return demo_halve(in[0]); }, {numbers({4})});
  EXPECT_EQ(g.text(), "graph(%0: f32[4])\n  %1: f32[4] = demo_halve(%0)\n  return %1\n");
  EXPECT_TRUE(array_equal(g.run({full({4}, 3.0)})[0], full({4}, 1.5)));
}

TEST_F(OpRow, AuxOutputsExistForGradientsOnly) {
  Tensor x = numbers({6}).abs() + 0.5;
  root_inverses = 0;
  const Tensors plain = call_all(op_demo_root, NoParams{}, x);
  EXPECT_FALSE(plain[1].defined());
  EXPECT_EQ(root_inverses, 0);
  x.requires_grad_();
  {
    NoGrad off;
    EXPECT_FALSE(call_all(op_demo_root, NoParams{}, x)[1].defined());
  }
  const Tensor y = demo_root(x);
  EXPECT_EQ(root_inverses, 1);
  sum(y).backward();
  EXPECT_EQ(root_inverses, 1);
  EXPECT_TRUE(allclose(x.grad(), rsqrt(x.detach()) * 0.5));
  Tensor d = (numbers({4}, f64).abs() + 0.5).detach();  // no kernel: the decomposition gives both
  gradcheck([](const Tensors& in) { return demo_root(in[0]); }, {d.requires_grad_()});
}

TEST_F(OpRow, VariadicInputsOfAnyNumber) {
  Tensors x;
  Tensor want = zeros({3});
  for (int k = 0; k < 40; ++k) {
    x.push_back(numbers({3}) + double(k));
    want = want + x.back() * double(k);
    if (k % 2) x.back().requires_grad_();
  }
  const Tensor y = demo_weighted(x);
  EXPECT_TRUE(allclose(y, want));
  sum(y).backward();
  for (int k = 0; k < 40; ++k) {
    if (k % 2) {
      EXPECT_TRUE(array_equal(x[k].grad(), full({3}, double(k)))) << k;
    } else {
      EXPECT_FALSE(x[k].grad().defined()) << k;
    }
  }
  EXPECT_EQ(demo_weighted({numbers({3}), numbers({3}, f64)}).dtype(), f64);  // promoted together
  error_of([] { demo_weighted({ones({3}), Tensor()}); }, ErrorCode::value);
  Graph g = trace([](const Tensors& in) { return demo_weighted(in); }, {ones({2}), ones({2}), ones({2})});
  EXPECT_TRUE(array_equal(g.run({ones({2}), ones({2}) * 5, ones({2})})[0], full({2}, 7.0)));
}

TEST_F(OpRow, WritesMoveVersionsAndAreSeenByAutogradAndTrace) {
  Tensor x = ones({4});
  const Tensor same = demo_accumulate(x, full({4}, 2.0));
  EXPECT_TRUE(same.is(x));
  EXPECT_TRUE(array_equal(x, full({4}, 3.0)));
  EXPECT_EQ(x.version(), 1u);
  error_of([&] { demo_accumulate(x, ones({5})); }, ErrorCode::shape);
  error_of([&] { demo_accumulate(x, full({4}, 200.0)); }, ErrorCode::value);
  EXPECT_EQ(x.version(), 1u);  // failed calls leave no mark

  Tensor w = numbers({4});
  w.requires_grad_();
  Tensor h = ones({4}) * 2, y = sum(w * h);  // saves h
  demo_accumulate(h, ones({4}));
  const std::string e = error_of([&] { y.backward(); }, ErrorCode::autograd);
  EXPECT_NE(e.find("mul"), std::string::npos) << e;
  EXPECT_NE(e.find("demo_accumulate"), std::string::npos) << e;
  error_of([&] { demo_accumulate(w, ones({4})); }, ErrorCode::autograd);
  EXPECT_EQ(w.version(), 0u);
  {
    NoGrad off;
    demo_accumulate(w, ones({4}));
  }
  EXPECT_EQ(w.version(), 1u);

  Tensor state = zeros({2});
  Graph g = trace([&](const Tensors& in) { return demo_accumulate(state, in[0]) * 1; }, {ones({2})});
  EXPECT_TRUE(g.conflicts(0, 1));
  EXPECT_TRUE(array_equal(g.run({full({2}, 4.0)})[0], full({2}, 5.0)));
  EXPECT_TRUE(array_equal(state, full({2}, 5.0)));
  EXPECT_EQ(state.version(), 2u);
}

TEST_F(OpRow, KeysRepeatInRecomputesAndAdvanceInReplays) {
  const Tensor x = zeros({8});
  manual_seed(3);
  const Tensor a = demo_noise(x), b = demo_noise(x);
  EXPECT_FALSE(array_equal(a, b));
  manual_seed(3);
  EXPECT_TRUE(array_equal(demo_noise(x), a));

  Tensor w = ones({8});
  w.requires_grad_();
  manual_seed(5);
  Tensors drawn;
  const Tensor y = checkpoint([&](const Tensor& v) {
    drawn.push_back(demo_noise(v).detach());
    return demo_noise(v) * v;
  }, w);
  sum(y).backward();
  ASSERT_EQ(drawn.size(), 2);
  EXPECT_TRUE(array_equal(drawn[0], drawn[1]));

  std::vector<Tensor> eager, replayed;
  manual_seed(9);
  for (int i = 0; i < 3; ++i) eager.push_back(demo_noise(x));
  manual_seed(9);
  Tensor first;
  Graph g = trace([&](const Tensors& in) { return first = demo_noise(in[0]); }, {x});
  replayed = {first, g.run({x})[0], g.run({x})[0]};
  for (size_t i = 0; i < 3; ++i) EXPECT_TRUE(array_equal(eager[i], replayed[i])) << i;
}

TEST_F(OpRow, ShapesThatTheDataDecides) {
  EXPECT_TRUE(array_equal(demo_positive(tensor({1.0, -2.0, 3.0})), tensor({1.0, 3.0})));
  EXPECT_EQ(demo_positive(full({4}, -1.0)).shape(), Shape({0}));
  EXPECT_EQ(demo_positive(zeros({0})).shape(), Shape({0}));
  Monitor m;
  demo_positive(tensor({1.0, -2.0, 3.0}));
  EXPECT_EQ(m.statistics()[0].elements, 2);
  const std::string e =
      error_of([] { trace([](const Tensors& in) { return demo_positive(in[0]); }, {ones({3})}); }, ErrorCode::unsupported);
  EXPECT_NE(e.find("depends on the data"), std::string::npos) << e;
  EXPECT_NE(e.find("demo_positive"), std::string::npos) << e;
}

}  // namespace
}  // namespace keel
