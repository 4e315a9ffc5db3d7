#pragma once
// What the measuring verbs share.
#include <algorithm>
#include <chrono>

#include "runs.h"

namespace keel::app {

using Clock = std::chrono::steady_clock;

/// One training step on a batch that stays the same.
template <class Model, class Opt>
auto step_of(Model& net, Opt& opt, const Tensor& x, const Tensor& y) {
  return [&net, &opt, x, y] {
    opt.zero_grad();
    const Tensor loss = cross_entropy(net(x), y);
    loss.backward();
    opt.step();
  };
}

/// The value below which the share `q` of the sorted ones lies.
inline double quantile(const std::vector<double>& sorted, double q) {
  return sorted[std::min(sorted.size() - 1, size_t(q * double(sorted.size())))];
}

/// The peers' accuracy rows, by their recipe: one seed, the rate as it is.
void mnist_rows_of_peers(const std::string& data, bool as_json);
void add_bench_monitor(CLI::App& bench, Outcome& out);
void add_bench_accuracy(CLI::App& bench, Outcome& out);
void add_bench_faults(CLI::App& bench, Outcome& out);
void add_bench_model(CLI::App& bench, Outcome& out);
void add_bench_curve(CLI::App& bench, Outcome& out);

}  // namespace keel::app
