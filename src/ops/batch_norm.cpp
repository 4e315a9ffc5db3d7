// batch_norm over all axes but the channels', alone and with a relu behind it, in training and evaluation.
#include "keel/ops/norm.h"
#include "ops/activation.h"
#include "ops/norm_common.h"

namespace keel {

extern OpDef op_batch_norm_backward, op_batch_norm_relu_backward, op_batch_norm_relu_sum_backward;

namespace {

constexpr const char *kRoles[] = {"mean", "var", "weight", "bias"}, *kOneAChannel = "one a channel, axis 1 of x";

Axes all_but_channels(int rank) {
  Axes a = 0;
  for (int i = 2; i < rank; ++i) a.push_back(i);
  return a;
}
/// A tensor [c] so that it broadcasts along axis 1 of a tensor of that rank.
Tensor by_channel(const Tensor& t, int rank) {
  Shape s;
  s.resize(rank, 1);
  s[1] = t.shape()[0];
  return reshape(t, s);
}
Shape check_channels(Specs in, int first) {
  check_min_rank(in[0], 2, "x");
  const Shape want({in[0].shape[1]});
  for (int i = 1; i < in.size() && first + i <= 4; ++i) check_scale(in, i, kRoles[first + i - 1], want, kOneAChannel);
  return want;
}
void check_residual(Specs in, int i) {
  if (in.has(i)) check_same_shape(in[0], in[i], "x and residual");
}
/// Result, mean and variance of a batch.
SpecList batch_specs(Specs in) {
  const Shape channels = check_channels(in, 2);
  const int64_t count = reduced_count(in[0], all_but_channels(in[0].shape.rank()));
  if (count == 1)
    fail(ErrorCode::value, "needs more than one value a channel, got " + to_string(in[0]),
         "a batch of one has no variance; evaluate with running statistics, or drop the last incomplete batch");
  const Spec s{accumulate_dtype(in[0].dtype), channels};
  SpecList out;
  out.push_back(in[0]), out.push_back(s), out.push_back(s);
  return out;
}
/// Adds to `dx` what comes through the batch's mean and variance where they are results of their own.
void add_through_statistics(const VjpArgs& a, Tensor& dx) {
  const Spec& s = a.in_specs[0];
  const int rank = s.shape.rank();
  const double n = double(reduced_count(s, all_but_channels(rank)));
  const auto more = [&](const Tensor& t) { dx = dx.defined() ? add(dx, t) : t; };
  if (a.g.has(1)) more(expand(by_channel(div(a.g[1], n), rank), s.shape));
  if (a.g.has(2)) more(mul(sub(acc(a.in[0]), by_channel(a.out[1], rank)), by_channel(mul(a.g[2], 2 / n), rank)));
}
Tensor joined(const Tensor& y, const Tensor& residual) { return relu(residual.defined() ? add(y, residual) : y); }
Tensor channel_scaled(Tensor y, const Inputs& in, int weight, int rank) {
  if (in.has(weight)) y = mul(y, by_channel(acc(in[weight]), rank));
  if (in.has(weight + 1)) y = add(y, by_channel(acc(in[weight + 1]), rank));
  return y;
}
}  // namespace

KEEL_OP(batch_norm, BatchNormParams) {
  def.doc(
         "(x - mean) / sqrt(var + eps) per channel of x [n, c, ...], times weight, plus bias, with the mean and the biased variance of the "
         "batch.")
      .in("x", kinds::floating)
      .opt("weight", kinds::floating)
      .opt("bias", kinds::floating)
      .out("y")
      .out("mean")
      .out("var")
      .cast(Cast::fp32)
      .risk(Risk::divides | Risk::accumulates)
      .infer([](auto&, Specs in) { return batch_specs(in); })
      .decompose([](auto& p, Inputs in) -> Tensors {
        const Tensor x = acc(in[0]);
        const int rank = int(x.rank());
        const Axes axes = all_but_channels(rank);
        const Tensor m = mean(x, {.axis = axes}), d = sub(x, by_channel(m, rank)), v = mean(square(d), {.axis = axes});
        return {like(channel_scaled(mul(d, by_channel(rsqrt(add(v, p.eps)), rank)), in, 1, rank), in[0]), m, v};
      })
      .saves(norm_saves)
      .vjp([](auto& p, const VjpArgs& a) -> Tensors {
        Tensors out(a.in.size());
        if (a.g.has(0)) {
          if (!a.needs[0] && !needed(a, 1)) {
            out[2] = sum(a.g[0], all_but_channels(a.in_specs[0].shape.rank()));
          } else {
            const Tensor r = rsqrt(add(a.out[2], p.eps));
            const BatchNormBackwardParams want{.need_x = a.needs[0], .need_weight = needed(a, 1), .need_bias = needed(a, 2)};
            out = placed(a, call_all(op_batch_norm_backward, want, a.g[0], a.in[0], a.out[1], r, given(a.in, 1)));
          }
        }
        if (a.needs[0]) add_through_statistics(a, out[0]);
        return out;
      });
}

KEEL_OP(batch_norm_backward, BatchNormBackwardParams) {
  def.doc("Gradients of batch_norm by x, weight and bias, from the batch's mean and 1 / sqrt(var + eps).")
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
        check_min_rank(in[1], 2, "x");
        check_same_shape(in[0], in[1], "g and x");
        const Shape row({in[1].shape[1]});
        static constexpr const char* roles[] = {"mean", "rstd", "weight"};
        for (int i = 2; i < 5; ++i) check_scale(in, i, roles[i - 2], row, kOneAChannel);
        return gradient_specs(in[1], row, p.need_x, {p.need_weight, p.need_bias});
      })
      .decompose([](auto& p, Inputs in) -> Tensors {
        const Tensor g = acc(in[0]);
        const int rank = int(g.rank());
        const Axes axes = all_but_channels(rank);
        const Tensor r = by_channel(in[3], rank), normal = mul(sub(acc(in[1]), by_channel(in[2], rank)), r);
        Tensor dx = nothing(in[1]), dw = nothing(in[1]), db = nothing(in[1]);
        if (p.need_x) {
          const MeanParams over{.axis = axes, .keepdim = true};
          const Tensor scale = in.has(4) ? mul(r, by_channel(acc(in[4]), rank)) : r;
          dx = like(mul(scale, sub(sub(g, mean(g, over)), mul(normal, mean(mul(g, normal), over)))), in[1]);
        }
        if (p.need_weight) dw = like(sum(mul(g, normal), axes), in[1]);
        if (p.need_bias) db = like(sum(g, axes), in[1]);
        return {dx, dw, db};
      });
}

KEEL_OP(batch_norm_eval, BatchNormParams) {
  def.doc("(x - mean) / sqrt(var + eps) per channel of x [n, c, ...], times weight, plus bias, with a given mean and variance.")
      .in("x", kinds::floating)
      .in("mean", kinds::floating)
      .alone()
      .in("var", kinds::floating)
      .alone()
      .opt("weight", kinds::floating)
      .opt("bias", kinds::floating)
      .out("y")
      .cast(Cast::fp32)
      .risk(Risk::divides)
      .infer([](auto&, Specs in) {
        check_channels(in, 0);
        return in[0];
      })
      .decompose([](auto& p, Inputs in) {
        const int rank = int(in[0].rank());
        const Tensor d = sub(acc(in[0]), by_channel(in[1], rank)), r = by_channel(rsqrt(add(acc(in[2]), p.eps)), rank);
        return like(channel_scaled(mul(d, r), in, 3, rank), in[0]);
      })
      .saves(In{0}, In{1}, In{2}, In{3})
      .vjp([](auto& p, const VjpArgs& a) -> Tensors {
        const int rank = a.in_specs[0].shape.rank();
        const Axes axes = all_but_channels(rank);
        const Tensor g = acc(a.g[0]), r = rsqrt(add(acc(a.in[2]), p.eps)), scale = a.in.has(3) ? mul(r, acc(a.in[3])) : r;
        Tensors out(a.in.size());
        if (a.needs[0]) out[0] = mul(g, by_channel(scale, rank));
        if (a.needs[1] || needed(a, 4)) {
          const Tensor total = sum(g, axes);
          if (a.needs[1]) out[1] = neg(mul(total, scale));
          if (needed(a, 4)) out[4] = total;
        }
        if (a.needs[2] || needed(a, 3)) {
          const Tensor part = sum(mul(g, sub(acc(a.in[0]), by_channel(a.in[1], rank))), axes);
          if (a.needs[2]) out[2] = mul(mul(part, -0.5), mul(scale, square(r)));
          if (needed(a, 3)) out[3] = mul(part, r);
        }
        return out;
      });
}

KEEL_OP(batch_norm_relu, BatchNormParams) {
  def.doc(
         "max(y + residual, 0) with y = (x - mean) / sqrt(var + eps) per channel of x [n, c, ...], times weight, plus bias, with the mean "
         "and the biased variance of the batch.")
      .in("x", kinds::floating)
      .opt("weight", kinds::floating)
      .opt("bias", kinds::floating)
      .opt("residual", kinds::floating)
      .out("y")
      .out("mean")
      .out("var")
      .cast(Cast::fp32)
      .risk(Risk::divides | Risk::accumulates)
      .fallback(Fallback::ok)
      .infer([](auto&, Specs in) {
        check_residual(in, 3);
        return batch_specs(in);
      })
      .decompose([](auto& p, Inputs in) -> Tensors {
        const BatchNormResult r = batch_norm(in[0], given(in, 1), given(in, 2), p);
        return {joined(r.y, given(in, 3)), r.mean, r.var};
      })
      .saves(In{0}, In{1}, In{2}, Out{0}, Out{1}, Out{2})
      .takes_two_gradients(op_batch_norm_relu_sum_backward, 3)
      .vjp([](auto& p, const VjpArgs& a) -> Tensors {
        Tensors out(a.in.size());
        if (a.g.has(0)) {
          // Without a residual the mask follows from x again, so that y is not read.
          const bool added = a.in_specs.has(3);
          const BatchNormReluBackwardParams want{
              .eps = p.eps, .need_x = a.needs[0], .need_weight = needed(a, 1), .need_bias = needed(a, 2), .need_residual = needed(a, 3)};
          const Tensor bias = added ? Tensor() : given(a.in, 2), y = added ? a.out[0] : Tensor();
          const Tensor &g = a.g[0], &x = a.in[0], weight = given(a.in, 1);
          out = placed(a, a.second ? call_all(op_batch_norm_relu_sum_backward, want, g, x, a.out[1], a.out[2], weight, bias, y, *a.second)
                                   : call_all(op_batch_norm_relu_backward, want, g, x, a.out[1], a.out[2], weight, bias, y));
        }
        if (a.needs[0]) add_through_statistics(a, out[0]);
        return out;
      });
}

namespace {
/// What the gradients behind a relu have in common.
Def<BatchNormReluBackwardParams>& relu_gradient(Def<BatchNormReluBackwardParams>& def) {
  return def.in("g", kinds::floating)
      .in("x", kinds::floating)
      .in("mean", kinds::floating)
      .alone()
      .in("var", kinds::floating)
      .alone()
      .opt("weight", kinds::floating)
      .opt("bias", kinds::floating)
      .opt("y", kinds::floating)
      .out("dx")
      .out("dweight")
      .out("dbias")
      .out("dresidual")
      .risk(Risk::divides | Risk::accumulates)
      .fallback(Fallback::ok)
      .infer([](auto& p, Specs in) {
        check_min_rank(in[1], 2, "x");
        check_same_shape(in[0], in[1], "g and x");
        if (in.has(6)) check_same_shape(in[6], in[1], "y and x");
        if (in.has(7)) check_same_shape(in[7], in[1], "more and x");
        const Shape row({in[1].shape[1]});
        for (int i = 2; i < 6; ++i) check_scale(in, i, kRoles[i - 2], row, kOneAChannel);
        SpecList out = gradient_specs(in[1], row, p.need_x, {p.need_weight, p.need_bias});
        out.push_back(p.need_residual ? in[1] : Spec{in[1].dtype, Shape({0})});
        return out;
      });
}
}  // namespace

KEEL_OP(batch_norm_relu_backward, BatchNormReluBackwardParams) {
  relu_gradient(def)
      .doc(
          "Gradients of batch_norm_relu by x, weight, bias and residual, from the batch's mean and variance: 0 where y is not above 0. "
          "Without y, for a call without residual, it is made again from x.")
      .decompose([](auto& p, Inputs in) -> Tensors {
        const int rank = int(in[1].rank());
        const Tensor m = acc(in[2]), r = rsqrt(add(acc(in[3]), p.eps));
        Tensor y = given(in, 6);
        if (!y.defined()) {
          const Tensor normal = mul(sub(acc(in[1]), by_channel(m, rank)), by_channel(r, rank));
          y = like(channel_scaled(normal, in, 4, rank), in[1]);
        }
        const Tensor g = relu_backward(in[0], y);
        const BatchNormBackwardParams want{.need_x = p.need_x, .need_weight = p.need_weight, .need_bias = p.need_bias};
        Tensors t = call_all(op_batch_norm_backward, want, g, in[1], m, r, given(in, 4));
        return {t[0], t[1], t[2], p.need_residual ? g : nothing(in[1])};
      });
}

KEEL_OP(batch_norm_relu_sum_backward, BatchNormReluBackwardParams) {
  relu_gradient(def)
      .in("more", kinds::floating)
      .doc("batch_norm_relu_backward of g + more: where the result was used twice.")
      .decompose([](auto& p, Inputs in) -> Tensors {
        return call_all(op_batch_norm_relu_backward, p, add(in[0], in[7]), in[1], in[2], in[3], given(in, 4), given(in, 5), given(in, 6));
      });
}

KEEL_OP(batch_norm_relu_eval, BatchNormParams) {
  def.doc(
         "max(y + residual, 0) with y = (x - mean) / sqrt(var + eps) per channel of x [n, c, ...], times weight, plus bias, with a given "
         "mean and variance.")
      .in("x", kinds::floating)
      .in("mean", kinds::floating)
      .alone()
      .in("var", kinds::floating)
      .alone()
      .opt("weight", kinds::floating)
      .opt("bias", kinds::floating)
      .opt("residual", kinds::floating)
      .out("y")
      .cast(Cast::fp32)
      .risk(Risk::divides)
      .infer([](auto&, Specs in) {
        check_channels(in, 0);
        check_residual(in, 5);
        return in[0];
      })
      .decompose(
          [](auto& p, Inputs in) { return joined(batch_norm_eval(in[0], in[1], in[2], given(in, 3), given(in, 4), p), given(in, 5)); });
}

KEEL_OP(batch_norm_update, BatchNormUpdateParams) {
  def.doc("Running statistics after one more batch, in place.")
      .in("mean", kinds::floating)
      .alone()
      .written()
      .in("var", kinds::floating)
      .alone()
      .written()
      .in("batches", kinds::integer)
      .alone()
      .written()
      .in("batch_mean", kinds::floating)
      .alone()
      .in("batch_var", kinds::floating)
      .alone()
      .out("first")
      .alias(0)
      .promote(Promote::none)
      .primitive()
      .infer([](auto& p, Specs in) {
        check_value(p.momentum >= 0 && p.momentum <= 1, "momentum", "between 0 and 1", p.momentum);
        check_value(p.count >= 2, "count", "at least 2", double(p.count));
        check_shape(in[0].shape.rank() == 1, "mean must be of rank 1, one a channel");
        for (int i : {1, 3, 4}) {
          check_same_shape(in[0], in[i], "the statistics");
          if (in[i].dtype != in[0].dtype) fail(ErrorCode::dtype, "statistics must be of one dtype");
        }
        check_shape(in[2] == Spec{i64, Shape()}, "batches must be i64[]");
        return in[0];
      });
}

BatchNormResult batch_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, const BatchNormParams& p) {
  Tensors t = call_all(op_batch_norm, p, x, weight, bias);
  return {t[0], t[1], t[2]};
}
Tensor batch_norm_eval(const Tensor& x, const Tensor& mean, const Tensor& var, const Tensor& weight, const Tensor& bias,
                       const BatchNormParams& p) {
  return call(op_batch_norm_eval, p, x, mean, var, weight, bias);
}
BatchNormResult batch_norm_relu(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& residual,
                                const BatchNormParams& p) {
  Tensors t = call_all(op_batch_norm_relu, p, x, weight, bias, residual);
  return {t[0], t[1], t[2]};
}
Tensor batch_norm_relu_eval(const Tensor& x, const Tensor& mean, const Tensor& var, const Tensor& weight, const Tensor& bias,
                            const Tensor& residual, const BatchNormParams& p) {
  return call(op_batch_norm_relu_eval, p, x, mean, var, weight, bias, residual);
}
Tensor batch_norm_update(const Tensor& mean, const Tensor& var, const Tensor& batches, const Tensor& batch_mean, const Tensor& batch_var,
                         const BatchNormUpdateParams& p) {
  return call(op_batch_norm_update, p, mean, var, batches, batch_mean, batch_var);
}

}  // namespace keel
