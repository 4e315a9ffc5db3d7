// The outer driver of reductions against plain indexing in f64: any layout, axes, dtype and thread count; order that threads, batch and
// instruction set do not change; the raw loops' accuracy.
#include <gtest/gtest.h>
#include <keel/parallel.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <random>
#include <vector>

#include "backend/cpu/reduction.h"
#include "keel/numerics/types.h"
#include "unit/isa_scope.h"

namespace keel::cpu {
namespace {

template <class T>
std::vector<T> reduce(ReduceOp op, DType as, const TensorView& x, const Dims& axes, const Shape& out, DType out_dtype) {
  std::vector<T> y(size_t(out.numel()));
  const Strides st = contiguous_strides(out);
  const TensorView view{y.data(), out_dtype, &out, &st};
  std::vector<std::byte> work(reduction_workspace(x, axes, as, op) + 64);
  std::fill(work.end() - 64, work.end(), std::byte(0x5a));
  run_reduction({.op = op, .as = as}, x, axes, view, work.data(), nullptr);
  for (auto i = work.end() - 64; i != work.end(); ++i) EXPECT_EQ(*i, std::byte(0x5a)) << "workspace overrun";
  return y;
}

TEST(ReductionDriver, AnyLayoutAndAxes) {
  std::mt19937 r(17);
  const int64_t threads = num_threads();
  for (int round = 0; round < 1500; ++round) {
    Shape s;
    const int rank = int(r() % 5);
    for (int i = 0; i < rank; ++i) s.push_back(round % 50 == 7 ? 1 + r() % 40 : r() % 9 == 0 ? r() % 3 : 1 + r() % 6);
    if (round % 97 == 0 && rank) s[int(r() % uint32_t(rank))] = 5000 + r() % 5000;
    std::vector<int> order;
    for (int i = 0; i < rank; ++i) order.push_back(i);
    if (r() % 2) std::shuffle(order.begin(), order.end(), r);
    Strides st;
    st.resize(rank);
    int64_t step = r() % 5 == 0 ? 2 : 1, offset = 0;
    for (int k = rank - 1; k >= 0; --k) {
      const int i = order[size_t(k)];
      st[i] = step, step *= std::max<int64_t>(s[i], 1);
      if (r() % 8 == 0 && s[i]) offset += (s[i] - 1) * st[i], st[i] = -st[i];
      if (r() % 5 == 0) step += 1;
      if (r() % 12 == 0) st[i] = 0;
    }
    std::vector<float> data(size_t(step) + 8);
    for (float& v : data) v = float(int(r() % 257) - 128) / 64;
    const TensorView x{data.data() + offset, f32, &s, &st};
    Dims axes;
    for (int i = 0; i < rank; ++i)
      if (r() % 2) axes.push_back(r() % 2 ? i : i - rank);
    bool reduced[8] = {};
    for (int64_t a : axes) reduced[a < 0 ? a + rank : a] = true;
    if (axes.empty()) std::fill(reduced, reduced + 8, true);
    Shape out;
    for (int i = 0; i < rank; ++i)
      if (!reduced[i]) out.push_back(s[i]);
    // Naive, in f64.
    std::vector<double> sum(size_t(out.numel()), 0), most(sum.size(), -INFINITY), square(sum.size(), 0);
    std::vector<int64_t> index(size_t(rank), 0);
    for (int64_t k = 0; k < s.numel(); ++k) {
      int64_t from = 0, to = 0;
      for (int i = 0; i < rank; ++i) {
        from += index[size_t(i)] * st[i];
        if (!reduced[i]) to = to * s[i] + index[size_t(i)];
      }
      const double v = x.ptr<float>()[from];
      sum[size_t(to)] += v, square[size_t(to)] += v * v, most[size_t(to)] = std::max(most[size_t(to)], v);
      for (int i = rank - 1; i >= 0; --i) {
        if (++index[size_t(i)] < s[i]) break;
        index[size_t(i)] = 0;
      }
    }
    set_num_threads(1 + round % 2);
    const auto a = reduce<float>(ReduceOp::sum, f32, x, axes, out, f32), b = reduce<float>(ReduceOp::sum_square, f32, x, axes, out, f32);
    const auto m = reduce<float>(ReduceOp::max, f32, x, axes, out, f32);
    const auto wide = reduce<double>(ReduceOp::sum, f64, x, axes, out, f64);
    const auto narrow = reduce<float16>(ReduceOp::sum, f32, x, axes, out, f16);
    for (size_t i = 0; i < sum.size(); ++i) {
      ASSERT_NEAR(a[i], sum[i], 1e-6 * (1 + square[i]))
          << "round " << round << " shape " << to_string(s) << " strides " << to_string(st) << " axes " << to_string(axes);
      ASSERT_NEAR(b[i], square[i], 1e-6 * (1 + square[i]));
      ASSERT_EQ(m[i], float(most[i]));
      ASSERT_NEAR(wide[i], sum[i], 1e-12 * (1 + square[i]));
      ASSERT_EQ(narrow[i].bits, float16(a[i]).bits);
    }
  }
  set_num_threads(threads);
}

TEST(ReductionDriver, OrderDependsOnTheReducedExtentOnly) {
  IsaScope restore;
  std::mt19937 r(5);
  const int64_t threads = num_threads();
  for (int64_t n : {1, 7, 63, 64, 65, 1000, 4096, 4097, 70001, 600001, 1500001}) {
    std::vector<float> x(static_cast<size_t>(n));
    for (float& v : x) v = float(int(r() % 100001) - 50000) * 1e-3f;
    const Shape row({n}), rows({3, n}), column({n, 5});
    const Strides one({1}), three({0, 1}), five({5, 1});
    std::vector<uint32_t> bits;
    for (Isa isa : {Isa::scalar, Isa::avx2, Isa::avx512})
      for (int64_t t : {1, 2}) {
        set_isa_for_tests(isa);
        set_num_threads(t);
        bits.push_back(std::bit_cast<uint32_t>(reduce<float>(ReduceOp::sum, f32, {x.data(), f32, &row, &one}, {}, Shape(), f32)[0]));
      }
    // As a row of a batch.
    std::vector<float> batch;
    for (int i = 0; i < 3; ++i) batch.insert(batch.end(), x.begin(), x.end());
    const Strides batched({n, 1});
    for (float v : reduce<float>(ReduceOp::sum, f32, {batch.data(), f32, &rows, &batched}, {1}, Shape({3}), f32))
      bits.push_back(std::bit_cast<uint32_t>(v));
    for (uint32_t b : bits) EXPECT_EQ(b, bits[0]) << n;
    // Columns: their own order, but one for all levels, threads and widths.
    std::vector<float> wide(size_t(n) * 5);
    for (size_t i = 0; i < x.size(); ++i)
      for (size_t k = 0; k < 5; ++k) wide[i * 5 + k] = x[i];
    bits.clear();
    for (Isa isa : {Isa::scalar, Isa::avx2, Isa::avx512})
      for (int64_t t : {1, 2}) {
        set_isa_for_tests(isa);
        set_num_threads(t);
        for (float v : reduce<float>(ReduceOp::sum, f32, {wide.data(), f32, &column, &five}, {0}, Shape({5}), f32))
          bits.push_back(std::bit_cast<uint32_t>(v));
      }
    for (uint32_t b : bits) EXPECT_EQ(b, bits[0]) << n;
  }
  set_num_threads(threads);
}

TEST(ReductionDriver, SumsOfTenMillionAreAccurate) {
  const int64_t n = 10'000'000;
  std::vector<float> x(static_cast<size_t>(n));
  std::mt19937 r(3);
  double exact = 0;
  for (float& v : x) v = float(r() >> 8) * 0x1p-24f, exact += v;
  const Shape row({n}), column({n / 10, 10});
  const Strides one({1}), ten({10, 1});
  const float s = reduce<float>(ReduceOp::sum, f32, {x.data(), f32, &row, &one}, {}, Shape(), f32)[0];
  EXPECT_NEAR(s / exact, 1, 2.4e-7);  // two ulp
  double total = 0;
  for (float v : reduce<float>(ReduceOp::sum, f32, {x.data(), f32, &column, &ten}, {0}, Shape({10}), f32)) total += v;
  EXPECT_NEAR(total / exact, 1, 2.4e-7);
}

TEST(ReductionLoops, NanAndExtremesAtEveryLevel) {
  IsaScope restore;
  for (Isa isa : {Isa::scalar, Isa::avx2, Isa::avx512}) {
    set_isa_for_tests(isa);
    for (int64_t n : {1, 5, 16, 63, 64, 100, 1024, 1025, 4096}) {
      std::vector<float> x(static_cast<size_t>(n), -3.f);
      float y;
      reduce_loops(ReduceOp::max, f32).block(x.data(), n, nullptr, &y, false);
      EXPECT_EQ(y, -3.f);
      for (int64_t at : {int64_t(0), n / 2, n - 1}) {
        x[size_t(at)] = NAN;
        reduce_loops(ReduceOp::max, f32).block(x.data(), n, nullptr, &y, true);
        EXPECT_TRUE(std::isnan(y)) << n << " " << at;
        reduce_loops(ReduceOp::min, f32).block(x.data(), n, nullptr, &y, false);
        EXPECT_TRUE(std::isnan(y)) << n << " " << at;
        EXPECT_EQ(arg_extreme(true, f32, x.data(), n), at);
        EXPECT_EQ(arg_extreme(false, f32, x.data(), n), at);
        x[size_t(at)] = 5;
        reduce_loops(ReduceOp::max, f32).block(x.data(), n, nullptr, &y, true);
        EXPECT_EQ(y, 5);
        EXPECT_EQ(arg_extreme(true, f32, x.data(), n), at);
        EXPECT_EQ(arg_extreme(false, f32, x.data(), n), n == 1 ? 0 : at == 0 ? 1 : 0);
        x[size_t(at)] = -3;
      }
      uint8_t t;
      std::vector<float> zero(static_cast<size_t>(n), -0.f);
      reduce_loops(ReduceOp::any, f32).block(zero.data(), n, nullptr, &t, false);
      EXPECT_EQ(t, 0);
      zero[size_t(n - 1)] = NAN;
      reduce_loops(ReduceOp::any, f32).block(zero.data(), n, nullptr, &t, true);
      EXPECT_EQ(t, 1);
      reduce_loops(ReduceOp::all, f32).block(x.data(), n, nullptr, &t, false);
      EXPECT_EQ(t, 1);
    }
    const int32_t v[] = {3, -7, 2147483647, 2147483647};
    int64_t sum;
    reduce_loops(ReduceOp::sum, i32).block(v, 4, nullptr, &sum, false);
    EXPECT_EQ(sum, 3 - 7 + 2 * int64_t(2147483647));
  }
}

}  // namespace
}  // namespace keel::cpu
