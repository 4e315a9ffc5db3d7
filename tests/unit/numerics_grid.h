#pragma once
#include <keel/numerics/bits.h>

#include <gtest/gtest.h>

#include <vector>

// Values at which scalar arithmetic goes wrong.
namespace keel::numerics {

using AllFloats = ::testing::Types<double, float, float16, bfloat16, float8_e4m3fn, float8_e5m2>;
using SmallFloats = ::testing::Types<float16, bfloat16, float8_e4m3fn, float8_e5m2>;

template <class T>
std::vector<T> every_code() {
  std::vector<T> all;
  for (uint32_t c = 0; c < (1u << (8 * sizeof(T))); ++c) all.push_back(T::from_bits(static_cast<decltype(T::bits)>(c)));
  return all;
}

// NaN, infinities (where the type has them), zeros, smallest and largest subnormal, smallest normal and its neighbours, 1 and its
// neighbours, the largest two; of both signs.
template <class T>
std::vector<T> grid() {
  const int64_t one = ordered(T(1.0f)), normal = ordered(FloatTraits<T>::min_normal()), top = detail::kBeyond<T>;
  std::vector<T> values;
  for (int64_t p :
       {int64_t(0), int64_t(1), int64_t(2), normal - 1, normal, normal + 1, one / 2, one - 1, one, one + 1, one + 2, top - 2, top - 1, top})
    for (T sign : {T(1.0f), T(-1.0f)}) {
      const T x = from_ordered<T>(p);
      values.push_back(sign_bit(sign) ? std::bit_cast<T>(static_cast<detail::Bits<T>>(detail::bits_of(x) | detail::kSign<T>)) : x);
    }
  for (float f : {0.1f, 0.5f, 1.5f, 2.0f, 3.0f, 100.0f}) values.insert(values.end(), {T(f), T(-f)});
  values.push_back(FloatTraits<T>::quiet_nan());
  return values;
}

template <class T>
bool same_bits(T a, T b) {
  return (is_nan(a) && is_nan(b)) || detail::bits_of(a) == detail::bits_of(b);
}

}  // namespace keel::numerics
