// Convolution of channels-last images as matrix products. The taps of each output pixel are gathered into a row of a block of columns, a few images at a time so that the block stays in the second-level
// cache, and the packed GEMM multiplies it with the weight as [out, kh, kw, in]. A 1 x 1 window without padding or stride reads the image itself. The gradient to the input scatters g W back, one image a
// thread; the gradient to the weight adds up g^T columns block after block. Blocks depend on shapes alone, so results do not change with the number of threads. f32 and f64.
// Memory traffic: the columns are written and read once from cache; the image is read kh kw times from cache.
#include <algorithm>
#include <cstring>

#include "backend/cpu/gemm/gemm.h"
#include "backend/kernel.h"
#include "keel/ops/conv.h"
#include "keel/parallel.h"

namespace keel::cpu {
namespace {

constexpr int64_t kBlockElements = 1 << 19;

struct ConvSizes {
  int64_t n, c, h, w;  // input
  int64_t o, oh, ow;   // output
  int64_t kh, kw;      // window
  int64_t sh, sw, ph, pw, dh, dw, groups;
};
template <class P>
ConvSizes sizes_of(const P& p, const Shape& x, const Shape& weight, const Shape& y) {
  return {x[0], x[1], x[2], x[3], y[1], y[2], y[3], weight[2], weight[3], p.stride[0], p.stride[1], p.padding[0], p.padding[1], p.dilation[0], p.dilation[1], p.groups};
}

struct Plan {
  ConvSizes s;
  int64_t cg, og, taps, per_image, images;  // channels and outputs a group, kh kw cg, output pixels an image, images a block
  bool direct;                              // the image is its own block of columns
  bool runs;                                // taps of one row of the window are neighbours in memory
  explicit Plan(const ConvSizes& z) : s(z), cg(z.c / z.groups), og(z.o / z.groups), taps(z.kh * z.kw * cg), per_image(z.oh * z.ow) {
    runs = z.dw == 1 && z.groups == 1;
    direct = z.kh == 1 && z.kw == 1 && z.sh == 1 && z.sw == 1 && z.ph == 0 && z.pw == 0;
    images = std::clamp<int64_t>(kBlockElements / std::max<int64_t>(1, per_image * taps), 1, std::max<int64_t>(1, z.n));
  }
  int64_t column_elements() const { return direct ? 0 : images * per_image * taps; }
  int64_t weight_elements() const { return s.o * taps; }
};

Elem elem_of(DType t) { return t == f64 ? Elem::f64 : Elem::f32; }

/// The three products; `rows` output pixels.
GemmArgs forward_product(const Plan& p, Elem e, int64_t rows) {
  GemmArgs g;
  g.in = g.out = e, g.m = rows, g.n = p.og, g.k = p.taps, g.a_rs = p.direct ? p.s.c : p.taps, g.b_rs = 1, g.b_cs = p.taps, g.ldc = p.s.o;
  return g;
}
GemmArgs input_product(const Plan& p, Elem e, int64_t rows) {
  GemmArgs g;
  g.in = g.out = e, g.m = rows, g.n = p.taps, g.k = p.og, g.a_rs = p.s.o, g.b_rs = p.taps, g.b_cs = 1, g.ldc = p.direct ? p.s.c : p.taps;
  return g;
}
GemmArgs weight_product(const Plan& p, Elem e, int64_t rows) {
  GemmArgs g;
  g.in = g.out = e, g.m = p.og, g.n = p.taps, g.k = rows, g.a_rs = 1, g.a_cs = p.s.o, g.b_rs = p.direct ? p.s.c : p.taps, g.b_cs = 1, g.ldc = p.taps;
  return g;
}

struct Workspace {
  char *weight, *columns, *product;
  int64_t product_bytes;
};
int64_t round_up(int64_t n) { return (n + 63) / 64 * 64; }
template <class Make>
size_t workspace_bytes(const Plan& p, DType t, Make make) {
  const auto bytes = int64_t(size_of(t));
  return size_t(round_up(p.weight_elements() * bytes) + round_up(p.column_elements() * bytes) + gemm_workspace_bytes(make(p, elem_of(t), p.images * p.per_image)) + 192);
}
Workspace split(const Plan& p, DType t, void* memory, size_t total) {
  const auto bytes = int64_t(size_of(t));
  Workspace w;
  char* at = reinterpret_cast<char*>(round_up(int64_t(reinterpret_cast<intptr_t>(memory))));
  w.weight = at, at += round_up(p.weight_elements() * bytes);
  w.columns = at, at += round_up(p.column_elements() * bytes);
  w.product = at, w.product_bytes = static_cast<char*>(memory) + total - at;
  return w;
}

/// [o, c, kh, kw] to [o, kh, kw, c] and back.
template <class T>
void reorder_weight(const Plan& p, const T* from, T* to, bool back) {
  const int64_t window = p.s.kh * p.s.kw;
  parallel_for(0, p.s.o, 1 + 16384 / p.taps, [&](int64_t lo, int64_t hi) {
    for (int64_t o = lo; o < hi; ++o)
      for (int64_t c = 0; c < p.cg; ++c)
        for (int64_t k = 0; k < window; ++k) {
          const int64_t outer = (o * p.cg + c) * window + k, inner = (o * window + k) * p.cg + c;
          if (back) to[outer] = from[inner];
          else to[inner] = from[outer];
        }
  });
}

/// Columns of `images` images of group `group`.
template <class T>
void gather(const Plan& p, const T* x, int64_t images, int64_t group, T* columns) {
  const ConvSizes& s = p.s;
  parallel_for(0, images * s.oh, 1 + 8192 / std::max<int64_t>(1, s.ow * p.taps), [&](int64_t lo, int64_t hi) {
    for (int64_t r = lo; r < hi; ++r) {
      const T* image = x + r / s.oh * s.h * s.w * s.c + group * p.cg;
      const int64_t y0 = r % s.oh * s.sh - s.ph;
      T* out = columns + r * s.ow * p.taps;
      for (int64_t ox = 0; ox < s.ow; ++ox)
        for (int64_t ky = 0; ky < s.kh; ++ky) {
          const int64_t y = y0 + ky * s.dh;
          if (const int64_t x0 = ox * s.sw - s.pw; p.runs && y >= 0 && y < s.h && x0 >= 0 && x0 + s.kw <= s.w) {  // the whole row of the window lies side by side
            const T* in = image + (y * s.w + x0) * s.c;
            for (int64_t i = 0; i < s.kw * s.c; ++i) out[i] = in[i];
            out += s.kw * s.c;
            continue;
          }
          for (int64_t kx = 0; kx < s.kw; ++kx, out += p.cg) {
            const int64_t xx = ox * s.sw - s.pw + kx * s.dw;
            if (y < 0 || y >= s.h || xx < 0 || xx >= s.w) {
              for (int64_t c = 0; c < p.cg; ++c) out[c] = 0;
            } else {
              const T* in = image + (y * s.w + xx) * s.c;
              for (int64_t c = 0; c < p.cg; ++c) out[c] = in[c];
            }
          }
        }
    }
  });
}

/// Adds columns back to where they were gathered; one image a task.
template <class T>
void scatter(const Plan& p, const T* columns, int64_t images, int64_t group, T* dx) {
  const ConvSizes& s = p.s;
  parallel_for(0, images, 1, [&](int64_t lo, int64_t hi) {
    for (int64_t n = lo; n < hi; ++n) {
      T* image = dx + n * s.h * s.w * s.c + group * p.cg;
      const T* in = columns + n * p.per_image * p.taps;
      for (int64_t oy = 0; oy < s.oh; ++oy)
        for (int64_t ox = 0; ox < s.ow; ++ox)
          for (int64_t ky = 0; ky < s.kh; ++ky) {
            const int64_t y = oy * s.sh - s.ph + ky * s.dh;
            if (const int64_t x0 = ox * s.sw - s.pw; p.runs && y >= 0 && y < s.h && x0 >= 0 && x0 + s.kw <= s.w) {
              T* out = image + (y * s.w + x0) * s.c;
              for (int64_t i = 0; i < s.kw * s.c; ++i) out[i] += in[i];
              in += s.kw * s.c;
              continue;
            }
            for (int64_t kx = 0; kx < s.kw; ++kx, in += p.cg) {
              const int64_t xx = ox * s.sw - s.pw + kx * s.dw;
              if (y < 0 || y >= s.h || xx < 0 || xx >= s.w) continue;
              T* out = image + (y * s.w + xx) * s.c;
              for (int64_t c = 0; c < p.cg; ++c) out[c] += in[c];
            }
          }
    }
  });
}

/// Calls f(first image, images) block after block.
template <class F>
void each_block(const Plan& p, F&& f) {
  for (int64_t n = 0; n < p.s.n; n += p.images) f(n, std::min(p.images, p.s.n - n));
}

Plan forward_plan(const KernelArgs& a) { return Plan(sizes_of(a.get<Conv2dParams>(), a.in[0].shape(), a.in[1].shape(), a.out[0].shape())); }
Plan input_plan(const KernelArgs& a) { return Plan(sizes_of(a.get<Conv2dBackwardParams>(), a.out[0].shape(), a.in[1].shape(), a.in[0].shape())); }
Plan weight_plan(const KernelArgs& a) { return Plan(sizes_of(a.get<Conv2dBackwardParams>(), a.in[1].shape(), a.out[0].shape(), a.in[0].shape())); }

template <class T>
void forward(const KernelArgs& a) {
  const Plan p = forward_plan(a);
  const DType t = a.in[0].dtype;
  const Workspace w = split(p, t, a.workspace, workspace_bytes(p, t, forward_product));
  T *weight = reinterpret_cast<T*>(w.weight), *columns = reinterpret_cast<T*>(w.columns), *y = a.out[0].ptr<T>();
  const T* x = a.in[0].ptr<T>();
  reorder_weight(p, a.in[1].ptr<T>(), weight, false);
  each_block(p, [&](int64_t n, int64_t images) {
    for (int64_t group = 0; group < p.s.groups; ++group) {
      const T* from = x + n * p.s.h * p.s.w * p.s.c;
      if (!p.direct) gather(p, from, images, group, columns);
      GemmArgs g = forward_product(p, elem_of(t), images * p.per_image);
      g.a = p.direct ? from + group * p.cg : columns, g.b = weight + group * p.og * p.taps, g.c = y + n * p.per_image * p.s.o + group * p.og;
      if (a.n_in > 2 && a.in[2].present()) g.epilogue.bias = a.in[2].ptr<T>() + group * p.og;
      gemm(g, w.product, w.product_bytes);
    }
  });
}

template <class T>
void backward_input(const KernelArgs& a) {
  const Plan p = input_plan(a);
  const DType t = a.in[0].dtype;
  const Workspace w = split(p, t, a.workspace, workspace_bytes(p, t, input_product));
  T *weight = reinterpret_cast<T*>(w.weight), *columns = reinterpret_cast<T*>(w.columns), *dx = a.out[0].ptr<T>();
  reorder_weight(p, a.in[1].ptr<T>(), weight, false);
  if (!p.direct && dx) std::memset(dx, 0, size_t(a.out[0].size()) * sizeof(T));
  each_block(p, [&](int64_t n, int64_t images) {
    for (int64_t group = 0; group < p.s.groups; ++group) {
      T* to = dx + n * p.s.h * p.s.w * p.s.c;
      GemmArgs g = input_product(p, elem_of(t), images * p.per_image);
      g.a = a.in[0].ptr<T>() + n * p.per_image * p.s.o + group * p.og, g.b = weight + group * p.og * p.taps, g.c = p.direct ? to + group * p.cg : columns;
      gemm(g, w.product, w.product_bytes);
      if (!p.direct) scatter(p, columns, images, group, to);
    }
  });
}

template <class T>
void backward_weight(const KernelArgs& a) {
  const Plan p = weight_plan(a);
  const DType t = a.in[0].dtype;
  const Workspace w = split(p, t, a.workspace, workspace_bytes(p, t, weight_product));
  T *weight = reinterpret_cast<T*>(w.weight), *columns = reinterpret_cast<T*>(w.columns);
  if (p.s.n == 0) std::memset(weight, 0, size_t(p.weight_elements()) * sizeof(T));
  each_block(p, [&](int64_t n, int64_t images) {
    for (int64_t group = 0; group < p.s.groups; ++group) {
      const T* from = a.in[1].ptr<T>() + n * p.s.h * p.s.w * p.s.c;
      if (!p.direct) gather(p, from, images, group, columns);
      GemmArgs g = weight_product(p, elem_of(t), images * p.per_image);
      g.a = a.in[0].ptr<T>() + n * p.per_image * p.s.o + group * p.og, g.b = p.direct ? from + group * p.cg : columns;
      g.c = weight + group * p.og * p.taps, g.beta = n == 0 ? 0 : 1;
      gemm(g, w.product, w.product_bytes);
    }
  });
  reorder_weight(p, weight, a.out[0].ptr<T>(), true);
}

}  // namespace
}  // namespace keel::cpu

using namespace keel;

KEEL_CPU_KERNEL(conv2d) {
  k.dtypes(set_of(f32, f64)).input(0, Layout::channels_last).input(1, Layout::contiguous).input(2, Layout::contiguous).output(0, Layout::channels_last)
      .workspace([](const KernelArgs& a) { return cpu::workspace_bytes(cpu::forward_plan(a), a.in[0].dtype, cpu::forward_product); })
      .run([](const KernelArgs& a) -> KernelStatus { return a.in[0].dtype == f32 ? cpu::forward<float>(a) : cpu::forward<double>(a), KernelStatus{}; });
}
KEEL_CPU_KERNEL(conv2d_backward_input) {
  k.dtypes(set_of(f32, f64)).input(0, Layout::channels_last).input(1, Layout::contiguous).output(0, Layout::channels_last)
      .workspace([](const KernelArgs& a) { return cpu::workspace_bytes(cpu::input_plan(a), a.in[0].dtype, cpu::input_product); })
      .run([](const KernelArgs& a) -> KernelStatus { return a.in[0].dtype == f32 ? cpu::backward_input<float>(a) : cpu::backward_input<double>(a), KernelStatus{}; });
}
KEEL_CPU_KERNEL(conv2d_backward_weight) {
  k.dtypes(set_of(f32, f64)).input(0, Layout::channels_last).input(1, Layout::channels_last)
      .workspace([](const KernelArgs& a) { return cpu::workspace_bytes(cpu::weight_plan(a), a.in[0].dtype, cpu::weight_product); })
      .run([](const KernelArgs& a) -> KernelStatus { return a.in[0].dtype == f32 ? cpu::backward_weight<float>(a) : cpu::backward_weight<double>(a), KernelStatus{}; });
}
