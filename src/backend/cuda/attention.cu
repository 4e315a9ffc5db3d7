// Attention and its gradient by tiles (Dao et al., FlashAttention, 2022): scores never leave the chip, and the gradient makes them again
// from the logarithm of each row's sum. Products are plain FMA of the compute type. What cuDNN's engines take, on tensor cores, they run.
#include "keel/ops/attention.h"

#include "backend/cuda/cudnn_attention.h"
#include "backend/cuda/math.cuh"
#include "backend/cuda/pointwise.cuh"

using namespace keel;
using namespace keel::cuda;

namespace {

/// [batch, heads, positions, width] by strides, of any dtype that computes in C. Kernels know C alone: of which dtype elements are is asked
/// once a tile.
template <class C>
struct Heads {
  void* p;
  DType dtype;
  int64_t stride[4];
  explicit Heads(const TensorView& v) : p(v.data), dtype(v.dtype) {
    for (int i = 0; i < 4; ++i) stride[i] = v.stride(i);
  }
  /// f(pointer to the first element of a head).
  template <class F>
  __device__ __forceinline__ void with_head(int64_t b, int64_t h, F f) const {
    const int64_t at = b * stride[0] + h * stride[1];
    if constexpr (std::is_same_v<C, double>)
      f(static_cast<double*>(p) + at);
    else if (dtype == DType::f32)
      f(static_cast<float*>(p) + at);
    else if (dtype == DType::f16)
      f(static_cast<half*>(p) + at);
    else
      f(static_cast<bfloat*>(p) + at);
  }
};
/// What each query sees, broadcast by stride 0.
struct Mask {
  const void* p = nullptr;
  DType dtype = DType::none;
  int64_t stride[4] = {};
  Mask() = default;
  explicit Mask(const TensorView& v) : p(v.data), dtype(v.dtype) {
    for (int i = 0; i < v.rank(); ++i) stride[4 - v.rank() + i] = v.dim(i) == 1 ? 0 : v.stride(i);
  }
  /// f(read), where read(offset) is what is added to a score.
  template <class C, class F>
  __device__ __forceinline__ void with_values(F f) const {
    switch (dtype) {
      case DType::boolean: return f([m = static_cast<const bool*>(p)](int64_t i) { return m[i] ? C(0) : C(-INFINITY); });
      case DType::f64: return f([m = static_cast<const double*>(p)](int64_t i) { return C(m[i]); });
      case DType::f32: return f([m = static_cast<const float*>(p)](int64_t i) { return C(m[i]); });
      case DType::f16: return f([m = static_cast<const half*>(p)](int64_t i) { return C(widen(m[i])); });
      default: return f([m = static_cast<const bfloat*>(p)](int64_t i) { return C(widen(m[i])); });
    }
  }
};
struct Sizes {
  int64_t b, heads, kv_heads, t, s;
  int d, dv;
  bool causal;
  double scale;
  Mask mask;
  Sizes(const KernelArgs& a, int q, int mask_at) {
    const auto& p = a.get<AttentionParams>();
    b = a.in[q].dim(0), heads = a.in[q].dim(1), t = a.in[q].dim(2), d = int(a.in[q].dim(3));
    kv_heads = a.in[q + 1].dim(1), s = a.in[q + 1].dim(2), dv = int(a.in[q + 2].dim(3));
    causal = p.causal, scale = p.factor(d);
    if (a.n_in > mask_at && a.in[mask_at].present()) mask = Mask(a.in[mask_at]);
  }
};

/// Tiles of kTile queries by kTile keys; 16 by 16 threads, each with every 16th row and column.
template <class C, int D>
struct Tiles {
  // Of f32, four neighbours of a row are read at once: rows are four apart then, so that those of neighbouring threads meet different banks.
  static constexpr int kAtOnce = sizeof(C) == 8 ? 1 : 4;
  static constexpr int kTile = sizeof(C) == 8 ? 32 : 64, kEach = kTile / 16, kWide = D / 16, kRow = D + kAtOnce, kScore = kTile + kAtOnce;
  using Few = Pack<C, kAtOnce>;
  static __device__ const Few& few(const C* p) { return *reinterpret_cast<const Few*>(p); }
  static constexpr size_t kMatrix = size_t(kTile) * kRow * sizeof(C), kScores = size_t(kTile) * kScore * sizeof(C);

  /// to[kTile][kRow] = rows [from, from + kTile) of a head, zeros outside.
  static __device__ void load(C* to, const Heads<C>& x, int64_t b, int64_t h, int64_t from, int64_t rows, int width) {
    x.with_head(b, h, [&]<class T>(const T* head) {
      constexpr int kUnrolled = sizeof(T) < sizeof(C) ? 1 : 4;  // 16-bit floats come here only where cuDNN does not take them
#pragma unroll kUnrolled
      for (int i = int(threadIdx.x); i < kTile * D; i += kThreads) {
        const int r = i / D, c = i % D;
        to[r * kRow + c] = from + r < rows && c < width ? widen(head[(from + r) * x.stride[2] + c * x.stride[3]]) : C(0);
      }
    });
  }
  /// out[a][b] = x[row a] . y[row b]
  static __device__ void products(const C* x, const C* y, int width, C (&out)[kEach][kEach]) {
    const int row = int(threadIdx.x) / 16, column = int(threadIdx.x) % 16;
#pragma unroll
    for (int a = 0; a < kEach; ++a)
#pragma unroll
      for (int b = 0; b < kEach; ++b) out[a][b] = 0;
    for (int k = 0; k < width; k += kAtOnce) {  // beyond the width are zeros
      Few u[kEach], v[kEach];
#pragma unroll
      for (int a = 0; a < kEach; ++a) u[a] = few(x + (row + 16 * a) * kRow + k), v[a] = few(y + (column + 16 * a) * kRow + k);
#pragma unroll
      for (int j = 0; j < kAtOnce; ++j)
#pragma unroll
        for (int a = 0; a < kEach; ++a)
#pragma unroll
          for (int b = 0; b < kEach; ++b) out[a][b] = fma(u[a].v[j], v[b].v[j], out[a][b]);
    }
  }
  /// out[a][c] += sum over k of m[row a][k] x[k][column c], or of m[k][row a] with `turned`.
  template <bool turned>
  static __device__ void add(const C* m, const C* x, C (&out)[kEach][kWide]) {
    const int row = int(threadIdx.x) / 16, column = int(threadIdx.x) % 16;
    for (int from = 0; from < kTile; from += kAtOnce) {
      Few u[kEach];
#pragma unroll
      for (int a = 0; a < kEach; ++a)
        if constexpr (turned) {
#pragma unroll
          for (int j = 0; j < kAtOnce; ++j) u[a].v[j] = m[(from + j) * kScore + row + 16 * a];
        } else {
          u[a] = few(m + (row + 16 * a) * kScore + from);
        }
#pragma unroll
      for (int j = 0; j < kAtOnce; ++j)
#pragma unroll
        for (int c = 0; c < kWide; ++c) {
          const C v = x[(from + j) * kRow + column + 16 * c];
#pragma unroll
          for (int a = 0; a < kEach; ++a) out[a][c] = fma(u[a].v[j], v, out[a][c]);
        }
    }
  }
  /// Rows [from, from + kTile) of a head = v by.
  static __device__ void put(const Heads<C>& y, int64_t b, int64_t h, int64_t from, int64_t rows, int width, const C (&v)[kEach][kWide],
                             C by) {
    const int first = int(threadIdx.x) / 16, column = int(threadIdx.x) % 16;
    y.with_head(b, h, [&]<class T>(T* head) {
#pragma unroll
      for (int a = 0; a < kEach; ++a)
#pragma unroll
        for (int c = 0; c < kWide; ++c)
          if (from + first + 16 * a < rows && column + 16 * c < width)
            head[(from + first + 16 * a) * y.stride[2] + (column + 16 * c) * y.stride[3]] = narrow<T>(v[a][c] * by);
    });
  }
  /// to[row][column] = what the mask adds to this thread's scores of a tile, which nobody else reads.
  static __device__ void put_mask(const Sizes& z, int64_t b, int64_t h, int64_t from, int64_t at, C* to) {
    const int row = int(threadIdx.x) / 16, column = int(threadIdx.x) % 16;
    const int64_t head = b * z.mask.stride[0] + h * z.mask.stride[1];
    z.mask.with_values<C>([&](auto read) {
#pragma unroll 4
      for (int i = 0; i < kEach * kEach; ++i) {
        const int r = row + i / kEach * 16, c = column + i % kEach * 16;
        if (from + r < z.t && at + c < z.s) to[r * kScore + c] = read(head + (from + r) * z.mask.stride[2] + (at + c) * z.mask.stride[3]);
      }
    });
  }
  /// The score with its mask; -inf where the query does not see the key.
  static __device__ C score(const Sizes& z, C product, const C& mask, int64_t t, int64_t s) {
    if (t >= z.t || s >= z.s || (z.causal && s > t + z.s - z.t)) return C(-INFINITY);
    const C v = product * C(z.scale);
    return z.mask.p ? v + mask : v;
  }
};

template <class C>
__device__ __forceinline__ C over_16(C v, bool maximum) {
#pragma unroll
  for (int d = 8; d; d >>= 1) {
    const C o = __shfl_xor_sync(~0u, v, d);
    v = maximum ? (v != v ? v : o != o ? o : v > o ? v : o) : v + o;
  }
  return v;
}

/// A block makes kTile rows of y: the grid is (tiles, heads, batch).
template <class C, int D>
__global__ void __launch_bounds__(kThreads) forward_kernel(Sizes z, Heads<C> q, Heads<C> k, Heads<C> v, Heads<C> y, C* lse) {
  using S = Tiles<C, D>;
  extern __shared__ __align__(16) unsigned char room[];
  C *tq = reinterpret_cast<C*>(room), *tk = tq + S::kTile * S::kRow, *tv = tk + S::kTile * S::kRow, *tp = tv + S::kTile * S::kRow;
  const int64_t b = blockIdx.z, h = blockIdx.y, kv = h / (z.heads / z.kv_heads), from = int64_t(blockIdx.x) * S::kTile;
  const int row = int(threadIdx.x) / 16, column = int(threadIdx.x) % 16;
  S::load(tq, q, b, h, from, z.t, z.d);
  C out[S::kEach][S::kWide] = {}, top[S::kEach], sum[S::kEach];
#pragma unroll
  for (int a = 0; a < S::kEach; ++a) top[a] = C(-INFINITY), sum[a] = 0;
  const int64_t last = z.causal ? from + S::kTile + z.s - z.t : z.s, end = last < z.s ? last : z.s;
  for (int64_t at = 0; at < end; at += S::kTile) {
    __syncthreads();
    S::load(tk, k, b, kv, at, z.s, z.d);
    S::load(tv, v, b, kv, at, z.s, z.dv);
    __syncthreads();
    C p[S::kEach][S::kEach];
    if (z.mask.p) S::put_mask(z, b, h, from, at, tp);
    S::products(tq, tk, z.d, p);
#pragma unroll
    for (int a = 0; a < S::kEach; ++a) {
      C most = C(-INFINITY);
#pragma unroll
      for (int c = 0; c < S::kEach; ++c) {
        p[a][c] = S::score(z, p[a][c], tp[(row + 16 * a) * S::kScore + column + 16 * c], from + row + 16 * a, at + column + 16 * c);
        most = most != most ? most : p[a][c] != p[a][c] || p[a][c] > most ? p[a][c] : most;
      }
      most = over_16(most, true);
      const C now = top[a] != top[a]                ? top[a]
                    : most != most || most > top[a] ? most
                                                    : top[a],
              base = now == C(-INFINITY) ? C(0) : now, keep = exp_of(top[a] - base);
      C part = 0;
#pragma unroll
      for (int c = 0; c < S::kEach; ++c) {
        p[a][c] = exp_of(p[a][c] - base), part += p[a][c];
        tp[(row + 16 * a) * S::kScore + column + 16 * c] = p[a][c];
      }
      sum[a] = sum[a] * keep + over_16(part, false), top[a] = now;
#pragma unroll
      for (int c = 0; c < S::kWide; ++c) out[a][c] *= keep;
    }
    __syncthreads();
    S::template add<false>(tp, tv, out);
  }
#pragma unroll
  for (int a = 0; a < S::kEach; ++a) {
    const C by = sum[a] == 0 ? C(1) : sum[a];
#pragma unroll
    for (int c = 0; c < S::kWide; ++c) out[a][c] = quotient(out[a][c], by);
    const int64_t t = from + row + 16 * a;
    if (lse && column == 0 && t < z.t) lse[(b * z.heads + h) * z.t + t] = sum[a] == 0 ? C(0) : top[a] + log_of(sum[a]);
  }
  S::put(y, b, h, from, z.t, z.dv, out, C(1));
}

/// delta[row] = g . y; a warp a row. Both are of one dtype.
template <class C>
__global__ void __launch_bounds__(kThreads) delta_kernel(Sizes z, Heads<C> g, Heads<C> y, C* delta) {
  const int64_t i = int64_t(blockIdx.x) * (kThreads / 32) + threadIdx.x / 32, t = i % z.t, h = i / z.t % z.heads, b = i / z.t / z.heads;
  if (b >= z.b) return;
  C sum = 0;
  y.with_head(b, h, [&]<class T>(T* head) {
    const T *pg = static_cast<const T*>(g.p) + b * g.stride[0] + h * g.stride[1] + t * g.stride[2], *py = head + t * y.stride[2];
    for (int c = int(threadIdx.x % 32); c < z.dv; c += 32) sum += widen(pg[c * g.stride[3]]) * widen(py[c * y.stride[3]]);
  });
#pragma unroll
  for (int d = 16; d; d >>= 1) sum += __shfl_xor_sync(~0u, sum, d);
  if (threadIdx.x % 32 == 0) delta[i] = sum;
}

/// Probabilities and their gradients of one tile, into tp and ts.
template <class C, int D>
__device__ __forceinline__ void gradient_tile(const Sizes& z, int64_t b, int64_t h, int64_t from, int64_t at, const C* tq, const C* tk,
                                              const C* tg, const C* tv, const C* lse, const C* delta, C* tp, C* ts) {
  using S = Tiles<C, D>;
  const int row = int(threadIdx.x) / 16, column = int(threadIdx.x) % 16;
  C p[S::kEach][S::kEach], dp[S::kEach][S::kEach];
  if (z.mask.p) S::put_mask(z, b, h, from, at, ts);
  S::products(tq, tk, z.d, p);
  S::products(tg, tv, z.dv, dp);
#pragma unroll
  for (int a = 0; a < S::kEach; ++a) {
    const int64_t t = from + row + 16 * a, line = (b * z.heads + h) * z.t + t;
    const C l = t < z.t ? lse[line] : C(0), d = t < z.t ? delta[line] : C(0);
#pragma unroll
    for (int c = 0; c < S::kEach; ++c) {
      const int to = (row + 16 * a) * S::kScore + column + 16 * c;
      const C v = exp_of(S::score(z, p[a][c], ts[to], t, at + column + 16 * c) - l);
      if (tp) tp[to] = v;
      ts[to] = v * (dp[a][c] - d);
    }
  }
}

/// kTile rows of dq.
template <class C, int D>
__global__ void __launch_bounds__(kThreads)
    query_gradient(Sizes z, Heads<C> g, Heads<C> q, Heads<C> k, Heads<C> v, const C* lse, const C* delta, Heads<C> dq) {
  using S = Tiles<C, D>;
  extern __shared__ __align__(16) unsigned char room[];
  constexpr int one = S::kTile * S::kRow;
  C *tq = reinterpret_cast<C*>(room), *tk = tq + one, *tg = tk + one, *tv = tg + one, *ts = tv + one;
  const int64_t b = blockIdx.z, h = blockIdx.y, kv = h / (z.heads / z.kv_heads), from = int64_t(blockIdx.x) * S::kTile;
  S::load(tq, q, b, h, from, z.t, z.d);
  S::load(tg, g, b, h, from, z.t, z.dv);
  C out[S::kEach][S::kWide] = {};
  const int64_t last = z.causal ? from + S::kTile + z.s - z.t : z.s, end = last < z.s ? last : z.s;
  for (int64_t at = 0; at < end; at += S::kTile) {
    __syncthreads();
    S::load(tk, k, b, kv, at, z.s, z.d);
    S::load(tv, v, b, kv, at, z.s, z.dv);
    __syncthreads();
    gradient_tile<C, D>(z, b, h, from, at, tq, tk, tg, tv, lse, delta, nullptr, ts);
    __syncthreads();
    S::template add<false>(ts, tk, out);
  }
  S::put(dq, b, h, from, z.t, z.d, out, C(z.scale));
}
/// kTile rows of dk and dv, from all queries of the heads that share them.
template <class C, int D>
__global__ void __launch_bounds__(kThreads)
    key_gradient(Sizes z, Heads<C> g, Heads<C> q, Heads<C> k, Heads<C> v, const C* lse, const C* delta, Heads<C> dk, Heads<C> dv) {
  using S = Tiles<C, D>;
  extern __shared__ __align__(16) unsigned char room[];
  constexpr int one = S::kTile * S::kRow;
  C *tq = reinterpret_cast<C*>(room), *tk = tq + one, *tg = tk + one, *tv = tg + one, *ts = tv + one, *tp = ts + S::kTile * S::kScore;
  const int64_t b = blockIdx.z, kv = blockIdx.y, at = int64_t(blockIdx.x) * S::kTile, share = z.heads / z.kv_heads;
  S::load(tk, k, b, kv, at, z.s, z.d);
  S::load(tv, v, b, kv, at, z.s, z.dv);
  C to_k[S::kEach][S::kWide] = {}, to_v[S::kEach][S::kWide] = {};
  for (int64_t h = kv * share; h < (kv + 1) * share; ++h) {
    const int64_t first = z.causal && at - (z.s - z.t) > 0 ? (at - (z.s - z.t)) / S::kTile * S::kTile : 0;
    for (int64_t from = first; from < z.t; from += S::kTile) {
      __syncthreads();
      S::load(tq, q, b, h, from, z.t, z.d);
      S::load(tg, g, b, h, from, z.t, z.dv);
      __syncthreads();
      gradient_tile<C, D>(z, b, h, from, at, tq, tk, tg, tv, lse, delta, tp, ts);
      __syncthreads();
      S::template add<true>(ts, tq, to_k);
      S::template add<true>(tp, tg, to_v);
    }
  }
  S::put(dk, b, kv, at, z.s, z.d, to_k, C(z.scale));
  S::put(dv, b, kv, at, z.s, z.dv, to_v, C(1));
}

template <class K, class... A>
void launch(K kernel, dim3 grid, size_t shared, cudaStream_t s, A... args) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
  cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int(shared));
  kernel<<<grid, kThreads, shared, s>>>(args...);
}
unsigned tiles(int64_t n, int tile) { return unsigned(ceil_div(n, tile)); }

/// Calls f with the type that `t` computes in and the least tile width that holds both heads' widths.
template <class F>
KernelStatus with_width(const KernelArgs& a, const Sizes& z, DType t, F f) {
  use(a.device);
  const int width = std::max(z.d, z.dv);
  const auto by_width = [&](auto type) {
    if (width <= 32)
      f(type, std::integral_constant<int, 32>());
    else if (width <= 64)
      f(type, std::integral_constant<int, 64>());
    else
      f(type, std::integral_constant<int, 128>());
  };
  t == DType::f64 ? by_width(double()) : by_width(float());
  return launched();
}
template <int q>
const char* refuse_wide(const void*, Specs in) {
  return in[q].shape[3] <= 128 && in[q + 2].shape[3] <= 128 ? nullptr : "heads wider than 128";
}

// ---- cuDNN ----
/// Strides as cuDNN takes them: the last one 1, the others whole vectors of 16 bytes; false where they are not, or the memory begins inside
/// a vector.
bool vectors(const TensorView& v, AttentionShape::Steps& to) {
  if (v.stride(3) != 1 || reinterpret_cast<uintptr_t>(v.data) % 16) return false;
  int64_t dense = v.dim(3);
  to.of[3] = 1;
  for (int i = 2; i >= 0; --i) {
    to.of[i] = v.dim(i) == 1 ? dense : v.stride(i);  // that of one element is never taken
    if (to.of[i] <= 0 || to.of[i] % 8) return false;
    dense *= v.dim(i);
  }
  return true;
}
/// The plan for a call, or null where our own kernels run it: f32 and f64, masks, causal with other keys than queries, widths that are no
/// multiple of 8, memory that is not in vectors; calls that are to be invariant, which no engine says that it is.
const AttentionPlan* plan_of(const KernelArgs& a, bool backward) {
  if (a.invariant) return nullptr;
  const int q = backward ? 1 : 0, mask = backward ? 6 : 3;
  const TensorView &vq = a.in[q], &vk = a.in[q + 1], &vv = a.in[q + 2];
  AttentionShape z;
  z.dtype = vq.dtype, z.backward = backward, z.causal = a.get<AttentionParams>().causal, z.any_order = backward && a.any_order;
  z.batch = vq.dim(0), z.heads = vq.dim(1), z.kv_heads = vk.dim(1), z.t = vq.dim(2), z.s = vk.dim(2), z.d = vq.dim(3), z.dv = vv.dim(3);
  if ((z.dtype != DType::bf16 && z.dtype != DType::f16) || (a.n_in > mask && a.in[mask].present()) || (z.causal && z.t != z.s))
    return nullptr;
  if (z.d % 8 || z.dv % 8 || z.batch == 0 || z.heads == 0 || z.t == 0 || z.s <= 1 || z.d == 0 || z.dv == 0) return nullptr;
  if (!vectors(vq, z.q) || !vectors(vk, z.k) || !vectors(vv, z.v) || !vectors(backward ? a.in[4] : a.out[0], z.y)) return nullptr;
  if (backward) {
    if (!vectors(a.in[0], z.g) || !vectors(a.out[0], z.dq) || !vectors(a.out[1], z.dk) || !vectors(a.out[2], z.dv_)) return nullptr;
    if (reinterpret_cast<uintptr_t>(a.in[5].data) % 16) return nullptr;
  } else {
    z.lse = a.n_out > 1 && a.out[1].present();
  }
  return attention_plan(z, a.device);
}
KernelStatus run_plan(const KernelArgs& a, const AttentionPlan& plan, bool backward) {
  const int q = backward ? 1 : 0;
  AttentionOperands o;
  o.q = a.in[q].data, o.k = a.in[q + 1].data, o.v = a.in[q + 2].data;
  o.scale = float(a.get<AttentionParams>().factor(a.in[q].dim(3)));
  if (backward)
    o.g = a.in[0].data, o.y = a.in[4].data, o.lse = a.in[5].data, o.dq = a.out[0].data, o.dk = a.out[1].data, o.dv = a.out[2].data;
  else
    o.y = a.out[0].data, o.lse = a.n_out > 1 && a.out[1].present() ? a.out[1].data : nullptr;
  use(a.device);
  return run(plan, o, a.workspace, a.device, stream(a));
}

}  // namespace

KEEL_CUDA_KERNEL(attention) {
  k.dtypes(kinds::floating)
      .output(0, Layout::rows)
      .refuses(refuse_wide<0>)
      .workspace([](const KernelArgs& a) {
        const AttentionPlan* plan = plan_of(a, false);
        return plan ? workspace_of(*plan) : 0;
      })
      .run([](const KernelArgs& a) {
        if (const AttentionPlan* plan = plan_of(a, false)) return run_plan(a, *plan, false);
        const Sizes z(a, 0, 3);
        return with_width(a, z, a.in[0].dtype, [&]<class C, int D>(C, std::integral_constant<int, D>) {
          using S = Tiles<C, D>;
          C* lse = a.n_out > 1 && a.out[1].present() ? a.out[1].ptr<C>() : nullptr;
          using H = Heads<C>;
          launch(forward_kernel<C, D>, dim3(tiles(z.t, S::kTile), unsigned(z.heads), unsigned(z.b)), 3 * S::kMatrix + S::kScores, stream(a),
                 z, H(a.in[0]), H(a.in[1]), H(a.in[2]), H(a.out[0]), lse);
        });
      });
}
KEEL_CUDA_KERNEL(attention_backward) {
  k.dtypes(kinds::floating)
      .outputs(Layout::rows)
      .input(5, Layout::contiguous)
      .refuses([](const void* p, Specs in) -> const char* {
        if (in[5].dtype != (in[1].dtype == f64 ? f64 : f32)) return "lse of another dtype";
        return refuse_wide<1>(p, in);
      })
      .workspace([](const KernelArgs& a) {
        if (const AttentionPlan* plan = plan_of(a, true)) return workspace_of(*plan);
        return size_t(a.in[1].dim(0) * a.in[1].dim(1) * a.in[1].dim(2)) * 8;
      })
      .run([](const KernelArgs& a) {
        if (const AttentionPlan* plan = plan_of(a, true)) return run_plan(a, *plan, true);
        const Sizes z(a, 1, 6);
        return with_width(a, z, a.in[1].dtype, [&]<class C, int D>(C, std::integral_constant<int, D>) {
          using S = Tiles<C, D>;
          using H = Heads<C>;
          auto* delta = static_cast<C*>(a.workspace);
          const C* lse = a.in[5].ptr<C>();
          const H g(a.in[0]), q(a.in[1]), k(a.in[2]), v(a.in[3]);
          const int64_t rows = z.b * z.heads * z.t;
          if (rows) delta_kernel<C><<<unsigned(ceil_div(rows, kThreads / 32)), kThreads, 0, stream(a)>>>(z, g, H(a.in[4]), delta);
          launch(query_gradient<C, D>, dim3(tiles(z.t, S::kTile), unsigned(z.heads), unsigned(z.b)), 4 * S::kMatrix + S::kScores, stream(a),
                 z, g, q, k, v, lse, static_cast<const C*>(delta), H(a.out[0]));
          launch(key_gradient<C, D>, dim3(tiles(z.s, S::kTile), unsigned(z.kv_heads), unsigned(z.b)), 4 * S::kMatrix + 2 * S::kScores,
                 stream(a), z, g, q, k, v, lse, static_cast<const C*>(delta), H(a.out[1]), H(a.out[2]));
        });
      });
}
