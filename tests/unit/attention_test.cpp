// Attention against its formula in f64 over shapes around every tile border, in all types and layouts; bits that do not move with threads;
// memory that does not grow with t s.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "backend/cpu/isa.h"
#include "backend/kernel.h"
#include "keel/keel.h"
#include "keel/memory.h"

namespace keel {
namespace {

struct Problem {
  int64_t b, h, groups, t, s, d, dv;
  bool causal;
  int mask;  // 0 none, 1 boolean by query and key, 2 added by key
};
std::string said(const Problem& p) {
  std::string text;
  for (int64_t x : {p.b, p.h, p.groups, p.t, p.s, p.d, p.dv, int64_t(p.causal), int64_t(p.mask)}) text += std::to_string(x) + " ";
  return text;
}
Tensor mask_of(const Problem& p) {
  if (p.mask == 1) return greater(randn({p.b, 1, p.t, p.s}), -0.5);
  if (p.mask == 2) return randn({1, p.h, 1, p.s});
  return Tensor();
}
struct Results {
  Tensor y;
  Tensors grads;
};
Results run(const Problem& p, Tensor q, Tensor k, Tensor v, const Tensor& mask, const Tensor& g, bool by_formula) {
  for (Tensor* x : {&q, &k, &v}) *x = x->detach(), x->requires_grad_();
  Tensor y;
  if (by_formula) {
    const auto many = [&](const Tensor& x) {
      const int64_t w = x.shape()[3];
      return reshape(broadcast_to(reshape(x, {p.b, p.groups, 1, p.s, w}), {p.b, p.groups, p.h / p.groups, p.s, w}), {p.b, p.h, p.s, w});
    };
    Tensor scores = mul(matmul(q, transpose(many(k), -2, -1)), 1 / std::sqrt(double(p.d)));
    if (p.mask == 1) scores = where(mask, scores, -INFINITY);
    if (p.mask == 2) scores = add(scores, mask.astype(f64));
    if (p.causal) scores = where(less_equal(arange(p.s), add(reshape(arange(p.t), {p.t, 1}), p.s - p.t)), scores, -INFINITY);
    Tensor e = exp(sub(scores, where(isfinite(scores), scores, -100.0).detach().max({.axis = -1, .keepdim = true})));
    const Tensor total = sum(e, {.axis = -1, .keepdim = true});
    y = matmul(div(e, where(equal(total, 0), 1, total)), many(v));
  } else {
    y = attention(q, k, v, mask, {.causal = p.causal});
  }
  Results r{y.detach(), {}};
  r.grads = grad(Tensors{y}, {q, k, v}, {}, {g});
  return r;
}
double worst(const Tensor& a, const Tensor& b) {
  return a.shape().numel() ? max(abs(sub(a.astype(f64), b.astype(f64)))).item<double>() : 0;
}
bool same_bits(const Tensor& a, const Tensor& b) {
  const Tensor x = a.contiguous(), y = b.contiguous();
  return x.nbytes() == y.nbytes() && (x.nbytes() == 0 || std::memcmp(x.raw_data(), y.raw_data(), x.nbytes()) == 0);
}

const Problem kProblems[] = {
    {1, 1, 1, 64, 64, 32, 32, true, 0},  {2, 4, 2, 65, 65, 33, 20, true, 0},    {1, 2, 1, 130, 200, 16, 16, true, 1},
    {1, 3, 3, 100, 30, 8, 8, true, 0},   {1, 8, 2, 1, 300, 64, 64, false, 0},   {2, 6, 2, 5, 70, 24, 40, true, 2},
    {1, 2, 2, 63, 129, 5, 7, false, 2},  {1, 1, 1, 200, 257, 48, 17, false, 1}, {1, 4, 1, 31, 64, 128, 128, true, 0},
    {1, 2, 2, 128, 128, 1, 1, false, 0}, {1, 5, 1, 40, 66, 12, 12, true, 1},
};

class Attention : public ::testing::Test {
 protected:
  void TearDown() override { cpu::set_isa_for_tests(cpu::Isa::amx), set_num_threads(threads_); }
  const int64_t threads_ = num_threads();
};

TEST_F(Attention, FollowsItsFormulaAtEveryLevelAndType) {
  manual_seed(1);
  for (const Problem& p : kProblems) {
    // q, k and v as slices of one [b, t, h, d] projection would lie; g as a transposed view.
    const auto heads = [&](int64_t n, int64_t rows, int64_t width) {
      return transpose(randn({p.b, rows, n, width}, {.dtype = f64}), 1, 2);
    };
    const Tensor q = heads(p.h, p.t, p.d), k = heads(p.groups, p.s, p.d), v = heads(p.groups, p.s, p.dv), g = heads(p.h, p.t, p.dv),
                 mask = mask_of(p);
    for (cpu::Isa isa : {cpu::Isa::scalar, cpu::Isa::avx2, cpu::Isa::avx512}) {
      cpu::set_isa_for_tests(isa);
      for (DType t : {f64, f32, bf16, f16}) {
        const Tensor tq = q.astype(t), tk = k.astype(t), tv = v.astype(t), tg = g.astype(t);
        const Results want = run(p, tq.astype(f64), tk.astype(f64), tv.astype(f64), mask, tg.astype(f64), true);
        const Results got = run(p, tq, tk, tv, mask, tg, false);
        const double eps = t == f64    ? 1e-13
                           : t == f32  ? 2e-6
                           : t == bf16 ? 1.0 / 64
                                       : 1.0 / 512,
                     rows = std::sqrt(double(p.t * p.h / p.groups));
        EXPECT_LE(worst(got.y, want.y), 4 * eps) << said(p) << cpu::isa_name(isa) << " " << name_of(t);
        for (size_t i = 0; i < 3; ++i) {
          ASSERT_EQ(got.grads[i].shape(), want.grads[i].shape());
          EXPECT_LE(worst(got.grads[i], want.grads[i]), 8 * eps * std::max(1.0, i ? rows / 2 : 1.0))
              << "gradient " << i << ": " << said(p) << cpu::isa_name(isa) << " " << name_of(t);
        }
      }
    }
  }
}

TEST_F(Attention, BitsDoNotMoveWithThreads) {
  manual_seed(2);
  for (const Problem& base : kProblems) {
    Problem p = base;
    p.t *= 3, p.s *= 3;
    const Tensor q = randn({p.b, p.h, p.t, p.d}), k = randn({p.b, p.groups, p.s, p.d}), v = randn({p.b, p.groups, p.s, p.dv}),
                 g = randn({p.b, p.h, p.t, p.dv});
    const Tensor mask = mask_of(p);
    set_num_threads(1);
    const Results want = run(p, q, k, v, mask, g, false);
    for (int64_t n : {2, 3, 7}) {
      set_num_threads(n);
      const Results got = run(p, q, k, v, mask, g, false);
      EXPECT_TRUE(same_bits(got.y, want.y)) << said(p) << n;
      for (size_t i = 0; i < 3; ++i) EXPECT_TRUE(same_bits(got.grads[i], want.grads[i])) << "gradient " << i << ": " << said(p) << n;
    }
  }
}

TEST_F(Attention, ARowDoesNotMoveWithWhatItDoesNotSee) {
  manual_seed(3);
  const Tensor q = randn({1, 2, 150, 24}), k = randn({1, 1, 150, 24}), v = randn({1, 1, 150, 24});
  const Tensor whole = attention(q, k, v, {.causal = true});
  for (int64_t n : {1, 14, 64, 65, 149}) {
    const auto first = [n](const Tensor& x, int64_t from = 0) { return x[{all, all, slice(from, n)}]; };
    EXPECT_TRUE(same_bits(attention(first(q), first(k), first(v), {.causal = true}), first(whole))) << n;
    EXPECT_TRUE(same_bits(attention(first(q, n - 1), first(k), first(v), {.causal = true}), first(whole, n - 1))) << n;  // decoding
  }
}

TEST_F(Attention, MemoryDoesNotGrowWithScores) {
  const int64_t t = 4096, d = 16, threads = num_threads();
  set_num_threads(2);  // each has room of its own
  Tensor q = randn({1, 1, t, d}), k = randn({1, 1, t, d}), v = randn({1, 1, t, d});
  for (Tensor* x : {&q, &k, &v}) x->requires_grad_();
  const int64_t fallbacks = fallback_calls(), before = memory_stats().bytes_in_use;
  reset_peak_memory();
  sum(attention(q, k, v, {.causal = true})).backward();
  const int64_t used = memory_stats().peak_in_use - before, scores = t * t * int64_t(sizeof(float));
  set_num_threads(threads);
  EXPECT_LT(used, scores / 4) << "bytes";
  EXPECT_EQ(fallback_calls(), fallbacks);
}

TEST_F(Attention, MonitorSeesWhatTheKernelWrote) {
  manual_seed(4);
  Tensor q = randn({1, 2, 70, 8}), k = randn({1, 1, 70, 8}), v = randn({1, 1, 70, 8});
  for (Tensor* x : {&q, &k, &v}) x->requires_grad_();
  Monitor monitor;
  const Tensor y = attention(q, k, v, {.causal = true});
  sum(y).backward();
  int seen = 0;
  for (const auto& s : monitor.statistics()) {
    const Tensor* t = s.op == "attention" && s.output == "y" ? &y : nullptr;
    Tensor grad;
    if (s.op == "attention_backward") grad = s.output == "dq" ? q.grad() : s.output == "dk" ? k.grad() : v.grad(), t = &grad;
    if (!t) continue;
    ++seen;
    EXPECT_EQ(s.elements, t->shape().numel()) << s.op << " " << s.output;
    EXPECT_EQ(s.largest, max(abs(*t)).item<double>()) << s.op << " " << s.output;
  }
  EXPECT_EQ(seen, 4);
}

}  // namespace
}  // namespace keel
