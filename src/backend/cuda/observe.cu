// Statistics of tensors whose kernels take none: passes of their own, put off so that a launch serves many, over parts of large tensors.
#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <mutex>

#include "backend/cuda/pointwise.cuh"
#include "backend/cuda/stats.cuh"

namespace keel::cuda {
namespace {

constexpr int kMost = 96, kWords = 512;
constexpr int kResident = 6;      // blocks of a multiprocessor: all of a large tensor's run at once
constexpr int kWitnesses = 1024;  // slots of kernels before a launch
constexpr int kPack = 16, kRun = int(kBlockBytes) / kPack;

/// Dense tensors; tensor i owns the blocks from begin[i] on.
struct List {
  const void* p[kMost];
  int64_t n[kMost];
  BoardSlot* to[kMost];
  uint32_t begin[kMost + 1];
  uint16_t phase[kMost];
  uint8_t every_log[kMost];  // log2 of Pace::every
  DType dtype[kMost];
  bool rest[kMost];
  int count;
  // Slots that kernels before this launch wrote, but for those of `mine`, which it writes itself.
  const BoardSlot* witness;
  BoardSlot* alarm;  // slot 0 of the board; null: nobody asks
  int witnesses;
  uint32_t mine[kWitnesses / 32];
};
static_assert(sizeof(List) <= 4096, "parameters of a launch");

/// A thread that saw a NaN or infinity looks again for the first of those that it saw.
template <class T>
__device__ __noinline__ void find_first(const T* x, int64_t n, int64_t head, int64_t packs, int64_t first, int64_t step, BoardSlot* to) {
  constexpr int V = kPack / int(sizeof(T));
  using Raw = typename Pattern<T>::Raw;
  int64_t at = n;
  const auto look = [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end && at == n; ++i) {
      Raw raw;
      memcpy(&raw, x + i, sizeof raw);
      if (Raw(raw & Raw(Raw(~Raw(0)) >> 1)) >= Pattern<T>::inf) at = i;
    }
  };
  if (first < head) look(first, first + 1);
  for (int64_t i = first; i < packs && at == n; i += step) look(head + i * V, head + (i + 1) * V);
  const int64_t tail = head + packs * V + first;
  if (tail < n) look(tail, tail + 1);
  if (at < n) atomicMax(reinterpret_cast<unsigned long long*>(&to->first), ~static_cast<unsigned long long>(at));
}

/// What a block does for a tensor: it is number `block` of `blocks`.
template <class T>
__device__ __forceinline__ void observe_dense(const List& l, int at, int64_t block, int64_t blocks, bool alarm) {
  constexpr int V = kPack / int(sizeof(T));
  const T* const x = static_cast<const T*>(l.p[at]);
  const int64_t n = l.n[at];
  BoardSlot* const to = l.to[at];
  uint32_t log = alarm ? 0 : l.every_log[at], phase = l.phase[at];
  const bool rest = l.rest[at];
  if (rest) {
    const uint64_t part = *reinterpret_cast<const volatile uint64_t*>(&to->part);
    if (part == 0) return;
    log = 31 - __clz(uint32_t(part)), phase = uint32_t((part & ~BoardSlot::kRest) >> 32);
  }
  Tally<T> seen;
  const auto odd = int64_t(reinterpret_cast<uintptr_t>(x) % kPack / sizeof(T));
  const int64_t head = odd ? (V - odd < n ? V - odd : n) : 0, packs = (n - head) / V, tail = head + packs * V;
  const int64_t first = block * kThreads + threadIdx.x, step = blocks * kThreads;
  const auto* const p = reinterpret_cast<const uint4*>(x + head);
  const auto take = [&](int64_t i) {
    const uint4 raw = __ldcg(p + i);  // not into the first cache: it comes by once
    T v[V];
    memcpy(v, &raw, kPack);
    seen.take(v);
  };
  if (!rest) {
    if (first < head) seen.take(x[first]);
    if (tail + first < n) seen.take(x[tail + first]);
  }
  const uint32_t every = 1u << log;
  if (rest) {
    for (int64_t i = first; i < packs; i += step) {
      const int64_t b = i / kRun;
      if ((uint32_t(b) & (every - 1)) != block_of_run(uint64_t(b >> log), every, phase)) take(i);
    }
  } else if (log == 0) {
#pragma unroll 4
    for (int64_t i = first; i < packs; i += step) take(i);
  } else {
    const int64_t runs = packs / kRun >> log, whole = runs * kRun;  // runs that lie inside
#pragma unroll 4
    for (int64_t i = first; i < whole; i += step) {
      const int64_t run = i / kRun;
      take(((run << log) + block_of_run(uint64_t(run), every, phase)) * kRun + i % kRun);
    }
    if (first < kRun) {  // what is there of the last one
      const int64_t i = ((runs << log) + block_of_run(uint64_t(runs), every, phase)) * kRun + first;
      if (i < packs) take(i);
    }
  }
  if (first == 0) {
    if (rest) {
      atomicOr(reinterpret_cast<unsigned long long*>(&to->part), static_cast<unsigned long long>(BoardSlot::kRest));
    } else {
      int64_t looked = n;
      if (log) {
        const int64_t runs = packs / kRun >> log, last = packs - ((runs << log) + block_of_run(uint64_t(runs), every, phase)) * kRun;
        looked = n - (packs - runs * kRun - (last < 0 ? 0 : last < kRun ? last : kRun)) * V;
        to->part = uint64_t(phase) << 32 | every;
      }
      atomicAdd(reinterpret_cast<unsigned long long*>(&to->seen), static_cast<unsigned long long>(looked));
    }
  }
  if (!rest && log == 0 && (seen.nan | seen.inf)) find_first(x, n, head, packs, first, step, to);
  seen.post(to);
}

__global__ void __launch_bounds__(kThreads, kResident) observe_list(const __grid_constant__ List l) {
  bool alarm = false;
  if (l.alarm) {
    bool bad = threadIdx.x == 0 && *reinterpret_cast<const volatile uint64_t*>(&l.alarm->nan) != 0;
    for (int i = int(threadIdx.x); i < l.witnesses; i += kThreads)
      if (!(l.mine[i / 32] >> i % 32 & 1)) bad |= *reinterpret_cast<const volatile uint64_t*>(&l.witness[i].nan) != 0;
    alarm = __syncthreads_or(bad);
    if (alarm && blockIdx.x == 0 && threadIdx.x == 0) l.alarm->nan = 1;
  }
  int low = 0, high = l.count;  // the tensor whose block this is
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    if (blockIdx.x >= l.begin[middle])
      low = middle;
    else
      high = middle;
  }
  const int64_t block = blockIdx.x - l.begin[low], blocks = l.begin[low + 1] - l.begin[low];
  switch (l.dtype[low]) {
    case DType::f32: return observe_dense<float>(l, low, block, blocks, alarm);
    case DType::bf16: return observe_dense<bfloat>(l, low, block, blocks, alarm);
    case DType::f16: return observe_dense<half>(l, low, block, blocks, alarm);
    case DType::f64: return observe_dense<double>(l, low, block, blocks, alarm);
    default: return;
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads) observe_strided(int64_t n, DeviceWalk<1> w, const T* x, BoardSlot* to) {
  Tally<T> seen;
  if (blockIdx.x == 0 && threadIdx.x == 0) atomicAdd(reinterpret_cast<unsigned long long*>(&to->seen), static_cast<unsigned long long>(n));
  for (int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x; i < n; i += int64_t(gridDim.x) * kThreads) {
    int64_t at[1];
    offsets_of(w, i, at);
    seen.take(x[at[0]]);
  }
  seen.post(to);
}

constexpr int kGathered = 96, kGatherThreads = 128;
/// Lines of elements on their way to a board.
struct GatherList {
  const void* from[kGathered];
  void* to[kGathered];
  int64_t stride[kGathered], pitch[kGathered];
  uint32_t each[kGathered], size[kGathered];  // elements of a line, of all lines
  uint8_t bytes[kGathered];                   // of an element
  int count;
};
static_assert(sizeof(GatherList) <= 4096, "parameters of a launch");
/// blockIdx.x is the number of an entry; the blocks along y share its elements.
__global__ void __launch_bounds__(kGatherThreads) gather_list(const __grid_constant__ GatherList l) {
  const auto copy = [&](auto t) {
    using T = decltype(t);
    const auto* const from = static_cast<const T*>(l.from[blockIdx.x]);
    auto* const to = static_cast<T*>(l.to[blockIdx.x]);
    const uint32_t each = l.each[blockIdx.x], n = l.size[blockIdx.x];
    for (uint32_t i = blockIdx.y * kGatherThreads + threadIdx.x; i < n; i += gridDim.y * kGatherThreads)
      to[i] = from[i / each * l.pitch[blockIdx.x] + i % each * l.stride[blockIdx.x]];
  };
  switch (l.bytes[blockIdx.x]) {
    case 2: return copy(uint16_t());
    case 4: return copy(uint32_t());
    case 8: return copy(uint64_t());
    default: return;
  }
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

/// Memory that work which was put off looks at.
struct Span {
  uintptr_t begin, end;
  bool meets(const void* low, const void* high) const {
    return begin < reinterpret_cast<uintptr_t>(high) && reinterpret_cast<uintptr_t>(low) < end;
  }
};

/// Passes and copies of values of a device that were asked for and not launched.
struct PutOff {
  std::mutex mutex;
  std::atomic<int> count{0};  // of both
  List list{};
  Span spans[kMost];
  GatherList values{};
  Span value_spans[kGathered];
  Pace pace;
  uint32_t settled = 0;  // slots of the pace's board that earlier launches have looked at as witnesses

  /// Under the lock, all.
  bool any_in(const void* begin, const void* end) const {
    const auto meets = [&](const Span& s) { return s.meets(begin, end); };
    return std::any_of(spans, spans + list.count, meets) || std::any_of(value_spans, value_spans + values.count, meets);
  }
  void recount() { count.store(list.count + values.count, std::memory_order_relaxed); }
  const char* launch(int device) {
    const char* wrong = launch_values(device);
    if (const char* also = launch_passes(device)) wrong = also;
    return wrong;
  }
  const char* launch_values(int device) {
    if (values.count == 0) return nullptr;
    use(device);
    const uint32_t most = *std::max_element(values.size, values.size + values.count);
    const dim3 blocks(unsigned(values.count), std::min(8u, 1 + most / (4 * kGatherThreads)));
    gather_list<<<blocks, kGatherThreads, 0, queue_of(device)>>>(values);
    values.count = 0, recount();
    return text(launched());
  }
  const char* launch_passes(int device) {
    if (list.count == 0) return nullptr;
    use(device);
    bool parts = false;
    for (int i = 0; i < list.count; ++i) parts |= list.every_log[i] > 0;
    list.alarm = parts ? pace.board : nullptr, list.witnesses = 0;
    if (list.alarm) {
      if (settled >= pace.used) settled = 1;
      const uint32_t begin = std::min(std::max(settled, pace.used > kWitnesses ? pace.used - kWitnesses : 0u), pace.used);
      list.witness = pace.board + begin, list.witnesses = int(pace.used - begin), settled = pace.used;
      std::fill(std::begin(list.mine), std::end(list.mine), 0u);
      for (int i = 0; i < list.count; ++i)
        if (const int64_t at = list.to[i] - list.witness; at >= 0 && at < list.witnesses) list.mine[at / 32] |= 1u << at % 32;
    }
    observe_list<<<list.begin[list.count], kThreads, 0, queue_of(device)>>>(list);
    list.count = 0, recount();
    return text(launched());
  }
};
PutOff& put_off(int device) {
  static PutOff* const all = new PutOff[kMaxDevices];  // never destroyed: tensors may be freed while the program ends
  return all[device];
}

}  // namespace

void pace(int device, const Pace& pace);
void pace(int device, const Pace& pace) {
  PutOff& p = put_off(device);
  const std::lock_guard lock(p.mutex);
  if (pace.board != p.pace.board || pace.used < p.settled) p.settled = 1;
  p.pace = pace;
}

bool waits(int device, const void* begin, const void* end) {
  PutOff& p = put_off(device);
  if (p.count.load(std::memory_order_relaxed) == 0) return false;
  const std::lock_guard lock(p.mutex);
  return p.any_in(begin, end);
}

const char* settle(int device, const void* begin, const void* end) {
  PutOff& p = put_off(device);
  if (p.count.load(std::memory_order_relaxed) == 0) return nullptr;
  const std::lock_guard lock(p.mutex);
  return begin == nullptr || p.any_in(begin, end) ? p.launch(device) : nullptr;
}

const char* observe(int device, int n, const TensorView* x, BoardSlot* const* to, Look look);
const char* observe(int device, int n, const TensorView* x, BoardSlot* const* to, Look look) {
  use(device);
  PutOff& p = put_off(device);
  const std::lock_guard lock(p.mutex);
  List& l = p.list;
  const int64_t most = kResident * processors(device);
  const char* wrong = nullptr;
  for (int i = 0; i < n && !wrong; ++i) {
    const int64_t size = x[i].size(), bytes = size * int64_t(size_of(x[i].dtype));
    if (size == 0) continue;
    if (look == Look::rest) {
      const uint32_t every = every_of(bytes, p.pace.every);
      if (every == 1) continue;
      int same = 0;  // one that has not begun looks at everything instead
      while (same < l.count && !(l.to[same] == to[i] && l.p[same] == x[i].data && l.n[same] == size)) ++same;
      if (same < l.count) {
        l.every_log[same] = 0;
        continue;
      }
    }
    const TensorView* const views[1] = {&x[i]};
    const Walk<1> walk(views);
    if (!walk.dense(0)) {
      if (look == Look::rest) continue;  // it was seen whole
      const DeviceWalk<1> d(walk, size);
      Floats::call(x[i].dtype, [&](auto t) {
        using T = decltype(t);
        observe_strided<T>
            <<<unsigned(std::min(most, ceil_div(size, kThreads))), kThreads, 0, stream_of(device)>>>(size, d, x[i].ptr<T>(), to[i]);
      });
      wrong = text(launched());
      continue;
    }
    const int at = l.count++;
    const uint32_t every = look == Look::part ? every_of(bytes, p.pace.every) : 1;
    l.p[at] = x[i].data, l.n[at] = size, l.to[at] = to[i], l.dtype[at] = x[i].dtype, l.rest[at] = look == Look::rest;
    l.every_log[at] = uint8_t(31 - __builtin_clz(every)), l.phase[at] = uint16_t(p.pace.phase & (every - 1));
    const auto begin = reinterpret_cast<uintptr_t>(x[i].data);
    p.spans[at] = {begin, begin + uintptr_t(bytes)};
    // A thread reads four packs or more where there are enough.
    l.begin[at + 1] = l.begin[at] + uint32_t(std::min(most, ceil_div(bytes / every, int64_t(kThreads) * kPack * 4)));
    p.recount();
    if (l.count == kMost) wrong = p.launch_passes(device);
  }
  return wrong;
}

const char* gather(int device, int n, const Gather* what);
const char* gather(int device, int n, const Gather* what) {
  PutOff& p = put_off(device);
  const std::lock_guard lock(p.mutex);
  GatherList& l = p.values;
  const char* wrong = nullptr;
  for (int i = 0; i < n && !wrong; ++i) {
    const Lines& lines = what[i].what;
    const auto bytes = int64_t(size_of(what[i].dtype));
    if (lines.size() == 0) continue;
    const int at = l.count++;
    const auto* const from = static_cast<const std::byte*>(what[i].data) + lines.from * bytes;
    l.from[at] = from, l.to[at] = what[i].to, l.stride[at] = lines.stride, l.pitch[at] = lines.pitch;
    l.each[at] = uint32_t(lines.count), l.size[at] = uint32_t(lines.size()), l.bytes[at] = uint8_t(bytes);
    // To the last element of a line, and to the last line.
    const int64_t across = (lines.count - 1) * lines.stride, down = (lines.lines - 1) * lines.pitch;
    const auto begin = reinterpret_cast<uintptr_t>(from) + uintptr_t((std::min<int64_t>(across, 0) + std::min<int64_t>(down, 0)) * bytes);
    p.value_spans[at] = {begin, begin + uintptr_t((std::abs(across) + std::abs(down) + 1) * bytes)};
    p.recount();
    if (l.count == kGathered) wrong = p.launch_values(device);
  }
  return wrong;
}

const char* forbid(int device, const BoardSlot* board, int n, const uint32_t* slots, const float* also, float* word);
const char* forbid(int device, const BoardSlot* board, int n, const uint32_t* slots, const float* also, float* word) {
  if (const char* wrong = settle(device, nullptr, nullptr)) return wrong;
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
  if (const char* wrong = observe(a.device, n, views, to, Look::part)) return KernelStatus::device(wrong);
  return {};
}

}  // namespace keel::cuda
