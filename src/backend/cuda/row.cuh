#pragma once
// A row in the hands of a warp or a block, and what is computed of whole rows: kernels of single ops are made of these, and so are those of
// chains. Standard headers stay out.
#include "backend/cuda/math.cuh"

namespace keel::cuda {

struct SumOf {
  template <class C>
  __device__ C operator()(C a, C b) const {
    return a + b;
  }
};
/// NaN wins.
struct MaxOf {
  __device__ float operator()(float a, float b) const {
    float most;
    asm("max.NaN.f32 %0, %1, %2;" : "=f"(most) : "f"(a), "f"(b));
    return most;
  }
  __device__ double operator()(double a, double b) const { return a != a ? a : b != b ? b : a > b ? a : b; }
};

/// The same value in all `G` threads of a row; `start` is neutral. Every thread of the block calls it.
template <int G, class C, class F>
__device__ __forceinline__ C row_combine(C v, C start, F f) {
#pragma unroll
  for (int d = 16; d; d >>= 1) v = f(v, __shfl_xor_sync(~0u, v, d));
  if constexpr (G == 32) {
    return v;
  } else {
    __shared__ C warps[32];
    __syncthreads();  // the last round's values have been read
    if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = v;
    __syncthreads();
    v = threadIdx.x % 32 < G / 32 ? warps[threadIdx.x % 32] : start;
#pragma unroll
    for (int d = 16; d; d >>= 1) v = f(v, __shfl_xor_sync(~0u, v, d));
    return v;
  }
}

template <class T>
__device__ __forceinline__ void put_row(T* y, int64_t i, T v) {
  y[i] = v;
}
template <class T, int V>
__device__ __forceinline__ void put_row(T* y, int64_t i, const Pack<T, V>& v) {
  *reinterpret_cast<Pack<T, V>*>(y + i) = v;
}
/// Row `row` of a dense matrix with `n` columns, spread over `G` threads: `each(i, value)` visits this thread's elements. With P > 0 up
/// to P packs of 16 bytes a thread are kept in registers; with P = 0 elements are read at every visit.
template <class T, int G, int P>
struct RowOf {
  using C = Compute<T>;
  static constexpr int V = 16 / int(sizeof(T));
  const T* x;
  int64_t n;
  int lane;
  Pack<T, V> kept[P ? P : 1];

  __device__ RowOf(const T* base, int64_t row, int64_t columns) : x(base + row * columns), n(columns), lane(int(threadIdx.x) % G) {
#pragma unroll
    for (int k = 0; k < P; ++k) {
      const int64_t i = (int64_t(k) * G + lane) * V;
      if (i < n) kept[k] = *reinterpret_cast<const Pack<T, V>*>(x + i);
    }
  }
  /// A row that the caller puts into `kept`.
  __device__ RowOf(int64_t columns, int my_lane) : x(nullptr), n(columns), lane(my_lane) {}
  /// f(i, value, values of `others`...) for this thread's elements; other rows lie alike.
  template <class F, class... R>
  __device__ __forceinline__ void each(F f, const R&... others) const {
    if constexpr (P == 0) {
      for (int64_t i = lane; i < n; i += G) f(i, widen(x[i]), widen(others.x[i])...);
    } else {
#pragma unroll
      for (int k = 0; k < P; ++k) {
        const int64_t i = (int64_t(k) * G + lane) * V;
        if (i >= n) break;
#pragma unroll
        for (int j = 0; j < V; ++j) f(i + j, widen(kept[k].v[j]), widen(others.kept[k].v[j])...);
      }
    }
  }
  /// f(value) takes the place of each of this thread's elements, which are kept and compute in their own type.
  template <class F>
  __device__ __forceinline__ void replace(F f) {
    static_assert(P > 0 && std::is_same_v<T, C>);
#pragma unroll
    for (int k = 0; k < P; ++k) {
      if ((int64_t(k) * G + lane) * V >= n) break;
#pragma unroll
      for (int j = 0; j < V; ++j) kept[k].v[j] = f(kept[k].v[j]);
    }
  }
  /// y[i] = f(i, value, values of `others`...) for this thread's elements.
  template <class Y, class F, class... R>
  __device__ __forceinline__ void write(Y y, F f, const R&... others) const {
    if constexpr (P == 0) {
      for (int64_t i = lane; i < n; i += G) put_row(y, i, narrow<T>(f(i, widen(x[i]), widen(others.x[i])...)));
    } else {
#pragma unroll
      for (int k = 0; k < P; ++k) {
        const int64_t i = (int64_t(k) * G + lane) * V;
        if (i >= n) break;
        Pack<T, V> out;
#pragma unroll
        for (int j = 0; j < V; ++j) out.v[j] = narrow<T>(f(i + j, widen(kept[k].v[j]), widen(others.kept[k].v[j])...));
        put_row(y, i, out);
      }
    }
  }
};

/// softmax and log_softmax of a row. `safe`: zeros for a row of -inf.
template <bool logarithm, bool safe = false>
struct SoftmaxOf {
  template <class C>
  static __device__ C base_of(C top) {
    return safe && top == C(-INFINITY) ? C(0) : top;
  }
  template <class C>
  static __device__ C divisor_of(C sum) {
    return safe && sum == 0 ? C(1) : sum;
  }
  template <class C>
  struct Whole {
    C top, sum, rest;  // rest: the sum's logarithm, or its inverse
  };
  template <class T, int G, int P>
  static __device__ __forceinline__ Compute<T> top_of(const RowOf<T, G, P>& r) {
    using C = Compute<T>;
    C top = -INFINITY;
    r.each([&](int64_t, C v) { top = MaxOf()(top, v); });
    return base_of(row_combine<G>(top, C(-INFINITY), MaxOf()));
  }
  template <class C>
  static __device__ __forceinline__ Whole<C> whole_of(C top, C sum) {
    sum = divisor_of(sum);
    return {top, sum, logarithm ? log_of(sum) : quotient(C(1), sum)};
  }
  template <class T, int G, int P>
  static __device__ __forceinline__ Whole<Compute<T>> gather(const RowOf<T, G, P>& r) {
    using C = Compute<T>;
    const C top = top_of(r);
    C sum = 0;
    r.each([&](int64_t, C v) { sum += exp_of(v - top); });
    return whole_of(top, row_combine<G>(sum, C(0), SumOf()));
  }
  /// The same where exponentials take the place of elements; `share` makes results of them.
  template <class T, int G, int P>
  static __device__ __forceinline__ Whole<T> gather_exponentials(RowOf<T, G, P>& r) {
    const T top = top_of(r);
    T sum = 0;
    r.replace([&](T v) {
      const T e = exp_of(v - top);
      sum += e;
      return e;
    });
    return whole_of(top, row_combine<G>(sum, T(0), SumOf()));
  }
  template <class C>
  static __device__ __forceinline__ C share(const Whole<C>& w, C e) {
    return quotient(e, w.sum, w.rest);
  }
  template <class C>
  static __device__ __forceinline__ C value(const Whole<C>& w, C v) {
    return logarithm ? (v - w.top) - w.rest : share(w, exp_of(v - w.top));
  }
};
/// Their gradients, from the gradient of the result and the result.
template <bool logarithm>
struct SoftmaxBackwardOf {
  template <class C>
  static __device__ C term(C g, C y) {
    return logarithm ? g : g * y;
  }
  template <class C>
  static __device__ C gradient(C g, C y, C sum) {
    return logarithm ? g - exp_of(y) * sum : y * (g - sum);
  }
  template <class T, int G, int P>
  static __device__ __forceinline__ Compute<T> gather(const RowOf<T, G, P>& g, const RowOf<T, G, P>& y) {
    using C = Compute<T>;
    C sum = 0;
    g.each([&](int64_t, C a, C b) { sum += term(a, b); }, y);
    return row_combine<G>(sum, C(0), SumOf());
  }
  template <class C>
  static __device__ __forceinline__ C value(C sum, C g, C y) {
    return gradient(g, y, sum);
  }
};

/// layer_norm (centered) and rms_norm of a row.
template <bool centered>
struct NormOf {
  template <class C>
  struct Whole {
    C mean, rstd;
  };
  template <class T, int G, int P>
  static __device__ __forceinline__ Whole<Compute<T>> gather(const RowOf<T, G, P>& r, double eps) {
    using C = Compute<T>;
    C m = 0, square = 0;
    if (centered) {
      r.each([&](int64_t, C v) { m += v; });
      m = row_combine<G>(m, C(0), SumOf()) / C(r.n);
    }
    r.each([&](int64_t, C v) { square += (v - m) * (v - m); });
    square = row_combine<G>(square, C(0), SumOf()) / C(r.n);
    return {m, C(1) / root_of(square + C(eps))};
  }
  template <class C>
  static __device__ __forceinline__ C value(const Whole<C>& w, C v) {
    return (v - w.mean) * w.rstd;
  }
  template <class C>
  static __device__ __forceinline__ C value(const Whole<C>& w, C v, C weight) {
    return value(w, v) * weight;
  }
  template <class C>
  static __device__ __forceinline__ C value(const Whole<C>& w, C v, C weight, C bias) {
    return value(w, v, weight) + bias;
  }
  /// Further results of the ops.
  template <class C>
  static __device__ __forceinline__ C part(const Whole<C>& w, int i) {
    return centered && i == 1 ? w.mean : w.rstd;
  }
};

}  // namespace keel::cuda
