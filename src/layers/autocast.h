#pragma once
// What the autocast layer's guards tell other layers.
#include <string>

namespace keel {

/// The policy of the thread's innermost Autocast, as AutocastPolicy::json writes it; empty where it has none.
const std::string& autocast_policy();

}  // namespace keel
