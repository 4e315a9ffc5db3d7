#include "keel/ops/attention.h"

#include "ops/cases.h"

namespace {
using namespace keel;
using namespace keel::testing_cases;
using P = AttentionParams;
}  // namespace

KEEL_CASES(attention) {
  c.op("attention")
      .torch("torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal, scale=scale if scale else None)")
      .sample(P{}, {normal({2, 2, 3, 4}), normal({2, 2, 5, 4}), normal({2, 2, 5, 3}), absent()})
      .sample(P{.causal = true}, {normal({1, 2, 4, 3}), normal({1, 2, 4, 3}), normal({1, 2, 4, 3}), absent()})
      .sample(P{.causal = true, .scale = 0.7}, {normal({1, 1, 2, 3}), normal({1, 1, 5, 3}), normal({1, 1, 5, 3}), absent()})
      .sample(P{.causal = true},
              {normal({1, 1, 5, 3}), normal({1, 1, 3, 3}), normal({1, 1, 3, 3}), absent()})  // the first rows see nothing
      .sample(P{}, {normal({1, 4, 3, 2}), normal({1, 2, 4, 2}), normal({1, 2, 4, 2}), absent()})
      .sample(P{}, {normal({2, 1, 3, 2}), normal({2, 1, 4, 2}), normal({2, 1, 4, 2}), bools({3, 4})})
      .sample(P{.causal = true}, {normal({2, 2, 3, 2}), normal({2, 2, 3, 2}), normal({2, 2, 3, 2}), bools({2, 1, 1, 3})})
      .sample(P{.scale = 0.3}, {normal({2, 2, 3, 2}), normal({2, 2, 4, 2}), normal({2, 2, 4, 2}), normal({2, 1, 4})})
      .sample(P{}, {normal({1, 1, 3, 2}), normal({1, 1, 0, 2}), normal({1, 1, 0, 2}), absent()})
      .sample(P{}, {normal({0, 1, 3, 2}), normal({0, 1, 2, 2}), normal({0, 1, 2, 2}), absent()})
      .sample(P{.causal = true}, {normal({2, 2, 70, 32}), normal({2, 2, 70, 32}), normal({2, 2, 70, 32}), absent()}, false)
      // Grouped heads whose few queries share a tile; queries and keys that begin a second tile; odd widths; masks that broadcast.
      .sample(P{.causal = true}, {normal({1, 4, 2, 3}), normal({1, 2, 5, 3}), normal({1, 2, 5, 2}), absent()})
      .sample(P{}, {normal({2, 6, 1, 5}), normal({2, 2, 3, 5}), normal({2, 2, 3, 4}), bools({2, 6, 1, 3})})
      .sample(P{}, {normal({1, 2, 2, 3}), normal({1, 1, 3, 3}), normal({1, 1, 3, 1}), normal({2, 1, 3})})
      .sample(P{}, {normal({1, 2, 0, 3}), normal({1, 2, 2, 3}), normal({1, 2, 2, 3}), absent()})
      .sample(P{},
              {normal({1, 1, 2, 3}), normal({1, 1, 2, 3}), normal({1, 1, 2, 3}), values({2, 2}, {0, 0, 1, 0}, boolean)})  // sees nothing
      .sample(P{}, {normal({2, 8, 1, 40}), normal({2, 2, 130, 40}), normal({2, 2, 130, 33}), absent()}, false)
      .sample(P{.causal = true}, {normal({1, 2, 129, 7}), normal({1, 1, 129, 7}), normal({1, 1, 129, 65}), absent()}, false)
      .sample(P{.causal = true}, {normal({1, 2, 66, 16}), normal({1, 2, 195, 16}), normal({1, 2, 195, 16}), absent()}, false)
      .sample(P{.causal = true}, {normal({1, 1, 150, 8}), normal({1, 1, 67, 8}), normal({1, 1, 67, 8}), absent()}, false)
      .sample(P{}, {normal({2, 2, 65, 9}), normal({2, 1, 100, 9}), normal({2, 1, 100, 9}), bools({65, 100})}, false)
      .sample(P{.causal = true}, {normal({1, 4, 20, 9}), normal({1, 2, 70, 9}), normal({1, 2, 70, 9}), normal({4, 1, 70})}, false)
      .sample(P{}, {normal({1, 2, 5, 20}), normal({1, 1, 300, 20}), normal({1, 1, 300, 17}), absent()}, false)
      // Widths that tensor cores take.
      .sample(P{.causal = true}, {normal({1, 4, 72, 64}), normal({1, 2, 72, 64}), normal({1, 2, 72, 64}), absent()}, false)
      .sample(P{}, {normal({1, 1, 33, 128}), normal({1, 1, 80, 128}), normal({1, 1, 80, 64}), absent()}, false)
      .tolerance(f32, 1e-5, 1e-5)
      .error(P{}, {normal({2, 2, 3, 4}), normal({2, 2, 5, 3}), normal({2, 2, 5, 3}), absent()}, ErrorCode::shape,
             "q has head width 4, k has 3")
      .error(P{}, {normal({2, 3, 3, 4}), normal({2, 2, 5, 4}), normal({2, 2, 5, 4}), absent()}, ErrorCode::shape,
             "3 heads, which do not divide among 2")
      .error(P{}, {normal({2, 2, 3, 4}), normal({2, 2, 5, 4}), normal({2, 2, 6, 4}), absent()}, ErrorCode::shape,
             "k has 5 positions, v has 6")
      .error(P{}, {normal({2, 3, 4}), normal({2, 5, 4}), normal({2, 5, 4}), absent()}, ErrorCode::shape, "q")
      .error(P{}, {normal({2, 2, 3, 4}), normal({2, 2, 5, 4}), normal({2, 2, 5, 4}), bools({4, 5})}, ErrorCode::shape,
             "does not broadcast to [b, h, t, s] = [2, 2, 3, 5]");
  // y and lse of a real call, which the kernel trusts, come from the forward pass; here they are what the first sample's inputs give only
  // by chance, so the gradient is judged through attention itself.
  c.op("attention_backward").no_gradient("judged through attention, whose y and lse it needs");
}
