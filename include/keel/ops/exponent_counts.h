#pragma once
#include "keel/op.h"

#pragma GCC visibility push(default)
namespace keel {

struct ExponentCountsParams {
  [[no_unique_address]] ByName by_name = ByName();
  bool round_up = false;
  static constexpr void fields(auto& p, auto&& f) {
    f("round_up", p.round_up, "give a block whose largest value would overflow the next larger scale");
  }
};
struct ExponentCounts {
  Tensor counts;  ///< i64[rows, 11]
  Tensor blocks;  ///< i64[8]
};

/// How often each exponent occurs among the values of a floating tensor, cut so finely that the table foretells exactly what a cast to f32,
/// f16, bf16, f8e4m3fn or f8e5m2 does, also after any scaling by a power of two; `analyze_precision` reads it.
///
/// `counts`: row 0 holds zeros (column 0), row r magnitudes m 2^e with 1 <= m < 2 and e = r - 150 (r - 1075 for f64), the last row
/// infinities (column 0) and NaN (column 1). The column says between which borders m lies, those where casts begin to round to infinity or to the
/// smallest normal value: 1, (1, 1.75), [1.75, 1.8125], (1.8125, 1.875), [1.875, 2 - 2^-7), and so on at 2 - 2^-8, -10, -11, -23, -24.
///
/// `blocks`: the largest and smallest finite magnitude that is not zero, as (r << 23 | fraction), << 52 for f64; then what MX casts do:
/// values that overflow, become zero, become subnormal in f8e4m3fn, and the same for f8e5m2. An MX block is up to 32 neighbours on the last
/// axis; they share the scale 2^(floor(log2(largest magnitude)) - largest exponent of the format), clamped to what E8M0 holds, 2^-127 to
/// 2^127. Infinities and NaN have no say in it. Source: OCP Microscaling Formats 1.0, section 6.3. With `round_up` the scale doubles where
/// the block's largest value would round beyond the format's.
ExponentCounts exponent_counts(const Tensor& x, const ExponentCountsParams& p = {});

}  // namespace keel
#pragma GCC visibility pop
