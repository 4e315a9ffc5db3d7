#pragma once
// Where a result was used twice, its two gradients are added before its row's `vjp` sees them. A row whose kernel adds them in the pass that
// reads them takes the second one here instead: the engine hands it over, the vjp takes it away.
#include "keel/op.h"

namespace keel {

/// The second gradient of result 0 of the row whose vjp runs on this thread; null where it was added to the first.
extern thread_local constinit const Tensor* second_gradient;

}  // namespace keel
