#pragma once
// Folders that `train` writes and the other verbs read.
#include "common.h"
#include "models.h"

namespace keel::app {

struct ImageSets {
  std::string name;
  data::Dataset train, test;
};
/// MNIST from data/mnist, or drawn digits where it is missing.
ImageSets image_sets(const std::string& data, bool quiet);
/// Makes a folder and those above it; an error where nothing can be written there.
void make_folder(const std::string& dir);
/// Lets the learning rate fall to a tenth after `epoch` epochs; 0: never. What a run does in an epoch does not depend on how many follow.
void drop_rate_after(train::FitOptions& fit, const optim::Optimizer& opt, int64_t epoch);

/// Makes the folder of a run ready for one from the start, with its config.json. A checkpoint that is there stays, under another name.
void begin_run(const std::string& dir, const json& config);
/// The config.json of a run's folder. What `train` would not have written there is an error that names the file.
class RunConfig {
 public:
  explicit RunConfig(const std::string& dir);
  std::string model() const { return text("model"); }
  std::string text(const char* name) const;
  std::string text(const char* name, const char* otherwise) const { return values_.contains(name) ? text(name) : otherwise; }
  int64_t count(const char* name) const;  // at least 1

 private:
  [[noreturn]] void refuse(const std::string& why) const;
  std::string file_;
  json values_;
};
/// NumericalError where a loss is not finite.
void check_loss(int64_t step, double loss);

/// A run on the characters of a text: the last tenth of it is held out, lr rises for 100 steps and falls along a cosine to a tenth, the
/// gradient's norm is clipped at 1.
struct CharGptOptions {
  [[no_unique_address]] ByName by_name = ByName();
  std::string text = {}, out = {};  // an empty `out`: nothing is written
  int64_t iterations = 2000, layers = 4, width = 128, heads = 4, context = 64, batch = 12, seed = 0, checkpoint_steps = 0;
  double lr = 1e-3, weight_decay = 0.1;
  std::string device = "cpu";
  train::Watch monitor = false;
  void (*on_finding)(const Monitor::Finding&) = nullptr;
  bool progress = false;
  bool resume = false;          // go on from the checkpoint in `out`,
  std::string characters = {};  // with its vocabulary
};
struct CharGptRun {
  int64_t parameters = 0, steps = 0;
  double loss = 0, best = 0, seconds = 0;  // losses on held-out text
  bool interrupted = false;
  int64_t faults = 0, warnings = 0;
};
struct CharGptStep {
  int64_t step;
  double train, held_out, seconds;  // train: NaN at the end of a run that is no multiple of the interval
};
/// `on_step` is told of every measurement on held-out text.
CharGptRun fit_char_gpt(const CharGptOptions& o, const Callback<void(const CharGptStep&)>& on_step = {});

/// A text in UTF-8; an error where the file holds something else.
std::string read_corpus(const std::string& path);
/// Windows of a text and the characters that follow: random ones from its first nine tenths, and those of the rest in order, 640 at most.
struct TextSets {
  data::Dataset train, held_out;
};
TextSets text_sets(const text::CharTokenizer& chars, const std::string& corpus, const std::string& name, int64_t context,
                   int64_t train_windows);

/// A trained image model of a run folder, ready to predict.
struct ImageModel {
  std::string name, dataset;
  Callback<Tensor(const Tensor&)> predict;
};
ImageModel load_image_model(const std::string& dir);
/// Weights of a run: model.safetensors, or those in the checkpoint of a run that did not end.
StateDict run_weights(const std::string& dir);
/// Rows of text that show a 28x28 image in [0, 1].
std::vector<std::string> picture(const Tensor& image);

}  // namespace keel::app
