// Planning of convolutions: a forward convolution is one grid of pixels, its input gradient one grid for each phase of the stride, a weight gradient the forward grid with
// pixels summed. 1 x 1 convolutions of stride 1 are plain matrix products. Weights are packed once a call, in parallel; then threads take shares of grid rows (or, where there are too few, of
// outputs), and of input channels for the weight gradient, whose sum over pixels stays whole in one thread.
#include "backend/cpu/conv/conv.h"

#include <algorithm>
#include <cstring>

#include "backend/cpu/conv/task.h"
#include "backend/cpu/conv/winograd.h"
#include "backend/cpu/gemm/task.h"
#include "backend/cpu/loops/loops.h"
#include "backend/cpu/loops/stat_rows.h"
#include "keel/numerics/types.h"
#include "keel/parallel.h"

namespace keel::cpu {
namespace {

constexpr double kFlopsPerThread = 2e6;
constexpr int64_t kJoin = 32;  // fewer channels than this: the columns of a window row are one run

const ConvKernels& kernels(Elem e) { return e == Elem::f64 ? conv_kernels_f64() : conv_kernels_f32(); }
int64_t computing_bytes(Elem e) { return e == Elem::f64 ? 8 : 4; }
const char* at(const void* p, int64_t elements, Elem e) { return static_cast<const char*>(p) + elements * elem_bytes(e); }

bool is_product(const ConvShape& s) { return s.kh == 1 && s.kw == 1 && s.sh == 1 && s.sw == 1 && s.ph == 0 && s.pw == 0 && s.groups == 1; }
int64_t threads_for(const ConvShape& s) {
  const double flops = 2.0 * double(s.n * s.oh * s.ow * s.o) * double(s.c / s.groups * s.kh * s.kw);
  return std::clamp<int64_t>(int64_t(flops / kFlopsPerThread), 1, num_threads());
}

/// A grid with its own list of taps, and for each tap its place in a window of the weights.
struct Grid : ConvGrid {
  ConvTap tap_list[kConvTaps];
  int64_t place[kConvTaps];  // of single columns
  int64_t places = 0;
  bool single = false;  // taps are never joined
};

/// Joins the taps (rows dy[i], columns dx[j], both rising) of a grid and decides on the copy.
void finish_grid(Grid& g, Elem e, const int64_t* dy, const int64_t* i_of, int64_t ni, const int64_t* dx, const int64_t* j_of, int64_t nj,
                 int64_t kw) {
  g.dy0 = dy[0], g.dy1 = dy[ni - 1], g.dx0 = dx[0], g.dx1 = dx[nj - 1];
  const bool inside = g.dy0 >= 0 && g.dx0 >= 0 && (g.rows - 1) * g.isy + g.dy1 < g.h && (g.columns - 1) * g.isx + g.dx1 < g.w;
  g.pair = g.cg == 1 && g.isx == 1 && g.og <= kernels(e).paired_outputs();
  g.copy = !inside || elem_bytes(e) == 2 || g.columns < kernels(e).group() * (1 + g.pair) || (g.pair && g.c > 1);
  bool neighbours = nj > 1;
  for (int64_t j = 1; j < nj; ++j) neighbours = neighbours && dx[j] == dx[j - 1] + 1;
  const bool join = !g.single && neighbours && g.cg < kJoin && (g.copy || g.cg == g.c);
  g.taps = g.tap_list, g.n_taps = 0, g.places = 0;
  for (int64_t i = 0; i < ni; ++i)
    for (int64_t j = 0; j < nj; ++j) {
      g.place[g.places++] = i_of[i] * kw + j_of[j];
      if (!join)
        g.tap_list[g.n_taps++] = {dy[i], dx[j], 1};
      else if (j == 0)
        g.tap_list[g.n_taps++] = {dy[i], dx[0], nj};
    }
  g.k = g.places * g.cg;
}

void forward_grid(Grid& g, Elem e, const ConvShape& s, const void* x, int64_t group) {
  const int64_t cg = s.c / s.groups, og = s.o / s.groups;
  g.src = x, g.n = s.n, g.h = s.h, g.w = s.w, g.c = s.c, g.c0 = group * cg, g.cg = cg;
  g.rows = s.oh, g.columns = s.ow, g.isy = s.sh, g.isx = s.sw;
  g.oh = s.oh, g.ow = s.ow, g.o = s.o, g.o0 = group * og, g.og = og, g.osy = g.osx = 1, g.oy0 = g.ox0 = 0;
  g.dst = nullptr, g.panels = nullptr, g.bias = nullptr, g.slot = nullptr;
  int64_t dy[kConvTaps], dx[kConvTaps], i_of[kConvTaps], j_of[kConvTaps];
  for (int64_t i = 0; i < s.kh; ++i) dy[i] = i * s.dh - s.ph, i_of[i] = i;
  for (int64_t j = 0; j < s.kw; ++j) dx[j] = j * s.dw - s.pw, j_of[j] = j;
  finish_grid(g, e, dy, i_of, s.kh, dx, j_of, s.kw, s.kw);
}

/// The taps of one axis that reach inputs of phase r: offsets in g, rising, and the taps' places.
int64_t phase_taps(int64_t r, int64_t stride, int64_t padding, int64_t dilation, int64_t taps, int64_t* offset, int64_t* place) {
  int64_t n = 0;
  for (int64_t i = taps - 1; i >= 0; --i)
    if ((r + padding - i * dilation) % stride == 0) offset[n] = (r + padding - i * dilation) / stride, place[n++] = i;
  return n;
}
/// False where no tap reaches this phase: its part of dx is zero.
bool input_grid(Grid& g, Elem e, const ConvShape& s, const void* grad, void* dx_out, int64_t group, int64_t ry, int64_t rx) {
  const int64_t cg = s.c / s.groups, og = s.o / s.groups;
  g.src = grad, g.n = s.n, g.h = s.oh, g.w = s.ow, g.c = s.o, g.c0 = group * og, g.cg = og;
  g.rows = (s.h - ry + s.sh - 1) / s.sh, g.columns = (s.w - rx + s.sw - 1) / s.sw, g.isy = g.isx = 1;
  g.dst = dx_out, g.oh = s.h, g.ow = s.w, g.o = s.c, g.o0 = group * cg, g.og = cg, g.osy = s.sh, g.osx = s.sw, g.oy0 = ry, g.ox0 = rx;
  g.panels = nullptr, g.bias = nullptr, g.slot = nullptr;
  int64_t dy[kConvTaps], dx[kConvTaps], i_of[kConvTaps], j_of[kConvTaps];
  const int64_t ni = phase_taps(ry, s.sh, s.ph, s.dh, s.kh, dy, i_of), nj = phase_taps(rx, s.sw, s.pw, s.dw, s.kw, dx, j_of);
  if (!ni || !nj) return false;
  finish_grid(g, e, dy, i_of, ni, dx, j_of, nj, s.kw);
  return true;
}

int64_t aligned(int64_t bytes) { return round_up(bytes, 64); }
char* aligned(void* p) { return reinterpret_cast<char*>(round_up(reinterpret_cast<intptr_t>(p), 64)); }

int64_t panels_bytes(Elem e, int64_t lanes, int64_t k) { return aligned(round_up(lanes, kernels(e).panel()) * k * computing_bytes(e)); }

/// Packs the taps at `place` of weights for `lanes` outputs and `channels` inputs, whose strides walk them from `w`.
void pack_weights(Elem e, const void* w, int64_t lanes, int64_t lane_stride, int64_t channels, int64_t k_stride, const int64_t* place,
                  int64_t places, bool pair, int64_t threads, void* panels) {
  if (lanes * channels * places == 0) return;
  const ConvKernels& kernel = kernels(e);
  const auto pack = [&](int64_t p0, int64_t p1) {
    kernel.pack(e, w, lanes, lane_stride, channels, k_stride, place, places, p0, p1, pair, panels);
  };
  const int64_t count = (lanes + kernel.panel() - 1) / kernel.panel();
  if (threads == 1)
    pack(0, count);
  else
    parallel_for(0, count, 1, pack);
}

/// Runs a grid whose weights are packed.
void run_grid(const Grid& g, Elem e, int64_t threads, char* scratch) {
  const ConvKernels& kernel = kernels(e);
  const int64_t panels = (g.og + kernel.panel() - 1) / kernel.panel(), rows = g.n * g.rows;
  if (rows <= 0 || g.columns <= 0 || g.og <= 0) return;
  const int64_t by_rows = std::min(threads, rows), by_panels = std::clamp<int64_t>(threads / by_rows, 1, panels),
                tasks = by_rows * by_panels;
  const int64_t bytes = aligned(kernel.task_bytes(g));
  const auto run = [&](int64_t lo, int64_t hi) {
    for (int64_t t = lo; t < hi; ++t) {
      const int64_t r = t / by_panels, p = t % by_panels;
      kernel.task(
          e, {&g, r * rows / by_rows, (r + 1) * rows / by_rows, p * panels / by_panels, (p + 1) * panels / by_panels, scratch + t * bytes});
    }
  };
  if (tasks == 1)
    run(0, 1);
  else
    parallel_for(0, tasks, 1, run);
}

void watch_all(Elem e, const void* data, int64_t count, StatSlot* slot) {
  if (!slot) return;
  parallel_for(0, count, 1 << 15, [&](int64_t lo, int64_t hi) {
    StatSlot::Part part;
    stat_block(dtype_of_elem(e), at(data, lo, e), hi - lo, part), slot->merge(part);
  });
}

GemmArgs forward_product(Elem e, const ConvShape& s, const void* x, const void* weight, const void* bias, void* y) {
  GemmArgs a;
  a.in = a.out = e, a.m = s.n * s.h * s.w, a.n = s.o, a.k = s.c;
  a.a = x, a.a_rs = s.c, a.b = weight, a.b_rs = 1, a.b_cs = s.c, a.c = y, a.ldc = s.o, a.epilogue.bias = bias;
  return a;
}
GemmArgs input_product(Elem e, const ConvShape& s, const void* g, const void* weight, void* dx) {
  GemmArgs a;
  a.in = a.out = e, a.m = s.n * s.h * s.w, a.n = s.c, a.k = s.o;
  a.a = g, a.a_rs = s.o, a.b = weight, a.b_rs = s.c, a.b_cs = 1, a.c = dx, a.ldc = s.c;
  return a;
}
/// What a product's blocks leave behind goes to the slot while they are in cache.
struct BlockWatch {
  DType dtype;
  StatSlot* slot;
  static void see(void* context, const GemmBlock& block) {
    const BlockWatch& w = *static_cast<BlockWatch*>(context);
    StatSlot::Part part;  // beginning with what is known, so that most blocks bring nothing new
    part.max_bits = w.slot->max_bits.load(std::memory_order_relaxed), part.min_bits = w.slot->min_bits.load(std::memory_order_relaxed);
    stat_rows(w.dtype, block.c, block.rows, block.cols, block.ldc, part);
    w.slot->merge(part);
  }
};
void run_product(GemmArgs a, StatSlot* slot, void* workspace) {
  BlockWatch watch{dtype_of_elem(a.out), slot};
  if (slot) a.epilogue.on_block = BlockWatch::see, a.epilogue.context = &watch;
  gemm(a, workspace, gemm_workspace_bytes(a));
}

/// The pointers that winograd.h takes.
const float* floats(const void* p) { return static_cast<const float*>(p); }
float* floats(void* p) { return static_cast<float*>(p); }

bool is_depthwise(const ConvShape& s) { return s.groups > 1 && s.groups == s.c && s.c == s.o; }
int64_t depthwise_ld(Elem e, const ConvShape& s) { return round_up(s.c, kernels(e).panel() / 2); }
int64_t depthwise_bytes(Elem e, const ConvShape& s) { return 64 + aligned(s.kh * s.kw * depthwise_ld(e, s) * computing_bytes(e)); }

/// Calls f(S(), T()) with the types of elements and of computing.
template <class F>
void with_types(Elem e, F f) {
  switch (e) {
    case Elem::f64: return f(double(), double());
    case Elem::f32: return f(float(), float());
    case Elem::bf16: return f(bfloat16(), float());
    default: return f(float16(), float());
  }
}

/// Packs the grid's taps of the weights [c, 1, taps] and runs it.
void run_depthwise_grid(Grid& g, Elem e, const ConvShape& s, const void* weight, char* workspace) {
  const int64_t ld = depthwise_ld(e, s), taps = s.kh * s.kw;
  with_types(e, [&](auto element, auto computing) {
    using S = decltype(element);
    using T = decltype(computing);
    const S* from = static_cast<const S*>(weight);
    T* to = reinterpret_cast<T*>(workspace);
    for (int64_t c = 0; c < s.c; ++c)
      for (int64_t t = 0; t < g.n_taps; ++t) to[t * ld + c] = T(from[c * taps + g.place[t]]);
    for (int64_t t = 0; t < g.n_taps; ++t) std::fill(to + t * ld + s.c, to + (t + 1) * ld, T());
  });
  const auto run = [&](int64_t lo, int64_t hi) { conv_depthwise(e, g, workspace, lo, hi); };
  if (s.n * g.rows * g.columns > 0) parallel_for(0, s.n * g.rows, 1 + 65536 / (g.columns * s.c * g.n_taps + 1), run);
}

}  // namespace

int64_t conv_forward_workspace(Elem e, const ConvShape& s) {
  if (is_product(s)) return gemm_workspace_bytes(forward_product(e, s, nullptr, nullptr, nullptr, nullptr));
  if (winograd_suits(e, s)) return winograd_forward_workspace(s);
  if (is_depthwise(s)) return depthwise_bytes(e, s);
  Grid g;
  forward_grid(g, e, s, nullptr, 0);
  return 64 + panels_bytes(e, g.og, g.k) + threads_for(s) * aligned(kernels(e).task_bytes(g));
}

void conv_forward(Elem e, const ConvShape& s, const void* x, const void* weight, const void* bias, void* y, StatSlot* slot,
                  void* workspace) {
  if (is_product(s)) return run_product(forward_product(e, s, x, weight, bias, y), slot, workspace);
  if (winograd_suits(e, s)) {
    return winograd_forward(s, floats(x), floats(weight), floats(bias), floats(y), slot, workspace);
  }
  if (is_depthwise(s)) {
    Grid g;
    g.single = true;
    forward_grid(g, e, s, x, 0);
    g.dst = y, g.bias = bias, g.slot = slot;
    return run_depthwise_grid(g, e, s, weight, aligned(workspace));
  }
  const int64_t k = s.c / s.groups * s.kh * s.kw;
  for (int64_t group = 0; group < s.groups; ++group) {
    Grid g;
    forward_grid(g, e, s, x, group);
    char* panels = aligned(workspace);
    g.dst = y, g.bias = bias, g.slot = slot, g.panels = panels, g.panel_k = g.k;
    pack_weights(e, at(weight, group * g.og * k, e), g.og, k, g.cg, s.kh * s.kw, g.place, g.places, g.pair, threads_for(s), panels);
    run_grid(g, e, threads_for(s), panels + panels_bytes(e, g.og, g.k));
  }
}

namespace {

/// Few input channels leave most lanes of a grid empty. Then g W, a bounded number of its rows at a time, is added to where each product belongs: all lanes work, but every product is stored.
/// The choice depends on channels and window alone.
bool spreads(Elem e, const ConvShape& s) {
  if (s.groups != 1) return false;
  const int64_t lanes = kernels(e).panel() / 2, taps = s.kh * s.kw;
  const auto vectors = [&](int64_t n) { return (n + lanes - 1) / lanes; };
  return 10 * taps * s.o * vectors(s.c) > 13 * (s.o * vectors(taps * s.c) + 8 * s.kh * vectors(s.kw * s.c));
}

/// Sizes of the spreading form: packed weight, then for each thread scratch of the product, columns of `rows` output rows, and an image in the computing type where results are narrower.
struct Spread {
  GemmArgs product;  // of `rows` output rows
  int64_t k, rows, threads, weight, packed, scratch, columns, image, accumulated;
  Spread(Elem e, const ConvShape& s) {
    const int64_t wide = computing_bytes(e);
    k = s.kh * s.kw * s.c, rows = std::clamp<int64_t>((1 << 16) / std::max<int64_t>(s.ow * k, 1), 1, std::max<int64_t>(s.oh, 1));
    product.in = e, product.out = e == Elem::f64 ? Elem::f64 : Elem::f32;
    product.m = rows * s.ow, product.n = k, product.k = s.o, product.a_rs = s.o, product.ldc = k;
    threads = std::clamp<int64_t>(s.n, 1, threads_for(s));
    weight = aligned(s.o * k * elem_bytes(e)), packed = aligned(gemm_packed_b_bytes(e, s.o, k));
    scratch = aligned((e == Elem::f64   ? gemm_shape_f64(e, e)
                       : e == Elem::f32 ? gemm_shape_f32(e, e)
                                        : gemm_shape_half(e, Elem::f32))
                          .workspace);
    columns = aligned(rows * s.ow * k * wide), accumulated = s.h * s.w * s.c,
    image = elem_bytes(e) == wide ? 0 : aligned(accumulated * wide);
  }
  int64_t bytes() const { return 64 + weight + packed + threads * (scratch + columns + image); }
};

void spread_input_gradient(Elem e, const ConvShape& s, const void* grad, const void* weight, void* dx, StatSlot* slot, char* workspace) {
  Spread p(e, s);
  if (s.n * p.accumulated == 0) return;
  char *ordered = workspace, *packed = ordered + p.weight, *shares = packed + p.packed;
  const int64_t taps = s.kh * s.kw, bytes = elem_bytes(e);
  for (int64_t o = 0; o < s.o; ++o)  // [o, c, taps] to [o, taps, c]
    for (int64_t c = 0; c < s.c; ++c)
      for (int64_t t = 0; t < taps; ++t)
        std::memcpy(ordered + (o * p.k + t * s.c + c) * bytes, at(weight, o * p.k + c * taps + t, e), size_t(bytes));
  gemm_pack_b(e, s.o, p.k, ordered, p.k, 1, packed);
  const DType wide = e == Elem::f64 ? f64 : f32, narrow = dtype_of_elem(e);
  const auto run = [&](int64_t lo, int64_t hi) {
    for (int64_t share = lo; share < hi; ++share) {
      char *scratch = shares + share * (p.scratch + p.columns + p.image), *columns = scratch + p.scratch;
      StatSlot::Part part;
      for (int64_t n = share * s.n / p.threads; n < (share + 1) * s.n / p.threads; ++n) {
        char *to = const_cast<char*>(at(dx, n * p.accumulated, e)), *image = p.image ? columns + p.columns : to;
        std::memset(image, 0, size_t(p.accumulated * computing_bytes(e)));
        for (int64_t y = 0; y < s.oh; y += p.rows) {
          const int64_t rows = std::min(p.rows, s.oh - y);
          GemmArgs g = p.product;
          g.m = rows * s.ow, g.a = at(grad, (n * s.oh + y) * s.ow * s.o, e), g.packed_b = packed, g.c = columns;
          gemm(g, scratch, p.scratch);
          kernels(e).spread({&s, columns, image, y, y + rows});
        }
        if (p.image) convert_loop(wide, narrow)(image, to, p.accumulated, nullptr);
        if (slot) stat_block(narrow, to, p.accumulated, part);
      }
      if (slot) slot->merge(part);
    }
  };
  if (p.threads == 1)
    run(0, 1);
  else
    parallel_for(0, p.threads, 1, run);
}

/// Calls f(row, column) for each phase of the stride.
template <class F>
void for_phases(const ConvShape& s, F f) {
  for (int64_t ry = 0; ry < std::min(s.sh, s.h); ++ry)
    for (int64_t rx = 0; rx < std::min(s.sw, s.w); ++rx) f(ry, rx);
}

/// The taps of all phases, one after another, so that the weights are read and packed once; bytes of the panels and of a task.
struct Phases {
  int64_t place[kConvTaps], places = 0, panels = 0, task = 0;
  bool pair = false;
  Phases(Elem e, const ConvShape& s) {
    Grid g;
    for_phases(s, [&](int64_t ry, int64_t rx) {
      if (!input_grid(g, e, s, nullptr, nullptr, 0, ry, rx)) return;
      std::copy_n(g.place, g.places, place + places);
      places += g.places, pair = g.pair, task = std::max(task, aligned(kernels(e).task_bytes(g)));
    });
    panels = panels_bytes(e, s.c / s.groups, places * (s.o / s.groups));
  }
};

/// Zeros for a phase that no tap reaches.
void clear_phase(const Grid& g, Elem e, const ConvShape& s, int64_t channels, StatSlot* slot) {
  parallel_for(0, g.n * g.rows, 1 + 16384 / (g.columns * channels + 1), [&](int64_t lo, int64_t hi) {
    StatSlot::Part part;
    for (int64_t r = lo; r < hi; ++r)
      for (int64_t c = 0; c < g.columns; ++c) {
        const int64_t y = r % g.rows * g.osy + g.oy0, x = c * g.osx + g.ox0;
        char* to = const_cast<char*>(at(g.dst, ((r / g.rows * s.h + y) * s.w + x) * s.c + g.o0, e));
        std::memset(to, 0, size_t(elem_bytes(e) * channels));
        if (slot) stat_block(dtype_of_elem(e), to, channels, part);
      }
    if (slot) slot->merge(part);
  });
}

}  // namespace

int64_t conv_backward_input_workspace(Elem e, const ConvShape& s) {
  if (is_product(s)) return gemm_workspace_bytes(input_product(e, s, nullptr, nullptr, nullptr));
  if (winograd_suits(e, s)) return winograd_backward_input_workspace(s);
  if (is_depthwise(s)) return depthwise_bytes(e, s);
  if (spreads(e, s)) return Spread(e, s).bytes();
  const Phases phases(e, s);
  return 64 + phases.panels + threads_for(s) * phases.task;
}

void conv_backward_input(Elem e, const ConvShape& s, const void* grad, const void* weight, void* dx, StatSlot* slot, void* workspace) {
  if (is_product(s)) return run_product(input_product(e, s, grad, weight, dx), slot, workspace);
  if (winograd_suits(e, s)) {
    return winograd_backward_input(s, floats(grad), floats(weight), floats(dx), slot, workspace);
  }
  if (spreads(e, s)) return spread_input_gradient(e, s, grad, weight, dx, slot, aligned(workspace));
  const int64_t cg = s.c / s.groups, og = s.o / s.groups, taps = s.kh * s.kw;
  char* space = aligned(workspace);
  Grid g;
  if (is_depthwise(s)) {
    g.single = true;
    return for_phases(s, [&](int64_t ry, int64_t rx) {
      if (!input_grid(g, e, s, grad, dx, 0, ry, rx)) return clear_phase(g, e, s, s.c, slot);
      g.slot = slot;
      run_depthwise_grid(g, e, s, weight, space);
    });
  }
  const Phases phases(e, s);
  const int64_t k_bytes = kernels(e).panel() * computing_bytes(e);
  for (int64_t group = 0; group < s.groups; ++group) {
    pack_weights(e, at(weight, group * og * cg * taps, e), cg, taps, og, cg * taps, phases.place, phases.places, phases.pair,
                 threads_for(s), space);
    int64_t k = 0;
    for_phases(s, [&](int64_t ry, int64_t rx) {
      if (!input_grid(g, e, s, grad, dx, group, ry, rx)) return clear_phase(g, e, s, cg, slot);
      g.slot = slot, g.panels = space + k * k_bytes, g.panel_k = phases.places * og, k += g.k;
      run_grid(g, e, threads_for(s), space + phases.panels);
    });
  }
}

namespace {
/// The weight gradient of a 1 x 1 window is one product over all pixels. Those that a stride skips are left out of copies, some rows of
/// outputs at a time. Where there are few inputs and more outputs it is made transposed, so that the longer rows are packed as they lie.
/// Not so for 16-bit results, which are rounded once.
struct PixelProduct {
  GemmArgs product;
  bool copies, turned;
  int64_t rows, copied, result;  // rows of outputs at a time; bytes
  PixelProduct(Elem e, const ConvShape& s, const void* g, const void* x, void* dweight) {
    copies = s.sh != 1 || s.sw != 1, turned = s.c < s.o && s.c <= 128 && elem_bytes(e) != 2;
    rows = copies ? std::clamp<int64_t>(1024 / std::max<int64_t>(s.ow, 1), 1, std::max<int64_t>(s.n * s.oh, 1)) : s.n * s.oh;
    product.in = product.out = e, product.m = turned ? s.c : s.o, product.n = turned ? s.o : s.c, product.k = rows * s.ow;
    product.a = turned ? x : g, product.b = turned ? g : x, product.c = dweight;
    product.a_rs = 1, product.a_cs = product.m, product.b_rs = product.ldc = product.n, product.b_cs = 1;
    result = turned ? aligned(s.c * s.o * elem_bytes(e)) : 0;
    copied = copies ? aligned(product.k * s.c * elem_bytes(e)) : 0;
  }
  int64_t bytes() const { return 64 + copied + result + gemm_workspace_bytes(product); }
};
bool is_pixel_product(Elem e, const ConvShape& s) {
  return is_product(s) || (s.kh == 1 && s.kw == 1 && s.ph == 0 && s.pw == 0 && s.groups == 1 && elem_bytes(e) != 2);
}

template <class T>
void transpose(const void* from, int64_t rows, int64_t columns, void* to) {
  const T* x = static_cast<const T*>(from);
  T* y = static_cast<T*>(to);
  for (int64_t r = 0; r < rows; r += 16)
    for (int64_t c = 0; c < columns; ++c)
      for (int64_t i = r; i < std::min(r + 16, rows); ++i) y[c * rows + i] = x[i * columns + c];
}

void pixel_product(Elem e, const ConvShape& s, const void* grad, const void* x, void* dweight, void* workspace) {
  const PixelProduct p(e, s, grad, x, dweight);
  char *copy = aligned(workspace), *result = copy + p.copied, *scratch = result + p.result;
  const int64_t bytes = s.c * elem_bytes(e), total = s.n * s.oh;
  GemmArgs a = p.product;
  if (p.turned) a.c = result;
  if (p.copies) (p.turned ? a.a : a.b) = copy;
  for (int64_t r0 = 0;; r0 += p.rows) {
    const int64_t count = std::min(p.rows, total - r0);
    a.k = count * s.ow, a.beta = r0 ? 1 : 0;
    if (p.copies) {
      parallel_for(0, count, 1 + 65536 / (s.ow * bytes + 1), [&](int64_t lo, int64_t hi) {
        for (int64_t i = lo; i < hi; ++i)
          for (int64_t c = 0; c < s.ow; ++c) {
            const int64_t r = r0 + i, pixel = (r / s.oh * s.h + r % s.oh * s.sh) * s.w + c * s.sw;
            std::memcpy(copy + (i * s.ow + c) * bytes, at(x, pixel * s.c, e), size_t(bytes));
          }
      });
      (p.turned ? a.b : a.a) = at(grad, r0 * s.ow * s.o, e);
    }
    gemm(a, scratch, gemm_workspace_bytes(p.product));
    if (r0 + p.rows >= total) break;
  }
  if (p.turned) (e == Elem::f64 ? transpose<double> : transpose<float>)(result, s.c, s.o, dweight);
}

/// As forward; blocks of channels are copied, so that their pixels lie side by side.
void weight_grid(Grid& g, Elem e, const ConvShape& s, const void* x, int64_t group) {
  forward_grid(g, e, s, x, group);
  g.copy = g.copy || (!conv_joined(g) && g.cg > kernels(e).weight_channels());
}
int64_t sums_ld(Elem e, const ConvShape& s) { return round_up(s.o / s.groups, kernels(e).panel()); }
}  // namespace

int64_t conv_backward_weight_workspace(Elem e, const ConvShape& s) {
  if (is_pixel_product(e, s)) return PixelProduct(e, s, nullptr, nullptr, nullptr).bytes();
  if (winograd_suits(e, s)) return winograd_backward_weight_workspace(s);
  if (is_depthwise(s)) return depthwise_bytes(e, s);
  Grid g;
  weight_grid(g, e, s, nullptr, 0);
  return 64 + aligned(sums_ld(e, s) * g.k * computing_bytes(e)) + threads_for(s) * aligned(kernels(e).weight_task_bytes(g));
}

void conv_backward_weight(Elem e, const ConvShape& s, const void* grad, const void* x, void* dweight, StatSlot* slot, void* workspace) {
  if (is_pixel_product(e, s)) {
    pixel_product(e, s, grad, x, dweight, workspace);
    return watch_all(e, dweight, s.o * s.c, slot);
  }
  if (winograd_suits(e, s)) {
    winograd_backward_weight(s, floats(grad), floats(x), floats(dweight), workspace);
    return watch_all(e, dweight, s.o * s.c * 9, slot);
  }
  if (is_depthwise(s)) {
    const int64_t ld = depthwise_ld(e, s), lanes = kernels(e).panel() / 2, window = s.kh * s.kw;
    char* sums = aligned(workspace);
    parallel_for(0, ld / lanes, 1 + 65536 / (s.n * s.oh * s.ow * window * lanes + 1), [&](int64_t lo, int64_t hi) {
      const int64_t first = lo * lanes, last = std::min(hi * lanes, s.c);
      conv_depthwise_weight(e, s, x, grad, first, last, sums);
      with_types(e, [&](auto element, auto computing) {
        using S = decltype(element);
        S* to = static_cast<S*>(dweight);
        const auto* from = reinterpret_cast<const decltype(computing)*>(sums);
        for (int64_t c = first; c < last; ++c)
          for (int64_t t = 0; t < window; ++t) to[c * window + t] = S(from[t * ld + c]);
      });
    });
    return watch_all(e, dweight, s.c * window, slot);
  }
  const ConvKernels& kernel = kernels(e);
  const int64_t cg = s.c / s.groups, og = s.o / s.groups, taps = s.kh * s.kw, ld = sums_ld(e, s);
  if (s.o * cg == 0) return;
  char* sums = aligned(workspace);
  for (int64_t group = 0; group < s.groups; ++group) {
    Grid g;
    weight_grid(g, e, s, x, group);
    if (s.n * s.oh * s.ow == 0) {
      std::memset(dweight, 0, size_t(s.o * g.k * elem_bytes(e)));
      break;
    }
    char* scratch = sums + aligned(ld * g.k * computing_bytes(e));
    const int64_t bytes = aligned(kernel.weight_task_bytes(g)), panels = (og + kernel.panel() - 1) / kernel.panel();
    const bool joined = conv_joined(g);
    const int64_t block = joined ? cg : kernel.weight_channels(), blocks = (cg + block - 1) / block, threads = threads_for(s);
    const int64_t by_channels = std::min(threads, blocks), by_panels = std::clamp<int64_t>(threads / by_channels, 1, panels),
                  by_taps = std::clamp<int64_t>(threads / (by_channels * by_panels), 1, g.n_taps),
                  tasks = by_channels * by_panels * by_taps;
    const auto run = [&](int64_t lo, int64_t hi) {
      for (int64_t t = lo; t < hi; ++t) {
        const int64_t c = t / (by_panels * by_taps), p = t / by_taps % by_panels, i = t % by_taps;
        kernel.weight_task(
            e, {&g, grad, c * blocks / by_channels * block, std::min((c + 1) * blocks / by_channels * block, cg), p * panels / by_panels,
                (p + 1) * panels / by_panels, i * g.n_taps / by_taps, (i + 1) * g.n_taps / by_taps, sums, ld, scratch + t * bytes});
      }
    };
    if (tasks == 1)
      run(0, 1);
    else
      parallel_for(0, tasks, 1, run);
    void* dw = const_cast<char*>(at(dweight, group * og * g.k, e));
    const auto scatter = [&](int64_t lo, int64_t hi) { kernel.scatter(e, sums, ld, cg, taps, lo * 16, std::min(hi * 16, og), dw); };
    if (tasks == 1)
      scatter(0, (og + 15) / 16);
    else
      parallel_for(0, (og + 15) / 16, 1, scatter);
  }
  watch_all(e, dweight, s.o * cg * taps, slot);
}

}  // namespace keel::cpu
