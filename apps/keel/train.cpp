#include <sys/stat.h>
#include <unistd.h>

#include <memory>

#include "common.h"
#include "models.h"
#include "runs.h"

namespace keel::app {

void make_folder(const std::string& dir) {
  for (size_t i = 1; i <= dir.size(); ++i)
    if (i == dir.size() || dir[i] == '/') mkdir(dir.substr(0, i).c_str(), 0777);
}

ImageSets image_sets(const std::string& data, bool quiet) {
  const std::string folder = data + "/mnist";
  if (exists(folder + "/train-images-idx3-ubyte.gz") || exists(folder + "/train-images-idx3-ubyte")) {
    const data::MnistOptions train{.train = true, .mean = 0.1307, .stddev = 0.3081}, test{.train = false, .mean = 0.1307, .stddev = 0.3081};
    return {"mnist", data::mnist(folder, train), data::mnist(folder, test)};
  }
  if (!quiet) fmt::print(stderr, "no MNIST in {}: drawing digits instead\n", folder);
  const data::Transform scale = data::normalise(0.1307, 0.3081);
  return {"drawn digits", data::digits({.size = 20000, .seed = 1}).map(scale), data::digits({.size = 4000, .seed = 2}).map(scale)};
}

namespace {

struct TrainOptions {
  std::string data = data_folder(), out, text, model = "cnn";
  int64_t epochs = 10, batch = 64, seed = 0, iterations = 2000, layers = 4, width = 128, heads = 4, context = 64, threads = 0;
  double lr = 1e-3, weight_decay = 0.1;
  bool json_lines = false, monitor = false, no_progress = false, resume = false;
};

template <class Model>
int fit_images(Model& net, const TrainOptions& o, const ImageSets& sets) {
  data::Loader batches(sets.train, {.batch_size = o.batch, .shuffle = true, .workers = 1}), held_out(sets.test, {.batch_size = 500});
  optim::Adam opt(net.parameters(), {.lr = o.lr});
  train::Trainer trainer(net, opt, nn::CrossEntropyLoss());
  if (o.resume) trainer.resume(o.out);
  train::FitOptions fit{.epochs = o.epochs, .run_dir = o.out, .monitor = o.monitor, .progress = !o.no_progress && !o.json_lines};
  fit.on_epoch = [&](const train::EpochResult& e) {
    if (o.json_lines)
      fmt::print("{}\n", json{{"epoch", e.epoch},
                              {"train_loss", number(e.train_loss)},
                              {"loss", number(e.loss)},
                              {"accuracy", number(e.accuracy)},
                              {"seconds", e.seconds},
                              {"examples_per_second", e.examples_per_second}}
                             .dump());
    else if (!isatty(2))
      fmt::print("epoch {}: train loss {:.4f}, held out loss {:.4f}, accuracy {:.4f}, {:.1f} s\n", e.epoch, e.train_loss, e.loss,
                 e.accuracy, e.seconds);
    std::fflush(stdout);
  };
  const train::Result r = trainer.fit(batches, held_out, fit);
  save(o.out + "/model.safetensors", net.state_dict());
  write_json(o.out + "/config.json", {{"model", o.model}, {"dataset", sets.name}, {"keel", version()}});
  const json summary{{"dataset", sets.name},
                     {"model", o.model},
                     {"parameters", net.num_parameters()},
                     {"epochs", r.epochs.size()},
                     {"accuracy", number(r.accuracy)},
                     {"loss", number(r.loss)},
                     {"seconds_train", r.seconds},
                     {"steps", r.steps},
                     {"interrupted", r.interrupted},
                     {"checkpoint", o.out + "/checkpoint.keel"}};
  write_json(o.out + "/trainer_state.json", summary);
  if (o.json_lines)
    fmt::print("{}\n", summary.dump());
  else
    fmt::print("{}: accuracy {:.4f} on held-out data after {} epochs; written to {}\n", o.model, r.accuracy, r.epochs.size(), o.out);
  return r.interrupted ? kInterrupted : kOk;
}

int train_mnist(const TrainOptions& o) {
  if (o.threads > 0) set_num_threads(o.threads);
  manual_seed(uint64_t(o.seed));
  const ImageSets sets = image_sets(o.data, o.json_lines);
  make_folder(o.out);
  if (o.model == "mlp") {
    nn::Sequential net = mlp();
    return fit_images(net, o, sets);
  }
  LeNet net;
  return fit_images(net, o, sets);
}

int train_char_gpt(const TrainOptions& o) {
  if (o.threads > 0) set_num_threads(o.threads);
  const CharGptOptions run{.text = o.text,
                           .out = o.out,
                           .iterations = o.iterations,
                           .layers = o.layers,
                           .width = o.width,
                           .heads = o.heads,
                           .context = o.context,
                           .batch = o.batch,
                           .seed = o.seed,
                           .lr = o.lr,
                           .weight_decay = o.weight_decay,
                           .monitor = o.monitor};
  const CharGptRun r = fit_char_gpt(run, [&](const CharGptStep& s) {
    if (s.held_out == s.held_out) {
      if (o.json_lines)
        fmt::print("{}\n", json{{"step", s.step}, {"train_loss", s.train}, {"loss", s.held_out}, {"seconds", s.seconds}}.dump());
      else
        fmt::print("step {:5d}/{}: train loss {:.4f}, held out loss {:.4f}, {:.1f} s\n", s.step, o.iterations, s.train, s.held_out,
                   s.seconds);
      std::fflush(stdout);
    } else if (!o.json_lines && !o.no_progress && isatty(2) && s.step % 10 == 0) {
      fmt::print(stderr, "\rstep {}/{} loss {:.4f} {:.1f} it/s\x1b[K\r", s.step, o.iterations, s.train, double(s.step) / s.seconds);
    }
  });
  if (o.json_lines)
    fmt::print("{}\n", summary(run, r).dump());
  else
    fmt::print("held out loss {:.4f}; written to {}. `keel sample {}` writes text.\n", r.best, o.out, o.out);
  return kOk;
}

}  // namespace

void add_train(CLI::App& root, Outcome& out) {
  auto* train = root.add_subcommand("train", "Train a model");
  train->require_subcommand(1);
  auto o = std::make_shared<TrainOptions>();
  auto common = [o](CLI::App* a) {
    a->add_option("--out", o->out, "Folder for checkpoint, model, charts")->required();
    a->add_option("--lr", o->lr, "Learning rate")->capture_default_str();
    a->add_option("--seed", o->seed, "Seed of weights, order and dropout")->capture_default_str();
    a->add_option("--threads", o->threads, "Threads; 0: all cores");
    a->add_flag("--json", o->json_lines, "One JSON object a line on stdout");
    a->add_flag("--monitor", o->monitor, "Watch every op; findings go to monitor.jsonl");
    a->add_flag("--no-progress", o->no_progress, "No bar");
  };
  auto* mnist = train->add_subcommand("mnist", "Handwritten digits; drawn ones where there is no MNIST");
  mnist->add_option("--model", o->model, "mlp (101,770 parameters) or cnn (44,426)")
      ->check(CLI::IsMember({"mlp", "cnn"}))
      ->capture_default_str();
  mnist->add_option("--data", o->data, "Folder with mnist/")->capture_default_str();
  mnist->add_option("--epochs", o->epochs, "Epochs")->capture_default_str();
  mnist->add_option("--batch-size", o->batch, "Examples a batch")->capture_default_str();
  mnist->add_flag("--resume", o->resume, "Go on from the checkpoint in --out");
  common(mnist);
  mnist->callback([o, &out] { out.code = train_mnist(*o); });
  auto* gpt = train->add_subcommand("char-gpt", "A small transformer on the characters of a text");
  gpt->add_option("--text", o->text, "The text")->required();
  gpt->add_option("--iterations", o->iterations, "Steps")->capture_default_str();
  gpt->add_option("--layers", o->layers, "Blocks")->capture_default_str();
  gpt->add_option("--width", o->width, "Width")->capture_default_str();
  gpt->add_option("--heads", o->heads, "Heads")->capture_default_str();
  gpt->add_option("--context", o->context, "Characters seen at once")->capture_default_str();
  gpt->add_option("--batch-size", o->batch, "Windows a batch (12 if not given)");
  common(gpt);
  gpt->callback([o, gpt, &out] {
    if (gpt->count("--batch-size") == 0) o->batch = 12;
    out.code = train_char_gpt(*o);
  });
}

}  // namespace keel::app
