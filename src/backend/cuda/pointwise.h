#pragma once
// How an elementwise kernel is chosen and started. The function and its types meet only in the kernels themselves (pointwise.cuh): on the
// host all of them are one piece of code.
#include <algorithm>
#include <cstdint>

#include "backend/cuda/kernel.h"

namespace keel::cuda {

/// Threads of a block, of these kernels and where nothing speaks for another number.
inline constexpr int kThreads = 256;

/// The kernels of one function on operands of certain types.
struct PointwiseKernels {
  struct Form {
    const void* kernel = nullptr;  // null: there is none
    KernelHandles* handles = nullptr;
  };
  int pack;              // elements that a thread takes at once
  const uint8_t* sizes;  // bytes of an element of each operand, the result first
  Form dense;            // (f, n, y, sources...)
  Form watched;          // (f, n, slot, y, sources...): dense with statistics of the result
  Form rows;             // (f, n, walk, y, sources...): innermost axes in packs
  Form strided;          // (f, n, walk, y, sources...): any layout
};

/// A Source<T> of pointwise.cuh in bytes: a pointer, the value of a number in host memory, whether it is one element for all.
struct alignas(16) AnySource {
  unsigned char bytes[48];
  static constexpr size_t value_at(size_t size) { return std::max(size, sizeof(void*)); }
  static constexpr size_t one_at(size_t size) { return value_at(size) + size; }
};

/// Queues f over `n` operands, the result first.
KernelStatus start_pointwise(const KernelArgs& a, const PointwiseKernels& k, const void* f, const TensorView* const* operands, int n);

}  // namespace keel::cuda
