#include "keel/shape.h"

#include "core/impl.h"
#include "keel/error.h"

namespace keel {

void Dims::too_long(int64_t n) {
  raise(Error(ErrorCode::value, "a list of " + std::to_string(n) + " dimensions is too long").op("Shape").hint("tensors have at most " + std::to_string(kMaxRank) + " axes"));
}
void Dims::insert(int at, int64_t v) {
  push_back(0);
  for (int i = n_ - 1; i > at; --i) d_[i] = d_[i - 1];
  d_[at] = v;
}
void Dims::erase(int at) {
  for (int i = at; i + 1 < n_; ++i) d_[i] = d_[i + 1];
  d_[--n_] = 0;
}
void Shape::require_rank(int r) const {
  if (rank() != r) raise(Error(ErrorCode::shape, "expected rank " + std::to_string(r) + ", got shape " + to_string(*this)).op("Shape::as").hint("rank() says how many axes there are; flatten and unsqueeze change it"));
}

std::string to_string(const Dims& d) {
  std::string s = "[";
  for (int i = 0; i < d.rank(); ++i) {
    if (i) s += ", ";
    s += std::to_string(d[i]);
  }
  return s + "]";
}

Strides contiguous_strides(const Shape& s) {
  Strides st;
  st.resize(s.rank());
  int64_t step = 1;
  for (int i = s.rank() - 1; i >= 0; --i) st[i] = step, step *= s[i] > 0 ? s[i] : 1;
  return st;
}

Strides channels_last_strides(const Shape& s) {
  KEEL_ASSERT(s.rank() == 4);
  const int64_t c = s[1], w = s[3], h = s[2];
  return Strides({h * w * c, 1, w * c, c});
}

bool is_contiguous(const Shape& s, const Strides& st) {
  int64_t step = 1;
  for (int i = s.rank() - 1; i >= 0; --i) {
    if (s[i] == 0) return true;
    if (s[i] != 1 && st[i] != step) return false;
    step *= s[i];
  }
  return true;
}

bool is_dense(const Shape& s, const Strides& st) {
  int order[kMaxRank], n = 0;
  for (int i = 0; i < s.rank(); ++i) {
    if (s[i] == 0) return true;
    if (s[i] == 1) continue;
    int at = n++;
    while (at > 0 && st[order[at - 1]] > st[i]) order[at] = order[at - 1], --at;
    order[at] = i;
  }
  int64_t step = 1;
  for (int k = 0; k < n; ++k) {
    if (st[order[k]] != step) return false;
    step *= s[order[k]];
  }
  return true;
}

}  // namespace keel
