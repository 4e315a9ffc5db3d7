// Planning of F(2 x 2, 3 x 3): blocks of tiles, transformed into 16 planes that stay in L2, meet 16 planes of transformed weights in 16
// matrix products. The gradient to the input is the same with the window turned; that to the weights sums products of transformed inputs
// and cotangents over all tiles and transforms once, at the end.
#include "backend/cpu/conv/winograd.h"

#include <algorithm>
#include <atomic>

#include "backend/cpu/gemm/task.h"
#include "backend/cpu/isa.h"
#include "backend/cpu/loops/stat_rows.h"
#include "base/env.h"
#include "keel/cpu.h"
#include "keel/parallel.h"

namespace keel {
namespace {
std::atomic<bool>& winograd_switch() {
  static std::atomic<bool> on{base::env_string("KEEL_WINOGRAD") != "0"};
  return on;
}
}  // namespace
void allow_winograd(bool on) { winograd_switch().store(on, std::memory_order_relaxed); }
bool winograd_allowed() { return winograd_switch().load(std::memory_order_relaxed); }
}  // namespace keel

namespace keel::cpu {
namespace {

constexpr int64_t kPlanes = 16;

float* aligned(void* p) { return reinterpret_cast<float*>(round_up(reinterpret_cast<intptr_t>(p), 64)); }
/// Elements from plane to plane: planes a multiple of 4 KiB apart would share their lines of L1.
int64_t plane_of(int64_t elements) { return round_up(elements, 1024) + 48; }
int64_t scratch_bytes() { return round_up(gemm_shape_f32(Elem::f32, Elem::f32).workspace, 64); }

WinogradTiles tiles_of(int64_t h, int64_t w, int64_t c, int64_t rows, int64_t columns, int64_t py, int64_t px) {
  return {h, w, c, (rows + 1) / 2, (columns + 1) / 2, py, px, 0, 0};
}

/// A correlation of images [n, from] with k channels to images [n, to] with `lanes` channels.
struct Correlation {
  WinogradTiles from, to;
  int64_t tiles, block, tasks, weights, source, result, scratch;  // planes and scratch in elements
  Correlation(int64_t n, const WinogradTiles& source_tiles, const WinogradTiles& result_tiles) : from(source_tiles), to(result_tiles) {
    tiles = n * to.rows * to.columns;
    const int64_t least = from.c * to.c > 256 * 256 ? 56 : 28;  // many weights come from beyond L2 for each block
    block = std::clamp<int64_t>(l2_bytes() / 4 / (kPlanes * 4 * (from.c + to.c)), least, 448) / 14 * 14;
    const int64_t threads = num_threads(), share = (tiles + threads - 1) / threads;
    block = std::clamp<int64_t>(share, 1, block);
    if (const int64_t blocks = (tiles + block - 1) / block; blocks > 1) block = (tiles + blocks - 1) / blocks;  // none much shorter
    tasks = std::clamp<int64_t>((tiles + block - 1) / block, 1, threads);
    weights = plane_of(from.c * round_up(to.c, gemm_shape_f32(Elem::f32, Elem::f32).nr));
    source = plane_of(block * from.c), result = plane_of(block * to.c), scratch = scratch_bytes() / 4;
  }
  int64_t task() const { return kPlanes * (source + result) + scratch; }
  int64_t bytes() const { return 64 + 4 * (kPlanes * weights + tasks * task()); }
};
Correlation forward_plan(const ConvShape& s) {
  return {s.n, tiles_of(s.h, s.w, s.c, s.oh, s.ow, s.ph, s.pw), tiles_of(s.oh, s.ow, s.o, s.oh, s.ow, 0, 0)};
}
Correlation input_plan(const ConvShape& s) {
  return {s.n, tiles_of(s.oh, s.ow, s.o, s.h, s.w, 2 - s.ph, 2 - s.pw), tiles_of(s.h, s.w, s.c, s.h, s.w, 0, 0)};
}

template <class F>
void spread(int64_t tasks, F f) {
  if (tasks == 1) return f(0, 1);
  parallel_for(0, tasks, 1, f);
}

/// Statistics of the results of some tiles: two rows of pixels for each row of tiles.
void watch_tiles(const WinogradTiles& t, const float* images, StatSlot::Part& part) {
  for (int64_t tile = t.tile0; tile < t.tile1;) {
    const int64_t line = tile / t.columns, first = tile % t.columns, last = std::min(first + t.tile1 - tile, t.columns);
    const int64_t y = 2 * (line % t.rows), x0 = 2 * first, x1 = std::min(2 * last, t.w);
    stat_rows(DType::f32, images + ((line / t.rows * t.h + y) * t.w + x0) * t.c, std::min<int64_t>(2, t.h - y), (x1 - x0) * t.c, t.w * t.c,
              part);
    tile += last - first;
  }
}

void correlate(const Correlation& p, const float* x, const float* w, int64_t lane_stride, int64_t k_stride, bool turned, const float* bias,
               float* y, StatSlot* slot, void* workspace) {
  const WinogradKernels& kernel = winograd_kernels();
  const int64_t panel = gemm_shape_f32(Elem::f32, Elem::f32).nr, panels = (p.to.c + panel - 1) / panel;
  float *u = aligned(workspace), *shares = u + kPlanes * p.weights;
  spread(std::min(p.tasks, panels), [&](int64_t lo, int64_t hi) {
    const int64_t tasks = std::min(p.tasks, panels);
    kernel.weights(w, p.to.c, lane_stride, p.from.c, k_stride, turned, panel, lo * panels / tasks, hi * panels / tasks, u, p.weights);
  });
  const int64_t blocks = (p.tiles + p.block - 1) / p.block;
  spread(p.tasks, [&](int64_t lo, int64_t hi) {
    StatSlot::Part part;
    for (int64_t t = lo; t < hi; ++t) {
      float *v = shares + t * p.task(), *m = v + kPlanes * p.source, *scratch = m + kPlanes * p.result;
      for (int64_t b = t * blocks / p.tasks; b < (t + 1) * blocks / p.tasks; ++b) {
        WinogradTiles from = p.from, to = p.to;
        from.tile0 = to.tile0 = b * p.block, from.tile1 = to.tile1 = std::min(p.tiles, (b + 1) * p.block);
        kernel.source(from, x, v, p.source);
        GemmArgs g;
        g.m = to.tile1 - to.tile0, g.n = to.c, g.k = from.c, g.a_rs = from.c, g.ldc = to.c;
        for (int64_t i = 0; i < kPlanes; ++i) {
          g.a = v + i * p.source, g.packed_b = u + i * p.weights, g.c = m + i * p.result;
          gemm(g, scratch, p.scratch * 4);
        }
        kernel.result(to, m, p.result, bias, y);
        if (slot) watch_tiles(to, y, part);
      }
    }
    if (slot) slot->merge(part);
  });
}

/// The sum over tiles runs in blocks whose length the channels alone decide.
struct WeightPlan {
  WinogradTiles x, g;
  int64_t tiles, block, tasks, source, cotangent, sums, scratch;
  explicit WeightPlan(const ConvShape& s)
      : x(tiles_of(s.h, s.w, s.c, s.oh, s.ow, s.ph, s.pw)), g(tiles_of(s.oh, s.ow, s.o, s.oh, s.ow, 0, 0)) {
    tiles = s.n * x.rows * x.columns;
    block = std::clamp<int64_t>((int64_t(1) << 20) / (kPlanes * 4 * (s.c + s.o)), 128, 512);
    block = std::clamp<int64_t>(tiles, 1, block);
    tasks = std::clamp<int64_t>(num_threads(), 1, kPlanes);
    source = plane_of(block * s.c), cotangent = plane_of(block * s.o), sums = plane_of(s.c * s.o), scratch = scratch_bytes() / 4;
  }
  int64_t bytes() const { return 64 + 4 * (kPlanes * (source + cotangent + sums) + tasks * scratch); }
};

}  // namespace

bool winograd_suits(Elem e, const ConvShape& s) {
  return e == Elem::f32 && s.groups == 1 && s.kh == 3 && s.kw == 3 && s.sh == 1 && s.sw == 1 && s.dh == 1 && s.dw == 1 && s.ph <= 2 &&
         s.pw <= 2 && std::min(s.c, s.o) >= 32 && std::max(s.c, s.o) <= kWinogradMost && s.oh * s.ow >= 16 && winograd_allowed();
}

int64_t winograd_forward_workspace(const ConvShape& s) { return forward_plan(s).bytes(); }
void winograd_forward(const ConvShape& s, const float* x, const float* weight, const float* bias, float* y, StatSlot* slot,
                      void* workspace) {
  correlate(forward_plan(s), x, weight, 9 * s.c, 9, false, bias, y, slot, workspace);
}

int64_t winograd_backward_input_workspace(const ConvShape& s) { return input_plan(s).bytes(); }
void winograd_backward_input(const ConvShape& s, const float* g, const float* weight, float* dx, StatSlot* slot, void* workspace) {
  correlate(input_plan(s), g, weight, 9, 9 * s.c, true, nullptr, dx, slot, workspace);
}

int64_t winograd_backward_weight_workspace(const ConvShape& s) { return WeightPlan(s).bytes(); }
void winograd_backward_weight(const ConvShape& s, const float* g, const float* x, float* dweight, void* workspace) {
  const WinogradKernels& kernel = winograd_kernels();
  const WeightPlan p(s);
  float *v = aligned(workspace), *z = v + kPlanes * p.source, *sums = z + kPlanes * p.cotangent, *scratch = sums + kPlanes * p.sums;
  if (p.tiles == 0) return void(std::fill(dweight, dweight + s.o * s.c * 9, 0.0f));
  for (int64_t t0 = 0; t0 < p.tiles; t0 += p.block) {
    const int64_t count = std::min(p.block, p.tiles - t0), shares = std::min(p.tasks, count);
    spread(shares, [&](int64_t lo, int64_t hi) {
      WinogradTiles from = p.x, to = p.g;
      const int64_t first = lo * count / shares;
      from.tile0 = to.tile0 = t0 + first, from.tile1 = to.tile1 = t0 + hi * count / shares;
      kernel.source(from, x, v + first * s.c, p.source);
      kernel.cotangent(to, g, z + first * s.o, p.cotangent);
    });
    spread(p.tasks, [&](int64_t lo, int64_t hi) {
      GemmArgs a;
      a.m = s.c, a.n = s.o, a.k = count, a.a_rs = 1, a.a_cs = s.c, a.b_rs = s.o, a.ldc = s.o, a.beta = t0 ? 1 : 0;
      for (int64_t t = lo; t < hi; ++t)
        for (int64_t i = t * kPlanes / p.tasks; i < (t + 1) * kPlanes / p.tasks; ++i) {
          a.a = v + i * p.source, a.b = z + i * p.cotangent, a.c = sums + i * p.sums;
          gemm(a, scratch + t * p.scratch, p.scratch * 4);
        }
    });
  }
  const int64_t groups = (s.o + 15) / 16, shares = std::min(p.tasks, groups);
  spread(shares, [&](int64_t lo, int64_t hi) {
    kernel.weight_gradient(sums, p.sums, s.c, s.o, lo * groups / shares * 16, std::min(hi * groups / shares * 16, s.o), dweight);
  });
}

}  // namespace keel::cpu
