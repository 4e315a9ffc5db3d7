// Statistics of whole tensors, for results whose kernel takes none: a pass of its own, queued, several tensors a launch.
#include "backend/cuda/pointwise.cuh"
#include "backend/cuda/stats.cuh"

namespace keel::cuda {
namespace {

constexpr int kMost = 32, kWords = 512;
constexpr int kResident = 6;  // blocks of a multiprocessor: all of a large tensor's run at once

/// Dense tensors; tensor i owns the blocks from begin[i] on.
struct List {
  const void* p[kMost];
  int64_t n[kMost];
  BoardSlot* to[kMost];
  uint32_t begin[kMost + 1];
  DType dtype[kMost];
  int count;
};

template <class T>
__device__ void observe_dense(const T* x, int64_t n, int64_t block, int64_t blocks, BoardSlot* to) {
  constexpr int V = 16 / int(sizeof(T));
  Tally<T> seen;
  const auto odd = int64_t(reinterpret_cast<uintptr_t>(x) % 16 / sizeof(T));
  const int64_t head = odd ? (V - odd < n ? V - odd : n) : 0, packs = (n - head) / V, tail = head + packs * V;
  const int64_t first = block * kThreads + threadIdx.x, step = blocks * kThreads;
  if (first < head) seen.take(x[first]);
  const auto* const p = reinterpret_cast<const uint4*>(x + head);
#pragma unroll 4
  for (int64_t i = first; i < packs; i += step) {
    const uint4 raw = __ldcg(p + i);  // not into the first cache: it comes by once
    T v[V];
    memcpy(v, &raw, 16);
    seen.take(v);
  }
  if (tail + first < n) seen.take(x[tail + first]);
  seen.post(to);
}

__global__ void __launch_bounds__(kThreads, kResident) observe_list(List l) {
  int i = 0;
  while (i + 1 < l.count && blockIdx.x >= l.begin[i + 1]) ++i;
  const int64_t block = blockIdx.x - l.begin[i], blocks = l.begin[i + 1] - l.begin[i];
  switch (l.dtype[i]) {
    case DType::f32: return observe_dense(static_cast<const float*>(l.p[i]), l.n[i], block, blocks, l.to[i]);
    case DType::bf16: return observe_dense(static_cast<const bfloat*>(l.p[i]), l.n[i], block, blocks, l.to[i]);
    case DType::f16: return observe_dense(static_cast<const half*>(l.p[i]), l.n[i], block, blocks, l.to[i]);
    case DType::f64: return observe_dense(static_cast<const double*>(l.p[i]), l.n[i], block, blocks, l.to[i]);
    default: return;
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads) observe_strided(int64_t n, DeviceWalk<1> w, const T* x, BoardSlot* to) {
  Tally<T> seen;
  for (int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x; i < n; i += int64_t(gridDim.x) * kThreads) {
    int64_t at[1];
    offsets_of(w, i, at);
    seen.take(x[at[0]]);
  }
  seen.post(to);
}

struct Words {
  uint32_t slot[kWords];
  int count;
};
__global__ void __launch_bounds__(kThreads) forbid_kernel(const BoardSlot* board, Words words, const float* also, float* word) {
  bool bad = threadIdx.x == 0 && also && *also != 0;
  for (int i = int(threadIdx.x); i < words.count; i += kThreads) bad |= (board[words.slot[i]].nan | board[words.slot[i]].inf) != 0;
  const bool any = __syncthreads_or(bad);
  if (threadIdx.x == 0) *word = any ? 1.0f : 0.0f;
}

const char* text(const KernelStatus& s) { return s.code ? s.what : nullptr; }

}  // namespace

const char* observe(int device, int n, const TensorView* x, BoardSlot* const* to);
const char* observe(int device, int n, const TensorView* x, BoardSlot* const* to) {
  use(device);
  const cudaStream_t s = stream_of(device);
  const int64_t most = kResident * processors(device);
  List l;
  l.count = 0, l.begin[0] = 0;
  const auto launch = [&] {
    if (l.count) observe_list<<<l.begin[l.count], kThreads, 0, s>>>(l);
    l.count = 0;
  };
  for (int i = 0; i < n; ++i) {
    const int64_t size = x[i].size();
    if (size == 0) continue;
    const TensorView* const views[1] = {&x[i]};
    const Walk<1> walk(views);
    if (walk.dense(0)) {
      // A thread reads four packs or more where there are enough.
      const int64_t blocks = std::min(most, ceil_div(size * int64_t(size_of(x[i].dtype)), int64_t(kThreads) * 16 * 4));
      l.p[l.count] = x[i].data, l.n[l.count] = size, l.to[l.count] = to[i], l.dtype[l.count] = x[i].dtype;
      l.begin[l.count + 1] = l.begin[l.count] + uint32_t(blocks);
      if (++l.count == kMost) launch();
      continue;
    }
    const DeviceWalk<1> d(walk, size);
    Floats::call(x[i].dtype, [&](auto t) {
      using T = decltype(t);
      observe_strided<T><<<unsigned(std::min(most, ceil_div(size, kThreads))), kThreads, 0, s>>>(size, d, x[i].ptr<T>(), to[i]);
    });
  }
  launch();
  return text(launched());
}

const char* forbid(int device, const BoardSlot* board, int n, const uint32_t* slots, const float* also, float* word);
const char* forbid(int device, const BoardSlot* board, int n, const uint32_t* slots, const float* also, float* word) {
  use(device);
  Words words;
  int from = 0;
  do {
    words.count = std::min(n - from, kWords);
    std::copy(slots + from, slots + from + words.count, words.slot);
    forbid_kernel<<<1, kThreads, 0, stream_of(device)>>>(board, words, from ? word : also, word);
    from += words.count;
  } while (from < n);
  return text(launched());
}

KernelStatus watch(const KernelArgs& a, int first, int end) {
  TensorView views[4];
  BoardSlot* to[4];
  int n = 0;
  for (int i = first; i < a.n_out && i < end; ++i)
    if (board_slot(a, i) && on_boards(a.out[i].dtype)) views[n] = a.out[i], to[n++] = board_slot(a, i);
  if (n == 0) return {};
  if (const char* wrong = observe(a.device, n, views, to)) return KernelStatus::device(wrong);
  return {};
}

}  // namespace keel::cuda
