#pragma once
#include <cstdint>

namespace keel::cpu {

/// Elements that a call of the loops below takes at most: places and keys of so many stay in the first cache.
inline constexpr int64_t kExponentBlock = 1024;

/// Counts of one thread. Tables of 16 bits, several of them, so that increments of neighbours do not wait for each other.
template <class U>
struct ExponentPart {
  static constexpr bool kWide = sizeof(U) == 8;
  static constexpr int kRows = kWide ? 2100 : 279, kColumns = 11, kTables = kWide ? 1 : 4;
  static constexpr int64_t kFlushAfter = int64_t(kTables) * 32768;  // elements that no counter can overflow in
  uint16_t table[kTables][kRows * kColumns];
  U largest = 0, smallest = U(~U(0));  // places of finite values; smallest: minus one, zeros wrap
  int64_t block[6] = {};
  int64_t since = 0;
};

/// Counts n <= kExponentBlock elements of f32 (or f64) at `x` as `exponent_counts` says, but blocks. `place`, which has room for
/// kExponentBlock, gets their places: r << 23 | fraction, 0 for infinities and NaN. n may be 0.
void count_exponents(const float* x, int64_t n, uint32_t* place, ExponentPart<uint32_t>& part);
void count_exponents(const double* x, int64_t n, uint64_t* place, ExponentPart<uint64_t>& part);
/// What MX casts do to one run of neighbours of whatever length, given their places.
void count_blocks(const uint32_t* place, int64_t n, bool round_up, int64_t* counts);
void count_blocks(const uint64_t* place, int64_t n, bool round_up, int64_t* counts);

}  // namespace keel::cpu
