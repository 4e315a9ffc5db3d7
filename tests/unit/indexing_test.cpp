// Indexing against NumPy: expected shapes, and sums of value times position, were computed by numpy for x = arange(n).reshape(shape) and,
// for writes, x[...] = -1, -2, -3, ... in the order of the result.
#include <gtest/gtest.h>

#include "keel/keel.h"
#include "keel/ops/index.h"

namespace keel {
namespace {

int64_t weighted(const Tensor& t) {
  const Tensor d = t.contiguous();
  int64_t s = 0;
  for (int64_t i = 0; i < d.size(); ++i) s += (i + 1) * d.data<int64_t>()[i];
  return s;
}

void check(const Shape& shape, std::initializer_list<Index> at, const Shape& result, int64_t read, int64_t written) {
  const Tensor x = arange(shape.numel()).reshape(shape);
  const Tensor y = x[at];
  EXPECT_EQ(y.shape(), result);
  EXPECT_EQ(weighted(y), read) << to_string(y);
  Tensor w = x.clone();
  w[at] = -arange(1, result.numel() + 1).reshape(result);
  EXPECT_EQ(weighted(w), written) << to_string(w);
  // The same through the op that makes a new tensor and carries the gradient.
  Tensor v = x.to(f64).requires_grad_(), u = v * 1, g = (-arange(1, result.numel() + 1).reshape(result)).to(f64).requires_grad_();
  if (!u.is(Tensor(u[at])) && !Tensor(u[at]).shares_storage(u)) {
    bool plain = true;  // a window that is not the whole tensor is a tracked view, which cannot be written
    try {
      u[at] = g;
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ErrorCode::autograd) << e.what();
      plain = false;
    }
    if (plain) {
      EXPECT_EQ(weighted(u.to(i64)), written);
      sum(u).backward();
      EXPECT_EQ(sum(v.grad()).item() + sum(g.grad()).item(), double(x.size()));
    }
  }
}

TEST(Indexing, AgreesWithNumpy) {
  check({3, 4, 3}, {tensor({1, -3}), -2}, {2, 3}, 223, 13984);
  check({3}, {tensor({true, false, true})}, {2}, 4, -5);
  check({2, 4, 2}, {tensor({-2, -2}), tensor({-2, -1}), tensor({0, -1})}, {2}, 18, 1263);
  check({2, 2, 2}, {tensor(-1)}, {2, 2}, 60, -50);
  check({2}, {tensor({-2, 0, 0})}, {3}, 0, -1);
  check({3, 3}, {tensor({-3, -3, -1})}, {3, 3}, 195, -164);
  check({2, 3, 3, 2}, {tensor({{-1, 1}, {0, -1}}), tensor({{-1, 0}, {0, -2}}), tensor({{1, 1}, {2, 1}}), slice(1, -1, -1)}, {2, 2, 0}, 0,
        15540);
  check({3, 3}, {tensor({{1, 2}, {-2, 2}})}, {2, 2, 3}, 464, -380);
  check({3}, {tensor({false, true, true})}, {2}, 5, -8);
  check({4}, {tensor({false, true, true, false})}, {2}, 5, 4);
  check({2, 3, 2}, {tensor({-2, -1, -2}), slice(0, 1, 2), all}, {3, 1, 2}, 54, 402);
  check({4, 3}, {tensor({-2})}, {1, 3}, 44, 352);
  check({3, 3, 2, 3}, {newaxis, all, tensor({1})}, {1, 3, 1, 2, 3}, 5880, 29361);
  check({2, 3}, {tensor({{0, -1}, {-1, -2}})}, {2, 2, 3}, 203, -190);
  check({3, 3, 2, 2}, {tensor({0, 0, 0}), -3, tensor({1})}, {3, 2}, 54, 15483);
  check({3, 2, 2}, {tensor({{true, false}, {true, false}, {false, true}})}, {3, 2}, 150, 107);
  check({2, 2, 4}, {newaxis, tensor({-1, 1}), tensor({1, 0})}, {1, 2, 4}, 392, -260);
  check({4, 2, 4, 3}, {tensor({false, false, true, false}), newaxis, tensor({-1, 1})}, {2, 1, 4, 3}, 19936, 227562);
  check({3}, {tensor({-1})}, {1}, 2, -1);
  check({4, 3}, {tensor(-4), tensor(0)}, {}, 0, 571);
  check({3, 2, 2}, {tensor(2), ellipsis, tensor(0), slice(-1, -1, -1)}, {0}, 0, 572);
  check({4, 3, 2}, {tensor({-1}), -1, newaxis, all}, {1, 1, 2}, 68, 3471);
  check({2, 3, 4}, {tensor({{false, true, false}, {true, false, false}})}, {2, 4}, 416, 3212);
  check({3, 3}, {tensor({{2, 0}, {0, 2}}), newaxis, newaxis, tensor({{0, 1}, {-1, 1}})}, {2, 2, 1, 1}, 42, 82);
  check({3, 3, 3, 4}, {tensor({2, -3, 0}), newaxis, ellipsis, slice(-1, 4, -1)}, {3, 1, 3, 3, 0}, 0, 419868);
  check({4, 4, 3}, {all, tensor({{true, true, true}, {false, true, true}, {true, false, false}, {false, true, false}})}, {4, 7}, 12044,
        4910);
  check({4, 4, 2}, {tensor({3, 1, 2}), 3, tensor({-2, -1, 0})}, {3}, 126, 9104);
  check({2, 2}, {tensor({0, -1}), ellipsis, all}, {2, 2}, 20, -30);
  check({3}, {tensor({true, false, false})}, {1}, 0, 7);
  check({3}, {newaxis, tensor({{-1, 0}, {-3, 2}})}, {1, 2, 2}, 10, -13);
  check({3, 4, 4}, {tensor({{-1, 2}, {0, 1}}), tensor({{2, -1}, {-1, 1}})}, {2, 2, 4}, 3432, 15024);
  check({3, 4, 3}, {tensor({-3})}, {1, 4, 3}, 572, 14318);
  check({3, 3, 3}, {tensor({0, 0, -3}), ellipsis, tensor({-2, -3, 1})}, {3, 3}, 183, 6228);
  check({4, 3, 4}, {tensor({{1, -1}, {3, -1}}), -1}, {2, 2, 4}, 5968, 23508);
  check({3, 3}, {-3, tensor({-2})}, {1}, 1, 236);
  check({3, 2}, {tensor({2, -3, -1}), tensor({-2, -1, 0})}, {3}, 18, 29);
  check({4, 3, 4}, {all, 0, newaxis, newaxis, tensor({-2})}, {1, 4, 1, 1}, 260, 34178);
  check({2, 2}, {tensor({{true, true}, {false, false}})}, {2}, 2, 13);
  check({4}, {tensor({true, false, false, false})}, {1}, 0, 19);
  check({4, 4, 4}, {tensor({false, false, false, true}), tensor(0)}, {1, 4}, 500, 76846);
  check({3, 2}, {tensor({true, true, true})}, {3, 2}, 70, -91);
  check({3, 4, 3}, {tensor({{-1, -1}, {-2, 0}})}, {2, 2, 4, 3}, 18632, -17286);
  check({4, 4, 3}, {tensor({{0, -3}, {0, 1}}), tensor({-4}), all}, {2, 2, 3}, 662, 35778);
  check({4}, {tensor({0, -1, 3})}, {3}, 15, -5);
  check({4, 2, 3}, {tensor({-1}), slice(-1, 2, 1), slice(1, 1, 2)}, {1, 1, 0}, 0, 4600);
  check({4, 3}, {tensor({-2, 1})}, {2, 3}, 106, 213);
  check({4, 4}, {tensor({{2, -4}, {-4, -3}})}, {2, 2, 4}, 536, 186);
  check({2, 2, 3}, {tensor({false, true}), tensor(-1), tensor(-2)}, {1}, 10, 451);
  check({2, 4, 3, 2}, {slice(-1, 2, 2)}, {1, 4, 3, 2}, 11800, -7500);
  check({3, 2, 4}, {tensor({false, true, true}), -1, tensor({-3, -3})}, {2}, 55, 3898);
  check({2, 2, 4, 3}, {tensor({-1}), newaxis, tensor({-1, -1, -1})}, {3, 1, 4, 3}, 28068, -158);
  check({3, 4}, {tensor({true, false, true}), tensor({{-3, 2}, {-1, 2}})}, {2, 2}, 70, 390);
  check({3, 4, 3, 4}, {all, -1, tensor(1)}, {3, 4}, 8532, 871026);
  check({2, 3}, {1, ellipsis, tensor({2})}, {1}, 5, 34);
  check({3, 3, 3}, {tensor({2, -3})}, {2, 3, 3}, 1614, -87);
  check({2, 2, 3, 3}, {all, tensor(-2)}, {2, 3, 3}, 3072, 7443);
  check({3}, {tensor({0, 0, -3})}, {3}, 0, 5);
  check({3, 2, 2}, {tensor({{true, false}, {true, false}, {false, false}})}, {2, 2}, 34, 476);
  check({3, 4, 3}, {newaxis, tensor({{2, -1}, {-3, -2}})}, {1, 2, 2, 4, 3}, 20360, -19014);
  check({4}, {tensor(-4)}, {}, 0, 19);
  check({4, 2}, {tensor({-4, -1}), 1}, {2}, 15, 92);
  check({3}, {-1}, {}, 2, -1);
  check({3, 4, 2}, {tensor({2, 2})}, {2, 4, 2}, 2736, -732);
  check({2, 4, 2, 3}, {tensor({true, false}), tensor({1}), all, tensor({{-1, -3}, {-2, 2}})}, {2, 2, 2}, 323, 36020);
  check({3, 2}, {newaxis, tensor({{2, -1}, {-1, 1}}), tensor({{-1, -1}, {-2, 1}})}, {1, 2, 2}, 39, -35);
  check({2, 3, 2}, {tensor({-1}), tensor({0, 0})}, {2, 2}, 66, 421);
  check({2, 3}, {tensor({-2, -2, -1})}, {3, 3}, 123, -154);
  check({3, 2}, {newaxis, tensor({false, true, false}), all}, {1, 1, 2}, 8, 41);
  check({3}, {tensor({-1, -3, -1})}, {3}, 8, -9);
  check({4, 2, 4, 2}, {slice(-1, 4, 2), slice(1, 2, 1), tensor(-2)}, {1, 1, 2}, 182, 79733);
  check({2, 2, 2}, {newaxis, tensor({false, false})}, {1, 0, 2, 2}, 0, 168);
  check({4, 2}, {tensor({-3, 0, -1}), newaxis, tensor({0, 1, 1})}, {3, 1}, 25, 73);
  check({3, 3, 2}, {tensor({{1, 1}, {-1, 0}}), ellipsis, tensor({{-2, 0}, {0, 0}})}, {2, 2, 3}, 586, 444);
  check({2, 4, 2}, {tensor({-1}), -3}, {1, 2}, 32, 1083);
  check({3, 4}, {-3}, {4}, 20, 522);
  check({3, 4}, {tensor({{-2, 0}, {1, -2}}), tensor({{0, -2}, {2, 0}})}, {2, 2}, 42, 457);
  check({2, 3}, {newaxis, newaxis, tensor({{-1, -2}, {-2, -2}})}, {1, 1, 2, 2, 3}, 104, -100);
  check({2, 4, 3, 3}, {tensor({{0, -1}, {1, -2}}), tensor({{1, -1}, {1, -4}})}, {2, 2, 3, 3}, 20562, 38052);
  check({2, 3, 2}, {0, all, tensor({true, false})}, {1, 3}, 16, 524);
  check({3, 4, 4}, {tensor({-1}), all}, {1, 4, 4}, 5712, 5064);
  check({2, 4, 2, 3}, {tensor({{true, false, false, false}, {true, true, false, true}})}, {4, 2, 3}, 10396, 2976);
  check({2, 3, 3}, {slice(1, 1, 2)}, {0, 3, 3}, 0, 1938);
  check({3, 4}, {all, slice(none, 4, 2)}, {3, 2}, 140, 161);
  check({3, 3, 2}, {tensor(2), all}, {3, 2}, 322, 229);
  check({4, 4}, {newaxis, slice(1, 4, 1), tensor({{-2, -2}, {-1, 2}})}, {1, 3, 2, 2}, 929, -10);
  check({4, 4, 4}, {tensor(1), ellipsis, tensor(-2)}, {4}, 260, 84610);
  check({4, 4, 2}, {newaxis, tensor({0})}, {1, 1, 4, 2}, 168, 10540);
  check({2, 3, 2}, {tensor({false, true}), tensor(-3), tensor({0})}, {1}, 6, 523);
  check({2, 3}, {tensor({true, true})}, {2, 3}, 70, -91);
  check({3, 3, 2}, {newaxis, tensor({-3, 2}), 0, newaxis, slice(-1, -1, 1)}, {1, 2, 1, 0}, 0, 1938);
}

TEST(Indexing, AugmentedAssignmentWritesThroughArrays) {
  Tensor x = arange(5);
  x[tensor({0, 3})] += 10;
  EXPECT_EQ(to_string(x), "[10  1  2 13  4]");
  x[x > 5] *= 2;
  EXPECT_EQ(to_string(x), "[20  1  2 26  4]");
  x[{slice(0, 2)}] -= 1;
  EXPECT_EQ(to_string(x), "[19  0  2 26  4]");
  Tensor view = x[{slice(3, 5)}];
  view += 2;
  EXPECT_EQ(to_string(x), "[19  0  2 28  6]");
  EXPECT_THROW(view /= 2, Error);  // halves would be lost
  EXPECT_EQ(to_string(x), "[19  0  2 28  6]");
}

TEST(Indexing, WriteFromOneself) {
  Tensor x = arange(6);
  x[tensor({0, 1, 2})] = x[{slice(3, 6)}];
  EXPECT_EQ(to_string(x), "[3 4 5 3 4 5]");
  x[tensor({3, 4, 5})] = x[{slice(none, 3)}];
  x[tensor({5, 4, 3, 2, 1, 0})] = x;
  EXPECT_EQ(to_string(x), "[5 4 3 5 4 3]");
}

TEST(Indexing, CopiesOfOverlappingPartsReadBeforeTheyWrite) {
  Tensor row = arange(6), shifted = arange(6), square = arange(9).reshape({3, 3}), sum = square.clone(), rows = square.clone();
  row.copy_(row.flip({0}));
  EXPECT_TRUE(array_equal(row, tensor({5, 4, 3, 2, 1, 0})));
  shifted[{slice(1, none)}] = shifted[{slice(none, -1)}];
  EXPECT_TRUE(array_equal(shifted, tensor({0, 0, 1, 2, 3, 4})));
  shifted[{slice(none, -1)}] = shifted[{slice(1, none)}];
  EXPECT_TRUE(array_equal(shifted, tensor({0, 1, 2, 3, 4, 4})));
  square.copy_(square.transpose());
  EXPECT_TRUE(array_equal(square, tensor({{0, 3, 6}, {1, 4, 7}, {2, 5, 8}})));
  sum += sum.transpose();
  EXPECT_TRUE(array_equal(sum, tensor({{0, 4, 8}, {4, 8, 12}, {8, 12, 16}})));
  rows.copy_(rows[2]);
  EXPECT_TRUE(array_equal(rows, tensor({{6, 7, 8}, {6, 7, 8}, {6, 7, 8}})));
}

TEST(Indexing, WritesConvertAndBroadcast) {
  Tensor x = zeros({3, 4});
  x[{tensor({0, 2})}] = 1.5;
  x[{all, tensor({1})}] = tensor({{7}, {8}, {9}});
  EXPECT_EQ(to_string(x), "[[1.5 7.  1.5 1.5]\n [0.  8.  0.  0. ]\n [1.5 9.  1.5 1.5]]");
  Tensor n = zeros({3}, {.dtype = i32});
  n[tensor({true, false, true})] = 2.9;
  EXPECT_EQ(to_string(n), "[2 0 2]");
}

TEST(Indexing, RepeatedPositions) {
  Tensor x = zeros({3}, {.dtype = f64}).requires_grad_(), v = tensor({1.0, 2.0, 3.0, 4.0}, {.dtype = f64}).requires_grad_();
  const Tensor at = tensor({0, 2, 0, 0});
  Tensor y = index_put(x, {at}, v, {.axis = {0}});
  EXPECT_EQ(to_string(y), "[4. 0. 2.]");
  sum(y * tensor({10.0, 100.0, 1000.0}, {.dtype = f64})).backward();
  EXPECT_EQ(to_string(v.grad()), "[   0. 1000.    0.   10.]");
  EXPECT_EQ(to_string(x.grad()), "[  0. 100.   0.]");
  Tensor z = index_put(zeros({3}), {at}, tensor({1.0, 2.0, 3.0, 4.0}), {.axis = {0}}, true);
  EXPECT_EQ(to_string(z), "[8. 0. 2.]");
}

TEST(Indexing, NarrowFloatsAddUpInF32) {
  const int64_t n = 4096;
  Tensor y = index_put(zeros({2}, {.dtype = bf16}), {zeros({n}, {.dtype = i64})}, ones({n}, {.dtype = bf16}), {.axis = {0}}, true);
  EXPECT_EQ(y[{0}].item(), 4096);  // in bf16 the sum would stick at 256
  Tensor s = scatter_add(zeros({2}, {.dtype = f16}), zeros({n}, {.dtype = i64}), full({n}, 0.5, {.dtype = f16}));
  EXPECT_EQ(s[{0}].item(), 2048);
}

TEST(Indexing, MaskReadAndWriteKeepTheGradient) {
  Tensor x = tensor({1.0, -2.0, 3.0, -4.0}, {.requires_grad = true});
  Tensor y = x * 2;
  y[y < 0] = 0;
  EXPECT_EQ(to_string(y), "[2. 0. 6. 0.]");
  sum(y[y > 0] * y[y > 0]).backward();
  EXPECT_EQ(to_string(x.grad()), "[ 8.  0. 24.  0.]");
}

TEST(Indexing, FailedWriteLeavesTheTensorAlone) {
  Tensor x = arange(4);
  const uint32_t before = x.version();
  EXPECT_THROW((x[tensor({0, 1, 9})] = 7), Error);
  EXPECT_EQ(to_string(x), "[0 1 2 3]");
  EXPECT_EQ(x.version(), before);
  x[tensor({0, 1})] = 7;
  EXPECT_EQ(x.version(), before + 1);
}

TEST(Indexing, LargeScattersDoNotDependOnThreads) {
  const int64_t threads = num_threads(), n = 200000;
  const Tensor at = remainder(arange(n) * 7919, 1000), v = sin(arange(n).to(f32));
  Tensor first;
  for (int64_t t : {1, 2, 3, 7}) {
    set_num_threads(t);
    const Tensor y = scatter_add(zeros({1000}), at, v), z = index_put(zeros({1000}), {at}, v, {.axis = {0}}),
                 m = index_put(zeros({1000, 3}), {at}, v.reshape({-1, 1}), {.axis = {0}}, true);
    const Tensor both = concat({y, z, m.reshape({-1})});
    if (!first.defined()) first = both;
    EXPECT_TRUE(array_equal(first, both)) << t << " threads";
  }
  set_num_threads(threads);
}

}  // namespace
}  // namespace keel
