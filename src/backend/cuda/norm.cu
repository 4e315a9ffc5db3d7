// layer_norm and rms_norm over trailing axes, and their gradients. A row is read once; sums over rows for weight and bias are made in
// parts of fixed size.
#include "keel/ops/norm.h"

#include "backend/cuda/long_rows.cuh"
#include "backend/cuda/math.cuh"
#include "backend/cuda/norm_sum.h"

using namespace keel;
using namespace keel::cuda;

namespace {

template <bool centered>
struct Forward {
  template <class T, int G, int P>
  struct Kernel : RowForm<G> {
    using C = Compute<T>;
    template <class Y>
    static __device__ void run(int64_t row, int64_t n, const T* x, const T* weight, const T* bias, double eps, Y y, C* mean, C* rstd) {
      const RowOf<T, G, P> r(x, row, n);
      const auto whole = NormOf<centered>::gather(r, eps);
      const auto scaled = [&](C v, T w, T b) {
        C z = NormOf<centered>::value(whole, v);
        if (weight) z = z * widen(w);
        if (bias) z = z + widen(b);
        return z;
      };
      if constexpr (P == 0) {
        r.write(y + row * n, [&](int64_t i, C v) { return scaled(v, weight ? weight[i] : T(), bias ? bias[i] : T()); });
      } else {  // weight and bias in vectors, as the row
        constexpr int V = 16 / int(sizeof(T));
        using Vector = Pack<T, V>;
#pragma unroll
        for (int k = 0; k < P; ++k) {
          const int64_t i = (int64_t(k) * G + r.lane) * V;
          if (i >= n) break;
          Vector w, b, out;
          if (weight) w = *reinterpret_cast<const Vector*>(weight + i);
          if (bias) b = *reinterpret_cast<const Vector*>(bias + i);
#pragma unroll
          for (int j = 0; j < V; ++j) out.v[j] = narrow<T>(scaled(widen(r.kept[k].v[j]), w.v[j], b.v[j]));
          put_row(y + row * n, i, out);
        }
      }
      if (r.lane == 0 && rstd) rstd[row] = whole.rstd;
      if (r.lane == 0 && mean) mean[row] = whole.mean;
    }
  };
};

/// Mean and sum of squared deviations of some elements.
template <class C>
struct Moments {
  C mean, squares;
};
/// A few very long rows, in parts.
template <bool centered, class T>
__device__ __forceinline__ void gather_part(const Parts& p, const T* x, Moments<Compute<T>>* moments) {
  using C = Compute<T>;
  const int64_t from = int64_t(blockIdx.x) * p.share, to = from + p.share < p.n ? from + p.share : p.n;
  const T* row = x + int64_t(blockIdx.y) * p.n;
  C m = 0, squares = 0;
  if constexpr (centered) {
#pragma unroll 4
    for (int64_t i = from + threadIdx.x; i < to; i += kThreads) m += C(widen(row[i]));
    m = row_combine<kThreads>(m, C(0), SumOf()) / C(to - from);
  }
#pragma unroll 4
  for (int64_t i = from + threadIdx.x; i < to; i += kThreads) squares += (C(widen(row[i])) - m) * (C(widen(row[i])) - m);
  squares = row_combine<kThreads>(squares, C(0), SumOf());
  if (threadIdx.x == 0) moments[blockIdx.y * p.parts + blockIdx.x] = {m, squares};
}
template <bool centered, class T>
__global__ void __launch_bounds__(kThreads, 4)
    in_parts(Parts p, const T* x, Moments<Compute<T>>* moments, const T* weight, const T* bias, double eps, T* y, Compute<T>* mean,
             Compute<T>* rstd) {
  using C = Compute<T>;
  gather_part<centered>(p, x, moments);
  meet();
  const Moments<C>* mine = moments + blockIdx.y * p.parts;
  const auto count = [&](unsigned k) { return C(int64_t(k + 1) * p.share < p.n ? p.share : p.n - int64_t(k) * p.share); };
  C m = 0, squares = 0;
  if constexpr (centered) {
    for (unsigned k = threadIdx.x; k < p.parts; k += kThreads) m += count(k) * mine[k].mean;
    m = row_combine<kThreads>(m, C(0), SumOf()) / C(p.n);
  }
  for (unsigned k = threadIdx.x; k < p.parts; k += kThreads) {
    const C off = mine[k].mean - m;
    squares += mine[k].squares + count(k) * off * off;
  }
  const C scale = C(1) / root_of(row_combine<kThreads>(squares, C(0), SumOf()) / C(p.n) + C(eps));
  const int64_t from = int64_t(blockIdx.x) * p.share, to = from + p.share < p.n ? from + p.share : p.n, at = int64_t(blockIdx.y) * p.n;
#pragma unroll 4
  for (int64_t i = from + threadIdx.x; i < to; i += kThreads) {
    C z = (C(widen(x[at + i])) - m) * scale;
    if (weight) z = z * C(widen(weight[i]));
    if (bias) z = z + C(widen(bias[i]));
    y[at + i] = narrow<T>(z);
  }
  if (blockIdx.x || threadIdx.x) return;
  if (rstd) rstd[blockIdx.y] = scale;
  if (mean) mean[blockIdx.y] = m;
}

template <bool centered>
struct ToInput {
  template <class T, int G, int P>
  struct Kernel : RowForm<G> {
    using C = Compute<T>;
    template <class Y>
    static __device__ void run(int64_t row, int64_t n, const T* g, const T* x, const C* mean, const C* rstd, const T* weight, Y dx) {
      const RowOf<T, G, P> rg(g, row, n), rx(x, row, n);
      const C m = centered ? mean[row] : C(0), scale = rstd[row];
      C sum = 0, product = 0;
      rg.each(
          [&](int64_t i, C a, C v) {
            const C gw = weight ? a * widen(weight[i]) : a;
            sum += gw, product += gw * ((v - m) * scale);
          },
          rx);
      sum = centered ? row_combine<G>(sum, C(0), SumOf()) / C(n) : C(0);
      product = row_combine<G>(product, C(0), SumOf()) / C(n);
      rg.write(
          dx + row * n,
          [&](int64_t i, C a, C v) {
            const C gw = weight ? a * widen(weight[i]) : a;
            return scale * ((gw - sum) - ((v - m) * scale) * product);
          },
          rx);
    }
  };
};

/// Sums of g normal and of g over the rows of one part, for 32 columns a block.
template <class T, class C>
__global__ void __launch_bounds__(kThreads)
    column_sums(int64_t rows, int64_t n, int64_t share, const T* g, const T* x, const C* mean, const C* rstd, C* dw, C* db) {
  const int column = int(threadIdx.x % 32), first = int(threadIdx.x / 32);
  const int64_t i = int64_t(blockIdx.x) * 32 + column, from = int64_t(blockIdx.y) * share, to = from + share < rows ? from + share : rows;
  C w = 0, b = 0;
  if (i < n)
    for (int64_t r = from + first; r < to; r += kThreads / 32) {
      const C a = widen(g[r * n + i]), m = mean ? mean[r] : C(0);
      b += a, w += a * ((widen(x[r * n + i]) - m) * rstd[r]);
    }
  __shared__ C all[2][kThreads];
  all[0][threadIdx.x] = w, all[1][threadIdx.x] = b;
  __syncthreads();
  if (first || i >= n) return;
  for (int k = 1; k < kThreads / 32; ++k) w += all[0][k * 32 + column], b += all[1][k * 32 + column];
  if (dw) dw[blockIdx.y * n + i] = w;
  if (db) db[blockIdx.y * n + i] = b;
}
template <class T, class C>
__global__ void __launch_bounds__(kThreads) sum_parts(int64_t n, int64_t parts, const C* dw, const C* db, T* weight, T* bias) {
  const int column = int(threadIdx.x % 32), first = int(threadIdx.x / 32);
  const int64_t i = int64_t(blockIdx.x) * 32 + column;
  C w = 0, b = 0;
  if (i < n)
    for (int64_t p = first; p < parts; p += kThreads / 32) {
      if (weight) w += dw[p * n + i];
      if (bias) b += db[p * n + i];
    }
  __shared__ C all[2][kThreads];
  all[0][threadIdx.x] = w, all[1][threadIdx.x] = b;
  __syncthreads();
  if (first || i >= n) return;
  for (int k = 1; k < kThreads / 32; ++k) w += all[0][k * 32 + column], b += all[1][k * 32 + column];
  if (weight) weight[i] = narrow<T>(w);
  if (bias) bias[i] = narrow<T>(b);
}

/// Both gradients in one reading, or, where it `adds`, the sum of that by x and of `more` in its place; for rows that a warp holds in P
/// packs a thread: a block takes `share` rows, a warp every eighth of them, and adds up its columns in registers; the warps' sums are added
/// in order.
template <bool centered, class T, int P, bool adds>
__global__ void __launch_bounds__(kThreads, 2)
    rows_and_columns(int64_t rows, int64_t n, int64_t share, const T* g, const T* x, const Compute<T>* mean, const Compute<T>* rstd,
                     const T* weight, const T* more, T* dx, Compute<T>* dw, Compute<T>* db) {
  using C = Compute<T>;
  constexpr int V = 16 / int(sizeof(T));
  using Vector = Pack<T, V>;
  const int lane = int(threadIdx.x % 32), warp = int(threadIdx.x / 32);
  const int64_t from = int64_t(blockIdx.x) * share, to = from + share < rows ? from + share : rows;
  C along[P * V] = {}, plain[P * V] = {};
  Vector w[P];
#pragma unroll
  for (int k = 0; k < P; ++k) {
    const int64_t i = (int64_t(k) * 32 + lane) * V;
    if (i < n && weight) w[k] = *reinterpret_cast<const Vector*>(weight + i);
  }
  for (int64_t r = from + warp; r < to; r += kThreads / 32) {
    Vector vg[P], vx[P];
#pragma unroll
    for (int k = 0; k < P; ++k) {
      const int64_t i = (int64_t(k) * 32 + lane) * V;
      if (i < n) vg[k] = *reinterpret_cast<const Vector*>(g + r * n + i), vx[k] = *reinterpret_cast<const Vector*>(x + r * n + i);
    }
    const C m = centered ? mean[r] : C(0), scale = rstd[r];
    C sum = 0, product = 0;
#pragma unroll
    for (int k = 0; k < P; ++k) {
      if ((int64_t(k) * 32 + lane) * V >= n) break;
#pragma unroll
      for (int j = 0; j < V; ++j) {
        const C a = widen(vg[k].v[j]), z = (widen(vx[k].v[j]) - m) * scale, gw = weight ? a * widen(w[k].v[j]) : a;
        sum += gw, product += gw * z;
        along[k * V + j] += a * z, plain[k * V + j] += a;
      }
    }
    sum = centered ? row_combine<32>(sum, C(0), SumOf()) / C(n) : C(0);
    product = row_combine<32>(product, C(0), SumOf()) / C(n);
#pragma unroll
    for (int k = 0; k < P; ++k) {
      const int64_t i = (int64_t(k) * 32 + lane) * V;
      if (i >= n) break;
      Vector out;
#pragma unroll
      for (int j = 0; j < V; ++j) {
        const C a = widen(vg[k].v[j]), z = (widen(vx[k].v[j]) - m) * scale, gw = weight ? a * widen(w[k].v[j]) : a;
        out.v[j] = narrow<T>(scale * ((gw - sum) - z * product));
      }
      if constexpr (adds) {
        const Vector other = *reinterpret_cast<const Vector*>(more + r * n + i);
#pragma unroll
        for (int j = 0; j < V; ++j) out.v[j] = narrow<T>(widen(out.v[j]) + widen(other.v[j]));
      }
      *reinterpret_cast<Vector*>(dx + r * n + i) = out;
    }
  }
  __shared__ C all[2][32 * P * V];
  for (int turn = 0; turn < kThreads / 32; ++turn) {
    if (turn == warp) {
#pragma unroll
      for (int k = 0; k < P * V; ++k) {  // neighbouring lanes in neighbouring words
        C &a = all[0][k * 32 + lane], &b = all[1][k * 32 + lane];
        a = turn ? a + along[k] : along[k], b = turn ? b + plain[k] : plain[k];
      }
    }
    __syncthreads();
  }
  for (int64_t i = threadIdx.x; i < n; i += kThreads) {
    const int64_t k = i / (32 * V), owner = i / V % 32, at = (k * V + i % V) * 32 + owner;
    if (dw) dw[blockIdx.x * n + i] = all[0][at];
    if (db) db[blockIdx.x * n + i] = all[1][at];
  }
}

struct RowsAndColumns {
  int64_t rows = 1, n = 1;
  RowsAndColumns(const TensorView& x, int64_t axes) {
    for (int i = 0; i < x.rank(); ++i) (i < x.rank() - axes ? rows : n) *= x.dim(i);
  }
  /// Rows a part; at most 128 parts.
  int64_t share() const { return std::max<int64_t>(ceil_div(rows, 128), 32); }
  int64_t parts() const { return rows ? ceil_div(rows, share()) : 0; }
  /// The same for rows_and_columns: at most 256 blocks.
  int64_t block_share() const { return std::max<int64_t>(ceil_div(rows, 256), 8); }
  int64_t blocks() const { return rows ? ceil_div(rows, block_share()) : 0; }
  /// Packs a thread where rows_and_columns takes these rows, else 0.
  int packs(int vector) const {
    return rows >= 1024 && n > 0 && n % vector == 0 && n <= 32 * vector * 4 ? int(ceil_div(n, 32 * vector)) : 0;
  }
};

template <class T>
T* pointer(const TensorView* v, int n, int i) {
  return i < n && v[i].present() ? v[i].ptr<T>() : nullptr;
}

/// All gradients by rows_and_columns; false where it does not take them. `more` is added to that by x where it `adds`.
template <bool centered, class T, bool adds = false>
bool run_together(const KernelArgs& a, const RowsAndColumns& v, KernelStatus& s, const T* more = nullptr) {
  using C = Compute<T>;
  constexpr int kRstd = centered ? 3 : 2;
  const auto& p = a.get<NormBackwardParams>();
  const T* weight = pointer<T>(a.in, a.n_in, kRstd + 1);
  T *dx = a.out[0].ptr<T>(), *dweight = p.need_weight ? a.out[1].ptr<T>() : nullptr,
    *dbias = centered && p.need_bias ? a.out[2].ptr<T>() : nullptr;
  const int packs = v.packs(16 / int(sizeof(T)));
  if (!packs || !p.need_x || !(dweight || dbias)) return false;
  if (!aligned16(a.in[0]) || !aligned16(a.in[1]) || !aligned16(a.out[0]) || reinterpret_cast<uintptr_t>(weight) % 16) return false;
  const C *mean = centered ? a.in[2].ptr<C>() : nullptr, *rstd = a.in[kRstd].ptr<C>();
  C *dw = static_cast<C*>(a.workspace), *db = dw + v.blocks() * v.n;
  const auto go = [&]<int P>(std::integral_constant<int, P>) {
    rows_and_columns<centered, T, P, adds><<<unsigned(v.blocks()), kThreads, 0, stream(a)>>>(
        v.rows, v.n, v.block_share(), static_cast<const T*>(a.in[0].ptr<T>()), static_cast<const T*>(a.in[1].ptr<T>()), mean, rstd, weight,
        more, dx, dweight ? dw : nullptr, dbias ? db : nullptr);
  };
  packs == 1   ? go(std::integral_constant<int, 1>())
  : packs == 2 ? go(std::integral_constant<int, 2>())
  : packs == 3 ? go(std::integral_constant<int, 3>())
               : go(std::integral_constant<int, 4>());
  sum_parts<T, C><<<unsigned(ceil_div(v.n, 32)), kThreads, 0, stream(a)>>>(v.n, v.blocks(), dw, db, dweight, dbias);
  s = launched();
  return true;
}

/// The workspace of both ways, in bytes.
size_t room_for(const RowsAndColumns& v) { return size_t(2 * std::max(v.parts(), v.blocks()) * v.n) * 8; }

template <bool centered>
void define(KernelDef& k) {
  k.dtypes(kinds::floating).inputs(Layout::contiguous).stats().workspace([](const KernelArgs& a) {
    const RowsAndColumns v(a.in[0], a.get<LayerNormParams>().axes);
    const Parts p = parts_of(v.rows, v.n, a.device);
    return size_t(p.parts) * p.rows * sizeof(Moments<double>);
  });
  k.run([](const KernelArgs& a) {
    KernelStatus s;
    const auto& p = a.get<LayerNormParams>();
    const RowsAndColumns v(a.in[0], p.axes);
    use(a.device);
    Floats::call(a.in[0].dtype, [&](auto t) {
      using T = decltype(t);
      using C = Compute<T>;
      const T* bias = centered ? pointer<T>(a.in, a.n_in, 2) : nullptr;
      C *mean = centered ? pointer<C>(a.out, a.n_out, 1) : nullptr, *rstd = pointer<C>(a.out, a.n_out, centered ? 2 : 1);
      const T *x = a.in[0].ptr<T>(), *weight = pointer<T>(a.in, a.n_in, 1);
      const bool aligned = aligned16(a.in[0]) && aligned16(a.out[0]) && reinterpret_cast<uintptr_t>(weight) % 16 == 0 &&
                           reinterpret_cast<uintptr_t>(bias) % 16 == 0;
      T* y = a.out[0].ptr<T>();
      if (const Parts parts = parts_of(v.rows, v.n, a.device); parts.parts) {
        auto* moments = static_cast<Moments<C>*>(a.workspace);
        start_together(in_parts<centered, T>, parts, stream(a), x, moments, weight, bias, p.eps, y, mean, rstd);
        s = launched();
        if (!s.code) s = watch(a, 0, 1);
        return;
      }
      s = over_rows_watched<Forward<centered>::template Kernel, T>(a, v.rows, v.n, aligned, x, weight, bias, p.eps, Marked<T>{y}, mean,
                                                                   rstd);
    });
    return s.code ? s : watch(a, 1);
  });
}
template <bool centered>
void define_backward(KernelDef& k) {
  constexpr int kRstd = centered ? 3 : 2;
  k.dtypes(kinds::floating)
      .inputs(Layout::contiguous)
      .refuses([](const void*, Specs in) -> const char* {
        const DType t = in[0].dtype, c = t == f64 ? f64 : f32;
        return in[kRstd].dtype == c && in[2].dtype == c ? nullptr : "statistics of another dtype";
      })
      .workspace([](const KernelArgs& a) -> size_t {
        return room_for(RowsAndColumns(a.in[1], a.get<NormBackwardParams>().axes));
      })
      .stats()
      .run([](const KernelArgs& a) {
        KernelStatus s;
        const auto& p = a.get<NormBackwardParams>();
        const RowsAndColumns v(a.in[1], p.axes);
        use(a.device);
        Floats::call(a.in[0].dtype, [&](auto t) {
          using T = decltype(t);
          using C = Compute<T>;
          if (run_together<centered, T>(a, v, s)) return void(s = s.code ? s : watch(a, 0, 1));  // watched or not, the same sums
          const T *g = a.in[0].ptr<T>(), *x = a.in[1].ptr<T>(), *weight = pointer<T>(a.in, a.n_in, kRstd + 1);
          const C *mean = centered ? a.in[2].ptr<C>() : nullptr, *rstd = a.in[kRstd].ptr<C>();
          const bool aligned = aligned16(a.in[0]) && aligned16(a.in[1]) && aligned16(a.out[0]);
          if (p.need_x)
            s = over_rows_watched<ToInput<centered>::template Kernel, T>(a, v.rows, v.n, aligned, g, x, mean, rstd, weight,
                                                                         Marked<T>{a.out[0].ptr<T>()});
          T *dweight = p.need_weight ? a.out[1].ptr<T>() : nullptr, *dbias = centered && p.need_bias ? a.out[2].ptr<T>() : nullptr;
          if (s.code || v.n == 0 || !(dweight || dbias)) return;
          C *dw = static_cast<C*>(a.workspace), *db = dw + v.parts() * v.n;
          if (v.parts())
            column_sums<T, C><<<dim3(unsigned(ceil_div(v.n, 32)), unsigned(v.parts())), kThreads, 0, stream(a)>>>(
                v.rows, v.n, v.share(), g, x, mean, rstd, dweight ? dw : nullptr, dbias ? db : nullptr);
          sum_parts<T, C><<<unsigned(ceil_div(v.n, 32)), kThreads, 0, stream(a)>>>(v.n, v.parts(), dw, db, dweight, dbias);
          s = launched();
        });
        return s.code ? s : watch(a, 1);
      });
}

}  // namespace

bool keel::cuda::adds_to_norm_gradient(DType t, const Shape& shape, const NormBackwardParams& p, bool weighed) {
  const TensorView x{nullptr, t, &shape, nullptr};
  return weighed && p.axes == 1 && p.need_x && (p.need_weight || p.need_bias) && contains(kinds::floating, t) && t != f64 &&
         RowsAndColumns(x, 1).packs(16 / int(size_of(t)));
}
size_t keel::cuda::norm_gradient_room(const KernelArgs& a) { return room_for(RowsAndColumns(a.in[1], 1)); }
KernelStatus keel::cuda::norm_gradient_and_sum(const KernelArgs& a, bool centered, const void* more) {
  KernelStatus s = KernelStatus::device("operands of a chain are not aligned to 16 bytes");
  if (reinterpret_cast<uintptr_t>(more) % 16) return s;
  const RowsAndColumns v(a.in[1], 1);
  use(a.device);
  TypeList<float, half, bfloat>::call(a.in[0].dtype, [&](auto t) {
    using T = decltype(t);
    const auto* other = static_cast<const T*>(more);
    centered ? run_together<true, T, true>(a, v, s, other) : run_together<false, T, true>(a, v, s, other);
  });
  return s;
}

KEEL_CUDA_KERNEL(layer_norm) { define<true>(k); }
KEEL_CUDA_KERNEL(rms_norm) { define<false>(k); }
KEEL_CUDA_KERNEL(layer_norm_backward) { define_backward<true>(k); }
KEEL_CUDA_KERNEL(rms_norm_backward) { define_backward<false>(k); }
