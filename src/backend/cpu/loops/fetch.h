#pragma once

namespace keel::cpu {

/// Whether the processor fetches what a loop reads in order from L2 to L1 in time by itself, so that asking for it costs bandwidth: AMD's
/// does. Results do not depend on it.
bool follows_streams();

}  // namespace keel::cpu
