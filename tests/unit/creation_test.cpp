// Filled tensors in every dtype, and sizes on both sides of the parallel grain.
#include <gtest/gtest.h>

#include "core/impl.h"
#include "keel/keel.h"

namespace keel {
namespace {

constexpr DType kAll[] = {DType::boolean, u8,  u16,    u32,  u64, i8,  i16,       i32,       i64,
                          f8e4m3fn,       f16, f8e5m2, bf16, f32, f64, complex64, complex128};

double at(const Tensor& t, int64_t i) { return read_double(impl(t).data + i * int64_t(size_of(t.dtype())), t.dtype()); }

TEST(Creation, FullInEveryDtype) {
  for (DType t : kAll) {
    for (int64_t n : {0, 1, 7, 100001}) {
      for (double v : {0.0, 1.0, 3.0}) {
        const Tensor x = full({n}, v, {.dtype = t});
        EXPECT_EQ(x.dtype(), t);
        for (int64_t i = 0; i < n; i += 1 + n / 50) ASSERT_EQ(at(x, i), t == DType::boolean ? v != 0 : v) << name_of(t) << " " << i;
        if (n > 0) {
          ASSERT_EQ(at(x, n - 1), t == DType::boolean ? v != 0 : v) << name_of(t);
        }
      }
    }
  }
  EXPECT_EQ(to_string(full({2}, -1, {.dtype = i32})), "[-1 -1]");
  EXPECT_EQ(to_string(full({}, 2.5)), "2.5");
}

TEST(Creation, ArangeAndLinspace) {
  for (DType t : kAll) {
    if (is_complex(t) || t == DType::boolean) continue;
    const Tensor x = arange(1, 8, 2, {.dtype = t});
    ASSERT_EQ(x.size(), 4);
    for (int64_t i = 0; i < 4; ++i) EXPECT_EQ(at(x, i), double(1 + 2 * i)) << name_of(t);
  }
  EXPECT_EQ(to_string(arange(5, 0, -2)), "[5 3 1]");
  EXPECT_EQ(to_string(arange(0, 1, 0.25)), "[0.   0.25 0.5  0.75]");
  EXPECT_EQ(arange(10, 10).size(), 0);
  const Tensor big = arange(100000), lin = linspace(-1, 1, 100001, {.dtype = f64});
  for (int64_t i = 0; i < 100000; i += 997) EXPECT_EQ(at(big, i), double(i));
  for (int64_t i = 0; i < 100000; i += 997) EXPECT_EQ(at(lin, i), -1 + double(i) * (2.0 / 100000));
  EXPECT_EQ(at(lin, 100000), 1);
  EXPECT_EQ(to_string(linspace(3, 4, 1)), "[3.]");
  EXPECT_THROW(arange(INT64_MIN, INT64_MAX, 1), Error);
}

/// What a number that does not fit is answered with: nothing may wrap around in silence.
TEST(Creation, NumbersThatDoNotFitAreRefused) {
  const auto text = [](auto&& f) -> std::string {
    try {
      f();
    } catch (const Error& e) { return e.code() == ErrorCode::value ? std::string(e.message()) : "another code"; }
    return "accepted";
  };
  for (DType t : {u8, u16, u32, u64, i8, i16, i32, i64}) {
    const int bits = 8 * int(size_of(t));
    const bool is_signed = t >= i8;
    const Scalar most = is_signed ? Scalar(INT64_MAX >> (64 - bits)) : Scalar(UINT64_MAX >> (64 - bits)),
                 least = is_signed ? Scalar(INT64_MIN >> (64 - bits)) : Scalar(0);
    const Scalar beyond = t == i64     ? Scalar(uint64_t(1) << 63)
                          : bits == 64 ? Scalar(0x1p64)
                                       : Scalar(most.to_int() + 1),
                 below = t == i64 ? Scalar(-0x1.0000000000001p63) : Scalar(least.to_int() - 1);
    EXPECT_EQ(to_string(full({}, most, {.dtype = t})), to_string(most));
    EXPECT_EQ(to_string(full({}, least, {.dtype = t})), to_string(least));
    for (Scalar v : {beyond, below, Scalar(NAN), Scalar(INFINITY)})
      EXPECT_EQ(text([&] { full({2}, v, {.dtype = t}); }),
                to_string(v) + " does not fit " + name_of(t) + ", which holds " + to_string(least) + " to " + to_string(most));
    EXPECT_EQ(full({}, least.to_double() - 0.5, {.dtype = t}).item(), bits == 64 && is_signed ? -0x1p63 : least.to_double())
        << "the fraction is cut off";
  }
  Tensor x = tensor({100, 200}, {.dtype = u8});
  const Tensor mask = x > 150;
  const std::string says = "300 does not fit u8, which holds 0 to 255";
  EXPECT_EQ(text([&] { x + 300; }), says);
  EXPECT_EQ(text([&] { clamp(x, 0, 300); }), says);
  EXPECT_EQ(text([&] { where(mask, x, 300); }), says);
  EXPECT_EQ(text([&] { masked_fill(x, mask, 300); }), says);
  EXPECT_EQ(text([&] { x.clamp_(0, 300); }), says);
  EXPECT_EQ(text([&] { x.add_(300); }), says);
  EXPECT_EQ(text([&] { x.fill_(300); }), says);
  EXPECT_EQ(text([&] { x[0] = 300; }), says);
  EXPECT_EQ(text([&] { x.masked_fill_(mask, 300); }), says);
  EXPECT_EQ(text([&] { pad(x, {.before = {1}, .after = {1}, .value = 300}); }), says);
  EXPECT_EQ(text([&] { full_like(x, 300); }), says);
  EXPECT_EQ(text([&] { tensor({{1, 300}}, {.dtype = u8}); }), says);
  EXPECT_EQ(text([&] { arange(0, 301, 100, {.dtype = u8}); }), says);
  EXPECT_EQ(text([&] { linspace(0, 300, 4, {.dtype = u8}); }), says);
  EXPECT_EQ(text([&] { maximum(x, -1); }), "-1 does not fit u8, which holds 0 to 255");
  EXPECT_EQ(to_string(x), "[100 200]");
  EXPECT_EQ(to_string(x + 300.0), "[400. 500.]");
  EXPECT_EQ(to_string(x.astype(i64) + 300), "[400 500]");
  EXPECT_EQ(to_string(arange(0, 300, 100, {.dtype = u8})), "[  0 100 200]");
  EXPECT_EQ(to_string(tensor({300}).astype(u8)), "[44]") << "casts of tensors do wrap";
}

TEST(Creation, ComparisonsWithNumbersThatDoNotFitAreExact) {
  const auto answers = [](const Tensor& x, Scalar v) {
    std::string said;
    for (const Tensor& y : {x == v, x != v, x < v, x <= v, x > v, x >= v, v == x, v != x, v < x, v <= x, v > x, v >= x, logical_and(x, v)})
      said += y.dtype() != boolean ? '?' : all(y).item<bool>() ? '1' : any(y).item<bool>() ? '+' : '0';
    return said;
  };
  const std::string above = "0111000100111", below = "0100110111001";  // of the tensor and a number that lies above or below all its values
  for (DType t : {u8, u16, u32, u64, i8, i16, i32, i64}) {
    const int bits = 8 * int(size_of(t));
    const bool is_signed = t >= i8;
    Tensor x = full({3}, is_signed ? Scalar(INT64_MAX >> (64 - bits)) : Scalar(UINT64_MAX >> (64 - bits)), {.dtype = t});
    x[1] = 1;
    if (t == u64) {
      EXPECT_EQ(answers(x, -1), below);
    } else if (t == i64) {
      EXPECT_EQ(answers(x, uint64_t(1) << 63), above);
    } else {
      for (int64_t v : {int64_t(1) << bits, int64_t(1) << 62}) EXPECT_EQ(answers(x, v), above) << name_of(t);
      for (int64_t v : {-(int64_t(1) << bits), INT64_MIN}) EXPECT_EQ(answers(x, v), below) << name_of(t);
      EXPECT_EQ(answers(x, UINT64_MAX), above) << name_of(t);
    }
  }
  Tensor x = tensor({100, 200}, {.dtype = u8});
  EXPECT_EQ(to_string(where(x < 300, x, 0)), "[100 200]");
}

TEST(Creation, Eye) {
  EXPECT_EQ(to_string(eye(2, 3)), "[[1. 0. 0.]\n [0. 1. 0.]]");
  EXPECT_EQ(to_string(eye(3, 2, {.dtype = DType::boolean})), "[[ True False]\n [False  True]\n [False False]]");
  EXPECT_EQ(sum(eye(700)).item(), 700);
  EXPECT_EQ(eye(0).shape(), Shape({0, 0}));
}

TEST(Creation, EmbeddingOfManyIds) {
  const int64_t threads = num_threads();
  manual_seed(1);
  const Tensor w = randn({3000, 40}, {.requires_grad = true}), ids = randint(0, 3000, {50, 200}) * randint(0, 2, {50, 200});
  const Tensor y = embedding(ids, w), g = randn({50, 200, 40});
  EXPECT_TRUE(array_equal(y, index_get(w.detach(), {ids}, {.axis = {0}})));
  const Tensor want = index_put(zeros({3000, 40}), {ids}, g, {.axis = {0}}, true);
  for (int64_t t : {1, 2, 5}) {
    set_num_threads(t);
    EXPECT_TRUE(array_equal(grad(Tensors{y}, {w}, {.retain_graph = true}, {g})[0], want)) << t;
  }
  set_num_threads(threads);
}

}  // namespace
}  // namespace keel
