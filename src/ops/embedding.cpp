#include "keel/ops/embedding.h"

#include "ops/common.h"

namespace keel {
namespace {
Tensor embedding_backward(const Tensor& g, const Tensor& ids, const EmbeddingBackwardParams& p);

void check_padding(int64_t padding, int64_t rows) {
  if (padding < -1 || padding >= rows)
    check_value(false, "padding_index", "-1 or one of the " + std::to_string(rows) + " rows", double(padding));
}
}  // namespace

KEEL_OP(embedding, EmbeddingParams) {
  def.doc("Rows of weight picked by ids.")
      .in("ids", kPlaces)
      .alone()
      .in("weight", kinds::floating)
      .out("y")
      .primitive()
      .infer([](auto& p, Specs in) {
        check_rank(in[1], 2, "weight");
        check_padding(p.padding_index, in[1].shape[0]);
        Shape s = in[0].shape;
        s.push_back(in[1].shape[1]);
        return Spec{in[1].dtype, s};
      })
      .saves(In{0})
      .vjp([](auto& p, const VjpArgs& a) -> Tensors {
        return {Tensor(), embedding_backward(a.g[0], a.in[0], {.rows = a.in_specs[1].shape[0], .padding_index = p.padding_index})};
      });
}
KEEL_OP(embedding_backward, EmbeddingBackwardParams) {
  def.doc("Zeros [rows, width] with the rows of g added where ids say, in order.")
      .in("g", kinds::floating)
      .in("ids", kPlaces)
      .alone()
      .out("dweight")
      .primitive()
      .risk(Risk::accumulates)
      .infer([](auto& p, Specs in) {
        check_value(p.rows >= 0, "rows", "at least 0", double(p.rows));
        Shape want = in[1].shape;
        want.push_back(in[0].shape.rank() ? in[0].shape[-1] : 0);
        if (!(in[0].shape == want))
          fail(ErrorCode::shape, "g must have the shape of ids, then the width, got " + to_string(in[0].shape) + " for ids " +
               to_string(in[1].shape));
        return Spec{in[0].dtype, Shape({p.rows, in[0].shape[-1]})};
      })
      .saves(In{1})
      .vjp([](auto& p, const VjpArgs& a) -> Tensors {
        const Tensor y = embedding(a.in[1], a.g[0]);
        if (p.padding_index < 0) return {y};
        return {where(unsqueeze(equal(cast(a.in[1], i64), p.padding_index), -1), 0, y)};
      });
}

Tensor embedding(const Tensor& ids, const Tensor& weight, const EmbeddingParams& p) { return call(op_embedding, p, ids, weight); }
namespace {
Tensor embedding_backward(const Tensor& g, const Tensor& ids, const EmbeddingBackwardParams& p) {
  return call(op_embedding_backward, p, g, ids);
}
}  // namespace

}  // namespace keel
