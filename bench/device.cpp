// Ops on another device: bytes that must move over the time they take, products in TFLOP/s, and what one small op costs its caller. JSON,
// a line a row.
//   keel_bench_device [device] [part of a row's name]
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "../apps/keel/models.h"
#include "launch.h"
#include "backend/kernel.h"
#include "keel/keel.h"
#include "op/scope.h"

namespace {
using namespace keel;
using Clock = std::chrono::steady_clock;

struct Row {
  std::string name, unit;
  double amount;  // bytes or flops
  std::function<Tensor()> run;
};

/// Seconds of one of the `times` that a call of `run` does it: the best and the median of several batches, each waited for once and long
/// enough for that wait not to count.
void measure(const std::string& name, const std::string& unit, double amount, int times, const std::function<void()>& run,
             const std::function<void()>& wait) {
  const auto batch = [&](int n) {
    const auto begin = Clock::now();
    for (int i = 0; i < n; ++i) run();
    wait();
    return std::chrono::duration<double>(Clock::now() - begin).count() / n;
  };
  batch(3);
  const int n = std::clamp(int(2e-3 / batch(20)), 20, 500);
  std::vector<double> seconds;
  for (int i = 0; i < 9; ++i) seconds.push_back(batch(n) / times);
  std::sort(seconds.begin(), seconds.end());
  const auto shown = [&](double s) { return unit == "us" ? s * 1e6 : amount / s / (unit == "TFLOP/s" ? 1e12 : 1e9); };
  std::printf("{\"name\": \"%s\", \"unit\": \"%s\", \"best\": %.4g, \"median\": %.4g}\n", name.c_str(), unit.c_str(), shown(seconds.front()),
              shown(seconds[seconds.size() / 2]));
  std::fflush(stdout);
}
void measure(const Row& r, Device d) {
  measure(r.name, r.unit, r.amount, 1, [&] { r.run(); }, [&] { synchronize(d); });
}

struct Call {
  const char* name;
  std::function<void()> run, wait;
};
/// Microseconds that each call keeps the host, as many calls as a queue takes without waiting: the best and the median of several batches.
/// The calls take turns, so that what slows the host down for a while slows down all of them.
void measure_host(const std::vector<Call>& calls) {
  std::vector<std::vector<double>> us(calls.size());
  for (size_t batch = 0; batch < 60; ++batch)
    for (size_t k = 0; k < calls.size(); ++k) {
      const size_t i = (batch + k) % calls.size();
      const int n = 200;
      const auto begin = Clock::now();
      for (int repeat = 0; repeat < n; ++repeat) calls[i].run();
      us[i].push_back(std::chrono::duration<double, std::micro>(Clock::now() - begin).count() / n);
      calls[i].wait();
    }
  for (size_t i = 0; i < calls.size(); ++i) {
    std::sort(us[i].begin(), us[i].end());
    std::printf("{\"name\": \"%s\", \"unit\": \"us\", \"best\": %.4g, \"median\": %.4g}\n", calls[i].name, us[i].front(),
                us[i][us[i].size() / 2]);
  }
  std::fflush(stdout);
}
/// What a small op costs its caller, beside what CUDA takes for any launch.
void measure_calls(Device d, const char* only) {
  const Tensor one = ones({1}).to(d), row = ones({64}).to(d);
  Tensor sum = zeros({1}).to(d);
  const auto wait = [&] { synchronize(d); };
  std::vector<Call> calls{{"add [1], host alone", [&] { one + one; }, wait},
                          {"add_ [1], host alone", [&] { sum.add_(one); }, wait},
                          {"softmax [64], host alone", [&] { softmax(row); }, wait}};
#ifdef KEEL_BENCH_LAUNCHES
  for (const BareLaunch& b : bare_launches()) calls.push_back({b.name, b.start, b.wait});
#endif
  std::erase_if(calls, [&](const Call& c) { return !std::strstr(c.name, only); });
  measure_host(calls);
}

/// One row of a million floats, recorded so that the host is left out, beside what moving and telling alone take.
void measure_row(Device d, const Tensor& line, const char* only) {
  constexpr int times = 50;
  const auto row = [&](const char* name, auto op) {
    if (!std::strstr(name, only)) return;
    const Compiled recorded = compile(
        [&](const Tensors&) {
          Tensor t = line;
          for (int i = 0; i < times; ++i) t = op(t);
          return t;
        },
        {.fuse = false});
    measure(name, "us", 1, times, [&] { recorded({}); }, [&] { synchronize(d); });
  };
  row("softmax f32 [1,1M], captured", [](const Tensor& t) { return softmax(t); });
  row("log_softmax f32 [1,1M], captured", [](const Tensor& t) { return log_softmax(t); });
  row("layer_norm f32 [1,1M], captured", [](const Tensor& t) { return layer_norm(t); });
#ifdef KEEL_BENCH_LAUNCHES
  for (const BareWork& w : row_floors())
    if (std::strstr(w.name, only)) measure(w.name, "us", 1, w.times, w.start, w.wait);
#endif
}

}  // namespace

int main(int argc, char** argv) {
  const Device d = device(argc > 1 ? argv[1] : "auto");
  const char* only = argc > 2 ? argv[2] : "";
  const NoGrad no_grad;
  const int64_t n = 100'000'000;
  const Tensor x = randn({n / 100}).to(d).broadcast_to({100, n / 100}).contiguous().reshape({n}), y = x.clone();
  const Tensor rows = x[{slice(0, 32768 * 1024)}].reshape({32768, 1024}), square = x[{slice(0, 8192 * 8192)}].reshape({8192, 8192}),
               one = ones({1}).to(d);
  const Tensor half = square.to(bf16), small = x[{slice(0, 4096 * 4096)}].reshape({4096, 4096});
  const Tensor line = x[{slice(0, 1'000'000)}].reshape({1, 1'000'000});
  const int64_t maps = 128 * 128 * 56 * 56;
  const Tensor image16 = x[{slice(0, maps)}].reshape({128, 128, 56, 56}).to(bf16).channels_last(), gain16 = ones({128}).to(d).to(bf16),
               shift16 = zeros({128}).to(d).to(bf16);
  const Tensor token = x[{slice(0, 32768 * 768)}].reshape({32768, 768}).to(bf16),
               up = x[{slice(0, 3072 * 768)}].reshape({3072, 768}).to(bf16), up_bias = x[{slice(0, 3072)}].to(bf16),
               down = x[{slice(0, 3072 * 768)}].reshape({768, 3072}).to(bf16),
               down_bias = x[{slice(0, 768)}].to(bf16);
  const double b = 4.0 * n;
  const Tensor weight = x[{slice(0, 50304 * 768)}].reshape({50304, 768}), ids = randint(0, 50304, {16384}).to(d),
               classes = randint(0, 1024, {32768}).to(d), places = randint(0, 32768, {32768}).to(d);
  const Tensor image = x[{slice(0, 128 * 64 * 32 * 32)}].reshape({128, 64, 32, 32}).channels_last(),
               window = x[{slice(0, 64 * 64 * 9)}].reshape({64, 64, 3, 3}), gain = ones({64}).to(d), shift = zeros({64}).to(d);
  const Tensor heads = x[{slice(0, 4 * 16 * 1024 * 64)}].reshape({4, 16, 1024, 64}), heads16 = heads.to(bf16);
  const auto wide = [&](int64_t from) { return x[{slice(from, from + 4 * 16 * 4096 * 128)}].reshape({4, 16, 4096, 128}).to(bf16); };
  const Tensor wide_q = wide(0), wide_k = wide(333'333), wide_v = wide(666'666), wide_g = wide(123'456);  // x repeats itself after a million
  const Tensor qkv16 = x[{slice(0, 16 * 1024 * 3 * 768)}].reshape({16, 1024, 3, 12, 64}).to(bf16).permute({2, 0, 3, 1, 4});
  const Tensor gpt_q = qkv16[0], gpt_k = qkv16[1], gpt_v = qkv16[2];
  const double rows_bytes = 4.0 * 32768 * 1024, image_bytes = 4.0 * 128 * 64 * 32 * 32;
  const std::vector<Row> all = {
      {"copy f32 100M", "GB/s", 2 * b, [&] { return x.clone(); }},
      {"add f32 100M", "GB/s", 3 * b, [&] { return x + y; }},
      {"add number f32 100M", "GB/s", 2 * b, [&] { return x + 1.5; }},
      {"gelu f32 100M", "GB/s", 2 * b, [&] { return gelu(x); }},
      {"exp f32 100M", "GB/s", 2 * b, [&] { return exp(x); }},
      {"tanh f32 100M", "GB/s", 2 * b, [&] { return tanh(x); }},
      {"to bf16 100M", "GB/s", 1.5 * b, [&] { return x.to(bf16); }},
      {"add row f32 [32768,1024]", "GB/s", 8.0 * 32768 * 1024, [&] { return rows + rows[{0}]; }},
      {"transpose f32 [8192,8192]", "GB/s", 8.0 * 8192 * 8192, [&] { return square.transpose().contiguous(); }},
      {"add transposed f32 [8192,8192]", "GB/s", 12.0 * 8192 * 8192, [&] { return square.transpose() + square; }},
      {"sum all f32 100M", "GB/s", b, [&] { return x.sum(); }},
      {"sum rows f32 [32768,1024]", "GB/s", 4.0 * 32768 * 1024, [&] { return rows.sum({.axis = 1}); }},
      {"sum columns f32 [32768,1024]", "GB/s", 4.0 * 32768 * 1024, [&] { return rows.sum({.axis = 0}); }},
      {"var rows f32 [32768,1024]", "GB/s", 4.0 * 32768 * 1024, [&] { return var(rows, {.axis = 1}); }},
      {"softmax f32 [32768,1024]", "GB/s", 8.0 * 32768 * 1024, [&] { return softmax(rows); }},
      {"softmax f32 [4096,4096]", "GB/s", 8.0 * 4096 * 4096, [&] { return softmax(small); }},
      {"softmax f32 [1,1M]", "GB/s", 8e6, [&] { return softmax(line); }},
      {"layer_norm f32 [32768,1024]", "GB/s", 8.0 * 32768 * 1024, [&] { return layer_norm(rows); }},
      {"layer_norm f32 [4096,4096]", "GB/s", 8.0 * 4096 * 4096, [&] { return layer_norm(small); }},
      {"layer_norm f32 [1,1M]", "GB/s", 8e6, [&] { return layer_norm(line); }},
      {"argmax f32 100M", "GB/s", b, [&] { return argmax(x); }},
      {"embedding f32 16384 of [50304,768]", "GB/s", 8.0 * 16384 * 768, [&] { return embedding(ids, weight); }},
      {"rows by index f32 [32768,1024]", "GB/s", 2 * rows_bytes, [&] { return index_select(rows, places); }},
      {"cross_entropy f32 [32768,1024]", "GB/s", rows_bytes, [&] { return cross_entropy(rows, classes); }},
      {"mse_loss f32 [32768,1024]", "GB/s", 2 * rows_bytes, [&] { return mse_loss(rows, rows); }},
      {"dropout f32 100M", "GB/s", 2 * b, [&] { return dropout(x); }},
      {"randn f32 100M", "GB/s", b, [&] { return randn({n}, {.device = d}); }},
      {"cumsum f32 [32768,1024]", "GB/s", 2 * rows_bytes, [&] { return cumsum(rows, {.axis = 1}); }},
      {"sort f32 [32768,1024]", "GB/s", 4 * rows_bytes, [&] { return sort(rows).values; }},
      {"max_pool2d f32 [128,64,32,32]", "GB/s", 1.25 * image_bytes, [&] { return max_pool2d(image); }},
      {"batch_norm f32 [128,64,32,32]", "GB/s", 3 * image_bytes, [&] { return batch_norm(image, gain, shift).y; }},
      {"batch_norm_relu bf16 [128,128,56,56]", "GB/s", 6.0 * maps, [&] { return batch_norm_relu(image16, gain16, shift16).y; }},
      {"batch_norm_relu bf16 [128,128,56,56] and a sum", "GB/s", 8.0 * maps,
       [&] { return batch_norm_relu(image16, gain16, shift16, image16).y; }},
      {"linear_gelu bf16 [32768,768]", "TFLOP/s", 2.0 * 32768 * 768 * 3072, [&] { return linear_gelu(token, up, up_bias); }},
      {"linear, gelu bf16 [32768,768]", "TFLOP/s", 2.0 * 32768 * 768 * 3072,
       [&] { return gelu(linear(token, up, up_bias), {.approximate = Gelu::tanh}); }},
      {"conv2d 3x3 f32 [128,64,32,32]", "TFLOP/s", 2.0 * 128 * 64 * 64 * 9 * 32 * 32, [&] { return conv2d(image, window, {.padding = 1}); }},
      {"attention causal f32 [4,16,1024,64]", "TFLOP/s", 2.0 * 4 * 16 * 1024 * 1024 * 64, [&] { return attention(heads, heads, heads, {.causal = true}); }},
      {"attention causal bf16 [4,16,1024,64]", "TFLOP/s", 2.0 * 4 * 16 * 1024 * 1024 * 64, [&] { return attention(heads16, heads16, heads16, {.causal = true}); }},
      {"attention causal bf16 [16,12,1024,64]", "TFLOP/s", 2.0 * 16 * 12 * 1024 * 1024 * 64, [&] { return attention(gpt_q, gpt_k, gpt_v, {.causal = true}); }},
      {"attention causal bf16 [4,16,4096,128]", "TFLOP/s", 2.0 * 4 * 16 * 4096 * 4096 * 128, [&] { return attention(wide_q, wide_k, wide_v, {.causal = true}); }},
      {"matmul bf16 8192", "TFLOP/s", 2.0 * 8192 * 8192 * 8192, [&] { return matmul(half, half); }},
      {"matmul f32 4096", "TFLOP/s", 2.0 * 4096 * 4096 * 4096, [&] { return matmul(small, small); }},
      {"add [1]", "us", 1, [&] { return one + one; }},
  };
  for (const Row& r : all)
    if (r.name.find(only) != std::string::npos) measure(r, d);
  measure_calls(d, only);
  measure_row(d, line, only);
  {
    // A chain of six ops that ends in memory of the program, captured: its own kernel, the ops' kernels, and a copy, which is the floor.
    const Tensor z = zeros({n}, {.device = d});
    const auto chain = [&](const Tensors&) { Tensor(z).copy_(gelu(x * 0.5 + y) * 1.5 - x); };
    const Compiled fused = compile(chain), single = compile(chain, {.fuse = false});
    const Row chains[] = {
        {"chain of 6 f32 100M, one kernel", "GB/s", 3 * b, [&] { return fused({}), Tensor(); }},
        {"chain of 6 f32 100M, six kernels", "GB/s", 3 * b, [&] { return single({}), Tensor(); }},
        {"chain of 6 f32 100M, eager", "GB/s", 3 * b, [&] { return chain({}), Tensor(); }},
    };
    for (const Row& r : chains) {
      if (r.name.find(only) == std::string::npos) continue;
      for (int i = 0; i < 100; ++i) {  // is made meanwhile
        fused({});
        if (fused.report().find("1 kernel") != std::string::npos) break;
        std::this_thread::sleep_for(std::chrono::milliseconds(50));
      }
      measure(r, d);
    }
  }
  {
    const EnableGrad with_grad;
    // The gradient alone, of a result that is kept.
    const auto causal = [](const Tensor& q, const Tensor& k, const Tensor& v) {
      Tensors in{q.detach().requires_grad_(), k.detach().requires_grad_(), v.detach().requires_grad_()};
      return std::pair(attention(in[0], in[1], in[2], {.causal = true}), in);
    };
    const auto narrow = causal(gpt_q, gpt_k, gpt_v), broad = causal(wide_q, wide_k, wide_v);
    const auto backward_of = [](const auto& kept, const Tensor& g) { return grad(Tensors{kept.first}, kept.second, {.retain_graph = true}, Tensors{g})[0]; };
    const auto backward = [&](const auto& kept) { return backward_of(kept, kept.first); };
    const auto kept = [](auto f, Tensors in) {
      for (Tensor& t : in) t = t.detach().requires_grad_();
      return std::pair(f(in), in);
    };
    const auto norm = kept([](const Tensors& t) { return batch_norm_relu(t[0], t[1], t[2]).y; }, {image16, gain16, shift16});
    const auto norm_sum = kept([](const Tensors& t) { return batch_norm_relu(t[0], t[1], t[2], t[3]).y; },
                               {image16, gain16, shift16, image16.clone()});
    const auto dense = kept([](const Tensors& t) { return linear(t[0], t[1], t[2]); }, {token, up, up_bias});
    const auto plain = kept([](const Tensors& t) { return linear(t[0], t[1]); }, {token, up});
    const auto feed = kept([](const Tensors& t) { return feed_forward(t[0], t[1], t[2], t[3], t[4]); },
                           {token, up, up_bias, down, down_bias});
    const auto parts = kept([](const Tensors& t) { return linear(gelu(linear(t[0], t[1], t[2]), {.approximate = Gelu::tanh}), t[3], t[4]); },
                            {token, up, up_bias, down, down_bias});
    const Tensor stem = x[{slice(0, 64 * 64 * 112 * 112)}].reshape({64, 64, 112, 112}).to(bf16),
                 last = x[{slice(0, 128 * 2048 * 49)}].reshape({128, 2048, 7, 7}).to(bf16);
    const auto largest = [](const Tensors& t) { return max_pool2d(t[0], {.kernel = {3, 3}, .stride = {2, 2}, .padding = {1, 1}}); };
    const auto pooled = kept(largest, {stem.channels_last()}), pooled_planes = kept(largest, {stem}),
               averaged = kept([](const Tensors& t) { return adaptive_avg_pool2d(t[0]); }, {last.channels_last()});
    const double stem_bytes = 64.0 * 64 * 112 * 112 * (2 + (2 + 4) / 4.0), layer = 2.0 * 32768 * 768 * 3072;
    const Row gradients[] = {
        {"batch_norm_relu backward bf16 [128,128,56,56]", "GB/s", 10.0 * maps, [&] { return backward(norm); }},
        {"batch_norm_relu backward bf16 [128,128,56,56] and a sum", "GB/s", 14.0 * maps, [&] { return backward(norm_sum); }},
        {"max_pool2d backward bf16 [64,64,112,112], channels last", "GB/s", stem_bytes, [&] { return backward(pooled); }},
        {"max_pool2d backward bf16 [64,64,112,112], in planes", "GB/s", stem_bytes, [&] { return backward(pooled_planes); }},
        {"mean of planes backward bf16 [128,2048,7,7]", "GB/s", 2.0 * 128 * 2048 * 49, [&] { return backward(averaged); }},
        {"linear backward bf16 [32768,768]", "TFLOP/s", 2 * layer, [&] { return backward(dense); }},
        {"linear backward bf16 [32768,768] without bias", "TFLOP/s", 2 * layer, [&] { return backward(plain); }},
        {"feed_forward backward bf16 [32768,768]", "TFLOP/s", 4 * layer, [&] { return backward(feed); }},
        {"feed_forward by its parts, backward bf16 [32768,768]", "TFLOP/s", 4 * layer, [&] { return backward(parts); }},
        {"attention backward causal bf16 [16,12,1024,64]", "TFLOP/s", 5.0 * 16 * 12 * 1024 * 1024 * 64, [&] { return backward(narrow); }},
        {"attention backward causal bf16 [4,16,4096,128]", "TFLOP/s", 5.0 * 4 * 16 * 4096 * 4096 * 128, [&] { return backward_of(broad, wide_g); }},
    };
    for (const Row& r : gradients)
      if (r.name.find(only) != std::string::npos) measure(r, d);
    if (const std::string fast = "attention backward causal bf16 [4,16,4096,128], sums in any order"; fast.find(only) != std::string::npos) {
      const DeterminismGuard level(Determinism::fast);
      const auto any_order = causal(wide_q, wide_k, wide_v);
      measure({fast, "TFLOP/s", 5.0 * 4 * 16 * 4096 * 4096 * 128, [&] { return backward_of(any_order, wide_g); }}, d);
    }
    // Steps of the parameters of a GPT-2, most of them in a few matrices.
    const auto weights = [&](DType t) {
      Tensors all;
      for (const Shape& shape : {Shape({50304, 768}), Shape({1024, 768})}) all.push_back(zeros(shape, {.dtype = t, .device = d}));
      for (int layer = 0; layer < 12; ++layer)
        for (const Shape& shape : {Shape({2304, 768}), Shape({768, 768}), Shape({3072, 768}), Shape({768, 3072}), Shape({2304}), Shape({768}),
                                   Shape({3072}), Shape({768}), Shape({768}), Shape({768}), Shape({768}), Shape({768})})
          all.push_back(zeros(shape, {.dtype = t, .device = d}));
      for (Tensor& p : all) p.requires_grad_(), sum(p * full(p.shape(), 1e-3, {.dtype = t, .device = d})).backward();
      return all;
    };
    double count = 0;
    const Tensors full_weights = weights(f32), half_weights = weights(bf16);
    for (const Tensor& p : full_weights) count += double(p.shape().numel());
    optim::AdamW full_opt(full_weights, {.lr = 1e-4}), half_opt(half_weights, {.lr = 1e-4, .master_weights = true});
    const Row optimisers[] = {
        {"AdamW f32, 124 M parameters", "GB/s", 28 * count, [&] { return full_opt.step(), Tensor(); }},
        {"AdamW bf16 with f32 masters, 124 M parameters", "GB/s", 28 * count, [&] { return half_opt.step(), Tensor(); }},
    };
    for (const Row& r : optimisers)
      if (r.name.find(only) != std::string::npos) measure(r, d);
    manual_seed(0);
    app::LeNet lenet;
    auto mlp = app::mlp();
    app::Gpt gpt({.context = 256, .layers = 6, .width = 384, .heads = 6});
    mlp.to(d), lenet.to(d), gpt.to(d);
    optim::Adam mlp_opt(mlp.parameters()), lenet_opt(lenet.parameters()), gpt_opt(gpt.parameters());
    const Tensor digits = randn({64, 1, 28, 28}).to(d), label = randint(0, 10, {64}).to(d), text = randint(0, 65, {64, 256}).to(d);
    const auto step = [](auto& net, auto& opt, const Tensor& in, const Tensor& want) {
      const Tensor loss = cross_entropy(net(in).flatten(0, -2), want);
      loss.backward();
      opt.step();
      opt.zero_grad();
      return loss;
    };
    const Tensor want = text.flatten(0);
    const Row steps[] = {
        {"MLP 784-128-10 step, batch 64", "us", 1, [&] { return step(mlp, mlp_opt, digits, label); }},
        {"LeNet step, batch 64", "us", 1, [&] { return step(lenet, lenet_opt, digits, label); }},
        {"GPT 6 x 384 f32 step, 64 x 256 tokens", "us", 1, [&] { return step(gpt, gpt_opt, text, want); }},
    };
    for (const Row& r : steps)
      if (r.name.find(only) != std::string::npos) measure(r, d);
  }
  for (const FallbackCount& f : fallback_report())
    std::fprintf(stderr, "fell back: %s %lld times\n", f.op, static_cast<long long>(f.calls));
}
