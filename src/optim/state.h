#pragma once
// What lies behind the handles.
#include <vector>

#include "keel/op.h"
#include "keel/optim/optimizer.h"

namespace keel::optim::detail {

enum Flag : uint32_t { kAmsgrad = 1, kDecoupled = 2, kMaximize = 4, kNesterov = 8, kCentered = 16, kMaster = 32 };
/// Tensors of state a parameter, at most; the last place is the master's.
inline constexpr int kStates = 4;

/// One family of update formulas.
struct Rule {
  const char* name;
  const char* settings[5];  // names of the entries of `hyper`, ended by null where there are fewer
  /// A tensor of state a parameter. `when` says which flag or setting it needs: 0 always, a Flag, or -1 - i for setting i not being zero.
  struct State {
    const char* name;
    int when;
  } states[kStates];
  bool always_counts;  // steps are counted even where no state needs them
  Tensor (*run)(Inputs in, uint32_t flags, const double* hyper, const void* site);

  int setting_count() const {
    int n = 0;
    while (n < 5 && settings[n]) ++n;
    return n;
  }
  int find(std::string_view setting) const {
    for (int i = 0; i < setting_count(); ++i)
      if (setting == settings[i]) return i;
    return -1;
  }
};
extern const Rule kSgdRule, kAdamRule, kAdamWRule, kRmspropRule;

struct Group {
  Tensors parameters;
  Tensor hyper;                   // f64, one entry a setting
  std::vector<Tensor> states[kStates];  // one a parameter; undefined before its first step
  std::vector<Tensor> steps;      // f64, 0-d
  std::vector<Tensor> given;      // with masters: the memory of wide parameters as they came in, until a master is made of it
  double* values() { return hyper.data<double>(); }
};

struct OptimizerState : RefCounted {
  const Rule* rule = nullptr;
  uint32_t flags = 0;
  std::vector<Group> groups;
  bool reported = false;
  std::vector<std::string> untrained, without_gradient;
  static void destroy(OptimizerState* s);

  /// Whether state `k` is in use in a group; masters are for 16-bit parameters alone.
  bool uses(int k, Group& g) const {
    const Rule::State& s = rule->states[k];
    return s.name && (s.when == 0 || (s.when > 0 ? bool(flags & uint32_t(s.when)) : g.values()[-1 - s.when] != 0));
  }
};

// report.cpp: the first-step report.
void report_expect();
void report_unexpect();
void report_first_step(OptimizerState& s);

}  // namespace keel::optim::detail
