#pragma once
// Adding into memory: 8-, 16-bit floats add up in f32 beside the result and are rounded once.
#include <cstring>

#include "backend/kernel.h"
#include "keel/numerics/types.h"
#include "keel/parallel.h"

namespace keel::cpu {

template <class R>
struct ComplexValue {
  R re, im;
  ComplexValue& operator+=(const ComplexValue& o) { return re += o.re, im += o.im, *this; }
};
struct BoolValue {
  uint8_t v;
  BoolValue& operator+=(const BoolValue& o) { return v |= o.v, *this; }
};

/// Calls f with a value of the type that stands for `t`.
template <class F>
void with_value_type(DType t, F&& f) {
  switch (t) {
    case DType::boolean: return f(BoolValue{});
    case u8:
    case i8: return f(uint8_t{});
    case u16:
    case i16: return f(uint16_t{});
    case u32:
    case i32: return f(uint32_t{});
    case u64:
    case i64: return f(uint64_t{});
    case f8e4m3fn: return f(float8_e4m3fn{});
    case f8e5m2: return f(float8_e5m2{});
    case f16: return f(float16{});
    case bf16: return f(bfloat16{});
    case f32: return f(float{});
    case f64: return f(double{});
    case complex64: return f(ComplexValue<float>{});
    case complex128: return f(ComplexValue<double>{});
    case DType::none: return;
  }
}
template <class T>
inline constexpr bool kNarrowFloat =
    std::is_same_v<T, float16> || std::is_same_v<T, bfloat16> || std::is_same_v<T, float8_e4m3fn> || std::is_same_v<T, float8_e5m2>;
inline bool narrow_float(DType t) { return is_floating(t) && size_of(t) < 4; }

/// Bytes of f32 sums that `add_into` needs beside a result of `n` elements.
inline size_t sums_bytes(DType t, int64_t n) { return narrow_float(t) ? size_t(n) * 4 : 0; }

/// Calls add(sums, T{}) where sums is where values of type T are to be added for the dense result `y`, which holds its begin values: y
/// itself, or f32 sums in `space`.
template <class F>
void add_into(const TensorView& y, bool zero, void* space, F&& add) {
  with_value_type(y.dtype, [&](auto tag) {
    using T = decltype(tag);
    const int64_t n = y.size();
    T* out = y.ptr<T>();
    if constexpr (kNarrowFloat<T>) {
      float* sums = static_cast<float*>(space);
      if (zero && n)
        std::memset(sums, 0, size_t(n) * sizeof(float));
      else if (!zero)
        parallel_for(0, n, 1 << 14, [&](int64_t lo, int64_t hi) {
          for (int64_t i = lo; i < hi; ++i) sums[i] = float(out[i]);
        });
      add(sums, tag);
      parallel_for(0, n, 1 << 14, [&](int64_t lo, int64_t hi) {
        for (int64_t i = lo; i < hi; ++i) out[i] = T(sums[i]);
      });
    } else {
      if (zero && n) std::memset(static_cast<void*>(out), 0, size_t(n) * sizeof(T));
      add(out, tag);
    }
  });
}

}  // namespace keel::cpu
