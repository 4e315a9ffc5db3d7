// The matrix product against a naive f64 loop, over shapes around every tile border, all strides and transposes, batches, epilogues and ISA
// levels; and its promise that an element's bits depend on k, dtype and ISA alone.
#include "backend/cpu/gemm/gemm.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "backend/cpu/isa.h"
#include "keel/numerics/types.h"
#include "keel/parallel.h"
#include "elements.h"

namespace keel::cpu {
namespace {

struct Rng {
  uint64_t s;
  double next() {
    s = s * 6364136223846793005u + 1442695040888963407u;
    return double(int64_t(s >> 11)) / double(1ll << 52) - 1.0;
  }
};

double epsilon(Elem e) { return e == Elem::f32 ? 0x1p-23 : e == Elem::f64 ? 0x1p-52 : e == Elem::bf16 ? 0x1p-7 : 0x1p-10; }

// A buffer with red zones; `check` says whether they are untouched. The end is exact, so that a sanitizer sees a read past it.
struct Buffer {
  Elem e;
  int64_t n;
  std::unique_ptr<char[]> data;
  static constexpr int64_t kZone = 64;
  Buffer(Elem type, int64_t count, Rng& rng) : e(type), n(count), data(new char[size_t(count * elem_bytes(type) + 2 * kZone)]) {
    std::memset(data.get(), 0x5a, size_t(n * elem_bytes(e) + 2 * kZone));
    for (int64_t i = 0; i < n; ++i) put(e, p(), i, rng.next());
  }
  void* p() { return data.get() + kZone; }
  bool intact() const {
    for (int64_t i = 0; i < kZone; ++i)
      if (data[size_t(i)] != 0x5a || data[size_t(kZone + n * elem_bytes(e) + i)] != 0x5a) return false;
    return true;
  }
};

void run(const GemmArgs& g, bool short_of_memory = false) {
  const int64_t threads = num_threads();
  if (short_of_memory) set_num_threads(1);
  const int64_t bytes = gemm_workspace_bytes(g);
  set_num_threads(threads);
  std::unique_ptr<char[]> w(new char[size_t(bytes)]);
  gemm(g, w.get(), bytes);
}

struct Case {
  int64_t m, n, k;
  Elem in = Elem::f32, out = Elem::f32;
  int a_layout = 0, b_layout = 0;  // 0 row-major, 1 transposed, 2 strided both ways
  double alpha = 1, beta = 0;
  bool bias = false, pre = false, packed = false;
  Act act = Act::none;
};

void layout(int which, int64_t rows, int64_t cols, int64_t& rs, int64_t& cs, int64_t& count) {
  if (which == 0)
    rs = cols + 3, cs = 1;
  else if (which == 1)
    rs = 1, cs = rows + 2;
  else
    rs = 2 * cols + 1, cs = 2;
  count = rows && cols ? (rows - 1) * rs + (cols - 1) * cs + 1 : 0;
}

double activate(double v, Act act) {
  switch (act) {
    case Act::none: return v;
    case Act::relu: return v < 0 ? 0 : v;
    case Act::gelu_tanh: return 0.5 * v * (1 + std::tanh(0.7978845608028654 * (v + 0.044715 * v * v * v)));
    default: return 0.5 * v * std::erfc(-v * M_SQRT1_2);
  }
}

void check(const Case& t) {
  Rng rng{uint64_t(t.m * 1000003 + t.n * 1009 + t.k)};
  GemmArgs g;
  g.in = t.in, g.out = t.out, g.m = t.m, g.n = t.n, g.k = t.k, g.alpha = t.alpha, g.beta = t.beta;
  int64_t na, nb;
  layout(t.a_layout, t.m, t.k, g.a_rs, g.a_cs, na);
  layout(t.b_layout, t.k, t.n, g.b_rs, g.b_cs, nb);
  g.ldc = t.n + 5;
  const int64_t nc = (t.m - 1) * g.ldc + t.n;
  Buffer a(t.in, na, rng), b(t.in, nb, rng), c(t.out, nc, rng), bias(t.out, t.n, rng), pre(t.out, t.m * t.n, rng);
  std::vector<double> old(static_cast<size_t>(nc));
  for (int64_t i = 0; i < nc; ++i) old[size_t(i)] = get(t.out, c.p(), i);
  if (t.beta == 0) put(t.out, c.p(), 0, std::numeric_limits<double>::quiet_NaN());  // must not be read
  g.a = a.p(), g.b = b.p(), g.c = c.p();
  if (t.bias) g.epilogue.bias = bias.p();
  if (t.pre) g.epilogue.pre = pre.p(), g.epilogue.ldpre = t.n;
  g.epilogue.act = t.act;
  std::vector<char> packed;
  if (t.packed) {
    packed.resize(size_t(gemm_packed_b_bytes(t.in, t.k, t.n)));
    gemm_pack_b(t.in, t.k, t.n, b.p(), g.b_rs, g.b_cs, packed.data());
    g.packed_b = packed.data(), g.b = nullptr;
  }
  run(g);
  const double unit = t.in == Elem::f64 ? 0x1p-53 : 0x1p-24;
  const std::string name = "m " + std::to_string(t.m) + " n " + std::to_string(t.n) + " k " + std::to_string(t.k) + " in " +
                           std::to_string(int(t.in)) + " out " + std::to_string(int(t.out)) + " layouts " + std::to_string(t.a_layout) +
                           std::to_string(t.b_layout) + " alpha " + std::to_string(t.alpha) + " beta " + std::to_string(t.beta) +
                           (t.bias ? " bias" : "") + (t.packed ? " packed" : "") + " act " + std::to_string(int(t.act)) + " isa " +
                           isa_name(active_isa());
  ASSERT_TRUE(a.intact() && b.intact() && c.intact() && bias.intact() && pre.intact()) << name;
  std::vector<double> da(size_t(t.m * t.k)), db(size_t(t.n * t.k));
  for (int64_t p = 0; p < t.k; ++p) {
    for (int64_t i = 0; i < t.m; ++i) da[size_t(i * t.k + p)] = get(t.in, a.p(), i * g.a_rs + p * g.a_cs);
    for (int64_t j = 0; j < t.n; ++j) db[size_t(j * t.k + p)] = get(t.in, b.p(), p * g.b_rs + j * g.b_cs);
  }
  for (int64_t i = 0; i < t.m; ++i) {
    for (int64_t j = 0; j < t.n; ++j) {
      double sum = 0, size = 0;
      const double *x = da.data() + i * t.k, *y = db.data() + j * t.k;
      for (int64_t p = 0; p < t.k; ++p) sum += x[p] * y[p], size += std::abs(x[p] * y[p]);
      const double before = old[size_t(i * g.ldc + j)], add = t.bias ? get(t.out, bias.p(), j) : 0;
      const double want_pre = t.alpha * sum + t.beta * before + add, want = activate(want_pre, t.act);
      // Chains of at most 512 roundings and one more a block, then a few for the epilogue; gelu's slope is below 1.13. f16 inputs may be
      // products below f32's normal range: none here.
      const double bound =
          (double(t.k) + 8) * unit * (std::abs(t.alpha) * size + std::abs(t.beta * before) + std::abs(add)) * 1.2 +
          (t.out == t.in && t.out != Elem::bf16 && t.out != Elem::f16 ? 4 * epsilon(t.out) * std::abs(want)
                                                                      : 2.2 * epsilon(t.out) * (std::abs(want) + std::abs(want_pre))) +
          1e-37;
      ASSERT_NEAR(get(t.out, c.p(), i * g.ldc + j), want, bound) << name << " at " << i << ", " << j;
      if (t.pre) { ASSERT_NEAR(get(t.out, pre.p(), i * t.n + j), want_pre, bound) << name << " pre at " << i << ", " << j; }
    }
    for (int64_t j = t.n; j < g.ldc && i + 1 < t.m; ++j)
      ASSERT_EQ(get(t.out, c.p(), i * g.ldc + j), old[size_t(i * g.ldc + j)]) << name << " wrote between rows";
  }
}

/// An instruction set, with or without AVX-512 BF16 dot products.
struct Level {
  Isa isa;
  bool dot = false;
};

class Gemm : public ::testing::TestWithParam<Level> {
 protected:
  void SetUp() override {
    before_ = active_isa();
    if (set_isa_for_tests(GetParam().isa) != GetParam().isa || set_bf16_dot_for_tests(GetParam().dot) != GetParam().dot) {
      set_isa_for_tests(before_);
      GTEST_SKIP() << "not on this machine";
    }
  }
  void TearDown() override { set_isa_for_tests(before_); }
  Isa before_;
};

TEST_P(Gemm, ShapesAndLayouts) {
  const int64_t sizes[] = {1, 2, 3, 4, 5, 8, 13, 14, 15, 16, 17, 31, 32, 33, 48, 63, 100};
  int count = 0;
  for (int64_t m : sizes)
    for (int64_t n : sizes)
      for (int64_t k : {int64_t(0), int64_t(1), int64_t(7), int64_t(16), int64_t(37), int64_t(64)}) {
        Case t{m, n, k};
        const int pick = count++;
        t.a_layout = pick % 3, t.b_layout = pick / 3 % 3;
        t.in = t.out = pick % 2 ? Elem::f32 : Elem::f64;
        t.alpha = pick % 5 == 0 ? 0.5 : pick % 7 == 0 ? -1.25 : 1, t.beta = pick % 4 == 0 ? 1 : pick % 6 == 1 ? -0.75 : 0;
        t.bias = pick % 3 == 1, t.pre = pick % 5 == 2, t.packed = pick % 7 == 3;
        t.act = pick % 4 == 1 ? Act::relu : Act::none;
        check(t);
        if (HasFatalFailure()) return;
      }
}

TEST_P(Gemm, LongerThanABlock) {
  for (Elem e : {Elem::f32, Elem::f64})
    for (int64_t k : {511, 512, 513, 700, 1100})
      for (int64_t m : {1, 3, 20})
        for (int layouts = 0; layouts < 9; ++layouts)
          for (double beta : {0.0, 0.5}) {
            Case t{m, 41, k, e, e};
            t.a_layout = layouts % 3, t.b_layout = layouts / 3, t.beta = beta, t.alpha = 0.7, t.bias = layouts % 2, t.packed = layouts == 4;
            check(t);
            if (HasFatalFailure()) return;
          }
}

TEST_P(Gemm, ColumnsBeyondABlock) {
  for (Elem e : {Elem::f32, Elem::f64})
    for (int layouts = 0; layouts < 9; ++layouts) {
      Case t{16, 1200, 530, e, e};
      t.a_layout = layouts % 3, t.b_layout = layouts / 3, t.packed = layouts == 1 || layouts == 3, t.bias = true, t.act = Act::relu;
      check(t);
      if (HasFatalFailure()) return;
    }
}

TEST_P(Gemm, HalfTypes) {
  int pick = 0;
  for (Elem in : {Elem::bf16, Elem::f16})
    for (Elem out : {Elem::f32, in})
      for (int64_t m : {1, 2, 5, 14, 17, 33})
        for (int64_t n : {1, 10, 16, 32, 33, 70})
          for (int64_t k : {1, 2, 8, 33, 64, 700}) {
            Case t{m, n, k, in, out};
            ++pick;
            t.a_layout = pick % 3, t.b_layout = pick / 3 % 3, t.alpha = pick % 2 ? 1 : 0.5, t.beta = pick % 4 ? 0 : 0.5,
            t.bias = pick % 3 == 0, t.packed = pick % 5 == 0, t.pre = pick % 7 == 0;
            t.act = pick % 2 ? Act::relu : Act::none;
            check(t);
            if (HasFatalFailure()) return;
          }
  for (Elem in : {Elem::bf16, Elem::f16}) {
    check({460, 270, 520, in, in});  // more rows and columns than one block of held sums
  }
}

// Every remainder of rows (14, 16, 32), columns (16, 32) and k (pairs, 32, blocks of 512). A sum of k exact products has at most k
// roundings on any path.
TEST_P(Gemm, Bf16Remainders) {
  int pick = 0;
  for (int64_t m : {1, 13, 14, 15, 16, 17, 28, 29, 31, 32, 33, 63, 64, 65})
    for (int64_t n : {1, 15, 16, 17, 31, 32, 33, 47, 48, 49, 64, 65})
      for (int64_t k : {0, 1, 2, 3, 31, 32, 33, 63, 65, 512, 513, 1100}) {
        if (k > 100 && (m + n) % 3 != 0) continue;
        Case t{m, n, k, Elem::bf16, ++pick % 2 ? Elem::bf16 : Elem::f32};
        t.a_layout = pick % 3, t.b_layout = pick / 3 % 3, t.alpha = pick % 5 ? 1 : -0.5, t.beta = pick % 4 ? 0 : 0.75;
        t.bias = pick % 3 == 1, t.packed = pick % 7 == 2, t.pre = pick % 5 == 3, t.act = pick % 4 == 1 ? Act::relu : Act::none;
        check(t);
        if (HasFatalFailure()) return;
      }
}

TEST_P(Gemm, Bf16BeyondABlock) {
  for (int layouts = 0; layouts < 4; ++layouts)
    for (int threads : {1, 3}) {
      set_num_threads(threads);
      Case t{545, 527, 1061, Elem::bf16, threads == 1 ? Elem::f32 : Elem::bf16};
      t.a_layout = layouts % 2, t.b_layout = layouts / 2, t.bias = true, t.beta = 0.5, t.act = Act::relu, t.packed = layouts == 2;
      if (layouts == 1 || layouts == 2) t.m = 37;
      check(t);
      if (HasFatalFailure()) break;
    }
  set_num_threads(2);
}

TEST_P(Gemm, Bf16Batches) {
  Rng rng{17};
  const int64_t b0 = 3, b1 = 2, m = 19, n = 37, k = 45;
  for (int which = 0; which < 3; ++which)
    for (int threads : {1, 3}) {
      set_num_threads(threads);
      Buffer a(Elem::bf16, b0 * b1 * m * k, rng), b(Elem::bf16, b0 * b1 * k * n, rng), c(Elem::f32, b0 * b1 * m * n, rng);
      GemmArgs g;
      g.in = Elem::bf16, g.m = m, g.n = n, g.k = k, g.a = a.p(), g.a_rs = k, g.b = b.p(), g.b_rs = 1, g.b_cs = k, g.c = c.p(), g.ldc = n;
      g.batch_rank = 2, g.batch[0] = b0, g.batch[1] = b1, g.a_bs[0] = b1 * m * k, g.a_bs[1] = m * k, g.c_bs[0] = b1 * m * n,
      g.c_bs[1] = m * n;
      if (which != 1) g.b_bs[0] = b1 * k * n, g.b_bs[1] = k * n;
      if (which == 2) g.a_bs[0] = 0, g.b_bs[1] = 0;
      run(g);
      ASSERT_TRUE(c.intact());
      for (int64_t x = 0; x < b0; ++x)
        for (int64_t y = 0; y < b1; ++y)
          for (int64_t i = 0; i < m; ++i)
            for (int64_t j = 0; j < n; ++j) {
              double sum = 0, size = 0;
              for (int64_t p = 0; p < k; ++p) {
                const double product = get(Elem::bf16, a.p(), x * g.a_bs[0] + y * g.a_bs[1] + i * k + p) *
                                       get(Elem::bf16, b.p(), x * g.b_bs[0] + y * g.b_bs[1] + j * k + p);
                sum += product, size += std::abs(product);
              }
              ASSERT_NEAR(get(Elem::f32, c.p(), x * g.c_bs[0] + y * g.c_bs[1] + i * n + j), sum, double(k) * 0x1p-24 * size)
                  << which << " at " << x << y << i << j;
            }
    }
  set_num_threads(2);
}

// What the instructions for bf16 do with numbers below f32's and bf16's common normal range, beside one normal product: they are zeros
// there, and count elsewhere.
TEST_P(Gemm, Bf16SubnormalNumbers) {
  const bool flushes = GetParam().dot || GetParam().isa == Isa::amx;
  const int64_t k = 40;
  for (int64_t m : {1, 20}) {
    std::vector<bfloat16> a(size_t(m * k), bfloat16(0.f)), b(size_t(k * 3), bfloat16(0.f));
    std::vector<float> c(size_t(m * 3), 7.f);
    for (int64_t i = 0; i < m; ++i) a[size_t(i * k)] = a[size_t(i * k + 33)] = a[size_t(i * k + 39)] = bfloat16(1.f);
    b[0] = bfloat16(0x1p-130f);                                // a subnormal input
    b[1] = bfloat16(0x1p-100f), b[33 * 3 + 1] = bfloat16(0x1p-128f);  // one that would round away anyway
    b[2] = bfloat16(0x1.8p-126f), b[39 * 3 + 2] = bfloat16(-0x1p-126f);  // a subnormal sum of normal products
    GemmArgs g;
    g.in = Elem::bf16, g.m = m, g.n = 3, g.k = k, g.a = a.data(), g.a_rs = k, g.b = b.data(), g.b_rs = 3, g.c = c.data(), g.ldc = 3;
    run(g);
    for (int64_t i = 0; i < m; ++i) {
      EXPECT_EQ(c[size_t(3 * i)], flushes ? 0.f : 0x1p-130f) << i;
      EXPECT_EQ(c[size_t(3 * i + 1)], 0x1p-100f) << i;
      EXPECT_EQ(c[size_t(3 * i + 2)], flushes ? 0.f : 0x1p-127f) << i;
    }
  }
}

TEST_P(Gemm, NanAndInfinityPassAndZeroTimesInfinityIsNan) {
  const float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  for (int64_t m : {1, 9}) {
    std::vector<float> a(size_t(m * 40), 0.f), b(40 * 20, 1.f), c(size_t(m * 20), 5.f), bias(20, 0.f);
    b[3 * 20 + 2] = inf, b[39 * 20 + 4] = nan;
    GemmArgs g;
    g.m = m, g.n = 20, g.k = 40, g.a = a.data(), g.a_rs = 40, g.b = b.data(), g.b_rs = 20, g.c = c.data(), g.ldc = 20,
    g.epilogue.act = Act::relu, g.epilogue.bias = bias.data();
    run(g);
    for (int64_t i = 0; i < m; ++i)
      for (int64_t j = 0; j < 20; ++j) EXPECT_EQ(std::isnan(c[size_t(i * 20 + j)]), j == 2 || j == 4) << i << " " << j;
    std::vector<bfloat16> a16(a.size()), b16(b.size());
    for (size_t i = 0; i < a.size(); ++i) a16[i] = bfloat16(a[i]);
    for (size_t i = 0; i < b.size(); ++i) b16[i] = bfloat16(b[i]);
    g.in = Elem::bf16, g.a = a16.data(), g.b = b16.data();
    run(g);
    for (int64_t i = 0; i < m; ++i)
      for (int64_t j = 0; j < 20; ++j) EXPECT_EQ(std::isnan(c[size_t(i * 20 + j)]), j == 2 || j == 4) << "bf16 " << i << " " << j;
  }
}

TEST_P(Gemm, BitsDependOnNothingButK) {
  Rng rng{3};
  const int64_t m = 70, n = 150, k = 1111;
  for (Elem e : {Elem::f32, Elem::f64, Elem::bf16, Elem::f16}) {
    const Elem out = e == Elem::f64 ? Elem::f64 : Elem::f32;
    const auto bytes = size_t(elem_bytes(out));
    Buffer a(e, m * k, rng), b(e, k * n, rng), bt(e, n * k, rng), whole(out, m * n, rng), c(out, m * n, rng);
    for (int64_t p = 0; p < k; ++p)
      for (int64_t j = 0; j < n; ++j) put(e, bt.p(), j * k + p, get(e, b.p(), p * n + j));
    GemmArgs g;
    g.in = e, g.out = out, g.m = m, g.n = n, g.k = k, g.a = a.p(), g.a_rs = k, g.b = b.p(), g.b_rs = n, g.ldc = n, g.c = whole.p();
    set_num_threads(1);
    run(g);
    std::vector<char> packed(size_t(gemm_packed_b_bytes(e, k, n)));
    gemm_pack_b(e, k, n, b.p(), n, 1, packed.data());
    for (int threads : {1, 2, 3, 7})
      for (int64_t rows : {1, 2, 3, 4, 5, 13, 70})
        for (int64_t cols : {1, 17, 150})
          for (int form = 0; form < 4; ++form) {
            set_num_threads(threads);
            std::memset(c.p(), 0, size_t(m * n) * bytes);
            GemmArgs h = g;
            h.m = rows, h.n = cols, h.c = c.p();
            if (form == 1) h.b = bt.p(), h.b_rs = 1, h.b_cs = k;
            if (form == 2 && cols == n) h.packed_b = packed.data(), h.b = nullptr;
            run(h, form == 3);
            for (int64_t i = 0; i < rows; ++i)
              ASSERT_EQ(0, std::memcmp(static_cast<char*>(whole.p()) + size_t(i * n) * bytes,
                                       static_cast<char*>(c.p()) + size_t(i * n) * bytes, size_t(cols) * bytes))
                  << "type " << int(e) << " threads " << threads << " rows " << rows << " cols " << cols << " form " << form << " row "
                  << i;
          }
  }
  set_num_threads(2);
}

TEST_P(Gemm, Batches) {
  Rng rng{11};
  for (int64_t m : {1, 6, 20})
    for (int which = 0; which < 5; ++which)
      for (int threads : {1, 3}) {
        set_num_threads(threads);
        const int64_t b0 = 3, b1 = 4, n = 21, k = 33;
        Buffer a(Elem::f32, b0 * b1 * m * k, rng), b(Elem::f32, b0 * b1 * k * n, rng), c(Elem::f32, b0 * b1 * m * n, rng);
        GemmArgs g;
        g.m = m, g.n = n, g.k = k, g.a = a.p(), g.a_rs = k, g.b = b.p(), g.b_rs = n, g.c = c.p(), g.ldc = n, g.batch_rank = 2;
        g.batch[0] = b0, g.batch[1] = b1, g.c_bs[0] = b1 * m * n, g.c_bs[1] = m * n;
        g.a_bs[0] = b1 * m * k, g.a_bs[1] = m * k, g.b_bs[0] = b1 * k * n, g.b_bs[1] = k * n;
        if (which == 1) g.b_bs[0] = g.b_bs[1] = 0;                  // one B: folds into m
        if (which == 2) g.a_bs[0] = 0, g.b_bs[1] = 0;               // broadcast both ways
        if (which == 3) g.c_bs[0] = m * n, g.c_bs[1] = b0 * m * n;  // permuted result
        if (which == 4) g.a_bs[0] = g.a_bs[1] = 0;
        run(g);
        for (int64_t x = 0; x < b0; ++x)
          for (int64_t y = 0; y < b1; ++y)
            for (int64_t i = 0; i < m; ++i)
              for (int64_t j = 0; j < n; ++j) {
                double sum = 0;
                for (int64_t p = 0; p < k; ++p)
                  sum += get(Elem::f32, a.p(), x * g.a_bs[0] + y * g.a_bs[1] + i * k + p) *
                         get(Elem::f32, b.p(), x * g.b_bs[0] + y * g.b_bs[1] + p * n + j);
                ASSERT_NEAR(get(Elem::f32, c.p(), x * g.c_bs[0] + y * g.c_bs[1] + i * n + j), sum, 1e-5)
                    << which << " m " << m << " at " << x << y << i << j;
              }
      }
  set_num_threads(2);
}

TEST_P(Gemm, HookSeesEveryElementOnce) {
  Rng rng{5};
  for (int64_t m : {1, 3, 40, 300})
    for (int threads : {1, 2}) {
      set_num_threads(threads);
      const int64_t n = 333, k = 600, batch = 2;
      Buffer a(Elem::f32, batch * m * k, rng), b(Elem::f32, k * n, rng), c(Elem::f32, batch * m * n, rng);
      struct Seen {
        std::vector<int> count;
        int64_t m, n;
        const float* c;
        bool values = true;
      } seen{std::vector<int>(size_t(batch * m * n)), m, n, static_cast<float*>(c.p())};
      GemmArgs g;
      g.m = m, g.n = n, g.k = k, g.a = a.p(), g.a_rs = k, g.b = b.p(), g.b_rs = n, g.c = c.p(), g.ldc = n;
      g.batch_rank = 1, g.batch[0] = batch, g.a_bs[0] = m * k, g.c_bs[0] = m * n;
      g.epilogue.act = Act::relu, g.epilogue.context = &seen;
      g.epilogue.on_block = [](void* context, const GemmBlock& block) {
        auto& s = *static_cast<Seen*>(context);
        for (int64_t i = 0; i < block.rows; ++i)
          for (int64_t j = 0; j < block.cols; ++j) {
            const int64_t at = (block.batch * s.m + block.row + i) * s.n + block.col + j;
            ++s.count[size_t(at)];
            if (!(static_cast<const float*>(block.c)[i * block.ldc + j] >= 0) ||
                &static_cast<const float*>(block.c)[i * block.ldc + j] != s.c + at)
              s.values = false;
          }
      };
      run(g);
      EXPECT_TRUE(seen.values);
      for (int x : seen.count) ASSERT_EQ(x, 1);
    }
  set_num_threads(2);
}

INSTANTIATE_TEST_SUITE_P(Isas, Gemm,
                         ::testing::Values(Level{Isa::scalar}, Level{Isa::neon}, Level{Isa::simd128}, Level{Isa::avx2}, Level{Isa::avx512},
                                           Level{Isa::avx512, true}, Level{Isa::amx}),
                         [](const auto& p) { return p.param.dot ? "avx512_bf16" : isa_name(p.param.isa); });

}  // namespace
}  // namespace keel::cpu
