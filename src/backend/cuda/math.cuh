#pragma once
// Mathematical functions under one name for both precisions; f32 ones are CUDA's own, with the errors of its mathematical functions table.
#include "backend/cuda/scalar.cuh"

namespace keel::cuda {

__device__ inline float exp_of(float x) { return expf(x); }
__device__ inline double exp_of(double x) { return exp(x); }
__device__ inline float expm1_of(float x) { return expm1f(x); }
__device__ inline double expm1_of(double x) { return expm1(x); }
__device__ inline float log_of(float x) { return logf(x); }
__device__ inline double log_of(double x) { return log(x); }
__device__ inline float log1p_of(float x) { return log1pf(x); }
__device__ inline double log1p_of(double x) { return log1p(x); }
__device__ inline float tanh_of(float x) { return tanhf(x); }
__device__ inline double tanh_of(double x) { return tanh(x); }
__device__ inline float erf_of(float x) { return erff(x); }
__device__ inline double erf_of(double x) { return erf(x); }
__device__ inline float pow_of(float x, float y) { return powf(x, y); }
__device__ inline double pow_of(double x, double y) { return pow(x, y); }
__device__ inline float root_of(float x) { return __fsqrt_rn(x); }
__device__ inline double root_of(double x) { return sqrt(x); }
__device__ inline float quotient(float a, float b) { return __fdiv_rn(a, b); }
__device__ inline double quotient(double a, double b) { return a / b; }
/// The same by the inverse of b, for b from 1 on of no more than 2^100: rounded as by a division, but that results below the normal numbers
/// may be a bit off in their last place.
__device__ inline float quotient(float a, float b, float inverse) {
  const float q = a * inverse;
  return __fmaf_rn(__fmaf_rn(-q, b, a), inverse, q);
}
__device__ inline double quotient(double a, double b, double inverse) {
  const double q = a * inverse;
  return __fma_rn(__fma_rn(-q, b, a), inverse, q);
}

}  // namespace keel::cuda
