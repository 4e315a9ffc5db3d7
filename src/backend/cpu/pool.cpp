// Kernels of pooling over [n, c, h, w], with channels innermost or as planes, one row of results at a time; backward over whole images or
// planes, so that no two tasks add into one place. 16-bit tensors are converted to f32 in scratch. Traffic: input once a window row, output
// once.
#include "keel/ops/pool.h"

#include "backend/cpu/channel_layout.h"
#include "backend/cpu/loops/pool.h"

using namespace keel;
using namespace keel::cpu;

namespace {

struct Window {
  int64_t kernel[2], step[2], pad[2];
};
template <class P>
Window window_of(const P& p) {
  Window w;
  for (int i = 0; i < 2; ++i) w.kernel[i] = p.kernel[i], w.step[i] = p.stride[i] ? p.stride[i] : p.kernel[i], w.pad[i] = p.padding[i];
  return w;
}
PoolRow row_of(const Window& w, int64_t row, int64_t height, int64_t width, int64_t columns) {
  const int64_t at = row * w.step[0] - w.pad[0];
  return {std::max<int64_t>(at, 0), std::min(at + w.kernel[0], height), w.kernel[1], w.step[1], w.pad[1], width, columns};
}

/// One channel is a plane.
bool innermost(const TensorView& x) { return x.dim(1) > 1 && channels_innermost(x); }

/// Indices in the wanted order of channels; written by `finish`, or read.
struct Indices {
  const TensorView* view;
  bool innermost;
  int32_t* at;
  Indices(const TensorView* v, bool inner, Buffers& b, bool read) : view(v), innermost(inner), at(nullptr) {
    if (!v) return;
    const bool in_order = walkable(*v, inner);
    at = in_order ? v->ptr<int32_t>() : b.take<int32_t>(v->size());
    if (!b.base || in_order || !read) return;
    const Strides st = order_strides(v->shape(), inner);
    copy_view(*v, {at, i32, v->shape_, &st});
  }
  void finish() const {
    if (!view || walkable(*view, innermost)) return;
    const Strides st = order_strides(view->shape(), innermost);
    copy_view({at, i32, view->shape_, &st}, *view);
  }
};

/// Calls f(image, row) for every row of results (of every image), or f(plane, row) for every plane's.
template <class F>
void each_row(int64_t planes, int64_t rows, int64_t cost, F f) {
  parallel_for(0, planes * rows, std::max<int64_t>(1, 16384 / (cost + 1)), [&](int64_t lo, int64_t hi) {
    for (int64_t i = lo; i < hi; ++i) f(i / rows, i % rows);
  });
}

template <class T, bool maximum>
size_t forward(const KernelArgs& a, bool measure) {
  const TensorView &x = a.in[0], &y = a.out[0];
  const Window w = window_of(a.get<Pool2dParams>());
  const bool inner = innermost(x);
  Buffers b{measure ? nullptr : static_cast<std::byte*>(a.workspace)};
  const T* from = input<T>(x, inner, b);
  Output<T> to(y, inner, b);
  const Indices indices(maximum && a.n_out > 1 && a.out[1].present() ? &a.out[1] : nullptr, inner, b, false);
  if (measure) return b.used;
  const PoolLoops f = pool_loops(dtype_of<T>);
  const int64_t c = x.dim(1), h = x.dim(2), wide = x.dim(3), oh = y.dim(2), ow = y.dim(3);
  const double count = double(w.kernel[0] * w.kernel[1]);
  const int64_t in_plane = h * wide * (inner ? c : 1), out_row = ow * (inner ? c : 1);
  each_row(x.dim(0) * (inner ? 1 : c), oh, out_row * int64_t(count), [&](int64_t plane, int64_t row) {
    const PoolRow r = row_of(w, row, h, wide, ow);
    const T* v = from + plane * in_plane;
    const int64_t at = (plane * oh + row) * out_row;
    int32_t* index = indices.at ? indices.at + at : nullptr;
    if (maximum)
      inner ? f.max_inner(r, v, c, to.at + at, index) : f.max_plane(r, v, to.at + at, index);
    else
      inner ? f.sum_inner(r, v, c, count, to.at + at) : f.sum_plane(r, v, count, to.at + at);
  });
  to.finish(a.stats[0]);
  indices.finish();
  return b.used;
}

template <class T>
size_t average_backward(const KernelArgs& a, bool measure) {
  const TensorView &g = a.in[0], &dx = a.out[0];
  const Window w = window_of(a.get<Pool2dBackwardParams>());
  const bool inner = innermost(g) && innermost(dx);
  Buffers b{measure ? nullptr : static_cast<std::byte*>(a.workspace)};
  const T* from = input<T>(g, inner, b);
  Output<T> to(dx, inner, b);
  if (measure) return b.used;
  const PoolLoops f = pool_loops(dtype_of<T>);
  const int64_t c = dx.dim(1), h = dx.dim(2), wide = dx.dim(3), oh = g.dim(2), ow = g.dim(3), deep = inner ? c : 1;
  const double count = double(w.kernel[0] * w.kernel[1]);
  parallel_for(0, dx.dim(0) * (inner ? 1 : c), std::max<int64_t>(1, 16384 / (h * wide * deep + 1)), [&](int64_t lo, int64_t hi) {
    for (int64_t plane = lo; plane < hi; ++plane) {
      T* out = to.at + plane * h * wide * deep;
      std::fill(out, out + h * wide * deep, T(0));
      for (int64_t row = 0; row < oh; ++row) {
        const PoolRow r = row_of(w, row, h, wide, ow);
        const T* v = from + (plane * oh + row) * ow * deep;
        inner ? f.spread_inner(r, v, c, count, out) : f.spread_plane(r, v, count, out);
      }
    }
  });
  to.finish(a.stats[0]);
  return b.used;
}

/// One index outside the plane, if there is one.
KernelStatus check_places(const int32_t* p, int64_t n, int64_t limit) {
  for (int64_t i = 0; i < n; ++i)
    if (p[i] < 0 || p[i] >= limit) return KernelStatus::place(p[i], limit, "index");
  return {};
}

template <class T, bool scatter>
size_t by_index(const KernelArgs& a, bool measure, KernelStatus& status) {
  const TensorView &x = a.in[0], &y = a.out[0];
  const TensorView& plane = scatter ? y : x;
  const bool inner = innermost(x) && innermost(a.in[1]);
  Buffers b{measure ? nullptr : static_cast<std::byte*>(a.workspace)};
  const T* from = input<T>(x, inner, b);
  Output<T> to(y, inner, b);
  const Indices indices(&a.in[1], inner, b, true);
  if (measure) return b.used;
  const int64_t n = a.in[1].size(), spots = plane.dim(2) * plane.dim(3), deep = inner ? plane.dim(1) : 1,
                planes = plane.dim(0) * plane.dim(1) / std::max<int64_t>(deep, 1);
  status = check_places(indices.at, n, spots);
  if (status.code || planes == 0) return b.used;
  const PoolLoops f = pool_loops(dtype_of<T>);
  const int64_t per = n / planes;
  parallel_for(0, planes, std::max<int64_t>(1, 16384 / (spots * deep + 1)), [&](int64_t lo, int64_t hi) {
    for (int64_t p = lo; p < hi; ++p) {
      if (scatter) {
        T* out = to.at + p * spots * deep;
        std::fill(out, out + spots * deep, T(0));
        f.scatter(from + p * per, indices.at + p * per, per, deep, out);
      } else {
        f.pick(from + p * spots * deep, indices.at + p * per, per, deep, to.at + p * per);
      }
    }
  });
  to.finish(a.stats[0]);
  return b.used;
}

template <size_t (*f32_run)(const KernelArgs&, bool), size_t (*f64_run)(const KernelArgs&, bool)>
void pool_kernel(KernelDef& k) {
  k.inputs(Layout::strided).outputs(Layout::like_inputs).dtypes(kinds::floating).stats();
  k.workspace([](const KernelArgs& a) { return a.in[0].dtype == f64 ? f64_run(a, true) : f32_run(a, true); });
  k.run([](const KernelArgs& a) -> KernelStatus {
    if (a.out[0].size()) a.in[0].dtype == f64 ? f64_run(a, false) : f32_run(a, false);
    return {};
  });
}
template <bool scatter>
void index_kernel(KernelDef& k) {
  k.inputs(Layout::strided).outputs(Layout::like_inputs).dtypes(kinds::floating).stats();
  k.workspace([](const KernelArgs& a) {
    KernelStatus none;
    return a.in[0].dtype == f64 ? by_index<double, scatter>(a, true, none) : by_index<float, scatter>(a, true, none);
  });
  k.run([](const KernelArgs& a) {
    KernelStatus status;
    a.in[0].dtype == f64 ? by_index<double, scatter>(a, false, status) : by_index<float, scatter>(a, false, status);
    return status;
  });
}

/// Integers are compared as i64.
size_t (*max_run(const KernelArgs& a))(const KernelArgs&, bool) {
  const DType t = a.in[0].dtype;
  return t == f64 ? forward<double, true> : is_floating(t) ? forward<float, true> : forward<int64_t, true>;
}

}  // namespace

KEEL_CPU_KERNEL(max_pool2d) {
  pool_kernel<forward<float, true>, forward<double, true>>(k);
  k.dtypes(kinds::real).refuses([](const void*, Specs in) { return in[0].dtype == u64 ? "u64 does not fit into i64" : nullptr; });
  k.workspace([](const KernelArgs& a) { return max_run(a)(a, true); });
  k.run([](const KernelArgs& a) -> KernelStatus {
    if (a.out[0].size()) max_run(a)(a, false);
    return {};
  });
}
KEEL_CPU_KERNEL(avg_pool2d) { pool_kernel<forward<float, false>, forward<double, false>>(k); }
KEEL_CPU_KERNEL(avg_pool2d_backward) { pool_kernel<average_backward<float>, average_backward<double>>(k); }
KEEL_CPU_KERNEL(max_pool2d_backward) { index_kernel<true>(k); }
KEEL_CPU_KERNEL(max_pool2d_pick) { index_kernel<false>(k); }
