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
void make_folder(const std::string& dir);

/// A run on the characters of a text: the last tenth of it is held out, lr rises for 100 steps and falls along a cosine to a tenth, the gradient's norm is clipped at 1.
struct CharGptOptions {
  [[no_unique_address]] ByName by_name = ByName();
  std::string text = {}, out = {};  // an empty `out`: nothing is written
  int64_t iterations = 2000, layers = 4, width = 128, heads = 4, context = 64, batch = 12, seed = 0;
  double lr = 1e-3, weight_decay = 0.1;
  bool monitor = false;
};
struct CharGptRun {
  int64_t parameters = 0;
  double loss = 0, best = 0, seconds = 0;  // losses on held-out text
};
struct CharGptStep {
  int64_t step;
  double train, held_out, seconds;  // held_out: NaN where it was not measured
};
CharGptRun fit_char_gpt(const CharGptOptions& o, const Callback<void(const CharGptStep&)>& on_step = {});
json summary(const CharGptOptions& o, const CharGptRun& r);

/// A trained image model of a run folder, ready to predict.
struct ImageModel {
  std::string name, dataset;
  Callback<Tensor(const Tensor&)> predict;
};
ImageModel load_image_model(const std::string& dir);
/// Rows of text that show a 28x28 image in [0, 1].
std::vector<std::string> picture(const Tensor& image);

}  // namespace keel::app
