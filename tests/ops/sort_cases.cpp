#include "ops/cases.h"

#include "keel/ops/sort.h"

KEEL_CASES(sort) {
  const DTypeSet all = set_of(f32, f64, f16, bf16, i8, u8, i16, u16, i32, u32, i64, u64, DType::boolean);
  c.op("sort")
      .only(all)
      .torch("torch.sort(x, dim=axis, descending=descending, stable=True)")
      .sample(SortParams{}, {normal({3, 7})})
      .sample(SortParams{.axis = 0, .descending = true}, {normal({6, 4})})
      .sample(SortParams{.axis = 1}, {normal({2, 5, 3})})
      .sample(SortParams{}, {integers({4, 50}, -5, 5, DType::none)}, false)
      .sample(SortParams{.descending = true}, {integers({4, 50}, -5, 5, DType::none)}, false)
      .sample(SortParams{}, {special({60})}, false)
      .sample(SortParams{.axis = 0, .descending = true}, {special({45, 2})}, false)
      .sample(SortParams{}, {normal({})})
      .sample(SortParams{}, {normal({1})})
      .sample(SortParams{}, {normal({3, 0})})
      .sample(SortParams{}, {between({2, 1500}, -100, 100)}, false)
      .sample(SortParams{.descending = true}, {integers({1200}, 0, 300, DType::none)}, false)
      .error(SortParams{.axis = 2}, {normal({2, 3})}, ErrorCode::index, "axis 2 is out of range [-2, 1]");
  c.op("topk")
      .only(all)
      .torch("torch.topk(x, k, dim=axis, largest=largest)")
      .sample(TopkParams{.k = 3}, {normal({3, 7})})
      .sample(TopkParams{.k = 2, .axis = 0, .largest = false}, {normal({6, 4})})
      .sample(TopkParams{.k = 0}, {normal({6, 4})})
      .sample(TopkParams{.k = 1}, {normal({})})
      .sample(TopkParams{.k = 7}, {normal({2, 7})})
      .sample(TopkParams{.k = 4}, {special({2, 150})}, false)
      .sample(TopkParams{.k = 5, .largest = false}, {special({300})}, false)
      .sample(TopkParams{.k = 3}, {integers({3, 400}, 0, 9, DType::none)}, false)
      .sample(TopkParams{.k = 10, .axis = 0}, {integers({700, 2}, -90, 90, DType::none)}, false)
      .error(TopkParams{.k = 4}, {normal({2, 3})}, ErrorCode::value, "k must be between 0 and the axis's extent 3, got 4")
      .error(TopkParams{.k = -1}, {normal({2, 3})}, ErrorCode::value, "got -1")
      .error(TopkParams{.k = 1, .axis = -3}, {normal({2, 3})}, ErrorCode::index, "axis -3");
}
