// The first-step report: which parameters have a gradient but no optimiser, and the reverse. While an optimiser waits for its first step, the engine tells of every leaf that it gives a gradient.
#include <atomic>

#include "base/log.h"
#include "base/threads.h"
#include "core/impl.h"
#include "layers/autograd.h"
#include "optim/state.h"

namespace keel::optim::detail {
namespace {

struct Watch {
  base::Mutex mutex;
  int waiting = 0;
  struct Leaf {
    Tensor leaf;
    bool reported;
  };
  std::vector<Leaf> leaves;  // parameters of modules that no optimiser had when their gradient came
};
Watch& watch() {
  static auto* w = new Watch;
  return *w;
}

void note_leaf(const Tensor& leaf) {
  const GradMeta& m = *impl(leaf).grad;
  if (m.optimisers > 0 || !m.name.load(std::memory_order_relaxed)) return;  // not a module's: an input whose gradient is wanted for its own sake
  Watch& w = watch();
  std::lock_guard lock(w.mutex);
  for (const Watch::Leaf& l : w.leaves)
    if (l.leaf.is(leaf)) return;
  w.leaves.push_back({leaf, false});
}

std::string name_or_spec(const Tensor& t, int64_t index) {
  if (const GradMeta* m = impl(t).grad)
    if (const char* name = m->name.load(std::memory_order_relaxed)) return name;
  return "parameter " + std::to_string(index) + ", " + to_string(impl(t).spec);
}

std::string join(const std::vector<std::string>& names) {
  std::string out;
  for (size_t i = 0; i < names.size() && i < 20; ++i) out += (i ? ", " : "") + names[i];
  if (names.size() > 20) out += " and " + std::to_string(names.size() - 20) + " more";
  return out;
}

}  // namespace

void report_expect() {
  Watch& w = watch();
  std::lock_guard lock(w.mutex);
  if (w.waiting++ == 0) leaf_watch.store(note_leaf, std::memory_order_relaxed);
}
void report_unexpect() {
  Watch& w = watch();
  std::vector<Watch::Leaf> drop;  // freed outside the lock
  std::lock_guard lock(w.mutex);
  if (--w.waiting > 0) return;
  leaf_watch.store(nullptr, std::memory_order_relaxed);
  drop.swap(w.leaves);
}

void report_first_step(OptimizerState& s) {
  s.reported = true;
  int64_t index = 0;
  for (const Group& g : s.groups)
    for (const Tensor& p : g.parameters) {
      if (p.requires_grad() && !p.grad().defined()) s.without_gradient.push_back(name_or_spec(p, index));
      ++index;
    }
  {
    Watch& w = watch();
    std::lock_guard lock(w.mutex);
    for (Watch::Leaf& l : w.leaves) {
      if (l.reported || impl(l.leaf).grad->optimisers > 0) continue;
      l.reported = true;
      s.untrained.push_back(name_or_spec(l.leaf, 0));
    }
  }
  report_unexpect();
  const std::string who = std::string(s.rule->name) + ", first step: ";
  if (!s.untrained.empty()) base::log(LogLevel::warning, "optim", who + "parameters with a gradient that no optimiser trains: " + join(s.untrained));
  if (!s.without_gradient.empty()) base::log(LogLevel::warning, "optim", who + "parameters to train that got no gradient: " + join(s.without_gradient));
}

}  // namespace keel::optim::detail
