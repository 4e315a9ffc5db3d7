#include "ops/cases.h"

using namespace keel;

KEEL_CASES(norm) {
  c.op("layer_norm")
      .torch("torch.nn.functional.layer_norm(x, x.shape[x.ndim - axes:], weight, bias, eps)")
      .sample(LayerNormParams{}, {normal({3, 5}), normal({5}), normal({5})})
      .sample(LayerNormParams{.eps = 1e-3}, {normal({2, 3, 4}), normal({4}), absent()})
      .sample(LayerNormParams{}, {normal({3, 5}), absent(), absent()})
      .sample(LayerNormParams{}, {normal({3, 5}), constant(normal({5})), normal({5})})
      .sample(LayerNormParams{}, {constant(normal({3, 5})), normal({5}), normal({5})})
      .sample(LayerNormParams{}, {constant(normal({3, 5})), constant(normal({5})), normal({5})})
      .sample(LayerNormParams{.axes = 2}, {normal({3, 2, 4}), normal({2, 4}), normal({2, 4})})
      .sample(LayerNormParams{}, {normal({6}), normal({6}), normal({6})})
      .sample(LayerNormParams{}, {between({3, 40}, 30, 31), absent(), absent()}, false)
      .sample(LayerNormParams{}, {values({2, 4}, {3}), normal({4}), normal({4})}, false)
      .sample(LayerNormParams{}, {normal({0, 5}), normal({5}), normal({5})})
      .sample(LayerNormParams{}, {normal({17, 515}), normal({515}), normal({515})}, false)
      .tolerance(f32, 1e-5, 1e-4)
      .tolerance(f16, 2e-3, 4e-3)
      .tolerance(bf16, 1.6e-2, 3e-2)
      .tolerance(f64, 1e-11, 1e-11)
      .error(LayerNormParams{}, {normal({3, 5}), normal({4}), absent()}, ErrorCode::shape,
             "weight must have shape [5] (the normalised axes), got [4]")
      .error(LayerNormParams{}, {normal({3, 5}), absent(), normal({1})}, ErrorCode::shape, "bias must have shape [5]")
      .error(LayerNormParams{.axes = 3}, {normal({3, 5}), absent(), absent()}, ErrorCode::shape, "3 trailing axes of a tensor of rank 2")
      .error(LayerNormParams{.axes = 0}, {normal({3, 5}), absent(), absent()}, ErrorCode::value, "axes must be at least 1");
  c.op("layer_norm_backward")
      .sample(NormBackwardParams{}, {normal({3, 5}), normal({3, 5}), normal({3, 1}), between({3, 1}, 0.5, 2), normal({5})})
      .sample(NormBackwardParams{.need_weight = false, .need_bias = false},
              {normal({3, 5}), normal({3, 5}), normal({3, 1}), between({3, 1}, 0.5, 2), absent()})
      .sample(NormBackwardParams{.need_x = false}, {normal({3, 5}), normal({3, 5}), normal({3, 1}), between({3, 1}, 0.5, 2), absent()})
      .sample(NormBackwardParams{.axes = 2},
              {normal({3, 2, 4}), normal({3, 2, 4}), normal({3, 1, 1}), between({3, 1, 1}, 0.5, 2), normal({2, 4})})
      .sample(NormBackwardParams{}, {normal({6}), normal({6}), normal({1}), between({1}, 0.5, 2), normal({6})})
      .sample(NormBackwardParams{}, {normal({33, 130}), normal({33, 130}), normal({33, 1}), between({33, 1}, 0.5, 2), normal({130})}, false)
      .tolerance(f32, 4e-6, 2e-5)
      .tolerance(f16, 4e-3, 3e-2)
      .tolerance(bf16, 3e-2, 0.2)
      .tolerance(f64, 1e-12, 1e-12)
      .error(NormBackwardParams{}, {normal({3, 4}), normal({3, 5}), normal({3, 1}), normal({3, 1}), absent()}, ErrorCode::shape,
             "g and x must have the same shape");
  c.op("rms_norm")
      .torch("torch.nn.functional.rms_norm(x, x.shape[x.ndim - axes:], weight, eps)")
      .sample(LayerNormParams{}, {normal({3, 5}), normal({5})})
      .sample(LayerNormParams{.eps = 1e-3}, {normal({2, 3, 4}), absent()})
      .sample(LayerNormParams{}, {normal({3, 5}), constant(normal({5}))})
      .sample(LayerNormParams{}, {constant(normal({3, 5})), normal({5})})
      .sample(LayerNormParams{.axes = 2}, {normal({3, 2, 4}), normal({2, 4})})
      .sample(LayerNormParams{}, {values({2, 4}, {0}), normal({4})}, false)
      .sample(LayerNormParams{}, {normal({0, 5}), normal({5})})
      .sample(LayerNormParams{}, {normal({17, 515}), normal({515})}, false)
      .tolerance(f32, 4e-6, 4e-6)
      .error(LayerNormParams{}, {normal({3, 5}), normal({4})}, ErrorCode::shape, "weight must have shape [5]");
  c.op("rms_norm_backward")
      .sample(NormBackwardParams{.need_bias = false}, {normal({3, 5}), normal({3, 5}), between({3, 1}, 0.5, 2), normal({5})})
      .sample(NormBackwardParams{.need_weight = false, .need_bias = false},
              {normal({3, 5}), normal({3, 5}), between({3, 1}, 0.5, 2), absent()})
      .sample(NormBackwardParams{.axes = 2, .need_x = false},
              {normal({3, 2, 4}), normal({3, 2, 4}), between({3, 1, 1}, 0.5, 2), normal({2, 4})})
      .sample(NormBackwardParams{}, {normal({33, 130}), normal({33, 130}), between({33, 1}, 0.5, 2), normal({130})}, false)
      .tolerance(f32, 4e-6, 2e-5)
      .tolerance(f16, 4e-3, 3e-2)
      .tolerance(bf16, 3e-2, 0.2)
      .tolerance(f64, 1e-12, 1e-12);
}

KEEL_CASES(batch_norm) {
  c.op("batch_norm")
      .torch("torch.nn.functional.batch_norm(x, None, None, weight, bias, True, 0.1, eps)")
      .sample(BatchNormParams{}, {normal({4, 3}), normal({3}), normal({3})})
      .sample(BatchNormParams{.eps = 1e-3}, {normal({2, 3, 2, 2}), normal({3}), absent()})
      .sample(BatchNormParams{}, {normal({3, 2, 3}), absent(), absent()})
      .sample(BatchNormParams{}, {normal({3, 2, 3}), constant(normal({2})), normal({2})})
      .sample(BatchNormParams{}, {constant(normal({3, 2, 3})), normal({2}), normal({2})})
      .sample(BatchNormParams{}, {constant(normal({3, 2, 3})), constant(normal({2})), normal({2})})
      .sample(BatchNormParams{}, {values({3, 2}, {1.5}), normal({2}), normal({2})}, false)
      .sample(BatchNormParams{}, {normal({4, 35, 9, 11}), normal({35}), normal({35})}, false)
      .tolerance(f32, 4e-6, 1e-5)
      .tolerance(f16, 2e-3, 4e-3)
      .tolerance(bf16, 1.6e-2, 3e-2)
      .tolerance(f64, 1e-11, 1e-11)
      .error(BatchNormParams{}, {normal({1, 3}), absent(), absent()}, ErrorCode::value, "needs more than one value a channel")
      .error(BatchNormParams{}, {normal({3}), absent(), absent()}, ErrorCode::shape, "x must have at least rank 2")
      .error(BatchNormParams{}, {normal({4, 3}), normal({4}), absent()}, ErrorCode::shape,
             "weight must have shape [3] (one a channel, axis 1 of x), got [4]");
  c.op("batch_norm_backward")
      .sample(BatchNormBackwardParams{}, {normal({4, 3}), normal({4, 3}), normal({3}), between({3}, 0.5, 2), normal({3})})
      .sample(BatchNormBackwardParams{.need_weight = false, .need_bias = false},
              {normal({2, 3, 2}), normal({2, 3, 2}), normal({3}), between({3}, 0.5, 2), absent()})
      .sample(BatchNormBackwardParams{.need_x = false}, {normal({2, 3, 2}), normal({2, 3, 2}), normal({3}), between({3}, 0.5, 2), absent()})
      .sample(BatchNormBackwardParams{},
              {normal({4, 35, 9, 11}), normal({4, 35, 9, 11}), normal({35}), between({35}, 0.5, 2), normal({35})}, false)
      .tolerance(f32, 4e-6, 6e-5)
      .tolerance(f16, 4e-3, 6e-2)
      .tolerance(bf16, 3e-2, 0.5)
      .tolerance(f64, 1e-12, 1e-12)
      .error(BatchNormBackwardParams{}, {normal({4, 3}), normal({4, 3}), normal({2}), normal({3}), absent()}, ErrorCode::shape,
             "mean must have shape [3]");
  c.op("batch_norm_eval")
      .torch("torch.nn.functional.batch_norm(x, mean, var, weight, bias, False, 0.1, eps)")
      .sample(BatchNormParams{}, {normal({4, 3}), normal({3}), between({3}, 0.5, 2), normal({3}), normal({3})})
      .sample(BatchNormParams{.eps = 1e-3}, {normal({2, 3, 2, 2}), normal({3}), between({3}, 0.5, 2), normal({3}), absent()})
      .sample(BatchNormParams{}, {normal({3, 2, 3}), constant(normal({2})), constant(between({2}, 0.5, 2)), absent(), absent()})
      .sample(BatchNormParams{}, {normal({0, 2, 3}), normal({2}), between({2}, 0.5, 2), absent(), absent()})
      .sample(BatchNormParams{}, {normal({4, 35, 9, 11}), normal({35}), between({35}, 0.5, 2), normal({35}), normal({35})}, false)
      .tolerance(f32, 4e-6, 4e-6)
      .tolerance(f16, 4e-3, 8e-3)
      .tolerance(bf16, 3e-2, 6e-2)
      .error(BatchNormParams{}, {normal({4, 3}), normal({4}), normal({3}), absent(), absent()}, ErrorCode::shape,
             "mean must have shape [3]");
  c.op("batch_norm_relu")
      .torch(
          "torch.relu(torch.nn.functional.batch_norm(x, None, None, weight, bias, True, 0.1, eps) + (0 if residual is None else residual))")
      .sample(BatchNormParams{}, {normal({4, 3}), normal({3}), normal({3}), normal({4, 3})})
      .sample(BatchNormParams{.eps = 1e-3}, {normal({2, 3, 2, 2}), normal({3}), absent(), absent()})
      .sample(BatchNormParams{}, {normal({3, 2, 3}), absent(), absent(), normal({3, 2, 3})})
      .sample(BatchNormParams{}, {normal({3, 2, 3}), constant(normal({2})), normal({2}), absent()})
      .sample(BatchNormParams{}, {constant(normal({3, 2, 3})), normal({2}), normal({2}), normal({3, 2, 3})})
      .sample(BatchNormParams{}, {constant(normal({3, 2, 3})), constant(normal({2})), constant(normal({2})), normal({3, 2, 3})})
      .sample(BatchNormParams{}, {values({3, 2}, {1.5}), normal({2}), normal({2}), absent()}, false)
      .sample(BatchNormParams{}, {normal({4, 35, 9, 11}), normal({35}), normal({35}), normal({4, 35, 9, 11})}, false)
      .sample(BatchNormParams{}, {normal({6, 16, 5, 7}), normal({16}), normal({16}), absent()}, false)
      .tolerance(f32, 4e-6, 1e-5)
      .tolerance(f16, 2e-3, 4e-3)
      .tolerance(bf16, 1.6e-2, 3e-2)
      .tolerance(f64, 1e-11, 1e-11)
      .error(BatchNormParams{}, {normal({1, 3}), absent(), absent(), absent()}, ErrorCode::value, "needs more than one value a channel")
      .error(BatchNormParams{}, {normal({4, 3}), absent(), absent(), normal({4, 1})}, ErrorCode::shape,
             "x and residual must have the same shape")
      .error(BatchNormParams{}, {normal({4, 3}), normal({4}), absent(), absent()}, ErrorCode::shape,
             "weight must have shape [3] (one a channel, axis 1 of x), got [4]");
  c.op("batch_norm_relu_backward")
      .sample(BatchNormReluBackwardParams{},
              {normal({4, 3}), normal({4, 3}), normal({3}), between({3}, 0.5, 2), normal({3}), normal({3}), normal({4, 3})})
      .sample(BatchNormReluBackwardParams{.need_residual = false},
              {normal({2, 3, 2}), normal({2, 3, 2}), normal({3}), between({3}, 0.5, 2), normal({3}), normal({3}), absent()})
      .sample(BatchNormReluBackwardParams{.need_weight = false, .need_bias = false},
              {normal({2, 3, 2}), normal({2, 3, 2}), normal({3}), between({3}, 0.5, 2), absent(), absent(), normal({2, 3, 2})})
      .sample(BatchNormReluBackwardParams{.need_x = false},
              {normal({2, 3, 2}), normal({2, 3, 2}), normal({3}), between({3}, 0.5, 2), absent(), normal({3}), absent()})
      .sample(BatchNormReluBackwardParams{},
              {normal({4, 35, 9, 11}), normal({4, 35, 9, 11}), normal({35}), between({35}, 0.5, 2), normal({35}), absent(),
               normal({4, 35, 9, 11})},
              false)
      .sample(BatchNormReluBackwardParams{.need_residual = false},
              {normal({6, 16, 5, 7}), normal({6, 16, 5, 7}), normal({16}), between({16}, 0.5, 2), normal({16}), normal({16}), absent()},
              false)
      .tolerance(f32, 4e-6, 6e-5)
      .tolerance(f16, 4e-3, 6e-2)
      .tolerance(bf16, 3e-2, 0.5)
      .tolerance(f64, 1e-12, 1e-12)
      .error(BatchNormReluBackwardParams{}, {normal({4, 3}), normal({4, 3}), normal({2}), normal({3}), absent(), absent(), normal({4, 3})},
             ErrorCode::shape, "mean must have shape [3]")
      .error(BatchNormReluBackwardParams{}, {normal({4, 3}), normal({4, 3}), normal({3}), normal({3}), absent(), absent(), normal({4, 4})},
             ErrorCode::shape, "y and x must have the same shape");
  c.op("batch_norm_relu_sum_backward")
      .sample(BatchNormReluBackwardParams{},
              {normal({4, 3}), normal({4, 3}), normal({3}), between({3}, 0.5, 2), normal({3}), absent(), normal({4, 3}), normal({4, 3})})
      .sample(BatchNormReluBackwardParams{.need_weight = false, .need_residual = false},
              {normal({2, 3, 2}), normal({2, 3, 2}), normal({3}), between({3}, 0.5, 2), absent(), normal({3}), absent(), normal({2, 3, 2})})
      .sample(BatchNormReluBackwardParams{},
              {normal({6, 16, 5, 7}), normal({6, 16, 5, 7}), normal({16}), between({16}, 0.5, 2), normal({16}), absent(),
               normal({6, 16, 5, 7}), normal({6, 16, 5, 7})},
              false)
      .tolerance(f32, 4e-6, 6e-5)
      .tolerance(f16, 4e-3, 6e-2)
      .tolerance(bf16, 3e-2, 0.5)
      .tolerance(f64, 1e-12, 1e-12)
      .error(BatchNormReluBackwardParams{},
             {normal({4, 3}), normal({4, 3}), normal({3}), normal({3}), absent(), absent(), normal({4, 3}), normal({4, 4})},
             ErrorCode::shape, "more and x must have the same shape");
  c.op("batch_norm_relu_eval")
      .torch(
          "torch.relu(torch.nn.functional.batch_norm(x, mean, var, weight, bias, False, 0.1, eps) + (0 if residual is None else residual))")
      .sample(BatchNormParams{}, {normal({4, 3}), normal({3}), between({3}, 0.5, 2), normal({3}), normal({3}), normal({4, 3})})
      .sample(BatchNormParams{.eps = 1e-3}, {normal({2, 3, 2, 2}), normal({3}), between({3}, 0.5, 2), normal({3}), absent(), absent()})
      .sample(BatchNormParams{}, {normal({0, 2, 3}), normal({2}), between({2}, 0.5, 2), absent(), absent(), normal({0, 2, 3})})
      .sample(BatchNormParams{}, {normal({4, 35, 9, 11}), normal({35}), between({35}, 0.5, 2), normal({35}), normal({35}), absent()}, false)
      .sample(BatchNormParams{},
              {normal({6, 16, 5, 7}), normal({16}), between({16}, 0.5, 2), normal({16}), normal({16}), normal({6, 16, 5, 7})}, false)
      .tolerance(f32, 4e-6, 4e-6)
      .tolerance(f16, 4e-3, 8e-3)
      .tolerance(bf16, 3e-2, 6e-2)
      .error(BatchNormParams{}, {normal({4, 3}), normal({4}), normal({3}), absent(), absent(), absent()}, ErrorCode::shape,
             "mean must have shape [3]")
      .error(BatchNormParams{}, {normal({4, 3}), normal({3}), normal({3}), absent(), absent(), normal({3})}, ErrorCode::shape,
             "x and residual must have the same shape");
  const Arg seen = values({}, {7}, i64);
  c.op("batch_norm_update")
      .only(set_of(f32, f64))
      .no_gradient("running statistics are not differentiated")
      .sample(BatchNormUpdateParams{.count = 8}, {normal({5}), between({5}, 0, 2), seen, normal({5}), between({5}, 0, 2)})
      .sample(BatchNormUpdateParams{.momentum = 0.5, .count = 2},
              {normal({300}), between({300}, 0, 2), seen, normal({300}), between({300}, 0, 2)})
      .sample(BatchNormUpdateParams{}, {normal({0}), normal({0}), seen, normal({0}), normal({0})})
      .error(BatchNormUpdateParams{.count = 1}, {normal({2}), normal({2}), seen, normal({2}), normal({2})}, ErrorCode::value,
             "count must be at least 2")
      .error(BatchNormUpdateParams{.momentum = 2}, {normal({2}), normal({2}), seen, normal({2}), normal({2})}, ErrorCode::value,
             "momentum must be between 0 and 1")
      .error(BatchNormUpdateParams{}, {normal({2}), normal({2}), seen, normal({3}), normal({2})}, ErrorCode::shape, "the statistics")
      .error(BatchNormUpdateParams{}, {normal({2}), normal({2}), values({1}, {7}, i64), normal({2}), normal({2})}, ErrorCode::shape,
             "batches must be i64[]");
}

KEEL_CASES(embedding) {
  c.op("embedding")
      .torch("torch.nn.functional.embedding(ids.long(), weight, None if padding_index < 0 else padding_index)")
      .sample(EmbeddingParams{}, {integers({2, 3}, 0, 5), normal({5, 4})})
      .sample(EmbeddingParams{}, {integers({7}, 0, 3, i32), normal({3, 2})})
      .sample(EmbeddingParams{}, {integers({}, 0, 3, u8), normal({3, 2})})
      .sample(EmbeddingParams{}, {integers({0}, 0, 3), normal({3, 2})})
      .sample(EmbeddingParams{.padding_index = 1}, {values({4}, {0, 1, 1, 2}, i64), normal({3, 2})}, false)
      .error(EmbeddingParams{}, {integers({3}, 5, 6), normal({5, 4})}, ErrorCode::index, "id 5 is out of range [0, 4]")
      .error(EmbeddingParams{}, {integers({3}, -1, 0), normal({5, 4})}, ErrorCode::index, "id -1 is out of range [0, 4]")
      .error(EmbeddingParams{}, {normal({3}), normal({5, 4})}, ErrorCode::dtype, "'ids' has dtype f32")
      .error(EmbeddingParams{}, {integers({3}, 0, 2), normal({5})}, ErrorCode::shape, "weight must have rank 2")
      .error(EmbeddingParams{.padding_index = 5}, {integers({3}, 0, 2), normal({5, 4})}, ErrorCode::value,
             "padding_index must be -1 or one of the 5 rows, got 5");
  c.op("embedding_backward")
      .sample(EmbeddingBackwardParams{.rows = 5}, {normal({2, 3, 4}), integers({2, 3}, 0, 5)})
      .sample(EmbeddingBackwardParams{.rows = 3, .padding_index = 1}, {normal({9, 4}), integers({9}, 0, 3, i32)})
      .sample(EmbeddingBackwardParams{.rows = 3}, {normal({0, 4}), integers({0}, 0, 3)})
      .sample(EmbeddingBackwardParams{.rows = 20}, {normal({200, 17}), integers({200}, 0, 20)}, false)
      .tolerance(f32, 4e-6, 4e-6)
      .tolerance(bf16, 1.6e-2, 3e-2)
      .error(EmbeddingBackwardParams{.rows = 2}, {normal({3, 4}), integers({3}, 2, 3)}, ErrorCode::index, "id 2 is out of range [0, 1]")
      .error(EmbeddingBackwardParams{.rows = 2}, {normal({3, 4}), integers({4}, 0, 2)}, ErrorCode::shape, "g must have the shape of ids");
}
