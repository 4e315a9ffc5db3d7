#include "backend/cuda/block_plan.h"

#include <algorithm>
#include <numeric>

namespace keel::cuda {
namespace {

struct Placed {
  size_t begin, end;
  int64_t taken, given;
};

}  // namespace

BlockPlan plan_blocks(const std::vector<BlockLife>& lives, size_t apart) {
  BlockPlan plan;
  plan.at.resize(lives.size());
  size_t all = 0;
  for (const BlockLife& l : lives) all += l.bytes;
  if (apart && all <= apart) {
    for (size_t i = 0; i < lives.size(); ++i) plan.at[i] = plan.bytes, plan.bytes += lives[i].bytes;
    plan.apart = true;
    return plan;
  }
  // Largest first, each as low as those that live at the same time let it: large ones stack up without holes, small ones fill what is left.
  std::vector<size_t> order(lives.size());
  std::iota(order.begin(), order.end(), size_t(0));
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return lives[a].bytes > lives[b].bytes; });
  std::vector<Placed> placed;  // by their begin
  for (const size_t i : order) {
    const BlockLife& l = lives[i];
    size_t at = 0;
    for (const Placed& p : placed) {
      if (p.taken >= l.given || l.taken >= p.given || p.end <= at) continue;
      if (p.begin >= at + l.bytes) break;
      at = p.end;
    }
    const Placed mine{at, at + l.bytes, l.taken, l.given};
    placed.insert(std::upper_bound(placed.begin(), placed.end(), mine, [](const Placed& a, const Placed& b) { return a.begin < b.begin; }),
                  mine);
    plan.at[i] = at, plan.bytes = std::max(plan.bytes, mine.end);
  }
  return plan;
}

}  // namespace keel::cuda
