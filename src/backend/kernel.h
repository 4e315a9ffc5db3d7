#pragma once
// What a kernel sees and how a backend lists its kernels.
#include <cstddef>
#include <cstdint>

#include "backend/stat_slot.h"
#include "backend/step_guard.h"
#include "keel/op.h"

namespace keel {

/// A tensor as a kernel sees it. `shape` and `strides` (in elements) outlive the call.
struct TensorView {
  void* data = nullptr;
  DType dtype = DType::none;
  const Shape* shape_ = nullptr;
  const Strides* strides_ = nullptr;
  bool on_host = false;  // a number in host memory among tensors of a device: the kernel takes its value when it is called

  template <class T> T* ptr() const { return static_cast<T*>(data); }
  const Shape& shape() const { return *shape_; }
  const Strides& strides() const { return *strides_; }
  int rank() const { return shape_->rank(); }
  int64_t dim(int i) const { return (*shape_)[i]; }
  int64_t stride(int i) const { return (*strides_)[i]; }
  int64_t size() const { return shape_->numel(); }
  bool present() const { return dtype != DType::none; }
  bool contiguous() const { return is_contiguous(*shape_, *strides_); }
};

struct KernelStatus {
  enum Code : uint8_t { ok, bad_index, bad_place, bad_value, bad_element, device_error } code = ok;
  int64_t got = 0, limit = 0;
  const char* what = "";
  int64_t axis = -1;
  static KernelStatus index(int64_t got, int64_t limit, const char* what = "index") { return {bad_index, got, limit, what}; }
  /// `got` is no index of axis `axis`, whose extent is `limit`.
  static KernelStatus index_on(int64_t axis, int64_t got, int64_t limit) { return {bad_index, got, limit, "index", axis}; }
  /// An index that may not count from the end: a class, a token.
  static KernelStatus place(int64_t got, int64_t limit, const char* what) { return {bad_place, got, limit, what}; }
  /// Element `position` breaks the rule `what`.
  static KernelStatus element(const char* what, int64_t position) { return {bad_element, position, 0, what}; }
  /// The device refused; `what` says why in its own words and lives until the thread's next call.
  static KernelStatus device(const char* what) { return {device_error, 0, 0, what}; }
};

struct KernelArgs {
  const void* params = nullptr;
  const TensorView* in = nullptr;
  const TensorView* out = nullptr;
  int n_in = 0, n_out = 0;
  void* workspace = nullptr;
  /// One pointer an output. Null: nobody watches, and no instruction is spent on it.
  StatSlot* stats[4] = {};
  StepGuard* guard = nullptr;  // of an optimiser's step; null: as stats
  void* stream = nullptr;  // the queue of the device that the tensors live on; null on the CPU
  int device = 0;          // its index
  bool invariant = false;  // what an example gives may not depend on how many are beside it
  bool any_order = false;  // sums may be taken in any order, another one in every run
  bool tf32 = false;       // f32 operands of products may be rounded to TF32
  uint64_t call = 0;       // under which a `late` kernel reports what it finds; counts up

  template <class P> const P& get() const { return *static_cast<const P*>(params); }
};
using KernelFn = KernelStatus (*)(const KernelArgs& a);

/// What a kernel demands of an operand's memory. Dispatch copies inputs that do not fit, and allocates outputs that do.
enum class Layout : uint8_t {
  strided,        // anything, also stride 0
  contiguous,     // row-major
  rows,           // the last axis has stride 1, the others anything
  channels_last,  // rank 4, dense, channels innermost
  like_inputs,    // outputs of elementwise kernels: the order of axes of the inputs where they agree and are dense, else row-major
};

struct KernelEntry {
  const char* name = "";
  KernelFn run = nullptr;
  /// Where an extent is unknown: fills the output shapes from the data.
  KernelStatus (*count)(const KernelArgs& a, Shape* outs) = nullptr;
  /// Why it can't do this call, or null if it can. Strides are not yet what `in_layout` demands.
  const char* (*refuses)(const void* params, Specs in) = nullptr;
  size_t (*workspace)(const KernelArgs& a) = nullptr;
  DTypeSet dtypes = kinds::any;  // of the first input, or of the first output where there is no input
  Layout in_layout[10] = {};     // one an input; a variadic input takes the last
  Layout out_layout[4] = {Layout::contiguous, Layout::contiguous, Layout::contiguous, Layout::contiguous};
  bool stats = false;            // fills StatSlots itself
  bool late = false;             // what is wrong with its data is found by queued work, and reported by the driver's `fault`
  bool inplace = false;          // output 0 may be the very memory of an input
  bool varies = false;           // what an example gives depends on how many are beside it: not for calls that are to be invariant
  const KernelEntry* next = nullptr;
};

/// The kernels of one backend: per op an ordered list, first fit wins. Entries live in static memory of their files.
class KernelTable {
 public:
  static constexpr int kMaxOps = 1024;
  constexpr KernelTable() = default;
  void add(const OpDef& op, KernelEntry& e) {
    const KernelEntry** at = &first_[op.id];
    while (*at) at = const_cast<const KernelEntry**>(&(*at)->next);
    *at = &e;
  }
  const KernelEntry* first(const OpDef& op) const { return first_[op.id]; }

 private:
  const KernelEntry* first_[kMaxOps] = {};
};

/// Builds one entry.
class KernelDef {
 public:
  explicit KernelDef(KernelEntry& e) : e_(e) {}
  KernelDef& run(KernelFn f) { return e_.run = f, *this; }
  KernelDef& dtypes(DTypeSet s) { return e_.dtypes = s, *this; }
  /// The same demand on every input.
  KernelDef& inputs(Layout l) {
    for (Layout& x : e_.in_layout) x = l;
    return *this;
  }
  KernelDef& input(int i, Layout l) { return e_.in_layout[i] = l, *this; }
  KernelDef& outputs(Layout l) {
    for (Layout& x : e_.out_layout) x = l;
    return *this;
  }
  KernelDef& output(int i, Layout l) { return e_.out_layout[i] = l, *this; }
  KernelDef& refuses(const char* (*f)(const void*, Specs)) { return e_.refuses = f, *this; }
  KernelDef& workspace(size_t (*f)(const KernelArgs&)) { return e_.workspace = f, *this; }
  KernelDef& count(KernelStatus (*f)(const KernelArgs&, Shape*)) { return e_.count = f, *this; }
  KernelDef& stats() { return e_.stats = true, *this; }
  KernelDef& late() { return e_.late = true, *this; }
  KernelDef& inplace() { return e_.inplace = true, *this; }
  KernelDef& varies() { return e_.varies = true, *this; }

 private:
  KernelEntry& e_;
};

/// The tables; filled at first use.
KernelTable& cpu_kernels();
KernelTable& reference_kernels();
namespace detail {
extern constinit KernelTable cpu_table, reference_table;  // for the choke point, which has seen that the registry is filled
}  // namespace detail

/// Calls served by a decomposition or the reference because the backend has no kernel, since the process began; by op.
struct FallbackCount {
  const char* op;
  int64_t calls;
};
int64_t fallback_calls();

}  // namespace keel

/// A CPU kernel of op `NAME`; several may exist under different names through KEEL_CPU_KERNEL_FOR. The body fills `k`. Found by the build.
#define KEEL_CPU_KERNEL(NAME)                                                                              \
  namespace keel {                                                                                         \
  extern OpDef op_##NAME;                                                                                  \
  }                                                                                                        \
  namespace keel::cpu {                                                                                    \
  static KernelEntry entry_##NAME;                                                                         \
  static void define_kernel_##NAME(KernelDef k);                                                           \
  void register_kernel_##NAME(KernelTable& t);                                                             \
  void register_kernel_##NAME(KernelTable& t) {                                                            \
    entry_##NAME.name = "cpu." #NAME;                                                                      \
    define_kernel_##NAME(KernelDef(entry_##NAME));                                                         \
    t.add(op_##NAME, entry_##NAME);                                                                        \
  }                                                                                                        \
  }                                                                                                        \
  void keel::cpu::define_kernel_##NAME([[maybe_unused]] ::keel::KernelDef k)
/// Plain float64 code that judges primitives; used where a backend has nothing better.
#define KEEL_REFERENCE_KERNEL(NAME)                                                                        \
  namespace keel {                                                                                         \
  extern OpDef op_##NAME;                                                                                  \
  }                                                                                                        \
  namespace keel::reference {                                                                              \
  static KernelEntry entry_##NAME;                                                                         \
  static void define_kernel_##NAME(KernelDef k);                                                           \
  void register_kernel_##NAME(KernelTable& t);                                                             \
  void register_kernel_##NAME(KernelTable& t) {                                                            \
    entry_##NAME.name = "reference." #NAME;                                                                \
    define_kernel_##NAME(KernelDef(entry_##NAME));                                                         \
    t.add(op_##NAME, entry_##NAME);                                                                        \
  }                                                                                                        \
  }                                                                                                        \
  void keel::reference::define_kernel_##NAME([[maybe_unused]] ::keel::KernelDef k)
