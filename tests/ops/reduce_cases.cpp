#include <cmath>

#include "ops/cases.h"

namespace {
using namespace keel;
using namespace keel::testing_cases;
constexpr DTypeSet kIntegers = set_of(i8, i32, i64, u8, u64);

/// Axes of every kind, for params that have `axis` and `keepdim`.
template <class P>
OpCase& axes(OpCase& o) {
  return o.sample(P{}, {normal({3, 4})})
      .sample(P{.axis = 1}, {normal({3, 4, 5})})
      .sample(P{.axis = {0, 2}, .keepdim = true}, {normal({3, 4, 5})})
      .sample(P{.axis = {-1, -3}}, {normal({2, 3, 4})})
      .sample(P{.axis = -1}, {normal({37, 129})}, false)
      .sample(P{.axis = 0}, {normal({129, 37})}, false)
      .sample(P{.axis = 0}, {normal({})})
      .sample(P{.axis = 1}, {normal({0, 3})})
      .error(P{.axis = 3}, {normal({2, 3})}, ErrorCode::index, "axis 3 is out of range [-2, 1]")
      .error(P{.axis = {0, 0}}, {normal({2, 3})}, ErrorCode::value, "twice");
}
}  // namespace

KEEL_CASES(reduce) {
  axes<MeanParams>(c.op("mean"))
      .torch("torch.mean(x, dim=axis, keepdim=keepdim)")
      .sample(MeanParams{}, {normal({0, 3})}, false)
      .tolerance(f32, 2e-6, 2e-6);
  c.op("mean")
      .only(set_of(f32))
      .sample(MeanParams{.axis = 0}, {integers({7, 3}, -9, 9)})
      .sample(MeanParams{}, {bools({9})})
      .sample(MeanParams{}, {special({16})}, false);
  for (const char* name : {"var", "stddev"})
    axes<VarParams>(c.op(name))
        .torch(std::string(name) == "var" ? "torch.var(x, dim=axis, keepdim=keepdim, correction=correction)"
                                          : "torch.std(x, dim=axis, keepdim=keepdim, correction=correction)")
        .sample(VarParams{.axis = 1, .correction = 1}, {normal({3, 4})})
        .sample(VarParams{.axis = 1}, {between({3, 40}, 1000, 1001)}, false)
        .sample(VarParams{}, {values({4}, {2})}, false)
        .sample(VarParams{.correction = 1}, {normal({1})}, false)
        .tolerance(f32, 4e-6, 2e-6)
        .tolerance(f64, 1e-11, 1e-12);
  axes<NormParams>(c.op("norm"))
      .torch("torch.linalg.vector_norm(x, ord=p, dim=axis, keepdim=keepdim)")
      .sample(NormParams{.p = 1, .axis = 0}, {normal({3, 4})})
      .sample(NormParams{.p = 3.5, .axis = 1, .keepdim = true}, {normal({3, 4})})
      .sample(NormParams{.p = HUGE_VAL, .axis = 1}, {normal({3, 4})})
      .sample(NormParams{}, {values({4}, {0})}, false)
      .sample(NormParams{}, {values({4}, {1e18, -1e18, 0, 1})}, false)
      .tolerance(f32, 4e-6, 2e-6)
      .error(NormParams{.p = 0}, {normal({3})}, ErrorCode::value, "p must be positive, got 0")
      .error(NormParams{.p = HUGE_VAL}, {normal({0})}, ErrorCode::value, "no largest element");
  axes<ReduceParams>(c.op("logsumexp"))
      .torch("torch.logsumexp(x, dim=axis, keepdim=keepdim)")
      .sample(ReduceParams{.axis = 1}, {values({3, 2}, {1000, 1000, -1000, -1000, 80, -80})})
      .sample(ReduceParams{.axis = 1}, {values({3, 2}, {-INFINITY, -INFINITY, INFINITY, 1, -INFINITY, 2})}, false)
      .sample(ReduceParams{}, {normal({0})}, false);
  for (const char* name : {"max", "min"}) {
    axes<ReduceParams>(c.op(name))
        .torch(std::string("torch.a") + name + "(x, dim=axis, keepdim=keepdim)")
        .sample(ReduceParams{.axis = 1}, {special({2, 16})}, false)
        .sample(ReduceParams{.axis = 1}, {values({2, 3}, {INFINITY, 1, -INFINITY, -INFINITY, -INFINITY, -INFINITY})}, false)
        .error(ReduceParams{}, {normal({0, 3})}, ErrorCode::value, "empty reduction")
        .error(ReduceParams{.axis = 0}, {normal({0, 3})}, ErrorCode::value, "shape [0, 3] over axes [0]");
    c.op(name)
        .only(kIntegers)
        .sample(ReduceParams{.axis = 1}, {integers({4, 5}, -9, 9, DType::none)})
        .sample(ReduceParams{}, {bools({4, 5})});
  }
  for (const char* name : {"any", "all"}) {
    axes<AllParams>(c.op(name))
        .torch(std::string("torch.") + name + "(x, dim=axis, keepdim=keepdim)")
        .no_gradient("gives bools")
        .sample(AllParams{.axis = 1}, {values({3, 2}, {0, 0, 0, NAN, 1, -0.0})}, false)
        .sample(AllParams{}, {normal({0, 3})}, false);
    c.op(name)
        .only(kIntegers)
        .sample(AllParams{.axis = 1}, {integers({9, 2}, 0, 2, DType::none)})
        .sample(AllParams{.axis = 0}, {bools({4, 5})});
  }
  for (const char* name : {"argmax", "argmin"}) {
    c.op(name)
        .torch(std::string("torch.") + name + "(x, dim=axis, keepdim=keepdim)")
        .sample(ArgParams{}, {normal({3, 4})})
        .sample(ArgParams{.axis = 1}, {normal({3, 4, 5})})
        .sample(ArgParams{.axis = -3, .keepdim = true}, {normal({3, 4, 5})})
        .sample(ArgParams{.keepdim = true}, {normal({3, 4})})
        .sample(ArgParams{.axis = 1}, {values({2, 4}, {1, 3, 3, 2, NAN, 9, NAN, 1})})
        .sample(ArgParams{}, {special({16})})
        .sample(ArgParams{}, {normal({})})
        .sample(ArgParams{.axis = 1}, {normal({0, 3})})
        .no_gradient("gives indices")
        .error(ArgParams{.axis = {0, 1}}, {normal({2, 3})}, ErrorCode::value, "takes one axis or none, got [0, 1]")
        .error(ArgParams{.axis = 2}, {normal({2, 3})}, ErrorCode::index, "axis 2 is out of range")
        .error(ArgParams{}, {normal({0})}, ErrorCode::value, "empty reduction");
    c.op(name).only(kIntegers).sample(ArgParams{.axis = 1}, {integers({4, 9}, -3, 3, DType::none)}).sample(ArgParams{}, {bools({7})});
  }
  axes<SumParams>(c.op("prod"))
      .torch("torch.prod(x)")
      .sample(SumParams{.axis = 1}, {values({3, 3}, {2, 0, 3, 0, 5, 0, 1, 2, 4})})
      .sample(SumParams{}, {normal({0, 3})})
      .tolerance(f32, 1e-5, 1e-6)
      .tolerance(f16, 6e-3, 1e-3)
      .tolerance(bf16, 4e-2, 8e-3);
  c.op("prod")
      .only(kIntegers)
      .sample(SumParams{.axis = 1}, {integers({4, 5}, -3, 4, DType::none)})
      .sample(SumParams{.dtype = f64}, {integers({5}, 1, 4, DType::none)})
      .sample(SumParams{}, {bools({3})});
  c.op("prod_backward")
      .sample(AxisParams{.axis = 1}, {normal({3, 1}), normal({3, 4})})
      .sample(AxisParams{.axis = {0, 2}}, {normal({1, 3, 1}), normal({2, 3, 2})})
      .sample(AxisParams{.axis = 1}, {normal({3, 1}), values({3, 3}, {2, 0, 3, 0, 5, 0, 1, 2, 4})}, false)
      .sample(AxisParams{}, {normal({1, 1}), normal({0, 3})})
      .tolerance(f32, 1e-5, 1e-6)
      .tolerance(f16, 6e-3, 1e-3)
      .tolerance(bf16, 4e-2, 8e-3);
  c.op("cumsum")
      .torch("torch.cumsum(x, dim=axis)")
      .sample(CumsumParams{.axis = 0}, {normal({3, 4})})
      .sample(CumsumParams{.axis = -1}, {normal({2, 3, 4})})
      .sample(CumsumParams{.axis = 1}, {normal({3, 0})})
      .sample(CumsumParams{}, {normal({})})
      .sample(CumsumParams{}, {special({16})}, false)
      .tolerance(f32, 4e-6, 4e-6)
      .tolerance(f16, 4e-3, 8e-3)
      .tolerance(bf16, 3e-2, 6e-2)
      .error(CumsumParams{.axis = 2}, {normal({2, 3})}, ErrorCode::index, "axis 2 is out of range");
  c.op("cumsum")
      .only(kIntegers)
      .sample(CumsumParams{.axis = 1}, {integers({4, 5}, -9, 9, DType::none)})
      .sample(CumsumParams{}, {bools({7})});
}
