#pragma once
#include <utility>
#include <type_traits>

#include "keel/base/callback.h"
#include "keel/tensor.h"

#pragma GCC visibility push(default)
namespace keel {

namespace detail {
class ScopeKeeper {
 public:
  ScopeKeeper();
  ~ScopeKeeper();
  ScopeKeeper(const ScopeKeeper&) = delete;
  ScopeKeeper& operator=(const ScopeKeeper&) = delete;

 private:
  alignas(8) unsigned char saved_[96];
};
void set_grad_mode(bool on);
}  // namespace detail

/// While it lives, ops of this thread record no gradient.
class NoGrad {
 public:
  NoGrad() { detail::set_grad_mode(false); }

 private:
  detail::ScopeKeeper keep_;
};
/// While it lives, gradients are recorded again, inside a NoGrad too.
class EnableGrad {
 public:
  EnableGrad() { detail::set_grad_mode(true); }

 private:
  detail::ScopeKeeper keep_;
};
bool grad_enabled();

struct GradOptions {
  [[no_unique_address]] ByName by_name = ByName();
  bool retain_graph = false;
  bool create_graph = false;   // gradients can be differentiated again; implies retain_graph
  bool allow_unused = false;   // an input that the outputs do not depend on gets an undefined tensor instead of an error
};

/// Gradients of the sum of `outputs` (each times its cotangent, 1 for a single-element output where `cotangents` is empty) with respect to `inputs`. Nothing is accumulated into `.grad`.
Tensors grad(const Tensors& outputs, const Tensors& inputs, const GradOptions& options = {}, const Tensors& cotangents = {});
inline Tensors grad(const Tensor& output, const Tensors& inputs, const GradOptions& options = {}) { return grad(Tensors{output}, inputs, options); }
/// Accumulates gradients into the `.grad` of every leaf.
void backward(const Tensors& outputs, const Tensors& cotangents = {}, const GradOptions& options = {});

// ---- hooks ----
using GradHook = Callback<Tensor(const Tensor& grad)>;
/// Called with the gradient of `t` once it is complete; a defined result replaces it. Returns a number for `remove_hook`.
int64_t register_hook(const Tensor& t, GradHook hook);
/// Called with a leaf after its gradient was accumulated.
int64_t register_post_accumulate_hook(const Tensor& leaf, Callback<void(const Tensor& leaf)> hook);
/// Called with the gradients of the node's inputs when the op that made `t` has run backwards; it may change them.
int64_t register_node_hook(const Tensor& t, Callback<void(Tensors& grads)> hook);
void remove_hook(const Tensor& t, int64_t id);
/// From inside a hook or a backward function: called once when the backward pass in progress ends.
void on_backward_end(Callback<void()> f);

// ---- functions of one's own ----
/// What a function's forward hands to its backward.
class FunctionContext {
 public:
  template <class... T> void save(const T&... t) { (saved_.push_back(t), ...); }
  /// The i-th saved tensor, with its place in the graph, so that a second derivative works; IndexError where forward saved fewer.
  const Tensor& saved(int64_t i) const;
  /// Whether input `i` wants a gradient; others may be left undefined in what backward returns.
  bool needs(int64_t i) const { return (needs_ >> i) & 1; }

 private:
  Tensors saved_;
  uint64_t needs_ = ~uint64_t(0);
  friend struct FunctionAccess;
};
using BackwardFunction = Tensors (*)(FunctionContext& ctx, const Tensors& cotangents);
namespace detail {
/// Runs `forward` without recording; where gradients are wanted, hangs `backward` behind the outputs.
Tensors apply_function(const char* name, const Tensors& inputs, Callback<Tensors(FunctionContext&)> forward, BackwardFunction backward);
}  // namespace detail

/// Applies a differentiable function of one's own: a struct with static `forward(FunctionContext&, const Tensor&...)`, which gives a Tensor or Tensors, and
/// `backward(FunctionContext&, const Tensor& g...)`, which gives one gradient an input.
template <class F, class... T>
auto apply(const T&... inputs) {
  using Result = decltype(F::forward(std::declval<FunctionContext&>(), inputs...));
  auto forward = [&](FunctionContext& ctx) -> Tensors {
    if constexpr (std::is_same_v<Result, Tensor>) return {F::forward(ctx, inputs...)};
    else return F::forward(ctx, inputs...);
  };
  BackwardFunction backward = [](FunctionContext& ctx, const Tensors& g) -> Tensors {
    if constexpr (std::is_same_v<Result, Tensor>) return F::backward(ctx, g[0]);
    else return F::backward(ctx, g);
  };
  Tensors out = detail::apply_function("function", {inputs...}, forward, backward);
  if constexpr (std::is_same_v<Result, Tensor>) return Tensor(out[0]);
  else return out;
}

/// Runs `f(inputs...)` without keeping what its gradient needs; the backward pass runs `f` again, with the same random numbers. `f` gives one Tensor.
Tensor checkpoint_list(Callback<Tensor(const Tensors&)> f, const Tensors& inputs);
template <class F, class... T>
Tensor checkpoint(F f, const T&... inputs) {
  return checkpoint_list([f](const Tensors& in) -> Tensor {
    return [&]<size_t... At>(std::index_sequence<At...>) { return f(in[int64_t(At)]...); }(std::index_sequence_for<T...>());
  }, {inputs...});
}

// ---- checks ----
struct GradcheckOptions {
  [[no_unique_address]] ByName by_name = ByName();
  double eps = 1e-6, abs = 1e-9, rel = 1e-7;
  bool raise = true;
};
using TestedFunction = Callback<Tensors(const Tensors&)>;
namespace detail {
bool gradcheck(const TestedFunction& f, const Tensors& inputs, const GradcheckOptions& o);
bool gradgradcheck(const TestedFunction& f, const Tensors& inputs, const GradcheckOptions& o);
template <class F>
TestedFunction tested(F f) {
  return [f](const Tensors& in) -> Tensors {
    if constexpr (std::is_convertible_v<decltype(f(in)), Tensor>) return {Tensor(f(in))};
    else return f(in);
  };
}
}  // namespace detail
/// Compares the gradients of `f` with fourth-order central differences, element by element, in f64: |analytic - numeric| <= abs + rel * scale + an estimate of the difference's own error. Raises AutogradError
/// with a report of the worst elements, or returns false where `raise` is off.
template <class F>
bool gradcheck(F f, const Tensors& inputs, const GradcheckOptions& o = {}) { return detail::gradcheck(detail::tested(f), inputs, o); }
/// The same for second derivatives: checks the gradient of the gradient.
template <class F>
bool gradgradcheck(F f, const Tensors& inputs, const GradcheckOptions& o = {}) { return detail::gradgradcheck(detail::tested(f), inputs, o); }

}  // namespace keel
#pragma GCC visibility pop
