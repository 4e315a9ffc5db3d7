#pragma once
#include <atomic>
#include <cstdint>

namespace keel {

struct BoardSlot;

/// Looks over a step of an optimiser for numbers that its own arithmetic makes NaN or infinite: weights, moments, masters. A kernel that
/// knows it notes them; where it `holds`, each element of which one of them would not be finite keeps its weight and its state.
struct StepGuard {
  static constexpr int64_t kNone = INT64_MAX;
  bool holds = false;
  BoardSlot* board = nullptr;  // where kernels of a device note it: as BoardSlot says
  std::atomic<int64_t> elements{0};    // that were finite, as was the gradient, and would not be
  std::atomic<uint32_t> lists{0};      // in which of the step's lists, as bits
  std::atomic<int64_t> tensor{kNone};  // the first parameter that has one

  /// `count` elements of parameter `of`, in these lists.
  void note(int64_t of, int64_t count, uint32_t in) {
    elements.fetch_add(count, std::memory_order_relaxed), lists.fetch_or(in, std::memory_order_relaxed);
    for (int64_t first = tensor.load(std::memory_order_relaxed);
         of < first && !tensor.compare_exchange_weak(first, of, std::memory_order_relaxed);) {}
  }
};

}  // namespace keel
