#pragma once
/// Scalar arithmetic that cannot surprise: compare, clamp, safe, ulp and inspect for double, float, float16, bfloat16 and both 8-bit
/// floats. Header-only, usable without the rest of Keel and without a library: this file and include/keel/numerics/ are all of it, and they
/// include the standard library only.
#include "keel/numerics/bits.h"
#include "keel/numerics/clamp.h"
#include "keel/numerics/compare.h"
#include "keel/numerics/error.h"
#include "keel/numerics/inspect.h"
#include "keel/numerics/safe.h"
#include "keel/numerics/tolerances.h"
#include "keel/numerics/types.h"
#include "keel/numerics/ulp.h"

#pragma push_macro("near")
#undef near
#pragma GCC visibility push(default)
/// The most used functions under short names.
namespace keel::numerics {

using clamp::to_int;
using clamp::to_range;
using clamp::to_zero;
using compare::is_integer;
using compare::is_near;
using compare::near;
using compare::near_zero;
using safe::div;
using safe::sqrt;
using safe::sum_exact;

/// `ulp::of`
template <Number T>
constexpr detail::Result<T> ulp_of(T x) {
  return ulp::of(x);
}
/// `ulp::diff`
template <Number A, Number B>
constexpr uint64_t ulp_diff(A a, B b) {
  return ulp::diff(a, b);
}
/// `ulp::within`
template <Number A, Number B>
constexpr bool ulp_within(A a, B b, const ulp::WithinOptions& p = {}) {
  return ulp::within(a, b, p);
}

}  // namespace keel::numerics
#pragma GCC visibility pop
#pragma pop_macro("near")
