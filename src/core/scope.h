#pragma once
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <optional>
#include <string_view>

#include "keel/determinism.h"
#include "keel/dtype.h"

namespace keel {

class Error;
class Tensor;
struct OpDef;

/// The call in progress, for errors and attribution. Frames form a list from the innermost op outwards.
struct Frame {
  const OpDef* op = nullptr;
  const void* params = nullptr;
  const Tensor* const* inputs = nullptr;  // as the caller passed them
  int n_inputs = 0;
  const void* site = nullptr;  // code address of the outermost caller
  const Frame* up = nullptr;
};

struct TensorImpl;
/// What the trace layer hears of things that are no ops.
struct TraceSink {
  void (*wrote)(TraceSink*, const TensorImpl& t) = nullptr;                       // the op that comes next writes into `t`
  void (*gradient)(TraceSink*, const Tensor& leaf, const Tensor& grad) = nullptr;  // `grad`, which may be undefined, became the leaf's
  void (*host_read)(TraceSink*, const TensorImpl& t) = nullptr;                   // the program looked at the data
};

enum class Phase : uint8_t { forward, backward, optimiser };

/// Everything that surrounds a call, one value a thread. Guards save and restore the whole of it.
struct Scope {
  bool grad = true;
  bool oracle = false;           // only reference kernels and decompositions run: the judges' side
  Phase phase = Phase::forward;
  std::optional<Determinism> determinism;  // none: what set_determinism says
  DType autocast = DType::none;     // none: off
  void* autocast_cache = nullptr;   // owned by the guard
  TraceSink* trace = nullptr;       // the recorder, or null
  void* monitor = nullptr;          // the watcher, or null
  const char* writer = nullptr;     // the public name of the in-place op in progress, for messages; null: the row's name
  const char* path = "";            // interned module path, outermost first, joined by dots
  const void* module = nullptr;     // the innermost module that is running (nn::ModuleBase), or null
  const Frame* frame = nullptr;
  const void* caller = nullptr;     // who is to count as the caller of the next outermost op, where a function only passes the call on
};

namespace detail {
[[gnu::tls_model("initial-exec")]] extern thread_local constinit Scope thread_scope;
}
inline Scope& scope() { return detail::thread_scope; }

namespace detail {
extern constinit std::atomic<Determinism> default_determinism;
}
inline Determinism determinism_of(const Scope& s) {
  return s.determinism ? *s.determinism : detail::default_determinism.load(std::memory_order_relaxed);
}
/// For work of an earlier call, which ran at `level`: that one or the scope's, whichever promises more.
inline void keep_determinism(Scope& s, Determinism level) { s.determinism = std::max(level, determinism_of(s)); }

/// `e` with the op in progress, its arguments and the module path; unchanged outside of ops. Defined where rows are known.
Error about_call(Error e);

/// Restores the thread's Scope when it goes.
class ScopeGuard {
 public:
  ScopeGuard() : saved_(scope()) {}
  ~ScopeGuard() { scope() = saved_; }
  ScopeGuard(const ScopeGuard&) = delete;
  ScopeGuard& operator=(const ScopeGuard&) = delete;

 private:
  Scope saved_;
};

/// Inside a function that only passes its call on to an op (a method, an operator): the op's site becomes the place that called this function.
class AtCaller {
 public:
  [[gnu::always_inline]] AtCaller() : scope_(scope()), before_(scope_.caller) {
    if (!before_) scope_.caller = __builtin_return_address(0);
  }
  ~AtCaller() { scope_.caller = before_; }
  AtCaller(const AtCaller&) = delete;
  AtCaller& operator=(const AtCaller&) = delete;

 private:
  Scope& scope_;
  const void* before_;
};

/// One interned copy of a text, alive until the process ends.
const char* intern(std::string_view text);

}  // namespace keel
