#pragma once
// Errors in data that kernels find while they run: the first one of the earliest call reaches the host and is raised at the next wait.
#include "backend/cuda/kernel.h"

namespace keel::cuda {

/// What a kernel carries to report by.
struct Reporter {
  FaultBoard* board;
  uint64_t call;
  int32_t code, axis;
  int64_t limit;
  const char* what;

  /// `about`: a status without `got`.
  Reporter(const KernelArgs& a, const KernelStatus& about)
      : board(faults_of(a.device)), call(a.call), code(about.code), axis(int32_t(about.axis)), limit(about.limit), what(about.what) {}

  /// `position` orders errors of one call: the least one is told.
  __device__ void report(int64_t got, int64_t position) const {
    const unsigned long long key = (call << 36) | (position < (int64_t(1) << 36) ? position : (int64_t(1) << 36) - 1);
    if (atomicMin(&board->best, key) <= key) return;
    bool done = false;
    while (!done) {
      if (atomicCAS(&board->lock, 0u, 1u)) continue;
      __threadfence();
      if (*static_cast<volatile unsigned long long*>(&board->best) == key) {
        FaultBoard::Found& f = *board->found;
        f.call = call, f.axis = axis, f.got = got, f.limit = limit, f.what = what, f.code = code;
        __threadfence_system();
      }
      __threadfence();
      atomicExch(&board->lock, 0u);
      done = true;
    }
  }
  /// The index counted from the front, or -1 after a report.
  __device__ int64_t index(int64_t i, int64_t position) const {
    if (i >= -limit && i < limit) return i < 0 ? i + limit : i;
    report(i, position);
    return -1;
  }
  /// The same where negative ones are wrong.
  __device__ int64_t place(int64_t i, int64_t position) const {
    if (i >= 0 && i < limit) return i;
    report(i, position);
    return -1;
  }
};

/// Integer i of an array of dtype t.
__device__ inline int64_t load_index(const void* p, DType t, int64_t i) {
  switch (t) {
    case DType::i64: return static_cast<const int64_t*>(p)[i];
    case DType::i32: return static_cast<const int32_t*>(p)[i];
    case DType::u32: return static_cast<const uint32_t*>(p)[i];
    case DType::i16: return static_cast<const int16_t*>(p)[i];
    case DType::u16: return static_cast<const uint16_t*>(p)[i];
    case DType::i8: return static_cast<const int8_t*>(p)[i];
    default: return static_cast<const uint8_t*>(p)[i];
  }
}

}  // namespace keel::cuda
