#pragma once
#include <atomic>
#include <cstdint>
#include <vector>

#include "core/scope.h"
#include "keel/op.h"

namespace keel {

namespace detail {
extern constinit std::atomic<bool> registry_ready;
}
/// Before the first look at a row: fills the registry where nobody has yet.
inline void need_registry() {
  if (!detail::registry_ready.load(std::memory_order_acquire)) [[unlikely]]
    registry();
}

struct StepGuard;

/// The op in flight, as layers and the backend see it: inputs are promoted, outputs inferred.
struct Call {
  const OpDef& op;
  const void* params;
  Inputs in;
  Specs specs;  // of the inputs
  const SpecList& out;
  const void* site;
  Scope& scope;
  const Tensor* into = nullptr;  // write output 0 here instead of into new memory
  bool recording = false;        // a gradient will be wanted: produce aux outputs
  StepGuard* guard = nullptr;    // looks over an optimiser's step
};

/// The layers, in order; each does its part and calls the next. They live in src/layers.
namespace layer {
/// Casts grouped inputs as the op's `cast` column says; called where scope().autocast is set.
void autocast(const OpDef& op, const Tensor** in, int n, SmallVector<Tensor, 4>& keep);
Tensors autograd(Call& c);
Tensors trace(Call& c);
Tensors monitor(Call& c);
}  // namespace layer

/// The kernel of the device, or the decomposition. `stats`, one slot an output, may be null.
struct StatSlot;
Tensors run_backend(Call& c, StatSlot* stats);
/// Adds the statistics of a whole tensor, in a pass over it.
void observe(const Tensor& t, StatSlot& slot);
/// Runs what stands below the trace: monitor, backend.
inline Tensors run_below_trace(Call& c) { return c.scope.monitor ? layer::monitor(c) : run_backend(c, nullptr); }
/// Runs what stands below autograd: trace, monitor, backend.
inline Tensors run_below_autograd(Call& c) {
  if (!c.scope.trace && !c.scope.monitor) [[likely]]
    return run_backend(c, nullptr);
  return c.scope.trace ? layer::trace(c) : layer::monitor(c);
}

/// How many calls of each op found no kernel, for ops that had any; see `fallback_calls`.
struct FallbackCount;
std::vector<FallbackCount> fallback_report();

/// Whether devices of a kind have any kernel (or view) for `op`.
bool has_kernel(const OpDef& op, DeviceType t);
Tensor contiguous_copy(const Tensor& x);
Tensor channels_last_copy(const Tensor& x);
bool is_channels_last(const Tensor& x);

/// Runs elementwise `op` and writes the result into `into`, which has the result's shape; the value is cast to its dtype. No gradient is recorded.
void dispatch_into(const OpDef& op, const void* params, Inputs in, const Tensor& into);
/// Marks a write: bumps the version, names the writer; raises where the storage is read-only.
void note_write(const Tensor& t, const char* writer);

}  // namespace keel
