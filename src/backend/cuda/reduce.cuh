#pragma once
// What reductions of the op table share: what they sum in, sums themselves, and how a kernel is listed.
#include <cmath>

#include "backend/cuda/math.cuh"
#include "backend/cuda/reduction.cuh"
#include "keel/ops/reduce.h"

namespace keel::cuda {

template <class T>
using Total = std::conditional_t<std::is_integral_v<T>, int64_t, Compute<T>>;
template <class Out, class A>
__device__ Out out_of(A a) {
  if constexpr (std::is_same_v<Out, half>)
    return __float2half_rn(float(a));
  else if constexpr (std::is_same_v<Out, bfloat>)
    return __float2bfloat16_rn(float(a));
  else
    return Out(a);
}

/// A choice that the compiler knows.
template <bool b>
struct Fixed {
  __device__ constexpr operator bool() const { return b; }
};
/// Whether the largest is wanted, or the smallest: of floats known to the compiler, which is quicker; of integers one kernel does both.
template <class T, bool largest>
using Wanted = std::conditional_t<std::is_integral_v<T>, bool, Fixed<largest>>;
template <class T, bool largest>
constexpr Wanted<T, largest> wanted() {
  if constexpr (std::is_integral_v<T>)
    return largest;
  else
    return {};
}

/// `mean`: the sum divided by the count.
template <class T, class O>
struct Sum {
  bool mean = false;
  using In = T;
  using Out = O;
  using A = Total<T>;
  __device__ A empty() const { return 0; }
  using Lane = A;
  __device__ A lane() const { return 0; }
  __device__ void take(A& a, T x, int64_t) const { a += A(widen(x)); }
  __device__ A done(A a) const { return a; }
  __device__ A combine(A a, A b) const { return a + b; }
  __device__ O finish(A a, int64_t n) const {
    if constexpr (std::is_floating_point_v<A>)
      if (mean) return out_of<O>(a / A(n));
    return out_of<O>(a);
  }
};
inline constexpr size_t kLargestPart = 32;

template <class P>
KernelDef& reduction(KernelDef& k, DTypeSet dtypes) {
  return k.dtypes(dtypes).inputs(Layout::strided).workspace([](const KernelArgs& a) {
    return reduction_workspace(a, a.get<P>().axis, kLargestPart);
  });
}

}  // namespace keel::cuda
