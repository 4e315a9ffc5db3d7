#pragma once

#pragma GCC visibility push(default)
namespace keel {

/// Loud arithmetic. With debug mode on, an op of this thread that makes a NaN or infinity from finite values raises a NumericalError
/// which names the op, its inputs' ranges, module path and place in the program; so does a safe op (div_safe, sqrt_safe, rsqrt_safe,
/// log_safe, pow_safe, sanitize, softmax_safe, normalize_safe) where it replaces a value, norm_safe where it does a gradient. Each place is
/// also logged once (topic "debug", level warning). With debug mode off, the same ops return infinities, NaN, or their defaults,
/// silently and at no cost: nothing is looked at. The values of a program that raises nothing are the same bits in both modes.
///
/// Debug mode watches as a Monitor does, and costs the same; it sees the ops of the thread that turned it on. A Monitor that lives at the
/// same time goes on watching.
void set_debug_mode(bool on);
bool debug_mode();

/// Debug mode on, or off, while it lives.
class DebugMode {
 public:
  explicit DebugMode(bool on = true) : before_(debug_mode()) { set_debug_mode(on); }
  ~DebugMode() { set_debug_mode(before_); }
  DebugMode(const DebugMode&) = delete;
  DebugMode& operator=(const DebugMode&) = delete;

 private:
  bool before_;
};

}  // namespace keel
#pragma GCC visibility pop
