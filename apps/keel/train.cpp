#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <cstring>
#include <memory>

#include "common.h"
#include "digit_models.h"
#include "runs.h"

namespace keel::app {

void make_folder(const std::string& dir) {
  int why = 0;
  for (size_t i = 1; i <= dir.size(); ++i)
    if ((i == dir.size() || dir[i] == '/') && mkdir(dir.substr(0, i).c_str(), 0777) != 0) why = errno;
  struct stat s{};
  if (stat(dir.c_str(), &s) != 0) raise(Error(ErrorCode::io, "cannot make the folder " + dir + ": " + std::strerror(why)).op("train"));
  if (!S_ISDIR(s.st_mode)) raise(Error(ErrorCode::io, "cannot write into " + dir + ": it is no folder").op("train"));
  if (access(dir.c_str(), W_OK | X_OK) != 0)
    raise(Error(ErrorCode::io, "cannot write into " + dir + ": " + std::strerror(errno)).op("train"));
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

void drop_rate_after(train::FitOptions& fit, const optim::Optimizer& opt, int64_t epoch) {
  if (epoch > 0) fit.schedule = optim::MultiStepLR(opt, {.milestones = {epoch}}), fit.schedule_by_epoch = true;
}

void begin_run(const std::string& dir, const json& config) {
  make_folder(dir);
  const std::string checkpoint = dir + "/checkpoint.keel", old = dir + "/checkpoint.old.keel";
  if (exists(checkpoint) && std::rename(checkpoint.c_str(), old.c_str()) == 0)
    fmt::print(stderr, "{} held a checkpoint, now checkpoint.old.keel; --resume would have gone on from it\n", dir);
  unlink((dir + "/model.safetensors").c_str());
  write_json(dir + "/config.json", config);
}

void check_loss(int64_t step, double loss) {
  if (!std::isfinite(loss))
    raise(Error(ErrorCode::numeric, "the loss is " + to_string(Scalar(loss)) + " at step " + std::to_string(step))
              .op("train")
              .hint("a lower --lr often helps; --monitor tells which op made the first one"));
}

namespace {

struct TrainOptions {
  std::string data = data_folder(), out, text, model = "cnn", device = "cpu", dtype = "f32";
  int64_t epochs = 10, batch = 64, seed = 0, iterations = 2000, layers = 4, width = 128, heads = 4, context = 64, threads = 0,
          checkpoint_steps = 0, lr_drop = 8;
  double lr = 1e-3, weight_decay = 0.1;
  std::string break_on = "never";
  double max_ulp_drift = 0;  // 0: as MonitorOptions has it
  bool json_lines = false, monitor = false, break_on_instability = false, no_progress = false, resume = false, data_given = false,
       compile = false;
};

/// How the run is to be watched.
train::Watch watch(const TrainOptions& o) {
  if (o.break_on == "never" && !o.break_on_instability && o.max_ulp_drift == 0) return o.monitor;
  MonitorOptions m;
  for (const auto& [name, stop] : {std::pair{"warning", BreakOn::warning}, {"nan", BreakOn::nan}, {"nonfinite", BreakOn::nonfinite}})
    if (o.break_on == name) m.break_on = stop;
  if (o.break_on_instability) m.break_on = BreakOn::warning;
  if (o.max_ulp_drift > 0) m.max_ulp_drift = o.max_ulp_drift;
  return m;
}
/// A line a finding on stderr, above the bar.
void say_finding(const Monitor::Finding& f) {
  if (f.severity == Severity::info) return;
  fmt::print(stderr, "{}{}: {}\n", isatty(2) ? "\r\x1b[K" : "", f.severity == Severity::fault ? "fault" : "warning", to_string(f));
  std::fflush(stderr);
}
/// What a watched run ends with.
std::string watched(const train::Watch& w, int64_t faults, int64_t warnings, const std::string& out) {
  if (!w) return {};
  const auto amount = [](int64_t n, const char* what) { return fmt::format("{} {}{}", n, what, n == 1 ? "" : "s"); };
  return fmt::format("\nmonitor: {}, {}; `keel monitor {}` tells the story{}", amount(faults, "fault"), amount(warnings, "warning"), out,
                     faults ? fmt::format(", {}/post_mortem.txt the details", out) : "");
}

/// The config.json of a run that is to go on.
RunConfig resumed_config(const TrainOptions& o) {
  if (!exists(o.out + "/checkpoint.keel")) usage_error("--resume: there is no checkpoint in " + o.out);
  return RunConfig(o.out);
}

/// Ends a run: what it leaves, what it says, and the exit code.
int finish(const TrainOptions& o, const json& summary, int64_t steps, bool interrupted, const std::string& said) {
  write_json(o.out + "/trainer_state.json", summary);
  if (o.json_lines) fmt::print("{}\n", summary.dump());
  else if (interrupted) fmt::print("interrupted after step {}; the same command with --resume goes on\n", steps);
  else fmt::print("{}\n", said);
  return interrupted ? kInterrupted : kOk;
}

template <class Model>
int fit_images(Model& net, const TrainOptions& o, const ImageSets& sets) {
  data::Loader batches(sets.train, {.batch_size = o.batch, .shuffle = true, .workers = 1}), held_out(sets.test, {.batch_size = 500});
  net.to(device(o.device));
  const bool low = o.dtype == "bf16";
  optim::Adam opt(net.parameters(), {.lr = o.lr, .master_weights = low});
  if (low) net.to(bf16);
  train::Trainer trainer(net, opt, nn::CrossEntropyLoss());
  if (o.resume) trainer.resume(o.out);
  train::FitOptions fit{.epochs = o.epochs,
                        .run_dir = o.out,
                        .monitor = watch(o),
                        .progress = !o.no_progress && !o.json_lines,
                        .compile = o.compile,
                        .checkpoint_steps = o.checkpoint_steps};
  fit.on_finding = &say_finding;
  drop_rate_after(fit, opt, o.lr_drop);
  fit.on_step = [](int64_t step, double loss) { return check_loss(step, loss), true; };
  fit.on_epoch = [&](const train::EpochResult& e) {
    if (o.json_lines)
      fmt::print("{}\n", json{{"epoch", e.epoch},
                              {"train_loss", number(e.train_loss)},
                              {"loss", number(e.loss)},
                              {"accuracy", number(e.accuracy)},
                              {"seconds", e.seconds},
                              {"examples_per_second", e.examples_per_second}}
                             .dump());
    else if (o.no_progress || !isatty(2))
      fmt::print("epoch {}: train loss {:.4f}, held out loss {:.4f}, accuracy {:.4f}, {:.1f} s\n", e.epoch, e.train_loss, e.loss,
                 e.accuracy, e.seconds);
    std::fflush(stdout);
  };
  const train::Result r = trainer.fit(batches, held_out, fit);
  save(o.out + "/model.safetensors", net.state_dict());
  const bool measured = !r.epochs.empty();
  return finish(
      o,
      {{"dataset", sets.name},
       {"model", o.model},
       {"parameters", net.num_parameters()},
       {"epochs", r.epochs.size()},
       {"accuracy", measured ? number(r.accuracy) : json(nullptr)},
       {"loss", measured ? number(r.loss) : json(nullptr)},
       {"seconds_train", r.seconds},
       {"steps", r.steps},
       {"interrupted", r.interrupted},
       {"faults", r.faults},
       {"warnings", r.warnings},
       {"checkpoint", o.out + "/checkpoint.keel"}},
      r.steps, r.interrupted,
      fmt::format("{}: accuracy {:.4f} on held-out data after {} epochs; written to {}", o.model, r.accuracy, r.epochs.size(), o.out) +
          watched(watch(o), r.faults, r.warnings, o.out));
}

int train_mnist(TrainOptions o, bool model_given) {
  if (o.threads > 0) set_num_threads(o.threads);
  if (o.resume) {
    if (o.out.empty()) o.out = "runs/mnist-" + o.model;
    const RunConfig config = resumed_config(o);
    const std::string held = config.model();
    if (!is_image_model(held)) usage_error("--resume: " + o.out + " holds a model of kind '" + held + "'");
    if (model_given && held != o.model) usage_error("--resume: " + o.out + " holds a model of kind '" + held + "', not " + o.model);
    o.model = held, o.dtype = config.text("dtype", "f32");
  }
  if (o.dtype != "f32" && !o.model.starts_with("resnet")) usage_error("--dtype " + o.dtype + ": " + o.model + " is trained in f32");
  if (o.out.empty()) o.out = "runs/mnist-" + o.model;
  if (o.data_given && !exists(o.data + "/mnist")) usage_error("--data " + o.data + ": there is no folder mnist/ in it");
  manual_seed(uint64_t(o.seed));
  make_folder(o.out);
  const ImageSets sets = image_sets(o.data, o.json_lines);
  if (!o.resume) begin_run(o.out, {{"model", o.model}, {"dtype", o.dtype}, {"dataset", sets.name}, {"keel", version()}});
  return with_image_model(o.model, [&](auto net) { return fit_images(net, o, sets); });
}

int train_char_gpt(TrainOptions o, const CLI::App& given) {
  if (o.threads > 0) set_num_threads(o.threads);
  if (o.out.empty()) o.out = "runs/char-gpt";
  std::string characters;
  if (o.resume) {
    const RunConfig config = resumed_config(o);
    if (config.model() != "char-gpt") usage_error("--resume: " + o.out + " holds a model of kind '" + config.model() + "', not char-gpt");
    characters = config.text("characters");
    for (auto [name, value] :
         {std::pair<const char*, int64_t*>{"layers", &o.layers}, {"width", &o.width}, {"heads", &o.heads}, {"context", &o.context}}) {
      const auto held = config.count(name);
      if (given.count("--" + std::string(name)) && held != *value)
        usage_error(fmt::format("--{} {}: the model in {} was made with {}", name, *value, o.out, held));
      *value = held;
    }
  }
  if (o.width % o.heads) usage_error(fmt::format("--heads {}: must divide --width {}", o.heads, o.width));
  make_folder(o.out);
  const CharGptOptions run{.text = o.text,
                           .out = o.out,
                           .iterations = o.iterations,
                           .layers = o.layers,
                           .width = o.width,
                           .heads = o.heads,
                           .context = o.context,
                           .batch = o.batch,
                           .seed = o.seed,
                           .checkpoint_steps = o.checkpoint_steps,
                           .lr = o.lr,
                           .weight_decay = o.weight_decay,
                           .device = o.device,
                           .monitor = watch(o),
                           .on_finding = &say_finding,
                           .progress = !o.no_progress && !o.json_lines,
                           .resume = o.resume,
                           .characters = characters};
  const CharGptRun r = fit_char_gpt(run, [&](const CharGptStep& s) {
    if (o.json_lines)
      fmt::print("{}\n",
                 json{{"step", s.step}, {"train_loss", number(s.train)}, {"loss", number(s.held_out)}, {"seconds", s.seconds}}.dump());
    else if (o.no_progress || !isatty(2))
      fmt::print("step {:5d}/{}: {}held out loss {:.4f}, {:.1f} s\n", s.step, o.iterations,
                 std::isnan(s.train) ? "" : fmt::format("train loss {:.4f}, ", s.train), s.held_out, s.seconds);
    std::fflush(stdout);
  });
  return finish(
      o,
      {{"model", "char-gpt"},
       {"parameters", r.parameters},
       {"iterations", o.iterations},
       {"loss", r.interrupted ? json(nullptr) : number(r.loss)},
       {"best_loss", number(r.best)},
       {"seconds_train", r.seconds},
       {"steps", r.steps},
       {"interrupted", r.interrupted},
       {"faults", r.faults},
       {"warnings", r.warnings},
       {"checkpoint", o.out + "/checkpoint.keel"}},
      r.steps, r.interrupted,
      fmt::format("held out loss {:.4f} after {} steps; written to {}. `keel sample {}` writes text", r.loss, r.steps, o.out, o.out) +
          watched(watch(o), r.faults, r.warnings, o.out));
}

}  // namespace

void add_train(CLI::App& root, Outcome& out) {
  auto* train = root.add_subcommand("train", "Train a model");
  train->require_subcommand(1);
  auto o = std::make_shared<TrainOptions>();
  auto common = [o](CLI::App* a, const char* folder) {
    a->add_option("--out", o->out, std::string("Folder for checkpoint, model, charts [") + folder + "]");
    a->add_flag("--resume", o->resume, "Go on from the checkpoint in --out");
    a->add_option("--checkpoint-steps", o->checkpoint_steps, "Also write a checkpoint every so many steps")->check(whole(1));
    a->add_option("--lr", o->lr, "Learning rate")->check(positive())->capture_default_str();
    a->add_option("--seed", o->seed, "Seed of weights, order and dropout")->check(whole(0))->capture_default_str();
    a->add_option("--device", o->device, "cpu, cuda, cuda:N or auto")->check(device_name())->capture_default_str();
    a->add_option("--threads", o->threads, "Threads; 0: all cores")->check(whole(0, 1024));
    a->add_flag("--json", o->json_lines, "One JSON object a line on stdout");
    a->add_flag("--monitor", o->monitor, "Watch every op; findings go to monitor.jsonl");
    a->add_option("--break-on", o->break_on, "Watch, and stop at the first: warning, nan or nonfinite")
        ->check(CLI::IsMember({"warning", "nan", "nonfinite"}));
    a->add_flag("--break-on-instability", o->break_on_instability, "The same as --break-on warning");
    a->add_option("--max-ulp-drift", o->max_ulp_drift, "Watch, and warn where rounding costs more units in the last place [1000]")
        ->check(positive());
    a->add_flag("--no-progress", o->no_progress, "No bar");
  };
  auto* mnist = train->add_subcommand("mnist", "Handwritten digits; drawn ones where there is no MNIST");
  auto* model =
      mnist->add_option("--model", o->model, "mlp (101,770 parameters), cnn (44,426), resnet18 (11.2 million) or resnet50 (23.5 million)")
          ->check(CLI::IsMember(image_models()))
          ->capture_default_str();
  auto* data = mnist->add_option("--data", o->data, "Folder with mnist/")->check(CLI::ExistingDirectory)->capture_default_str();
  mnist->add_option("--epochs", o->epochs, "Epochs in all, those before a resume included")->check(whole(1))->capture_default_str();
  mnist->add_option("--batch-size", o->batch, "Examples a batch")->check(whole(1))->capture_default_str();
  mnist->add_option("--lr-drop", o->lr_drop, "Epochs after which the learning rate falls to a tenth; 0: never")
      ->check(whole(0))
      ->capture_default_str();
  mnist->add_option("--dtype", o->dtype, "f32, or bf16 with f32 masters in the optimiser, for the residual networks")
      ->check(CLI::IsMember({"f32", "bf16"}))
      ->capture_default_str();
  mnist->add_flag("--compile", o->compile, "Record a step once and replay it, captured on a GPU: the same bits in less time");
  common(mnist, "runs/mnist-MODEL");
  mnist->callback([o, model, data, &out] {
    o->data_given = data->count() > 0;
    out.code = train_mnist(*o, model->count() > 0);
  });
  auto* gpt = train->add_subcommand("char-gpt", "A small transformer on the characters of a text");
  gpt->add_option("--text", o->text, "The text, in UTF-8")->required()->check(CLI::ExistingFile);
  gpt->add_option("--iterations", o->iterations, "Steps in all, those before a resume included")->check(whole(1))->capture_default_str();
  gpt->add_option("--layers", o->layers, "Blocks")->check(whole(1))->capture_default_str();
  gpt->add_option("--width", o->width, "Width")->check(whole(1))->capture_default_str();
  gpt->add_option("--heads", o->heads, "Heads; must divide the width")->check(whole(1))->capture_default_str();
  gpt->add_option("--context", o->context, "Characters seen at once")->check(whole(1))->capture_default_str();
  auto* windows = gpt->add_option("--batch-size", o->batch, "Windows a batch [12]")->check(whole(1));
  common(gpt, "runs/char-gpt");
  gpt->callback([o, gpt, windows, &out] {
    if (windows->count() == 0) o->batch = 12;
    out.code = train_char_gpt(*o, *gpt);
  });
}

}  // namespace keel::app
