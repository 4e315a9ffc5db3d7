#include "keel/nn/attention.h"

#include <cmath>

#include "core/impl.h"
#include "core/scope.h"
#include "keel/error.h"
#include "keel/nn/init.h"
#include "keel/ops/attention.h"
#include "keel/ops/combine.h"
#include "keel/ops/creation.h"
#include "keel/ops/elementwise.h"
#include "keel/ops/matmul.h"
#include "keel/ops/random.h"
#include "keel/ops/softmax.h"
#include "keel/ops/view.h"
#include "nn/layers.h"

namespace keel::nn {

MultiheadAttention::MultiheadAttention(int64_t width, int64_t heads, const MultiheadAttentionOptions& o) : out_proj(width, width, {.bias = o.bias}), width_(width), heads_(heads), dropout_(o.dropout) {
  require_positive("MultiheadAttention", "heads", heads);
  if (width % heads) raise(Error(ErrorCode::value, "width (" + std::to_string(width) + ") must be a multiple of heads (" + std::to_string(heads) + ")").op("MultiheadAttention").hint("each head works on width / heads features"));
  if (!(o.dropout >= 0 && o.dropout < 1)) raise(Error(ErrorCode::value, "dropout must be in [0, 1), got " + std::to_string(o.dropout)).op("MultiheadAttention"));
  const int64_t kw = o.key_width ? o.key_width : width, vw = o.value_width ? o.value_width : width;
  auto fresh = [](int64_t out, int64_t in) {
    Weight w(keel::empty({out, in}));
    init::xavier_uniform(w);
    return w;
  };
  if (kw == width && vw == width) in_proj_weight = fresh(3 * width, width);
  else q_proj_weight = fresh(width, width), k_proj_weight = fresh(width, kw), v_proj_weight = fresh(width, vw);
  if (o.bias) in_proj_bias = Weight(keel::zeros({3 * width})), init::zeros(out_proj.bias);
}

Tensor MultiheadAttention::attend(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& mask, const Options& o) const {
  if (!(is_training() && dropout_ > 0)) return mask.defined() ? keel::attention(q, k, v, mask, {.causal = o.causal}) : keel::attention(q, k, v, {.causal = o.causal});
  Tensor scores = matmul(q, k.transpose()) * (1 / std::sqrt(double(width_ / heads_)));
  if (mask.defined()) scores = mask.dtype() == DType::boolean ? where(mask, scores, -INFINITY) : scores + mask;
  if (o.causal) {
    const int64_t t = q.shape()[2], s = k.shape()[2];
    const TensorOptions there{.device = q.device()};
    const Tensor visible = (arange(t, there).unsqueeze(1) + (s - t)) >= arange(s, there);
    scores = where(visible, scores, -INFINITY);
  }
  return matmul(dropout(softmax(scores), {.p = dropout_}), v);
}

Tensor MultiheadAttention::forward(const Tensor& x, const Options& o) const {
  if (!in_proj_weight.defined()) return forward(x, x, x, Tensor(), o);
  if (x.rank() != 3) raise(Error(ErrorCode::shape, "expects [batch, length, " + std::to_string(width_) + "]").op("MultiheadAttention").arg("x", to_string(impl(x).spec)).path(scope().path));
  const auto [b, t, d] = x.shape().as<3>();
  const Tensor qkv = in_proj_bias.defined() ? linear(x, in_proj_weight, in_proj_bias) : linear(x, in_proj_weight);
  const Tensor h = qkv.reshape({b, t, 3, heads_, width_ / heads_}).permute({2, 0, 3, 1, 4});
  return out_proj(attend(h[0], h[1], h[2], Tensor(), o).transpose(1, 2).reshape({b, t, width_}));
}

Tensor MultiheadAttention::forward(const Tensor& query, const Tensor& key, const Tensor& value, const Tensor& mask, const Options& o) const {
  for (const Tensor* x : {&query, &key, &value})
    if (x->rank() != 3)
      raise(Error(ErrorCode::shape, "expects three tensors of rank 3: [batch, length, width]").op("MultiheadAttention").arg("query", to_string(impl(query).spec)).arg("key", to_string(impl(key).spec)).arg("value", to_string(impl(value).spec)).path(scope().path));
  const int64_t b = query.shape()[0];
  auto project = [&](const Tensor& x, int64_t i, const Weight& own) {
    const Tensor w = own.defined() ? Tensor(own) : Tensor(in_proj_weight[{slice(i * width_, (i + 1) * width_)}]);
    const Tensor y = in_proj_bias.defined() ? linear(x, w, in_proj_bias[{slice(i * width_, (i + 1) * width_)}]) : linear(x, w);
    return y.reshape({b, x.shape()[1], heads_, width_ / heads_}).transpose(1, 2);
  };
  const Tensor y = attend(project(query, 0, q_proj_weight), project(key, 1, k_proj_weight), project(value, 2, v_proj_weight), mask, o);
  return out_proj(y.transpose(1, 2).reshape({b, query.shape()[1], width_}));
}

}  // namespace keel::nn
