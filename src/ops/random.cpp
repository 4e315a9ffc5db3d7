// Random ops. The key is an input and the offset a param: a recompute repeats the numbers, a replayed trace goes on.
#include "keel/ops/random.h"

#include <cmath>

#include "ops/common.h"

namespace keel {

extern OpDef op_uniform, op_normal, op_randint, op_permutation, op_bernoulli, op_multinomial, op_dropout;

namespace {

constexpr DTypeSet kKey = set_of(u64);
constexpr const char* kWhy = "random";

void check_key(const Spec& key) { check_shape(key.shape == Shape({2}), "key must have shape [2]: seed and base"); }
DType check_float(DType given) {
  const DType t = given == DType::none ? f32 : given;
  if (!contains(kinds::floating, t)) fail(ErrorCode::dtype, std::string("gives f16, bf16, f32 or f64, not ") + name_of(t), "randint draws integers; x.astype(dtype) converts");
  return t;
}
int words_of(DType t) { return t == f64 ? 2 : 1; }

/// Largest and smallest value of an integer dtype, as what randint's bounds can hold.
bool holds(DType t, int64_t low, int64_t last) {
  const int bits = int(size_of(t)) * 8;
  if (is_unsigned(t)) return low >= 0 && (bits == 64 || last < (int64_t(1) << bits));
  return bits == 64 || (low >= -(int64_t(1) << (bits - 1)) && last < (int64_t(1) << (bits - 1)));
}

Tensor finish(Tensor t, const TensorOptions& o) {
  if (o.requires_grad) t.requires_grad_();
  return t;
}
const Tensor& key() { return default_generator().key(); }
/// Reserves words for a result of shape `s`; a shape that is wrong reserves nothing and is refused by infer.
int64_t reserve(const Shape& s, int words) {
  int64_t n = words;
  for (int64_t e : s)
    if (e < 0 || __builtin_mul_overflow(n, e, &n)) return 0;
  return default_generator().reserve(n);
}

}  // namespace

KEEL_OP(uniform, UniformParams) {
  def.doc("Numbers evenly spread over [low, high).")
      .in("key", kKey)
      .alone()
      .host()
      .out("y")
      .primitive()
      .random()
      .no_oracle(kWhy)
      .onnx("RandomUniform")
      .infer([](auto& p, Specs in) {
        check_key(in[0]);
        check_value(std::isfinite(p.low), "low", "finite", p.low);
        check_value(std::isfinite(p.high) && std::isfinite(p.high - p.low), "high", "finite", p.high);
        check_value(p.low < p.high, "high", "above low", p.high);
        const DType t = check_float(p.dtype);
        check_result(p.shape, t);
        return Spec{t, p.shape};
      });
}

KEEL_OP(normal, NormalParams) {
  def.doc("Normally distributed numbers.")
      .in("key", kKey)
      .alone()
      .host()
      .out("y")
      .primitive()
      .random()
      .no_oracle(kWhy)
      .onnx("RandomNormal")
      .infer([](auto& p, Specs in) {
        check_key(in[0]);
        check_value(p.stddev >= 0, "stddev", "at least 0", p.stddev);
        const DType t = check_float(p.dtype);
        check_result(p.shape, t);
        return Spec{t, p.shape};
      });
}

KEEL_OP(randint, RandintParams) {
  def.doc("Integers evenly spread over [low, high).")
      .in("key", kKey)
      .alone()
      .host()
      .out("y")
      .primitive()
      .random()
      .no_oracle(kWhy)
      .infer([](auto& p, Specs in) {
        check_key(in[0]);
        const DType t = p.dtype == DType::none ? i64 : p.dtype;
        if (!is_integer(t)) fail(ErrorCode::dtype, std::string("gives integers, not ") + name_of(t), "uniform and normal draw floats; x.astype(dtype) converts");
        if (p.low >= p.high)
          fail(ErrorCode::value, "high must be above low, got [" + std::to_string(p.low) + ", " + std::to_string(p.high) + ")", "low is drawn, high is not");
        if (!holds(t, p.low, p.high - 1))
          fail(ErrorCode::value,
               std::string(name_of(t)) + " does not hold all of [" + std::to_string(p.low) + ", " + std::to_string(p.high) + ")");
        check_result(p.shape, t);
        return Spec{t, p.shape};
      });
}

KEEL_OP(permutation, PermutationParams) {
  def.doc("The integers 0..n-1 in random order.")
      .in("key", kKey)
      .alone()
      .host()
      .out("y")
      .primitive()
      .random()
      .no_oracle(kWhy)
      .infer([](auto& p, Specs in) {
        check_key(in[0]);
        const DType t = p.dtype == DType::none ? i64 : p.dtype;
        if (!contains(kinds::index, t)) fail(ErrorCode::dtype, std::string("gives i64 or i32, not ") + name_of(t));
        check_value(p.n >= 0 && p.n <= (t == i32 ? int64_t(INT32_MAX) : int64_t(UINT32_MAX)), "n",
                    t == i32 ? "at least 0 and below 2^31" : "at least 0 and below 2^32", double(p.n));
        return Spec{t, Shape({p.n})};
      });
}

KEEL_OP(bernoulli, BernoulliParams) {
  def.doc("1 with probability p, else 0.")
      .in("p", kinds::floating)
      .in("key", kKey)
      .alone()
      .host()
      .out("y")
      .primitive()
      .random()
      .no_oracle(kWhy)
      .onnx("Bernoulli")
      .infer([](auto&, Specs in) {
        check_key(in[1]);
        return in[0];
      });
}

KEEL_OP(multinomial, MultinomialParams) {
  def.doc("Indices drawn in proportion to weights.")
      .in("weights", kinds::floating)
      .in("key", kKey)
      .alone()
      .host()
      .out("indices")
      .primitive()
      .random()
      .no_oracle(kWhy)
      .onnx("Multinomial")
      .infer([](auto& p, Specs in) {
        check_key(in[1]);
        const Shape& w = in[0].shape;
        if (!(w.rank() == 1 || w.rank() == 2))
          fail(ErrorCode::shape, "weights must have rank 1 or 2, got " + to_string(in[0]));
        check_value(p.count >= 0, "count", "at least 0", double(p.count));
        if (!p.replacement && p.count > w[-1])
          fail(ErrorCode::value, "cannot draw " + std::to_string(p.count) + " of " + std::to_string(w[-1]) + " without replacement",
               "replacement = true lets an index come twice");
        if (p.replacement && p.count > 0 && w[-1] == 0) fail(ErrorCode::value, "there is nothing to draw from: a row of weights is empty");
        return Spec{i64, with_axis(w, w.rank() - 1, p.count)};
      });
}

KEEL_OP(dropout, DropoutParams) {
  def.doc("Elements zeroed with probability p, the rest scaled by 1 / (1 - p).")
      .in("x", kinds::floating)
      .in("key", kKey)
      .alone()
      .host()
      .out("y")
      .primitive()
      .random()
      .no_oracle(kWhy)
      .onnx("Dropout")
      .infer([](auto& p, Specs in) {
        check_key(in[1]);
        check_value(p.p >= 0 && p.p <= 1, "p", "between 0 and 1", p.p);
        return in[0];
      })
      .saves(In{1})
      .vjp([](auto& p, const VjpArgs& a) -> Tensors { return {call(op_dropout, p, a.g[0], a.in[1])}; });
}

Tensor uniform(const Shape& s, double low, double high, const TensorOptions& o) {
  const UniformParams p{
      .shape = s, .low = low, .high = high, .dtype = o.dtype, .device = o.device, .offset = reserve(s, words_of(o.dtype))};
  return finish(call(op_uniform, p, key()), o);
}
Tensor rand(const Shape& s, const TensorOptions& o) { return uniform(s, 0, 1, o); }
Tensor normal(const Shape& s, double mean, double stddev, const TensorOptions& o) {
  const NormalParams p{
      .shape = s, .mean = mean, .stddev = stddev, .dtype = o.dtype, .device = o.device, .offset = reserve(s, words_of(o.dtype))};
  return finish(call(op_normal, p, key()), o);
}
Tensor randn(const Shape& s, const TensorOptions& o) { return normal(s, 0, 1, o); }
Tensor randint(int64_t low, int64_t high, const Shape& s, const TensorOptions& o) {
  const RandintParams p{.shape = s, .low = low, .high = high, .dtype = o.dtype, .device = o.device, .offset = reserve(s, 2)};
  return finish(call(op_randint, p, key()), o);
}
Tensor permutation(int64_t n, const TensorOptions& o) {
  // Two runs of n words, each from a new block on.
  const PermutationParams p{.n = n,
                            .dtype = o.dtype,
                            .device = o.device,
                            .offset = n > 0 && n <= int64_t(UINT32_MAX) ? default_generator().reserve(2 * ((n + 3) / 4 * 4)) : 0};
  return finish(call(op_permutation, p, key()), o);
}
Tensor bernoulli(const Tensor& p) {
  const int64_t offset = p.defined() ? reserve(p.shape(), words_of(p.dtype())) : 0;
  return call(op_bernoulli, BernoulliParams{.offset = offset}, p, key());
}
Tensor multinomial(const Tensor& weights, int64_t count, bool replacement) {
  int64_t offset = 0;
  if (weights.defined() && weights.rank() > 0 && count > 0) {
    const int64_t n = weights.shape()[-1];
    Shape drawn = weights.shape();
    drawn[-1] = replacement ? count : n;
    offset = reserve(drawn, 2);
  }
  return call(op_multinomial, MultinomialParams{.count = count, .replacement = replacement, .offset = offset}, weights, key());
}
Tensor dropout(const Tensor& x, const DropoutParams& given) {
  DropoutParams p = given;
  p.offset = x.defined() ? reserve(x.shape(), 1) : 0;
  return call(op_dropout, p, x, key());
}

}  // namespace keel
