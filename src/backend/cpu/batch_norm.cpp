// Kernels of batch_norm over x [n, c, ...], training, evaluation and backward. Channels innermost: rows of channels in chunks of 256 rows;
// else planes, one run a channel and image. Each chunk or plane gives its mean and squared deviations in one pass; they are combined by
// Chan's formula in f64, in order (Chan, Golub, LeVeque 1979). Then one pass writes. Any other layout is copied first. Traffic: x twice and y
// once, from DRAM; large results are streamed past the caches. 16-bit tensors are converted to f32 in scratch as a whole: 4 more bytes an
// element are written, and read in place of their two.
#include <cmath>

#include "backend/cpu/channel_layout.h"
#include "backend/cpu/isa.h"
#include "backend/cpu/loops/batch_norm.h"
#include "backend/cpu/loops/reduce.h"
#include "backend/cpu/moments.h"
#include "keel/ops/norm.h"

using namespace keel;
using namespace keel::cpu;

namespace {

/// Runs that are summed by themselves: planes, or chunks of rows.
int64_t parts_of(const Geometry& g) { return g.innermost ? row_chunks(g.count()) : g.images; }

/// One value a channel, over and over as loops over whole rows want them.
int64_t period_of(const Geometry& g) { return (kBatchNormPad + g.channels - 1) / g.channels * g.channels; }
template <class T>
T* take_vector(const Geometry& g, Buffers& b) {
  return b.take<T>(period_of(g) + kBatchNormPad);
}
template <class T>
void repeat(const Geometry& g, T* v) {
  for (int64_t i = g.channels; i < period_of(g) + kBatchNormPad; ++i) v[i] = v[i - g.channels];
}
/// The same of an input; null where it is absent.
template <class T>
const T* vector(const KernelArgs& a, int i, const Geometry& g, Buffers& b) {
  if (i >= a.n_in || !a.in[i].present()) return nullptr;
  T* v = take_vector<T>(g, b);
  if (b.base) convert_loop(a.in[i].dtype, dtype_of<T>)(a.in[i].data, v, g.channels, nullptr), repeat(g, v);
  return v;
}
template <class T>
void put(const TensorView& y, const T* v, StatSlot* slot) {
  convert_loop(dtype_of<T>, y.dtype)(v, y.data, y.size(), nullptr);
  if (!slot) return;
  StatSlot::Part part;
  stat_block(y.dtype, y.data, y.size(), part);
  slot->merge(part);
}

/// Whether results leave past the caches.
template <class T>
bool streams(const Geometry& g) {
  return g.size() * int64_t(sizeof(T)) > kStreamBytes * num_threads();
}
/// Calls f(first, last) for ranges of rows of channels, f(plane, channel) for planes; `stream`: results leave past the caches.
template <class F>
void each_rows(const Geometry& g, bool stream, F f) {
  parallel_for(0, g.count(), std::max<int64_t>(1, 16384 / g.channels), [&](int64_t lo, int64_t hi) {
    f(lo, hi);
    if (stream) stream_fence();
  });
}
template <class F>
void each_plane(const Geometry& g, bool stream, F f) {
  parallel_for(0, g.images * g.channels, std::max<int64_t>(1, 16384 / (g.spots + 1)), [&](int64_t lo, int64_t hi) {
    for (int64_t i = lo; i < hi; ++i) f(i, i % g.channels);
    if (stream) stream_fence();
  });
}

/// Mean and sum of squared deviations of every channel; `part` holds kMomentValues for each part of it.
template <class T>
void moments_of(const Geometry& g, const T* x, T* part, double* mean, double* square) {
  if (g.innermost) return column_moments(x, g.count(), g.channels, part, mean, square);
  const auto row = moment_loops(dtype_of<T>).row;
  const bool far = g.size() * int64_t(sizeof(T)) > l2_bytes();
  each_plane(g, false, [&](int64_t i, int64_t) { row(x + i * g.spots, g.spots, far, part + kMomentValues * i); });
  for (int64_t c = 0; c < g.channels; ++c) {
    Moments all;
    for (int64_t i = c; i < g.images * g.channels; i += g.channels) all.join(double(g.spots), part + kMomentValues * i);
    mean[c] = all.mean, square[c] = all.square;
  }
}

template <class T>
void apply(const Geometry& g, const T* x, T* y, const T* mean, const T* rstd, const T* weight, const T* bias) {
  const BatchNormLoops f = batch_norm_loops(dtype_of<T>);
  const bool stream = streams<T>(g);
  if (g.innermost) {
    each_rows(g, stream, [&](int64_t lo, int64_t hi) {
      const int64_t at = lo * g.channels;
      f.apply_rows(x + at, y + at, (hi - lo) * g.channels, period_of(g), mean, rstd, weight, bias, stream);
    });
    return;
  }
  each_plane(g, stream, [&](int64_t i, int64_t c) {
    const int64_t at = i * g.spots;
    f.apply_plane(x + at, y + at, g.spots, mean + c, rstd + c, weight ? weight + c : nullptr, bias ? bias + c : nullptr, stream);
  });
}

template <class T>
size_t train(const KernelArgs& a, bool measure) {
  Geometry g = geometry(a.in[0]);
  g.innermost = channels_innermost(a.in[0]);
  Buffers b{measure ? nullptr : static_cast<std::byte*>(a.workspace)};
  const T* x = input<T>(a.in[0], g.innermost, b);
  const T *weight = vector<T>(a, 1, g, b), *bias = vector<T>(a, 2, g, b);
  T *part = b.take<T>(parts_of(g) * kMomentValues * g.channels), *mean = take_vector<T>(g, b), *var = b.take<T>(g.channels),
    *rstd = take_vector<T>(g, b);
  double *wide_mean = b.take<double>(g.channels), *wide_square = b.take<double>(g.channels);
  Output<T> y(a.out[0], g.innermost, b);
  if (measure) return b.used;
  moments_of(g, x, part, wide_mean, wide_square);
  for (int64_t c = 0; c < g.channels; ++c) {
    mean[c] = T(wide_mean[c]), var[c] = T(wide_square[c] / double(g.count()));
    rstd[c] = T(1) / std::sqrt(var[c] + T(a.get<BatchNormParams>().eps));
  }
  repeat(g, mean), repeat(g, rstd);
  apply(g, x, y.at, mean, rstd, weight, bias);
  y.finish(a.stats[0]);
  put(a.out[1], mean, a.stats[1]), put(a.out[2], var, a.stats[2]);
  return b.used;
}

template <class T>
size_t evaluate(const KernelArgs& a, bool measure) {
  Geometry g = geometry(a.in[0]);
  g.innermost = channels_innermost(a.in[0]);
  Buffers b{measure ? nullptr : static_cast<std::byte*>(a.workspace)};
  const T* x = input<T>(a.in[0], g.innermost, b);
  const T *mean = vector<T>(a, 1, g, b), *var = vector<T>(a, 2, g, b), *weight = vector<T>(a, 3, g, b), *bias = vector<T>(a, 4, g, b);
  T* rstd = take_vector<T>(g, b);
  Output<T> y(a.out[0], g.innermost, b);
  if (measure) return b.used;
  for (int64_t c = 0; c < g.channels; ++c) rstd[c] = T(1) / std::sqrt(var[c] + T(a.get<BatchNormParams>().eps));
  repeat(g, rstd);
  apply(g, x, y.at, mean, rstd, weight, bias);
  y.finish(a.stats[0]);
  return b.used;
}

/// What the backward pass reads, in one type.
template <class T>
struct BackwardInputs {
  Geometry g;
  const T *gy, *x, *mean, *rstd, *weight;
};

/// Sums of g and of g times the normalised x, of every channel and part: `part` holds two values for each.
template <class T>
void grad_parts(const BackwardInputs<T>& in, T* part) {
  const BatchNormLoops f = batch_norm_loops(dtype_of<T>);
  const Geometry& g = in.g;
  if (g.innermost) {
    const bool far = 2 * g.size() * int64_t(sizeof(T)) > l2_bytes();
    each_chunk(g.count(), g.channels, [&](int64_t k, int64_t first, int64_t rows, int64_t c, int64_t width) {
      const int64_t at = first * g.channels + c;
      T* out = part + k * 2 * g.channels + c;
      f.grad_sums_rows(in.gy + at, in.x + at, rows, g.channels, width, in.mean + c, in.rstd + c, far, out, out + g.channels);
    });
    return;
  }
  each_plane(g, false, [&](int64_t i, int64_t c) {
    T* out = part + i / g.channels * 2 * g.channels + c;
    double total[2] = {0, 0};  // of the blocks of one plane, in order
    for (int64_t k = 0; k < g.spots; k += kReduceBlock) {
      T s[2];
      const int64_t at = i * g.spots + k;
      f.grad_sums_plane(in.gy + at, in.x + at, std::min(kReduceBlock, g.spots - k), in.mean + c, in.rstd + c, s);
      total[0] += double(s[0]), total[1] += double(s[1]);
    }
    out[0] = T(total[0]), out[g.channels] = T(total[1]);
  });
}

/// The parts of every channel, in order.
template <class T>
void add_parts(const Geometry& g, const T* part, T* sum_g, T* sum_gn) {
  for (int64_t c = 0; c < g.channels; ++c) {
    double u = 0, v = 0;
    for (int64_t k = 0; k < parts_of(g); ++k) u += double(part[k * 2 * g.channels + c]), v += double(part[(k * 2 + 1) * g.channels + c]);
    sum_g[c] = T(u), sum_gn[c] = T(v);
  }
}

template <class T>
void grad_apply(const BackwardInputs<T>& in, T* dx, const T* scale, const T* mean_g, const T* mean_gn) {
  const BatchNormLoops f = batch_norm_loops(dtype_of<T>);
  const Geometry& g = in.g;
  const bool stream = streams<T>(g);
  if (g.innermost) {
    each_rows(g, stream, [&](int64_t lo, int64_t hi) {
      const int64_t at = lo * g.channels;
      f.grad_rows(in.gy + at, in.x + at, dx + at, (hi - lo) * g.channels, period_of(g), in.mean, in.rstd, scale, mean_g, mean_gn, stream);
    });
    return;
  }
  each_plane(g, stream, [&](int64_t i, int64_t c) {
    const int64_t at = i * g.spots;
    f.grad_plane(in.gy + at, in.x + at, dx + at, g.spots, in.mean + c, in.rstd + c, scale + c, mean_g + c, mean_gn + c, stream);
  });
}

template <class T>
size_t backward(const KernelArgs& a, bool measure) {
  const auto& p = a.get<BatchNormBackwardParams>();
  Geometry g = geometry(a.in[1]);
  g.innermost = channels_innermost(a.in[1]);
  Buffers b{measure ? nullptr : static_cast<std::byte*>(a.workspace)};
  const BackwardInputs<T> in{g,
                             input<T>(a.in[0], g.innermost, b),
                             input<T>(a.in[1], g.innermost, b),
                             vector<T>(a, 2, g, b),
                             vector<T>(a, 3, g, b),
                             vector<T>(a, 4, g, b)};
  T *part = b.take<T>(parts_of(g) * 2 * g.channels), *sum_g = take_vector<T>(g, b), *sum_gn = take_vector<T>(g, b),
    *scale = take_vector<T>(g, b);
  Output<T> dx(p.need_x ? a.out[0] : a.in[1], g.innermost, b);
  if (measure) return b.used;
  grad_parts(in, part);
  add_parts(g, part, sum_g, sum_gn);
  if (p.need_bias) put(a.out[2], sum_g, a.stats[2]);
  if (p.need_weight) put(a.out[1], sum_gn, a.stats[1]);
  if (!p.need_x) return b.used;
  for (int64_t c = 0; c < g.channels; ++c)
    sum_g[c] /= T(g.count()), sum_gn[c] /= T(g.count()), scale[c] = in.weight ? in.rstd[c] * in.weight[c] : in.rstd[c];
  repeat(g, sum_g), repeat(g, sum_gn), repeat(g, scale);
  grad_apply(in, dx.at, scale, sum_g, sum_gn);
  dx.finish(a.stats[0]);
  return b.used;
}

const char* refuse_empty(const void*, Specs in) { return in[0].shape.numel() == 0 ? "no elements" : nullptr; }

/// in[x] decides the type; the workspace is what a run without memory asks for.
template <size_t (*f32_run)(const KernelArgs&, bool), size_t (*f64_run)(const KernelArgs&, bool), int x>
void channel_kernel(KernelDef& k) {
  for (int i = 0; i < 10; ++i) k.input(i, i <= x ? Layout::strided : Layout::contiguous);
  k.dtypes(kinds::floating).refuses(refuse_empty).stats().output(0, Layout::like_inputs);
  k.workspace([](const KernelArgs& a) { return a.in[x].dtype == f64 ? f64_run(a, true) : f32_run(a, true); });
  k.run([](const KernelArgs& a) -> KernelStatus {
    a.in[x].dtype == f64 ? f64_run(a, false) : f32_run(a, false);
    return {};
  });
}

}  // namespace

KEEL_CPU_KERNEL(batch_norm) { channel_kernel<train<float>, train<double>, 0>(k); }
KEEL_CPU_KERNEL(batch_norm_eval) { channel_kernel<evaluate<float>, evaluate<double>, 0>(k); }
KEEL_CPU_KERNEL(batch_norm_backward) { channel_kernel<backward<float>, backward<double>, 1>(k); }
