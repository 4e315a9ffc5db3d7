// Gradients of layer_norm and rms_norm whose rows a warp holds: by x, weight and bias in one reading.
#include "backend/cuda/norm_gradient.cuh"
#include "backend/cuda/norm_sum.h"

using namespace keel;
using namespace keel::cuda;

namespace {

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
  add_parts(v.n, v.blocks(), PartSums<2, C, T>{{dw, db}, {dweight, dbias}}, stream(a));
  s = launched();
  return true;
}

}  // namespace

bool keel::cuda::norm_gradients_together(const KernelArgs& a, bool centered, KernelStatus& s) {
  const RowsAndColumns v(a.in[1], a.get<NormBackwardParams>().axes);
  bool done = false;
  Floats::call(a.in[0].dtype, [&](auto t) {
    using T = decltype(t);
    done = centered ? run_together<true, T>(a, v, s) : run_together<false, T>(a, v, s);
  });
  return done;
}
bool keel::cuda::adds_to_norm_gradient(DType t, const Shape& shape, const NormBackwardParams& p, bool weighed) {
  const TensorView x{nullptr, t, &shape, nullptr};
  return weighed && p.axes == 1 && p.need_x && (p.need_weight || p.need_bias) && contains(kinds::floating, t) && t != f64 &&
         RowsAndColumns(x, 1).packs(16 / int(size_of(t)));
}
size_t keel::cuda::norm_gradient_room(const KernelArgs& a) { return RowsAndColumns(a.in[1], 1).room(); }
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
