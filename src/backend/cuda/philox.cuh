#pragma once
// Random words by position: Philox4x32-10 as in base/philox.h, so that every device draws the same.
#include "backend/cuda/kernel.h"

namespace keel::cuda {

struct Philox {
  uint64_t seed = 0, begin = 0;  // as they are when the kernel is called; or,
  const uint64_t* key[2] = {};   // for a call that is recorded, where they will be
  uint64_t offset;

  /// `k`: u64[2], the seed and where the stream begins; in host memory, or, while the device records, a copy on the device.
  Philox(const TensorView& k, int64_t offset) : offset(uint64_t(offset)) {
    const auto *first = k.ptr<uint64_t>(), *second = first + k.stride(0);
    if (k.on_host)
      seed = *first, begin = *second;
    else
      key[0] = first, key[1] = second;
  }

  /// Words 4 b ... 4 b + 3.
  __device__ uint4 block(int64_t b) const {
    const uint64_t s = key[0] ? *key[0] : seed, at = (key[1] ? *key[1] : begin) + offset + uint64_t(b);
    uint32_t c0 = uint32_t(at), c1 = uint32_t(at >> 32), c2 = 0, c3 = 0, k0 = uint32_t(s), k1 = uint32_t(s >> 32);
#pragma unroll
    for (int r = 0; r < 10; ++r) {
      const uint32_t h0 = __umulhi(0xD2511F53u, c0), l0 = 0xD2511F53u * c0, h1 = __umulhi(0xCD9E8D57u, c2), l1 = 0xCD9E8D57u * c2;
      c0 = h1 ^ c1 ^ k0, c1 = l1, c2 = h0 ^ c3 ^ k1, c3 = l0;
      k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
    }
    return {c0, c1, c2, c3};
  }
  __device__ uint32_t word(int64_t i) const {
    const uint4 w = block(i / 4);
    const uint32_t all[4] = {w.x, w.y, w.z, w.w};
    return i % 4 == 0 ? all[0] : i % 4 == 1 ? all[1] : i % 4 == 2 ? all[2] : all[3];
  }
};

}  // namespace keel::cuda
