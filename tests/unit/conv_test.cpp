// Convolution and its gradients against naive f64 loops, over windows, strides, paddings, dilations, groups and channel counts around every
// tile border, at every ISA level; and the promise that bits depend neither on threads nor, for pixels, on the batch.
#include "backend/cpu/conv/conv.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "backend/cpu/isa.h"
#include "keel/numerics/types.h"
#include "keel/parallel.h"
#include "elements.h"

namespace keel::cpu {
namespace {


struct Buffer {
  Elem e;
  int64_t n;
  std::unique_ptr<char[]> data;
  Buffer(Elem type, int64_t count, uint64_t seed) : e(type), n(count), data(new char[size_t(count * elem_bytes(type))]) {
    for (int64_t i = 0; i < n; ++i) {
      seed = seed * 6364136223846793005u + 1442695040888963407u;
      put(e, data.get(), i, double(int64_t(seed >> 11)) / double(1ll << 52) - 1.0);
    }
  }
  void* p() { return data.get(); }
  double operator[](int64_t i) const { return get(e, data.get(), i); }
};

ConvShape shape(int64_t n, int64_t c, int64_t h, int64_t w, int64_t o, int64_t kh, int64_t kw, int64_t sh, int64_t sw, int64_t ph,
                int64_t pw, int64_t dh, int64_t dw, int64_t groups) {
  return {n,  c,  h,  w,  o,     (h + 2 * ph - dh * (kh - 1) - 1) / sh + 1, (w + 2 * pw - dw * (kw - 1) - 1) / sw + 1, kh, kw, sh, sw,
          ph, pw, dh, dw, groups};
}
const ConvShape kShapes[] = {shape(2, 3, 6, 5, 4, 3, 2, 1, 1, 0, 0, 1, 1, 1),      shape(1, 2, 4, 4, 3, 3, 3, 1, 1, 1, 1, 1, 1, 1),
                             shape(2, 5, 9, 8, 7, 3, 3, 2, 2, 1, 1, 1, 1, 1),      shape(3, 1, 28, 28, 6, 5, 5, 1, 1, 0, 0, 1, 1, 1),
                             shape(3, 6, 12, 12, 16, 5, 5, 1, 1, 0, 0, 1, 1, 1),   shape(2, 40, 8, 8, 37, 3, 3, 1, 1, 1, 1, 1, 1, 1),
                             shape(2, 33, 9, 10, 35, 3, 3, 2, 2, 1, 1, 1, 1, 1),   shape(1, 3, 20, 21, 33, 7, 7, 2, 2, 3, 3, 1, 1, 1),
                             shape(2, 64, 4, 4, 64, 3, 3, 1, 1, 1, 1, 1, 1, 1),    shape(2, 48, 7, 7, 20, 1, 1, 2, 2, 0, 0, 1, 1, 1),
                             shape(2, 20, 5, 6, 18, 1, 1, 1, 1, 0, 0, 1, 1, 1),    shape(2, 8, 6, 7, 12, 3, 3, 1, 1, 1, 1, 1, 1, 4),
                             shape(1, 6, 5, 5, 6, 3, 3, 1, 1, 1, 1, 1, 1, 6),      shape(2, 4, 11, 9, 5, 3, 2, 1, 2, 2, 1, 2, 3, 1),
                             shape(1, 36, 3, 2, 17, 3, 2, 1, 1, 1, 1, 1, 1, 1),    shape(1, 2, 7, 7, 3, 2, 2, 3, 3, 2, 2, 1, 1, 1),
                             shape(1, 70, 6, 6, 40, 3, 3, 2, 1, 1, 1, 1, 1, 2),    shape(0, 3, 6, 6, 4, 3, 3, 1, 1, 1, 1, 1, 1, 1),
                             shape(1, 600, 3, 3, 34, 3, 3, 1, 1, 1, 1, 1, 1, 1),   shape(3, 1, 11, 13, 8, 3, 3, 1, 1, 1, 1, 1, 1, 1),
                             shape(2, 1, 9, 30, 3, 7, 7, 1, 1, 3, 3, 1, 1, 1),     shape(2, 1, 12, 20, 5, 5, 5, 2, 1, 0, 2, 2, 1, 1),
                             shape(2, 1, 8, 9, 7, 6, 4, 1, 1, 0, 0, 1, 1, 1),      shape(3, 1, 10, 40, 2, 4, 5, 1, 1, 1, 0, 1, 1, 1),
                             shape(2, 3, 9, 17, 6, 3, 3, 1, 1, 1, 1, 1, 1, 3),     shape(2, 37, 9, 12, 37, 3, 3, 1, 1, 1, 1, 1, 1, 37),
                             shape(3, 20, 11, 10, 20, 5, 5, 2, 2, 2, 2, 1, 1, 20), shape(2, 17, 9, 9, 17, 3, 4, 2, 1, 0, 3, 2, 2, 17),
                             shape(2, 70, 8, 6, 70, 2, 2, 3, 3, 0, 1, 1, 1, 70),   shape(5, 16, 16, 16, 32, 3, 3, 1, 1, 1, 1, 1, 1, 1),
                             shape(3, 32, 9, 7, 45, 3, 3, 1, 1, 1, 1, 1, 1, 1),    shape(2, 33, 6, 7, 64, 3, 3, 1, 1, 0, 0, 1, 1, 1),
                             shape(2, 70, 5, 8, 39, 3, 3, 1, 1, 2, 1, 1, 1, 1),    shape(0, 33, 6, 6, 34, 3, 3, 1, 1, 1, 1, 1, 1, 1),
                             shape(40, 32, 14, 13, 32, 3, 3, 1, 1, 1, 0, 1, 1, 1),
                             shape(3, 17, 90, 61, 40, 1, 1, 2, 1, 0, 0, 1, 1, 1),  shape(2, 19, 6, 7, 21, 1, 1, 1, 1, 0, 0, 1, 1, 1),
                             shape(0, 19, 6, 7, 21, 1, 1, 1, 2, 0, 0, 1, 1, 1),    shape(0, 9, 6, 7, 7, 1, 1, 1, 1, 0, 0, 1, 1, 1),
                             // depthwise: every unrolled window, wider than the image, steps of taps apart, long rows of sums, more than L2
                             shape(2, 40, 9, 11, 40, 3, 3, 2, 2, 1, 1, 1, 1, 40),  shape(2, 24, 12, 14, 24, 5, 5, 1, 1, 2, 2, 1, 1, 24),
                             shape(2, 33, 20, 19, 33, 5, 5, 2, 2, 2, 2, 1, 1, 33), shape(2, 40, 13, 22, 40, 7, 7, 1, 1, 3, 3, 1, 1, 40),
                             shape(1, 35, 12, 17, 35, 3, 3, 2, 2, 2, 2, 2, 2, 35), shape(1, 18, 16, 25, 18, 3, 3, 4, 4, 2, 2, 2, 2, 18),
                             shape(2, 16, 3, 2, 16, 5, 5, 1, 1, 2, 2, 1, 1, 16),   shape(3, 48, 70, 9, 48, 3, 3, 1, 1, 1, 1, 1, 1, 48),
                             shape(3, 96, 40, 100, 96, 3, 3, 1, 1, 1, 1, 1, 1, 96)};

template <class F>
void each_product(const ConvShape& s, F&& f) {
  const int64_t cg = s.c / s.groups, og = s.o / s.groups;
  for (int64_t n = 0; n < s.n; ++n)
    for (int64_t y = 0; y < s.oh; ++y)
      for (int64_t x = 0; x < s.ow; ++x)
        for (int64_t i = 0; i < s.kh; ++i)
          for (int64_t j = 0; j < s.kw; ++j) {
            const int64_t row = y * s.sh - s.ph + i * s.dh, column = x * s.sw - s.pw + j * s.dw;
            if (row < 0 || row >= s.h || column < 0 || column >= s.w) continue;
            for (int64_t o = 0; o < s.o; ++o)
              for (int64_t c = 0; c < cg; ++c)
                f(((n * s.oh + y) * s.ow + x) * s.o + o, ((n * s.h + row) * s.w + column) * s.c + o / og * cg + c,
                  ((o * cg + c) * s.kh + i) * s.kw + j);
          }
}

class Conv : public ::testing::TestWithParam<Isa> {
 protected:
  void SetUp() override {
    before_ = active_isa();
    if (set_isa_for_tests(GetParam()) != GetParam()) {
      set_isa_for_tests(before_);
      GTEST_SKIP() << "not on this machine";
    }
  }
  void TearDown() override { set_isa_for_tests(before_); }
  Isa before_;
};

using Space = std::unique_ptr<char[]>;
void forward(Elem e, const ConvShape& s, Buffer& x, Buffer& w, const void* bias, Buffer& y) {
  Space space(new char[size_t(conv_forward_workspace(e, s))]);
  conv_forward(e, s, x.p(), w.p(), bias, y.p(), nullptr, space.get());
}
void backward_input(Elem e, const ConvShape& s, Buffer& g, Buffer& w, Buffer& dx) {
  Space space(new char[size_t(conv_backward_input_workspace(e, s))]);
  conv_backward_input(e, s, g.p(), w.p(), dx.p(), nullptr, space.get());
}
void backward_weight(Elem e, const ConvShape& s, Buffer& g, Buffer& x, Buffer& dw) {
  Space space(new char[size_t(conv_backward_weight_workspace(e, s))]);
  conv_backward_weight(e, s, g.p(), x.p(), dw.p(), nullptr, space.get());
}

void expect_close(const Buffer& got, const std::vector<double>& sum, const std::vector<double>& size, double terms, const char* what,
                  int index) {
  const double unit = got.e == Elem::f64 ? 0x1p-53 : 0x1p-24,
               floor = got.e == Elem::f16 ? 0x1p-25 : 1e-30,  // half the step of f16's subnormals
      store = got.e == Elem::bf16  ? 0x1p-8
              : got.e == Elem::f16 ? 0x1p-11
                                   : unit;
  for (int64_t i = 0; i < got.n; ++i)
    ASSERT_NEAR(got[i], sum[size_t(i)], (terms + 4) * unit * size[size_t(i)] + 1.01 * store * std::abs(sum[size_t(i)]) + floor)
        << what << " of shape " << index << " type " << int(got.e) << " isa " << isa_name(active_isa()) << " at " << i;
}

TEST_P(Conv, AllThreeAgainstLoops) {
  int index = 0;
  for (const ConvShape& s : kShapes) {
    for (Elem e : {Elem::f32, Elem::f64, Elem::bf16, Elem::f16}) {
      const int64_t nx = s.n * s.h * s.w * s.c, nw = s.o * (s.c / s.groups) * s.kh * s.kw, ny = s.n * s.oh * s.ow * s.o;
      Buffer x(e, nx, 1), w(e, nw, 2), bias(e, s.o, 3), g(e, ny, 4), y(e, ny, 5), dx(e, nx, 6), dw(e, nw, 7);
      std::vector<double> sy(size_t(ny), 0), ay(size_t(ny), 0), sx(size_t(nx), 0), ax(size_t(nx), 0), sw(size_t(nw), 0), aw(size_t(nw), 0);
      std::vector<double> dxv(size_t(nx), 0), dwv(size_t(nw), 0), dgv(size_t(ny), 0);
      for (int64_t i = 0; i < nx; ++i) dxv[size_t(i)] = x[i];
      for (int64_t i = 0; i < nw; ++i) dwv[size_t(i)] = w[i];
      for (int64_t i = 0; i < ny; ++i) dgv[size_t(i)] = g[i];
      each_product(s, [&](int64_t iy, int64_t ix, int64_t iw) {
        const double vx = dxv[size_t(ix)], vw = dwv[size_t(iw)], vg = dgv[size_t(iy)];
        sy[size_t(iy)] += vx * vw, ay[size_t(iy)] += std::abs(vx * vw);
        sx[size_t(ix)] += vg * vw, ax[size_t(ix)] += std::abs(vg * vw);
        sw[size_t(iw)] += vg * vx, aw[size_t(iw)] += std::abs(vg * vx);
      });
      for (int64_t i = 0; i < ny; ++i) sy[size_t(i)] += bias[i % s.o], ay[size_t(i)] += std::abs(bias[i % s.o]);
      forward(e, s, x, w, bias.p(), y);
      backward_input(e, s, g, w, dx);
      backward_weight(e, s, g, x, dw);
      const double k = double(s.c / s.groups * s.kh * s.kw);
      expect_close(y, sy, ay, k, "forward", index);
      expect_close(dx, sx, ax, double(s.o / s.groups * s.kh * s.kw), "backward input", index);
      expect_close(dw, sw, aw, double(s.n * s.oh * s.ow), "backward weight", index);
      if (HasFatalFailure()) return;
    }
    ++index;
  }
}

TEST_P(Conv, BitsDependOnNeitherThreadsNorBatch) {
  for (const ConvShape& s : kShapes) {
    if (s.n < 2) continue;
    const Elem e = Elem::f32;
    const int64_t nx = s.n * s.h * s.w * s.c, nw = s.o * (s.c / s.groups) * s.kh * s.kw, ny = s.n * s.oh * s.ow * s.o;
    Buffer x(e, nx, 1), w(e, nw, 2), g(e, ny, 4), y(e, ny, 5), dx(e, nx, 6), dw(e, nw, 7), y2(e, ny, 8), dx2(e, nx, 9), dw2(e, nw, 10);
    set_num_threads(1);
    forward(e, s, x, w, nullptr, y), backward_input(e, s, g, w, dx), backward_weight(e, s, g, x, dw);
    for (int threads : {2, 5}) {
      set_num_threads(threads);
      forward(e, s, x, w, nullptr, y2), backward_input(e, s, g, w, dx2), backward_weight(e, s, g, x, dw2);
      EXPECT_EQ(0, std::memcmp(y.p(), y2.p(), size_t(ny) * 4));
      EXPECT_EQ(0, std::memcmp(dx.p(), dx2.p(), size_t(nx) * 4));
      EXPECT_EQ(0, std::memcmp(dw.p(), dw2.p(), size_t(nw) * 4));
    }
    set_num_threads(1);
    ConvShape one = s;
    one.n = 1;
    forward(e, one, x, w, nullptr, y2), backward_input(e, one, g, w, dx2);
    EXPECT_EQ(0, std::memcmp(y.p(), y2.p(), size_t(ny / s.n) * 4));
    EXPECT_EQ(0, std::memcmp(dx.p(), dx2.p(), size_t(nx / s.n) * 4));
  }
  set_num_threads(2);
}

INSTANTIATE_TEST_SUITE_P(Isas, Conv, ::testing::Values(Isa::scalar, Isa::neon, Isa::simd128, Isa::avx2, Isa::avx512),
                         [](const auto& p) { return isa_name(p.param); });

}  // namespace
}  // namespace keel::cpu
