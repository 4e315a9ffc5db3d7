// Convolution and its gradients in double, by their definitions: every output, every tap.
#include "backend/reference/walk.h"
#include "keel/ops/conv.h"

using namespace keel;
using namespace keel::reference;

namespace {

/// The sizes of one convolution, as its kernels need them.
struct ConvSizes {
  int64_t n, c, h, w;  // input
  int64_t o, oh, ow;   // output
  int64_t kh, kw;      // window
  int64_t sh, sw, ph, pw, dh, dw, groups;
};
template <class P>
ConvSizes conv_sizes(const P& p, const Shape& x, const Shape& weight, const Shape& y) {
  return {x[0],      x[1],        x[2],        x[3],         y[1],         y[2],          y[3],          weight[2],
          weight[3], p.stride[0], p.stride[1], p.padding[0], p.padding[1], p.dilation[0], p.dilation[1], p.groups};
}

/// Calls f(image, output channel, output row, column, input channel, tap row, column, input row, column) for every product of a convolution.
template <class F>
void each_product(const ConvSizes& s, F&& f) {
  const int64_t cg = s.c / s.groups, og = s.o / s.groups;
  for (int64_t n = 0; n < s.n; ++n)
    for (int64_t o = 0; o < s.o; ++o)
      for (int64_t y = 0; y < s.oh; ++y)
        for (int64_t x = 0; x < s.ow; ++x)
          for (int64_t c = 0; c < cg; ++c)
            for (int64_t i = 0; i < s.kh; ++i)
              for (int64_t j = 0; j < s.kw; ++j) {
                const int64_t row = y * s.sh - s.ph + i * s.dh, column = x * s.sw - s.pw + j * s.dw;
                if (row >= 0 && row < s.h && column >= 0 && column < s.w) f(n, o, y, x, c, i, j, o / og * cg + c, row, column);
              }
}
double at4(const TensorView& v, int64_t a, int64_t b, int64_t c, int64_t d) {
  const int64_t at[4] = {a, b, c, d};
  return get(v, at, 4);
}
int64_t flat(const Shape& s, int64_t a, int64_t b, int64_t c, int64_t d) { return ((a * s[1] + b) * s[2] + c) * s[3] + d; }

/// Sums kept in double until all products have come, then written once. Reference code may allocate.
struct Sums {
  explicit Sums(const TensorView& v) : view(v), sum(new double[size_t(v.size() > 0 ? v.size() : 1)]()) {}
  ~Sums() { delete[] sum; }
  Sums(const Sums&) = delete;
  Sums& operator=(const Sums&) = delete;
  void write() const {
    int64_t i = 0;
    each_index(view.shape(), [&](const int64_t* at) { put(view, at, Scalar(sum[i++])); });
  }
  const TensorView& view;
  double* sum;
};

}  // namespace

KEEL_REFERENCE_KERNEL(conv2d) {
  k.run([](const KernelArgs& a) -> KernelStatus {
    const TensorView &x = a.in[0], &w = a.in[1], &y = a.out[0];
    Sums sums(y);
    if (a.n_in > 2 && a.in[2].present()) {
      int64_t i = 0;
      each_index(y.shape(), [&](const int64_t* at) {
        const int64_t channel[1] = {at[1]};
        sums.sum[i++] = get(a.in[2], channel, 1);
      });
    }
    each_product(conv_sizes(a.get<Conv2dParams>(), x.shape(), w.shape(), y.shape()),
                 [&](int64_t n, int64_t o, int64_t oy, int64_t ox, int64_t c, int64_t i, int64_t j, int64_t channel, int64_t row,
                     int64_t column) { sums.sum[flat(y.shape(), n, o, oy, ox)] += at4(x, n, channel, row, column) * at4(w, o, c, i, j); });
    sums.write();
    return {};
  });
}
KEEL_REFERENCE_KERNEL(conv2d_backward_input) {
  k.run([](const KernelArgs& a) -> KernelStatus {
    const TensorView &g = a.in[0], &w = a.in[1], &dx = a.out[0];
    Sums sums(dx);
    each_product(conv_sizes(a.get<Conv2dBackwardParams>(), dx.shape(), w.shape(), g.shape()),
                 [&](int64_t n, int64_t o, int64_t oy, int64_t ox, int64_t c, int64_t i, int64_t j, int64_t channel, int64_t row,
                     int64_t column) { sums.sum[flat(dx.shape(), n, channel, row, column)] += at4(g, n, o, oy, ox) * at4(w, o, c, i, j); });
    sums.write();
    return {};
  });
}
KEEL_REFERENCE_KERNEL(conv2d_backward_weight) {
  k.run([](const KernelArgs& a) -> KernelStatus {
    const TensorView &g = a.in[0], &x = a.in[1], &dw = a.out[0];
    Sums sums(dw);
    each_product(conv_sizes(a.get<Conv2dBackwardParams>(), x.shape(), dw.shape(), g.shape()),
                 [&](int64_t n, int64_t o, int64_t oy, int64_t ox, int64_t c, int64_t i, int64_t j, int64_t channel, int64_t row,
                     int64_t column) { sums.sum[flat(dw.shape(), o, c, i, j)] += at4(g, n, o, oy, ox) * at4(x, n, channel, row, column); });
    sums.write();
    return {};
  });
}
