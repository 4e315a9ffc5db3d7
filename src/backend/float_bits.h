#pragma once
#include <cstdint>

#include "keel/dtype.h"

namespace keel {

/// Bit patterns that bound the classes of a floating format. Patterns above `inf` are NaN; so is `inf` itself where the format has no
/// infinity.
struct FloatBits {
  uint64_t magnitude = 0, inf = 0, min_normal = 0;
  bool has_inf = true;
};
constexpr FloatBits float_bits(DType t) {
  switch (t) {
    case DType::f64:
    case DType::complex128: return {0x7fffffffffffffff, 0x7ff0000000000000, 0x0010000000000000};
    case DType::f32:
    case DType::complex64: return {0x7fffffff, 0x7f800000, 0x00800000};
    case DType::f16: return {0x7fff, 0x7c00, 0x0400};
    case DType::bf16: return {0x7fff, 0x7f80, 0x0080};
    case DType::f8e5m2: return {0x7f, 0x7c, 0x04};
    case DType::f8e4m3fn: return {0x7f, 0x7f, 0x08, false};
    default: return {};
  }
}

}  // namespace keel
