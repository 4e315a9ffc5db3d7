#pragma once
#include <string>
#include <type_traits>

#include "keel/base/callback.h"
#include "keel/base/ref.h"
#include "keel/op.h"
#include "keel/tensor.h"
#include "keel/trace.h"

#pragma GCC visibility push(default)
namespace keel {

namespace detail {
struct CompiledState;
}

struct CompileOptions {
  [[no_unique_address]] ByName by_name = ByName();
  /// Calls that only run the step, of each kind of inputs, before one is recorded: what comes into being in the first step, such as an
  /// optimiser's state, should exist by then. ValueError where negative.
  int64_t warm_up = 1;
  /// Whether chains of elementwise ops and ops on rows become one kernel each, where the device can make kernels of them. The environment
  /// variable KEEL_FUSE=0 turns it off everywhere.
  bool fuse = true;
};

/// A step that is recorded, captured and replayed; made by `compile`. Copies share it. Not to be shared between threads.
class Compiled {
 public:
  /// Nothing to call.
  Compiled() noexcept;
  Compiled(const Callback<Tensors(const Tensors&)>& f, const CompileOptions& o);
  Compiled(const Compiled&) noexcept;
  Compiled(Compiled&&) noexcept;
  Compiled& operator=(const Compiled&) noexcept;
  Compiled& operator=(Compiled&&) noexcept;
  ~Compiled();

  /// What the step gives for `inputs`. Raises what the step raises.
  Tensors operator()(const Tensors& inputs = {}) const;

  /// Whether the last call replayed a capture of the device.
  bool captured() const;
  /// Why it did not, in a line; empty where it did.
  const std::string& reason() const;
  /// Calls that replayed a capture, so far.
  int64_t replays() const;
  /// Which chains of ops the newest capture runs as one kernel each, and why others do not; lines for people.
  const std::string& report() const;

 private:
  Ref<detail::CompiledState> state_;
};

/// A step, such as forward pass, backward pass and optimiser, that costs the host next to nothing from its fourth call on.
///
///     Compiled step = compile([&](const Tensors& in) {
///       opt.zero_grad();
///       Tensor loss = cross_entropy(net(in[0]), in[1]);
///       loss.backward();
///       opt.step();
///       return loss.detach();
///     });
///     for (auto& [x, y] : batches) total.add_(step({x, y})[0]);
///
/// The first `warm_up` calls run `f` as it is. The next one is recorded (keel/trace.h), the one after it runs the recording, and where the
/// step neither waits for the device nor leaves an op to the CPU, all that follow replay a capture of the device's work: on CUDA a graph.
/// Each dtype, shape and order of the inputs has a recording of its own, of which eight are kept; so has each grad mode, autocast and level
/// of determinism, training and evaluation of the modules that the step asks, and a begin with and without gradients. Where a step cannot
/// be captured, `reason` says why and calls go on by running the recording; where the host looked at values, or the recording would not do
/// what `f` does, by running `f`. So it is while another recording is at work,
/// and in steps that a monitor watches as a whole.
///
/// Chains of elementwise ops run as one kernel each. Until the device has made these, which takes a moment where they are new, the step
/// is captured with the ops' own kernels.
///
/// Results, gradients and everything the step writes equal those of `f` to the bit. Read anew in each call are the inputs, the tensors
/// that the step uses from outside, an optimiser's settings (schedules work) and the state of the default generator. Numbers of the
/// program, as in `x * k`, and decisions of the host are as they were when the step was recorded; hooks are not called. A step is recorded
/// again where a tensor that it uses was replaced, as load_state_dict() and to() do, or frozen.
///
/// Results are the caller's own. `.grad` of a leaf is the same memory after every replay, and results that were computed with gradients are
/// given without: call backward() inside.
template <class F>
  requires std::is_invocable_v<F&, const Tensors&>
Compiled compile(F f, const CompileOptions& o = {}) {
  return Compiled(detail::giving_tensors(std::move(f)), o);
}

}  // namespace keel
#pragma GCC visibility pop
