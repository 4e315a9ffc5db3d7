// A loop over vectors with a masked rest, for bodies that read and write several arrays.
#if defined(KEEL_CPU_LOOPS_EACH_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef KEEL_CPU_LOOPS_EACH_INL_H_
#undef KEEL_CPU_LOOPS_EACH_INL_H_
#else
#define KEEL_CPU_LOOPS_EACH_INL_H_
#endif

#include "backend/cpu/loops/elementwise-inl.h"

HWY_BEFORE_NAMESPACE();
namespace keel::cpu::HWY_NAMESPACE {

/// Calls f(i, load, store) for whole vectors and then for the masked rest.
template <class T, class F>
HWY_INLINE void each(int64_t n, F f) {
  constexpr int64_t N = hn::MaxLanes(Tag<T>());
  int64_t i = 0;
  for (; i + N <= n; i += N)
    f(
        i, [](const T* p) HWY_ATTR { return hn::LoadU(Tag<T>(), p); }, [](auto v, T* p) HWY_ATTR { hn::StoreU(v, Tag<T>(), p); });
  if (const size_t count = size_t(n - i))
    f(
        i, [count](const T* p) HWY_ATTR { return load_n(Tag<T>(), p, count); },
        [count](auto v, T* p) HWY_ATTR { store_n(v, Tag<T>(), p, count); });
}

}  // namespace keel::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
