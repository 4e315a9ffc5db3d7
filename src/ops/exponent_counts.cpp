#include "keel/ops/exponent_counts.h"

#include "backend/exponent_table.h"
#include "ops/common.h"

namespace keel {

KEEL_OP(exponent_counts, ExponentCountsParams) {
  def.doc("How often each exponent occurs, cut at the borders where casts to narrower floats overflow, flush to zero or lose digits.")
      .in("x", kinds::floating | kinds::fp8)
      .out("counts")
      .out("blocks")
      .promote(Promote::none)
      .primitive()
      .no_oracle("counts depend on the dtype")
      .infer([](auto&, Specs in) -> SpecList {
        return {Spec{i64, Shape({exponent_rows(in[0].dtype), kExponentColumns})}, Spec{i64, Shape({kExponentExtras})}};
      });
}

ExponentCounts exponent_counts(const Tensor& x, const ExponentCountsParams& p) {
  Tensors t = call_all(op_exponent_counts, p, x);
  return {std::move(t[0]), std::move(t[1])};
}

}  // namespace keel
