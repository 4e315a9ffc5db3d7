// Measures what peers measure, under the same names: one JSON line a row.
#include <algorithm>
#include <memory>

#include "bench.h"
#include "residual.h"

namespace keel::app {
namespace {

struct BenchOptions {
  std::string only, data = data_folder();
  int64_t threads = 0;
  double seconds = 2;
  bool as_json = false, monitor = false;
};

struct Bench {
  const BenchOptions& o;

  /// Seconds a call, of many samples of `inner` calls.
  template <class F>
  std::vector<double> time(F&& f, int inner) const {
    for (int i = 0; i < 3; ++i) f();
    std::vector<double> v;
    const auto end = Clock::now() + std::chrono::duration<double>(o.seconds);
    while (Clock::now() < end || v.size() < 5) {
      const auto t = Clock::now();
      for (int i = 0; i < inner; ++i) f();
      v.push_back(std::chrono::duration<double>(Clock::now() - t).count() / inner);
    }
    return v;
  }
  bool wanted(const std::string& group) const { return o.only.empty() || group.find(o.only) != std::string::npos; }
  /// A time in `unit`s, `per` of them a second.
  template <class F>
  void duration(const std::string& name, const char* unit, double per, int inner, F&& f) const {
    std::vector<double> v = time(f, inner);
    for (double& x : v) x *= per;
    std::sort(v.begin(), v.end());
    emit(name, unit, v.front(), v);
  }
  /// Work done a second: `work` a call.
  template <class F>
  void rate(const std::string& name, const char* unit, double work, F&& f) const {
    std::vector<double> v = time(f, 1);
    for (double& x : v) x = work / x;
    std::sort(v.begin(), v.end());
    emit(name, unit, v.back(), v);
  }
  void emit(const std::string& name, const char* unit, double best, const std::vector<double>& sorted) const {
    const double median = sorted[sorted.size() / 2];
    if (o.as_json)
      fmt::print("{}\n",
                 json{{"name", name}, {"unit", unit}, {"best", best}, {"median", median}, {"n", sorted.size()}, {"threads", num_threads()}}
                     .dump());
    else
      fmt::print("{:<46} {:>12.4f} {:<8} (median {:.4f}, {} samples)\n", name, best, unit, median, sorted.size());
    std::fflush(stdout);
  }
};

void overhead(const Bench& b) {
  Tensor x = ones({1}), y = ones({1});
  {
    NoGrad off;
    b.duration("add [1] no_grad", "ns", 1e9, 2000, [&] { add(x, y); });
  }
  x.requires_grad_();
  b.duration("add [1] with grad", "ns", 1e9, 2000, [&] { add(x, y); });
}

void networks(const Bench& b) {
  manual_seed(0);
  if (b.wanted("mlp_tiny")) {
    nn::Sequential net{nn::Linear(64, 64), nn::ReLU(), nn::Linear(64, 10)};
    optim::Adam opt(net.parameters(), {.lr = 1e-3});
    b.duration("MLP 64-64-10 step b32 adam", "us", 1e6, 50, step_of(net, opt, randn({32, 64}), randint(0, 10, {32})));
  }
  if (b.wanted("mlp_mnist")) {
    nn::Sequential net{nn::Linear(784, 128), nn::ReLU(), nn::Linear(128, 10)};
    optim::Adam opt(net.parameters(), {.lr = 1e-3});
    b.duration("MNIST MLP step b64 adam", "us", 1e6, 20, step_of(net, opt, randn({64, 784}), randint(0, 10, {64})));
  }
  if (b.wanted("cnn_mnist")) {
    LeNet net;
    optim::Adam opt(net.parameters(), {.lr = 1e-3});
    b.duration("MNIST CNN step b64 adam", "us", 1e6, 10, step_of(net, opt, randn({64, 1, 28, 28}), randint(0, 10, {64})));
  }
  if (b.wanted("char_gpt")) {
    Gpt net({.tied = false, .gelu = Gelu::none});
    optim::AdamW opt(net.parameters(), {.lr = 1e-3});
    b.duration("char-GPT 4x128 T64 b12 step adamw", "ms", 1e3, 1, step_of(net, opt, randint(0, 65, {12, 64}), randint(0, 65, {12, 64})));
  }
  if (b.wanted("gpt_adam")) {  // the same under the name of the peer that has Adam only
    Gpt net({.tied = false, .gelu = Gelu::none});
    optim::Adam opt(net.parameters(), {.lr = 1e-3});
    b.duration("char-GPT 4x128 T64 b12 step adam", "ms", 1e3, 1, step_of(net, opt, randint(0, 65, {12, 64}), randint(0, 65, {12, 64})));
  }
  if (b.wanted("resnet")) {
    ResNet18 net(kCifar);
    optim::SGD opt(net.parameters(), {.lr = 0.1, .momentum = 0.9});
    const Tensor x = randn({32, 3, 32, 32}).channels_last(), y = randint(0, 10, {32});
    b.duration("ResNet-18 CIFAR step b32 sgd nhwc", "ms", 1e3, 1, step_of(net, opt, x, y));
    net.eval();
    NoGrad off;
    b.duration("ResNet-18 CIFAR forward b32 nhwc", "ms", 1e3, 1, [&] { net(x); });
  }
}

void products(const Bench& b) {
  NoGrad off;
  for (int64_t n : {64, 256, 1024, 2048, 4096}) {
    const Tensor x = randn({n, n}), y = randn({n, n}), p = x.astype(bf16), q = y.astype(bf16);
    const double flops = 2.0 * double(n) * double(n) * double(n) / 1e9;
    b.rate(fmt::format("sgemm {}", n), "GFLOP/s", flops, [&] { matmul(x, y); });
    b.rate(fmt::format("bf16 gemm {}", n), "GFLOP/s", flops, [&] { matmul(p, q); });
  }
  for (int64_t n : {256, 1024}) {
    const Tensor x = randn({n, n}, {.dtype = f64}), y = randn({n, n}, {.dtype = f64});
    b.rate(fmt::format("dgemm {}", n), "GFLOP/s", 2.0 * double(n) * double(n) * double(n) / 1e9, [&] { matmul(x, y); });
  }
  const Tensor w = randn({4096, 4096});
  for (int64_t m : {1, 4, 8, 16, 32}) {
    const Tensor x = randn({m, 4096});
    b.rate(fmt::format("linear {}x4096x4096", m), "GFLOP/s", 2.0 * double(m) * 4096 * 4096 / 1e9, [&] { linear(x, w); });
  }
}

void convolutions(const Bench& b) {
  struct Row {
    int64_t in, out, size, kernel, stride;
  };
  for (const Row& r : {Row{3, 64, 224, 7, 2}, Row{64, 64, 56, 3, 1}, Row{64, 256, 56, 1, 1}, Row{128, 128, 56, 3, 2},
                       Row{256, 256, 14, 3, 1}, Row{512, 512, 7, 3, 1}}) {
    Tensor x = randn({8, r.in, r.size, r.size}).channels_last(), w = randn({r.out, r.in, r.kernel, r.kernel});
    const Conv2dParams p{.stride = r.stride, .padding = r.kernel / 2};
    const double flops = 2.0 * 8 * double(r.size / r.stride * (r.size / r.stride)) * double(r.out * r.in * r.kernel * r.kernel) / 1e9;
    const std::string name = fmt::format("conv {}x{} @{} {}x{} s{} b8 nhwc", r.in, r.out, r.size, r.kernel, r.kernel, r.stride);
    {
      NoGrad off;
      b.rate(name + " fwd", "GFLOP/s", flops, [&] { conv2d(x, w, p); });
    }
    x.requires_grad_(), w.requires_grad_();
    const Tensor g = ones_like(conv2d(x, w, p)).channels_last();
    b.rate(name + " fwd+bwd", "GFLOP/s", 3 * flops, [&] { grad(Tensors{conv2d(x, w, p)}, {x, w}, {}, {g}); });
  }
}

void memory(const Bench& b) {
  NoGrad off;
  for (int64_t n : {10'000, 1'000'000, 10'000'000}) {
    const Tensor x = randn({n}), y = randn({n});
    const auto k = double(n);
    Tensor z = randn({n});
    b.rate(fmt::format("add {} out=", n), "GB/s", 12 * k / 1e9, [&] { z.add_(y); });  // into memory that is there already
    b.rate(fmt::format("add {} new", n), "GB/s", 12 * k / 1e9, [&] { add(x, y); });
    b.rate(fmt::format("exp {}", n), "GB/s", 8 * k / 1e9, [&] { exp(x); });
    b.rate(fmt::format("tanh {}", n), "GB/s", 8 * k / 1e9, [&] { tanh(x); });
    b.rate(fmt::format("gelu {}", n), "GB/s", 8 * k / 1e9, [&] { gelu(x); });
    b.rate(fmt::format("sum {}", n), "GB/s", 4 * k / 1e9, [&] { sum(x); });
  }
  for (auto [rows, width] : {std::pair<int64_t, int64_t>{512, 2048}, {4096, 1024}, {16384, 4096}}) {
    const Tensor x = randn({rows, width}), w = ones({width}), v = zeros({width});
    const double bytes = 8.0 * double(rows) * double(width) / 1e9;
    b.rate(fmt::format("softmax ({}, {})", rows, width), "GB/s", bytes, [&] { softmax(x); });
    b.rate(fmt::format("layer_norm ({}, {})", rows, width), "GB/s", bytes, [&] { layer_norm(x, w, v); });
  }
}

int bench_peers(const BenchOptions& o) {
  if (o.threads > 0) set_num_threads(o.threads);
  const Bench b{o};
  if (!o.as_json) fmt::print("{}, {}, {} threads\n", cpu_info().name, cpu_info().isa, num_threads());
  std::unique_ptr<Monitor> watch;
  if (o.monitor) watch = std::make_unique<Monitor>();
  if (b.wanted("one_add")) overhead(b);
  networks(b);
  if (b.wanted("gemm")) products(b);
  if (b.wanted("conv")) convolutions(b);
  if (b.wanted("memory")) memory(b);
  if (b.wanted("mnist_accuracy")) mnist_rows_of_peers(o.data, o.as_json);
  return kOk;
}

}  // namespace

void add_bench(CLI::App& root, Outcome& out) {
  auto* bench = root.add_subcommand("bench", "Measure speed");
  bench->require_subcommand(1);
  auto o = std::make_shared<BenchOptions>();
  auto* a = bench->add_subcommand("peers", "The rows that bench/peers measures in other frameworks, under the same names");
  const std::vector<std::string> groups{"one_add", "mlp_tiny", "mlp_mnist", "cnn_mnist", "char_gpt", "gpt_adam",
                                        "resnet", "gemm", "conv", "memory", "mnist_accuracy"};
  a->add_option("--only", o->only, fmt::format("Groups: {}", fmt::join(groups, " ")))->check(part_of_a_name(groups));
  a->add_option("--threads", o->threads, "Threads; 0: all cores")->check(whole(0, 1024));
  a->add_option("--seconds", o->seconds, "Seconds a row")->check(positive())->capture_default_str();
  a->add_flag("--monitor", o->monitor, "With the monitor watching");
  a->add_flag("--json", o->as_json, "One JSON object a line");
  a->callback([o, &out] { out.code = bench_peers(*o); });
  add_bench_monitor(*bench, out);
  add_bench_accuracy(*bench, out);
  add_bench_faults(*bench, out);
  add_bench_model(*bench, out);
  add_bench_curve(*bench, out);
}

}  // namespace keel::app
