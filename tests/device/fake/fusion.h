#pragma once
#include <cstdint>

namespace keel {

/// How often the fake device says that a kernel of a chain is still being made; -1: it refuses all.
extern int fake_fusion_delay;
/// Kernels of chains that ran on it so far.
extern int64_t fake_fusion_runs;

}  // namespace keel
