#pragma once
// A few rows, each longer than a block should take alone: cut into parts, one block each, in two launches. The first makes what is summed
// of the parts, the second puts it together and makes the results.
#include "backend/cuda/rows.cuh"

namespace keel::cuda {

/// rows * parts blocks, each with `share` elements of a row; no parts where a block a row is better.
struct Parts {
  int64_t n = 0, share = 0;
  unsigned parts = 0, rows = 0;
};
inline Parts parts_of(int64_t rows, int64_t n, int device) {
  constexpr int64_t kAlone = 65536;
  if (n < kAlone || rows == 0 || rows > 8) return {};
  Parts p{n, 0, 0, unsigned(rows)};
  const int64_t wanted = std::min(ceil_div(2 * processors(device), rows), n / (8 * kThreads));
  p.share = ceil_div(n, wanted), p.parts = unsigned(ceil_div(n, p.share));
  return p;
}

}  // namespace keel::cuda
