#pragma once
// A few rows, each longer than a block should take alone: cut into parts, one block each. All blocks run at once: each makes what is summed
// of its part, tells the others, puts all that was told together and makes the results of its part, which it still has in registers.
#include "backend/cuda/exchange.cuh"
#include "backend/cuda/rows.cuh"

namespace keel::cuda {

/// rows * parts blocks, each with `share` elements of a row, of which a thread keeps up to `packs` packs (0: reads again); no parts where
/// a block a row is better.
struct Parts {
  int64_t n = 0, share = 0;
  unsigned parts = 0, rows = 0;
  int packs = 0;
  __device__ unsigned block() const { return blockIdx.y * parts + blockIdx.x; }
  __device__ int64_t from() const { return blockIdx.x * share; }
  __device__ int64_t count(unsigned part) const { return part + 1 < parts ? share : n - part * share; }
  /// Where this block's part begins among all elements.
  __device__ int64_t at() const { return blockIdx.y * n + from(); }
};
/// Threads a block: as many packs of 16 bytes are on their way at once.
constexpr int kPartThreads = 512;

/// `vector`: elements of a pack.
inline Parts parts_of(int64_t rows, int64_t n, int vector, bool aligned, int processors) {
  if (n <= 1024 * 8 * vector || rows == 0 || rows > 8) return {};  // what a block keeps is its own
  Parts p{n, 0, 0, unsigned(rows)};
  const int64_t lines = ceil_div(n, 32 * vector);  // what a warp takes at once
  const int64_t most = std::min(processors, Exchange::kMost) / rows;
  const int64_t each = ceil_div(lines, std::min(most, ceil_div(lines, kPartThreads / 32)));
  p.share = each * 32 * vector, p.parts = unsigned(ceil_div(n, p.share));
  const int64_t packs = ceil_div(each * 32, kPartThreads);
  p.packs = !aligned || n % vector || packs > 8 ? 0 : packs > 4 ? 8 : 4;
  return p;
}

/// Queues kernel(parts, exchange, args...) of kPartThreads threads a block, all of whose blocks run at once; output 0 may be watched.
template <class... Taken, class... A>
KernelStatus start_together(void (*kernel)(Parts, Exchange*, Taken...), const Parts& p, const KernelArgs& a, A... args) {
  alone();
  cudaLaunchAttribute together{};
  together.id = cudaLaunchAttributeCooperative, together.val.cooperative = 1;
  cudaLaunchConfig_t c{};
  c.gridDim = dim3(p.parts, p.rows), c.blockDim = dim3(kPartThreads), c.stream = stream(a), c.attrs = &together, c.numAttrs = 1;
  cudaLaunchKernelEx(&c, kernel, p, exchange_of(a.device), args...);
  const KernelStatus s = launched();
  return s.code ? s : watch(a, 0, 1);
}

/// combine(Told) by a warp, of what the blocks of this row told; all threads get the result. `mine` is what this block tells.
template <class V, class F>
__device__ __forceinline__ auto put_together(const Parts& p, const Meeting<V>& meeting, const V& mine, F combine) {
  using R = decltype(combine(Told<V>()));
  __shared__ R whole;
  const unsigned warp = threadIdx.x / 32;
  if (threadIdx.x == 0) meeting.tell(p.block(), mine);
  if (warp == 0) {
    const R r = combine(meeting.hear(blockIdx.y * p.parts, p.parts));
    if (threadIdx.x == 0) whole = r;
  }
  if (warp == 1 && p.block() == 0) meeting.end(p.parts * p.rows);
  __syncthreads();
  return whole;
}

}  // namespace keel::cuda
