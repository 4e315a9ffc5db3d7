#include "ops/cases.h"

KEEL_CASES(view) {
  c.op("reshape")
      .sample(ShapeParams{.shape = {4, -1}}, {normal({2, 6})})
      .sample(ShapeParams{.shape = {}}, {normal({1, 1})})
      .sample(ShapeParams{.shape = {0, 5}}, {normal({5, 0})})
      .error(ShapeParams{.shape = {5}}, {normal({2, 3})}, ErrorCode::shape, "has 5 elements, the tensor has 6")
      .error(ShapeParams{.shape = {-1, -1}}, {normal({2, 3})}, ErrorCode::value, "only one extent")
      .error(ShapeParams{.shape = {4, -1}}, {normal({2, 3})}, ErrorCode::shape, "do not divide");
  c.op("permute").sample(PermuteParams{.order = {2, 0, 1}}, {normal({2, 3, 4})}).sample(PermuteParams{.order = {-1, 0}}, {normal({2, 3})})
      .error(PermuteParams{.order = {0, 0}}, {normal({2, 3})}, ErrorCode::value, "twice")
      .error(PermuteParams{.order = {0}}, {normal({2, 3})}, ErrorCode::shape, "must name each");
  c.op("expand").sample(ShapeParams{.shape = {3, -1, 4}}, {normal({2, 1})}).sample(ShapeParams{.shape = {2, 3}}, {normal({})})
      .error(ShapeParams{.shape = {4}}, {normal({3})}, ErrorCode::shape, "cannot become 4");
  c.op("slice_view")
      .sample(SliceParams{.start = {1, 3}, .stop = {4, -1}, .step = {2, -1}}, {normal({5, 4})})
      .sample(SliceParams{.start = {0}, .stop = {0}, .step = {1}}, {normal({3})})
      .error(SliceParams{.start = {0}, .stop = {9}, .step = {1}}, {normal({3})}, ErrorCode::index, "leaves axis 0");
  c.op("slice_backward").sample(SliceBackwardParams{.shape = {5, 4}, .start = {1, 3}, .stop = {4, -1}, .step = {2, -1}}, {normal({2, 4})});
  c.op("cast")
      .sample(CastParams{.to = f32}, {normal({3, 4})})
      .sample(CastParams{.to = f64}, {normal({3, 4})})
      .sample(CastParams{.to = i32}, {between({3, 4}, -99, 99)}, false)
      .sample(CastParams{.to = f16}, {normal({40})}, false)
      .sample(CastParams{.to = bf16}, {normal({40})}, false)
      .sample(CastParams{.to = DType::boolean}, {normal({5})}, false)
      .tolerance(f64, 1e-2, 1e-2)
      .tolerance(f32, 1e-2, 1e-2);
  c.op("copy").sample({normal({3, 4})}).sample({special({16})}, false);
  c.op("transfer").sample(TransferParams{}, {normal({2, 3})}).sample(TransferParams{}, {normal({0, 4})});
  c.op("relayout")
      .sample(RelayoutParams{.order = MemoryOrder::channels_last}, {normal({2, 3, 4, 5})})
      .sample(RelayoutParams{}, {normal({2, 3})})
      .error(RelayoutParams{.order = MemoryOrder::channels_last}, {normal({2, 3})}, ErrorCode::shape, "rank 4");
  c.op("assign").sample({normal({3, 4}), normal({4})}).no_gradient("in-place rules are tested in autograd_test");
  c.op("full").sample(FullParams{.shape = {2, 3}, .value = 1.5, .dtype = f32}, {});
  c.op("arange")
      .sample(ArangeParams{.start = 0, .stop = 10, .step = 3}, {})
      .error(ArangeParams{.stop = 4, .step = 0}, {}, ErrorCode::value, "step");
  c.op("linspace").sample(LinspaceParams{.start = 0, .stop = 1, .count = 5}, {});
  c.op("eye").sample(EyeParams{.rows = 3}, {}).sample(EyeParams{.rows = 2, .columns = 4}, {});
}
