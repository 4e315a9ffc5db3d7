#pragma once
// What rows of safe and soft ops share.
#include <cmath>
#include <optional>
#include <string>

#include "backend/float_limits.h"
#include "ops/common.h"

namespace keel {

/// The number that the program gave as input i of the op in progress; nothing where it is a tensor.
inline std::optional<double> given_number(int i) {
  const Frame* f = scope().frame;
  if (!f || i >= f->n_inputs || !f->inputs[i]->defined() || !impl(*f->inputs[i]).weak) return {};
  return scalar_of(*f->inputs[i]).to_double();
}
/// Whether the program gave the op in progress integers or bools alone, which were promoted since.
inline bool given_integers() {
  const Frame* f = scope().frame;
  bool any = false;
  for (int i = 0; f && i < f->n_inputs; ++i) {
    if (!f->inputs[i]->defined()) continue;
    if (is_inexact(impl(*f->inputs[i]).spec.dtype)) return false;
    any = true;
  }
  return any;
}
/// ValueError where floating dtype `t` has no such value.
inline void check_fits(double v, DType t, const char* name) {
  if (fits(v, t)) return;
  const std::string range = std::string("a value of ") + name_of(t) + ", whose largest is " + to_string(Scalar(largest_of(t)));
  check_value(false, name, range, v);
}
inline void check_not_negative(double v, const char* name) { check_value(!(v < 0), name, "not negative", v); }
/// A tolerance: NaN stands for "not given".
inline double given_or(double v, double otherwise) { return std::isnan(v) ? otherwise : v; }
/// lo and hi, where both are numbers.
inline void check_bounds(int lo, int hi, bool bounded) {
  const std::optional<double> a = given_number(lo), b = given_number(hi);
  if (bounded && a) check_value(std::isfinite(*a), "lo", "finite", *a);
  if (bounded && b) check_value(std::isfinite(*b), "hi", "finite", *b);
  if (a && b) check_value(!(*a > *b), "lo", "at most hi = " + to_string(Scalar(*b)), *a);
}

/// Neither NaN nor an infinity; of any dtype.
inline Tensor finite(const Tensor& x) { return isfinite(acc(x)); }

}  // namespace keel
