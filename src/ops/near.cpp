// Comparison with tolerances and in units in the last place.
#include "keel/ops/near.h"

#include "keel/ops/reduce.h"
#include "ops/safe_common.h"

namespace keel {

numerics::Tolerance tolerances(DType t, numerics::Profile profile) { return tolerance_of(t, profile); }
numerics::Tolerance tolerances(DType a, DType b, numerics::Profile profile) {
  const numerics::Tolerance x = tolerance_of(a, profile), y = tolerance_of(b, profile);
  return {std::max(x.rel, y.rel), std::max(x.abs, y.abs)};
}

namespace {
constexpr DTypeSet kFloats = kinds::floating | kinds::fp8, kComparable = kinds::ordered | kinds::fp8;

void check_tolerances(const NearParams& p) { check_not_negative(p.rel_tol, "rel_tol"), check_not_negative(p.abs_tol, "abs_tol"); }
template <class P>
Def<P>& of_two(Def<P>& def, const char* doc) {
  return def.doc(doc).in("a", kComparable).in("b", kComparable).out("y").fallback(Fallback::ok);
}
/// The tolerances that the program did not give: the looser of two tensors' dtypes.
NearParams resolved(NearParams p, const Tensor& a, const Tensor& b) {
  if (!a.defined() || !b.defined() || (a.dtype() == b.dtype()) || impl(a).weak || impl(b).weak) return p;
  const numerics::Tolerance t = tolerances(a.dtype(), b.dtype());
  p.rel_tol = given_or(p.rel_tol, t.rel), p.abs_tol = given_or(p.abs_tol, t.abs);
  return p;
}
/// Scalar results of a comparison of all elements.
template <class P>
Def<P>& of_all(Def<P>& def, const char* doc, DType t) {
  of_two(def, doc);
  if (t == boolean) return def.infer([](auto& p, Specs in) { return check_tolerances(p), broadcast_all(in), Spec{boolean, Shape({})}; });
  if (t == i64) return def.infer([](auto& p, Specs in) { return check_tolerances(p), broadcast_all(in), Spec{i64, Shape({})}; });
  return def.infer([](auto& p, Specs in) { return check_tolerances(p), broadcast_all(in), Spec{f32, Shape({})}; });
}
template <class P>
Def<P>& ulp(Def<P>& def, const char* doc) {
  return def.doc(doc).in("x", kFloats).out("y").primitive().elementwise().no_oracle("counts in the codes of the operand's own dtype");
}
template <class P>
Def<P>& ulp_of_two(Def<P>& def, const char* doc) {
  return def.doc(doc)
      .in("a", kFloats)
      .in("b", kFloats)
      .out("y")
      .primitive()
      .elementwise()
      .no_oracle("counts in the codes of the operands' own dtype");
}
constexpr auto no_slope = [](auto&, const VjpArgs& a) -> Tensors { return {zeros_like(a.g[0])}; };
}  // namespace

KEEL_OP(near, NearParams) {
  of_two(def, "a == b, or both are finite and |a - b| <= max(rel_tol max(|a|, |b|), abs_tol).")
      .elementwise()
      .infer([](auto& p, Specs in) {
        check_tolerances(p);
        return Spec{boolean, broadcast_all(in)};
      })
      .decompose([](auto& p, Inputs in) {
        const numerics::Tolerance own = tolerance_of(in[0].dtype());
        const double rel = given_or(p.rel_tol, own.rel), least = given_or(p.abs_tol, own.abs);
        if (!is_floating(in[0].dtype()) && rel == 0 && least == 0) return equal(in[0], in[1]);
        const Tensor a = is_floating(in[0].dtype()) ? acc(in[0]) : cast(in[0], f64), b = cast(in[1], a.dtype());
        const Tensor distance = abs(sub(a, b)), tol = maximum(mul(maximum(abs(a), abs(b)), rel), least);
        const Tensor close = logical_or(equal(a, b), logical_and(less_equal(distance, tol), isfinite(distance)));
        return p.equal_nan ? logical_or(close, logical_and(isnan(a), isnan(b))) : close;
      });
}
KEEL_OP(all_near, NearParams) {
  of_all(def, "Whether all elements are near; true without any.", boolean).decompose([](auto& p, Inputs in) {
    return all(near(in[0], in[1], p));
  });
}
KEEL_OP(any_near, NearParams) {
  of_all(def, "Whether any elements are near.", boolean).decompose([](auto& p, Inputs in) { return any(near(in[0], in[1], p)); });
}
KEEL_OP(count_near, NearParams) {
  of_all(def, "How many elements are near.", i64).decompose([](auto& p, Inputs in) { return sum(cast(near(in[0], in[1], p), i64)); });
}
KEEL_OP(fraction_near, NearParams) {
  of_all(def, "The share of elements that are near; NaN without any.", f32).decompose([](auto& p, Inputs in) {
    const Tensor n = near(in[0], in[1], p);
    return cast(div(cast(sum(cast(n, i64)), f64), double(n.size())), f32);
  });
}
KEEL_OP(near_zero, NearZeroParams) {
  def.doc("|x| <= abs_tol; false for NaN and infinities.")
      .in("x", kFloats)
      .out("y")
      .promote(Promote::to_float)
      .elementwise()
      .infer([](auto& p, Specs in) {
        check_not_negative(p.abs_tol, "abs_tol");
        return Spec{boolean, in[0].shape};
      })
      .decompose([](auto& p, Inputs in) {
        const Tensor x = acc(in[0]);
        return logical_and(less_equal(abs(x), given_or(p.abs_tol, tolerance_of(in[0].dtype()).abs)), isfinite(x));
      });
}

KEEL_OP(ulp_of, NoParams) { ulp(def, "The distance to the next larger value.").infer(same_as_first).saves().vjp(no_slope); }
KEEL_OP(ulp_next, NoParams) {
  ulp(def, "The next larger value.").infer(same_as_first).saves().vjp([](auto&, const VjpArgs& a) -> Tensors { return {a.g[0]}; });
}
KEEL_OP(ulp_prev, NoParams) {
  ulp(def, "The next smaller value.").infer(same_as_first).saves().vjp([](auto&, const VjpArgs& a) -> Tensors { return {a.g[0]}; });
}
KEEL_OP(ulp_diff, NoParams) {
  ulp_of_two(def, "How many representable values lie from a to b; the largest i64 where one is NaN.").infer([](auto&, Specs in) {
    return Spec{i64, broadcast_all(in)};
  });
}
KEEL_OP(ulp_within, UlpWithinParams) {
  ulp_of_two(def, "a == b, or both are finite and at most max_ulps steps apart.").infer([](auto& p, Specs in) {
    check_value(p.max_ulps >= 0, "max_ulps", "not negative", double(p.max_ulps));
    return Spec{boolean, broadcast_all(in)};
  });
}

Tensor near(const Operand& a, const Operand& b, const NearParams& p) {
  return call(op_near, resolved(p, a.tensor(), b.tensor()), a.tensor(), b.tensor());
}
Tensor is_near(const Operand& a, const Operand& b, const NearParams& p) {
  return call(op_near, resolved(p, a.tensor(), b.tensor()), a.tensor(), b.tensor());
}
Tensor all_near(const Operand& a, const Operand& b, const NearParams& p) {
  return call(op_all_near, resolved(p, a.tensor(), b.tensor()), a.tensor(), b.tensor());
}
Tensor any_near(const Operand& a, const Operand& b, const NearParams& p) {
  return call(op_any_near, resolved(p, a.tensor(), b.tensor()), a.tensor(), b.tensor());
}
Tensor count_near(const Operand& a, const Operand& b, const NearParams& p) {
  return call(op_count_near, resolved(p, a.tensor(), b.tensor()), a.tensor(), b.tensor());
}
Tensor fraction_near(const Operand& a, const Operand& b, const NearParams& p) {
  return call(op_fraction_near, resolved(p, a.tensor(), b.tensor()), a.tensor(), b.tensor());
}
Tensor near_zero(const Tensor& x, const NearZeroParams& p) { return call(op_near_zero, p, x); }
Tensor ulp_of(const Tensor& x) { return call(op_ulp_of, NoParams{}, x); }
Tensor ulp_next(const Tensor& x) { return call(op_ulp_next, NoParams{}, x); }
Tensor ulp_prev(const Tensor& x) { return call(op_ulp_prev, NoParams{}, x); }
Tensor ulp_diff(const Tensor& a, const Tensor& b) { return call(op_ulp_diff, NoParams{}, a, b); }
Tensor ulp_within(const Tensor& a, const Tensor& b, const UlpWithinParams& p) { return call(op_ulp_within, p, a, b); }

}  // namespace keel
