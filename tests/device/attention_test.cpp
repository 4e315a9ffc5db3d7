// Attention of low precision, which runs in other hands than that of f32: result, row sums and gradients against float64 on the CPU, with
// views of one product of queries, keys and values, and the same bits in every run, but at the level `fast`.
#include "device/on_device.h"

namespace keel {
namespace {

struct AttentionSize {
  int64_t batch, heads, kv_heads, t, s, d, dv;
  bool causal;
  double scale = 0;
};

class AttentionOnDevice : public DeviceTest {
 protected:
  static double largest(const Tensor& x) { return max(abs(x)).item(); }
  static void expect_near(const Tensor& got, const Tensor& want, double bound, const std::string& what) {
    const Tensor g = got.to(cpu_device).to(f64), w = want.to(cpu_device).to(f64);
    ASSERT_EQ(g.shape(), w.shape()) << what;
    ASSERT_EQ(all(isfinite(g)).item(), 1.0) << what;
    const double unit = std::max(largest(w), 1e-3);
    EXPECT_LE(largest(g - w) / unit, bound) << what << ", of the largest value " << unit;
  }
  static std::string name(const AttentionSize& z, DType t, bool packed) {
    return std::string(name_of(t)) + " [" + std::to_string(z.batch) + ", " + std::to_string(z.heads) + "/" + std::to_string(z.kv_heads) +
           ", " + std::to_string(z.t) + "x" + std::to_string(z.s) + ", " + std::to_string(z.d) + "/" + std::to_string(z.dv) + "]" +
           (z.causal ? " causal" : "") + (packed ? " packed" : "");
  }
  /// Result and gradients for operands rounded to `t`, computed on `where` as they are, or as f64.
  static std::vector<Tensor> run(const std::vector<Tensor>& in, const Tensor& g, const AttentionParams& p, Device where, DType t,
                                 bool packed) {
    std::vector<Tensor> x;
    for (const Tensor& i : in) x.push_back(i.to(t).to(where).requires_grad_());
    Tensor y;
    if (packed) {  // x[0]: [batch, t, 3, heads, d]
      const Tensor h = x[0].permute({2, 0, 3, 1, 4});
      y = attention(h[0], h[1], h[2], p);
    } else {
      y = attention(x[0], x[1], x[2], p);
    }
    sum(y * g.to(t).to(where)).backward();
    std::vector<Tensor> out{y.detach()};
    for (const Tensor& i : x) out.push_back(i.grad());
    return out;
  }
  void agrees(const AttentionSize& z, bool packed = false) {
    for (const DType t : {bf16, f16}) {
      const std::string what = name(z, t, packed);
      SCOPED_TRACE(what);
      manual_seed(7);
      std::vector<Tensor> in;
      if (packed)
        in = {randn({z.batch, z.t, 3, z.heads, z.d}).to(t)};
      else
        in = {randn({z.batch, z.heads, z.t, z.d}).to(t), randn({z.batch, z.kv_heads, z.s, z.d}).to(t),
              randn({z.batch, z.kv_heads, z.s, z.dv}).to(t)};
      const Tensor g = randn({z.batch, z.heads, z.t, z.dv}).to(t);
      const AttentionParams p{.causal = z.causal, .scale = z.scale};
      const std::vector<Tensor> want = run(in, g, p, cpu_device, f64, packed), got = run(in, g, p, d, t, packed),
                                again = run(in, g, p, d, t, packed);
      // A probability, its gradient and a result are each rounded once.
      const double bound = t == bf16 ? 0.02 : 0.003;
      for (size_t i = 0; i < want.size(); ++i) {
        expect_near(got[i], want[i], bound, i == 0 ? "result" : "gradient of operand " + std::to_string(i - 1));
        if (determinism() == Determinism::fast) continue;
        EXPECT_EQ(all(equal(got[i].to(cpu_device), again[i].to(cpu_device))).item(), 1.0) << "other bits in a second run, " << i;
      }
      const NoGrad none;
      const Tensor x0 = in[0].to(d);
      const Tensor plain = packed ? [&] {
        const Tensor h = x0.permute({2, 0, 3, 1, 4});
        return attention(h[0], h[1], h[2], p);
      }()
                                  : attention(x0, in[1].to(d), in[2].to(d), p);
      expect_near(plain, want[0], bound, "result where no gradient is wanted");
    }
  }
};

TEST_F(AttentionOnDevice, SquareCausal) { agrees({2, 3, 3, 256, 256, 64, 64, true}); }
TEST_F(AttentionOnDevice, WideHeads) { agrees({1, 2, 2, 384, 384, 128, 128, true, 0.05}); }
TEST_F(AttentionOnDevice, Full) { agrees({2, 2, 2, 128, 320, 64, 128, false}); }
TEST_F(AttentionOnDevice, GroupedHeads) {
  agrees({2, 8, 2, 192, 192, 64, 64, true});
  agrees({1, 6, 1, 65, 130, 128, 128, false});
}
/// Lengths that end inside a tile, one query, narrow heads.
TEST_F(AttentionOnDevice, OddLengths) {
  agrees({1, 2, 2, 77, 77, 64, 64, true});
  agrees({3, 1, 1, 1, 200, 64, 64, false});
  agrees({1, 3, 3, 201, 201, 40, 40, true});
  agrees({1, 2, 2, 2, 2, 8, 16, true});
}
TEST_F(AttentionOnDevice, InAnyOrder) {
  const DeterminismGuard level(Determinism::fast);
  agrees({2, 3, 3, 256, 256, 64, 64, true});
  agrees({1, 2, 2, 384, 384, 128, 128, false, 0.05});
  agrees({2, 8, 2, 192, 192, 64, 64, true});
  agrees({1, 2, 2, 77, 77, 64, 64, true});
  agrees({2, 4, 4, 160, 160, 64, 64, true}, true);
}
/// What the graphs do not take.
TEST_F(AttentionOnDevice, OwnKernels) {
  agrees({1, 2, 2, 60, 130, 64, 64, true});
  agrees({1, 2, 1, 33, 33, 20, 20, true});
  agrees({2, 2, 2, 1, 1, 64, 64, true});
}
TEST_F(AttentionOnDevice, ViewsOfOneProduct) {
  agrees({2, 4, 4, 160, 160, 64, 64, true}, true);
  agrees({1, 2, 2, 96, 96, 128, 128, false}, true);
}
/// A result in the order of its queries: heads side by side again without a copy.
TEST_F(AttentionOnDevice, KeepsTheOrderOfQueries) {
  if (d.type != DeviceType::cuda) GTEST_SKIP() << "has no kernel";
  const NoGrad none;
  const Tensor h = randn({2, 64, 3, 4, 64}).to(bf16).to(d).permute({2, 0, 3, 1, 4});
  const Tensor y = attention(h[0], h[1], h[2], {.causal = true}).transpose(1, 2);
  EXPECT_TRUE(y.is_contiguous());
}

}  // namespace
}  // namespace keel
