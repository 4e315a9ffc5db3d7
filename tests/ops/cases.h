#pragma once
// One case list an op, many judges. A case file says what to run, not how to judge it:
//
//   KEEL_CASES(softmax) {
//     c.op("softmax").torch("torch.softmax(x, dim=axis)")
//         .sample(SoftmaxParams{.axis = 1}, {normal({4, 7})})
//         .sample(SoftmaxParams{}, {normal({3, 0})})
//         .error(SoftmaxParams{.axis = 4}, {normal({2, 3})}, ErrorCode::index, "axis 4");
//   }
#include <cstring>
#include <string>
#include <vector>

#include "keel/error.h"
#include "keel/keel.h"

namespace keel::testing_cases {

/// How one input of a sample is made. Floating inputs take the dtype that is judged; `dtype` fixes it.
struct Arg {
  enum class Fill : uint8_t { absent, normal, uniform, integers, bools, values, special };
  Fill fill = Fill::absent;
  Shape shape;
  DType dtype = DType::none;
  double lo = 0, hi = 1;       // bounds of uniform, integers
  std::vector<double> values;  // for `values`
  bool differentiable = true;  // whether the gradient judges look at it
};
inline Arg absent() { return {}; }
/// Normal numbers, deterministic by position and sample.
inline Arg normal(Shape s) { return {Arg::Fill::normal, s, DType::none, 0, 1, {}, true}; }
inline Arg between(Shape s, double lo, double hi) { return {Arg::Fill::uniform, s, DType::none, lo, hi, {}, true}; }
/// Integers in [lo, hi).
inline Arg integers(Shape s, double lo, double hi, DType t = i64) { return {Arg::Fill::integers, s, t, lo, hi, {}, false}; }
inline Arg bools(Shape s) { return {Arg::Fill::bools, s, DType::boolean, 0, 2, {}, false}; }
inline Arg values(Shape s, std::vector<double> v, DType t = DType::none) { return {Arg::Fill::values, s, t, 0, 0, std::move(v), true}; }
/// NaN, infinities, zeros of both signs, subnormals, extremes, and ordinary numbers; no gradient is judged.
inline Arg special(Shape s) { return {Arg::Fill::special, s, DType::none, 0, 0, {}, false}; }
inline Arg constant(Arg a) { return a.differentiable = false, a; }

struct Sample {
  std::vector<char> params;
  std::vector<Arg> in;
  bool grad = true;  // off at kinks and where the input is special
};
struct ErrorSample {
  std::vector<char> params;
  std::vector<Arg> in;
  ErrorCode code;
  std::string text;
};
/// |got - want| <= abs + rel * |want|
struct Tolerance {
  double rel, abs;
};

class OpCase {
 public:
  std::string op;
  std::string torch_text, numpy_text;
  std::vector<Sample> samples;
  std::vector<ErrorSample> errors;
  DTypeSet dtypes = set_of(f32, f64, f16, bf16);  // judged dtypes of inputs that are not fixed
  Tolerance f32_tolerance{2e-6, 1e-6}, f64_tolerance{1e-12, 1e-13}, f16_tolerance{2e-3, 1e-3}, bf16_tolerance{1.6e-2, 8e-3};
  double grad_abs = 1e-9, grad_rel = 1e-7;
  bool second = true;            // judge second derivatives
  const char* no_grad = nullptr;  // why gradients are not judged

  /// What computes the same in PyTorch (names: the inputs' and params' names), for the live judge.
  OpCase& torch(std::string t) { return torch_text = t, *this; }
  OpCase& numpy(std::string t) { return numpy_text = t, *this; }
  template <class P>
  OpCase& sample(const P& p, std::vector<Arg> in, bool grad = true) { return samples.push_back({bytes(p), std::move(in), grad}), *this; }
  OpCase& sample(std::vector<Arg> in, bool grad = true) { return sample(NoParams{}, std::move(in), grad); }
  template <class P>
  OpCase& error(const P& p, std::vector<Arg> in, ErrorCode code, const char* text) {
    return errors.push_back({bytes(p), std::move(in), code, text}), *this;
  }
  OpCase& error(std::vector<Arg> in, ErrorCode code, const char* text) { return error(NoParams{}, std::move(in), code, text); }
  OpCase& only(DTypeSet s) { return dtypes = s, *this; }
  OpCase& tolerance(DType t, double rel, double abs) {
    (t == f64 ? f64_tolerance : t == f16 ? f16_tolerance : t == bf16 ? bf16_tolerance : f32_tolerance) = {rel, abs};
    return *this;
  }
  OpCase& no_gradient(const char* why) { return no_grad = why, *this; }
  OpCase& first_order_only() { return second = false, *this; }

 private:
  template <class P>
  static std::vector<char> bytes(const P& p) {
    std::vector<char> b(sizeof(P));
    std::memcpy(b.data(), &p, sizeof(P));
    return b;
  }
};

class CaseList {
 public:
  OpCase& op(const char* name) {
    ops.emplace_back();
    ops.back().op = name;
    return ops.back();
  }
  std::vector<OpCase> ops;
};

/// All cases, made once.
const CaseList& all_cases();
/// The inputs of a sample; floating ones in `dtype`. Equal calls give equal tensors.
Tensors make_inputs(const std::vector<Arg>& in, DType dtype, uint64_t seed);
/// "softmax(f32[4, 7], axis=1)": what a judge prints and `--case` takes.
std::string describe(const OpCase& c, const Sample& s, DType dtype);
/// Runs the op by its row; absent inputs are undefined.
Tensors run_op(const OpDef& op, const std::vector<char>& params, const Tensors& in);
/// The same in float64 by decompositions and reference kernels alone; floating inputs are widened first.
Tensors run_oracle(const OpDef& op, const std::vector<char>& params, const Tensors& in);

}  // namespace keel::testing_cases

/// Defines the cases of one file: `c` is the list to add to. Found by the build.
#define KEEL_CASES(NAME)                                        \
  namespace keel::testing_cases {                               \
  void cases_##NAME(CaseList& c);                               \
  }                                                             \
  void keel::testing_cases::cases_##NAME(CaseList& c)
