#pragma once
// The values on which safe, soft and near ops are tried, as tensors, and the comparison of all pairs of them with a scalar function.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "keel/keel.h"
#include "keel/numerics.h"

namespace keel {
namespace num = numerics;

/// Zeros, subnormals, the ends of the normal range, neighbours of 1, infinities and NaN, with both signs.
template <class T>
std::vector<T> grid() {
  using L = FloatTraits<T>;
  const T one(1.0f);
  std::vector<T> v;
  for (T x : {T(0.0f), L::min_subnormal(), L::min_normal(), L::epsilon(), num::ulp::prev(one), one, num::ulp::next(one), T(2.0f), L::max(),
              L::infinity()}) {
    v.push_back(x);
    v.push_back(std::bit_cast<T>(num::detail::Bits<T>(num::detail::bits_of(x) ^ num::detail::kSign<T>)));
  }
  v.push_back(L::quiet_nan());
  return v;
}
template <class T>
Tensor column(const std::vector<T>& v) {
  Tensor t = empty({int64_t(v.size()), 1}, {.dtype = dtype_of<T>});
  std::copy(v.begin(), v.end(), t.data<T>());
  return t;
}
inline Tensor across(const Tensor& t) { return t.permute({1, 0}); }
template <class T>
bool same(T a, T b) {
  return (num::is_nan(a) && num::is_nan(b)) || num::detail::bits_of(a) == num::detail::bits_of(b);
}
/// Compares t[i, j] with f(v[i], v[j]), bit by bit.
template <class R, class T, class F>
void expect_pairs(const Tensor& t, const std::vector<T>& v, const char* what, F f) {
  const Tensor dense = t.contiguous();
  ASSERT_EQ(dense.dtype(), dtype_of<R>) << what;
  const R* got = dense.data<R>();
  for (T a : v)
    for (T b : v) {
      const R want = f(a, b);
      if constexpr (num::Float<R>)
        ASSERT_TRUE(same(*got, want)) << what << " of " << double(a) << " and " << double(b) << ": got " << double(*got) << ", want "
                                      << double(want);
      else
        ASSERT_EQ(*got, want) << what << " of " << double(a) << " and " << double(b);
      ++got;
    }
}
using Floats = ::testing::Types<double, float, float16, bfloat16>;

}  // namespace keel
