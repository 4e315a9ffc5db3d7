#pragma once
// What ops with tolerances share.
#include <cmath>

#include "backend/cuda/math.cuh"
#include "backend/float_limits.h"

namespace keel::cuda {

template <class T>
__device__ bool is_finite(T x) {
  return isfinite(x);
}
template <class T>
__device__ T absolute(T x) {
  return x < 0 ? -x : x;
}
/// |x| <= tol; false for NaN.
template <class T>
__device__ bool within(T x, double tol) {
  return absolute(x) <= T(tol);
}

/// A number that was given, or that of the dtype.
inline double or_own(double given, double own) { return std::isnan(given) ? own : given; }

}  // namespace keel::cuda
