// Kernels of rows write large results past the caches: a row must have the bits that it has alone.
#include <gtest/gtest.h>

#include <cstring>

#include "keel/keel.h"

namespace {
using namespace keel;

/// `big`, of more bytes than the caches are spared, and `part` of rows [first, first + rows) give the same bits there.
void expect_rows(const Tensor& big, const Tensor& part, int64_t first, const char* what) {
  const int64_t n = big.shape()[1], rows = part.shape()[0];
  ASSERT_EQ(0, std::memcmp(big.data<float>() + first * n, part.data<float>(), size_t(rows * n) * sizeof(float))) << what << ", width " << n;
}

TEST(RowStream, RowsHaveTheBitsThatTheyHaveAlone) {
  const int before = num_threads();
  for (const int threads : {1, 2}) {
    set_num_threads(threads);
    for (const int64_t n : {1024, 1031, 2064, 4096, 4100, 4112}) {
      const int64_t rows = (int64_t(17) << 20) * threads / (4 * n) + 3;
      const Tensor x = randn({rows, n}), g = randn({rows, n}), w = randn({n}), b = randn({n});
      const auto check = [&](const char* what, const auto& f) {
        const Tensor all = f(x, g);
        for (const int64_t first : {int64_t(0), rows / 2, rows - 5}) {
          const auto cut = [&](const Tensor& t) { return t[slice(first, first + 5)].contiguous(); };
          expect_rows(all, f(cut(x), cut(g)), first, what);
        }
      };
      const auto gradient = [](const auto& f) {
        return [f](const Tensor& in, const Tensor& out) {
          Tensor leaf = in.detach();
          leaf.requires_grad_();
          return grad(Tensors{f(leaf)}, {leaf}, {}, {out})[0];
        };
      };
      const auto soft = [](const Tensor& t) { return softmax(t); };
      const auto log_soft = [](const Tensor& t) { return log_softmax(t); };
      const auto layer = [&](const Tensor& t) { return layer_norm(t, w, b); };
      const auto rms = [&](const Tensor& t) { return rms_norm(t, w); };
      check("softmax", [&](const Tensor& t, const Tensor&) { return soft(t); });
      check("log_softmax", [&](const Tensor& t, const Tensor&) { return log_soft(t); });
      check("layer_norm", [&](const Tensor& t, const Tensor&) { return layer(t); });
      check("rms_norm", [&](const Tensor& t, const Tensor&) { return rms(t); });
      check("softmax gradient", gradient(soft));
      check("log_softmax gradient", gradient(log_soft));
      check("layer_norm gradient", gradient(layer));
      check("rms_norm gradient", gradient(rms));
      // The gradient of the weight is the same whether that of x, which goes along, is wanted or not.
      Tensor weight = w.detach(), bias = b.detach(), leaf = x.detach();
      weight.requires_grad_(), bias.requires_grad_(), leaf.requires_grad_();
      const auto same = [&](const char* what, const Tensor& with, const Tensor& without) {
        EXPECT_EQ(0, std::memcmp(with.data<float>(), without.data<float>(), size_t(n) * sizeof(float))) << what << ", width " << n;
      };
      const Tensors all = grad(Tensors{layer_norm(leaf, weight, bias)}, {leaf, weight, bias}, {}, {g});
      const Tensors some = grad(Tensors{layer_norm(x, weight, bias)}, {weight, bias}, {}, {g});
      same("layer_norm weight", all[1], some[0]), same("layer_norm bias", all[2], some[1]);
      same("rms_norm weight", grad(Tensors{rms_norm(leaf, weight)}, {leaf, weight}, {}, {g})[1],
           grad(Tensors{rms_norm(x, weight)}, {weight}, {}, {g})[0]);
      check("relu", [](const Tensor& t, const Tensor&) { return relu(t); });
      check("exp", [](const Tensor& t, const Tensor&) { return exp(t); });
      check("tanh", [](const Tensor& t, const Tensor&) { return tanh(t); });
      check("sigmoid", [](const Tensor& t, const Tensor&) { return sigmoid(t); });
      check("gelu", [](const Tensor& t, const Tensor&) { return gelu(t); });
    }
  }
  set_num_threads(before);
}
}  // namespace
