// Copies between layouts, writes into views, and tensors of one value.
#include "backend/cuda/copy.h"

#include "backend/cuda/pointwise.cuh"
#include "keel/ops/creation.h"

using namespace keel;
using namespace keel::cuda;

namespace {

struct alignas(16) Wide {
  uint64_t low, high;
};
struct Same {
  template <class T>
  __device__ T operator()(T x) const {
    return x;
  }
};

/// y = in[i], of one size.
KernelStatus copy_from(const KernelArgs& a, int i) {
  const std::array<int, 1> order{i};
  switch (size_of(a.out[0].dtype)) {
    case 1: return pointwise_of<uint8_t, uint8_t>(a, Same{}, order);
    case 2: return pointwise_of<uint16_t, uint16_t>(a, Same{}, order);
    case 4: return pointwise_of<uint32_t, uint32_t>(a, Same{}, order);
    case 8: return pointwise_of<uint64_t, uint64_t>(a, Same{}, order);
    default: return pointwise_of<Wide, Wide>(a, Same{}, order);
  }
}

template <class T>
struct Fill {
  T value;
  __device__ T operator()() const { return value; }
};
template <class T>
T as(Scalar v) {
  if constexpr (std::is_same_v<T, bool>)
    return v.to_bool();
  else if constexpr (std::is_integral_v<T>)
    return T(v.to_int());
  else if constexpr (std::is_same_v<T, half>)
    return __double2half(v.to_double());
  else if constexpr (std::is_same_v<T, bfloat>)
    return __double2bfloat16(v.to_double());
  else
    return T(v.to_double());
}

}  // namespace

KernelStatus keel::cuda::copy_view(const TensorView& from, const TensorView& to, int device, cudaStream_t stream) {
  KernelArgs a;
  a.in = &from, a.out = &to, a.n_in = a.n_out = 1, a.device = device, a.stream = stream;
  return copy_from(a, 0);
}

KEEL_CUDA_KERNEL(copy) {
  k.inputs(Layout::strided).outputs(Layout::like_inputs).run([](const KernelArgs& a) { return copy_from(a, 0); });
}
KEEL_CUDA_KERNEL(assign) {
  k.inputs(Layout::strided)
      .outputs(Layout::strided)
      .refuses([](const void*, Specs in) -> const char* { return in[0].dtype == in[1].dtype ? nullptr : "a value of another dtype"; })
      .run([](const KernelArgs& a) { return copy_from(a, 1); });
}
KEEL_CUDA_KERNEL(full) {
  k.dtypes(kinds::ordered).run([](const KernelArgs& a) {
    KernelStatus s;
    Ordered::call(a.out[0].dtype,
                  [&](auto t) { s = pointwise<decltype(t)>(a, Fill<decltype(t)>{as<decltype(t)>(a.get<FullParams>().value)}); });
    return s;
  });
}
