#pragma once
#include "keel/optim/optimizer.h"

#pragma GCC visibility push(default)
namespace keel::optim {

struct EmaOptions {
  [[no_unique_address]] ByName by_name = ByName();
  double decay = 0.999;
};
/// Exponential moving averages of parameters: average += (1 - decay) (value - average) at each `update`, starting from the values at construction. Kept in f32 or f64.
class Ema {
 public:
  explicit Ema(const Tensors& parameters, const EmaOptions& o = {});
  void update();
  /// Exchanges averages and parameters: call it before an evaluation and after it.
  void swap();
  /// Writes the averages into the parameters.
  void copy_to_parameters() const;
  const Tensors& averages() const { return averages_; }
  double decay() const;
  void set_decay(double decay);
  /// "averages.0", ... and "decay".
  StateDict state_dict() const;
  void load_state_dict(const StateDict& s);

 private:
  Tensors parameters_, averages_;
  Tensor decay_;
};

}  // namespace keel::optim
#pragma GCC visibility pop
