// Products. The gradient must be right where elements are 0, so it is never y / x alone.
#include "ops/common.h"

namespace keel {

Tensor prod_backward(const Tensor& g, const Tensor& x, const AxisParams& p);

KEEL_OP(prod, SumParams) {
  def.doc("Product over axes; 1 over none.")
      .in("x", kinds::ordered)
      .out("y")
      .primitive()
      .onnx("ReduceProd")
      .cast(Cast::fp32)
      .risk(Risk::exp_range)
      .infer([](auto& p, Specs in) {
        const DType t = in[0].dtype;
        return Spec{p.dtype != DType::none ? p.dtype
                    : is_inexact(t)        ? t
                                           : accumulate_dtype(t),
                    reduced_shape(in[0].shape, check_axes(p.axis, in[0]), p.keepdim)};
      })
      .saves(In{0})
      .vjp([](auto& p, const VjpArgs& a) -> Tensors {
        return {prod_backward(unreduce(a.g[0], a.in_specs[0], p.axis, p.keepdim), a.in[0], {.axis = p.axis})};
      });
}

KEEL_OP(prod_backward, AxisParams) {
  def.doc("g times the product of all other elements over the axes; g has the reduced axes as extent 1.")
      .in("g", kinds::floating)
      .in("x", kinds::floating)
      .out("dx")
      .infer([](auto& p, Specs in) {
        check_axes(p.axis, in[1]);
        return Spec{in[0].dtype, in[1].shape};
      })
      .decompose([](auto& p, Inputs in) {
        // Product of the elements that are not 0, over x; with one 0 only its own place keeps a slope, with two nothing does.
        const Tensor g = acc(in[0]), x = acc(in[1]), zero = equal(x, 0), solid = where(zero, 1, x);
        const Tensor zeros = sum(zero, {.axis = p.axis, .keepdim = true}), rest = mul(g, prod(solid, {.axis = p.axis, .keepdim = true}));
        return like(where(zero, where(equal(zeros, 1), rest, 0), where(equal(zeros, 0), div(rest, solid), 0)), in[0]);
      })
      .saves(In{0}, In{1})
      .vjp([](auto& p, const VjpArgs& a) -> Tensors {
        // Rows of the reduced elements: row i of `others` has element i replaced by 1, so products along it leave i out.
        const Spec& s = a.in_specs[1];
        const Axes axes = check_axes(p.axis, s);
        Dims order, back;
        for (int i = 0; i < s.shape.rank(); ++i) {
          bool reduced = false;
          for (int64_t r : axes) reduced |= r == i;
          if (!reduced) order.push_back(i);
        }
        for (int64_t r : axes) order.push_back(r);
        back.resize(order.rank());
        for (int i = 0; i < order.rank(); ++i) back[int(order[i])] = i;
        const int64_t n = reduced_count(s, p.axis);
        const Tensor turned = permute(a.in[1], order), x = reshape(turned, {a.in_specs[0].shape.numel(), n});
        const Tensor c = reshape(permute(a.g[0], order), x.shape()), g = reshape(a.in[0], {x.shape()[0], 1});
        Tensors out(2);
        if (a.needs[0]) {
          const Tensor slope = prod_backward(ones_like(g), x, {.axis = 1});
          out[0] = reshape(sum(mul(c, slope), {.axis = 1}), a.in_specs[0].shape);
        }
        if (a.needs[1]) {
          const Tensor places = arange(n, {.device = x.device()}), same = equal(reshape(places, {n, 1}), places);
          const Tensor others = where(same, 1, unsqueeze(x, 1));
          const Tensor parts = prod_backward(unsqueeze(mul(c, g), 2), others, {.axis = 2});
          out[1] = permute(reshape(sum(where(same, 0, parts), {.axis = 1}), turned.shape()), back);
        }
        return out;
      });
}

Tensor prod(const Tensor& x, const SumParams& p) { return call(op_prod, p, x); }
Tensor prod_backward(const Tensor& g, const Tensor& x, const AxisParams& p) { return call(op_prod_backward, p, g, x); }

}  // namespace keel
