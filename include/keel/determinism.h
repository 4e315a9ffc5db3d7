#pragma once
#include <cstdint>

#pragma GCC visibility push(default)
namespace keel {

/// How far a result's bits are promised (docs/guide/reproducible.md). `run`: the same build, device and shapes give the same bits.
/// `invariant`: besides, what an example gives does not depend on how many are beside it in the batch. `fast`: nothing is promised, sums may
/// be taken in any order. The CPU keeps `invariant` at every level; on a GPU each level costs more than the one before.
enum class Determinism : uint8_t { fast, run, invariant };

/// "fast", "run" or "invariant".
const char* name_of(Determinism level);
/// The level of that name; raises where there is none.
Determinism determinism_from_name(const char* name);

/// The level of all threads, but where a DeterminismGuard lives; `run` from the start.
void set_determinism(Determinism level);
/// The level of this thread's ops.
Determinism determinism();

/// The level of this thread's ops while it lives. A backward pass has at least the level that each op of the forward pass had, and needs no
/// guard; so has a recording that is run again.
///
///     { DeterminismGuard guard(Determinism::invariant); y = net(x); }
class DeterminismGuard {
 public:
  explicit DeterminismGuard(Determinism level);
  ~DeterminismGuard();
  DeterminismGuard(const DeterminismGuard&) = delete;
  DeterminismGuard& operator=(const DeterminismGuard&) = delete;

 private:
  bool outer_set_;
  Determinism outer_;
};

}  // namespace keel
#pragma GCC visibility pop
