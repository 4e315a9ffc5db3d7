#include "keel/determinism.h"

#include "core/scope.h"

namespace keel {

constinit std::atomic<Determinism> detail::default_determinism = Determinism::run;

void set_determinism(Determinism level) { detail::default_determinism.store(level, std::memory_order_relaxed); }
Determinism determinism() { return determinism_of(scope()); }

DeterminismGuard::DeterminismGuard(Determinism level)
    : outer_set_(scope().determinism.has_value()), outer_(scope().determinism.value_or(Determinism::run)) {
  scope().determinism = level;
}
DeterminismGuard::~DeterminismGuard() { scope().determinism = outer_set_ ? std::optional(outer_) : std::nullopt; }

}  // namespace keel
