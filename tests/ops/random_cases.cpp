#include "ops/cases.h"

#include "keel/ops/random.h"

KEEL_CASES(random) {
  const Arg key = values({2}, {7, 3}, u64);
  c.op("uniform")
      .only(set_of(f32))
      .sample(UniformParams{.shape = {3, 5}}, {key})
      .sample(UniformParams{.shape = {5001}, .low = -2, .high = 3, .dtype = f64, .offset = 9}, {key})
      .sample(UniformParams{.shape = {70, 100}, .dtype = bf16}, {key})
      .sample(UniformParams{.shape = {0}, .dtype = f16}, {key})
      .sample(UniformParams{.shape = {3, 33}, .low = 5, .high = 6, .dtype = f16}, {key})
      .no_gradient("has no differentiable input")
      .error(UniformParams{.shape = {2}, .low = 1, .high = 1}, {key}, ErrorCode::value, "high must be above low, got 1")
      .error(UniformParams{.shape = {2}, .dtype = i32}, {key}, ErrorCode::dtype, "gives f16, bf16, f32 or f64, not i32")
      .error(UniformParams{.shape = {-2}}, {key}, ErrorCode::value, "negative")
      .error(UniformParams{.shape = {2}}, {values({3}, {1}, u64)}, ErrorCode::shape, "key must have shape [2]");
  c.op("normal")
      .only(set_of(f32))
      .sample(NormalParams{.shape = {3, 5}}, {key})
      .sample(NormalParams{.shape = {5001}, .mean = 3, .stddev = 2, .dtype = f64, .offset = 9}, {key})
      .sample(NormalParams{.shape = {70, 101}, .dtype = bf16}, {key})
      .sample(NormalParams{.shape = {}, .dtype = f16}, {key})
      .sample(NormalParams{.shape = {4097}}, {key})
      .no_gradient("has no differentiable input")
      .error(NormalParams{.shape = {2}, .stddev = -1}, {key}, ErrorCode::value, "stddev must be at least 0, got -1");
  c.op("randint")
      .only(set_of(f32))
      .sample(RandintParams{.shape = {3, 5}, .high = 10}, {key})
      .sample(RandintParams{.shape = {6001}, .low = -128, .high = 128, .dtype = i8}, {key})
      .sample(RandintParams{.shape = {99}, .low = INT64_MIN, .high = INT64_MAX}, {key})
      .sample(RandintParams{.shape = {9}, .low = 0, .high = 1, .dtype = u32}, {key})
      .no_gradient("gives integers")
      .error(RandintParams{.shape = {2}, .low = 3, .high = 3}, {key}, ErrorCode::value, "high must be above low, got [3, 3)")
      .error(RandintParams{.shape = {2}, .low = 0, .high = 300, .dtype = u8}, {key}, ErrorCode::value, "u8 does not hold all of [0, 300)")
      .error(RandintParams{.shape = {2}, .dtype = f32}, {key}, ErrorCode::dtype, "gives integers, not f32");
  c.op("permutation")
      .only(set_of(f32))
      .sample(PermutationParams{.n = 10}, {key})
      .sample(PermutationParams{.n = 100000, .dtype = i32}, {key})
      .sample(PermutationParams{.n = 0}, {key})
      .sample(PermutationParams{.n = 1}, {key})
      .no_gradient("gives integers")
      .error(PermutationParams{.n = -1}, {key}, ErrorCode::value, "n must be at least 0")
      .error(PermutationParams{.n = 3, .dtype = u8}, {key}, ErrorCode::dtype, "gives i64 or i32, not u8");
  c.op("bernoulli")
      .sample(BernoulliParams{}, {between({3, 50}, 0, 1), key})
      .sample(BernoulliParams{}, {values({5000}, {0, 1, 0.5}), key})
      .no_gradient("a step function")
      .error(BernoulliParams{}, {values({3}, {0.5, 1.5, 2}), key}, ErrorCode::value, "p must be between 0 and 1; element 1 is not");
  c.op("multinomial")
      .sample(MultinomialParams{.count = 5}, {between({3, 50}, 0, 1), key})
      .sample(MultinomialParams{.count = 70, .replacement = true}, {between({2, 9}, 0, 1), key})
      .sample(MultinomialParams{.count = 9}, {between({9}, 1, 2), key})
      .sample(MultinomialParams{.count = 3}, {between({3, 5001}, 0, 1), key})
      .sample(MultinomialParams{.count = 0}, {between({0}, 0, 1), key})
      .no_gradient("gives integers")
      .error(MultinomialParams{.count = 4}, {between({3}, 1, 2), key}, ErrorCode::value, "cannot draw 4 of 3 without replacement")
      .error(MultinomialParams{.count = 1}, {values({2, 2}, {1, 1, -1, 1}), key}, ErrorCode::value,
             "weights must be finite and at least 0; element 2 is not")
      .error(MultinomialParams{.count = 2}, {values({3}, {0, 1, 0}), key}, ErrorCode::value,
             "as many positive weights as indices are drawn, got 1")
      .error(MultinomialParams{.count = 1, .replacement = true}, {values({3}, {0}), key}, ErrorCode::value,
             "every row needs a positive weight, got 0")
      .error(MultinomialParams{.count = 1}, {between({2, 2, 2}, 0, 1), key}, ErrorCode::shape, "rank 1 or 2");
  c.op("dropout")
      .sample(DropoutParams{.p = 0.3}, {normal({3, 50}), key})
      .sample(DropoutParams{.p = 0.5, .offset = 12}, {normal({7001}), key}, false)
      .sample(DropoutParams{.p = 0}, {normal({9}), key})
      .sample(DropoutParams{.p = 1}, {special({30}), key}, false)
      .error(DropoutParams{.p = 1.5}, {normal({2}), key}, ErrorCode::value, "p must be between 0 and 1, got 1.5");
}
