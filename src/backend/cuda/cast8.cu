// Casts from and to floats of 8 bits, by the code that the CPU's scalar types use: one rounding whatever the source.
#include "backend/cuda/cast8.h"

#include "backend/cuda/pointwise.cuh"
#include "keel/numerics/types.h"
#include "keel/ops/cast.h"

namespace keel::cuda {
namespace {

template <int Exp, int Man, bool has_inf>
struct Format {
  static __device__ uint8_t encode(double v, Overflow o) { return uint8_t(detail::encode_float<Exp, Man, has_inf>(v, o)); }
  static __device__ uint8_t encode(float v, Overflow o) { return uint8_t(detail::encode_float<Exp, Man, has_inf>(v, o)); }
  static __device__ float decode(uint8_t code) { return detail::decode_float<Exp, Man, has_inf>(code); }
};
using E4m3 = Format<4, 3, false>;
using E5m2 = Format<5, 2, true>;

template <class To>
struct Encode {
  Overflow overflow;
  template <class From>
  __device__ uint8_t operator()(From x) const {
    return To::encode(widen(x), overflow);
  }
};
template <class From, class To>
struct Decode {
  __device__ To operator()(uint8_t code) const { return convert<To>(From::decode(code)); }
};
template <class From, class To>
struct Recode {
  Overflow overflow;
  __device__ uint8_t operator()(uint8_t code) const { return To::encode(From::decode(code), overflow); }
};

template <class F>
void with_format(DType t, F f) {
  t == DType::f8e4m3fn ? f(E4m3()) : f(E5m2());
}

}  // namespace

KernelStatus cast_fp8(const KernelArgs& a) {
  const DType from = a.in[0].dtype, to = a.out[0].dtype;
  const Overflow overflow = a.get<CastParams>().saturate ? Overflow::saturate : Overflow::nan_or_inf;
  KernelStatus s;
  if (contains(kinds::fp8, from) && contains(kinds::fp8, to))
    with_format(from, [&](auto f) {
      with_format(to, [&](auto t) { s = pointwise<uint8_t, uint8_t>(a, Recode<decltype(f), decltype(t)>{overflow}); });
    });
  else if (contains(kinds::fp8, to))
    with_format(to, [&](auto t) {
      Floats::call(from, [&](auto f) { s = pointwise<uint8_t, decltype(f)>(a, Encode<decltype(t)>{overflow}); });
    });
  else
    with_format(from, [&](auto f) {
      Floats::call(to, [&](auto t) { s = pointwise<decltype(t), uint8_t>(a, Decode<decltype(f), decltype(t)>{}); });
    });
  return s;
}

}  // namespace keel::cuda
