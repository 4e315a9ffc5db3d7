#pragma once
#include "backend/cpu/isa.h"

namespace keel::cpu {

/// Puts the instruction-set level back at the end of a test that changes it.
struct IsaScope {
  Isa before = active_isa();
  ~IsaScope() { set_isa_for_tests(before); }
};

}  // namespace keel::cpu
