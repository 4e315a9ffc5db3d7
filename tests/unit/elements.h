#pragma once
// Elements of memory in any floating type, as f64.
#include <cstdint>

#include "backend/cpu/gemm/gemm.h"
#include "keel/numerics/types.h"

namespace keel::cpu {

inline double get(Elem e, const void* p, int64_t i) {
  switch (e) {
    case Elem::f32: return static_cast<const float*>(p)[i];
    case Elem::f64: return static_cast<const double*>(p)[i];
    case Elem::bf16: return float(static_cast<const bfloat16*>(p)[i]);
    default: return float(static_cast<const float16*>(p)[i]);
  }
}
inline void put(Elem e, void* p, int64_t i, double v) {
  switch (e) {
    case Elem::f32: static_cast<float*>(p)[i] = float(v); break;
    case Elem::f64: static_cast<double*>(p)[i] = v; break;
    case Elem::bf16: static_cast<bfloat16*>(p)[i] = bfloat16(v); break;
    default: static_cast<float16*>(p)[i] = float16(v); break;
  }
}

}  // namespace keel::cpu
