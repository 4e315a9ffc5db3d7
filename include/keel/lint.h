#pragma once
#include <string>
#include <type_traits>
#include <vector>

#include "keel/base/callback.h"
#include "keel/monitor.h"

#pragma GCC visibility push(default)
namespace keel {

/// What `lint` found at one op.
struct LintFinding {
  Severity severity = Severity::info;  ///< `warning`: wrong as it stands; `info`: breaks for inputs that may come
  std::string rule;                    ///< "log of softmax", "epsilon", ...; see docs/numerics/detectors.md
  std::string op;                      ///< that is to blame
  std::string path;                    ///< module path; empty outside modules
  std::string site;                    ///< where the program called the op, as in Monitor::Finding
  std::string phase;                   ///< forward or optimiser
  std::string text;                    ///< a sentence
  double value = 0;                    ///< the number that it is about, where there is one
  Suggestion suggestion;
  int64_t count = 1;                   ///< calls at this place
};

namespace detail {
std::vector<LintFinding> lint(const Callback<void()>& f);
}
/// Runs `f()` once, as usual, while a Trace records it, and judges the ops by how they are put together: logarithms of softmax, roots and
/// quotients of what may be 0, exponentials that nothing bounds, numbers that their dtype rounds to 0 or infinity. No value is looked at.
/// One entry a place and rule, in order of appearance; what the backward pass does is not judged. A Monitor applies the same rules when a
/// place is reached for the first time.
///
///     for (const LintFinding& f : lint([&] { loss = net(x); })) std::puts(f.text.c_str());
///
/// UnsupportedError inside another recording, and for an op whose result's shape depends on data.
template <class F>
requires std::is_invocable_v<F&> std::vector<LintFinding> lint(F f) {
  return detail::lint([&f] { f(); });
}

}  // namespace keel
#pragma GCC visibility pop
