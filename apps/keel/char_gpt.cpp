// A small transformer on the characters of a text: the run that `train char-gpt` and `bench accuracy` share.
#include <cmath>
#include <cstring>

#include "runs.h"

namespace keel::app {
namespace {
constexpr int64_t kInterval = 250;  // steps between evaluations
}  // namespace

std::string read_corpus(const std::string& path) {
  std::string text = io::read_text(path);
  if (const int64_t at = text::first_bad_byte(text); at >= 0)
    raise(Error(ErrorCode::io, fmt::format("{}: is no text in UTF-8: byte 0x{:02x} at {}", path, uint8_t(text[size_t(at)]), at))
              .op("load")
              .hint("iconv converts texts in other encodings"));
  return text;
}

TextSets text_sets(const text::CharTokenizer& chars, const std::string& corpus, const std::string& name, int64_t context,
                   int64_t train_windows) {
  const Tensor ids = chars.encode(corpus);
  const int64_t n = ids.size(), cut = n * 9 / 10, held = n - cut;
  if (held <= context)
    usage_error(fmt::format("{}: a context of {} needs a text of at least {} characters, it has {}{}", name, context, (context + 1) * 10, n,
                            held > 1 ? fmt::format("; --context {} fits", held - 1) : ""));
  // Windows of `context` characters and those that follow each of them.
  auto windows = [ids, context](const std::vector<int64_t>& at) {
    const int64_t* p = static_cast<const Tensor&>(ids).data<int64_t>();
    const auto count = int64_t(at.size());
    data::Batch b{empty({count, context}, {.dtype = i64}), empty({count, context}, {.dtype = i64})};
    int64_t *x = b.x.data<int64_t>(), *y = b.y.data<int64_t>();
    for (int64_t i = 0; i < count; ++i) {
      std::memcpy(x + i * context, p + at[size_t(i)], size_t(context) * 8);
      std::memcpy(y + i * context, p + at[size_t(i)] + 1, size_t(context) * 8);
    }
    return b;
  };
  TextSets sets;
  sets.train = data::Dataset(train_windows, [=](const data::Fetch& f) {
    std::vector<int64_t> at;
    for (int64_t i = 0; i < f.count; ++i)
      at.push_back(data::ExampleRandom(f.seed, f.epoch, uint64_t(f.index[i])).integer(0, cut - context));
    return windows(at);
  });
  sets.held_out = data::Dataset(std::min<int64_t>((held - 1) / context, 640), [=](const data::Fetch& f) {
    std::vector<int64_t> at;
    for (int64_t i = 0; i < f.count; ++i) at.push_back(cut + f.index[i] * context);
    return windows(at);
  });
  return sets;
}

CharGptRun fit_char_gpt(const CharGptOptions& o, const Callback<void(const CharGptStep&)>& on_step) {
  manual_seed(uint64_t(o.seed));
  const std::string corpus = read_corpus(o.text);
  const auto chars = o.resume ? text::CharTokenizer::from_characters(o.characters) : text::CharTokenizer(corpus);
  const TextSets sets = text_sets(chars, corpus, o.text, o.context, kInterval * o.batch);
  const GptConfig config{.vocab = chars.vocab_size(), .context = o.context, .layers = o.layers, .width = o.width, .heads = o.heads};
  if (!o.out.empty() && !o.resume)
    begin_run(o.out, {{"model", "char-gpt"},
                      {"vocab", config.vocab},
                      {"context", config.context},
                      {"layers", config.layers},
                      {"width", config.width},
                      {"heads", config.heads},
                      {"characters", chars.characters()},
                      {"keel", version()}});
  Gpt net(config);
  net.to(device(o.device));
  auto [matrices, vectors] = optim::split_by_rank(net.parameters());
  optim::AdamW opt({{.params = matrices, .weight_decay = o.weight_decay}, {.params = vectors, .weight_decay = 0.0}},
                   {.lr = o.lr, .betas = {0.9, 0.99}});
  data::Loader batches(sets.train, {.batch_size = o.batch, .workers = 1}), held_out(sets.held_out, {.batch_size = 32});
  train::Trainer trainer(net, opt, nn::CrossEntropyLoss());
  if (o.resume) trainer.resume(o.out);
  train::FitOptions fit{.epochs = (o.iterations + kInterval - 1) / kInterval,
                        .run_dir = o.out,
                        .monitor = o.monitor,
                        .progress = o.progress,
                        .clip_norm = 1.0,
                        .checkpoint_steps = o.checkpoint_steps};
  fit.schedule = optim::CosineAnnealing(
      opt, {.total_steps = o.iterations, .warmup_steps = std::min<int64_t>(100, o.iterations / 10), .min_lr = o.lr / 10});
  fit.on_step = [last = o.iterations](int64_t step, double loss) { return check_loss(step, loss), step < last; };
  if (o.on_finding) fit.on_finding = o.on_finding;
  CharGptRun run{.parameters = net.num_parameters(), .best = INFINITY};
  fit.on_epoch = [&](const train::EpochResult& e) {
    run.loss = e.loss, run.best = std::min(run.best, e.loss), run.seconds += e.seconds;
    if (on_step) on_step({e.epoch * kInterval, e.train_loss, e.loss, run.seconds});
  };
  run.steps = trainer.steps_done();
  if (run.steps < o.iterations) {
    const train::Result r = trainer.fit(batches, held_out, fit);
    run.steps = r.steps, run.seconds = r.seconds, run.interrupted = r.interrupted, run.faults = r.faults, run.warnings = r.warnings;
  }
  if (!run.interrupted && run.steps % kInterval) {
    run.loss = trainer.evaluate(held_out).loss, run.best = std::min(run.best, run.loss);
    if (on_step) on_step({run.steps, NAN, run.loss, run.seconds});
  }
  if (!o.out.empty()) save(o.out + "/model.safetensors", net.state_dict());
  return run;
}

}  // namespace keel::app
