// Kernels that choose and mix: where, masked_fill, clamp, lerp; and cast.
#include "backend/cuda/cast8.h"
#include "backend/cuda/element.cuh"
#include "backend/cuda/pointwise.cuh"
#include "keel/ops/cast.h"

using namespace keel;
using namespace keel::cuda;
using namespace keel::cuda::element;

namespace {

KernelStatus choose(const KernelArgs& a, const std::array<int, 3>& order) {
  switch (size_of(a.out[0].dtype)) {
    case 1: return pointwise_of<uint8_t, bool, uint8_t, uint8_t>(a, Choose{}, order);
    case 2: return pointwise_of<uint16_t, bool, uint16_t, uint16_t>(a, Choose{}, order);
    case 4: return pointwise_of<uint32_t, bool, uint32_t, uint32_t>(a, Choose{}, order);
    default: return pointwise_of<uint64_t, bool, uint64_t, uint64_t>(a, Choose{}, order);
  }
}

}  // namespace

template <class To>
inline constexpr bool keel::cuda::kWatched<Convert<To>> = true;

namespace {

/// Casts from and to integers and bools, which are few and small: the result's dtype is chosen inside the kernel.
template <class From>
__global__ void __launch_bounds__(kThreads) cast_kernel(int64_t n, DeviceWalk<2> w, const From* x, void* y, DType to) {
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= n) return;
  int64_t at[2];
  offsets_of(w, i, at);
  const From v = x[at[1]];
  const auto put = [&](auto as) { static_cast<decltype(as)*>(y)[at[0]] = convert<decltype(as)>(v); };
  switch (to) {
    case DType::boolean: return put(bool());
    case DType::i8: return put(int8_t());
    case DType::u8: return put(uint8_t());
    case DType::i16: return put(int16_t());
    case DType::u16: return put(uint16_t());
    case DType::i32: return put(int32_t());
    case DType::u32: return put(uint32_t());
    case DType::i64: return put(int64_t());
    case DType::u64: return put(uint64_t());
    case DType::f16: return put(half());
    case DType::bf16: return put(bfloat());
    case DType::f32: return put(float());
    default: return put(double());
  }
}
KernelStatus cast_any(const KernelArgs& a) {
  const int64_t n = a.out[0].size();
  if (n == 0) return {};
  use(a.device);
  const TensorView* const views[2] = {&a.out[0], &a.in[0]};
  const DeviceWalk<2> w(Walk<2>(views), n);
  Ordered::call(a.in[0].dtype, [&](auto t) {
    using From = decltype(t);
    cast_kernel<From>
        <<<unsigned(ceil_div(n, kThreads)), kThreads, 0, stream(a)>>>(n, w, a.in[0].ptr<From>(), a.out[0].data, a.out[0].dtype);
  });
  return launched();
}

constexpr DTypeSet kCastable = kinds::ordered;

}  // namespace

KEEL_CUDA_KERNEL(where) {
  pointwise_def(k, kinds::any)
      .refuses([](const void*, Specs in) -> const char* { return size_of(in[1].dtype) > 8 ? "elements of 16 bytes" : nullptr; })
      .run([](const KernelArgs& a) {
        return choose(a, {0, 1, 2});
      });
}
KEEL_CUDA_KERNEL(masked_fill) {
  pointwise_def(k, kinds::any)
      .refuses([](const void*, Specs in) -> const char* { return size_of(in[0].dtype) > 8 ? "elements of 16 bytes" : nullptr; })
      .run([](const KernelArgs& a) {
        return choose(a, {1, 2, 0});
      });
}
KEEL_CUDA_KERNEL(clamp) {
  pointwise_def(k, kinds::real).run([](const KernelArgs& a) { return lifted<Reals, 3>(a, Clamp{}); });
}
KEEL_CUDA_KERNEL(lerp) {
  pointwise_def(k, kinds::floating).run([](const KernelArgs& a) { return lifted<Floats, 3>(a, Lerp{}); });
}
KEEL_CUDA_KERNEL(cast) {
  k.dtypes(kCastable | kinds::fp8)
      .inputs(Layout::strided)
      .outputs(Layout::like_inputs)
      .refuses([](const void* p, Specs in) -> const char* {
        const DType from = in[0].dtype, to = static_cast<const CastParams*>(p)->to;
        if (!contains(kCastable | kinds::fp8, to)) return "complex numbers";
        constexpr DTypeSet any_float = kinds::floating | kinds::fp8;
        return (contains(kinds::fp8, from) && !contains(any_float, to)) || (contains(kinds::fp8, to) && !contains(any_float, from))
                   ? "fp8 and integers"
                   : nullptr;
      })
      .stats()
      .run([](const KernelArgs& a) {
        KernelStatus s;
        if (contains(kinds::fp8, a.in[0].dtype) || contains(kinds::fp8, a.out[0].dtype)) return cast_fp8(a);
        const bool floats = contains(kinds::floating, a.in[0].dtype) && contains(kinds::floating, a.out[0].dtype);
        if (!floats) return (s = cast_any(a)).code ? s : watch(a);
        Floats::call(a.in[0].dtype, [&](auto from) {
          Floats::call(a.out[0].dtype, [&](auto to) { s = pointwise<decltype(to), decltype(from)>(a, Convert<decltype(to)>{}); });
        });
        return s;
      });
}
