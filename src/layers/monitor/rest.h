#pragma once
// A step that a monitor watches in part only may come from a recording (layers/compile.cpp).
#include "keel/tensor.h"

namespace keel {

/// Whether the monitor of this thread does without what the ops of the running step write. If so, what it has put off is queued: a replay
/// overwrites memory that it may be about.
bool monitor_rests();
/// Shows it what such a step gave. Small results are looked at, and what breaks in them is told. `usual`: it took as long as such steps do.
void monitor_sees(const Tensors& results, bool usual);

}  // namespace keel
