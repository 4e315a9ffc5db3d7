#include "ops/cases.h"

#include "keel/ops/index.h"

KEEL_CASES(index) {
  const DTypeSet floats = set_of(f32, f64, f16, bf16), copied = floats | set_of(i8, u16, i32, i64, u64);
  c.op("index_get")
      .only(copied)
      .torch("x[indices[0]] if len(indices) == 1 and axis == [0] else None")
      .sample(IndexParams{.axis = {0}}, {normal({5, 3}), integers({4}, -5, 5)})
      .sample(IndexParams{.axis = {1}}, {normal({3, 5}), integers({2, 3}, -5, 5)})
      .sample(IndexParams{.axis = {0, 1}}, {normal({5, 4, 3}), integers({3, 1}, 0, 5), integers({2}, -4, 4, i32)})
      .sample(IndexParams{.axis = {0, 2}}, {normal({5, 3, 4}), integers({6}, 0, 5), integers({6}, 0, 4)})
      .sample(IndexParams{.axis = {1, 2}}, {normal({2, 5, 4, 3}), integers({2, 2}, 0, 5), integers({2, 2}, 0, 4)})
      .sample(IndexParams{.axis = {-1}}, {normal({3, 5}), integers({}, 0, 5)})
      .sample(IndexParams{}, {normal({7}), integers({40}, -7, 7)})
      .sample(IndexParams{.axis = {0}}, {normal({5, 3}), integers({0}, 0, 5)})
      .sample(IndexParams{.axis = {0}}, {normal({5, 0}), integers({3}, 0, 5)})
      .sample(IndexParams{.axis = {1}}, {normal({40, 300}), integers({500}, 0, 300)}, false)
      .sample(IndexParams{.axis = {0}}, {special({15, 2}), integers({9}, 0, 15)}, false)
      .error(IndexParams{.axis = {0}}, {normal({5, 3}), values({3}, {0, 4, 5}, i64)}, ErrorCode::index,
             "index 5 is out of range [-5, 4] on axis 0")
      .error(IndexParams{.axis = {1}}, {normal({5, 3}), values({3}, {0, -4, 5}, i32)}, ErrorCode::index,
             "index -4 is out of range [-3, 2] on axis 1")
      .error(IndexParams{.axis = {0}}, {normal({0, 3}), values({1}, {0}, i64)}, ErrorCode::index, "there are no elements on axis 0")
      .error(IndexParams{.axis = {0}}, {normal({5, 3}), normal({2})}, ErrorCode::dtype, "supported: i32, i64")
      .error(IndexParams{.axis = {1, 0}}, {normal({5, 3}), integers({2}, 0, 2), integers({2}, 0, 2)}, ErrorCode::value, "ascending")
      .error(IndexParams{.axis = {0, 1}}, {normal({5, 3}), integers({2}, 0, 2), integers({3}, 0, 2)}, ErrorCode::shape, "do not broadcast")
      .error(IndexParams{.axis = {2}}, {normal({5, 3}), integers({2}, 0, 2)}, ErrorCode::index, "axis 2 is out of range [-2, 1]")
      .error(IndexParams{.axis = {0}}, {normal({5, 3}), integers({2}, 0, 2), integers({2}, 0, 2)}, ErrorCode::shape,
             "axis names 1 axes, there are 2");
  c.op("index_get_backward")
      .only(floats | set_of(i32, i64, DType::boolean))
      .sample(IndexBackwardParams{.shape = {5, 3}, .axis = {0}}, {normal({4, 3}), integers({4}, -5, 5)})
      .sample(IndexBackwardParams{.shape = {3, 5}, .axis = {1}}, {normal({3, 2, 3}), integers({2, 3}, -5, 5)})
      .sample(IndexBackwardParams{.shape = {5, 3, 4}, .axis = {0, 2}}, {normal({6, 3}), integers({6}, 0, 5), integers({6}, 0, 4)})
      .sample(IndexBackwardParams{.shape = {9}, .axis = {0}}, {normal({60}), integers({60}, 0, 9)})
      .sample(IndexBackwardParams{.shape = {6, 2}, .axis = {0}}, {normal({0, 2}), integers({0}, 0, 6)})
      .sample(IndexBackwardParams{.shape = {50, 200}, .axis = {0}}, {normal({300, 200}), integers({300}, 0, 50)}, false)
      .sample(IndexBackwardParams{.shape = {900}, .axis = {0}}, {normal({40000}), integers({40000}, 0, 900)}, false)
      .sample(IndexBackwardParams{.shape = {30, 40}, .axis = {1}}, {normal({30, 1000}), integers({1000}, 0, 40)}, false)
      .tolerance(f32, 1e-5, 5e-5)
      .tolerance(f64, 1e-12, 1e-11)
      .error(IndexBackwardParams{.shape = {5, 3}, .axis = {0}}, {normal({4, 2}), integers({4}, 0, 5)}, ErrorCode::shape,
             "axis -1 (2 vs 3)");
  c.op("index_put")
      .only(floats | set_of(i8, i32, i64))
      .sample(IndexPutParams{.axis = {0}}, {normal({5, 3}), normal({3, 3}), values({3}, {0, -1, 2}, i64)})
      .sample(IndexPutParams{.axis = {0}}, {normal({5, 3}), normal({3}), values({4}, {1, 1, 3, 1}, i64)})
      .sample(IndexPutParams{.axis = {0}}, {normal({5, 3}), normal({4, 1}), values({4}, {1, 1, 3, 1}, i64)})
      .sample(IndexPutParams{.axis = {0, 1}}, {normal({5, 4, 2}), normal({3, 2, 2}), integers({3, 1}, 0, 5), integers({2}, 0, 4)})
      .sample(IndexPutParams{.axis = {0, 2}}, {normal({5, 3, 4}), normal({}), integers({6}, 0, 5), integers({6}, 0, 4)})
      .sample(IndexPutParams{.axis = {1}}, {normal({2, 5}), normal({2, 4}), values({4}, {1, 1, -4, 1}, i64)})
      .sample(IndexPutParams{.axis = {0}, .accumulate = true}, {normal({5, 3}), normal({6, 3}), integers({6}, -5, 5)})
      .sample(IndexPutParams{.axis = {0}, .accumulate = true}, {normal({7}), normal({}), integers({30}, 0, 7)})
      .sample(IndexPutParams{.axis = {0, 2}, .accumulate = true},
              {normal({3, 2, 3}), normal({8, 1}), integers({8}, 0, 3), integers({8}, 0, 3)})
      .sample(IndexPutParams{.axis = {0}}, {normal({60, 200}), normal({300, 200}), integers({300}, 0, 60)}, false)
      .sample(IndexPutParams{.axis = {0}}, {normal({900}), normal({40000}), integers({40000}, 0, 900)}, false)
      .error(IndexPutParams{.axis = {0}}, {normal({5, 3}), normal({4}), integers({3}, 0, 5)}, ErrorCode::shape, "axis -1 (4 vs 3)")
      .error(IndexPutParams{.axis = {0}}, {normal({5, 3}), normal({2, 3, 3}), integers({3}, 0, 5)}, ErrorCode::shape,
             "does not fit into the indexed part, which has shape [3, 3]")
      .error(IndexPutParams{.axis = {0}}, {normal({5, 3}), normal({3}), values({3}, {0, 1, 9}, i64)}, ErrorCode::index,
             "index 9 is out of range [-5, 4] on axis 0");
  c.op("index_winners")
      .only(set_of(f32))
      .sample(IndexBackwardParams{.shape = {5, 3}, .axis = {0}}, {values({6}, {0, 1, -5, 4, 1, 3}, i64)})
      .sample(IndexBackwardParams{.shape = {3, 4}, .axis = {0, 1}}, {integers({5, 1}, 0, 3), integers({4}, -4, 4, i32)})
      .no_gradient("integers in, bools out");
  c.op("index_write")
      .only(set_of(f32, f16))
      .sample(IndexPutParams{.axis = {0}}, {normal({5, 3}), normal({3, 3}), values({3}, {0, -1, 2}, i64)})
      .error(IndexPutParams{.axis = {0}}, {normal({5, 3}), integers({3}, 0, 9), integers({3}, 0, 5)}, ErrorCode::dtype,
             "the value's dtype i64 differs from f32")
      .error(IndexPutParams{.axis = {0}}, {normal({5, 3}), normal({3}), values({3}, {0, 1, 9}, i64)}, ErrorCode::index, "index 9")
      .no_gradient("writes in place");

  c.op("gather")
      .only(copied)
      .torch("torch.gather(x, axis, index)")
      .sample(GatherParams{.axis = 0}, {normal({5, 3}), integers({4, 3}, -5, 5)})
      .sample(GatherParams{.axis = 1}, {normal({4, 5}), integers({3, 7}, 0, 5)})
      .sample(GatherParams{.axis = 1}, {normal({2, 5, 3}), integers({2, 4, 2}, -5, 5, i32)})
      .sample(GatherParams{.axis = -1}, {normal({6}), integers({9}, 0, 6)})
      .sample(GatherParams{.axis = 0}, {normal({}), integers({}, 0, 1)})
      .sample(GatherParams{.axis = 0}, {normal({5, 3}), integers({0, 3}, 0, 5)})
      .sample(GatherParams{.axis = 1}, {normal({300, 200}), integers({300, 150}, 0, 200)}, false)
      .error(GatherParams{.axis = 0}, {normal({5, 3}), integers({4, 4}, 0, 5)}, ErrorCode::shape, "axis 1 (4 vs 3)")
      .error(GatherParams{.axis = 0}, {normal({5, 3}), integers({4}, 0, 5)}, ErrorCode::shape, "index must have the rank of x")
      .error(GatherParams{.axis = 1}, {normal({5, 3}), values({1, 2}, {0, 3}, i64)}, ErrorCode::index,
             "index 3 is out of range [-3, 2] on axis 1")
      .error(GatherParams{.axis = 2}, {normal({5, 3}), integers({4, 3}, 0, 2)}, ErrorCode::index, "axis 2 is out of range [-2, 1]");
  c.op("gather_backward")
      .only(floats | set_of(i32))
      .sample(IndexBackwardParams{.shape = {5, 3}, .axis = {0}}, {normal({4, 3}), integers({4, 3}, -5, 5)})
      .sample(IndexBackwardParams{.shape = {4, 5}, .axis = {1}}, {normal({3, 7}), integers({3, 7}, 0, 5)})
      .sample(IndexBackwardParams{.shape = {2, 5, 3}, .axis = {1}}, {normal({2, 4, 2}), integers({2, 4, 2}, -5, 5)})
      .sample(IndexBackwardParams{.shape = {3000}, .axis = {0}}, {normal({40000}), integers({40000}, 0, 3000)}, false)
      .tolerance(f32, 1e-5, 2e-5)
      .error(IndexBackwardParams{.shape = {5, 3}, .axis = {0}}, {normal({4, 2}), integers({4, 3}, 0, 5)}, ErrorCode::shape,
             "g and index must have the same shape")
      .error(IndexBackwardParams{.shape = {5, 3}, .axis = {0, 1}}, {normal({4, 3}), integers({4, 3}, 0, 5)}, ErrorCode::shape, "one axis");
  c.op("index_select")
      .only(copied)
      .torch("torch.index_select(x, axis, index)")
      .sample(GatherParams{.axis = 0}, {normal({5, 3}), integers({4}, 0, 5)})
      .sample(GatherParams{.axis = -1}, {normal({2, 3, 5}), integers({7}, -5, 5, i32)})
      .error(GatherParams{.axis = 0}, {normal({5, 3}), integers({4, 1}, 0, 5)}, ErrorCode::shape, "index must have rank 1")
      .error(GatherParams{.axis = 0}, {normal({5, 3}), values({1}, {5}, i64)}, ErrorCode::index,
             "index 5 is out of range [-5, 4] on axis 0")
      .error(GatherParams{.axis = 0}, {normal({}), integers({4}, 0, 5)}, ErrorCode::shape, "at least rank 1");
  c.op("scatter_add")
      .only(floats | set_of(i32, i64))
      .torch("torch.scatter_add(x, axis, index, source)")
      .sample(GatherParams{.axis = 0}, {normal({5, 3}), integers({8, 3}, -5, 5), normal({8, 3})})
      .sample(GatherParams{.axis = 1}, {normal({4, 5}), integers({3, 7}, 0, 5), normal({3, 7})})
      .sample(GatherParams{.axis = 1}, {normal({2, 5, 3}), integers({2, 4, 2}, 0, 5, i32), normal({2, 4, 2})})
      .sample(GatherParams{.axis = 0}, {normal({}), integers({}, -1, 1), normal({})})
      .sample(GatherParams{.axis = 0}, {normal({6}), integers({0}, 0, 6), normal({0})})
      .sample(GatherParams{.axis = 0}, {normal({9, 200}), integers({300, 200}, 0, 9), normal({300, 200})}, false)
      .sample(GatherParams{.axis = 1}, {normal({2, 100, 5}), integers({2, 3000, 5}, 0, 100), normal({2, 3000, 5})}, false)
      .tolerance(f32, 1e-5, 5e-5)
      .tolerance(f64, 1e-12, 1e-11)
      .error(GatherParams{.axis = 0}, {normal({5, 3}), integers({8, 3}, 0, 5), normal({8, 2})}, ErrorCode::shape,
             "source and index must have the same shape")
      .error(GatherParams{.axis = 0}, {normal({5, 3}), values({1, 1}, {-6}, i64), normal({1, 1})}, ErrorCode::index,
             "index -6 is out of range [-5, 4] on axis 0");
  c.op("nonzero")
      .only(copied | set_of(DType::boolean, f8e4m3fn))
      .numpy("np.argwhere(x)")
      .sample({values({3, 4}, {0, 1, 0, -2, 0, 0, 3})})
      .sample({values({2, 3, 5}, {0, 0, 1})})
      .sample({values({70}, {1, 0, 0})})
      .sample({values({}, {1})})
      .sample({values({}, {0})})
      .sample({values({3, 0}, {0})})
      .sample({special({30})})
      .sample({values({300, 333}, {0, 1, 0, 0, 1, 1, 0})})
      .no_gradient("gives integers");
}
