#pragma once
#include <initializer_list>
#include <limits>
#include <string_view>

#include "keel/base/ref.h"
#include "keel/state_dict.h"
#include "keel/tensor.h"

#pragma GCC visibility push(default)
namespace keel::optim {

namespace detail {
struct OptimizerState;
struct Rule;
}  // namespace detail

/// In a group: take the optimiser's own setting.
inline constexpr double kInherit = std::numeric_limits<double>::quiet_NaN();

/// Decay rates of the first and second moment.
struct Betas {
  double first = 0.9, second = 0.999;
};

/// Any optimiser: a handle, whose copies share one state. Parameters are trained in groups with settings of their own.
///
/// The first `step` warns through the log of every parameter that has a gradient but no optimiser, and of every one that the optimiser has but that got no gradient.
class Optimizer {
 public:
  Optimizer() noexcept;
  Optimizer(const Optimizer&) noexcept;
  Optimizer(Optimizer&&) noexcept;
  Optimizer& operator=(const Optimizer&) noexcept;
  Optimizer& operator=(Optimizer&&) noexcept;
  ~Optimizer();

  /// Changes every parameter that has a gradient, in place, without recording a gradient.
  void step();
  /// As `step`, but where `skip` (f32[]) is not 0 nothing changes, step counts included. It may lie on the device of the parameters, and is
  /// looked at there: the host does not wait. ShapeError for anything but f32[].
  void step_unless(const Tensor& skip);
  /// Drops the gradients; the next backward pass sets them anew.
  void zero_grad();

  int64_t groups() const;
  const Tensors& parameters(int64_t group) const;
  /// Parameters of all groups.
  Tensors parameters() const;
  double lr(int64_t group = 0) const;
  /// Of all groups.
  void set_lr(double lr);
  void set_lr(int64_t group, double lr);
  /// A setting of a group by name: "lr", "weight_decay", "momentum", "beta1", ...; ValueError where the rule has no such setting.
  double get(int64_t group, std::string_view name) const;
  void set(int64_t group, std::string_view name, double value);
  bool has(std::string_view name) const;
  /// "SGD", "AdamW", ...
  const char* name() const;
  bool defined() const { return bool(state_); }

  /// "state.0.exp_avg", "state.0.step", ... by position of the parameter over all groups, and "param_groups.0.lr", ...: PyTorch's names. The tensors share memory with the optimiser.
  StateDict state_dict() const;
  /// Copies a state in; one error lists all that does not fit, and then nothing was changed.
  void load_state_dict(const StateDict& s);

  /// What the first step found, by path where a module gave one: parameters with a gradient but no optimiser, and parameters of this optimiser without a gradient.
  const std::vector<std::string>& untrained() const;
  const std::vector<std::string>& without_gradient() const;

 protected:
  Optimizer(const detail::Rule& rule, uint32_t flags);
  /// `settings` in the order of the rule; kInherit takes the one of `defaults`.
  void add_group(const Tensors& parameters, std::initializer_list<double> settings, std::initializer_list<double> defaults);
  void step_with(const Tensor& skip, const void* site);
  Ref<detail::OptimizerState> state_;
};

/// Parameters of rank 2 or more, and the rest: weight decay is usually meant for the first only.
struct SplitByRank {
  Tensors matrices, vectors;
};
SplitByRank split_by_rank(const Tensors& parameters);

}  // namespace keel::optim
#pragma GCC visibility pop
