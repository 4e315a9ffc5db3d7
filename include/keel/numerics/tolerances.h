#pragma once
#include <cstdint>

#include "keel/numerics/bits.h"

#pragma GCC visibility push(default)
namespace keel::numerics {

/// How far two numbers may lie apart and still be near: |a - b| <= max(rel * max(|a|, |b|), abs).
struct Tolerance {
  double rel = 0, abs = 0;
  friend constexpr bool operator==(const Tolerance&, const Tolerance&) = default;
};

/// Where default tolerances come from: `keel` are the defaults, chosen so that neighbouring values are always near; `seed` are the
/// constants of the scalar core's plan, of which that of float, 1e-9, is below the type's rounding error and means equality.
enum class Profile : uint8_t { keel, seed };

/// The tolerances of a type. Rule: rel is at least the distance from 1 to its neighbour, so that values one step apart are near; abs is a
/// tenth of rel below double.
///
///     type            keel            seed
///     double          1e-9   1e-9     1e-9  1e-9
///     float           1e-6   1e-7     1e-9  1e-9
///     float16         1e-3   1e-4     1e-3  1e-4
///     bfloat16        1e-2   1e-3     1e-2  1e-3
///     float8_e4m3fn   0.125  0.0125   0.1   0.01
///     float8_e5m2     0.25   0.025    none stated: as keel
///     integers, bool  0      0        0     0
///
/// They compare values that were computed in different ways; for sums of n terms scale them by n (bound) or sqrt(n) (random errors).
template <Number T>
constexpr Tolerance tolerances(Profile profile = Profile::keel) {
  const bool seed = profile == Profile::seed;
  if (std::is_same_v<T, double>) return {1e-9, 1e-9};
  if (std::is_same_v<T, float>) return seed ? Tolerance{1e-9, 1e-9} : Tolerance{1e-6, 1e-7};
  if (std::is_same_v<T, float16>) return {1e-3, 1e-4};
  if (std::is_same_v<T, bfloat16>) return {1e-2, 1e-3};
  if (std::is_same_v<T, float8_e4m3fn>) return seed ? Tolerance{0.1, 0.01} : Tolerance{0.125, 0.0125};
  if (std::is_same_v<T, float8_e5m2>) return {0.25, 0.025};
  return {};
}
/// The looser of the tolerances of two types, each of rel and abs.
template <Number A, Number B>
constexpr Tolerance tolerances(Profile profile = Profile::keel) {
  const Tolerance a = tolerances<A>(profile), b = tolerances<B>(profile);
  return {a.rel < b.rel ? b.rel : a.rel, a.abs < b.abs ? b.abs : a.abs};
}

}  // namespace keel::numerics
#pragma GCC visibility pop
