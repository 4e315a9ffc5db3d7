#include "ops/cases.h"

#include "keel/ops/combine.h"

KEEL_CASES(combine) {
  const DTypeSet copied = set_of(f32, f64, f16, bf16, i8, i64, DType::boolean);
  c.op("concat")
      .only(copied)
      .torch("torch.cat(xs, dim=axis)")
      .sample(ConcatParams{}, {normal({2, 3}), normal({4, 3}), normal({1, 3})})
      .sample(ConcatParams{.axis = 1}, {normal({2, 3}), normal({2, 0}), normal({2, 5})})
      .sample(ConcatParams{.axis = -2}, {normal({2, 1, 3}), normal({2, 2, 3})})
      .sample(ConcatParams{}, {normal({4})})
      .sample(ConcatParams{}, {normal({2}), normal({2}), normal({2}), normal({2}), normal({2}), normal({2}), normal({2}), normal({2}),
                               normal({2}), normal({2}), normal({2}), normal({2})})
      .sample(ConcatParams{.axis = 1}, {normal({130, 70}), normal({130, 133})}, false)
      .error(ConcatParams{}, {normal({2, 3}), normal({2, 4})}, ErrorCode::shape, "axis 1 of xs[1] (3 vs 4)")
      .error(ConcatParams{}, {normal({2, 3}), normal({3})}, ErrorCode::shape, "xs[1] has rank 1, xs[0] has rank 2")
      .error(ConcatParams{.axis = 2}, {normal({2, 3}), normal({2, 3})}, ErrorCode::index, "axis 2 is out of range [-2, 1]")
      .error(ConcatParams{}, {normal({}), normal({})}, ErrorCode::shape, "at least rank 1")
      .error(ConcatParams{}, {}, ErrorCode::value, "at least one tensor");
  c.op("stack")
      .only(copied)
      .torch("torch.stack(xs, dim=axis)")
      .sample(ConcatParams{}, {normal({2, 3}), normal({2, 3})})
      .sample(ConcatParams{.axis = -1}, {normal({2, 3}), normal({2, 3}), normal({2, 3})})
      .sample(ConcatParams{.axis = 1}, {normal({2, 3}), normal({2, 3})})
      .sample(ConcatParams{}, {normal({}), normal({})})
      .error(ConcatParams{}, {normal({2, 3}), normal({3, 2})}, ErrorCode::shape, "xs[1] has shape [3, 2], xs[0] has [2, 3]")
      .error(ConcatParams{.axis = 3}, {normal({2, 3}), normal({2, 3})}, ErrorCode::index, "axis 3 is out of range [-3, 2]");
  c.op("pad")
      .only(copied)
      .torch("pad(x, before, after, mode, value)")
      .sample(PadParams{.before = {1, 0}, .after = {2, 3}, .value = 1.5}, {normal({2, 3})})
      .sample(PadParams{.before = {0, 0, 0}, .after = {0, 0, 0}}, {normal({2, 1, 3})})
      .sample(PadParams{.before = {2, 1}, .after = {1, 2}, .mode = PadMode::reflect}, {normal({3, 4})})
      .sample(PadParams{.before = {2, 0, 1}, .after = {1, 3, 2}, .mode = PadMode::replicate}, {normal({3, 1, 4})})
      .sample(PadParams{.before = {0}, .after = {0}, .mode = PadMode::reflect}, {normal({1})})
      .sample(PadParams{.before = {3}, .after = {3}, .mode = PadMode::reflect}, {normal({4})})
      .sample(PadParams{.before = {2, 1}, .after = {1, 0}}, {normal({0, 3})})
      .sample(PadParams{.before = {}, .after = {}}, {normal({})})
      .sample(PadParams{.before = {0, 0, 1, 1}, .after = {0, 0, 1, 1}}, {normal({2, 3, 40, 50})}, false)
      .error(PadParams{.before = {1}, .after = {1, 1}}, {normal({2, 3})}, ErrorCode::shape, "must have one entry an axis, 2, got 1 and 2")
      .error(PadParams{.before = {-1, 0}, .after = {0, 0}}, {normal({2, 3})}, ErrorCode::value, "before must be at least 0, got -1")
      .error(PadParams{.before = {2, 3}, .after = {0, 0}, .mode = PadMode::reflect}, {normal({2, 3})}, ErrorCode::shape,
             "cannot reflect axis 0 of extent 2 by 2 and 0, axis 1 of extent 3 by 3 and 0")
      .error(PadParams{.before = {1}, .after = {0}, .mode = PadMode::replicate}, {normal({0})}, ErrorCode::shape, "no edge to repeat");
  c.op("repeat")
      .only(copied)
      .torch("x.repeat(repeats)")
      .sample(RepeatParams{.repeats = {2, 3}}, {normal({2, 3})})
      .sample(RepeatParams{.repeats = {2, 1, 2}}, {normal({3, 2})})
      .sample(RepeatParams{.repeats = {4}}, {normal({})})
      .sample(RepeatParams{.repeats = {1, 1}}, {normal({2, 3})})
      .sample(RepeatParams{.repeats = {0, 2}}, {normal({2, 3})})
      .error(RepeatParams{.repeats = {2}}, {normal({2, 3})}, ErrorCode::shape, "at least one entry an axis, 2, got 1")
      .error(RepeatParams{.repeats = {-1, 2}}, {normal({2, 3})}, ErrorCode::value, "repeats must be at least 0, got -1");
  c.op("split")
      .torch("torch.split(x, size, dim=axis)")
      .sample(SplitSizeParams{.size = 2}, {normal({5, 3})})
      .sample(SplitSizeParams{.size = 3, .axis = -1}, {normal({2, 6})})
      .sample(SplitSizeParams{.size = 9}, {normal({2})})
      .sample(SplitSizeParams{.size = 2}, {normal({0, 2})})
      .error(SplitSizeParams{.size = 0}, {normal({2})}, ErrorCode::value, "size must be positive, got 0")
      .error(SplitSizeParams{.size = 1, .axis = 1}, {normal({2})}, ErrorCode::index, "axis 1 is out of range [-1, 0]")
      .error(SplitSizeParams{.size = 1}, {normal({})}, ErrorCode::shape, "at least rank 1");
  c.op("chunk")
      .torch("torch.chunk(x, count, dim=axis)")
      .sample(ChunkParams{.count = 3}, {normal({7, 2})})
      .sample(ChunkParams{.count = 2, .axis = 1}, {normal({2, 6})})
      .sample(ChunkParams{.count = 5}, {normal({3})})
      .error(ChunkParams{.count = 0}, {normal({2})}, ErrorCode::value, "count must be positive, got 0");
}
