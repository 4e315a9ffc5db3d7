// The level `invariant` on the CPU: what an example gives, result and gradient, does not depend on how many are beside it. On every
// instruction set of the machine.
#include <gtest/gtest.h>

#include <cstring>
#include <functional>

#include "keel/keel.h"
#include "unit/isa_scope.h"

namespace keel {
namespace {

struct Case {
  const char* name;
  Shape example;  // the batch goes before it
  std::function<Tensor(const Tensor&, DType)> f;
};
Tensor weight(const Shape& s, DType t) {
  manual_seed(3);
  return randn(s).astype(t);
}
std::vector<Case> cases() {
  std::vector<Case> all;
  for (const int64_t n : {1, 97, 512})
    all.push_back({"linear", {300}, [n](const Tensor& x, DType t) { return linear(x, weight({n, 300}, t), weight({n}, t)); }});
  all.push_back({"matmul by one", {5, 40}, [](const Tensor& x, DType t) { return matmul(x, weight({40, 33}, t)); }});
  all.push_back({"softmax", {1000}, [](const Tensor& x, DType) { return softmax(x); }});
  all.push_back({"log_softmax", {130}, [](const Tensor& x, DType) { return log_softmax(x); }});
  all.push_back({"logsumexp", {1000}, [](const Tensor& x, DType) { return logsumexp(x, {.axis = {1}}); }});
  all.push_back({"layer_norm", {777}, [](const Tensor& x, DType t) { return layer_norm(x, weight({777}, t), weight({777}, t)); }});
  all.push_back({"rms_norm", {777}, [](const Tensor& x, DType t) { return rms_norm(x, weight({777}, t)); }});
  all.push_back({"sum", {9000}, [](const Tensor& x, DType) { return sum(x, {.axis = {1}}); }});
  all.push_back({"gelu", {77}, [](const Tensor& x, DType) { return gelu(x); }});
  all.push_back({"attention", {2, 65, 32}, [](const Tensor& x, DType) { return attention(x, x, x, {.causal = true}); }});
  struct Window {
    int64_t in, out, size, kernel, stride;
  };
  for (const Window w : {Window{3, 16, 20, 3, 1}, {16, 24, 9, 3, 2}, {64, 64, 14, 3, 1}, {64, 32, 7, 1, 1}, {3, 8, 30, 7, 2}})
    all.push_back({"conv2d", {w.in, w.size, w.size}, [w](const Tensor& x, DType t) {
                     const int64_t pad = w.kernel / 2;
                     return conv2d(x, weight({w.out, w.in, w.kernel, w.kernel}, t), {.stride = {w.stride}, .padding = {pad}});
                   }});
  all.push_back({"max_pool2d", {3, 10, 10}, [](const Tensor& x, DType) { return max_pool2d(x, {.kernel = 2}); }});
  return all;
}

/// What `c` gives for `x`, and the gradient of x.
Tensors run(const Case& c, const Tensor& x, DType t) {
  Tensor leaf = x.clone();
  leaf.requires_grad_();
  const Tensor y = c.f(leaf, t);
  y.backward(ones_like(y));
  return {y.detach(), leaf.grad()};
}
bool same_bits(const Tensor& a, const Tensor& b) {
  const Tensor x = a.contiguous(), y = b.contiguous();
  return x.shape() == y.shape() && !std::memcmp(x.raw_data(), y.raw_data(), x.nbytes());
}

TEST(Invariant, AnExampleGivesTheSameBitsInAnyBatch) {
  const cpu::IsaScope keep;
  for (const cpu::Isa isa : {cpu::Isa::scalar, cpu::Isa::avx2, cpu::Isa::avx512}) {
    if (cpu::set_isa_for_tests(isa) != isa) continue;  // this machine has no such
    for (const DType t : {f32, bf16})
      for (const Case& c : cases()) {
        constexpr int64_t kBatch = 19;
        manual_seed(1);
        Shape s({kBatch});
        for (int i = 0; i < c.example.rank(); ++i) s.push_back(c.example[i]);
        const Tensor x = randn(s).astype(t);
        const Tensors all = run(c, x, t);
        for (const auto& [from, to] : {std::pair<int64_t, int64_t>{0, 1}, {0, 2}, {0, 7}, {0, 16}, {5, 6}, {8, 19}}) {
          const Tensors some = run(c, x[{slice(from, to)}], t);
          for (int k = 0; k < 2; ++k)
            EXPECT_TRUE(same_bits(some[k], all[k][{slice(from, to)}]))
                << c.name << ", " << name_of(t) << (k ? ", gradient" : "") << ", examples " << from << " to " << to;
        }
      }
  }
}

}  // namespace
}  // namespace keel
