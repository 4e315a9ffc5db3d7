// pow, maximum, minimum, floor_divide, remainder.
#include "ops/common.h"

namespace keel {
namespace {
template <class P>
Def<P>& binary(Def<P>& def, const char* doc, DTypeSet k) {
  return def.doc(doc).in("a", k).in("b", k).out("y").primitive().elementwise().infer(broadcast_same);
}

/// d(a^b)/da = b a^(b-1). Where b and a are both 0, a^(b-1) would be infinite and the product NaN, though the slope is 0.
Tensor pow_slope(const Tensor& a, const Tensor& b) {
  if (impl(b).weak) {
    const double e = scalar_of(b).to_double();
    if (e == 0) return zeros_like(a);
    if (e == 2) return mul(a, 2);
    return mul(pow(a, e - 1), e);
  }
  const Tensor corner = logical_and(equal(a, 0), equal(b, 0));
  return mul(b, pow(a, sub(where(corner, 1, b), 1)));
}
}  // namespace

KEEL_OP(pow, NoParams) {
  binary(def, "a to the power b. Integers: a negative power of anything but 1 and -1 is 0.", kinds::real)
      .onnx("Pow")
      .cast(Cast::fp32)
      .risk(Risk::exp_range | Risk::domain)
      .saves([](auto&, Needs n) {
        Saves s(In{0}, In{1});
        if (n[1]) s.add(Out{0});
        return s;
      })
      .vjp([](auto&, const VjpArgs& a) -> Tensors {
        Tensors g(2);
        if (a.needs[0]) g[0] = mul(a.g[0], pow_slope(a.in[0], a.in[1]));
        if (a.needs[1]) {  // y log(a), and 0 at base 0 where 0 log(0) would be NaN
          const Tensor corner = logical_and(equal(a.in[0], 0), greater_equal(a.in[1], 0));
          g[1] = mul(a.g[0], mul(a.out[0], log(where(corner, 1, a.in[0]))));
        }
        return g;
      });
}

namespace {
/// The share of `g` that goes to `a`, which lost where `lost` holds; a tie gives half.
Tensor winner_share(const Tensor& g, const Tensor& lost, const Tensor& tie) { return where(lost, 0, where(tie, mul(g, 0.5), g)); }
}  // namespace

KEEL_OP(maximum, NoParams) {
  binary(def, "The larger of a and b; NaN where either is NaN.", kinds::ordered)
      .onnx("Max")
      .saves(In{0}, In{1})
      .vjp([](auto&, const VjpArgs& a) -> Tensors {
        const Tensor tie = equal(a.in[0], a.in[1]);
        return {a.needs[0] ? winner_share(a.g[0], less(a.in[0], a.in[1]), tie) : Tensor(),
                a.needs[1] ? winner_share(a.g[0], less(a.in[1], a.in[0]), tie) : Tensor()};
      });
}
KEEL_OP(minimum, NoParams) {
  binary(def, "The smaller of a and b; NaN where either is NaN.", kinds::ordered)
      .onnx("Min")
      .saves(In{0}, In{1})
      .vjp([](auto&, const VjpArgs& a) -> Tensors {
        const Tensor tie = equal(a.in[0], a.in[1]);
        return {a.needs[0] ? winner_share(a.g[0], less(a.in[1], a.in[0]), tie) : Tensor(),
                a.needs[1] ? winner_share(a.g[0], less(a.in[0], a.in[1]), tie) : Tensor()};
      });
}

KEEL_OP(floor_divide, NoParams) {
  binary(def, "a / b rounded towards minus infinity, as Python's //; an integer divided by zero gives 0.", kinds::real)
      .risk(Risk::divides)
      .watch_input(1, Risk::divides)
      .saves()
      .vjp([](auto&, const VjpArgs& a) -> Tensors {
        const Tensor zero = zeros_like(a.g[0]);
        return {zero, zero};
      });
}
KEEL_OP(remainder, NoParams) {
  binary(def, "a - b * floor(a / b), with the sign of b, as Python's %; an integer modulo zero gives 0.", kinds::real)
      .risk(Risk::cancels)
      .saves([](auto&, Needs n) {
        Saves s;
        if (n[1]) s = Saves(In{0}, In{1});
        return s;
      })
      .vjp([](auto&, const VjpArgs& a) -> Tensors {
        return {a.g[0], a.needs[1] ? neg(mul(a.g[0], floor_divide(a.in[0], a.in[1]))) : Tensor()};
      });
}

Tensor pow(const Operand& a, const Operand& b) { return call(op_pow, NoParams{}, a.tensor(), b.tensor()); }
Tensor maximum(const Operand& a, const Operand& b) { return call(op_maximum, NoParams{}, a.tensor(), b.tensor()); }
Tensor minimum(const Operand& a, const Operand& b) { return call(op_minimum, NoParams{}, a.tensor(), b.tensor()); }
Tensor floor_divide(const Operand& a, const Operand& b) { return call(op_floor_divide, NoParams{}, a.tensor(), b.tensor()); }
Tensor remainder(const Operand& a, const Operand& b) { return call(op_remainder, NoParams{}, a.tensor(), b.tensor()); }

}  // namespace keel
