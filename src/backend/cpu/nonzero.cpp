// nonzero in two passes over dense memory: blocks of 64 elements become bit masks; the first pass counts bits per chunk, the second writes
// positions at the chunk's place. The mask loops vectorise, and the second pass costs by the bits that are set.
#include <atomic>
#include <bit>
#include <cstring>

#include "backend/kernel.h"
#include "keel/parallel.h"

namespace keel::cpu {
namespace {

constexpr int64_t kChunk = 1 << 15;  // elements; a multiple of 64

/// Bit i: whether element i is not zero, for n <= 64 elements. `keep` clears the sign of floats, so that -0 is zero.
template <class U>
uint64_t mask_of(const U* x, int n, U keep) {
  uint64_t m = 0;
  if (n == 64) {
    for (int b = 0; b < 8; ++b) {
      uint64_t part = 0;
      for (int i = 0; i < 8; ++i) part |= uint64_t((x[b * 8 + i] & keep) != 0) << i;
      m |= part << (8 * b);
    }
    return m;
  }
  for (int i = 0; i < n; ++i) m |= uint64_t((x[i] & keep) != 0) << i;
  return m;
}
template <>
uint64_t mask_of<uint8_t>(const uint8_t* x, int n, uint8_t keep) {
  uint64_t m = 0;
  const uint64_t all = keep * uint64_t(0x0101010101010101);
  for (int b = 0; b < n; b += 8) {
    uint64_t w = 0;
    std::memcpy(&w, x + b, size_t(n - b < 8 ? n - b : 8));
    w &= all;
    w = (((w & 0x7f7f7f7f7f7f7f7f) + 0x7f7f7f7f7f7f7f7f) | w) & 0x8080808080808080;  // the top bit of every byte that is not 0
    m |= ((w >> 7) * 0x0102040810204080 >> 56) << b;
  }
  return m;
}

/// Calls f(first, mask) for blocks of up to 64 elements in [lo, hi); lo is a multiple of 64.
template <class F>
void each_mask(const TensorView& x, int64_t lo, int64_t hi, F&& f) {
  const bool sign = is_inexact(x.dtype);
  auto go = [&](auto* p, auto keep) {
    for (int64_t i = lo; i < hi; i += 64) f(i, mask_of(p + i, int(hi - i < 64 ? hi - i : 64), keep));
  };
  if (is_complex(x.dtype)) {  // either part
    for (int64_t i = lo; i < hi; i += 64) {
      uint64_t m = 0;
      for (int64_t k = i; k < hi && k < i + 64; ++k) {
        if (x.dtype == complex64)
          m |= uint64_t(((x.ptr<uint32_t>()[2 * k] | x.ptr<uint32_t>()[2 * k + 1]) & 0x7fffffffu) != 0) << (k - i);
        else
          m |= uint64_t(((x.ptr<uint64_t>()[2 * k] | x.ptr<uint64_t>()[2 * k + 1]) << 1) != 0) << (k - i);
      }
      f(i, m);
    }
    return;
  }
  switch (size_of(x.dtype)) {
    case 1: return go(x.ptr<const uint8_t>(), uint8_t(sign ? 0x7f : 0xff));
    case 2: return go(x.ptr<const uint16_t>(), uint16_t(sign ? 0x7fff : 0xffff));
    case 4: return go(x.ptr<const uint32_t>(), uint32_t(sign ? 0x7fffffff : 0xffffffff));
    default: return go(x.ptr<const uint64_t>(), uint64_t(sign ? INT64_MAX : -1));
  }
}

/// counts[c]: elements that are not zero in chunk c; their sum.
void count_chunks(const TensorView& x, int64_t* counts) {
  const int64_t n = x.size();
  parallel_for(0, (n + kChunk - 1) / kChunk, [&](int64_t lo, int64_t hi) {
    for (int64_t c = lo; c < hi; ++c) {
      int64_t total = 0;
      each_mask(x, c * kChunk, (c + 1) * kChunk < n ? (c + 1) * kChunk : n, [&](int64_t, uint64_t m) { total += std::popcount(m); });
      counts[c] = total;
    }
  });
}

}  // namespace
}  // namespace keel::cpu

using namespace keel;

KEEL_CPU_KERNEL(nonzero) {
  k.inputs(Layout::contiguous)
      .count([](const KernelArgs& a, Shape* outs) -> KernelStatus {
        const TensorView& x = a.in[0];
        std::atomic<int64_t> total{0};
        const int64_t n = x.size();
        parallel_for(0, (n + kChunk - 1) / kChunk, [&](int64_t lo, int64_t hi) {
          int64_t mine = 0;
          each_mask(x, lo * kChunk, hi * kChunk < n ? hi * kChunk : n, [&](int64_t, uint64_t m) { mine += std::popcount(m); });
          total += mine;
        });
        outs[0] = Shape({total, x.rank()});
        return {};
      })
      .workspace([](const KernelArgs& a) { return size_t((a.in[0].size() + kChunk - 1) / kChunk) * 8; })
      .run([](const KernelArgs& a) -> KernelStatus {
        const TensorView& x = a.in[0];
        auto* place = static_cast<int64_t*>(a.workspace);
        const int64_t n = x.size(), chunks = (n + kChunk - 1) / kChunk;
        count_chunks(x, place);
        for (int64_t c = 0, before = 0; c < chunks; ++c) {
          const int64_t here = place[c];
          place[c] = before, before += here;
        }
        const int r = x.rank();
        int64_t* out = a.out[0].ptr<int64_t>();
        parallel_for(0, chunks, [&](int64_t lo, int64_t hi) {
          for (int64_t c = lo; c < hi; ++c) {
            int64_t* to = out + place[c] * r;
            int64_t row_begin = 0, row_end = 0, above[kMaxRank];  // the row of the last axis that the walk is in
            each_mask(x, c * kChunk, (c + 1) * kChunk < n ? (c + 1) * kChunk : n, [&](int64_t first, uint64_t m) {
              for (; m; m &= m - 1) {
                const int64_t at = first + std::countr_zero(m);
                if (at >= row_end && r) {
                  int64_t row = at / x.dim(r - 1);
                  row_begin = row * x.dim(r - 1), row_end = row_begin + x.dim(r - 1);
                  for (int i = r - 2; i >= 0; --i) above[i] = row % x.dim(i), row /= x.dim(i);
                }
                for (int i = 0; i < r - 1; ++i) to[i] = above[i];
                if (r) to[r - 1] = at - row_begin;
                to += r;
              }
            });
          }
        });
        return {};
      });
}
