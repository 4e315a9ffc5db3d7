// Planning of matrix products: merges batch dimensions into m where strides allow, turns a single column into a single row, and deals rectangles of C to threads. Small
// products run on the caller. A thread owns its rectangle for all k, with its own scratch, so threads share nothing but the inputs; a rectangle's borders are
// multiples of the register tile and cannot be seen in the result.
#include "backend/cpu/gemm/gemm.h"

#include <algorithm>
#include <cmath>

#include "backend/cpu/gemm/task.h"
#include "keel/parallel.h"

namespace keel::cpu {
namespace {

constexpr double kFlopsPerThread = 2e6;  // about 10 us of one core; bf16 instructions do four times as much

struct Kernels {
  GemmShape (*shape)(Elem, Elem);
  void (*task)(Elem, Elem, const GemmTask&);
  void (*pack_b)(Elem, int64_t, int64_t, const void*, int64_t, int64_t, void*);
};
const Kernels& kernels(Elem in) {
  static constexpr Kernels kF32{gemm_shape_f32, gemm_task_f32, gemm_pack_b_f32}, kF64{gemm_shape_f64, gemm_task_f64, gemm_pack_b_f64},
      kHalf{gemm_shape_half, gemm_task_half, gemm_pack_b_half};
  return in == Elem::f32 ? kF32 : in == Elem::f64 ? kF64 : kHalf;
}

// Drops batch dimensions of 1, folds an innermost dimension that only lengthens m into m, and merges neighbours with one common stride.
GemmArgs simplified(const GemmArgs& in) {
  GemmArgs g = in;
  g.batch_rank = 0;
  for (int d = 0; d < in.batch_rank; ++d) {
    if (in.batch[d] == 1) continue;
    const int r = g.batch_rank, q = r - 1;
    if (r > 0 && g.a_bs[q] == in.a_bs[d] * in.batch[d] && g.b_bs[q] == in.b_bs[d] * in.batch[d] && g.c_bs[q] == in.c_bs[d] * in.batch[d]) {
      g.batch[q] *= in.batch[d], g.a_bs[q] = in.a_bs[d], g.b_bs[q] = in.b_bs[d], g.c_bs[q] = in.c_bs[d];
      continue;
    }
    g.batch[r] = in.batch[d], g.a_bs[r] = in.a_bs[d], g.b_bs[r] = in.b_bs[d], g.c_bs[r] = in.c_bs[d];
    ++g.batch_rank;
  }
  const int q = g.batch_rank - 1;
  if (g.batch_rank == 1 && g.b_bs[q] == 0) {
    const bool one_row = g.m == 1;
    if ((one_row ||
         (g.a_bs[q] == g.m * g.a_rs && g.c_bs[q] == g.m * g.ldc && (!g.epilogue.pre || g.epilogue.pre_bs == g.m * g.epilogue.ldpre)))) {
      if (one_row) g.a_rs = g.a_bs[q], g.ldc = g.c_bs[q], g.epilogue.ldpre = g.epilogue.pre_bs;
      g.m *= g.batch[q], --g.batch_rank;
    }
  }
  const GemmEpilogue& e = g.epilogue;
  const bool wide = g.in == Elem::f32 || g.in == Elem::f64;
  if (wide && g.batch_rank == 0 && g.n == 1 && g.m > 1 && g.ldc == 1 && !g.packed_b && !e.bias && !e.pre && !e.on_block) {
    std::swap(g.m, g.n), std::swap(g.a, g.b), g.ldc = g.n;  // a single column is a single row
    const int64_t a_rs = g.a_rs, a_cs = g.a_cs;
    g.a_rs = 0, g.a_cs = g.b_rs, g.b_rs = a_cs, g.b_cs = a_rs;
  }
  return g;
}

struct Plan {
  int64_t batch, tm, tn, mt, nt, tasks, tiles;  // tiles a batch entry: tm x tn rectangles of mt x nt; threads
};
Plan make_plan(const GemmArgs& g, const GemmShape& s, int64_t threads) {
  Plan p{1, 1, 1, g.m, g.n, 1, 1};
  for (int d = 0; d < g.batch_rank; ++d) p.batch *= g.batch[d];
  const double flops = 2.0 * double(p.batch) * double(g.m) * double(g.n) * double(std::max<int64_t>(g.k, 1));
  p.tasks = std::clamp<int64_t>(int64_t(flops / (s.kr > 1 ? 4 * kFlopsPerThread : kFlopsPerThread)), 1, threads);
  if (p.tasks > 1 && p.batch < 4 * p.tasks && p.batch % p.tasks != 0) {
    const int64_t want = p.tasks, rows = (g.m + s.mr - 1) / s.mr, cols = (g.n + s.nr - 1) / s.nr;
    double best = INFINITY;
    for (int64_t tn = 1; tn <= want; ++tn) {
      const int64_t tm = want / tn, r = (rows + tm - 1) / tm, c = (cols + tn - 1) / tn;
      const double cost =
          double(r * c) * double(s.mr * s.nr) + 8.0 * double(r * s.mr + c * s.nr);  // arithmetic of the largest share, and its packing
      if (cost < best) best = cost, p.tm = tm, p.tn = tn, p.mt = r * s.mr, p.nt = c * s.nr;
    }
    p.tm = (g.m + p.mt - 1) / p.mt, p.tn = (g.n + p.nt - 1) / p.nt;
  }
  p.tiles = p.tm * p.tn;
  p.tasks = std::min(p.tasks, p.batch * p.tiles);
  return p;
}

const char* at(const void* p, int64_t elements, Elem e) { return static_cast<const char*>(p) + elements * elem_bytes(e); }

}  // namespace

int64_t gemm_workspace_bytes(const GemmArgs& args) {
  const GemmArgs g = simplified(args);
  const GemmShape s = kernels(g.in).shape(g.in, g.out);
  return make_plan(g, s, num_threads()).tasks * s.workspace;
}

void gemm(const GemmArgs& args, void* workspace, int64_t workspace_bytes) {
  const GemmArgs g = simplified(args);
  if (g.m <= 0 || g.n <= 0) return;
  const Kernels& kernel = kernels(g.in);
  const GemmShape s = kernel.shape(g.in, g.out);
  const Plan p = make_plan(g, s, std::max<int64_t>(std::min(num_threads(), workspace_bytes / s.workspace), 1));
  const int64_t total = p.batch * p.tiles;
  const auto run = [&](int64_t item, int64_t slot) {
    int64_t batch = item / p.tiles, rest = batch, ao = 0, bo = 0, co = 0;
    const int64_t row = item % p.tiles / p.tn * p.mt, col = item % p.tiles % p.tn * p.nt;
    for (int d = g.batch_rank - 1; d >= 0; --d) {
      const int64_t i = rest % g.batch[d];
      rest /= g.batch[d], ao += i * g.a_bs[d], bo += i * g.b_bs[d], co += i * g.c_bs[d];
    }
    GemmTask t;
    t.m = std::min(p.mt, g.m - row), t.n = std::min(p.nt, g.n - col), t.k = g.k;
    t.a = at(g.a, ao + row * g.a_rs, g.in), t.a_rs = g.a_rs, t.a_cs = g.a_cs;
    t.b = g.packed_b ? nullptr : at(g.b, bo + col * g.b_cs, g.in), t.b_rs = g.b_rs, t.b_cs = g.b_cs;
    t.c = const_cast<char*>(at(g.c, co + row * g.ldc + col, g.out)), t.ldc = g.ldc;
    t.alpha = g.alpha, t.beta = g.beta;
    t.packed_b = static_cast<const char*>(g.packed_b), t.packed_n = round_up(g.n, s.nr), t.col0 = col;
    t.row0 = row, t.batch = batch, t.epilogue = &g.epilogue;
    t.bias_offset = col, t.pre_offset = batch * g.epilogue.pre_bs + row * g.epilogue.ldpre + col;
    t.workspace = static_cast<char*>(workspace) + slot * s.workspace;
    kernel.task(g.in, g.out, t);
  };
  if (p.tasks == 1) {
    for (int64_t i = 0; i < total; ++i) run(i, 0);
    return;
  }
  parallel_for(0, p.tasks, 1, [&](int64_t lo, int64_t hi) {
    for (int64_t slot = lo; slot < hi; ++slot)
      for (int64_t i = slot * total / p.tasks; i < (slot + 1) * total / p.tasks; ++i) run(i, slot);
  });
}

int64_t gemm_packed_b_bytes(Elem in, int64_t k, int64_t n) {
  const GemmShape s = kernels(in).shape(in, in);
  return round_up(std::max<int64_t>(k, 1), s.kr) * round_up(n, s.nr) * (s.kr > 1 ? 2 : in == Elem::f64 ? 8 : 4);
}

void gemm_pack_b(Elem in, int64_t k, int64_t n, const void* b, int64_t b_rs, int64_t b_cs, void* packed) {
  kernels(in).pack_b(in, k, n, b, b_rs, b_cs, packed);
}

}  // namespace keel::cpu
