// What happens to a finished block of C while it is in cache, once a Highway target: beta for converted outputs, bias, the pre-activation copy, the activation,
// rounding to C's type (nearest, ties to even) and the caller's hook. A value is rounded to C's type before the activation, as if each step were an op of its own.
#if defined(KEEL_GEMM_EPILOGUE_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef KEEL_GEMM_EPILOGUE_INL
#undef KEEL_GEMM_EPILOGUE_INL
#else
#define KEEL_GEMM_EPILOGUE_INL
#endif

#include <algorithm>
#include <type_traits>

#include "backend/cpu/gemm/pack-inl.h"
#include "backend/cpu/gemm/task.h"

HWY_BEFORE_NAMESPACE();
namespace keel::cpu::HWY_NAMESPACE {

// Rounds f32 to bf16 bits in the low half of each lane.
template <class D, class V>
HWY_INLINE auto bf16_bits(D d, V v) {
  const hn::RebindToUnsigned<D> du;
  const auto u = hn::BitCast(du, v);
  const auto rounded = hn::ShiftRight<16>(hn::Add(u, hn::Add(hn::Set(du, 0x7fffu), hn::And(hn::ShiftRight<16>(u), hn::Set(du, 1u)))));
  const auto nan = hn::RebindMask(du, hn::Ne(v, v));
  (void)d;
  return hn::IfThenElse(nan, hn::Or(hn::ShiftRight<16>(u), hn::Set(du, 0x40u)), rounded);
}

template <class D, class V, class O>
HWY_INLINE void store_narrow(D d, V v, O* p) {
  if constexpr (std::is_same_v<O, hn::TFromD<D>>) {
    hn::StoreU(v, d, p);
  } else if constexpr (std::is_same_v<O, bfloat16>) {
    const hn::Rebind<uint16_t, D> d16;
    hn::StoreU(hn::DemoteTo(d16, hn::BitCast(hn::RebindToSigned<D>(), bf16_bits(d, v))), d16, reinterpret_cast<uint16_t*>(p));
  } else {
#if HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_EMU128
    HWY_ALIGN float buffer[HWY_LANES(float)];
    hn::Store(v, d, buffer);
    for (size_t i = 0; i < hn::Lanes(d); ++i) p[i] = O(buffer[i], Overflow::nan_or_inf);
#else
    const hn::Rebind<hwy::float16_t, D> d16;
    hn::StoreU(hn::DemoteTo(d16, v), d16, reinterpret_cast<hwy::float16_t*>(p));
#endif
  }
}
template <class D, class V, class O>
HWY_INLINE void store_some(D d, V v, O* p, int64_t n) {
  using T = hn::TFromD<D>;
  if constexpr (kMaskedMemory && std::is_same_v<O, T>) {
    hn::BlendedStore(v, hn::FirstN(d, size_t(n)), d, p);
  } else {
    HWY_ALIGN O buffer[HWY_LANES(T)];
    store_narrow(d, v, buffer);
    for (int64_t i = 0; i < n; ++i) p[i] = buffer[i];
  }
}

// The value of v after a round trip through O.
template <class O, class D, class V>
HWY_INLINE V rounded_to(D d, V v) {
  if constexpr (std::is_same_v<O, hn::TFromD<D>>) {
    return v;
  } else {
    HWY_ALIGN O buffer[HWY_LANES(hn::TFromD<D>)];
    store_narrow(d, v, buffer);
    return load_wide(d, buffer);
  }
}

template <class D, class V>
HWY_INLINE V activate(D d, V v, Act act) {
  switch (act) {
    case Act::relu: return hn::IfThenElse(hn::Lt(v, hn::Zero(d)), hn::Zero(d), v);  // NaN passes
    default: return v;
  }
}

// Shows a finished block to the caller.
template <class O>
HWY_INLINE void show_block(const GemmTask& t, int64_t row, int64_t rows, int64_t col, int64_t cols) {
  const GemmEpilogue& e = *t.epilogue;
  if (e.on_block)
    e.on_block(e.context, {static_cast<const O*>(t.c) + row * t.ldc + col, t.ldc, t.batch, t.row0 + row, t.bias_offset + col, rows, cols});
}

// Finishes rows [row, row + rows) x columns [col, col + cols) of the rectangle; `src` holds their sums, or where kConvert is false, C itself.
template <class T, class O, bool kConvert = !std::is_same_v<T, O>>
HWY_NOINLINE void finish_block(const GemmTask& t, const T* src, int64_t lds, int64_t row, int64_t rows, int64_t col, int64_t cols) {
  const hn::ScalableTag<T> d;
  using V = hn::Vec<decltype(d)>;
  constexpr int64_t kN = HWY_LANES(T);
  const GemmEpilogue& e = *t.epilogue;
  const O* bias = e.bias ? static_cast<const O*>(e.bias) + t.bias_offset + col : nullptr;
  const V beta = hn::Set(d, T(t.beta));
  if (kConvert || bias || e.act != Act::none || e.pre) {
    for (int64_t i = 0; i < rows; ++i) {
      O* c = static_cast<O*>(t.c) + (row + i) * t.ldc + col;
      O* pre = e.pre ? static_cast<O*>(e.pre) + t.pre_offset + (row + i) * e.ldpre + col : nullptr;
      for (int64_t j = 0; j < cols; j += kN) {
        const int64_t n = std::min(kN, cols - j);
        const bool whole = n == kN;
        V v = whole ? hn::LoadU(d, src + i * lds + j) : load_some(d, src + i * lds + j, n);
        if (kConvert && t.beta != 0) v = hn::MulAdd(beta, whole ? load_wide(d, c + j) : load_some(d, c + j, n), v);
        if (bias) v = hn::Add(v, whole ? load_wide(d, bias + j) : load_some(d, bias + j, n));
        if (pre) whole ? store_narrow(d, v, pre + j) : store_some(d, v, pre + j, n);
        if (e.act != Act::none) v = activate(d, rounded_to<O>(d, v), e.act);
        whole ? store_narrow(d, v, c + j) : store_some(d, v, c + j, n);
      }
    }
  }
  show_block<O>(t, row, rows, col, cols);
}

}  // namespace keel::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
