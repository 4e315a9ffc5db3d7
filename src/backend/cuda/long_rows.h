#pragma once
// softmax and norms of a few very long rows, each of which is work for the whole device.
#include "backend/kernel.h"

namespace keel::cuda {

/// What serves a call whose rows are few and long: false where they are not; else it is queued, and `s` says how that went.
bool long_softmax(const KernelArgs& a, int64_t rows, int64_t n, bool logarithm, bool safe, KernelStatus& s);
bool long_norm(const KernelArgs& a, int64_t rows, int64_t n, bool centered, double eps, KernelStatus& s);

}  // namespace keel::cuda
