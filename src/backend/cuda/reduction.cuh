#pragma once
// The one driver of reductions: any axes of any layout. Where the reduced axes are innermost, a warp or a block takes a row; where the
// kept ones are, a thread takes a column; few results of many elements are made in parts first. The order of sums depends on shapes and
// the device alone; for calls that are to be invariant, on the reduced axes alone.
#include "backend/cuda/pointwise.cuh"

namespace keel::cuda {

struct Reduction {
  Walk<1> kept, reduced;
  int64_t results = 1, extent = 1;
  enum Form { warps, blocks, columns } form = warps;
  int64_t parts = 1;

  Reduction(const KernelArgs& a, const Dims& axes) {
    const TensorView& x = a.in[0];
    bool is_reduced[kMaxRank] = {};
    for (int i = 0; i < x.rank(); ++i) is_reduced[i] = axes.empty();
    if (x.rank())  // a number has the axes 0 and -1 all the same
      for (int64_t i : axes) is_reduced[i < 0 ? i + x.rank() : i] = true;
    for (int i = x.rank() - 1; i >= 0; --i) {
      (is_reduced[i] ? reduced : kept).push(x.dim(i), {x.stride(i)});
      (is_reduced[i] ? extent : results) *= x.dim(i);
    }
    if (results == 0 || extent == 0) return;
    const int64_t inner = reduced.rank ? reduced.stride[0][0] : 1, outer = kept.rank ? kept.stride[0][0] : INT64_MAX;
    if (a.invariant) {
      form = inner != 1 ? columns : extent > 1024 ? blocks : warps;
      parts = form == warps ? 1 : ceil_div(extent, form == columns ? 1024 : 65536);
      return;
    }
    form = outer < inner && results >= 16 ? columns : extent > 1024 ? blocks : warps;
    const int64_t tiles = form == columns  ? ceil_div(results, 32)
                          : form == blocks ? results
                                           : ceil_div(results, 8),
                  wanted = 4 * processors(a.device);
    if (tiles < wanted && form != warps)
      parts = std::max<int64_t>(1, std::min(ceil_div(wanted, tiles), extent / (form == columns ? 64 : 4096)));
  }
};

template <class A, class Op>
__device__ __forceinline__ A warp_combine(A a, const Op& op) {
#pragma unroll
  for (int d = 16; d; d >>= 1) {
    A b;
#pragma unroll
    for (int w = 0; w < int(sizeof(A) / 4); ++w)
      reinterpret_cast<uint32_t*>(&b)[w] = __shfl_down_sync(~0u, reinterpret_cast<uint32_t*>(&a)[w], d);
    a = op.combine(a, b);
  }
  return a;
}

/// Op: In, Out, A (4 bytes, 8 or more); A empty(); A combine(A, A); Out finish(A, count); and what one thread keeps of the elements that
/// it sees in order: Lane, Lane lane(), void take(Lane&, In, index), A done(Lane). `fixed`: which elements a thread sees does not depend on
/// where in memory they are.
template <class Op>
__device__ typename Op::A row_part(const Op& op, const typename Op::In* x, const DeviceWalk<1>& reduced, int64_t from, int64_t to, int lane,
                                   int lanes, bool fixed) {
  using In = typename Op::In;
  typename Op::Lane l = op.lane();
  if (reduced.rank > 1) {
#pragma unroll 1
    for (int64_t r = from + lane; r < to; r += lanes) {
      int64_t at[1];
      offsets_of(reduced, r, at);
      op.take(l, x[at[0]], r);
    }
    return op.done(l);
  }
  const int64_t step = reduced.rank ? reduced.stride[0][0] : 0;
  constexpr int V = 16 / int(sizeof(In)), kPacks = V > 8 ? 2 : 4;
  if (step == 1 && to - from >= 2 * V * lanes) {  // 16 bytes at a time, from the first aligned element on
    const auto odd = int64_t(reinterpret_cast<uintptr_t>(x + from) % 16 / sizeof(In)), head = odd && !fixed ? V - odd : 0;
    if (lane < head) op.take(l, x[from + lane], from + lane);
    const int64_t begin = from + head, end = begin + (to - begin) / V * V;
    if (fixed && odd) {
#pragma unroll 1
      for (int64_t r = begin + int64_t(lane) * V; r < end; r += int64_t(lanes) * V)
#pragma unroll 1
        for (int k = 0; k < V; ++k) op.take(l, x[r + k], r + k);
    } else {
#pragma unroll kPacks
      for (int64_t r = begin + int64_t(lane) * V; r < end; r += int64_t(lanes) * V) {
        const auto pack = *reinterpret_cast<const Pack<In, V>*>(x + r);
#pragma unroll
        for (int k = 0; k < V; ++k) op.take(l, pack.v[k], r + k);
      }
    }
    if (end + lane < to) op.take(l, x[end + lane], end + lane);
    return op.done(l);
  }
#pragma unroll 4
  for (int64_t r = from + lane; r < to; r += lanes) op.take(l, x[r * step], r);
  return op.done(l);
}

template <class Op>
__device__ void put(const Op& op, typename Op::A a, int64_t i, int64_t part, int64_t parts, int64_t results, int64_t extent,
                    typename Op::Out* y, typename Op::A* partial) {
  if (parts == 1)
    y[i] = op.finish(a, extent);
  else
    partial[part * results + i] = a;
}

template <class Op>
__global__ void __launch_bounds__(kThreads) reduce_warps(Op op, const typename Op::In* x, DeviceWalk<1> kept, DeviceWalk<1> reduced,
                                                         int64_t results, int64_t extent, bool fixed, typename Op::Out* y) {
  const int64_t i = int64_t(blockIdx.x) * 8 + threadIdx.x / 32;
  if (i >= results) return;
  int64_t at[1];
  offsets_of(kept, i, at);
  const typename Op::A a = warp_combine(row_part(op, x + at[0], reduced, 0, extent, int(threadIdx.x % 32), 32, fixed), op);
  if (threadIdx.x % 32 == 0) y[i] = op.finish(a, extent);
}

template <class Op>
__global__ void __launch_bounds__(kThreads)
    reduce_blocks(Op op, const typename Op::In* x, DeviceWalk<1> kept, DeviceWalk<1> reduced, int64_t results, int64_t extent,
                  int64_t parts, bool fixed, typename Op::Out* y, typename Op::A* partial) {
  using A = typename Op::A;
  const int64_t i = blockIdx.x % results, part = blockIdx.x / results, share = (extent + parts - 1) / parts;
  int64_t at[1];
  offsets_of(kept, i, at);
  const int64_t from = part * share, to = from + share < extent ? from + share : extent;
  A a = warp_combine(row_part(op, x + at[0], reduced, from, to, int(threadIdx.x), kThreads, fixed), op);
  __shared__ alignas(16) unsigned char room[sizeof(A) * (kThreads / 32)];
  A* const warps = reinterpret_cast<A*>(room);
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = a;
  __syncthreads();
  if (threadIdx.x) return;
  for (int w = 1; w < kThreads / 32; ++w) a = op.combine(a, warps[w]);
  put(op, a, i, part, parts, results, extent, y, partial);
}

template <class Op>
__global__ void __launch_bounds__(kThreads)
    reduce_columns(Op op, const typename Op::In* x, DeviceWalk<1> kept, DeviceWalk<1> reduced, int64_t results, int64_t extent,
                   int64_t parts, int64_t tiles, bool fixed, typename Op::Out* y, typename Op::A* partial) {
  using A = typename Op::A;
  const int64_t tile = blockIdx.x % tiles, part = blockIdx.x / tiles, share = (extent + parts - 1) / parts;
  const int column = int(threadIdx.x % 32), row = int(threadIdx.x / 32);
  const int64_t i = tile * 32 + column, from = part * share, to = from + share < extent ? from + share : extent;
  A a = op.empty();
  if (i < results) {
    int64_t at[1];
    offsets_of(kept, i, at);
    a = row_part(op, x + at[0], reduced, from, to, row, kThreads / 32, fixed);
  }
  __shared__ alignas(16) unsigned char room[sizeof(A) * kThreads];
  A* const all = reinterpret_cast<A*>(room);
  all[threadIdx.x] = a;
  __syncthreads();
  if (row || i >= results) return;
  for (int r = 1; r < kThreads / 32; ++r) a = op.combine(a, all[r * 32 + column]);
  put(op, a, i, part, parts, results, extent, y, partial);
}

template <class Op>
__global__ void __launch_bounds__(kThreads)
    reduce_parts(Op op, const typename Op::A* partial, int64_t results, int64_t extent, int64_t parts, typename Op::Out* y) {
  const int64_t i = int64_t(blockIdx.x) * 8 + threadIdx.x / 32;  // a warp a result: parts may be many
  if (i >= results) return;
  typename Op::A a = op.empty();
  for (int64_t p = threadIdx.x % 32; p < parts; p += 32) a = op.combine(a, partial[p * results + i]);
  a = warp_combine(a, op);
  if (threadIdx.x % 32 == 0) y[i] = op.finish(a, extent);
}

/// Bytes of workspace of a reduction with partial results of `bytes` each.
inline size_t reduction_workspace(const KernelArgs& a, const Dims& axes, size_t bytes) {
  const Reduction r(a, axes);
  return r.parts > 1 ? size_t(r.parts * r.results) * bytes : 0;
}

template <class Op>
KernelStatus reduce(const KernelArgs& a, const Dims& axes, Op op) {
  const Reduction r(a, axes);
  if (r.results == 0) return {};
  use(a.device);
  const auto* x = a.in[0].ptr<typename Op::In>();
  auto* y = a.out[0].ptr<typename Op::Out>();
  auto* partial = static_cast<typename Op::A*>(a.workspace);
  const DeviceWalk<1> kept(r.kept, r.results), reduced(r.reduced, r.extent);
  KernelStatus status;
  if (r.form == Reduction::warps)
    status =
        start<reduce_warps<Op>>(a, unsigned(ceil_div(r.results, 8)), kThreads, op, x, kept, reduced, r.results, r.extent, a.invariant, y);
  else if (r.form == Reduction::blocks)
    status = start<reduce_blocks<Op>>(a, unsigned(r.results * r.parts), kThreads, op, x, kept, reduced, r.results, r.extent, r.parts,
                                      a.invariant, y, partial);
  else
    status = start<reduce_columns<Op>>(a, unsigned(ceil_div(r.results, 32) * r.parts), kThreads, op, x, kept, reduced, r.results, r.extent,
                                       r.parts, ceil_div(r.results, 32), a.invariant, y, partial);
  if (status.code || r.parts == 1) return status;
  return start<reduce_parts<Op>>(a, unsigned(ceil_div(r.results, 8)), kThreads, op, partial, r.results, r.extent, r.parts, y);
}

/// Counts, means and sums of squared deviations, merged as by Chan, Golub and LeVeque (1979).
template <class T>
struct Spread {
  using In = T;
  struct A {  // in f64, since the mean may be far from 0
    double mean, squares, count;
  };
  __device__ A empty() const { return {0, 0, 0}; }
  struct Lane {  // sums of deviations from the first element
    double first, sum, squares;
    int64_t count;
  };
  __device__ Lane lane() const { return {0, 0, 0, 0}; }
  __device__ void take(Lane& l, T x, int64_t) const {
    const double v = double(widen(x));
    if (l.count++ == 0) l.first = v;
    const double d = v - l.first;
    l.sum += d, l.squares = __fma_rn(d, d, l.squares);
  }
  __device__ A done(const Lane& l) const {
    if (l.count == 0) return empty();
    const double n = double(l.count);
    return {l.first + l.sum / n, l.squares - l.sum * (l.sum / n), n};
  }
  __device__ A combine(A a, A b) const {
    if (b.count == 0) return a;
    if (a.count == 0) return b;
    // As a rule both are equally many, and a division takes longer than all the rest.
    const double n = a.count + b.count, d = b.mean - a.mean, share = a.count == b.count ? 0.5 : b.count / n;
    return {a.mean + d * share, a.squares + b.squares + d * d * a.count * share, n};
  }
};

}  // namespace keel::cuda
