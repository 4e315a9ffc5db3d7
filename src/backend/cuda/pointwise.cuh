#pragma once
// Elementwise kernels: dense operands go 16 bytes a thread, rows of them too, all others element by element with strides. Numbers are
// passed by value. Which kernel a call gets is chosen in pointwise.cpp, once for all functions and types.
#include <algorithm>
#include <array>
#include <cstddef>
#include <utility>

#include "backend/cuda/kernel.h"
#include "backend/cuda/layout.h"
#include "backend/cuda/pointwise.h"
#include "backend/cuda/scalar.cuh"
#include "backend/cuda/stats.cuh"

namespace keel::cuda {

/// An operand: elements, or one element for all (`p` null: `value`).
template <class T>
struct Source {
  const T* p;
  T value;
  bool one;
  __device__ T at(int64_t i) const { return p ? p[one ? 0 : i] : value; }
};
/// Whether the host writes it as AnySource does.
template <class T>
inline constexpr bool kUsualSource = offsetof(Source<T>, value) == AnySource::value_at(sizeof(T)) &&
                                     offsetof(Source<T>, one) == AnySource::one_at(sizeof(T)) && sizeof(Source<T>) <= sizeof(AnySource);

template <int V, class T>
__device__ __forceinline__ Pack<T, V> load_pack(const Source<T>& s, int64_t i) {
  if (s.p && !s.one) return *reinterpret_cast<const Pack<T, V>*>(s.p + i);
  Pack<T, V> all;
  const T value = s.at(0);
#pragma unroll
  for (int k = 0; k < V; ++k) all.v[k] = value;
  return all;
}

template <int V, class F, class Out, class... In>
__global__ void __launch_bounds__(kThreads) pointwise_dense(F f, int64_t n, Out* y, Source<In>... in) {
  const int64_t i = (int64_t(blockIdx.x) * kThreads + threadIdx.x) * V;
  if (i + V <= n) {
    Pack<Out, V> out;
    [&](Pack<In, V>... x) {
#pragma unroll
      for (int k = 0; k < V; ++k) out.v[k] = f(x.v[k]...);
    }(load_pack<V>(in, i)...);
    *reinterpret_cast<Pack<Out, V>*>(y + i) = out;
  } else {  // the last few
#pragma unroll 1
    for (int64_t k = i; k < n; ++k) y[k] = f(in.at(k)...);
  }
}

/// Functions whose results are watched while they are written, where a board wants them; the others by a pass.
template <class F>
inline constexpr bool kWatched = false;
/// Whether there is a kernel for rows in packs: two numbers of f64 a pack are not worth one.
template <class... T>
inline constexpr bool kRowsInPacks = !(std::is_same_v<T, double> || ...);

/// The same with statistics. Few blocks, each of which goes over many packs, so that few meet at the slot.
template <int V, class F, class Out, class... In>
__global__ void __launch_bounds__(kThreads) pointwise_watched(F f, int64_t n, BoardSlot* slot, Out* y, Source<In>... in) {
  Tally<Out> seen;
  for (int64_t i = (int64_t(blockIdx.x) * kThreads + threadIdx.x) * V; i < n; i += int64_t(gridDim.x) * kThreads * V) {
    if (i + V <= n) {
      Pack<Out, V> out;
      [&](Pack<In, V>... x) {
#pragma unroll
        for (int k = 0; k < V; ++k) out.v[k] = f(x.v[k]...);
      }(load_pack<V>(in, i)...);
      *reinterpret_cast<Pack<Out, V>*>(y + i) = out;
      seen.take(out.v);
    } else {
#pragma unroll 1
      for (int64_t k = i; k < n; ++k) {
        const Out one = f(in.at(k)...);
        y[k] = one;
        seen.take(one);
      }
    }
  }
  seen.post(slot);
}

__device__ __forceinline__ uint32_t quotient_of(uint32_t n, const FastDivisor& by) { return (__umulhi(n, by.m) + n) >> by.s; }
/// The remainder of n, which becomes the quotient.
__device__ __forceinline__ uint32_t rest_of(uint32_t& n, const FastDivisor& by) {
  const uint32_t q = quotient_of(n, by), r = n - q * by.d;
  return n = q, r;
}

template <int N>
__device__ __forceinline__ void offsets_of(const DeviceWalk<N>& w, int64_t i, int64_t (&at)[N]) {
#pragma unroll
  for (int j = 0; j < N; ++j) at[j] = 0;
  if (w.wide) {  // seldom: one turn of the loop in the program for all axes
#pragma unroll 1
    for (int k = 0; k < w.rank; ++k) {
      const int64_t r = i % w.extent[k];
      i /= w.extent[k];
#pragma unroll
      for (int j = 0; j < N; ++j) at[j] += r * w.stride[j][k];
    }
    return;
  }
  uint32_t n = uint32_t(i);
#pragma unroll
  for (int k = 0; k < kMaxRank; ++k) {
    if (k == w.rank) break;
    const int64_t r = rest_of(n, w.by[k]);
#pragma unroll
    for (int j = 0; j < N; ++j) at[j] += r * w.stride[j][k];
  }
}

template <class F, class Out, int N, size_t... j, class... In>
__device__ __forceinline__ void put_at(const F& f, Out* y, const int64_t (&at)[N], std::index_sequence<j...>, const Source<In>&... in) {
  y[at[0]] = f(in.at(at[j + 1])...);
}

template <class F, class Out, class... In>
__global__ void __launch_bounds__(kThreads) pointwise_strided(F f, int64_t n, DeviceWalk<1 + sizeof...(In)> w, Out* y, Source<In>... in) {
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= n) return;
  int64_t at[1 + sizeof...(In)];
  offsets_of(w, i, at);
  put_at(f, y, at, std::make_index_sequence<sizeof...(In)>(), in...);
}

/// Operands whose innermost axis is dense or constant, V elements a thread.
template <int V, class F, class Out, int N, size_t... j, class... In>
__device__ __forceinline__ void put_pack(const F& f, Out* y, const int64_t (&at)[N], const bool (&rows)[N], std::index_sequence<j...>,
                                         const Source<In>&... in) {
  Pack<Out, V> out;
  [&](Pack<In, V>... x) {
#pragma unroll
    for (int k = 0; k < V; ++k) out.v[k] = f(x.v[k]...);
  }(load_pack<V>(Source<In>{in.p ? in.p + at[j + 1] : nullptr, in.value, !rows[j + 1]}, 0)...);
  *reinterpret_cast<Pack<Out, V>*>(y + at[0]) = out;
}
template <int V, class F, class Out, class... In>
__global__ void __launch_bounds__(kThreads) pointwise_rows(F f, int64_t n, DeviceWalk<1 + sizeof...(In)> w, Out* y, Source<In>... in) {
  const int64_t i = (int64_t(blockIdx.x) * kThreads + threadIdx.x) * V;
  if (i >= n) return;
  int64_t at[1 + sizeof...(In)];
  offsets_of(w, i, at);
  bool rows[1 + sizeof...(In)];
#pragma unroll
  for (int j = 0; j < 1 + int(sizeof...(In)); ++j) rows[j] = w.stride[j][0] == 1;
  put_pack<V>(f, y, at, rows, std::make_index_sequence<sizeof...(In)>(), in...);
}

template <auto kernel>
PointwiseKernels::Form form_of() {
  return {reinterpret_cast<const void*>(kernel), &handles_of<kernel>};
}

/// y[i] = f(in[order[0]][i], in[order[1]][i], ...) with broadcasting; `Out` and `In` are the operands' types in memory.
template <class Out, class... In, class F>
KernelStatus pointwise_of(const KernelArgs& a, const F& f, const std::array<int, sizeof...(In)>& order) {
  constexpr int V = 16 / int(std::max({sizeof(Out), sizeof(In)...}));
  static constexpr uint8_t sizes[] = {sizeof(Out), sizeof(In)...};
  static_assert((true && ... && kUsualSource<In>));
  PointwiseKernels k{V, sizes};
  k.dense = form_of<pointwise_dense<V, F, Out, In...>>();
  if constexpr (kWatched<F> && kTallied<Out>) k.watched = form_of<pointwise_watched<V, F, Out, In...>>();
  if constexpr (kRowsInPacks<Out, In...>) k.rows = form_of<pointwise_rows<V, F, Out, In...>>();
  k.strided = form_of<pointwise_strided<F, Out, In...>>();
  const TensorView* operands[1 + sizeof...(In)] = {&a.out[0]};
  for (int i = 0; i < int(sizeof...(In)); ++i) operands[1 + i] = &a.in[order[i]];
  return start_pointwise(a, k, &f, operands, 1 + int(sizeof...(In)));
}

/// The same on inputs 0, 1, ... in order.
template <class Out, class... In, class F>
KernelStatus pointwise(const KernelArgs& a, const F& f) {
  std::array<int, sizeof...(In)> order;
  for (int i = 0; i < int(sizeof...(In)); ++i) order[i] = i;
  return pointwise_of<Out, In...>(a, f, order);
}

/// What kernels of this kind have in common.
inline KernelDef& pointwise_def(KernelDef& k, DTypeSet dtypes) {
  return k.dtypes(dtypes).inputs(Layout::strided).outputs(Layout::like_inputs).inplace();
}

template <class T, class F>
inline constexpr bool kWatched<Lifted<T, F>> = kWatched<F>;

template <class T, size_t>
using Each = T;
/// y = f(in[0], ..., in[n - 1]): all of one dtype out of the list `Types`, in whose compute type f works.
template <class Types, int n, class F>
KernelStatus lifted(const KernelArgs& a, const F& f) {
  KernelStatus s;
  Types::call(a.out[0].dtype, [&]<class T>(T) {
    s = [&]<size_t... i>(std::index_sequence<i...>) { return pointwise<T, Each<T, i>...>(a, Lifted<T, F>{f}); }
    (std::make_index_sequence<n>());
  });
  return s;
}
template <class Types, class F>
KernelStatus unary(const KernelArgs& a, const F& f) {
  return lifted<Types, 1>(a, f);
}
template <class Types, class F>
KernelStatus binary(const KernelArgs& a, const F& f) {
  return lifted<Types, 2>(a, f);
}
/// Output `i` alone, where an op has several: they are written one after the other.
template <int n, class F>
KernelStatus lifted_for(const KernelArgs& a, int i, const F& f) {
  KernelArgs one = a;
  one.out = a.out + i, one.n_out = 1;
  return lifted<Floats, n>(one, f);
}
/// What kernels have in common whose results may not lie where an input does: several, or of another type.
inline KernelDef& apart_def(KernelDef& k) { return k.dtypes(kinds::floating).inputs(Layout::strided).outputs(Layout::like_inputs); }

}  // namespace keel::cuda
