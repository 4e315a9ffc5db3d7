// Scaled dot-product attention and its gradient. The kernels are tiled and keep, for the gradient, only the logarithm of each row's sum; the decompositions below hold all [t, s]
// scores and say what the kernels must compute.
#include "keel/ops/attention.h"

#include "keel/ops/matmul.h"
#include "ops/common.h"

namespace keel {
namespace {

Tensor swapped(const Tensor& x) { return transpose(x, -2, -1); }
/// [b, h, t, d] as [b, groups, h / groups, t, d], for k and v as [b, groups, 1, s, d].
Tensor grouped(const Tensor& x, int64_t groups) {
  const Shape& s = x.shape();
  return reshape(x, {s[0], groups, s[1] / groups, s[2], s[3]});
}
Tensor ungrouped(const Tensor& x) {
  const Shape& s = x.shape();
  return reshape(x, {s[0], s[1] * s[2], s[3], s[4]});
}

/// Which keys each query of a causal attention sees: [t, s].
Tensor causal_mask(int64_t t, int64_t s, Device d) {
  return less_equal(arange(s, {.device = d}), add(reshape(arange(t, {.device = d}), {t, 1}), s - t));
}

/// Scores [b, groups, h / groups, t, s] with -inf where a query does not see a key.
Tensor masked_scores(const AttentionParams& p, const Tensor& q, const Tensor& k, const Tensor& mask) {
  const int64_t b = q.shape()[0], h = q.shape()[1], t = q.shape()[2], s = k.shape()[2], groups = k.shape()[1];
  Tensor scores = matmul(grouped(mul(q, p.factor(q.shape()[3])), groups), swapped(grouped(k, groups)));
  if (mask.defined()) {
    const Tensor m = grouped(broadcast_to(mask, {b, h, t, s}), groups);
    scores = mask.dtype() == DType::boolean ? where(m, scores, -INFINITY) : add(scores, m);
  }
  if (p.causal) scores = where(causal_mask(t, s, scores.device()), scores, -INFINITY);
  return scores;
}

/// Rows of probabilities, zeros for a row that sees nothing; and the logarithm of each row's sum of exponentials, 0 for such a row.
struct Probabilities {
  Tensor p, lse;
};
Probabilities softmax_rows(const Tensor& scores) {
  if (scores.shape()[4] == 0) return {scores, sum(scores, {.axis = -1, .keepdim = true})};
  Tensor top = max(scores, {.axis = -1, .keepdim = true});
  top = where(equal(top, -INFINITY), 0, top);
  const Tensor e = exp(sub(scores, top)), total = sum(e, {.axis = -1, .keepdim = true}), one = where(equal(total, 0), 1, total);
  return {div(e, one), add(log(one), top)};
}

void check_mask(const Spec& m, const Shape& full) {
  const std::string want = to_string(full);
  bool fits = m.shape.rank() <= 4;
  for (int i = 1; fits && i <= m.shape.rank(); ++i) fits = m.shape[m.shape.rank() - i] == 1 || m.shape[m.shape.rank() - i] == full[4 - i];
  if (!fits)
    fail(ErrorCode::shape, "mask of shape " + to_string(m.shape) + " does not broadcast to [b, h, t, s] = " + want);
}
void check_heads(Specs in, int q, int k, int v, int mask) {
  check_rank(in[q], 4, "q"), check_rank(in[k], 4, "k"), check_rank(in[v], 4, "v");
  const Shape &sq = in[q].shape, &sk = in[k].shape, &sv = in[v].shape;
  const auto said = [](int64_t x) { return std::to_string(x); };
  check_shape(sq[0] == sk[0] && sk[0] == sv[0], "q, k and v have batches of " + said(sq[0]) + ", " + said(sk[0]) + " and " + said(sv[0]));
  check_shape(sk[1] == sv[1], "k has " + said(sk[1]) + " heads, v has " + said(sv[1]));
  check_shape(sk[2] == sv[2], "k has " + said(sk[2]) + " positions, v has " + said(sv[2]));
  check_shape(sq[3] == sk[3], "q has head width " + said(sq[3]) + ", k has " + said(sk[3]),
              "q, k and v are [batch, heads, positions, width]");
  check_shape(sk[1] > 0 && sq[1] % sk[1] == 0, "q has " + said(sq[1]) + " heads, which do not divide among " + said(sk[1]) + " heads of k");
  if (in.has(mask)) check_mask(in[mask], {sq[0], sq[1], sq[2], sk[2]});
}

Tensors attention_backward(const Tensor& g, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& y, const Tensor& lse,
                           const Tensor& mask, const AttentionParams& p);

}  // namespace

KEEL_OP(attention, AttentionParams) {
  def.doc("softmax(scale q k^T + mask) v with grouped heads; a row that sees nothing gives zeros.")
      .in("q", kinds::floating)
      .in("k", kinds::floating)
      .in("v", kinds::floating)
      .opt("mask", kinds::floating | kinds::boolean)
      .alone()
      .out("y")
      .aux("lse")
      .cast(Cast::lower)
      .cost(Cost::compute_bound)
      .risk(Risk::exp_range | Risk::accumulates)
      .infer([](auto&, Specs in) {
        check_heads(in, 0, 1, 2, 3);
        const Shape &q = in[0].shape, &v = in[2].shape;
        SpecList out;
        out.push_back({in[0].dtype, Shape({q[0], q[1], q[2], v[3]})});
        out.push_back({accumulate_dtype(in[0].dtype), Shape({q[0], q[1], q[2]})});
        return out;
      })
      .saves(In{0}, In{1}, In{2}, In{3}, Out{0}, Out{1})
      .decompose([](auto& p, Inputs in) -> Tensors {
        const Tensor q = acc(in[0]), v = acc(in[2]);
        const Probabilities s = softmax_rows(masked_scores(p, q, acc(in[1]), given(in, 3)));
        return {like(ungrouped(matmul(s.p, grouped(v, v.shape()[1]))), in[0]), squeeze(ungrouped(s.lse), -1)};
      })
      .vjp([](auto& p, const VjpArgs& a) -> Tensors {
        Tensors grads = attention_backward(a.g[0], a.in[0], a.in[1], a.in[2], a.out[0], a.out[1], a.in[3], p);
        Tensor dmask;
        if (a.in_specs.has(3) && a.needs[3] && is_inexact(a.in_specs[3].dtype)) {  // a learned bias: all scores at once
          const int64_t groups = a.in[1].shape()[1];
          const Tensor g = grouped(acc(a.g[0]), groups), v = grouped(acc(a.in[2]), groups);
          const Tensor s = softmax_rows(masked_scores(p, acc(a.in[0]), acc(a.in[1]), a.in[3])).p, dp = matmul(g, swapped(v));
          dmask = ungrouped(mul(s, sub(dp, sum(mul(dp, s), {.axis = -1, .keepdim = true}))));
        }
        return {grads[0], grads[1], grads[2], dmask};
      });
}

KEEL_OP(attention_backward, AttentionParams) {
  def.doc("The gradients of attention to q, k and v from its result and the logarithms of its rows' sums; scores are computed again.")
      .in("g", kinds::floating)
      .in("q", kinds::floating)
      .in("k", kinds::floating)
      .in("v", kinds::floating)
      .in("y", kinds::floating)
      .in("lse", kinds::floating)
      .alone()
      .opt("mask", kinds::floating | kinds::boolean)
      .alone()
      .out("dq")
      .out("dk")
      .out("dv")
      .cost(Cost::compute_bound)
      .risk(Risk::exp_range | Risk::accumulates)
      .infer([](auto&, Specs in) {
        check_heads(in, 1, 2, 3, 6);
        SpecList out;
        for (int i = 1; i < 4; ++i) out.push_back(in[i]);
        return out;
      })
      .decompose([](auto& p, Inputs in) -> Tensors {
        const int64_t groups = in[2].shape()[1];
        const Tensor g = grouped(acc(in[0]), groups), q = acc(in[1]), k = acc(in[2]), v = grouped(acc(in[3]), groups);
        const Tensor s = softmax_rows(masked_scores(p, q, k, given(in, 6))).p, dp = matmul(g, swapped(v));
        const Tensor ds = mul(mul(s, sub(dp, sum(mul(dp, s), {.axis = -1, .keepdim = true}))), p.factor(q.shape()[3]));
        const auto heads = [](const Tensor& x) { return ungrouped(sum(x, {.axis = 2, .keepdim = true})); };
        return {like(ungrouped(matmul(ds, grouped(k, groups))), in[1]), like(heads(matmul(swapped(ds), grouped(q, groups))), in[2]),
                like(heads(matmul(swapped(s), g)), in[3])};
      });
}

Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionParams& p) {
  return call(op_attention, p, q, k, v, Tensor());
}
Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& mask, const AttentionParams& p) {
  return call(op_attention, p, q, k, v, mask);
}
namespace {
Tensors attention_backward(const Tensor& g, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& y, const Tensor& lse,
                           const Tensor& mask, const AttentionParams& p) {
  return call_all(op_attention_backward, p, g, q, k, v, y, lse, mask);
}
}  // namespace

}  // namespace keel
