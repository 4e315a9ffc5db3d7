#pragma once
#include <vector>

#include "keel/optim/optimizer.h"

#pragma GCC visibility push(default)
namespace keel::optim {

struct GradScalerOptions {
  [[no_unique_address]] ByName by_name = ByName();
  double init_scale = 65536;
  double growth_factor = 2;
  double backoff_factor = 0.5;
  int64_t growth_interval = 2000;
  bool enabled = true;  ///< false: `scale` gives its argument, `step` steps, nothing else happens
};

/// Dynamic loss scaling, for gradients that float16 would flush to zero. The loss is multiplied by a scale before the backward pass, the
/// gradients are divided by it before the step; a step whose gradients hold an infinity or a NaN is left out and the scale shrinks, after
/// `growth_interval` good steps in a row it grows. Names and sequence of scales are those of torch.amp.GradScaler.
///
///     optim::GradScaler scaler;
///     { Autocast guard(f16); loss = cross_entropy(net(x), y); }
///     scaler.scale(loss).backward();
///     scaler.unscale_(opt);                        // where gradients are clipped
///     nn::clip_grad_norm(net.parameters(), 1.0);
///     scaler.step(opt);
///     scaler.update();
///
/// Where the loss is on another device than the CPU, so are the scale, what was found in the gradients and the count of good steps, and nothing
/// of this waits for the device: the step reads there whether it is to be left out. Only `get_scale` and `state_dict` wait.
///
/// Not to be shared between threads.
class GradScaler {
 public:
  using Options = GradScalerOptions;
  /// ValueError unless init_scale > 0, growth_factor > 1, 0 < backoff_factor < 1, growth_interval > 0.
  explicit GradScaler(const GradScalerOptions& o = {});

  /// `loss` times the scale, in f32 where the loss is of 16 bits, so that the product does not overflow.
  Tensor scale(const Tensor& loss) const;
  Tensors scale(const Tensors& losses) const;
  /// Divides the gradients of the optimiser's parameters by the scale, in place, and notes whether any was not finite before. `step`
  /// does it where it was not done. ValueError where it was done since the last `update`; DTypeError for f16 gradients, which have no room for it.
  void unscale_(const Optimizer& opt);
  /// `opt.step()`, unless a gradient was not finite. ValueError for a second call before `update`. On another device the step is
  /// queued with the word that leaves it out (Optimizer::step_unless), and nothing is decided here.
  void step(Optimizer& opt);
  /// Sets the scale for the next iteration. ValueError where no gradients were looked at since the last call.
  void update();
  /// Sets it to a given one.
  void update(double new_scale);

  /// 1 where not enabled.
  double get_scale() const;
  double get_growth_factor() const { return options_.growth_factor; }
  double get_backoff_factor() const { return options_.backoff_factor; }
  int64_t get_growth_interval() const { return options_.growth_interval; }
  void set_growth_factor(double v) { options_.growth_factor = v; }
  void set_backoff_factor(double v) { options_.backoff_factor = v; }
  void set_growth_interval(int64_t v) { options_.growth_interval = v; }
  bool is_enabled() const { return options_.enabled; }
  /// Whether `unscale_` or `step` found a value that is not finite in the gradients of `opt` since the last `update`: f32[], 0 or 1; an
  /// undefined tensor where none was looked at.
  Tensor found_inf(const Optimizer& opt) const;

  /// "scale", "growth_factor", "backoff_factor", "growth_interval", "_growth_tracker"; empty where not enabled.
  StateDict state_dict() const;
  /// Copies a state in. ValueError where an entry is missing; does nothing where not enabled.
  void load_state_dict(const StateDict& s);

 private:
  enum class Stage : uint8_t { ready, unscaled, stepped };
  struct Seen {
    Optimizer opt;
    Stage stage = Stage::ready;
    Tensors found;  // one a device
  };
  Seen& seen(const Optimizer& opt);

  GradScalerOptions options_;
  void settle(Device d) const;
  mutable Tensor scale_;  // f32[]; a trace that multiplies by it reads what it holds then
  mutable Tensor growth_tracker_;  // i64[]
  std::vector<Seen> seen_;
};

}  // namespace keel::optim
#pragma GCC visibility pop
