// Loops over vectors with a masked rest, for bodies that read and write several arrays, and for rows that leave past the caches.
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

/// Elements before y is aligned for `hn::Stream`.
template <class T>
HWY_INLINE int64_t until_aligned(const T* y) {
  constexpr size_t N = hn::MaxLanes(Tag<T>());
  return int64_t((N - reinterpret_cast<uintptr_t>(y) / sizeof(T) % N) % N);
}

/// y[i] = f(i, load), past the caches where `stream` says so.
template <class T, class F>
HWY_INLINE void each_out(T* y, int64_t n, bool stream, F f) {
  const Tag<T> d;
  constexpr int64_t N = hn::MaxLanes(Tag<T>());
  int64_t i = 0, count = stream ? until_aligned(y) : 0;
  while (true) {
    if (n - i < count) count = n - i;
    if (count) {
      const size_t some = size_t(count);
      store_n(f(i, [some](const T* p) HWY_ATTR { return load_n(Tag<T>(), p, some); }), d, y + i, some), i += count;
    }
    if (i == n) return;
    if (stream)
      for (; i + N <= n; i += N) hn::Stream(f(i, [](const T* p) HWY_ATTR { return hn::LoadU(Tag<T>(), p); }), d, y + i);
    else
      for (; i + N <= n; i += N) hn::StoreU(f(i, [](const T* p) HWY_ATTR { return hn::LoadU(Tag<T>(), p); }), d, y + i);
    if (i == n) return;
    count = n - i;
  }
}

}  // namespace keel::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
