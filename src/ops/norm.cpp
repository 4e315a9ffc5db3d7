// layer_norm and rms_norm over trailing axes. Statistics are kept with extent 1 on the normalised axes, in the dtype that accumulates.
#include "keel/ops/norm.h"

#include "ops/norm_common.h"

namespace keel {

extern OpDef op_layer_norm_backward, op_rms_norm_backward;

namespace {

Axes trailing(int rank, int64_t n) {
  Axes a;
  for (int i = rank - int(n); i < rank; ++i) a.push_back(i);
  return a;
}
Axes leading(int rank, int64_t n) {
  Axes a;
  for (int i = 0; i < rank - int(n); ++i) a.push_back(i);
  return a;
}
Shape trailing_shape(const Shape& s, int64_t n) {
  Shape t;
  for (int i = s.rank() - int(n); i < s.rank(); ++i) t.push_back(s[i]);
  return t;
}
Spec statistics(const Spec& x, int64_t n) { return {accumulate_dtype(x.dtype), reduced_shape(x.shape, trailing(x.shape.rank(), n), true)}; }

void check_trailing(const Spec& x, int64_t n) {
  check_value(n >= 1, "axes", "at least 1", double(n));
  if (n > x.shape.rank())
    fail(ErrorCode::shape,
         "cannot normalise " + std::to_string(n) + " trailing axes of a tensor of rank " + std::to_string(x.shape.rank()));
}
/// Sum over the axes in front of the last `n`; of a tensor that has none, itself.
Tensor sum_leading(const Tensor& t, int64_t n) {
  const Axes a = leading(int(t.rank()), n);
  return a.empty() ? t : sum(t, a);
}
Tensor scaled(Tensor y, const Inputs& in, int weight, int bias) {
  if (in.has(weight)) y = mul(y, acc(in[weight]));
  if (in.has(bias)) y = add(y, acc(in[bias]));
  return y;
}

}  // namespace

KEEL_OP(layer_norm, LayerNormParams) {
  def.doc("(x - mean) / sqrt(var + eps) over the trailing axes, times weight, plus bias.")
      .in("x", kinds::floating)
      .opt("weight", kinds::floating)
      .opt("bias", kinds::floating)
      .out("y")
      .aux("mean")
      .aux("rstd")
      .cast(Cast::fp32)
      .risk(Risk::divides | Risk::accumulates)
      .infer([](auto& p, Specs in) {
        check_trailing(in[0], p.axes);
        const Shape want = trailing_shape(in[0].shape, p.axes);
        check_scale(in, 1, "weight", want, "the normalised axes");
        check_scale(in, 2, "bias", want, "the normalised axes");
        const Spec s = statistics(in[0], p.axes);
        SpecList out;
        out.push_back(in[0]), out.push_back(s), out.push_back(s);
        return out;
      })
      .decompose([](auto& p, Inputs in) -> Tensors {
        const Tensor x = acc(in[0]);
        const Axes axes = trailing(int(x.rank()), p.axes);
        const Tensor m = mean(x, {.axis = axes, .keepdim = true}), d = sub(x, m);
        const Tensor r = rsqrt(add(mean(square(d), {.axis = axes, .keepdim = true}), p.eps));
        return {like(scaled(mul(d, r), in, 1, 2), in[0]), m, r};
      })
      .saves(norm_saves)
      .vjp([](auto& p, const VjpArgs& a) -> Tensors {
        const int rank = a.in_specs[0].shape.rank();
        Tensor m = a.out[1], r = a.out[2];
        if (scope().grad && a.in.has(0)) {  // a gradient of this gradient must reach x through the statistics as well
          const Tensor x = acc(a.in[0]);
          const Axes axes = trailing(rank, p.axes);
          m = mean(x, {.axis = axes, .keepdim = true}), r = rsqrt(add(var(x, {.axis = axes, .keepdim = true}), p.eps));
        }
        if (!a.needs[0] && !needed(a, 1)) return placed(a, {Tensor(), Tensor(), sum_leading(a.g[0], p.axes)});
        const NormBackwardParams want{.axes = p.axes, .need_x = a.needs[0], .need_weight = needed(a, 1), .need_bias = needed(a, 2)};
        return placed(a, call_all(op_layer_norm_backward, want, a.g[0], a.in[0], m, r, given(a.in, 1)));
      });
}

KEEL_OP(layer_norm_backward, NormBackwardParams) {
  def.doc("Gradients of layer_norm by x, weight and bias, from its mean and 1 / sqrt(var + eps).")
      .in("g", kinds::floating)
      .in("x", kinds::floating)
      .in("mean", kinds::floating)
      .alone()
      .in("rstd", kinds::floating)
      .alone()
      .opt("weight", kinds::floating)
      .out("dx")
      .out("dweight")
      .out("dbias")
      .risk(Risk::accumulates)
      .infer([](auto& p, Specs in) {
        check_trailing(in[1], p.axes);
        check_same_shape(in[0], in[1], "g and x");
        const Shape row = trailing_shape(in[1].shape, p.axes);
        check_scale(in, 4, "weight", row, "the normalised axes");
        return gradient_specs(in[1], row, p.need_x, {p.need_weight, p.need_bias});
      })
      .decompose([](auto& p, Inputs in) -> Tensors {
        const Tensor g = acc(in[0]), r = in[3], normal = mul(sub(acc(in[1]), in[2]), r);
        const MeanParams over{.axis = trailing(int(g.rank()), p.axes), .keepdim = true};
        Tensor dx = nothing(in[1]), dw = nothing(in[1]), db = nothing(in[1]);
        if (p.need_x) {
          const Tensor gw = in.has(4) ? mul(g, acc(in[4])) : g;
          dx = like(mul(r, sub(sub(gw, mean(gw, over)), mul(normal, mean(mul(gw, normal), over)))), in[1]);
        }
        if (p.need_weight) dw = like(sum_leading(mul(g, normal), p.axes), in[1]);
        if (p.need_bias) db = like(sum_leading(g, p.axes), in[1]);
        return {dx, dw, db};
      });
}

KEEL_OP(rms_norm, LayerNormParams) {
  def.doc("x / sqrt(mean(x^2) + eps) over the trailing axes, times weight.")
      .in("x", kinds::floating)
      .opt("weight", kinds::floating)
      .out("y")
      .aux("rstd")
      .cast(Cast::fp32)
      .risk(Risk::divides | Risk::accumulates)
      .infer([](auto& p, Specs in) {
        check_trailing(in[0], p.axes);
        check_scale(in, 1, "weight", trailing_shape(in[0].shape, p.axes), "the normalised axes");
        SpecList out;
        out.push_back(in[0]), out.push_back(statistics(in[0], p.axes));
        return out;
      })
      .decompose([](auto& p, Inputs in) -> Tensors {
        const Tensor x = acc(in[0]);
        const Tensor r = rsqrt(add(mean(square(x), {.axis = trailing(int(x.rank()), p.axes), .keepdim = true}), p.eps));
        return {like(scaled(mul(x, r), in, 1, 2), in[0]), r};
      })
      .saves([](auto&, Needs n) { return n[0] ? Saves(In{0}, In{1}, Out{1}) : Saves(In{0}, Out{1}); })
      .vjp([](auto& p, const VjpArgs& a) -> Tensors {
        Tensor r = a.out[1];
        if (scope().grad)
          r = rsqrt(add(mean(square(acc(a.in[0])), {.axis = trailing(a.in_specs[0].shape.rank(), p.axes), .keepdim = true}), p.eps));
        const NormBackwardParams want{.axes = p.axes, .need_x = a.needs[0], .need_weight = needed(a, 1), .need_bias = false};
        return placed(a, call_all(op_rms_norm_backward, want, a.g[0], a.in[0], r, given(a.in, 1)));
      });
}

KEEL_OP(rms_norm_backward, NormBackwardParams) {
  def.doc("Gradients of rms_norm by x and weight, from its 1 / sqrt(mean(x^2) + eps).")
      .in("g", kinds::floating)
      .in("x", kinds::floating)
      .in("rstd", kinds::floating)
      .alone()
      .opt("weight", kinds::floating)
      .out("dx")
      .out("dweight")
      .risk(Risk::accumulates)
      .infer([](auto& p, Specs in) {
        check_trailing(in[1], p.axes);
        check_same_shape(in[0], in[1], "g and x");
        const Shape row = trailing_shape(in[1].shape, p.axes);
        check_scale(in, 3, "weight", row, "the normalised axes");
        return gradient_specs(in[1], row, p.need_x, {p.need_weight});
      })
      .decompose([](auto& p, Inputs in) -> Tensors {
        const Tensor g = acc(in[0]), r = in[2], normal = mul(acc(in[1]), r);
        Tensor dx = nothing(in[1]), dw = nothing(in[1]);
        if (p.need_x) {
          const Tensor gw = in.has(3) ? mul(g, acc(in[3])) : g;
          dx = like(mul(r, sub(gw, mul(normal, mean(mul(gw, normal), {.axis = trailing(int(g.rank()), p.axes), .keepdim = true})))), in[1]);
        }
        if (p.need_weight) dw = like(sum_leading(mul(g, normal), p.axes), in[1]);
        return {dx, dw};
      });
}

Tensor layer_norm(const Tensor& x, const LayerNormParams& p) { return call(op_layer_norm, p, x); }
Tensor layer_norm(const Tensor& x, const Tensor& weight, const LayerNormParams& p) { return call(op_layer_norm, p, x, weight); }
Tensor layer_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, const LayerNormParams& p) {
  return call(op_layer_norm, p, x, weight, bias);
}
Tensor rms_norm(const Tensor& x, const LayerNormParams& p) { return call(op_rms_norm, p, x); }
Tensor rms_norm(const Tensor& x, const Tensor& weight, const LayerNormParams& p) { return call(op_rms_norm, p, x, weight); }

}  // namespace keel
