// Statistics of a whole tensor (StatSlot), for results whose kernel takes none.
#include "backend/cuda/pointwise.cuh"

namespace keel::cuda {
namespace {

struct Counts {
  unsigned long long max_bits, min_bits, nan, inf, subnormal;
};

/// Bits of a float without its sign; what is infinite, and what is the least normal number.
template <class T>
struct Bits;
template <>
struct Bits<float> {
  using U = uint32_t;
  static constexpr U inf = 0x7f800000, normal = 0x00800000;
};
template <>
struct Bits<double> {
  using U = unsigned long long;
  static constexpr U inf = 0x7ff0000000000000, normal = 0x0010000000000000;
};
template <>
struct Bits<half> {
  using U = uint16_t;
  static constexpr U inf = 0x7c00, normal = 0x0400;
};
template <>
struct Bits<bfloat> {
  using U = uint16_t;
  static constexpr U inf = 0x7f80, normal = 0x0080;
};

template <class T>
__global__ void __launch_bounds__(kThreads) observe_kernel(int64_t n, DeviceWalk<1> w, const typename Bits<T>::U* x, Counts* total) {
  using B = Bits<T>;
  Counts c{0, ~0ull, 0, 0, 0};
  for (int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x; i < n; i += int64_t(gridDim.x) * kThreads) {
    int64_t at[1];
    offsets_of(w, i, at);
    const unsigned long long u = (unsigned long long)(x[at[0]]) & (~0ull >> (64 - 8 * sizeof(T) + 1));
    c.max_bits = max(c.max_bits, u), c.min_bits = min(c.min_bits, u - 1);
    c.nan += u > B::inf, c.inf += u == B::inf, c.subnormal += u - 1 < B::normal - 1;
  }
  atomicMax(&total->max_bits, c.max_bits), atomicMin(&total->min_bits, c.min_bits);
  if (c.nan) atomicAdd(&total->nan, c.nan);
  if (c.inf) atomicAdd(&total->inf, c.inf);
  if (c.subnormal) atomicAdd(&total->subnormal, c.subnormal);
}

}  // namespace

void observe(int device, const TensorView& x, StatSlot& slot);
void observe(int device, const TensorView& x, StatSlot& slot) {
  const int64_t n = x.size();
  if (n == 0) return;
  use(device);
  const cudaStream_t s = stream_of(device);
  const TensorView* const views[1] = {&x};
  const DeviceWalk<1> d(Walk<1>(views), n);
  Floats::call(x.dtype, [&](auto t) {
    using T = decltype(t);
    auto* total = static_cast<Counts*>(allocate(device, sizeof(Counts), "monitor"));
    if (!total) return;
    Counts c{0, ~0ull, 0, 0, 0};
    cudaMemcpyAsync(total, &c, sizeof c, cudaMemcpyHostToDevice, s);
    const auto blocks = unsigned(std::min<int64_t>(ceil_div(n, kThreads), 8 * processors(device)));
    observe_kernel<T><<<blocks, kThreads, 0, s>>>(n, d, x.ptr<typename Bits<T>::U>(), total);
    cudaMemcpyAsync(&c, total, sizeof c, cudaMemcpyDeviceToHost, s);
    cudaStreamSynchronize(s);
    release(device, total, sizeof(Counts));
    slot.merge(
        {.max_bits = c.max_bits, .min_bits = c.min_bits, .count = uint64_t(n), .nan = c.nan, .inf = c.inf, .subnormal = c.subnormal});
  });
}

}  // namespace keel::cuda
