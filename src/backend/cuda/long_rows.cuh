#pragma once
// A few rows, each longer than a block should take alone: cut into parts, one block each. All blocks run at once: each makes what is summed
// of its part, waits for the others, puts all of it together and makes the results of its part, which is still in its cache.
#include <cooperative_groups.h>

#include "backend/cuda/rows.cuh"

namespace keel::cuda {

/// rows * parts blocks, each with `share` elements of a row; no parts where a block a row is better. At most three blocks a multiprocessor.
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
/// Starts a kernel of kThreads threads a block, all of whose blocks must run at once.
template <class... Taken, class... A>
void start_together(void (*kernel)(Parts, Taken...), const Parts& p, cudaStream_t s, A... args) {
  cudaLaunchAttribute together{};
  together.id = cudaLaunchAttributeCooperative, together.val.cooperative = 1;
  cudaLaunchConfig_t c{};
  c.gridDim = dim3(p.parts, p.rows), c.blockDim = dim3(kThreads), c.stream = s, c.attrs = &together, c.numAttrs = 1;
  cudaLaunchKernelEx(&c, kernel, p, args...);
}
/// What any block wrote before, every block sees afterwards.
__device__ __forceinline__ void meet() { cooperative_groups::this_grid().sync(); }

}  // namespace keel::cuda
