#pragma once
#include <cstdint>
#include <type_traits>

#pragma GCC visibility push(default)
/// The thread pool that Keel's kernels share with a program's own loops.
namespace keel {

/// Number of threads that `parallel_for` may use, the calling thread included. Starts as `KEEL_NUM_THREADS`, else `OMP_NUM_THREADS`, else
/// the cores that affinity and cgroup quota leave.
int64_t num_threads();

/// Sets the number of threads; values below 1 become 1. Not to be called from inside `parallel_for`.
void set_num_threads(int64_t n);

/// A host program's threads for `parallel_for` to run on, in place of Keel's own. Plain functions, so that it crosses any boundary.
struct Executor {
  using Task = void (*)(void* context, int64_t index);
  /// Calls `task(context, i)` once for each i in [0, tasks), on any threads and in any order, and returns when all have returned. May be
  /// called from several threads at once. Must not throw.
  void (*run)(void* self, int64_t tasks, Task task, void* context) = nullptr;
  void* self = nullptr;
};

/// Makes `parallel_for` run on `executor`, which must outlive its use; null goes back to Keel's own threads. `num_threads()` still says how
/// many ranges a loop is split into.
void set_executor(const Executor* executor);

namespace detail {
using RangeFn = void (*)(void* context, int64_t lo, int64_t hi);
void parallel_run(int64_t begin, int64_t end, int64_t grain, RangeFn fn, void* context);
}  // namespace detail

/// Calls `f(lo, hi)` on disjoint ranges that cover [begin, end), at least `grain` long but for the last, and returns when all are done. The
/// split is static: it depends on the thread count, so a result must not depend on where ranges begin. Runs on the caller alone where the
/// range is not longer than `grain`, inside another `parallel_for`, while another thread's loop has the workers, or with one thread.
/// MXCSR/FPCR is set to the default inside and restored after. `f` must not throw: an exception that leaves it ends the program.
template <class F>
void parallel_for(int64_t begin, int64_t end, int64_t grain, F&& f) {
  using Body = std::remove_reference_t<F>;
  detail::parallel_run(
      begin, end, grain, [](void* c, int64_t lo, int64_t hi) { (*static_cast<Body*>(c))(lo, hi); },
      const_cast<void*>(static_cast<const void*>(&f)));
}
template <class F>
void parallel_for(int64_t begin, int64_t end, F&& f) {
  parallel_for(begin, end, 1, static_cast<F&&>(f));
}

}  // namespace keel
#pragma GCC visibility pop
