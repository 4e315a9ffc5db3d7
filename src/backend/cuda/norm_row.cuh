#pragma once
// What layer_norm and rms_norm write of a row, or of a part of one.
#include "backend/cuda/rows.cuh"

namespace keel::cuda {

/// y[i] = the normal value, times weight[i], plus bias[i], both of which may be null; in vectors where the row is kept in them.
template <bool centered, class T, int G, int P, class Whole, class Y>
__device__ __forceinline__ void write_norm(const RowOf<T, G, P>& r, const Whole& whole, const T* weight, const T* bias, Y y) {
  using C = Compute<T>;
  const auto scaled = [&](C v, T w, T b) {
    C z = NormOf<centered>::value(whole, v);
    if (weight) z = z * widen(w);
    if (bias) z = z + widen(b);
    return z;
  };
  if (!weight && !bias) {
    r.write(y, [&](int64_t, C v) { return NormOf<centered>::value(whole, v); });
  } else if constexpr (P == 0) {
    r.write(y, [&](int64_t i, C v) { return scaled(v, weight ? weight[i] : T(), bias ? bias[i] : T()); });
  } else {
    constexpr int V = 16 / int(sizeof(T));
    using Vector = Pack<T, V>;
#pragma unroll
    for (int k = 0; k < P; ++k) {
      const int64_t i = (int64_t(k) * G + r.lane) * V;
      if (i >= r.n) break;
      Vector w, b, out;
      if (weight) w = *reinterpret_cast<const Vector*>(weight + i);
      if (bias) b = *reinterpret_cast<const Vector*>(bias + i);
#pragma unroll
      for (int j = 0; j < V; ++j) out.v[j] = narrow<T>(scaled(widen(r.kept[k].v[j]), w.v[j], b.v[j]));
      put_row(y, i, out);
    }
  }
}

/// The tensor at place i where there is one.
template <class T>
T* pointer(const TensorView* v, int n, int i) {
  return i < n && v[i].present() ? v[i].ptr<T>() : nullptr;
}
/// layer_norm's and rms_norm's operands but the first.
template <bool centered, class T>
struct NormOperands {
  using C = Compute<T>;
  const T *weight, *bias;
  C *mean, *rstd;
  explicit NormOperands(const KernelArgs& a)
      : weight(pointer<T>(a.in, a.n_in, 1)),
        bias(centered ? pointer<T>(a.in, a.n_in, 2) : nullptr),
        mean(centered ? pointer<C>(a.out, a.n_out, 1) : nullptr),
        rstd(pointer<C>(a.out, a.n_out, centered ? 2 : 1)) {}
  template <class Whole>
  __device__ void keep(int64_t row, const Whole& whole) const {
    if (rstd) rstd[row] = whole.rstd;
    if (mean) mean[row] = whole.mean;
  }
  /// Whether all that is read or written in vectors is aligned to them.
  bool aligned(const KernelArgs& a) const {
    return aligned16(a.in[0]) && aligned16(a.out[0]) && reinterpret_cast<uintptr_t>(weight) % 16 == 0 &&
           reinterpret_cast<uintptr_t>(bias) % 16 == 0;
  }
};

}  // namespace keel::cuda
