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

/// A trained image model of a run folder, ready to predict.
struct ImageModel {
  std::string name, dataset;
  Callback<Tensor(const Tensor&)> predict;
};
ImageModel load_image_model(const std::string& dir);
/// Rows of text that show a 28x28 image in [0, 1].
std::vector<std::string> picture(const Tensor& image);

}  // namespace keel::app
