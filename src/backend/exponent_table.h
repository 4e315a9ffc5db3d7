#pragma once
#include <cstdint>

#include "keel/dtype.h"

namespace keel {

/// The table of `exponent_counts`: columns, rows, and what stands beside it.
inline constexpr int64_t kExponentColumns = 11, kExponentExtras = 8;
constexpr int64_t exponent_rows(DType t) { return t == f64 ? 2100 : 279; }
/// The exponent of row 1.
constexpr int least_exponent(DType t) { return t == f64 ? -1074 : -149; }

/// Where casts to a format change what they do, for magnitudes m 2^e, 1 <= m < 2: beyond the largest value at e > top or at e = top from
/// column `over` on; to zero below 2^flush and just there; to a subnormal value below e = subnormal or there before column `normal`.
struct FormatBorders {
  DType dtype;
  int top, over, flush, subnormal, normal;
  double largest;
};
inline constexpr FormatBorders kFormatBorders[] = {
    {f8e4m3fn, 8, 3, -10, -7, 4, 448},         {f8e5m2, 15, 4, -17, -15, 2, 57344},           {f16, 15, 8, -25, -15, 7, 65504},
    {bf16, 127, 6, -134, -127, 5, 0x1.fep127}, {f32, 127, 10, -150, -127, 9, 0x1.fffffep127},
};
constexpr const FormatBorders* borders_of(DType t) {
  for (const FormatBorders& f : kFormatBorders)
    if (f.dtype == t) return &f;
  return nullptr;
}

}  // namespace keel
