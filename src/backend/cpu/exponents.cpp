// The table of exponents in one pass over dense memory. Blocks never cross a row, but for rows that fit into one several times, so that MX
// blocks can be cut from them. Threads keep tables of their own and add them up at the end; the order does not matter.
#include <algorithm>
#include <atomic>
#include <bit>
#include <cstring>
#include <memory>

#include "backend/cpu/loops/exponents.h"
#include "backend/cpu/loops/loops.h"
#include "backend/exponent_table.h"
#include "backend/kernel.h"
#include "keel/ops/exponent_counts.h"
#include "keel/parallel.h"

namespace keel::cpu {
namespace {

void add(int64_t& to, int64_t n) {
  if (n) std::atomic_ref<int64_t>(to).fetch_add(n, std::memory_order_relaxed);
}

/// Moves the thread's counts into the result.
template <class U>
void drain(ExponentPart<U>& part, int64_t* counts) {
  constexpr int kColumns = ExponentPart<U>::kColumns, kLast = (ExponentPart<U>::kRows - 1) * kColumns;
  for (int i = 0; i <= kLast + kColumns - 1; ++i) {
    int64_t n = 0;
    for (auto& table : part.table) n += table[i], table[i] = 0;
    add(counts[i > kLast ? kLast + 1 : i], n);  // a NaN is a NaN
  }
  part.since = 0;
}

template <class U>
void run(const TensorView& x, bool round_up, int64_t* counts, int64_t* extras) {
  using Float = std::conditional_t<sizeof(U) == 8, double, float>;
  constexpr DType kType = dtype_of<Float>;
  const int64_t n = x.size(), row = x.rank() ? x.dim(x.rank() - 1) : 1;
  std::atomic<U> largest{0}, smallest{U(~U(0))};
  // Whole rows that fit into a block, or blocks that fit into a row.
  const int64_t rows_each = std::max<int64_t>(1, kExponentBlock / std::max<int64_t>(row, 1)),
                pieces = row > kExponentBlock ? (row + kExponentBlock - 1) / kExponentBlock : 1;
  const int64_t rows = n / std::max<int64_t>(row, 1), total = pieces > 1 ? rows * pieces : (rows + rows_each - 1) / rows_each;
  const auto widen = x.dtype == kType ? nullptr : convert_loop(x.dtype, kType);
  parallel_for(0, n ? total : 0, 1 << 17 >> 10, [&](int64_t begin, int64_t end) {
    ExponentPart<U> part;
    std::memset(part.table, 0, sizeof part.table);
    U place[kExponentBlock], padded[kExponentBlock] = {};
    Float buffer[kExponentBlock];
    for (int64_t b = begin; b < end; ++b) {
      int64_t at, m;
      if (pieces > 1) {
        const int64_t from = b % pieces * kExponentBlock;
        at = b / pieces * row + from, m = std::min(kExponentBlock, row - from);
      } else {
        at = b * rows_each * row, m = std::min(rows_each * row, n - at);
      }
      const auto* p = static_cast<const std::byte*>(x.data) + at * int64_t(size_of(x.dtype));
      if (widen) widen(p, buffer, m, nullptr);
      count_exponents(widen ? buffer : reinterpret_cast<const Float*>(p), m, place, part);
      if (pieces > 1 || row % 32 == 0) {
        count_blocks(place, m, round_up, part.block);
      } else if (row > 32) {
        for (int64_t i = 0; i < m; i += row) count_blocks(place + i, row, round_up, part.block);
      } else {  // a block a row: side by side with zeros between, which nothing counts
        for (int64_t i = 0; i < m;) {
          int64_t k = 0;
          for (; k < kExponentBlock && i < m; k += 32, i += row) std::copy_n(place + i, row, padded + k);
          count_blocks(padded, k, round_up, part.block);
        }
      }
      if (part.since >= ExponentPart<U>::kFlushAfter) drain(part, counts);
    }
    drain(part, counts);
    for (int i = 0; i < 6; ++i) add(extras[2 + i], part.block[i]);
    for (U old = largest.load(); old < part.largest && !largest.compare_exchange_weak(old, part.largest);) {}
    for (U old = smallest.load(); old > part.smallest && !smallest.compare_exchange_weak(old, part.smallest);) {}
  });
  extras[0] = int64_t(largest.load()), extras[1] = int64_t(U(smallest.load() + 1));
}

}  // namespace
}  // namespace keel::cpu

using namespace keel;

KEEL_CPU_KERNEL(exponent_counts) {
  k.dtypes(kinds::floating | kinds::fp8).inputs(Layout::contiguous).run([](const KernelArgs& a) -> KernelStatus {
    const TensorView& x = a.in[0];
    const bool up = a.get<ExponentCountsParams>().round_up;
    auto* counts = a.out[0].ptr<int64_t>();
    auto* extras = a.out[1].ptr<int64_t>();
    std::fill_n(counts, a.out[0].size(), 0);
    std::fill_n(extras, kExponentExtras, 0);
    if (x.dtype == f64)
      cpu::run<uint64_t>(x, up, counts, extras);
    else
      cpu::run<uint32_t>(x, up, counts, extras);
    return {};
  });
}
