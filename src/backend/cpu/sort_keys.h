#pragma once
// Sorting by key and position. A value becomes an unsigned key that orders as the value does; with its position it makes a unique item, so
// that every algorithm below is stable and gives one answer whatever it does inside. Keys of up to 32 bits share a u64 with the position,
// wider ones get 16 bytes.
#include <algorithm>
#include <cstdint>
#include <cstring>

#include "keel/dtype.h"
#include "keel/parallel.h"

namespace keel::cpu {

struct WideItem {
  uint64_t key, at;
  bool operator<(const WideItem& o) const { return key != o.key ? key < o.key : at < o.at; }
};
inline uint64_t position(uint64_t item) { return item & 0xffffffff; }
inline uint64_t position(const WideItem& item) { return item.at; }
inline uint64_t sort_bits(uint64_t item, int shift) { return item >> (32 + shift); }
inline uint64_t sort_bits(const WideItem& item, int shift) { return item.key >> shift; }

/// Key of a floating value by its bits: negative numbers below positive ones, -0 as +0, every NaN last.
template <class U>
U float_key(U bits, U inf) {
  constexpr U kSign = U(U(1) << (sizeof(U) * 8 - 1));
  const U magnitude = bits & U(~kSign);
  if (magnitude > inf) return U(~U(0));
  if (magnitude == 0) return kSign;
  return bits & kSign ? U(~bits) : U(bits | kSign);
}

/// The key of element p of dtype t, in the low bits.
template <DType t>
auto key_of(const void* p) {
  auto load = [p](auto zero) {
    std::memcpy(&zero, p, sizeof zero);
    return zero;
  };
  if constexpr (t == f64)
    return float_key<uint64_t>(load(uint64_t{}), 0x7ff0000000000000);
  else if constexpr (t == f32)
    return float_key<uint32_t>(load(uint32_t{}), 0x7f800000);
  else if constexpr (t == f16)
    return uint32_t(float_key<uint16_t>(load(uint16_t{}), 0x7c00));
  else if constexpr (t == bf16)
    return uint32_t(float_key<uint16_t>(load(uint16_t{}), 0x7f80));
  else if constexpr (t == i64)
    return load(uint64_t{}) ^ (uint64_t(1) << 63);
  else if constexpr (t == u64)
    return load(uint64_t{});
  else if constexpr (t == i32)
    return load(uint32_t{}) ^ (uint32_t(1) << 31);
  else if constexpr (t == u32)
    return load(uint32_t{});
  else if constexpr (t == i16)
    return uint32_t(uint16_t(load(uint16_t{}) ^ 0x8000));
  else if constexpr (t == u16)
    return uint32_t(load(uint16_t{}));
  else if constexpr (t == i8)
    return uint32_t(uint8_t(load(uint8_t{}) ^ 0x80));
  else
    return uint32_t(load(uint8_t{}));
}
/// Width of the keys of dtype t.
constexpr int key_bits(DType t) { return int(size_of(t)) * 8; }

/// The item of position `at`; `flip` turns the order of values, not of positions, around.
template <class Item, DType t>
Item item_of(const void* p, uint64_t at, bool flip) {
  const auto key = key_of<t>(p);
  if constexpr (std::is_same_v<Item, WideItem>)
    return {flip ? ~uint64_t(key) : uint64_t(key), at};
  else
    return (uint64_t(uint32_t(flip ? ~key : key)) << 32) | at;
}

/// Sorts n items by the low `bits` of their keys; items come in order of position where n is large. `space` is as long as `a`; the result
/// is in `a`.
template <class Item>
void sort_items(Item* a, Item* space, int64_t n, int bits) {
  if (n < 768) {
    std::sort(a, a + n);
    return;
  }
  const int digit = n < (1 << 16) ? 8 : 11, passes = (bits + digit - 1) / digit;
  const uint64_t mask = (uint64_t(1) << digit) - 1;
  Item *from = a, *to = space;
  for (int k = 0; k < passes; ++k) {
    int64_t place[2048] = {};
    for (int64_t i = 0; i < n; ++i) ++place[sort_bits(from[i], k * digit) & mask];
    if (place[sort_bits(from[0], k * digit) & mask] == n) continue;  // one digit for all
    for (int64_t d = 0, before = 0; d <= int64_t(mask); ++d) {
      const int64_t here = place[d];
      place[d] = before, before += here;
    }
    for (int64_t i = 0; i < n; ++i) to[place[sort_bits(from[i], k * digit) & mask]++] = from[i];
    std::swap(from, to);
  }
  if (from != a) std::memcpy(static_cast<void*>(a), from, size_t(n) * sizeof(Item));
}

/// How many of the first k items of the merge of two runs come from the first run.
template <class Item>
int64_t merge_split(const Item* a, int64_t na, const Item* b, int64_t nb, int64_t k) {
  int64_t lo = k > nb ? k - nb : 0, hi = k < na ? k : na;
  while (lo < hi) {
    const int64_t i = (lo + hi) / 2;
    if (a[i] < b[k - i - 1])
      lo = i + 1;
    else
      hi = i;
  }
  return lo;
}

/// The same for one long row: parts are sorted side by side and merged, every merge split evenly. `a` and `space` as above.
template <class Item>
void sort_items_parallel(Item* a, Item* space, int64_t n, int bits) {
  int64_t parts = 1;
  while (2 * parts <= num_threads() && n / (2 * parts) >= (1 << 15)) parts *= 2;
  if (parts == 1) return sort_items(a, space, n, bits);
  parallel_for(0, parts, [&](int64_t lo, int64_t hi) {
    for (int64_t t = lo; t < hi; ++t) sort_items(a + n * t / parts, space + n * t / parts, n * (t + 1) / parts - n * t / parts, bits);
  });
  Item *from = a, *to = space;
  for (int64_t run = 1; run < parts; run *= 2, std::swap(from, to)) {
    parallel_for(0, parts, [&](int64_t lo, int64_t hi) {
      for (int64_t t = lo; t < hi; ++t) {
        // Part t of the output lies in one merge of two runs, as runs are whole parts.
        const int64_t first = t / (2 * run) * (2 * run), begin = n * first / parts, middle = n * (first + run) / parts,
                      end = n * (first + 2 * run) / parts;
        const Item *x = from + begin, *y = from + middle;
        const int64_t nx = middle - begin, ny = end - middle, k0 = n * t / parts - begin, k1 = n * (t + 1) / parts - begin;
        const int64_t i0 = merge_split(x, nx, y, ny, k0), i1 = merge_split(x, nx, y, ny, k1);
        std::merge(x + i0, x + i1, y + (k0 - i0), y + (k1 - i1), to + begin + k0);
      }
    });
  }
  if (from != a)
    parallel_for(0, n, 1 << 16,
                 [&](int64_t lo, int64_t hi) { std::memcpy(static_cast<void*>(a + lo), from + lo, size_t(hi - lo) * sizeof(Item)); });
}

/// Moves the k smallest of the items make(lo), ..., make(hi - 1) to the front of `buffer`, in any order, and says how many there are.
/// `room` items fit into it; room > k.
template <class Item, class Make>
int64_t select_items(int64_t lo, int64_t hi, int64_t k, Item* buffer, int64_t room, Make make) {
  int64_t n = 0, i = lo;
  for (; i < hi && n < room; ++i) buffer[n++] = make(i);
  if (n < room || i == hi) {
    if (n > k) std::nth_element(buffer, buffer + k, buffer + n), n = k;
    return n;
  }
  std::nth_element(buffer, buffer + k, buffer + n), n = k;
  Item bound = *std::max_element(buffer, buffer + k);
  for (; i < hi; ++i) {
    const Item x = make(i);
    if (!(x < bound)) continue;
    buffer[n++] = x;
    if (n == room) std::nth_element(buffer, buffer + k, buffer + n), n = k, bound = *std::max_element(buffer, buffer + k);
  }
  if (n > k) std::nth_element(buffer, buffer + k, buffer + n), n = k;
  return n;
}
/// Room for `select_items` of k.
inline int64_t select_room(int64_t k) { return 2 * k + 64; }

}  // namespace keel::cpu
