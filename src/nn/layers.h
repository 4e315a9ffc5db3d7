#pragma once
// What layers share.
#include "keel/nn/module.h"

namespace keel::nn {

/// ValueError in `module` unless `got` > 0.
void require_positive(const char* module, const char* what, int64_t got);
/// A new parameter, uniform in +-1/sqrt(fan_in): what kaiming_uniform with slope sqrt(5) gives.
Weight fan_in_uniform(const Shape& s, int64_t fan_in);

}  // namespace keel::nn
