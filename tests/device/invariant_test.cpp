// The level `invariant` on a device: what an example gives, result and gradient, has the same bits in any batch. By ops, in whole networks,
// and for queries that come after keys were computed.
#include <cstring>
#include <functional>
#include <iostream>
#include <map>
#include <utility>
#include <vector>

#include "device/on_device.h"

namespace keel {
namespace {

struct Case {
  std::string name;
  Shape example;  // the batch goes before it
  std::function<Tensor(const Tensor&, DType)> f;
  int64_t most = 1000;  // examples
};

Shape with_batch(int64_t n, const Shape& example) {
  Shape s({n});
  for (int i = 0; i < example.rank(); ++i) s.push_back(example[i]);
  return s;
}
bool same_bits(const Tensor& a, const Tensor& b) {
  const Tensor x = a.to(cpu_device).contiguous(), y = b.to(cpu_device).contiguous();
  return x.shape() == y.shape() && !std::memcmp(x.raw_data(), y.raw_data(), x.nbytes());
}

class InvariantOnDevice : public DeviceTest {
 protected:
  const Tensor& weight(const Shape& s, DType t) const {
    Tensor& w = weights_[std::pair(std::vector<int64_t>(s.begin(), s.end()), t)];
    if (w.defined()) return w;
    manual_seed(3);
    return w = (randn(s) * 0.2).astype(t).to(d);
  }
  /// Batches of a thousand would take minutes where the device is a disguised CPU.
  int64_t most(const Case& c) const { return d.type == DeviceType::cuda ? c.most : 9; }
  std::vector<int64_t> batches(int64_t limit) const {
    std::vector<int64_t> all;
    for (const int64_t n : {1, 2, 3, 7, 8, 33, 64, 129, 256, 1000})
      if (n <= limit) all.push_back(n);
    return all;
  }
  std::vector<DType> dtypes() const { return d.type == DeviceType::cuda ? std::vector{f32, bf16, f16, f64} : std::vector{f32, bf16}; }

  std::vector<Case> products() const {
    std::vector<Case> all;
    for (const int64_t n : {1, 10, 97, 512})
      all.push_back({"linear to " + std::to_string(n), {300}, [this, n](const Tensor& x, DType t) {
                       return linear(x, weight({n, 300}, t), weight({n}, t));
                     }});
    for (const int64_t k : {1, 7, 64, 768, 1001, 4096})
      all.push_back({"linear from " + std::to_string(k), {k}, [this, k](const Tensor& x, DType t) {
                       return linear(x, weight({64, k}, t), {});
                     }});
    all.push_back({"linear of sequences",
                   {5, 768},
                   [this](const Tensor& x, DType t) {
                     return linear(x, weight({2304, 768}, t), weight({2304}, t));
                   },
                   256});
    all.push_back({"linear_gelu", {256}, [this](const Tensor& x, DType t) {
                     return linear_gelu(x, weight({1024, 256}, t), weight({1024}, t));
                   }});
    all.push_back({"feed_forward", {256}, [this](const Tensor& x, DType t) {
                     return feed_forward(x, weight({1024, 256}, t), weight({1024}, t), weight({256, 1024}, t), weight({256}, t));
                   }});
    all.push_back({"matmul by one", {5, 40}, [this](const Tensor& x, DType t) { return matmul(x, weight({40, 33}, t)); }});
    all.push_back({"matmul by each", {9, 40}, [](const Tensor& x, DType) { return matmul(x, permute(x, {0, 2, 1})); }});
    all.push_back({"matmul of parts", {6, 90}, [this](const Tensor& x, DType t) {
                     return matmul(x[{keel::all, keel::all, slice(1, 42)}], weight({41, 24}, t));
                   }});
    return all;
  }

  std::vector<Case> rows() const {
    std::vector<Case> all;
    for (const int64_t n : {10, 130, 777, 1000, 4096, 40'000}) {
      const std::string of = " of " + std::to_string(n);
      const int64_t most = n > 10'000 ? 33 : n > 1000 ? 129 : 1000;
      all.push_back({"softmax" + of, {n}, [](const Tensor& x, DType) { return softmax(x); }, most});
      all.push_back({"log_softmax" + of, {n}, [](const Tensor& x, DType) { return log_softmax(x); }, most});
      all.push_back({"logsumexp" + of, {n}, [](const Tensor& x, DType) { return logsumexp(x, {.axis = {1}}); }, most});
      all.push_back(
          {"layer_norm" + of, {n}, [this, n](const Tensor& x, DType t) { return layer_norm(x, weight({n}, t), weight({n}, t)); }, most});
      all.push_back({"rms_norm" + of, {n}, [this, n](const Tensor& x, DType t) { return rms_norm(x, weight({n}, t)); }, most});
      all.push_back({"sum" + of, {n}, [](const Tensor& x, DType) { return sum(x, {.axis = {1}}); }, most});
      all.push_back({"mean" + of, {n}, [](const Tensor& x, DType) { return mean(x, {.axis = {1}}); }, most});
      all.push_back({"var" + of, {n}, [](const Tensor& x, DType) { return var(x, {.axis = {1}}); }, most});
      all.push_back({"norm" + of, {n}, [](const Tensor& x, DType) { return norm(x, {.axis = {1}}); }, most});
    }
    all.push_back({"softmax of a row for the whole device", {200'003}, [](const Tensor& x, DType) { return softmax(x); }, 9});
    all.push_back({"layer_norm of a row for the whole device", {200'003}, [](const Tensor& x, DType) { return layer_norm(x); }, 9});
    all.push_back({"sum of a row for the whole device", {200'003}, [](const Tensor& x, DType) { return sum(x, {.axis = {1}}); }, 9});
    for (const int64_t n : {5, 600, 3000})
      for (const int64_t inner : {1, 3, 64})
        all.push_back({"sum over columns of " + std::to_string(n) + " x " + std::to_string(inner),
                       {n, inner},
                       [](const Tensor& x, DType) { return sum(x, {.axis = {1}}); },
                       64});
    all.push_back({"mean of images", {24, 7, 7}, [](const Tensor& x, DType) { return mean(x, {.axis = {2, 3}}); }});
    all.push_back({"mean of images with channels innermost", {7, 7, 24}, [](const Tensor& x, DType) {
                     return mean(permute(x, {0, 3, 1, 2}), {.axis = {2, 3}});
                   }});
    all.push_back({"cumsum", {700}, [](const Tensor& x, DType) { return cumsum(x, {.axis = 1}); }, 64});
    all.push_back({"cross_entropy", {5000}, [this](const Tensor& x, DType) {
                     return cross_entropy(x, full({x.shape()[0]}, 7, {.dtype = i64}).to(d), {.reduction = Reduction::none});
                   }});
    all.push_back({"gelu", {77}, [](const Tensor& x, DType) { return gelu(x); }});
    return all;
  }
  std::vector<Case> windows() const {
    std::vector<Case> all;
    struct Window {
      int64_t in, out, size, kernel, stride;
    };
    for (const Window w :
         {Window{3, 16, 20, 3, 1}, {16, 24, 9, 3, 2}, {64, 64, 14, 3, 1}, {64, 32, 7, 1, 1}, {3, 8, 30, 7, 2}, {1, 6, 28, 5, 1}})
      all.push_back(
          {"conv2d of " + std::to_string(w.in) + " channels, " + std::to_string(w.kernel) + " x " + std::to_string(w.kernel),
           {w.in, w.size, w.size},
           [this, w](const Tensor& x, DType t) {
             const int64_t pad = w.kernel / 2;
             return conv2d(x, weight({w.out, w.in, w.kernel, w.kernel}, t), weight({w.out}, t), {.stride = {w.stride}, .padding = {pad}});
           },
           256});
    all.push_back({"conv2d in groups",
                   {8, 9, 9},
                   [this](const Tensor& x, DType t) {
                     return conv2d(x, weight({8, 1, 3, 3}, t), {}, {.padding = {1}, .groups = 8});
                   },
                   64});
    all.push_back({"max_pool2d", {3, 10, 10}, [](const Tensor& x, DType) { return max_pool2d(x, {.kernel = 3, .stride = 2}); }});
    all.push_back({"avg_pool2d", {3, 10, 10}, [](const Tensor& x, DType) { return avg_pool2d(x, {.kernel = 3, .stride = 2}); }});
    return all;
  }
  std::vector<Case> attentions() const {
    std::vector<Case> all;
    for (const bool causal : {false, true})
      for (const int64_t t : {1, 65, 200})
        all.push_back({"attention of " + std::to_string(t) + (causal ? ", causal" : ""),
                       {2, t, 32},
                       [causal](const Tensor& x, DType) { return attention(x, x * 0.5, x, {.causal = causal}); },
                       129});
    all.push_back({"attention of shared heads",
                   {4, 65, 64},
                   [](const Tensor& x, DType) {
                     const Tensor kv = x[{keel::all, slice(0, 2)}];
                     return attention(x, kv, kv, {.causal = true});
                   },
                   64});
    return all;
  }
  std::vector<Case> networks() const {
    std::vector<Case> all;
    all.push_back({"a perceptron", {784}, [this](const Tensor& x, DType t) {
                     const Tensor h = relu(linear(x, weight({256, 784}, t), weight({256}, t)));
                     return log_softmax(linear(gelu(linear(h, weight({64, 256}, t), {})), weight({10, 64}, t), weight({10}, t)));
                   }});
    all.push_back({"a convolution network",
                   {3, 32, 32},
                   [this](const Tensor& x, DType t) {
                     Tensor h = conv2d(x, weight({16, 3, 3, 3}, t), {}, {.padding = {1}});
                     const auto normal = [&](const Tensor& v) {
                       const Tensor w = weight({v.shape()[1]}, f32);
                       return relu(batch_norm_eval(v, w, w * w + 0.5, w.astype(t), w.astype(t)));
                     };
                     h = max_pool2d(normal(h), {.kernel = 2});
                     h = h + normal(conv2d(h, weight({16, 16, 3, 3}, t), {}, {.padding = {1}}));
                     h = normal(conv2d(h, weight({32, 16, 3, 3}, t), {}, {.stride = {2}, .padding = {1}}));
                     return linear(mean(h, {.axis = {2, 3}}), weight({10, 32}, t), weight({10}, t));
                   },
                   129});
    all.push_back(
        {"a transformer's block",
         {33, 64},
         [this](const Tensor& x, DType t) {
           const auto heads = [](const Tensor& v) { return permute(v.reshape({v.shape()[0], v.shape()[1], 4, 16}), {0, 2, 1, 3}); };
           const Tensor h = layer_norm(x, weight({64}, t), weight({64}, t)), qkv = linear(h, weight({192, 64}, t), weight({192}, t));
           const Tensor y = attention(heads(qkv[{keel::all, keel::all, slice(0, 64)}]), heads(qkv[{keel::all, keel::all, slice(64, 128)}]),
                                      heads(qkv[{keel::all, keel::all, slice(128, 192)}]), {.causal = true});
           const Tensor mixed = x + linear(permute(y, {0, 2, 1, 3}).reshape(x.shape()), weight({64, 64}, t), weight({64}, t));
           return mixed + feed_forward(layer_norm(mixed, weight({64}, t), weight({64}, t)), weight({256, 64}, t), weight({256}, t),
                                       weight({64, 256}, t), weight({64}, t));
         },
         129});
    return all;
  }

  /// Some examples of a batch with a cotangent for each.
  struct Data {
    Tensor x, g;
    Data part(int64_t from, int64_t to) const { return {x[{slice(from, to)}], g[{slice(from, to)}]}; }
  };
  Data data(const Case& c, DType t) const {
    manual_seed(1);
    const Tensor x = randn(with_batch(most(c), c.example)).astype(t).to(d);
    NoGrad off;
    const Tensor y = c.f(x[{slice(0, 1)}], t);
    Shape s({most(c)});
    for (int i = 1; i < y.shape().rank(); ++i) s.push_back(y.shape()[i]);
    return {x, randn(s).astype(y.dtype()).to(d)};
  }
  /// The result and the gradient of x. The guard is gone when the backward pass begins.
  static Tensors run(const Case& c, const Data& in, DType t, Determinism level) {
    const Tensor leaf = in.x.detach().requires_grad_();
    Tensor y;
    {
      const DeterminismGuard guard(level);
      y = c.f(leaf, t);
    }
    y.backward(in.g);
    return {y.detach(), leaf.grad()};
  }
  /// Which parts of the batch give other bits on their own: "result, 0 to 7".
  std::string differences(const Case& c, DType t, Determinism level) const {
    const int64_t most_examples = most(c);
    const Data in = data(c, t);
    const Tensors all = run(c, in, t, level);
    std::string found;
    const auto look = [&](int64_t from, int64_t to) {
      if (from < 0 || to > most_examples || from >= to) return;
      const Tensors some = run(c, in.part(from, to), t, level);
      for (int k = 0; k < 2; ++k)
        if (!same_bits(some[k], all[k][{slice(from, to)}]))
          found +=
              std::string(found.empty() ? "" : "; ") + (k ? "gradient, " : "result, ") + std::to_string(from) + " to " + std::to_string(to);
    };
    for (const int64_t n : batches(most_examples)) look(0, n);
    for (const auto& [from, to] : {std::pair<int64_t, int64_t>{1, 2}, {5, 6}, {3, 9}, {8, 41}, {5, 69}}) look(from, to);
    look(most_examples - 1, most_examples);
    return found;
  }
  /// What the level gives is close to what the judges know, too.
  void expect_near_run(const Case& c, DType t) const {
    const Data in = data(c, t).part(0, 7);
    const Tensors got = run(c, in, t, Determinism::invariant), want = run(c, in, t, Determinism::run);
    const double bound = t == f64 ? 1e-10 : t == f32 ? 1e-4 : t == f16 ? 1e-2 : 6e-2;
    for (int k = 0; k < 2; ++k) {
      const Tensor g = got[k].to(cpu_device).to(f64), w = want[k].to(cpu_device).to(f64);
      EXPECT_LE(max(abs(g - w)).item(), bound * max(abs(w)).item()) << c.name << ", " << name_of(t) << (k ? ", gradient" : "");
    }
  }
  void expect_invariant(const std::vector<Case>& cases) const {
    std::string varying;
    for (const DType t : dtypes())
      for (const Case& c : cases) {
        EXPECT_EQ(differences(c, t, Determinism::invariant), "") << c.name << ", " << name_of(t);
        expect_near_run(c, t);
        if (d.type == DeviceType::cuda && t == bf16 && !differences(c, t, Determinism::run).empty())
          varying += (varying.empty() ? "" : ", ") + c.name;
      }
    if (d.type == DeviceType::cuda)
      std::cout << "of bf16, at the level `run`, these vary with the batch: " << (varying.empty() ? "none" : varying) << "\n";
  }

 private:
  mutable std::map<std::pair<std::vector<int64_t>, DType>, Tensor> weights_;
};

TEST_F(InvariantOnDevice, Products) { expect_invariant(products()); }
TEST_F(InvariantOnDevice, Rows) { expect_invariant(rows()); }
TEST_F(InvariantOnDevice, Windows) { expect_invariant(windows()); }
TEST_F(InvariantOnDevice, Attentions) { expect_invariant(attentions()); }
TEST_F(InvariantOnDevice, Networks) { expect_invariant(networks()); }

/// What a query gives does not depend on whether the queries before it are asked in the same call.
TEST_F(InvariantOnDevice, QueriesAfterKeysThatAreKept) {
  const DeterminismGuard guard(Determinism::invariant);
  for (const DType t : dtypes())
    for (const int64_t keys : {1, 7, 64, 65, 130, 257}) {
      manual_seed(2);
      const auto made = [&] { return randn({3, 4, keys, 32}).astype(t).to(d); };
      const Tensor q = made(), k = made(), v = made(), whole = attention(q, k, v, {.causal = true});
      for (const int64_t last : {int64_t(1), int64_t(2), keys / 2, keys}) {
        if (last < 1 || last > keys) continue;
        const auto tail = slice(keys - last, keys);
        EXPECT_TRUE(same_bits(attention(q[{keel::all, keel::all, tail}], k, v, {.causal = true}), whole[{keel::all, keel::all, tail}]))
            << name_of(t) << ", the last " << last << " of " << keys;
      }
    }
}

/// Recordings and their chains give the bits of the calls that they stand for.
TEST_F(InvariantOnDevice, RecordedSteps) {
  const DeterminismGuard guard(Determinism::invariant);
  for (const Case& c : networks()) {
    const Data in = data(c, bf16);
    const Compiled recorded = compile([&](const Tensors& x) { return c.f(x[0], bf16); });
    const Tensor want = c.f(in.x, bf16);
    for (const int64_t n : {int64_t(1), int64_t(7), most(c)})
      for (int again = 0; again < 4; ++again)
        EXPECT_TRUE(same_bits(recorded({in.x[{slice(0, n)}]})[0], want[{slice(0, n)}]))
            << c.name << ", " << n << " examples, call " << again;
  }
}

/// Sums over the batch, which mix examples, are right at this level, too.
TEST_F(InvariantOnDevice, GradientsOfWeights) {
  const DeterminismGuard guard(Determinism::invariant);
  for (const int64_t n : {1, 3, 700}) {
    manual_seed(5);
    const Tensor x = randn({n, 96}), w = randn({40, 96}) * 0.1, b = randn({40}), g = randn({n, 40});
    const auto gradients = [&](Device where, DType t) {
      Tensors leaves;
      for (const Tensor& v : {w, b}) leaves.push_back(v.to(t).to(where).requires_grad_());
      linear(x.to(t).to(where), leaves[0], leaves[1]).backward(g.to(t).to(where));
      return Tensors{leaves[0].grad(), leaves[1].grad()};
    };
    const Tensors want = gradients(cpu_device, f64), got = gradients(d, f32);
    for (int i = 0; i < 2; ++i)
      EXPECT_LE(max(abs(got[i].to(cpu_device).to(f64) - want[i])).item(), 1e-5 * max(abs(want[i])).item()) << n << " rows, " << i;
  }
}

}  // namespace
}  // namespace keel
