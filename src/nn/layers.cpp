#include <cmath>

#include "keel/error.h"
#include "keel/nn/linear.h"
#include "keel/ops/creation.h"
#include "keel/ops/elementwise.h"
#include "keel/ops/embedding.h"
#include "keel/ops/matmul.h"
#include "keel/ops/random.h"
#include "nn/layers.h"

namespace keel::nn {

void require_positive(const char* module, const char* what, int64_t got) {
  if (got <= 0) raise(Error(ErrorCode::value, std::string(what) + " must be positive, got " + std::to_string(got)).op(module));
}

Weight fan_in_uniform(const Shape& s, int64_t fan_in) {
  const double bound = 1 / std::sqrt(double(fan_in));
  return Weight(keel::uniform(s, -bound, bound));
}

Linear::Linear(int64_t in, int64_t out, const LinearOptions& o) {
  require_positive("Linear", "in", in), require_positive("Linear", "out", out);
  weight = fan_in_uniform({out, in}, in);
  if (o.bias) bias = fan_in_uniform({out}, in);
}
Tensor Linear::forward(const Tensor& x) const { return bias.defined() ? linear(x, weight, bias) : linear(x, weight); }
Tensor Linear::gelu_then(const Linear& down, const Tensor& x) const {
  if (x.device() == cpu_device || hooks_ || down.hooks_) return down(gelu((*this)(x), {.approximate = Gelu::tanh}));
  return feed_forward(x, weight, bias, down.weight, down.bias);
}

Dropout::Dropout(double p) : p_(p) {
  if (!(p >= 0 && p <= 1)) raise(Error(ErrorCode::value, "p must be in [0, 1], got " + std::to_string(p)).op("Dropout"));
}
Tensor Dropout::forward(const Tensor& x) const { return is_training() && p_ > 0 ? dropout(x, {.p = p_}) : x; }

Embedding::Embedding(int64_t rows, int64_t width, const EmbeddingOptions& o) : padding_index_(o.padding_index) {
  require_positive("Embedding", "rows", rows), require_positive("Embedding", "width", width);
  if (o.padding_index < -1 || o.padding_index >= rows)
    raise(Error(ErrorCode::index, "padding_index " + std::to_string(o.padding_index) + " is out of range [0, " + std::to_string(rows - 1) + "]").op("Embedding").hint("-1 stands for no padding row"));
  weight = Weight(keel::randn({rows, width}));
  if (o.padding_index >= 0) {
    Tensor row = weight.detach()[o.padding_index];
    row.zero_();
  }
}
Tensor Embedding::forward(const Tensor& ids) const { return embedding(ids, weight, {.padding_index = padding_index_}); }

}  // namespace keel::nn
