// Ops that a device runs in fewer passes than their parts take, at sizes and in orders of memory that take the fast ways.
#include "device/on_device.h"

namespace keel {
namespace {

class FusedOnDevice : public DeviceTest {
 protected:
  static void expect_near(const Tensor& got, const Tensor& want, double bound, const std::string& what) {
    const Tensor g = got.to(cpu_device).to(f64), w = want.to(cpu_device).to(f64);
    ASSERT_EQ(g.shape(), w.shape()) << what;
    ASSERT_EQ(all(isfinite(g)).item(), 1.0) << what;
    const double unit = std::max(max(abs(w)).item(), 1e-6);
    EXPECT_LE(max(abs(g - w)).item() / unit, bound) << what << ", of the largest value " << unit;
  }
  static void expect_same(const Tensor& a, const Tensor& b, const std::string& what) {
    EXPECT_EQ(all(equal(a.to(cpu_device), b.to(cpu_device))).item(), 1.0) << what;
  }
};

TEST_F(FusedOnDevice, BatchNormRelu) {
  for (const DType t : {f32, bf16, f16})
    for (const int64_t c : {16, 64, 264})
      for (const bool last : {true, false})
        for (const bool added : {true, false}) {
          manual_seed(21);
          const Tensor x = (randn({6, c, 13, 11}) * 2 + 1).to(t), z = randn({6, c, 13, 11}).to(t), w = (randn({c}) + 1).to(t),
                       b = randn({c}).to(t), g = randn({6, c, 13, 11}).to(t);
          const std::string what = std::string(name_of(t)) + ", " + std::to_string(c) + " channels" + (last ? ", innermost" : "") +
                                   (added ? ", with a residual" : "");
          const auto run = [&](Device where, DType as) {
            Tensors in;
            for (const Tensor& v : {x, w, b, z}) {
              const Tensor there = v.to(as).to(where);
              in.push_back(last && v.rank() == 4 ? there.channels_last() : there);
              in.back().requires_grad_();
            }
            const BatchNormResult r = batch_norm_relu(in[0], in[1], in[2], added ? in[3] : Tensor());
            const Tensor cotangent = g.to(as).to(where);
            sum(r.y * (last ? cotangent.channels_last() : cotangent)).backward();
            return Tensors{r.y.detach(),   r.mean.detach(), r.var.detach(),
                           in[0].grad(),   in[1].grad(),    in[2].grad(),
                           added ? in[3].grad() : r.y.detach()};
          };
          const Tensors want = run(cpu_device, f64), got = run(d, t), again = run(d, t);
          const double bound = t == bf16 ? 1e-2 : t == f16 ? 2e-3 : 1e-5;
          const char* const names[] = {"y", "mean", "var", "dx", "dweight", "dbias", "dresidual"};
          for (int i = 0; i < 7; ++i) {
            if (i < 3) expect_near(got[i], want[i], bound, what + ", " + names[i]);
            expect_same(got[i], again[i], what + ", " + names[i]);
          }
          // The gradient by the mask of this very result: a sum near 0 may be rounded to another side.
          const Tensor through = where(got[0].to(cpu_device).to(f64) > 0, g.to(f64), 0);
          Tensors in;
          for (const Tensor& v : {x, w, b}) in.push_back(v.to(f64).requires_grad_());
          sum(batch_norm(in[0], in[1], in[2]).y * through).backward();
          for (int i = 0; i < 3; ++i) expect_near(got[3 + i], in[i].grad(), bound, what + ", " + names[3 + i]);
          if (added) expect_same(got[6].to(cpu_device).to(f64), through, what + ", dresidual");
          const Tensor e = batch_norm_relu_eval(x.to(d), want[1].to(f32).to(d), want[2].to(f32).to(d), w.to(d), b.to(d),
                                                added ? z.to(d) : Tensor());
          expect_near(e, want[0], bound, what + ", evaluation");
        }
}

/// A result that is used twice, as at the forks of a residual network: its two gradients are added where they are read.
TEST_F(FusedOnDevice, BatchNormReluUsedTwice) {
  for (const DType t : {f32, bf16})
    for (const bool last : {true, false})
      for (const int uses : {2, 3}) {
        manual_seed(23);
        const Tensor x = (randn({6, 64, 13, 11}) * 2 + 1).to(t), z = randn({6, 64, 13, 11}).to(t), w = (randn({64}) + 1).to(t),
                     b = randn({64}).to(t), g = randn({6, 64, 13, 11}).to(t), h = randn({6, 64, 13, 11}).to(t);
        const std::string what = std::string(name_of(t)) + (last ? ", channels innermost, " : ", ") + std::to_string(uses) + " uses";
        Tensors in;
        for (const Tensor& v : {x, w, b, z, g, h}) {
          const Tensor there = v.to(d);
          in.push_back(last && v.rank() == 4 ? there.channels_last() : there.clone());
        }
        for (int i = 0; i < 4; ++i) in[i].requires_grad_();
        const Tensor y = batch_norm_relu(in[0], in[1], in[2], in[3]).y;
        Tensor loss = sum(y * in[4]) + sum(y * in[5]);
        if (uses == 3) loss = loss + sum(y * in[4]);
        loss.backward();
        const Tensor through = where(y.detach().to(cpu_device).to(f64) > 0, g.to(f64) * double(uses - 1) + h.to(f64), 0);
        Tensors wide;
        for (const Tensor& v : {x, w, b}) wide.push_back(v.to(f64).requires_grad_());
        sum(batch_norm(wide[0], wide[1], wide[2]).y * through).backward();
        for (int i = 0; i < 3; ++i)
          expect_near(in[i].grad(), wide[i].grad(), t == bf16 ? 2e-2 : 1e-5, what + ", gradient " + std::to_string(i));
        expect_near(in[3].grad(), through, t == bf16 ? 2e-2 : 1e-5, what + ", gradient of the residual");
      }
}

TEST_F(FusedOnDevice, FeedForward) {
  for (const DType t : {bf16, f16, f32})
    for (const int64_t rows : {16, 1000}) {
      manual_seed(22);
      const Tensor x = randn({2, rows / 2, 96}).to(t), u = (randn({256, 96}) * 0.1).to(t), p = randn({256}).to(t),
                   v = (randn({96, 256}) * 0.1).to(t), q = randn({96}).to(t), g = randn({2, rows / 2, 96}).to(t);
      const std::string what = std::string(name_of(t)) + ", " + std::to_string(rows) + " rows";
      const auto run = [&](Device where, DType as) {
        Tensors in;
        for (const Tensor& o : {x, u, p, v, q}) in.push_back(o.to(as).to(where).requires_grad_());
        const Tensor y = feed_forward(in[0], in[1], in[2], in[3], in[4]);
        sum(y * g.to(as).to(where)).backward();
        Tensors out{y.detach(), linear_gelu(in[0].detach(), in[1].detach(), in[2].detach())};
        for (const Tensor& o : in) out.push_back(o.grad());
        return out;
      };
      const Tensors want = run(cpu_device, f64), got = run(d, t), again = run(d, t);
      for (int i = 0; i < 7; ++i) {
        expect_near(got[i], want[i], t == bf16 ? 1e-2 : t == f16 ? 2e-3 : 1e-5, what + ", result " + std::to_string(i));
        expect_same(got[i], again[i], what + ", result " + std::to_string(i));
      }
      const NoGrad off;
      expect_near(feed_forward(x.to(d), u.to(d), p.to(d), v.to(d), q.to(d)), want[0], t == bf16 ? 1e-2 : t == f16 ? 2e-3 : 1e-5,
                  what + ", without a gradient");
    }
}

}  // namespace
}  // namespace keel
