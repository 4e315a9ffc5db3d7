#include <spawn.h>
#include <sys/wait.h>

#include <cmath>
#include <filesystem>
#include <unistd.h>

#include <memory>

#include "runs.h"

extern char** environ;

namespace keel::app {
namespace {

struct DemoOptions {
  std::string out = "runs/demo", data = data_folder();
  int64_t epochs = 3, seed = 0;
  bool no_progress = false;
};

/// Runs this program again with other arguments; its exit code.
int run_self(const std::vector<std::string>& args) {
  std::vector<char*> argv;
  std::string self = "/proc/self/exe";
  argv.push_back(self.data());
  std::vector<std::string> copy = args;
  for (std::string& a : copy) argv.push_back(a.data());
  argv.push_back(nullptr);
  pid_t pid = 0;
  if (posix_spawn(&pid, self.c_str(), nullptr, nullptr, argv.data(), environ) != 0) return kFailed;
  int status = 0;
  waitpid(pid, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : kFailed;
}

/// Takes away what an earlier demo left for TensorBoard, which would draw both as one curve.
void remove_events(const std::string& folder) {
  std::error_code none;
  for (const auto& f : std::filesystem::directory_iterator(folder, none))
    if (f.path().filename().string().starts_with("events.out.tfevents.")) std::filesystem::remove(f.path(), none);
}

int demo(const DemoOptions& o) {
  manual_seed(uint64_t(o.seed));
  const Cpu cpu = cpu_info();
  const ImageSets sets = image_sets(o.data, false);
  make_folder(o.out);
  remove_events(o.out);
  LeNet net;
  fmt::print("keel {}: LeNet, {} parameters, on {} ({} training and {} held-out images)\n{}, kernels for {}, {} threads\n\n", version(),
             net.num_parameters(), sets.name, sets.train.size(), sets.test.size(), cpu.name, cpu.isa, num_threads());
  std::fflush(stdout);
  data::Loader batches(sets.train, {.batch_size = 64, .shuffle = true, .workers = 1}), held_out(sets.test, {.batch_size = 500});
  optim::Adam opt(net.parameters(), {.lr = 1e-3});
  train::Trainer trainer(net, opt, nn::CrossEntropyLoss());
  train::FitOptions fit{.epochs = o.epochs, .run_dir = o.out, .monitor = true, .progress = !o.no_progress,
                        .schedule = optim::CosineAnnealing(opt, {.total_steps = o.epochs * batches.size(), .min_lr = 1e-5})};
  const bool terminal = isatty(2);
  fit.on_epoch = [&](const train::EpochResult& e) {
    if (!terminal || o.no_progress)
      fmt::print("epoch {}/{}: train loss {:.4f}, held-out loss {:.4f}, accuracy {:.4f}, {:.1f} s\n", e.epoch, o.epochs, e.train_loss,
                 e.loss, e.accuracy, e.seconds);
    std::fflush(stdout);
  };
  const train::Result r = trainer.fit(batches, held_out, fit);
  if (r.interrupted) {
    fmt::print("interrupted; the checkpoint is in {}\n", o.out);
    return kInterrupted;
  }
  save(o.out + "/model.safetensors", net.state_dict());
  write_json(o.out + "/config.json", {{"model", "cnn"}, {"dataset", sets.name}, {"keel", version()}});
  const double rate = r.seconds > 0 ? double(sets.train.size() * o.epochs) / r.seconds : 0;
  write_json(o.out + "/summary.json", {{"dataset", sets.name},
                                       {"model", "LeNet"},
                                       {"parameters", net.num_parameters()},
                                       {"epochs", r.epochs.size()},
                                       {"accuracy", number(r.accuracy)},
                                       {"seconds_train", r.seconds},
                                       {"images_per_second", rate},
                                       {"peak_rss_bytes", peak_rss_bytes()},
                                       {"checkpoint", o.out + "/checkpoint.keel"},
                                       {"cpu", cpu.name},
                                       {"isa", cpu.isa},
                                       {"threads", num_threads()}});
  fmt::print("\naccuracy {:.4f} on held-out images; {:.1f} s of training, {:.0f} images a second\n\nloaded again in a new process:\n\n",
             r.accuracy, r.seconds, rate);
  std::fflush(stdout);
  std::vector<std::string> predict{"predict", o.out, "--count", "3"};
  if (exists(o.data)) predict.insert(predict.end(), {"--data", o.data});  // without the folder both draw their digits
  if (const int code = run_self(predict); code != kOk) return code;
  fmt::print("left in {}: checkpoint.keel, model.safetensors, summary.json, monitor.jsonl, loss.svg and TensorBoard events\n", o.out);
  return kOk;
}

}  // namespace

void add_demo(CLI::App& root, Outcome& out) {
  auto* a = root.add_subcommand("demo", "Train a small network, save it, load it in a new process and predict");
  auto o = std::make_shared<DemoOptions>();
  a->add_option("--out", o->out, "Folder for what it leaves")->capture_default_str();
  a->add_option("--data", o->data, "Folder with mnist/; drawn digits where it is missing")
      ->check(CLI::ExistingDirectory)
      ->capture_default_str();
  a->add_option("--epochs", o->epochs, "Epochs")->check(whole(1))->capture_default_str();
  a->add_option("--seed", o->seed, "Seed")->check(whole(0))->capture_default_str();
  a->add_flag("--no-progress", o->no_progress, "No bar");
  a->callback([o, &out] { out.code = demo(*o); });
}

}  // namespace keel::app
