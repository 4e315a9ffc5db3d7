#pragma once
// The Highway targets that Keel compiles: on x86 the baseline, AVX2 and AVX-512 (F, BW, DQ, VL); elsewhere the best static target (NEON, WASM SIMD128).
// Include this before "hwy/foreach_target.h" in every file that is compiled once a target. Highway is used header-only: its own HWY_EXPORT and
// HWY_DYNAMIC_DISPATCH need libhwy, so a kernel is exported with KEEL_SIMD_EXPORT and called with KEEL_SIMD (below), which obey active_isa().
//
//   #include "backend/cpu/simd_targets.h"
//   #undef HWY_TARGET_INCLUDE
//   #define HWY_TARGET_INCLUDE "backend/cpu/softmax.simd.cpp"   // this file, as found through -I src
//   #include "hwy/foreach_target.h"
//   #include "hwy/highway.h"
//   HWY_BEFORE_NAMESPACE();
//   namespace keel::cpu::HWY_NAMESPACE { void rows(const float* x, ...) {...} }
//   HWY_AFTER_NAMESPACE();
//   #if HWY_ONCE
//   namespace keel::cpu { KEEL_SIMD_EXPORT(rows);  void softmax_rows(...) { KEEL_SIMD(rows)(x, ...); } }
//   #endif
#include "backend/cpu/isa.h"

#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4 | HWY_AVX3_DL | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_PPC8)
#ifndef HWY_IS_DEBUG_BUILD
#define HWY_IS_DEBUG_BUILD 0  // its debug checks call hwy::Abort, which lives in libhwy
#endif

/// Defines the table of one function's targets; use it under `#if HWY_ONCE`, in the namespace that encloses HWY_NAMESPACE.
#define KEEL_SIMD_EXPORT(fn)                                                                                                                          \
  static constexpr decltype(&HWY_STATIC_DISPATCH(fn)) fn##_simd_table[3] = {HWY_CHOOSE_FALLBACK(fn), ::keel::cpu::detail::first(HWY_CHOOSE_AVX2(fn), \
    &HWY_STATIC_DISPATCH(fn)), ::keel::cpu::detail::first(HWY_CHOOSE_AVX3(fn), &HWY_STATIC_DISPATCH(fn))}
/// The exported function for the active ISA: `KEEL_SIMD(rows)(x, n)`.
#define KEEL_SIMD(fn) (fn##_simd_table[::keel::cpu::simd_slot()])

namespace keel::cpu::detail {
template <class F>
constexpr F* first(F* f, F*) {
  return f;
}
template <class F>
constexpr F* first(decltype(nullptr), F* f) {
  return f;
}
}  // namespace keel::cpu::detail
