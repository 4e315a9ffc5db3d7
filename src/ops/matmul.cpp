// Matrix products. `matmul` is the primitive; `linear` fuses the transpose and the bias of a dense layer, `linear_gelu` and `feed_forward`
// what follows it in a transformer; `dot` and `outer` are shapes of the same.
#include "keel/ops/matmul.h"

#include "ops/activation.h"
#include "ops/common.h"

namespace keel {

extern OpDef op_linear;

namespace {

/// x with its last two axes exchanged.
Tensor swapped(const Tensor& x) { return transpose(x, -2, -1); }
/// The leading axes folded into one; rows without features count too.
Tensor rows_of(const Tensor& x) {
  if (x.rank() == 2) return x;
  const int last = int(x.rank()) - 1;
  int64_t rows = 1;
  for (int i = 0; i < last; ++i) rows *= x.shape()[i];
  return reshape(x, {rows, x.shape()[last]});
}

Spec product_spec(Specs in) {
  const Spec &a = in[0], &b = in[1];
  check_min_rank(a, 1, "a"), check_min_rank(b, 1, "b");
  const int ra = a.shape.rank(), rb = b.shape.rank();
  const int64_t ka = a.shape[ra - 1], kb = b.shape[rb == 1 ? 0 : rb - 2];
  if (ka != kb) {
    const std::string what = "inner dimensions differ (" + std::to_string(ka) + " vs " + std::to_string(kb) + ")";
    if (rb >= 2 && b.shape[rb - 1] == ka)
      fail(ErrorCode::shape, what, "matmul(a, transpose(b)) would give inner dimension " + std::to_string(ka));
    if (ra >= 2 && a.shape[ra - 2] == kb)
      fail(ErrorCode::shape, what, "matmul(transpose(a), b) would give inner dimension " + std::to_string(kb));
    fail(ErrorCode::shape, what, "the last axis of a must equal the " + std::string(rb == 1 ? "only" : "second to last") + " axis of b");
  }
  Shape batch_a, batch_b;
  for (int i = 0; i + 2 < ra; ++i) batch_a.push_back(a.shape[i]);
  for (int i = 0; i + 2 < rb; ++i) batch_b.push_back(b.shape[i]);
  Shape out = broadcast(batch_a, batch_b);
  if (ra > 1) out.push_back(a.shape[ra - 2]);
  if (rb > 1) out.push_back(b.shape[rb - 1]);
  return {a.dtype, out};
}

/// The names of a dense layer's operands in messages, and its result.
Spec dense_spec(Specs in, int x_at, int w_at, int bias_at, const char* x_role, const char* w_role, const char* bias_role) {
  const Spec &x = in[x_at], &w = in[w_at];
  check_min_rank(x, 1, x_role), check_rank(w, 2, w_role);
  const int last = x.shape.rank() - 1;
  const std::string name = w_role;
  if (x.shape[last] != w.shape[1]) {
    const std::string what = std::string(x_role) + " has " + std::to_string(x.shape[last]) + " features, " + name + " takes " +
                             std::to_string(w.shape[1]);
    fail(ErrorCode::shape, what,
         w.shape[0] == x.shape[last] ? name + " is [out, in]: transpose(" + name + ") would fit"
                                     : name + " is [out, in]; the last axis of x is in");
  }
  if (in.has(bias_at))
    if (!(in[bias_at].shape == Shape({w.shape[0]})))
      fail(ErrorCode::shape,
           std::string(bias_role) + " must have shape " + to_string(Shape({w.shape[0]})) + ", got " + to_string(in[bias_at].shape));
  return Spec{x.dtype, with_axis(x.shape, last, w.shape[0])};
}
Tensor dense(const Tensor& x, const Tensor& weight, const Tensor& bias) { return call(op_linear, NoParams{}, x, weight, bias); }

/// Gradients of a dense layer by its weight and its bias.
Tensor weight_gradient(const Tensor& g, const Tensor& x) { return matmul(swapped(rows_of(g)), rows_of(x)); }
Tensor bias_gradient(const Tensor& g) { return g.rank() == 1 ? g : sum(rows_of(g), {.axis = 0}); }

constexpr GeluParams kTanhForm{.approximate = Gelu::tanh};

}  // namespace

KEEL_OP(matmul, NoParams) {
  def.doc("Matrix product over the last two axes, batch axes broadcast; a 1-d operand is a row on the left and a column on the right.")
      .in("a", kinds::real)
      .in("b", kinds::real)
      .out("y")
      .primitive()
      .onnx("MatMul")
      .cast(Cast::lower)
      .cost(Cost::compute_bound)
      .risk(Risk::accumulates)
      .infer([](auto&, Specs in) { return product_spec(in); })
      .saves([](auto&, Needs n) {
        Saves s;
        if (n[0]) s.add(In{1});
        if (n[1]) s.add(In{0});
        return s;
      })
      .vjp([](auto&, const VjpArgs& v) -> Tensors {
        const bool row = v.in_specs[0].shape.rank() == 1, column = v.in_specs[1].shape.rank() == 1;
        Tensor g = v.g[0], da, db;
        if (row) g = unsqueeze(g, column ? -1 : -2);
        if (column) g = unsqueeze(g, -1);
        if (v.needs[0]) {
          const Tensor b = column ? unsqueeze(v.in[1], 1) : v.in[1];
          da = matmul(g, swapped(b));
          if (row) da = squeeze(da, -2);
        }
        if (v.needs[1]) {
          const Tensor a = row ? unsqueeze(v.in[0], 0) : v.in[0];
          // One matrix b for a whole batch: its gradient is one product, not a sum of many.
          db = v.in_specs[1].shape.rank() <= 2 ? matmul(swapped(rows_of(a)), rows_of(g)) : matmul(swapped(a), g);
          if (column) db = squeeze(db, -1);
        }
        return {da, db};
      });
}

KEEL_OP(linear, NoParams) {
  def.doc("x times the transpose of weight, plus bias: a dense layer.")
      .in("x", kinds::floating)
      .in("weight", kinds::floating)
      .opt("bias", kinds::floating)
      .out("y")
      .cast(Cast::lower)
      .cost(Cost::compute_bound)
      .risk(Risk::accumulates)
      .infer([](auto&, Specs in) { return dense_spec(in, 0, 1, 2, "x", "weight", "bias"); })
      .saves([](auto&, Needs n) {
        Saves s;
        if (n[0]) s.add(In{1});
        if (n[1]) s.add(In{0});
        return s;
      })
      .decompose([](auto&, Inputs in) {
        const Tensor y = matmul(in[0], transpose(in[1]));
        return in.has(2) ? add(y, in[2]) : y;
      })
      .vjp([](auto&, const VjpArgs& a) -> Tensors {
        const Tensor& g = a.g[0];
        Tensor dx, dw, db;
        if (a.needs[0]) dx = matmul(g, a.in[1]);
        if (a.needs[1]) dw = weight_gradient(g, a.in[0]);
        if (a.in_specs.has(2) && a.needs[2]) db = bias_gradient(g);
        return {dx, dw, db};
      });
}

KEEL_OP(linear_gelu, NoParams) {
  def.doc("The tanh form of gelu of x times the transpose of weight, plus bias.")
      .in("x", kinds::floating)
      .in("weight", kinds::floating)
      .opt("bias", kinds::floating)
      .out("y")
      .aux("hidden")
      .cast(Cast::lower)
      .cost(Cost::compute_bound)
      .risk(Risk::accumulates)
      .fallback(Fallback::ok)
      .infer([](auto&, Specs in) {
        const Spec y = dense_spec(in, 0, 1, 2, "x", "weight", "bias");
        SpecList out;
        out.push_back(y), out.push_back(y);
        return out;
      })
      .saves(In{0}, In{1}, In{2}, Out{1})
      .decompose([](auto&, Inputs in) -> Tensors {
        const Tensor h = dense(in[0], in[1], given(in, 2));
        return {gelu(h, kTanhForm), h};
      })
      .vjp([](auto&, const VjpArgs& a) -> Tensors {
        // A gradient of this gradient must reach the operands through the argument of gelu as well.
        const Tensor h = scope().grad ? dense(a.in[0], a.in[1], given(a.in, 2)) : a.out[1], g = gelu_backward(a.g[0], h, kTanhForm);
        Tensor dx, dw, db;
        if (a.needs[0]) dx = matmul(g, a.in[1]);
        if (a.needs[1]) dw = weight_gradient(g, a.in[0]);
        if (a.in_specs.has(2) && a.needs[2]) db = bias_gradient(g);
        return {dx, dw, db};
      });
}

KEEL_OP(linear_gelu_backward, LinearGradientParams) {
  def.doc(
         "The gradient of linear(gelu(hidden), weight) by hidden, in gelu's tanh form, and the sum of its rows: the gradient of the bias "
         "that was added to hidden.")
      .in("g", kinds::floating)
      .in("weight", kinds::floating)
      .in("hidden", kinds::floating)
      .out("dhidden")
      .out("dbias")
      .cost(Cost::compute_bound)
      .risk(Risk::accumulates)
      .fallback(Fallback::ok)
      .infer([](auto& p, Specs in) {
        check_min_rank(in[0], 1, "g"), check_rank(in[1], 2, "weight"), check_min_rank(in[2], 1, "hidden");
        const int last = in[2].shape.rank() - 1;
        check_shape(in[0].shape == with_axis(in[2].shape, last, in[1].shape[0]) && in[2].shape[last] == in[1].shape[1],
                    "g " + to_string(in[0].shape) + " and hidden " + to_string(in[2].shape) + " do not belong to a weight " +
                        to_string(in[1].shape));
        SpecList out;
        out.push_back(in[2]), out.push_back({in[2].dtype, Shape({p.need_bias ? in[2].shape[last] : 0})});
        return out;
      })
      .decompose([](auto& p, Inputs in) -> Tensors {
        const Tensor d = gelu_backward(matmul(in[0], in[1]), in[2], kTanhForm);
        return {d, p.need_bias ? sum(rows_of(d), {.axis = 0}) : full(Shape({0}), 0, {.dtype = d.dtype(), .device = d.device()})};
      });
}

KEEL_OP(feed_forward, NoParams) {
  def.doc("linear(linear_gelu(x, up, up_bias), down, down_bias): the inner layers of a transformer block.")
      .in("x", kinds::floating)
      .in("up", kinds::floating)
      .opt("up_bias", kinds::floating)
      .in("down", kinds::floating)
      .opt("down_bias", kinds::floating)
      .out("y")
      .aux("hidden")
      .aux("activated")
      .cast(Cast::lower)
      .cost(Cost::compute_bound)
      .risk(Risk::accumulates)
      .fallback(Fallback::ok)
      .infer([](auto&, Specs in) {
        const Spec h = dense_spec(in, 0, 1, 2, "x", "up", "up_bias");
        check_rank(in[3], 2, "down");
        if (in[3].shape[1] != in[1].shape[0])
          fail(ErrorCode::shape, "up gives " + std::to_string(in[1].shape[0]) + " features, down takes " + std::to_string(in[3].shape[1]),
               "up is [inner, in], down is [out, inner]");
        if (in.has(4))
          if (!(in[4].shape == Shape({in[3].shape[0]})))
            fail(ErrorCode::shape, "down_bias must have shape " + to_string(Shape({in[3].shape[0]})) + ", got " + to_string(in[4].shape));
        SpecList out;
        out.push_back({h.dtype, with_axis(h.shape, h.shape.rank() - 1, in[3].shape[0])}), out.push_back(h), out.push_back(h);
        return out;
      })
      .saves(In{0}, In{1}, In{2}, In{3}, Out{1}, Out{2})
      .decompose([](auto&, Inputs in) -> Tensors {
        const Tensor h = dense(in[0], in[1], given(in, 2)), y = gelu(h, kTanhForm);
        return {dense(y, in[3], given(in, 4)), h, y};
      })
      .vjp([](auto&, const VjpArgs& a) -> Tensors {
        Tensor h = a.out[1], y = a.out[2];
        if (scope().grad) h = dense(a.in[0], a.in[1], given(a.in, 2)), y = gelu(h, kTanhForm);
        const bool up = a.needs[1], up_bias = a.in_specs.has(2) && a.needs[2], down_bias = a.in_specs.has(4) && a.needs[4];
        Tensors out(5);
        if (a.needs[3]) out[3] = weight_gradient(a.g[0], y);
        if (down_bias) out[4] = bias_gradient(a.g[0]);
        if (!a.needs[0] && !up && !up_bias) return out;
        const Tensors t = call_all(op_linear_gelu_backward, LinearGradientParams{.need_bias = up_bias}, a.g[0], a.in[3], h);
        if (a.needs[0]) out[0] = matmul(t[0], a.in[1]);
        if (up) out[1] = weight_gradient(t[0], a.in[0]);
        if (up_bias) out[2] = t[1];
        return out;
      });
}

KEEL_OP(dot, NoParams) {
  def.doc("Sum of products of two 1-d tensors.")
      .in("a", kinds::real)
      .in("b", kinds::real)
      .out("y")
      .cast(Cast::lower)
      .risk(Risk::accumulates)
      .infer([](auto&, Specs in) {
        check_rank(in[0], 1, "a"), check_rank(in[1], 1, "b");
        check_same_shape(in[0], in[1], "a and b");
        return Spec{in[0].dtype, Shape()};
      })
      .decompose([](auto&, Inputs in) { return matmul(in[0], in[1]); });
}

KEEL_OP(outer, NoParams) {
  def.doc("All products of an element of a with one of b.")
      .in("a", kinds::real)
      .in("b", kinds::real)
      .out("y")
      .infer([](auto&, Specs in) {
        check_rank(in[0], 1, "a"), check_rank(in[1], 1, "b");
        return Spec{in[0].dtype, Shape({in[0].shape[0], in[1].shape[0]})};
      })
      .decompose([](auto&, Inputs in) { return mul(unsqueeze(in[0], 1), in[1]); });
}

Tensor matmul(const Tensor& a, const Tensor& b) { return call(op_matmul, NoParams{}, a, b); }
Tensor linear(const Tensor& x, const Tensor& weight) { return call(op_linear, NoParams{}, x, weight, Tensor()); }
Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias) { return call(op_linear, NoParams{}, x, weight, bias); }
Tensor linear_gelu(const Tensor& x, const Tensor& weight, const Tensor& bias) { return call(op_linear_gelu, NoParams{}, x, weight, bias); }
Tensor feed_forward(const Tensor& x, const Tensor& up, const Tensor& up_bias, const Tensor& down, const Tensor& down_bias) {
  return call(op_feed_forward, NoParams{}, x, up, up_bias, down, down_bias);
}
Tensor dot(const Tensor& a, const Tensor& b) { return call(op_dot, NoParams{}, a, b); }
Tensor outer(const Tensor& a, const Tensor& b) { return call(op_outer, NoParams{}, a, b); }

}  // namespace keel
