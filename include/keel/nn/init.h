#pragma once
#include "keel/tensor.h"

#pragma GCC visibility push(default)
/// Initialisers: each overwrites its tensor in place, without a gradient. Random ones draw from `default_generator()`.
namespace keel::nn::init {

struct NormalOptions {
  [[no_unique_address]] ByName by_name = ByName();
  double mean = 0;
  double std = 1;
};
struct UniformOptions {
  [[no_unique_address]] ByName by_name = ByName();
  double low = 0;
  double high = 1;
};
struct TruncNormalOptions {
  [[no_unique_address]] ByName by_name = ByName();
  double mean = 0;
  double std = 1;
  double low = -2;   // in units of the tensor, not of std
  double high = 2;
};
struct XavierOptions {
  [[no_unique_address]] ByName by_name = ByName();
  double gain = 1;
};
/// Which fan the variance is kept over: that of the forward pass (in) or of the backward pass (out).
enum class Fan : uint8_t { in, out };
enum class Nonlinearity : uint8_t { linear, sigmoid, tanh, relu, leaky_relu, selu };
struct KaimingOptions {
  [[no_unique_address]] ByName by_name = ByName();
  double slope = 0;  // of leaky_relu below zero
  Fan fan = Fan::in;
  Nonlinearity nonlinearity = Nonlinearity::leaky_relu;
};

void zeros(const Tensor& t);
void ones(const Tensor& t);
void constant(const Tensor& t, double value);
void normal(const Tensor& t, const NormalOptions& o = {});
void uniform(const Tensor& t, const UniformOptions& o = {});
/// Normal numbers outside [low, high] drawn again; by the inverse of the distribution function (Wichura's AS 241).
void trunc_normal(const Tensor& t, const TruncNormalOptions& o = {});
/// Uniform in +-gain sqrt(6 / (fan_in + fan_out)) (Glorot and Bengio 2010). Rank 2 or more: [out, in, window...].
void xavier_uniform(const Tensor& t, const XavierOptions& o = {});
/// Normal with deviation gain sqrt(2 / (fan_in + fan_out)).
void xavier_normal(const Tensor& t, const XavierOptions& o = {});
/// Uniform in +-gain sqrt(3 / fan) (He et al. 2015).
void kaiming_uniform(const Tensor& t, const KaimingOptions& o = {});
/// Normal with deviation gain / sqrt(fan).
void kaiming_normal(const Tensor& t, const KaimingOptions& o = {});
/// By how much a layer's weights are scaled before this nonlinearity. `slope` is that of leaky_relu.
double calculate_gain(Nonlinearity n, double slope = 0.01);

}  // namespace keel::nn::init
#pragma GCC visibility pop
