#pragma once
#include <chrono>
#include <cstdint>
#include <string>

namespace keel::train {

/// A bar on stderr: position, rate, time left, loss. Silent where stderr is no terminal. Redraws at most ten times a second.
class ProgressBar {
 public:
  ProgressBar(bool wanted, std::string label, int64_t total, int64_t done);
  void update(int64_t done, double loss, double examples_per_second);
  /// Ends the line with a last text.
  void finish(const std::string& text);

 private:
  bool on_;
  std::string label_;
  int64_t total_, first_;
  std::chrono::steady_clock::time_point begin_, drawn_{};
};

}  // namespace keel::train
