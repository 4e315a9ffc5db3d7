#pragma once
// The one driver of elementwise kernels: dense operands go 16 bytes a thread, all others element by element with strides. Numbers are
// passed by value.
#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "backend/cuda/kernel.h"
#include "backend/cuda/layout.h"
#include "backend/cuda/scalar.cuh"
#include "backend/cuda/stats.cuh"

namespace keel::cuda {

inline constexpr int kThreads = 256;

/// An operand: elements, or one element for all (`p` null: `value`).
template <class T>
struct Source {
  const T* p;
  T value;
  bool one;
  __device__ T at(int64_t i) const { return p ? p[one ? 0 : i] : value; }
};

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
  } else {
    for (int64_t k = i; k < n; ++k) y[k] = f(in.at(k)...);
  }
}

/// Functions whose results are watched while they are written, where a board wants them; the others by a pass.
template <class F>
inline constexpr bool kWatched = false;

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

/// A Walk as the device reads it.
template <int N>
struct DeviceWalk {
  int rank;
  bool wide;  // more elements than FastDivisor counts
  FastDivisor by[kMaxRank];
  int64_t stride[N][kMaxRank];
  int64_t extent[kMaxRank];

  DeviceWalk(const Walk<N>& w, int64_t n) : rank(w.rank), wide(n >= INT32_MAX) {
    for (int i = 0; i < rank; ++i) {
      extent[i] = w.extent[i];
      if (!wide) by[i] = FastDivisor(uint32_t(extent[i]));
      for (int j = 0; j < N; ++j) stride[j][i] = w.stride[j][i];
    }
  }
};

template <int N>
__device__ __forceinline__ void offsets_of(const DeviceWalk<N>& w, int64_t i, int64_t (&at)[N]) {
#pragma unroll
  for (int j = 0; j < N; ++j) at[j] = 0;
#pragma unroll
  for (int k = 0; k < kMaxRank; ++k) {
    if (k == w.rank) break;
    int64_t r;
    if (w.wide) {
      r = i % w.extent[k], i /= w.extent[k];
    } else {
      uint32_t n = uint32_t(i);
      r = rest_of(n, w.by[k]), i = n;
    }
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

template <class T>
Source<T> source_of(const TensorView& v, bool one) {
  Source<T> s{v.on_host ? nullptr : v.ptr<T>(), T{}, one};
  if (v.on_host) std::memcpy(&s.value, v.data, sizeof(T));
  return s;
}

/// Kernels without statistics of their own have no slot here, and get a pass from whoever called them.
inline KernelStatus then_watch(const KernelArgs& a, const KernelStatus& s) { return s.code || !board_slot(a, 0) ? s : watch(a); }

template <class Out, class... In, class F, size_t... j>
KernelStatus pointwise_on(const KernelArgs& a, F f, const std::array<int, sizeof...(In)>& order, std::index_sequence<j...>) {
  constexpr int N = 1 + int(sizeof...(In)), V = 16 / int(std::max({sizeof(Out), sizeof(In)...}));
  const int64_t n = a.out[0].size();
  if (n == 0) return {};
  const TensorView* const views[N] = {&a.out[0], &a.in[order[j]]...};
  const Walk<N> w(views);
  use(a.device);
  const auto aligned = [](const TensorView& v, size_t bytes) { return reinterpret_cast<uintptr_t>(v.data) % (V * bytes) == 0; };
  if (w.dense(0) && aligned(a.out[0], sizeof(Out)) &&
      (true && ... && (w.constant(j + 1) || (w.dense(j + 1) && aligned(*views[j + 1], sizeof(In)))))) {
    const auto blocks = unsigned(ceil_div(n, int64_t(kThreads) * V));
    if constexpr (kWatched<F> && kTallied<Out>)
      if (BoardSlot* const slot = board_slot(a, 0)) {
        return start<pointwise_watched<V, F, Out, In...>>(a, std::min(blocks, 32u * unsigned(processors(a.device))), kThreads, f, n, slot,
                                                          a.out[0].ptr<Out>(), source_of<In>(*views[j + 1], w.constant(j + 1))...);
      }
    return then_watch(a, start<pointwise_dense<V, F, Out, In...>>(a, blocks, kThreads, f, n, a.out[0].ptr<Out>(),
                                                                  source_of<In>(*views[j + 1], w.constant(j + 1))...));
  }
  bool packs = w.rank > 0 && w.stride[0][0] == 1 && w.extent[0] % V == 0 && aligned(a.out[0], sizeof(Out)) &&
               (true && ... && (w.constant(j + 1) || w.stride[j + 1][0] == 0 || aligned(*views[j + 1], sizeof(In))));
  for (int k = 0; k < N && packs; ++k) {
    packs = w.stride[k][0] == 0 || w.stride[k][0] == 1;
    for (int i = 1; i < w.rank; ++i) packs = packs && (w.stride[k][0] == 0 || w.stride[k][i] % V == 0);
  }
  if (packs) {
    return then_watch(
        a, start<pointwise_rows<V, F, Out, In...>>(a, unsigned(ceil_div(n, int64_t(kThreads) * V)), kThreads, f, n, DeviceWalk<N>(w, n),
                                                   a.out[0].ptr<Out>(), source_of<In>(*views[j + 1], w.constant(j + 1))...));
  }
  return then_watch(a, start<pointwise_strided<F, Out, In...>>(a, unsigned(ceil_div(n, kThreads)), kThreads, f, n, DeviceWalk<N>(w, n),
                                                               a.out[0].ptr<Out>(), source_of<In>(*views[j + 1], w.constant(j + 1))...));
}

/// y[i] = f(in[order[0]][i], in[order[1]][i], ...) with broadcasting; `Out` and `In` are the operands' types in memory.
template <class Out, class... In, class F>
KernelStatus pointwise_of(const KernelArgs& a, F f, const std::array<int, sizeof...(In)>& order) {
  return pointwise_on<Out, In...>(a, f, order, std::make_index_sequence<sizeof...(In)>());
}

/// The same on inputs 0, 1, ... in order.
template <class Out, class... In, class F>
KernelStatus pointwise(const KernelArgs& a, F f) {
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

/// y = f(x), y = f(x, z): all of one dtype out of the list `Types`.
template <class Types, class F>
KernelStatus unary(const KernelArgs& a, F f) {
  KernelStatus s;
  Types::call(a.out[0].dtype, [&](auto t) {
    using T = decltype(t);
    s = pointwise<T, T>(a, Lifted<T, F>{f});
  });
  return s;
}
template <class Types, class F>
KernelStatus binary(const KernelArgs& a, F f) {
  KernelStatus s;
  Types::call(a.out[0].dtype, [&](auto t) {
    using T = decltype(t);
    s = pointwise<T, T, T>(a, Lifted<T, F>{f});
  });
  return s;
}

}  // namespace keel::cuda
