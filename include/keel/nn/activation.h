#pragma once
#include "keel/nn/module.h"
#include "keel/ops/elementwise.h"
#include "keel/ops/softmax.h"

#pragma GCC visibility push(default)
// Activations as modules, for Sequential. None has parameters.
namespace keel::nn {
namespace detail {
template <Tensor (*f)(const Tensor&), class Self>
class Activation : public Module<Self> {
 public:
  static void fields(auto&, auto&&) {}
  Tensor forward(const Tensor& x) const { return f(x); }
};
/// An activation with the params of its op.
template <class P, Tensor (*f)(const Tensor&, const P&), class Self>
class ActivationWith : public Module<Self> {
 public:
  explicit ActivationWith(const P& p = {}) : params_(p) {}
  static void fields(auto&, auto&&) {}
  Tensor forward(const Tensor& x) const { return f(x, params_); }

 private:
  P params_;
};
}  // namespace detail

struct ReLU : detail::Activation<relu, ReLU> {};
struct SiLU : detail::Activation<silu, SiLU> {};
struct Tanh : detail::Activation<tanh, Tanh> {};
struct Sigmoid : detail::Activation<sigmoid, Sigmoid> {};
struct Hardswish : detail::Activation<hardswish, Hardswish> {};
struct Mish : detail::Activation<mish, Mish> {};
struct SELU : detail::Activation<selu, SELU> {};
struct GELU : detail::ActivationWith<GeluParams, gelu, GELU> { using ActivationWith::ActivationWith; };
struct LeakyReLU : detail::ActivationWith<LeakyReluParams, leaky_relu, LeakyReLU> { using ActivationWith::ActivationWith; };
struct ELU : detail::ActivationWith<EluParams, elu, ELU> { using ActivationWith::ActivationWith; };
struct Softplus : detail::ActivationWith<SoftplusParams, softplus, Softplus> { using ActivationWith::ActivationWith; };
struct Softmax : detail::ActivationWith<SoftmaxParams, softmax, Softmax> { using ActivationWith::ActivationWith; };
struct LogSoftmax : detail::ActivationWith<SoftmaxParams, log_softmax, LogSoftmax> { using ActivationWith::ActivationWith; };

}  // namespace keel::nn
#pragma GCC visibility pop
