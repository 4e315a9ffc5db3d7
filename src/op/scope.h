#pragma once
#include <cstdint>

#include "keel/op.h"

namespace keel {

struct Call;

/// The call in progress, for errors and attribution. Frames form a list from the innermost op outwards.
struct Frame {
  const OpDef* op = nullptr;
  const void* params = nullptr;
  const Tensor* const* inputs = nullptr;  // as the caller passed them
  int n_inputs = 0;
  const void* site = nullptr;  // code address of the outermost caller
  const Frame* up = nullptr;
};

enum class Phase : uint8_t { forward, backward, optimiser };

/// Everything that surrounds a call, one value a thread. Guards save and restore the whole of it.
struct Scope {
  bool grad = true;
  bool deterministic = true;
  Phase phase = Phase::forward;
  DType autocast = DType::none;     // none: off
  void* autocast_cache = nullptr;   // owned by the guard
  void* trace = nullptr;            // the recorder, or null
  void* monitor = nullptr;          // the watcher, or null
  const char* path = "";            // interned module path, outermost first, joined by dots
  const Frame* frame = nullptr;
};

Scope& scope();

/// Restores the thread's Scope when it goes.
class ScopeGuard {
 public:
  ScopeGuard() : saved_(scope()) {}
  ~ScopeGuard() { scope() = saved_; }
  ScopeGuard(const ScopeGuard&) = delete;
  ScopeGuard& operator=(const ScopeGuard&) = delete;

 private:
  Scope saved_;
};

/// One interned copy of a text, alive until the process ends.
const char* intern(std::string_view text);

/// The op in flight, as layers and the backend see it: inputs are promoted, outputs inferred.
struct Call {
  const OpDef& op;
  const void* params;
  Inputs in;
  const SpecList& out;
  const void* site;
  const Tensor* into = nullptr;  // write output 0 here instead of into new memory
  bool recording = false;        // a gradient will be wanted: produce aux outputs
};

/// The layers, in order; each does its part and calls the next. They live in src/layers.
namespace layer {
/// Casts grouped inputs as the op's `cast` column says; called where scope().autocast is set.
void autocast(const OpDef& op, const Tensor** in, int n, SmallVector<Tensor, 4>& keep);
Tensors autograd(Call& c);
Tensors trace(Call& c);
Tensors monitor(Call& c);
}  // namespace layer

/// Runs what stands below autograd: trace, monitor, backend.
Tensors run_below_autograd(Call& c);
/// Runs what stands below the trace: monitor, backend.
Tensors run_below_trace(Call& c);
/// The kernel of the device, or the decomposition. `stats`, one slot an output, may be null.
struct StatSlot;
Tensors run_backend(Call& c, StatSlot* stats);

/// Whether the CPU has any kernel (or view) for `op`.
bool cpu_has_kernel(const OpDef& op);
Tensor contiguous_copy(const Tensor& x);
Tensor channels_last_copy(const Tensor& x);
bool is_channels_last(const Tensor& x);

/// Runs elementwise `op` and writes the result into `into`, which has the result's shape; the value is cast to its dtype. No gradient is recorded.
void dispatch_into(const OpDef& op, const void* params, Inputs in, const Tensor& into);
/// Marks a write: bumps the version, names the writer; raises where the storage is read-only.
void note_write(const Tensor& t, const char* writer);

}  // namespace keel
