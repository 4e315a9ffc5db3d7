// A device for tests: its memory has addresses that the host cannot read or write, and it has no kernels but those of kernels.cpp, so that
// every op goes through decompositions and the CPU. What is freed is overwritten. It stands in for webgpu; built as libkeel_webgpu.so.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <vector>

#include "backend/cuda/block_pool.h"
#include "backend/cuda/work_order.h"
#include "backend/device_kernels.h"
#include "backend/float_bits.h"
#include "device/fake/queue.h"
#include "keel/version.h"

namespace keel {
namespace {

constexpr size_t kRoom = size_t(1) << 30;

void settle_freed(const void* p, size_t n);

/// What a program asked for while the device recorded, and the memory that it got meanwhile.
struct Recording {
  struct Step {
    void (*run)(void* data);
    void (*drop)(void* data);
    void* data;
  };
  /// What must be done in order, after the pieces `after`.
  struct Piece {
    std::vector<Step> steps;
    std::vector<int> after;
  };
  std::vector<Piece> pieces{1};
  bool in_pieces = false;
  cuda::WorkOrder order;
  void next_piece() { pieces.emplace_back(), order.begin(); }
  void touch(const void* begin, const void* end, bool writes) {
    const std::vector<int>& found = order.touch(begin, end, writes);
    pieces.back().after.insert(pieces.back().after.end(), found.begin(), found.end());
  }
  cuda::BlockPool::Arena* arena = nullptr;
  bool rehearses = false;
  std::map<char*, size_t> held, given;  // blocks of it
  std::map<char*, size_t> freed;        // in this piece of work, not overwritten yet: that is a piece of its own, which nothing waits for
};
thread_local Recording* recording = nullptr;
thread_local const char* spoilt = nullptr;  // what ended it

/// One file, mapped twice: `closed` is what tensors see, `open` is what copies use. Its segments go to the pool of the CUDA backend.
struct Memory {
  std::mutex mutex;
  char *closed = nullptr, *open = nullptr;
  std::multimap<size_t, char*> segments;  // that the pool gave back
  std::map<char*, size_t> sizes;
  std::map<char*, Recording*> owners;  // of blocks that recordings handed out
  size_t used = 0;
  cuda::BlockPool pool;
  Memory() {
    const int file = memfd_create("fake device", 0);
    if (file < 0 || ftruncate(file, off_t(kRoom)) != 0) std::abort();
    closed = static_cast<char*>(mmap(nullptr, kRoom, PROT_NONE, MAP_SHARED, file, 0));
    open = static_cast<char*>(mmap(nullptr, kRoom, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0));
    if (closed == MAP_FAILED || open == MAP_FAILED) std::abort();
    pool.begin(0, {take_segment, give_segment, nullptr, nullptr});
  }
  static void* take_segment(int, size_t n);
  static void give_segment(int, void* p);
};
Memory& memory() {
  static Memory* const m = new Memory;
  return *m;
}
void* Memory::take_segment(int, size_t n) {
  Memory& m = memory();
  if (const auto it = m.segments.find(n); it != m.segments.end()) {
    char* const p = it->second;
    return m.segments.erase(it), p;
  }
  if (n > kRoom - m.used) return nullptr;
  char* const p = m.closed + m.used;
  m.used += n, m.sizes[p] = n;
  return p;
}
void Memory::give_segment(int, void* p) {
  Memory& m = memory();
  m.segments.emplace(m.sizes.at(static_cast<char*>(p)), static_cast<char*>(p));
}

/// The address that the host can use for a device address.
char* opened(const void* p) {
  Memory& m = memory();
  const auto* c = static_cast<const char*>(p);
  if (c < m.closed || c >= m.closed + kRoom) std::abort();
  return m.open + (c - m.closed);
}
/// What was freed is not to be read: neither now nor, while the device records, in any replay.
void poison(void* p, size_t n) { std::memset(opened(p), 0xee, n); }
template <class F>
void keep(F f) {
  recording->pieces.back().steps.push_back(
      {[](void* data) { (*static_cast<F*>(data))(); }, [](void* data) { delete static_cast<F*>(data); }, new F(f)});
}

/// Overwrites what was freed: blocks that meet [begin, end), which are wanted again by the piece of work that freed them, or all of them.
void spoil_freed(Recording& r, const char* begin = nullptr, const char* end = nullptr) {
  for (auto it = r.freed.begin(); it != r.freed.end();) {
    const auto [p, bytes] = *it;
    if (begin && (p >= end || p + bytes <= begin)) {
      ++it;
      continue;
    }
    if (!begin) r.next_piece();
    r.touch(p, p + bytes, true);
    keep([p, bytes] { poison(p, bytes); });
    it = r.freed.erase(it);
  }
}

void* allocate(int, size_t bytes, const char* tag) {
  Memory& m = memory();
  const std::lock_guard lock(m.mutex);
  Recording* const r = recording;
  auto* const p = static_cast<char*>(m.pool.take(bytes, tag, r ? r->arena : nullptr));
  if (p && r && r->in_pieces) spoil_freed(*r, p, p + bytes), r->touch(p, p + bytes, true);
  if (p && r && !r->rehearses) m.owners[p] = r, r->held[p] = bytes, r->given.erase(p);
  return p;
}
void release(int, void* p, size_t bytes) {
  settle_freed(p, bytes);
  Memory& m = memory();
  const std::lock_guard lock(m.mutex);
  m.pool.give(p);
  const auto owner = m.owners.find(static_cast<char*>(p));
  if (owner == m.owners.end()) {
    if (!recording) poison(p, bytes);
    return;
  }
  Recording* const r = owner->second;
  m.owners.erase(owner);
  r->held.erase(static_cast<char*>(p)), r->given[static_cast<char*>(p)] = bytes;
  if (recording != r) return;
  if (r->in_pieces)
    r->freed[static_cast<char*>(p)] = bytes;
  else
    keep([p, bytes] { poison(p, bytes); });
}
const char* copy(int, void* to, const void* from, size_t bytes, CopyWay way) {
  if (recording) {
    if (way != CopyWay::within) return spoilt = "a copy between host and device while recording";
    keep([to, from, bytes] { std::memmove(opened(to), opened(from), bytes); });
    return nullptr;
  }
  if (way != CopyWay::to_host) settle_freed(to, bytes);
  std::memcpy(way == CopyWay::to_host ? static_cast<char*>(to) : opened(to),
              way == CopyWay::to_device ? static_cast<const char*>(from) : opened(from), bytes);
  return nullptr;
}

void forget(int, void* p) {
  auto* r = static_cast<Recording*>(p);
  for (const Recording::Piece& piece : r->pieces)
    for (const Recording::Step& s : piece.steps) s.drop(s.data);
  Memory& m = memory();
  const std::lock_guard lock(m.mutex);
  std::map<char*, std::vector<char>> kept;  // memory that was given may lie under what is held now
  for (const auto& [block, n] : r->held) kept[block].assign(opened(block), opened(block) + n), m.owners.erase(block);
  for (const auto& [block, n] : r->given) poison(block, n);
  for (const auto& [block, bytes] : kept) std::memcpy(opened(block), bytes.data(), bytes.size());
  m.pool.forget(r->arena);
  delete r;
}
const char* record_begin(int, void* rehearsal) {
  cuda::BlockPool& pool = memory().pool;
  // Most tests' steps are laid out apart, and so run in pieces; some are not.
  const cuda::BlockPlan plan = rehearsal ? pool.plan_of(static_cast<Recording*>(rehearsal)->arena, size_t(16) << 20) : cuda::BlockPlan();
  if (rehearsal) forget(0, rehearsal);
  if (recording) return "a recording is in progress";
  recording = new Recording, spoilt = nullptr;
  recording->rehearses = !rehearsal;
  recording->arena = rehearsal ? pool.open(plan) : pool.rehearse();
  recording->in_pieces = plan.apart;
  recording->order.begin();
  return nullptr;
}
void piece(int, int n, const MemoryUse* uses) {
  if (!recording || !recording->in_pieces) return;
  spoil_freed(*recording);
  recording->next_piece();
  for (int i = 0; i < n; ++i) recording->touch(uses[i].begin, uses[i].end, uses[i].written);
}
const char* record_end(int, void** to) {
  Recording* const r = recording;
  if (r && r->in_pieces) spoil_freed(*r);
  recording = nullptr;
  if (!r) return "nothing was recorded";
  if (to && !spoilt) return *to = r, nullptr;
  forget(0, r);
  return spoilt;
}
/// Pieces in an order as far from that of the recording as may be: those that may be done at any time are done last.
const char* replay(int, void* p) {
  const std::vector<Recording::Piece>& all = static_cast<Recording*>(p)->pieces;
  std::vector<char> done(all.size());
  const auto run = [&](const auto& self, size_t i) -> void {
    if (std::exchange(done[i], 1)) return;
    for (const int before : all[i].after) self(self, size_t(before));
    for (const Recording::Step& s : all[i].steps) s.run(s.data);
  };
  run(run, 0);  // what came before the first piece
  for (size_t i = all.size(); i-- > 0;) run(run, i);
  return nullptr;
}

/// Copies beside the queue are made as late as can be: what does not wait for them sees what was there before.
struct Uploads {
  struct Copy {
    void* to;
    const void* from;
    size_t bytes;
  };
  std::mutex mutex;
  std::vector<Copy> copies;
  size_t made = 0;
};
Uploads& uploads() {
  static Uploads* const u = new Uploads;
  return *u;
}
const char* upload(int, int n, void* const* to, const void* const* from, const size_t* bytes, uint64_t* ticket) {
  if (recording) return spoilt = "a copy between host and device while recording";
  Uploads& u = uploads();
  const std::lock_guard lock(u.mutex);
  for (int i = 0; i < n; ++i) {
    std::memset(opened(to[i]), 0xa5, bytes[i]);
    u.copies.push_back({to[i], from[i], bytes[i]});
  }
  *ticket = u.copies.size();
  return nullptr;
}
const char* finish(int, uint64_t ticket) {
  if (recording) return spoilt = "a wait while recording";
  Uploads& u = uploads();
  const std::lock_guard lock(u.mutex);
  if (ticket == 0 || ticket > u.copies.size()) return "there was no such copy";
  for (; u.made < ticket; ++u.made) std::memcpy(opened(u.copies[u.made].to), u.copies[u.made].from, u.copies[u.made].bytes);
  return nullptr;
}

// ---- boards ----

double clock_ms = 0;  // a step takes a millisecond, and passes one for each MB that they look at
/// Copies of boards are delivered as late as can be: when somebody waits, or has asked in vain as often as KEEL_FAKE_LAG says, twice where
/// it does not. Until then what is read there makes no sense.
int asked_in_vain() {
  static const char* const lag = std::getenv("KEEL_FAKE_LAG");
  static const int times = lag ? std::atoi(lag) : 2;
  return times;
}
struct Collections {
  struct Copy {
    void* to;
    std::vector<char> bytes;
    int asked = 0;
    double at = 0;  // the device's clock, in milliseconds
  };
  std::mutex mutex;
  std::vector<Copy> copies;
  size_t made = 0;
};
Collections& collections() {
  static Collections* const c = new Collections;
  return *c;
}
const char* settle(int, const void* begin, const void* end);
const char* fetch(int, void* to, const void* from, size_t bytes, uint64_t* ticket) {
  if (recording) return spoilt = "a copy between host and device while recording";
  Collections& c = collections();
  const std::lock_guard lock(c.mutex);
  const char* const p = opened(from);
  c.copies.push_back({to, std::vector<char>(p, p + bytes), 0, clock_ms += 1});
  std::memset(to, 0xa5, bytes);
  *ticket = c.copies.size();
  return nullptr;
}
const char* collect(int device, void* to, void* from, size_t bytes, uint64_t* ticket) {
  settle(0, nullptr, nullptr);
  const char* const wrong = fetch(device, to, from, bytes, ticket);
  if (!wrong) std::memset(opened(from), 0, bytes);
  return wrong;
}
const char* collected(int, uint64_t ticket, bool wait, bool* made) {
  Collections& c = collections();
  const std::lock_guard lock(c.mutex);
  if (ticket == 0 || ticket > c.copies.size()) return "there was no such copy";
  if (wait || ++c.copies[ticket - 1].asked > asked_in_vain())
    for (; c.made < ticket; ++c.made) {
      auto& copy = c.copies[c.made];
      std::memcpy(copy.to, copy.bytes.data(), copy.bytes.size());
      copy.bytes = {};
    }
  *made = c.made >= ticket;
  return nullptr;
}
const char* synchronize(int device) {
  if (recording) return spoilt = "a wait while recording";
  bool made;
  const uint64_t all = collections().copies.size();
  return all ? collected(device, all, true, &made) : nullptr;
}
const char* elapsed(int, uint64_t from, uint64_t to, float* milliseconds) {
  Collections& c = collections();
  const std::lock_guard lock(c.mutex);
  if (from == 0 || to > c.made) return "there was no such copy, or it has not been made";
  *milliseconds = float(c.copies[to - 1].at - c.copies[from - 1].at);
  return nullptr;
}

/// Passes are made as late as can be: what was overwritten meanwhile would be seen in them.
struct Pass {
  TensorView x;
  Shape shape;
  Strides strides;
  BoardSlot* to;
  Look look;
  bool dense;
  uint32_t every, phase;
};
/// So are copies of values.
struct Copied {
  const char* from;
  int64_t count, stride;  // in bytes, as is `size`
  int64_t size;
  char* to;
  bool in(const void* begin, const void* end) const {
    const char* const last = from + (count - 1) * stride;
    return std::min(from, last) < static_cast<const char*>(end) && static_cast<const char*>(begin) < std::max(from, last) + size;
  }
};
struct Passes {
  std::mutex mutex;
  std::vector<Pass> waiting;
  std::vector<Copied> values;
  Pace pace;
  uint32_t asked = 1;  // slots before it are known to hold no NaN, or `alarm` is on
  bool alarm = false;
};
Passes& passes() {
  static Passes* const p = new Passes;
  return *p;
}
/// Whether the elements lie without gaps, in whatever order.
bool without_gaps(const TensorView& x) {
  std::vector<std::pair<int64_t, int64_t>> axes;
  for (int k = 0; k < x.rank(); ++k)
    if (x.dim(k) != 1) axes.emplace_back(x.stride(k), x.dim(k));
  std::sort(axes.begin(), axes.end());
  int64_t next = 1;
  for (const auto& [stride, extent] : axes) {
    if (stride != next) return false;
    next *= extent;
  }
  return true;
}
void run_pass(const Pass& p, bool alarm) {
  BoardSlot& slot = *reinterpret_cast<BoardSlot*>(opened(p.to));
  const FloatBits f = float_bits(p.x.dtype);
  const auto size = int64_t(size_of(p.x.dtype)), in_block = kBlockBytes / size;
  uint32_t every = alarm ? 1 : p.every, phase = p.phase;
  const bool rest = p.look == Look::rest;
  if (rest && slot.part == 0) return;
  if (rest) every = uint32_t(slot.part), phase = uint32_t((slot.part & ~BoardSlot::kRest) >> 32), slot.part |= BoardSlot::kRest;
  const int64_t packs = p.shape.numel() / (16 / size) * (16 / size);  // what is behind them is always looked at
  const char* const data = opened(p.x.data);
  uint64_t looked = 0;
  const int64_t n = p.shape.numel();
  for (int64_t i = 0; i < n; ++i) {
    if (const auto block = uint64_t(i / in_block); every > 1 && i < packs) {
      if ((block % every == block_of_run(block / every, every, phase)) == rest) continue;
    } else if (rest) {
      continue;
    }
    int64_t at = i, left = i;
    if (p.shape.rank() != 1) at = 0;
    for (int k = p.shape.rank() - 1; k >= 0 && p.shape.rank() != 1; --k) at += left % p.shape[k] * p.strides[k], left /= p.shape[k];
    if (p.shape.rank() == 1) at *= p.strides[0];
    const char* const from = data + at * size;
    uint64_t u = 0;
    size == 2 ? std::memcpy(&u, from, 2) : size == 4 ? std::memcpy(&u, from, 4) : std::memcpy(&u, from, 8);
    u &= f.magnitude;
    slot.max_bits = std::max(slot.max_bits, u), slot.low_bits = std::max(slot.low_bits, ~(u - 1));
    if (u >= f.inf && every == 1 && p.dense) slot.first = std::max(slot.first, ~uint64_t(i));
    slot.nan += u > f.inf, slot.inf += u == f.inf, slot.subnormal += u - 1 < f.min_normal - 1;
    ++looked;
  }
  slot.seen += rest ? 0 : looked, clock_ms += double(looked) * double(size) * 1e-6;
  if (every > 1 && !rest) slot.part = uint64_t(phase) << 32 | every;
}
/// Under the lock.
void run_passes(Passes& p) {
  std::vector<const BoardSlot*> mine;
  for (const Pass& w : p.waiting) mine.push_back(w.to);
  for (uint32_t i = p.asked; p.pace.board && i < p.pace.used; ++i)
    if (std::find(mine.begin(), mine.end(), p.pace.board + i) == mine.end())
      p.alarm |= reinterpret_cast<BoardSlot*>(opened(p.pace.board + i))->nan > 0;
  p.asked = p.pace.used;
  for (const Pass& w : p.waiting) run_pass(w, p.alarm);
  p.waiting.clear();
  for (const Copied& c : p.values)
    for (int64_t k = 0; k < c.count; ++k) std::memcpy(opened(c.to + k * c.size), opened(c.from + k * c.stride), size_t(c.size));
  p.values.clear();
}
const char* settle(int, const void* begin, const void* end) {
  Passes& p = passes();
  const std::lock_guard lock(p.mutex);
  bool any = begin == nullptr;
  for (const Pass& w : p.waiting) {  // dense, or what a view leaves out counts too
    int64_t span = 1;
    for (int k = 0; k < w.shape.rank(); ++k) span += (w.shape[k] - 1) * std::abs(w.strides[k]);
    const auto* at = static_cast<const char*>(w.x.data);
    any |= at < static_cast<const char*>(end) && static_cast<const char*>(begin) < at + span * int64_t(size_of(w.x.dtype));
  }
  for (const Copied& c : p.values) any |= c.in(begin, end);
  if (any) run_passes(p);
  return nullptr;
}
void settle_freed(const void* p, size_t n) { settle(0, p, static_cast<const char*>(p) + n); }
void pace(int, const Pace& pace) {
  const std::lock_guard lock(passes().mutex);
  Passes& p = passes();
  if (pace.board != p.pace.board || pace.used < p.pace.used) p.asked = 1, p.alarm = false;
  p.pace = pace;
}
/// Boards are no part of recordings.
const char* observe(int, int n, const TensorView* x, BoardSlot* const* to, Look look) {
  if (recording) return spoilt = "statistics while recording";
  Passes& p = passes();
  const std::lock_guard lock(p.mutex);
  for (int i = 0; i < n; ++i) {
    if (!on_boards(x[i].dtype)) return "boards take no such dtype";
    if (x[i].size() == 0) continue;
    const bool dense = without_gaps(x[i]);
    const uint32_t every = look == Look::part && dense ? every_of(x[i].size() * int64_t(size_of(x[i].dtype)), p.pace.every) : 1;
    const auto same = [&](const Pass& w) { return look == Look::rest && w.to == to[i] && w.x.data == x[i].data; };
    if (const auto at = std::find_if(p.waiting.begin(), p.waiting.end(), same); at != p.waiting.end()) {
      at->every = 1;
      continue;
    }
    // Blocks are counted in the order of memory.
    Pass w{x[i], x[i].shape(), x[i].strides(), to[i], look, dense, every, p.pace.phase & (every - 1)};
    if (dense) w.shape = Shape{x[i].size()}, w.strides = Strides{1};
    p.waiting.push_back(w);
  }
  return nullptr;
}
const char* gather(int, int n, const Gather* what) {
  if (recording) return spoilt = "statistics while recording";
  Passes& p = passes();
  const std::lock_guard lock(p.mutex);
  for (int i = 0; i < n; ++i) {
    const Lines& l = what[i].what;
    const auto size = int64_t(size_of(what[i].dtype));
    for (int64_t k = 0; k < l.lines; ++k)
      p.values.push_back({static_cast<const char*>(what[i].data) + (l.from + k * l.pitch) * size, l.count, l.stride * size, size,
                          static_cast<char*>(what[i].to) + k * l.count * size});
  }
  return nullptr;
}
const char* forbid(int, const BoardSlot* board, int n, const uint32_t* slots, const float* also, float* word) {
  if (recording) return spoilt = "statistics while recording";
  settle(0, nullptr, nullptr);
  const auto* b = reinterpret_cast<const BoardSlot*>(opened(board));
  bool bad = also && *reinterpret_cast<const float*>(opened(also)) != 0;
  for (int i = 0; i < n; ++i) bad |= b[slots[i]].nan + b[slots[i]].inf > 0;
  *reinterpret_cast<float*>(opened(word)) = bad ? 1 : 0;
  return nullptr;
}

}  // namespace
}  // namespace keel

extern "C" __attribute__((visibility("default"))) const keel::DeviceDriver* keel_webgpu_driver() {
  using namespace keel;
  static DeviceKernels none;
  none.observe = observe, none.forbid = forbid, none.pace = pace, none.settle = settle, none.gather = gather, none.elapsed = elapsed;
  static DeviceDriver d;
  d.count = 1, d.build = build_id(), d.name = "webgpu";
  d.allocate = allocate, d.free = release, d.copy = copy;
  d.synchronize = synchronize;
  d.record_begin = record_begin, d.record_end = record_end, d.piece = piece, d.replay = replay, d.forget = forget;
  d.pin = [](size_t bytes) { return std::malloc(bytes); }, d.unpin = [](void* p) { std::free(p); };
  d.upload = upload, d.join = finish, d.await = finish;
  d.stream = [](int) -> void* {
    static FakeQueue queue{[](void* p) -> void* {
                             const auto* c = static_cast<char*>(p);
                             return c >= memory().closed && c < memory().closed + kRoom ? opened(p) : p;
                           },
                           [] { return recording != nullptr; },
                           [](void (*run)(void*), void (*drop)(void*), void* data) {
                             recording->pieces.back().steps.push_back({run, drop, data});
                           }};
    return &queue;
  };
  d.fetch = fetch, d.collect = collect, d.collected = collected;
  d.memory = [](int) { return memory().pool.stats(); };
  d.reset_peak = [](int) { memory().pool.reset_peak(); };
  d.set_limit = [](int, int64_t bytes) { memory().pool.set_limit(bytes); };
  d.release_cached = [](int) { return memory().pool.release_cached(); };
  d.memory_report = [](int, size_t, char* text, size_t) { text[0] = 0; };
  d.describe = [](int, char* text, size_t room) { std::strncpy(text, "a device for tests", room); };
  d.kernels = &none;
  return &d;
}
