#pragma once
// Vectors on their way from the device's memory into the block's own. What was asked for takes no registers until it is used, so that a
// thread may ask for a lot at once.
#include <cuda_runtime_api.h>

#include <cstdint>

namespace keel::cuda {

/// Copies 16 bytes, aligned to as many, some time between this call and the return of `arrived`.
__device__ __forceinline__ void ask(void* shared, const void* from) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(uint32_t(__cvta_generic_to_shared(shared))), "l"(from) : "memory");
}
/// Ends a group of what this thread asked for, which may be empty.
__device__ __forceinline__ void asked() { asm volatile("cp.async.commit_group;" ::: "memory"); }
/// Waits for all groups of this thread but the last `but`. The thread, and no other, may then read what came.
template <int but>
__device__ __forceinline__ void arrived() {
  asm volatile("cp.async.wait_group %0;" ::"n"(but) : "memory");
}

}  // namespace keel::cuda
