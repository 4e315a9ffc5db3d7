// A small transformer on the characters of a text: the run that `train char-gpt` and `bench accuracy` share.
#include <chrono>
#include <cmath>
#include <memory>

#include "keel/io/svg_chart.h"
#include "runs.h"

namespace keel::app {
namespace {

/// Mean loss over the validation text, in windows that follow one another.
double validation_loss(const Gpt& net, const Tensor& ids, int64_t context) {
  NoGrad off;
  double sum = 0;
  int64_t count = 0;
  const int64_t windows = std::min<int64_t>((ids.size() - 1) / context, 640);
  for (int64_t w = 0; w < windows; w += 32) {
    const int64_t n = std::min<int64_t>(32, windows - w);
    const Tensor at = arange(w * context, (w + n) * context).reshape({n, context});
    sum += cross_entropy(net(ids[at]), ids[at + 1]).item() * double(n), count += n;
  }
  return sum / double(count);
}

}  // namespace

CharGptRun fit_char_gpt(const CharGptOptions& o, const Callback<void(const CharGptStep&)>& on_step) {
  manual_seed(uint64_t(o.seed));
  const std::string corpus = io::read_text(o.text);
  const text::CharTokenizer chars(corpus);
  const Tensor all_ids = chars.encode(corpus);
  const int64_t n = all_ids.size(), cut = n * 9 / 10;
  if (cut <= o.context + 1) raise(Error(ErrorCode::value, o.text + ": is too short for a context of " + std::to_string(o.context)));
  const Tensor train_ids = all_ids[{slice(none, cut)}], held_ids = all_ids[{slice(cut, none)}];
  if (!o.out.empty()) make_folder(o.out);
  const GptConfig config{.vocab = chars.vocab_size(), .context = o.context, .layers = o.layers, .width = o.width, .heads = o.heads};
  Gpt net(config);
  auto [matrices, vectors] = optim::split_by_rank(net.parameters());
  optim::AdamW opt({{.params = matrices, .weight_decay = o.weight_decay}, {.params = vectors, .weight_decay = 0.0}},
                   {.lr = o.lr, .betas = {0.9, 0.99}});
  optim::CosineAnnealing schedule(
      opt, {.total_steps = o.iterations, .warmup_steps = std::min<int64_t>(100, o.iterations / 10), .min_lr = o.lr / 10});
  std::unique_ptr<Monitor> monitor;
  if (o.monitor && !o.out.empty()) monitor = std::make_unique<Monitor>(MonitorOptions{.log_file = o.out + "/monitor.jsonl"});
  const auto begin = std::chrono::steady_clock::now();
  auto seconds = [&] { return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count(); };
  io::ChartSeries curve{"batch", {}, {}}, held{"held out", {}, {}};
  CharGptRun run{.parameters = net.num_parameters(), .best = INFINITY};
  double running = 0;
  for (int64_t step = 1; step <= o.iterations; ++step) {
    if (monitor) monitor->step();
    const Tensor at = randint(0, cut - o.context - 1, {o.batch, 1}) + arange(o.context);
    const Tensor loss = cross_entropy(net(train_ids[at]), train_ids[at + 1]);
    opt.zero_grad();
    loss.backward();
    nn::clip_grad_norm(net.parameters(), 1.0);
    opt.step();
    schedule.step();
    const double l = loss.item();
    running = step == 1 ? l : 0.98 * running + 0.02 * l;
    if (step % 10 == 0) curve.x.push_back(double(step)), curve.y.push_back(running);
    const bool measure = step % 250 == 0 || step == o.iterations;
    if (measure) {
      run.loss = validation_loss(net, held_ids, o.context);
      run.best = std::min(run.best, run.loss);
      held.x.push_back(double(step)), held.y.push_back(run.loss);
    }
    if (on_step) on_step({step, running, measure ? run.loss : NAN, seconds()});
  }
  run.seconds = seconds();
  if (o.out.empty()) return run;
  save(o.out + "/model.safetensors", net.state_dict());
  write_json(o.out + "/config.json", {{"model", "char-gpt"},
                                      {"vocab", config.vocab},
                                      {"context", config.context},
                                      {"layers", config.layers},
                                      {"width", config.width},
                                      {"heads", config.heads},
                                      {"characters", chars.characters()},
                                      {"keel", version()}});
  write_json(o.out + "/trainer_state.json", summary(o, run));
  if (auto ok = io::write_file(o.out + "/loss.svg", io::svg_chart({curve, held}, {.title = "Loss", .x_label = "step", .y_label = "nats"}));
      !ok)
    raise(Error(ErrorCode::io, ok.message()));
  return run;
}

json summary(const CharGptOptions& o, const CharGptRun& r) {
  return {{"model", "char-gpt"},    {"parameters", r.parameters},  {"iterations", o.iterations},
          {"loss", number(r.loss)}, {"best_loss", number(r.best)}, {"seconds_train", r.seconds}};
}

}  // namespace keel::app
