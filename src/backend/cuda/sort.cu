// sort and topk along any axis, and permutation: keys that order as the values do, NaN last, sorted with their positions by CUB's radix
// sort. Rows are told apart by the keys' upper half, or by a second sort where values have 64 bits.
#include "backend/cuda/sort.h"

#include <cub/device/device_radix_sort.cuh>

#include "backend/cuda/philox.cuh"
#include "backend/cuda/pointwise.cuh"
#include "keel/ops/random.h"
#include "keel/ops/sort.h"

namespace keel::cuda {

static size_t round_up(size_t n) { return (n + 255) / 256 * 256; }
static size_t temporary_for(int64_t n) {
  size_t bytes = 0;
  cub::DoubleBuffer<uint64_t> keys;
  cub::DoubleBuffer<int64_t> order;
  cub::DeviceRadixSort::SortPairs(nullptr, bytes, keys, order, n, 0, 64);
  return bytes;
}

SortRoom::SortRoom(void* space, int64_t n) : temporary_bytes(temporary_for(n)) {
  char* p = static_cast<char*>(space);
  const size_t one = round_up(size_t(n) * 8);
  keys = reinterpret_cast<uint64_t*>(p), other_keys = reinterpret_cast<uint64_t*>(p + one);
  order = reinterpret_cast<int64_t*>(p + 2 * one), other_order = reinterpret_cast<int64_t*>(p + 3 * one);
  temporary = p + 4 * one;
}
size_t SortRoom::bytes(int64_t n) { return 4 * round_up(size_t(n) * 8) + round_up(temporary_for(n)) + 256; }
KernelStatus SortRoom::sort(int64_t n, int low, int high, cudaStream_t s) {
  if (n == 0 || high <= low) return {};
  cub::DoubleBuffer<uint64_t> k(keys, other_keys);
  cub::DoubleBuffer<int64_t> o(order, other_order);
  size_t bytes = temporary_bytes;
  const cudaError_t e = cub::DeviceRadixSort::SortPairs(temporary, bytes, k, o, n, low, high, s);
  if (e != cudaSuccess) return KernelStatus::device(text_of(e, "sorting"));
  keys = k.Current(), other_keys = k.Alternate(), order = o.Current(), other_order = o.Alternate();
  return {};
}

}  // namespace keel::cuda

using namespace keel;
using namespace keel::cuda;

namespace {

/// The bits of a value as an unsigned key that orders as the value does: -0 as +0, every NaN last.
template <class U>
__device__ uint64_t float_key(U bits, U inf) {
  constexpr U kSign = U(U(1) << (sizeof(U) * 8 - 1));
  const U magnitude = bits & U(~kSign);
  if (magnitude > inf) return U(~U(0));
  if (magnitude == 0) return kSign;
  return U(bits & kSign ? U(~bits) : U(bits | kSign));
}
__device__ uint64_t key_of(const void* p, int64_t i, DType t) {
  const auto as = [&](auto zero) { return static_cast<const decltype(zero)*>(p)[i]; };
  switch (t) {
    case DType::f64: return float_key<uint64_t>(as(uint64_t()), 0x7ff0000000000000);
    case DType::f32: return float_key<uint32_t>(as(uint32_t()), 0x7f800000);
    case DType::f16: return float_key<uint16_t>(as(uint16_t()), 0x7c00);
    case DType::bf16: return float_key<uint16_t>(as(uint16_t()), 0x7f80);
    case DType::i64: return as(uint64_t()) ^ (uint64_t(1) << 63);
    case DType::u64: return as(uint64_t());
    case DType::i32: return as(uint32_t()) ^ (uint32_t(1) << 31);
    case DType::u32: return as(uint32_t());
    case DType::i16: return uint16_t(as(uint16_t()) ^ 0x8000);
    case DType::u16: return as(uint16_t());
    case DType::i8: return uint8_t(as(uint8_t()) ^ 0x80);
    default: return as(uint8_t());
  }
}

/// A dense tensor as [outer, n, inner]; row r is outer r / inner, inner r % inner.
struct Rows {
  int64_t n = 1, inner = 1, count = 1;
  Rows(const TensorView& x, int64_t axis) {
    if (x.rank() == 0) return;
    const int a = int(axis < 0 ? axis + x.rank() : axis);
    n = x.dim(a);
    for (int i = 0; i < x.rank(); ++i)
      if (i != a) count *= x.dim(i), inner *= i > a ? x.dim(i) : 1;
  }
  __host__ __device__ int64_t at(int64_t row, int64_t j, int64_t extent) const { return (row / inner * extent + j) * inner + row % inner; }
};

__global__ void __launch_bounds__(kThreads)
    fill_keys(Rows r, const void* x, DType t, uint64_t flip, int row_shift, uint64_t* keys, int64_t* order) {
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= r.n * r.count) return;
  const int64_t row = i / r.n;
  uint64_t key = key_of(x, r.at(row, i % r.n, r.n), t) ^ flip;
  if (row_shift < 64) key |= uint64_t(row) << row_shift;
  keys[i] = key, order[i] = i;
}
__global__ void __launch_bounds__(kThreads) fill_rows(int64_t total, int64_t n, const int64_t* order, uint64_t* keys) {
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i < total) keys[i] = uint64_t(order[i] / n);
}
/// The first k of every row.
template <class T>
__global__ void __launch_bounds__(kThreads) take_first(Rows r, int64_t k, const T* x, const int64_t* order, T* values, int64_t* indices) {
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= r.count * k) return;
  const int64_t row = i / k, j = i % k, from = order[row * r.n + j] % r.n, to = r.at(row, j, k);
  values[to] = x[r.at(row, from, r.n)], indices[to] = from;
}

KernelStatus sorted(const KernelArgs& a, int64_t axis, bool descending, int64_t k) {
  const TensorView& x = a.in[0];
  const Rows r(x, axis);
  const int64_t total = x.size();
  if (total == 0 || k == 0) return {};
  use(a.device);
  const cudaStream_t s = stream(a);
  SortRoom room(a.workspace, total);
  const int bits = int(size_of(x.dtype)) * 8, row_bits = bits_for(uint64_t(r.count));
  const bool together = bits + row_bits <= 64;
  const uint64_t flip = descending ? ~uint64_t(0) >> (64 - bits) : 0;
  fill_keys<<<unsigned(ceil_div(total, kThreads)), kThreads, 0, s>>>(r, x.data, x.dtype, flip, together ? bits : 64, room.keys, room.order);
  if (KernelStatus status = room.sort(total, 0, together ? bits + row_bits : bits, s); status.code) return status;
  if (!together) {
    fill_rows<<<unsigned(ceil_div(total, kThreads)), kThreads, 0, s>>>(total, r.n, room.order, room.keys);
    if (KernelStatus status = room.sort(total, 0, row_bits, s); status.code) return status;
  }
  const auto take = [&](auto t) {
    using T = decltype(t);
    take_first<T><<<unsigned(ceil_div(r.count * k, kThreads)), kThreads, 0, s>>>(r, k, x.ptr<T>(), room.order, a.out[0].ptr<T>(),
                                                                                 a.out[1].ptr<int64_t>());
  };
  switch (size_of(x.dtype)) {
    case 1: take(uint8_t()); break;
    case 2: take(uint16_t()); break;
    case 4: take(uint32_t()); break;
    default: take(uint64_t());
  }
  return launched();
}
KernelDef& sort_def(KernelDef& k) {
  return k.dtypes(kinds::ordered).inputs(Layout::contiguous).workspace([](const KernelArgs& a) {
    use(a.device);
    return SortRoom::bytes(a.in[0].size());
  });
}

__global__ void __launch_bounds__(kThreads) draw_keys(int64_t n, Philox random, int64_t second, uint64_t* keys, int64_t* order) {
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i < n) keys[i] = uint64_t(random.word(i)) << 32 | random.word(second + i), order[i] = i;
}
template <class T>
__global__ void __launch_bounds__(kThreads) put_order(int64_t n, const int64_t* order, T* y) {
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i < n) y[i] = T(order[i]);
}

}  // namespace

KEEL_CUDA_KERNEL(sort) {
  sort_def(k).run([](const KernelArgs& a) {
    const auto& p = a.get<SortParams>();
    return sorted(a, p.axis, p.descending, Rows(a.in[0], p.axis).n);
  });
}
KEEL_CUDA_KERNEL(topk) {
  sort_def(k).run([](const KernelArgs& a) {
    const auto& p = a.get<TopkParams>();
    return sorted(a, p.axis, p.largest, p.k);
  });
}
KEEL_CUDA_KERNEL(permutation) {
  k.workspace([](const KernelArgs& a) {
     use(a.device);
     return SortRoom::bytes(a.get<PermutationParams>().n);
   }).run([](const KernelArgs& a) -> KernelStatus {
    const auto& p = a.get<PermutationParams>();
    if (p.n == 0) return {};
    use(a.device);
    const cudaStream_t s = stream(a);
    SortRoom room(a.workspace, p.n);
    const auto blocks = unsigned(ceil_div(p.n, kThreads));
    draw_keys<<<blocks, kThreads, 0, s>>>(p.n, Philox(a.in[0], p.offset), (p.n + 3) / 4 * 4, room.keys, room.order);
    if (KernelStatus status = room.sort(p.n, 0, 64, s); status.code) return status;
    if (a.out[0].dtype == i32)
      put_order<<<blocks, kThreads, 0, s>>>(p.n, room.order, a.out[0].ptr<int32_t>());
    else
      put_order<<<blocks, kThreads, 0, s>>>(p.n, room.order, a.out[0].ptr<int64_t>());
    return launched();
  });
}
