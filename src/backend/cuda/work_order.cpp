#include "backend/cuda/work_order.h"

#include <algorithm>

namespace keel::cuda {

int WorkOrder::begin() {
  const size_t n = all_.size();
  all_.emplace_back();
  all_.back().before.resize((n + 63) / 64);
  return int(n);
}

bool WorkOrder::clash(const Piece& p, const Span& s) {
  return std::any_of(p.spans.begin(), p.spans.end(),
                     [&](const Span& x) { return (x.writes || s.writes) && x.begin < s.end && s.begin < x.end; });
}

const std::vector<int>& WorkOrder::touch(const void* begin, const void* end, bool writes) {
  found_.clear();
  const Span s{reinterpret_cast<uintptr_t>(begin), reinterpret_cast<uintptr_t>(end), writes};
  if (s.begin >= s.end) return found_;
  Piece& mine = all_.back();
  for (size_t i = all_.size() - 1; i-- > 0;) {  // the latest first: most of the others come before it
    if (mine.before[i / 64] >> i % 64 & 1 || !clash(all_[i], s)) continue;
    found_.push_back(int(i));
    const std::vector<uint64_t>& earlier = all_[i].before;
    for (size_t k = 0; k < earlier.size(); ++k) mine.before[k] |= earlier[k];
    mine.before[i / 64] |= uint64_t(1) << i % 64;
  }
  mine.spans.push_back(s);
  return found_;
}

}  // namespace keel::cuda
