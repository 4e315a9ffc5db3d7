#include "keel/determinism.h"

#include <cstring>
#include <string>

#include "core/scope.h"
#include "keel/error.h"

namespace keel {

constinit std::atomic<Determinism> detail::default_determinism = Determinism::run;

const char* name_of(Determinism level) {
  switch (level) {
    case Determinism::fast: return "fast";
    case Determinism::run: return "run";
    case Determinism::invariant: return "invariant";
  }
  return "?";
}
Determinism determinism_from_name(const char* name) {
  for (const Determinism level : {Determinism::fast, Determinism::run, Determinism::invariant})
    if (std::strcmp(name, name_of(level)) == 0) return level;
  raise(Error(ErrorCode::value, "'" + std::string(name) + "' is no level of determinism").hint("'fast', 'run' or 'invariant'"));
}

void set_determinism(Determinism level) { detail::default_determinism.store(level, std::memory_order_relaxed); }
Determinism determinism() { return determinism_of(scope()); }

DeterminismGuard::DeterminismGuard(Determinism level)
    : outer_set_(scope().determinism.has_value()), outer_(scope().determinism.value_or(Determinism::run)) {
  scope().determinism = level;
}
DeterminismGuard::~DeterminismGuard() { scope().determinism = outer_set_ ? std::optional(outer_) : std::nullopt; }

}  // namespace keel
