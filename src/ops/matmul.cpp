// Matrix products. `matmul` is the primitive; `linear` fuses the transpose and the bias of a dense layer; `dot` and `outer` are shapes of the same.
#include "keel/ops/matmul.h"

#include "ops/common.h"

namespace keel {
namespace {

/// x with its last two axes exchanged.
Tensor swapped(const Tensor& x) { return transpose(x, -2, -1); }
/// The leading axes folded into one.
Tensor rows_of(const Tensor& x) { return x.rank() == 2 ? x : reshape(x, {x.rank() == 1 ? 1 : -1, x.shape()[int(x.rank()) - 1]}); }

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
      .infer([](auto&, Specs in) {
        const Spec &x = in[0], &w = in[1];
        check_min_rank(x, 1, "x"), check_rank(w, 2, "weight");
        const int last = x.shape.rank() - 1;
        if (x.shape[last] != w.shape[1]) {
          const std::string what = "x has " + std::to_string(x.shape[last]) + " features, weight takes " + std::to_string(w.shape[1]);
          fail(ErrorCode::shape, what,
               w.shape[0] == x.shape[last] ? "weight is [out, in]: transpose(weight) would fit"
                                           : "weight is [out, in]; the last axis of x is in");
        }
        if (in.has(2))
          if (!(in[2].shape == Shape({w.shape[0]})))
            fail(ErrorCode::shape, "bias must have shape " + to_string(Shape({w.shape[0]})) + ", got " + to_string(in[2].shape));
        return Spec{x.dtype, with_axis(x.shape, last, w.shape[0])};
      })
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
        if (a.needs[1]) dw = matmul(swapped(rows_of(g)), rows_of(a.in[0]));
        if (a.in_specs.has(2) && a.needs[2]) db = g.rank() == 1 ? g : sum(rows_of(g), {.axis = 0});
        return {dx, dw, db};
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
Tensor dot(const Tensor& a, const Tensor& b) { return call(op_dot, NoParams{}, a, b); }
Tensor outer(const Tensor& a, const Tensor& b) { return call(op_outer, NoParams{}, a, b); }

}  // namespace keel
