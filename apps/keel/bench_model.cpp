// Training steps and forward passes of whole networks on any device, at the sizes that peers are measured at.
#include <memory>
#include <optional>

#include "bench.h"
#include "large_models.h"
#include "residual.h"

namespace keel::app {
namespace {

struct ModelOptions {
  std::string model, device = "cpu", dtype = "bf16", determinism = "run";
  int64_t batch = 0, context = 0, image = 224, threads = 0, per_sample = 1;
  int64_t part = MonitorOptions().sample;
  double seconds = 5, clip = 0, budget = MonitorOptions().budget;
  bool report = false, tiny = false, forward = false, small_stem = false, monitor = false, compile = false, as_json = false,
       autocast = false;
};

/// What a network is fed with, and how its work is counted.
struct Work {
  Tensor x, y;
  double units = 0;
  const char* unit = "";
};

class ModelBench {
 public:
  explicit ModelBench(const ModelOptions& o)
      : o_(o), where_(device(o.device)), low_(o.dtype == "f32" || o.dtype == "tf32" ? DType::none : o.dtype == "f16" ? f16 : bf16) {}

  /// Lowers the weights where it should: the optimiser has seen all their digits by now.
  template <class Net, class Opt>
  void train(Net& net, Opt&& opt, const Work& w) {
    if (masters()) net.to(low_);
    optim::GradScaler scaler({.enabled = low_ == f16});
    const bool cast = low_ != DType::none && !masters();
    Work at = w;
    if (masters() && is_floating(w.x.dtype())) at.x = w.x.astype(low_);
    const Tensor loss = measure(at, [&](const Tensors& in) {
      opt.zero_grad();
      Tensor loss;
      {
        Autocast guard(cast ? low_ : DType::none, cast);
        loss = cross_entropy(net(in[0]), in[1]);
      }
      scaler.scale(loss).backward();
      if (o_.clip > 0) scaler.unscale_(opt), nn::clip_grad_norm(net.parameters(), o_.clip);
      scaler.step(opt);
      scaler.update();
      return loss.detach();
    });
    report(net, w, "training", loss.to(cpu_device).item());
  }
  template <class Net>
  void forward(Net& net, const Work& w) {
    net.eval();
    if (low_ != DType::none) net.to(low_);
    NoGrad off;
    Work at = w;
    if (is_floating(w.x.dtype()) && low_ != DType::none) at.x = w.x.astype(low_);
    measure(at, [&](const Tensors& in) { return net(in[0]); });
    report(net, w, "forward", std::nullopt);
  }
  Device where() const { return where_; }
  /// Whether weights are bf16, with f32 masters in the optimiser, unless autocast lowers the ops. With f16 it always does: gradients of f16
  /// weights have no room for a loss scale.
  bool masters() const { return low_ == bf16 && !o_.autocast; }

 private:
  /// Gives what the last step gave.
  template <class F>
  Tensor measure(const Work& w, F step) {
    std::unique_ptr<Monitor> watch;
    if (o_.monitor) watch = std::make_unique<Monitor>(MonitorOptions{.budget = o_.budget, .sample = o_.part});
    const Compiled compiled = compile(step);
    const Tensors in = w.y.defined() ? Tensors{w.x, w.y} : Tensors{w.x};
    Tensor last;
    // A monitor with a budget finds what fits it. Its steps differ, so that a sample takes a turn of them.
    const bool governed = watch && o_.budget != 0 && where_ != cpu_device;
    const int64_t steps = governed && o_.per_sample == 1 ? 16 : o_.per_sample;
    const auto sample = [&] {
      const auto begin = Clock::now();
      for (int64_t i = 0; i < steps; ++i) {
        if (watch && !watch->paused()) watch->step();
        last = o_.compile ? compiled(in)[0] : step(in);
      }
      synchronize(where_);
      return std::chrono::duration<double>(Clock::now() - begin).count() / double(steps);
    };
    for (int i = 0; i < (o_.compile ? 6 : 3) || (governed && i * steps < 160); ++i) sample();  // caches fill
    captured_ = o_.compile && compiled.captured();
    if (o_.compile && !captured_) why_not_ = compiled.reason(), fmt::print(stderr, "not captured: {}\n", why_not_);
    reset_peak_memory(where_);
    const auto end = Clock::now() + std::chrono::duration<double>(o_.seconds);
    while (Clock::now() < end || rates_.size() < 3) {
      // With and without, in turns, so that what the machine does besides falls on both; the neighbours of a sample are what it is
      // compared with.
      rates_.push_back(w.units / sample());
      if (!o_.monitor) continue;
      watch->pause();
      const double without = w.units / sample();
      watch->resume();
      if (!without_.empty())
        added_.push_back(0.5 * (without + without_.back()) / rates_.back() - 1), control_.push_back(without_.back() / without - 1);
      without_.push_back(without);
    }
    const MemoryStats memory = memory_stats(where_);
    peak_ = memory.peak_in_use, reserved_ = memory.bytes_reserved;
    for (auto* v : {&without_, &added_, &control_}) std::sort(v->begin(), v->end());
    if (watch && o_.report) fmt::print("{}\n", watch->report());
    std::sort(rates_.begin(), rates_.end());
    return last;
  }
  template <class Net>
  void report(const Net& net, const Work& w, const char* kind, std::optional<double> loss) {
    const double median = quantile(rates_, 0.5), best = rates_.back(), spread = (quantile(rates_, 0.9) - quantile(rates_, 0.1)) / median;
    const int64_t batch = w.x.shape()[0];
    if (!o_.as_json && !added_.empty())
      fmt::print(
          "watched: {:+.2f} % of the time (quartiles {:+.2f} to {:+.2f}), unwatched against unwatched {:+.2f} % ({:+.2f} to {:+.2f}), {} "
          "pairs\n",
          100 * quantile(added_, 0.5), 100 * quantile(added_, 0.25), 100 * quantile(added_, 0.75), 100 * quantile(control_, 0.5),
          100 * quantile(control_, 0.25), 100 * quantile(control_, 0.75), added_.size());
    if (!o_.as_json) {
      fmt::print("{} {} on {}, {}, batch {}: median {:.1f} {}, best {:.1f}, spread {:.1f} %, {} samples, peak {:.2f} GiB\n", o_.model, kind,
                 to_string(where_), o_.dtype, batch, median, w.unit, best, 100 * spread, rates_.size(), double(peak_) / 0x1p30);
      return;
    }
    json j{{"name", o_.model}, {"kind", kind}, {"device", device_text(where_)}, {"dtype", o_.dtype}, {"batch", batch}, {"unit", w.unit},
           {"median", median}, {"best", best}, {"spread", spread}, {"n", rates_.size()}, {"seconds_a_step", w.units / median},
           {"parameters", net.num_parameters()}, {"peak_bytes", peak_}, {"reserved_bytes", reserved_}, {"tiny", o_.tiny}, {"monitor", o_.monitor},
           {"autocast", o_.autocast}, {"compile", o_.compile}, {"captured", captured_}, {"determinism", o_.determinism}};
    if (!why_not_.empty()) j["not_captured"] = why_not_;
    if (loss) j["loss"] = *loss;
    if (!added_.empty())
      j["watched_share"] = quantile(added_, 0.5), j["watched_share_low"] = quantile(added_, 0.25),
      j["watched_share_high"] = quantile(added_, 0.75), j["control_share"] = quantile(control_, 0.5),
      j["control_low"] = quantile(control_, 0.25), j["control_high"] = quantile(control_, 0.75);
    fmt::print("{}\n", j.dump());
  }

  const ModelOptions& o_;
  Device where_;
  DType low_;
  std::vector<double> rates_, without_, added_, control_;
  int64_t peak_ = 0, reserved_ = 0;
  bool captured_ = false;
  std::string why_not_;
};

int64_t or_else(int64_t given, int64_t otherwise) { return given > 0 ? given : otherwise; }

void bench_gpt2(const ModelOptions& o, ModelBench& b) {
  GptConfig c = o.tiny ? tiny_gpt2() : gpt2();
  const int64_t batch = or_else(o.batch, o.tiny ? 2 : 16), t = or_else(o.context, c.context);
  if (t > c.context) usage_error(fmt::format("--context {}: this network has {} positions", t, c.context));
  Gpt net(c);
  net.to(b.where());
  const auto ids = [&] { return randint(0, c.vocab, {batch, t}).to(b.where()); };
  const Work w{ids(), ids(), double(batch * t), "tokens/s"};
  if (o.forward) return b.forward(net, w);
  auto [matrices, vectors] = optim::split_by_rank(net.parameters());
  b.train(net, optim::AdamW({{.params = matrices, .weight_decay = 0.1}, {.params = vectors, .weight_decay = 0.0}}, {.lr = 6e-4, .master_weights = b.masters()}), w);
}

template <class Net>
void bench_resnet(const ModelOptions& o, ModelBench& b) {
  ResNetConfig c{.classes = o.image > 64 ? 1000 : 10, .small_images = o.small_stem};
  if (o.tiny) c.width = 8, c.classes = 10, c.shallow = true;
  const int64_t batch = or_else(o.batch, o.tiny ? 2 : 128), size = o.tiny ? 32 : o.image;
  Net net(c);
  net.to(b.where());
  const Tensor x = randn({batch, 3, size, size}).channels_last();
  const Work w{x.to(b.where()), randint(0, c.classes, {batch}).to(b.where()), double(batch), "images/s"};
  if (o.forward) return b.forward(net, w);
  b.train(net, optim::SGD(net.parameters(), {.lr = 0.1, .momentum = 0.9, .weight_decay = 5e-4, .master_weights = b.masters()}), w);
}

/// The networks of handwritten digits, which are tiny already.
template <class Net>
void bench_digits(Net net, const ModelOptions& o, ModelBench& b) {
  const int64_t batch = or_else(o.batch, o.tiny ? 2 : 64);
  net.to(b.where());
  const Work w{randn({batch, 1, 28, 28}).to(b.where()), randint(0, 10, {batch}).to(b.where()), double(batch), "images/s"};
  if (o.forward) return b.forward(net, w);
  b.train(net, optim::Adam(net.parameters(), {.lr = 1e-3, .master_weights = b.masters()}), w);
}

void bench_bert(const ModelOptions& o, ModelBench& b) {
  BertConfig c;
  if (o.tiny) c = {.vocab = 101, .context = 16, .layers = 2, .width = 32, .heads = 4, .inner = 64};
  const int64_t batch = or_else(o.batch, 1), t = or_else(o.context, o.tiny ? 8 : 128);
  if (t > c.context) usage_error(fmt::format("--context {}: this network has {} positions", t, c.context));
  Bert net(c);
  net.to(b.where());
  b.forward(net, {randint(0, c.vocab, {batch, t}).to(b.where()), Tensor(), double(batch), "sequences/s"});
}

int bench_model(const ModelOptions& o) {
  if (o.threads > 0) set_num_threads(o.threads);
  manual_seed(0);
  if (o.dtype == "tf32") set_float32_matmul_precision(MatmulPrecision::high);
  const DeterminismGuard level(determinism_from_name(o.determinism.c_str()));
  ModelBench b(o);
  if (o.model == "gpt2") bench_gpt2(o, b);
  else if (o.model == "resnet18") bench_resnet<ResNet18>(o, b);
  else if (o.model == "resnet50") bench_resnet<ResNet50>(o, b);
  else if (o.model == "bert") bench_bert(o, b);
  else if (o.model == "mlp") bench_digits(mlp(), o, b);
  else bench_digits(LeNet(), o, b);
  return kOk;
}

}  // namespace

void add_bench_model(CLI::App& bench, Outcome& out) {
  auto o = std::make_shared<ModelOptions>();
  auto* a = bench.add_subcommand("model", "Training steps, or forward passes, of a whole network: work a second and peak memory");
  a->add_option("name", o->model, "gpt2 (124M), resnet18, resnet50, bert (base, forward only), or mlp or cnn of handwritten digits")
      ->required()
      ->check(CLI::IsMember({"gpt2", "resnet18", "resnet50", "bert", "mlp", "cnn"}));
  a->add_option("--device", o->device, "cpu, cuda, cuda:N or auto")->check(device_name())->capture_default_str();
  a->add_option("--dtype", o->dtype, "Of weights and activations; in training bf16 has f32 masters, f16 is by autocast, tf32 is f32's products")
      ->check(CLI::IsMember({"bf16", "f16", "f32", "tf32"}))
      ->capture_default_str();
  a->add_option("--batch", o->batch, "Examples a step; 0: 16, 128, 1 or 64 by network")->check(whole(0));
  a->add_option("--context", o->context, "Tokens an example; 0: 1024 for gpt2, 128 for bert")->check(whole(0));
  a->add_option("--image", o->image, "Rows and columns of ResNet's images")->check(whole(32))->capture_default_str();
  a->add_flag("--small-stem", o->small_stem, "ResNet's stem for images of 32x32");
  a->add_option("--clip", o->clip, "Norm that gradients are clipped to; 0: not clipped")->check(CLI::NonNegativeNumber);
  a->add_flag("--autocast", o->autocast, "f32 weights, and products of bf16 by autocast, instead of masters");
  a->add_flag("--forward", o->forward, "Forward passes without gradients");
  a->add_flag("--tiny", o->tiny, "A network of the same kind that runs anywhere in a moment");
  a->add_option("--seconds", o->seconds, "Seconds to measure")->check(positive())->capture_default_str();
  a->add_option("--steps", o->per_sample, "Steps a sample")->check(whole(1))->capture_default_str();
  a->add_option("--threads", o->threads, "Threads; 0: all cores")->check(whole(0, 1024));
  a->add_flag("--monitor", o->monitor, "With the monitor watching, in turns with samples without; says what it adds");
  a->add_option("--monitor-sample", o->part, "MonitorOptions::sample")->check(whole(1, 64))->capture_default_str();
  a->add_option("--monitor-budget", o->budget, "MonitorOptions::budget: a share, 0 for none")->capture_default_str();
  a->add_flag("--monitor-report", o->report, "What the monitor saw, at the end");
  a->add_flag("--compile", o->compile, "Steps captured by the device and replayed");
  a->add_option("--determinism", o->determinism, "invariant: no example depends on how many are beside it; fast: other bits in every run")
      ->check(CLI::IsMember({"fast", "run", "invariant"}))
      ->capture_default_str();
  a->add_flag("--json", o->as_json, "One JSON object a line");
  a->callback([o, &out] { out.code = bench_model(*o); });
}

}  // namespace keel::app
