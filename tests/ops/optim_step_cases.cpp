#include "keel/ops/optim_step.h"

#include <cmath>

#include "ops/cases.h"

KEEL_CASES(optim_step) {
  const char* why = "steps of optimisers are not differentiated";
  const Arg x = normal({5, 7}), y = normal({300}), square_x = between({5, 7}, 0, 2), square_y = between({300}, 0, 2),
            empty = normal({0, 3}), step = values({}, {3}, f64), first = values({}, {0}, f64);
  const Arg goes = values({}, {0}, f32), stays = values({}, {1}, f32);
  const Arg sgd = values({4}, {0.1, 0.9, 0.2, 0.01}, f64), adam = values({5}, {0.01, 0.9, 0.99, 1e-6, 0.1}, f64),
            rms = values({5}, {0.01, 0.9, 1e-6, 0.1, 0.5}, f64);
  const auto fixed = [](Arg a, DType t) { return a.dtype = t, a; };
  const Arg low = fixed(x, bf16), half = fixed(y, f16), wide = fixed(x, f32), wide_y = fixed(y, f32), square = fixed(square_x, f32);
  c.op("sgd_step").only(set_of(f32, f64)).no_gradient(why)
      .sample(SgdStepParams{}, {sgd, absent(), x, x})
      .sample(SgdStepParams{.maximize = true}, {sgd, absent(), x, empty, x, empty})
      .sample(SgdStepParams{.momentum = true}, {sgd, absent(), x, y, x, y, x, y, first, step})
      .sample(SgdStepParams{.momentum = true, .nesterov = true}, {sgd, absent(), x, x, x, step})
      .sample(SgdStepParams{}, {sgd, goes, x, x})
      .sample(SgdStepParams{.momentum = true}, {sgd, stays, x, y, x, y, x, y, first, step})
      .sample(SgdStepParams{.master = true}, {sgd, absent(), low, half, low, half, wide, wide_y})
      .sample(SgdStepParams{.momentum = true, .master = true}, {sgd, absent(), low, low, wide, wide, step})
      .error(SgdStepParams{.master = true}, {sgd, absent(), wide, wide, wide}, ErrorCode::dtype, "parameter 0 is f32[5, 7]")
      .error(SgdStepParams{}, {sgd, values({1}, {0}, f32), x, x}, ErrorCode::shape, "skip must be f32[]")
      .error(SgdStepParams{.momentum = true}, {sgd, absent(), x, x}, ErrorCode::shape, "4 lists of equal length, got 2 tensors")
      .error(SgdStepParams{}, {sgd, absent(), x, y}, ErrorCode::shape, "list 1 has f32[300] where parameter 0 calls for f32[5, 7]")
      .error(SgdStepParams{}, {adam, absent(), x, x}, ErrorCode::shape, "hyper must be f64[4]");
  c.op("adam_step")
      .only(set_of(f32, f64))
      .no_gradient(why)
      .sample(AdamStepParams{}, {adam, absent(), x, y, x, y, x, y, square_x, square_y, step, first})
      .sample(AdamStepParams{.amsgrad = true, .maximize = true}, {adam, absent(), x, x, x, square_x, square_x, step})
      .sample(AdamStepParams{.decoupled = true}, {adam, absent(), x, x, x, square_x, step})
      .sample(AdamStepParams{}, {adam, stays, x, x, x, square_x, step})
      .sample(AdamStepParams{.amsgrad = true}, {adam, goes, x, x, x, square_x, square_x, step})
      .sample(AdamStepParams{.decoupled = true, .master = true}, {adam, goes, low, low, wide, square, wide, step})
      .sample(AdamStepParams{.amsgrad = true, .master = true},
              {adam, absent(), half, half, wide_y, fixed(square_y, f32), fixed(square_y, f32), wide_y, step})
      .error(AdamStepParams{}, {adam, absent(), x, x, x, x, values({}, {1}, f32)}, ErrorCode::shape, "calls for f64[]");
  c.op("rmsprop_step")
      .only(set_of(f32, f64))
      .no_gradient(why)
      .sample(RmspropStepParams{}, {rms, absent(), x, y, x, y, square_x, square_y, step, first})
      .sample(RmspropStepParams{.momentum = true}, {rms, absent(), x, x, square_x, x, step})
      .sample(RmspropStepParams{.centered = true}, {rms, absent(), x, x, between({5, 7}, 3, 4), between({5, 7}, -1, 1), step})
      .sample(RmspropStepParams{.centered = true, .momentum = true},
              {rms, absent(), x, x, between({5, 7}, 3, 4), between({5, 7}, -1, 1), x, step})
      .sample(RmspropStepParams{}, {rms, stays, x, x, square_x, step})
      .sample(RmspropStepParams{.momentum = true, .master = true}, {rms, absent(), low, low, square, wide, wide, step})
      .error(RmspropStepParams{}, {sgd, absent(), x, x, x, step}, ErrorCode::shape, "hyper must be f64[5]");
  c.op("ema_step").only(set_of(f32, f64)).no_gradient(why)
      .sample(NoParams{}, {values({1}, {0.9}, f64), x, y, x, y})
      .sample(NoParams{}, {values({1}, {0.2}, f64), x, x})
      .error(NoParams{}, {values({1}, {0.9}, f64), x, y}, ErrorCode::shape, "average 0 is f32[5, 7]");
  c.op("clip_norm").no_gradient(why)
      .tolerance(f16, 2e-3, 1e-2)
      .sample(ClipNormParams{}, {values({}, {1e9}, f64), x, y})
      .sample(ClipNormParams{}, {values({}, {0.5}, f64), x, y, empty})
      .sample(ClipNormParams{.p = 1}, {values({}, {0.5}, f64), x})
      .sample(ClipNormParams{.p = INFINITY}, {values({}, {0.5}, f64), y})
      .sample(ClipNormParams{.p = 3}, {values({}, {0.5}, f64), y})
      .error(ClipNormParams{.p = 0}, {values({}, {1}, f64), x}, ErrorCode::value, "p must be positive")
      .error(ClipNormParams{}, {values({1}, {1}, f64), x}, ErrorCode::shape, "limit must be f64[]");
  c.op("unscale")
      .no_gradient(why)
      .sample(NoParams{}, {values({}, {0.125}, f64), x, y, empty})
      .sample(NoParams{}, {values({}, {1}, f64), x})
      .sample(NoParams{}, {values({}, {0.25}, f64), x, values({3}, {1, INFINITY, 2}), y})
      .sample(NoParams{}, {values({}, {0.25}, f64), values({2}, {NAN, 2})})
      .error(NoParams{}, {values({1}, {1}, f64), x}, ErrorCode::shape, "inverse must be f64[]");
  const auto scale = [](double v) { return values({}, {v}, f32); };
  const auto tracker = [](double v) { return values({}, {v}, i64); };
  c.op("update_scale")
      .only(set_of(f32))
      .no_gradient(why)
      .sample(UpdateScaleParams{.growth_interval = 3}, {scale(1024), tracker(1), goes})
      .sample(UpdateScaleParams{.growth_interval = 3}, {scale(1024), tracker(2), goes, goes})
      .sample(UpdateScaleParams{.growth_factor = 1.7, .growth_interval = 1}, {scale(3e38), tracker(0), goes})
      .sample(UpdateScaleParams{.backoff_factor = 0.3}, {scale(3e38), tracker(7), goes, stays})
      .error(UpdateScaleParams{.growth_factor = 1}, {scale(8), tracker(0), goes}, ErrorCode::value, "growth_factor must be above 1")
      .error(UpdateScaleParams{}, {scale(8), scale(0), goes}, ErrorCode::dtype, "tracker")
      .error(UpdateScaleParams{}, {scale(8), tracker(0), values({1}, {0}, f32)}, ErrorCode::shape, "found must be f32[]");
}
