#pragma once
// What norms of rows and norms of channels share.
#include <initializer_list>

#include "ops/common.h"

namespace keel {

inline void check_scale(Specs in, int i, const char* role, const Shape& want, const char* what) {
  if (in.has(i) && !(in[i].shape == want))
    fail(ErrorCode::shape, std::string(role) + " must have shape " + to_string(want) + " (" + what + "), got " + to_string(in[i].shape));
}
/// What the gradients by x and weight read: x and its statistics, which are results 1 and 2; that by x also the weight.
inline constexpr auto norm_saves = [](auto&, Needs n) {
  Saves s;
  if (n[0] || n[1]) s = Saves(In{0}, Out{1}, Out{2});
  if (n[0]) s.add(In{1});
  return s;
};
inline bool needed(const VjpArgs& a, int i) { return i < a.in.size() && a.needs[i]; }
/// Of `made`, the gradients of inputs 0, 1 ..., those that were asked for.
inline Tensors placed(const VjpArgs& a, const Tensors& made) {
  Tensors out(a.in.size());
  for (int i = 0; i < int(made.size()); ++i)
    if (needed(a, i)) out[i] = made[i];
  return out;
}
/// Stands for a gradient that was not asked for.
inline Tensor nothing(const Tensor& x) { return full(Shape({0}), 0, {.dtype = x.dtype(), .device = x.device()}); }
/// The gradient of x, and those of parameters of shape `row`; empty where not needed.
inline SpecList gradient_specs(const Spec& x, const Shape& row, bool need_x, std::initializer_list<bool> need_rows) {
  const Spec none{x.dtype, Shape({0})}, of_row{x.dtype, row};
  SpecList out;
  out.push_back(need_x ? x : none);
  for (const bool need : need_rows) out.push_back(need ? of_row : none);
  return out;
}

}  // namespace keel
