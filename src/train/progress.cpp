#include "train/progress.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>

namespace keel::train {

ProgressBar::ProgressBar(bool wanted, std::string label, int64_t total, int64_t done)
    : on_(wanted && isatty(2)), label_(std::move(label)), total_(total), first_(done), begin_(std::chrono::steady_clock::now()) {}

void ProgressBar::update(int64_t done, double loss, double rate) {
  if (!on_) return;
  const auto now = std::chrono::steady_clock::now();
  if (now - drawn_ < std::chrono::milliseconds(100) && done < total_) return;
  drawn_ = now;
  constexpr int kWidth = 28;
  const double share = total_ > 0 ? double(done) / double(total_) : 1, seconds = std::chrono::duration<double>(now - begin_).count();
  const int full = int(share * kWidth);
  std::string bar;
  for (int i = 0; i < kWidth; ++i) bar += i < full ? "█" : i == full ? "▌" : " ";
  const double left = done > first_ ? seconds / double(done - first_) * double(total_ - done) : 0;
  std::fprintf(stderr, "\r%s %3d%%|%s| %lld/%lld [%d:%02d<%d:%02d, %.0f ex/s] loss %.4f\x1b[K", label_.c_str(), int(share * 100), bar.c_str(), static_cast<long long>(done),
               static_cast<long long>(total_), int(seconds) / 60, int(seconds) % 60, int(left) / 60, int(left) % 60, rate, loss);
  std::fflush(stderr);
}

void ProgressBar::finish(const std::string& text) {
  if (on_) std::fprintf(stderr, "\r%s\x1b[K\n", text.c_str());
}

}  // namespace keel::train
