#pragma once
// Results on a device: kernels add their statistics to the slots of a board in the device's memory, and nobody waits. What the host knows
// of a call (its place, its operands) goes into a queue; at the end of a step the board is copied to pinned memory and cleared, both by
// queued work (where the device is many steps behind, at the end of a later step: every call has slots of its own), and when the copy has
// arrived the queue is booked in the order of the program by the code that serves the CPU. That code sees stand-ins of tensors: the same
// shapes and the same identity of memory, but no memory.
#include <cstring>
#include <deque>
#include <utility>

#include "backend/float_bits.h"
#include "backend/step_guard.h"
#include "core/impl.h"
#include "keel/error.h"
#include "layers/monitor/monitor.h"
#include "op/device_call.h"

namespace keel {

using Taint = TaintedStorages::Kind;
inline constexpr uint32_t kSlots = 16384;    // of a board
inline constexpr uint32_t kSampleRoom = 2u << 20;  // bytes before them, for values that rules want to see
inline constexpr uint32_t kRoomOfCall = kSampleRoom / 2, kRoomOfRule = kRoomOfCall / 4;  // of these
inline constexpr size_t kMostUnderWay = 8;   // copies of boards that ends of steps send off; further behind, a copy brings several steps
inline constexpr size_t kMostCopies = 32;    // of boards that are full
inline constexpr size_t kMostKnown = 65536;  // storages
inline constexpr int64_t kSmall = 4096;      // bytes of results that are watched in every step
inline constexpr char kLookedAt[] = "";      // the writer of memory that came from outside and has been looked at; a name without letters

[[noreturn]] inline void raise_device(const char* wrong) {
  raise(about_call(Error(ErrorCode::device, wrong)).note("while watching its results"));
}

inline const ArgDef& arg_of(const OpDef& op, int i) { return op.in[std::min(i, op.in.size() - 1)]; }

/// Tensors whose statistics a board takes.
inline bool counts(const Tensor& t, Device d) {
  if (!t.defined()) return false;
  const TensorImpl& x = impl(t);
  return !x.weak && x.device == d && x.storage && on_boards(x.spec.dtype) && x.spec.shape.numel() > 0;
}

struct DeviceBoards {
  /// A tensor of a call: a stand-in, with what its storage said when the call returned.
  struct Operand {
    Tensor t;
    const char* writer = "";
    size_t bytes = 0;
    uint32_t version = 0;
    int32_t slot = -1;   // where this very operand was looked at
    bool fresh = false;  // and nobody had seen its memory before
  };
  struct Event {
    /// brought: a copy brought memory here that is known to be broken.
    enum Kind : uint8_t { call, update, root, end, brought } kind = call;
    Taint taint = TaintedStorages::clean;  // of what was brought
    bool first = false, recording = false, into = false, into_weight = false, light = false;
    bool old_gradients = false, refused = false;  // of an update: its gradients hold those of the step before; it was kept from running
    int64_t step = 0, epoch = 0;
    int32_t board = -1;  // -1: it needs no numbers
    uint64_t part = 0;
    uint32_t site = 0, slot = 0;
    uint32_t made = 0;  // slot of what an update's arithmetic makes infinite
    StepGuard guard;    // who looks for that; the CPU, where a device leaves updates to it, notes it here
    const OpDef *op = nullptr, *outer = nullptr;
    std::unique_ptr<std::byte[]> params;
    SmallVector<Operand, 4> in;
    SmallVector<Operand, 2> out;
    uint64_t count[4] = {};
    std::vector<uint32_t> gradients;  // slots
    Wanted wanted;                    // by rules that look at values
    double setting[8] = {};           // of an update, where the host knows them: the program may change them
    int settings = 0;                 // how many it knows
    void clear() {
      in.clear(), out.clear(), gradients.clear(), params.reset(), wanted.clear();
      kind = call, first = recording = into = into_weight = light = old_gradients = refused = false;
      board = -1, part = 0, settings = 0, site = slot = made = 0, op = outer = nullptr;
      guard.elements = 0, guard.lists = 0, guard.tensor = StepGuard::kNone;
      std::fill(std::begin(count), std::end(count), uint64_t(0));
    }
  };
  /// One filling of a board, on its way to the host.
  struct Part {
    uint64_t id = 0, ticket = 0;
    BoardSlot* slots = nullptr;  // pinned; values lie before them, as they do on the device
    bool arrived = false;
  };
  struct Board {
    Device d;
    const DeviceDriver* driver = nullptr;
    const DeviceKernels* kernels = nullptr;
    BoardSlot* slots = nullptr;  // on the device; the same address as long as the monitor lives
    uint32_t used = 1;           // slot 0 is the passes' own
    uint32_t sampled = 0;        // bytes before slot 0 that hold values, or will
    uint64_t part = 1;
    std::deque<Part> under_way;
    std::vector<BoardSlot*> spare;
    /// Whether there is room for what a call may want to look at.
    bool takes_values() const { return sampled + kRoomOfCall <= kSampleRoom; }
  };
  /// How long steps take on the device, with and without: the times between the collections at their ends.
  struct Laps {
    struct End {
      uint64_t ticket;  // 0: nothing was collected
      bool light, counts;
    };
    std::deque<End> ends;
    std::vector<float> with, without;  // milliseconds
    uint64_t steps = 0, last = 0;      // last: ticket
    bool unusual = false;              // the running step is no measure
    bool settled = false;              // the last decision was to leave it
  };
  /// What is known of a storage while calls are made.
  struct Known {
    Ref<Storage> stand_in;
    const char* writer = nullptr;
    uint32_t version = 0, slot = 0, site = ~uint32_t(0);  // of the op that wrote it
    uint64_t part = 0;                                    // 0: no slot of its own
    int64_t offset = 0, elements = 0;
    DType dtype = DType::none;
    bool dense = false;
    bool seen_whole = false;  // what a pass left out has been asked for
    bool is(const Storage& s) const { return writer == s.writer && version == s.version.load(std::memory_order_relaxed); }
    /// Whether `x` holds the values that the slot is about, in whatever order.
    bool covers(const TensorImpl& x) const {
      return dense && offset == x.offset && elements == x.spec.shape.numel() && dtype == x.spec.dtype && is_dense(x.spec.shape, x.strides);
    }
    void describe(const TensorImpl& x) {
      offset = x.offset, elements = x.spec.shape.numel(), dtype = x.spec.dtype, dense = is_dense(x.spec.shape, x.strides);
      seen_whole = false;
    }
  };
  /// Memory that no watched op wrote, when it was looked at.
  struct Outside {
    Ref<Storage> stand_in;
    StatSlot::Part seen;
    int64_t offset = 0;
    uint32_t version = 0;
    int64_t first_bad = -1;          // element that is NaN or infinite; -1: not known
    std::vector<float> values = {};  // some
  };
  /// What a MonitorState keeps of the running step, for the step that is being booked.
  struct Late {
    int64_t step = 0, epoch = 0, step_ops = 0, step_nan = 0, step_inf = 0, step_subnormal = 0;
    double step_largest = 0;
    uint32_t last_site = 0, bad_site = ~uint32_t(0), skips = 0;
    uint8_t bad_output = 0;
    bool backward_ran = false, updated = false, jump_seen = false, jump_told = false;
    std::vector<uint32_t> touched, touched_arguments, pending;
    void exchange(MonitorState& m) {
      std::swap(step, m.step), std::swap(epoch, m.epoch), std::swap(step_ops, m.step_ops), std::swap(step_nan, m.step_nan);
      std::swap(step_inf, m.step_inf), std::swap(step_subnormal, m.step_subnormal), std::swap(step_largest, m.step_largest);
      std::swap(last_site, m.last_site), std::swap(bad_site, m.bad_site), std::swap(skips, m.skips), std::swap(bad_output, m.bad_output);
      std::swap(backward_ran, m.backward_ran), std::swap(updated, m.updated), std::swap(jump_seen, m.jump_seen);
      std::swap(jump_told, m.jump_told);
      touched.swap(m.touched), touched_arguments.swap(m.touched_arguments), pending.swap(m.pending);
    }
  };

  std::vector<std::unique_ptr<Board>> boards;
  std::deque<std::unique_ptr<Event>> queue;
  std::vector<std::unique_ptr<Event>> booked_events;  // to be used again: they are large
  std::unique_ptr<Event> new_event(const MonitorState& m) {
    if (booked_events.empty()) booked_events.push_back(std::make_unique<Event>());
    std::unique_ptr<Event> e = std::move(booked_events.back());
    booked_events.pop_back();
    e->step = m.step, e->epoch = m.epoch;
    return e;
  }
  std::unordered_map<const Storage*, Known> known;
  std::unordered_map<const Storage*, Outside> outside;  // by stand-in
  Late late;
  Laps laps;
  bool step_open = false;      // something was queued since the last end of a step
  const Event* now = nullptr;  // being booked
  const Part* numbers = nullptr;

  ~DeviceBoards();
  int board_of(Device d);
  bool refuse(MonitorState& m, const Call& c, int at_board, uint32_t at, bool first);
  void watch(MonitorState& m, Call& c, int at_board, uint32_t at, bool first, Tensors& out);
  void describe(MonitorState& m, Call& c, Board& b, Event& e, uint32_t at);
  void look_at_input(const MonitorState& m, const Call& c, int i, Board& b, Operand& o, uint32_t at);
  uint32_t slot_of_copied(const Call& c, const Board& b);
  void note_results(const Call& c, const Tensors& out, Board& b, Event& e);
  void run_unwatched(Call& c, Board& b, Tensors& out);
  void look(const MonitorState& m, const Tensor& t, StatSlot& slot) const;
  const Outside* found_outside(const Tensor& t) const;
  const char* flush(Board& b, size_t most, bool& full);
  void make_room(MonitorState& m, Board& b, size_t slots);
  const char* book_arrived(MonitorState& m, bool wait);
  void book(MonitorState& m, Event& e);
  static void book_end(MonitorState& m);
  void book_inputs(MonitorState& m, const Event& e);
  void book_call(MonitorState& m, Event& e);
  bool book_step(MonitorState& m, Call& c, Event& e);
  void book_results(MonitorState& m, Call& c, const Tensors& out, const Event& e);
  Operand operand(const Tensor& t, Device d);
  Tensor guard(Call& c, Board& b, Event& e);
  void watch_weights(const Call& c, Board& b, Event& e);
  void pass(Board& b, const Tensor& t, uint32_t slot, Look look);
  void set_pace(const MonitorState& m, Board& b) { b.kernels->pace(b.d.index, {m.device_every(), m.looks, b.slots, b.used}); }
  void settle_memory(Board& b, const Tensor& t);
  // device_sampling.cpp
  void plan_before(MonitorState& m, const Call& c, Board& b, Event& e, uint32_t at);
  void plan_after(MonitorState& m, const Call& c, const Tensors& out, Board& b, Event& e, uint32_t at);
  void gather(const Call& c, const Tensors* out, Board& b, Event& e);
  void keep_values(const Call& c, const Event& e);
  void judge(MonitorState& m, const Call& c, const Event& e, Moment when);
  void judge_update(MonitorState& m, const Call& c, const Event& e);
  SmallVector<Sample, 8> samples(const Call& c, const Event& e, ValueRule rule) const;
  void see_rest(const Call& c, Board& b, int first, int end);
  void see_whole(const Call& c, const Tensors& out, Board& b, const Event& e);
  /// What a slot about `count` elements says; the count that it gives is of those that were looked at.
  StatSlot::Part part_of(uint32_t slot, uint64_t count) const {
    const BoardSlot& s = numbers->slots[slot];
    if (s.in_part()) count = std::min<uint64_t>(count, std::max<uint64_t>(s.seen, 1));
    return {.max_bits = s.max_bits, .min_bits = ~s.low_bits, .count = count, .nan = s.nan, .inf = s.inf, .subnormal = s.subnormal};
  }
  void recycle();
};

}  // namespace keel
