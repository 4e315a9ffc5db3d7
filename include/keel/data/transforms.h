#pragma once
#include "keel/data/dataset.h"

#pragma GCC visibility push(default)
/// What to do to the images of a batch, f32[n, c, h, w], on their way to a model: `set.map(data::normalise(0.13, 0.31))`. Random ones draw by seed, epoch and example, so that a run repeats at any number of workers.
namespace keel::data {

using Transform = Callback<Batch(Batch, const Fetch&)>;

/// (x - mean) / stddev, one value for all channels or one a channel.
Transform normalise(double mean, double stddev);
Transform normalise(std::vector<double> mean, std::vector<double> stddev);
/// Mirrors left and right with probability p.
Transform random_flip(double p = 0.5);
/// Shifts by up to `padding` pixels in each direction; zeros come in.
Transform random_crop(int64_t padding);
/// Rotates by up to `degrees`, shifts by up to `shift` (share of the extent), scales within 1 +- `scale`; bilinear, zeros outside.
Transform random_affine(double degrees, double shift = 0, double scale = 0);
/// Multiplies by 1 +- `contrast` about the image's mean, then adds up to +- `brightness`.
Transform jitter(double brightness, double contrast);
/// Adds normal noise.
Transform noise(double stddev);
/// One after the other.
Transform compose(std::vector<Transform> all);

}  // namespace keel::data
#pragma GCC visibility pop
