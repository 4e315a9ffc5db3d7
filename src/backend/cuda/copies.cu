// Several small copies in one launch: inputs on their way into the memory that a recording reads.
#include "backend/cuda/kernel.h"

namespace keel::cuda {
namespace {

constexpr int kMost = 16, kThreads = 256, kPack = 16;
constexpr int64_t kChunk = int64_t(kThreads) * kPack * 4;  // bytes of a block
constexpr size_t kSmall = size_t(4) << 20;                 // larger ones go as fast by themselves

/// Piece i owns the blocks from begin[i] on.
struct Pieces {
  char* to[kMost];
  const char* from[kMost];
  int64_t bytes[kMost];
  uint32_t begin[kMost + 1];
  int count;
};
__global__ void __launch_bounds__(kThreads) copy_pieces(const __grid_constant__ Pieces all) {
  int i = 0;
  while (blockIdx.x >= all.begin[i + 1]) ++i;
  const int64_t from = int64_t(blockIdx.x - all.begin[i]) * kChunk, to = min(from + kChunk, all.bytes[i]);
  const int64_t packs = from + (to - from) / kPack * kPack;
  for (int64_t at = from + int64_t(threadIdx.x) * kPack; at < packs; at += kThreads * kPack)
    *reinterpret_cast<uint4*>(all.to[i] + at) = *reinterpret_cast<const uint4*>(all.from[i] + at);
  for (int64_t at = packs + threadIdx.x; at < to; at += kThreads) all.to[i][at] = all.from[i][at];
}

}  // namespace

const char* copies(int device, int n, void* const* to, const void* const* from, const size_t* bytes) {
  if (const cudaError_t e = ready(device)) return text_of(e, "setting up the device");
  const cudaStream_t s = stream_of(device);
  Pieces all;
  all.count = 0, all.begin[0] = 0;
  cudaError_t e = cudaSuccess;
  const auto launch = [&] {
    if (all.count && e == cudaSuccess) copy_pieces<<<all.begin[all.count], kThreads, 0, s>>>(all), e = cudaPeekAtLastError();
    all.count = 0;
  };
  for (int i = 0; i < n; ++i) {
    auto* const p = static_cast<char*>(to[i]);
    const auto* const q = static_cast<const char*>(from[i]);
    if (bytes[i] == 0) continue;
    if (const char* wrong = settle(device, p, p + bytes[i])) return wrong;
    if (bytes[i] > kSmall || (reinterpret_cast<uintptr_t>(p) | reinterpret_cast<uintptr_t>(q)) % kPack) {
      if (e == cudaSuccess) e = cudaMemcpyAsync(p, q, bytes[i], cudaMemcpyDeviceToDevice, s);
      continue;
    }
    all.to[all.count] = p, all.from[all.count] = q, all.bytes[all.count] = int64_t(bytes[i]);
    all.begin[all.count + 1] = all.begin[all.count] + uint32_t(ceil_div(int64_t(bytes[i]), kChunk));
    if (++all.count == kMost) launch();
  }
  launch();
  return text_of(e, "copying");
}

}  // namespace keel::cuda
