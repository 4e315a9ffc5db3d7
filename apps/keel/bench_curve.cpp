// The losses of a GPT's first steps on a given text from given weights, to be laid beside another framework's.
#include <memory>

#include "bench.h"
#include "large_models.h"

namespace keel::app {
namespace {

struct CurveOptions {
  std::string tokens, weights, device = "cpu", dtype = "f32";
  int64_t steps = 200, batch = 4, context = 0, warmup = 20, threads = 0;
  double lr = 6e-4;
  bool tiny = false, compile = false, as_json = false;
};

/// Windows of `context` tokens: row r of step s begins at ((s * batch + r) * context) mod (tokens - context - 1); the targets are one
/// further on.
class Windows {
 public:
  Windows(Tensor tokens, int64_t batch, int64_t context)
      : tokens_(std::move(tokens)), batch_(batch), context_(context), starts_(tokens_.size() - context - 1) {}

  Tensors operator()(int64_t step, Device where) const {
    Tensors x, y;
    for (int64_t r = 0; r < batch_; ++r) {
      const int64_t at = (step * batch_ + r) * context_ % starts_;
      x.push_back(tokens_[{slice(at, at + context_)}]);
      y.push_back(tokens_[{slice(at + 1, at + context_ + 1)}]);
    }
    return {stack(x).to(where), stack(y).to(where)};
  }

 private:
  Tensor tokens_;
  int64_t batch_, context_, starts_;
};

Tensor read_tokens(const CurveOptions& o, int64_t vocab, int64_t context) {
  const Tensor t = load(o.tokens)["arr_0"].astype(i64);
  if (t.rank() != 1) usage_error(fmt::format("--tokens {}: holds {} axes, wanted 1", o.tokens, t.rank()));
  if (t.size() < context + 2) usage_error(fmt::format("--tokens {}: {} tokens are too few for windows of {}", o.tokens, t.size(), context));
  const auto least = min(t).item<int64_t>(), most = max(t).item<int64_t>();
  if (least < 0 || most >= vocab)
    usage_error(fmt::format("--tokens {}: token {} is not below {}", o.tokens, least < 0 ? least : most, vocab));
  return t;
}

int bench_curve(const CurveOptions& o) {
  if (o.threads > 0) set_num_threads(o.threads);
  const Device where = device(o.device);
  const GptConfig config = o.tiny ? tiny_gpt2() : gpt2();
  const int64_t context = o.context > 0 ? o.context : config.context;
  if (context > config.context) usage_error(fmt::format("--context {}: this network has {} positions", context, config.context));
  const Windows windows(read_tokens(o, config.vocab, context), o.batch, context);

  manual_seed(0);
  Gpt net(config);
  if (!o.weights.empty()) net.load_state_dict(load(o.weights));
  net.to(where);
  const bool low = o.dtype == "bf16";
  auto [matrices, vectors] = optim::split_by_rank(net.parameters());
  optim::AdamW opt({{.params = matrices, .weight_decay = 0.1}, {.params = vectors, .weight_decay = 0.0}},
                   {.lr = o.lr, .master_weights = low});
  if (low) net.to(bf16);  // after the optimiser has seen all their digits
  const auto train = [&](const Tensors& in) {
    opt.zero_grad();
    const Tensor loss = cross_entropy(net(in[0]), in[1]);
    loss.backward();
    nn::clip_grad_norm(net.parameters(), 1.0);
    opt.step();
    return loss.detach();
  };
  const Compiled compiled = compile(train);
  for (int64_t s = 0; s < o.steps; ++s) {
    opt.set_lr(o.lr * std::min(1.0, double(s + 1) / double(o.warmup)));
    const Tensors in = windows(s, where);
    const double loss = (o.compile ? compiled(in)[0] : train(in)).to(cpu_device).item();
    if (o.as_json) fmt::print("{}\n", json{{"step", s}, {"loss", number(loss)}}.dump());
    else fmt::print("step {:5d}  loss {:.6f}\n", s, loss);
    std::fflush(stdout);
  }
  if (o.compile && !compiled.captured()) fmt::print(stderr, "not captured: {}\n", compiled.reason());
  return kOk;
}

}  // namespace

void add_bench_curve(CLI::App& bench, Outcome& out) {
  auto o = std::make_shared<CurveOptions>();
  auto* a = bench.add_subcommand(
      "curve", "The losses of GPT-2's first steps from given weights on given tokens, to compare with another framework's");
  a->add_option("--tokens", o->tokens, "A .npy file of token numbers, one axis")->required()->check(CLI::ExistingFile);
  a->add_option("--weights", o->weights, "Weights to begin with, under Keel's names; none: Keel's own, by seed 0")
      ->check(CLI::ExistingFile);
  a->add_option("--device", o->device, "cpu, cuda, cuda:N or auto")->check(device_name())->capture_default_str();
  a->add_option("--dtype", o->dtype, "f32, or bf16 with f32 masters in the optimiser")
      ->check(CLI::IsMember({"f32", "bf16"}))
      ->capture_default_str();
  a->add_option("--steps", o->steps, "Steps of AdamW, clipped at 1, with decay 0.1 of matrices")->check(whole(1))->capture_default_str();
  a->add_option("--batch", o->batch, "Windows a step")->check(whole(1))->capture_default_str();
  a->add_option("--context", o->context, "Tokens a window; 0: all positions")->check(whole(0))->capture_default_str();
  a->add_option("--lr", o->lr, "Learning rate")->check(positive())->capture_default_str();
  a->add_option("--warmup", o->warmup, "Steps over which it rises")->check(whole(1))->capture_default_str();
  a->add_option("--threads", o->threads, "Threads; 0: all cores")->check(whole(0, 1024));
  a->add_flag("--tiny", o->tiny, "A network of the same kind that runs anywhere in a moment");
  a->add_flag("--compile", o->compile, "Steps captured by the device and replayed");
  a->add_flag("--json", o->as_json, "One JSON object a line");
  a->callback([o, &out] { out.code = bench_curve(*o); });
}

}  // namespace keel::app
