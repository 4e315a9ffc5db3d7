#pragma once
#include <cstdint>
#include <type_traits>

/// The thread pool that Keel's kernels share with a program's own loops.
namespace keel {

/// Number of threads that `parallel_for` may use, the calling thread included. Starts as `KEEL_NUM_THREADS`, else `OMP_NUM_THREADS`, else the
/// cores that affinity and cgroup quota leave.
int64_t num_threads();

/// Sets the number of threads; values below 1 become 1. Not to be called from inside `parallel_for`.
void set_num_threads(int64_t n);

namespace detail {
using RangeFn = void (*)(void* context, int64_t lo, int64_t hi);
void parallel_run(int64_t begin, int64_t end, int64_t grain, RangeFn fn, void* context);
}  // namespace detail

/// Calls `f(lo, hi)` on disjoint ranges that cover [begin, end), at least `grain` long but for the last, and returns when all are done. The split is
/// static: it depends on the thread count, so a result must not depend on where ranges begin. Runs on the caller alone where the range is not longer than `grain`,
/// inside another `parallel_for`, or with one thread. MXCSR/FPCR is set to the default inside and restored after.
template <class F>
void parallel_for(int64_t begin, int64_t end, int64_t grain, F&& f) {
  using Body = std::remove_reference_t<F>;
  detail::parallel_run(begin, end, grain, [](void* c, int64_t lo, int64_t hi) { (*static_cast<Body*>(c))(lo, hi); }, const_cast<void*>(static_cast<const void*>(&f)));
}
template <class F>
void parallel_for(int64_t begin, int64_t end, F&& f) {
  parallel_for(begin, end, 1, static_cast<F&&>(f));
}

}  // namespace keel
