#pragma once
// softmax and its relatives: all operands are of one shape and type.
#include "backend/cuda/around.cuh"
#include "keel/ops/softmax.h"

namespace keel::cuda {

inline Around softmax_axis(const KernelArgs& a) { return {a.in[0].shape(), a.get<SoftmaxParams>().axis}; }

/// Launches Family over output 0 and the first `inputs` inputs.
template <class Family, size_t inputs>
KernelStatus run_softmax(const KernelArgs& a) {
  KernelStatus s;
  use(a.device);
  Floats::call(a.in[0].dtype, [&](auto t) {
    using T = decltype(t);
    [&]<size_t... i>(std::index_sequence<i...>) {
      const bool aligned = aligned16(a.out[0]) && (true && ... && aligned16(a.in[i]));
      s = around_watched<Family, T>(a, softmax_axis(a), aligned, static_cast<const T*>(a.in[i].ptr<T>())...);
    }
    (std::make_index_sequence<inputs>());
  });
  return s;
}

}  // namespace keel::cuda
