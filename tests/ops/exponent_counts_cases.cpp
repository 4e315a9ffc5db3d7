#include "keel/ops/exponent_counts.h"

#include "ops/cases.h"

KEEL_CASES(exponent_counts) {
  c.op("exponent_counts")
      .no_gradient("counts are not differentiated")
      .sample(ExponentCountsParams{}, {normal({4, 100})})
      .sample(ExponentCountsParams{.round_up = true}, {normal({40, 33})})
      .sample(ExponentCountsParams{}, {special({300})})
      .sample(ExponentCountsParams{}, {normal({})})
      .sample(ExponentCountsParams{}, {normal({0, 3})})
      .sample(ExponentCountsParams{}, {normal({3, 1100})})
      .error(ExponentCountsParams{}, {integers({3}, 0, 5)}, ErrorCode::dtype, "'x' has dtype i64");
}
