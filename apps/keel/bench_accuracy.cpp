// What networks reach when trained by the recipe that the peers use: MNIST on its 10,000 test images, a character model on held-out text.
#include <memory>

#include "bench.h"

namespace keel::app {
namespace {

struct AccuracyOptions {
  std::string only, data = data_folder();
  int64_t seeds = 3, epochs = 10, iterations = 2000, threads = 0, lr_drop = 8;
  bool as_json = false;
};

struct Rows {
  const AccuracyOptions& o;
  bool wanted(const std::string& name) const { return o.only.empty() || name.find(o.only) != std::string::npos; }
  void note(const std::string& text) const {
    if (!o.as_json) fmt::print("  {}\n", text), std::fflush(stdout);
  }
  /// Of the values, one a seed: the mean, and whether it meets the mark.
  void emit(const std::string& name, const char* unit, const std::vector<double>& values, double best, double mark, bool higher) const {
    double mean = 0;
    for (double v : values) mean += v / double(values.size());
    if (o.as_json)
      fmt::print("{}\n", json{{"name", name},
                              {"unit", unit},
                              {"best", best},
                              {"median", mean},
                              {"mean", mean},
                              {"values", values},
                              {"n", values.size()},
                              {"threads", num_threads()},
                              {"mark", number(mark)}}
                             .dump());
    else if (mark == mark)
      fmt::print("{}: mean of {} seeds {:.4f} (mark {:g}: {})\n", name, values.size(), mean, mark,
                 (higher ? mean >= mark : mean <= mark) ? "met" : "missed");
    else
      fmt::print("{}: {:.3f} {} (mean {:.3f})\n", name, best, unit, mean);
    std::fflush(stdout);
  }
};

/// Fractions of the test images that are told right, one a seed; Adam, shuffled batches of 64, nothing else but the drop of the rate.
template <class Make>
void mnist_rows(const Rows& r, const std::string& model, double mark, const Make& make) {
  const std::string name = "MNIST " + model;
  if (!r.wanted(name)) return;
  const ImageSets sets = image_sets(r.o.data, false);
  if (sets.name != "mnist") return r.note("no MNIST in " + r.o.data + ": " + name + " left out");
  std::vector<double> reached, seconds;
  for (int64_t seed = 0; seed < r.o.seeds; ++seed) {
    manual_seed(uint64_t(seed));
    auto net = make();
    data::Loader batches(sets.train, {.batch_size = 64, .shuffle = true, .workers = 1, .seed = seed}),
        held_out(sets.test, {.batch_size = 500});
    optim::Adam opt(net.parameters(), {.lr = 1e-3});
    train::Trainer trainer(net, opt, nn::CrossEntropyLoss());
    train::FitOptions fit{.epochs = r.o.epochs, .progress = false};
    drop_rate_after(fit, opt, r.o.lr_drop);
    const train::Result result = trainer.fit(batches, held_out, fit);
    std::string path;
    for (const train::EpochResult& e : result.epochs) seconds.push_back(e.seconds), path += fmt::format(" {:.4f}", e.accuracy);
    reached.push_back(result.accuracy);
    r.note(fmt::format("{}, seed {}: {:.4f} of {} images ({} parameters, {:.1f} s); by epoch{}", name, seed, result.accuracy,
                       sets.test.size(), net.num_parameters(), result.seconds, path));
  }
  std::sort(seconds.begin(), seconds.end());
  r.emit(name + " epoch b64 adam", "s", seconds, seconds.front(), NAN, false);
  r.emit(fmt::format("{} accuracy after {} epochs", name, r.o.epochs), "", reached, *std::max_element(reached.begin(), reached.end()), mark,
         true);
}

void gpt_row(const Rows& r) {
  const std::string text = r.o.data + "/tinyshakespeare/input.txt";
  if (!r.wanted("char-GPT")) return;
  if (!exists(text)) return r.note("no " + text + ": char-GPT left out");
  std::vector<double> reached;
  for (int64_t seed = 0; seed < r.o.seeds; ++seed) {
    const CharGptRun g = fit_char_gpt({.text = text, .iterations = r.o.iterations, .seed = seed});
    reached.push_back(g.loss);
    r.note(fmt::format("char-GPT 4x128, seed {}: held-out loss {:.4f} after {} steps ({} parameters, {:.1f} s)", seed, g.loss,
                       r.o.iterations, g.parameters, g.seconds));
  }
  r.emit(fmt::format("char-GPT 4x128 tinyshakespeare loss after {} steps", r.o.iterations), "nats", reached,
         *std::min_element(reached.begin(), reached.end()), 1.88, false);
}

int bench_accuracy(const AccuracyOptions& o) {
  if (o.threads > 0) set_num_threads(o.threads);
  if (!o.as_json)
    fmt::print("{}, {}, {} threads; the rate drops after {} epochs of MNIST (0: never)\n", cpu_info().name, cpu_info().isa, num_threads(),
               o.lr_drop);
  const Rows r{o};
  mnist_rows(r, "MLP", 0.976, [] { return mlp(); });
  mnist_rows(r, "CNN", 0.989, [] { return LeNet(); });
  gpt_row(r);
  return kOk;
}

}  // namespace

void mnist_rows_of_peers(const std::string& data, bool as_json) {
  AccuracyOptions o;
  o.data = data, o.as_json = as_json, o.seeds = 1, o.lr_drop = 0;
  mnist_rows({o}, "MLP", NAN, [] { return mlp(); });
  mnist_rows({o}, "CNN", NAN, [] { return LeNet(); });
}

void add_bench_accuracy(CLI::App& bench, Outcome& out) {
  auto o = std::make_shared<AccuracyOptions>();
  auto* a = bench.add_subcommand("accuracy", "What MNIST MLP and CNN and the character model reach, mean of several seeds; minutes");
  const std::vector<std::string> rows{"MNIST MLP", "MNIST CNN", "char-GPT"};
  a->add_option("--only", o->only, fmt::format("Rows whose name holds this: {}", fmt::join(rows, ", ")))->check(part_of_a_name(rows));
  a->add_option("--data", o->data, "Folder with mnist/ and tinyshakespeare/")->capture_default_str();
  a->add_option("--seeds", o->seeds, "Runs a row, with seeds 0, 1 ...")->check(whole(1))->capture_default_str();
  a->add_option("--epochs", o->epochs, "Epochs of the MNIST rows")->check(whole(1))->capture_default_str();
  a->add_option("--lr-drop", o->lr_drop, "MNIST: epochs after which the learning rate falls to a tenth; 0: never, as in the peers")
      ->capture_default_str();
  a->add_option("--iterations", o->iterations, "Steps of the character model")->check(whole(1))->capture_default_str();
  a->add_option("--threads", o->threads, "Threads; 0: all cores")->check(whole(0, 1024));
  a->add_flag("--json", o->as_json, "One JSON object a line");
  a->callback([o, &out] { out.code = bench_accuracy(*o); });
}

}  // namespace keel::app
