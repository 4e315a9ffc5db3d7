#pragma once
#include <atomic>
#include <cstdint>

namespace keel {

/// What the monitor learns about one tensor, gathered by the kernel that wrote it. With u the bit pattern without its sign, widened to 64 bits:
/// `max_bits` is the maximum of u, and `min_bits` the minimum of u - 1 with unsigned wrap, so that zeros drop out. NaN orders above infinity above finite, so nothing
/// is lost; integer maximum and minimum are associative, so the result does not depend on order. Counters count elements. Merging is atomic: threads keep a local StatSlot::Part and merge once.
struct StatSlot {
  struct Part {
    uint64_t max_bits = 0, min_bits = ~uint64_t(0), count = 0, nan = 0, inf = 0, subnormal = 0;
  };
  std::atomic<uint64_t> max_bits{0}, min_bits{~uint64_t(0)}, count{0}, nan{0}, inf{0}, subnormal{0};
  // For the separate pass over results whose kernel has no statistics of its own: look at one KiB in `every`, from KiB number `rotation` on.
  uint32_t every = 1, rotation = 0;
  bool wanted = true;  // false: nobody asks about this output

  void merge(const Part& p) {
    raise_to(max_bits, p.max_bits), lower_to(min_bits, p.min_bits);
    count.fetch_add(p.count, std::memory_order_relaxed);
    if (p.nan) nan.fetch_add(p.nan, std::memory_order_relaxed);
    if (p.inf) inf.fetch_add(p.inf, std::memory_order_relaxed);
    if (p.subnormal) subnormal.fetch_add(p.subnormal, std::memory_order_relaxed);
  }

 private:
  static void raise_to(std::atomic<uint64_t>& a, uint64_t v) {
    for (uint64_t old = a.load(std::memory_order_relaxed); old < v && !a.compare_exchange_weak(old, v, std::memory_order_relaxed);) {}
  }
  static void lower_to(std::atomic<uint64_t>& a, uint64_t v) {
    for (uint64_t old = a.load(std::memory_order_relaxed); old > v && !a.compare_exchange_weak(old, v, std::memory_order_relaxed);) {}
  }
};

}  // namespace keel
