#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "keel/base/result.h"

#pragma GCC visibility push(default)
namespace keel::io {

/// Writes what TensorBoard shows: one file `events.out.tfevents.<time>.<host>.<pid>` of records in TFRecord framing. Records are kept in
/// memory until 64 KiB are full, `flush` or destruction. Not thread-safe.
class EventWriter {
 public:
  /// Makes the folder where it is missing. `suffix` is appended to the file name.
  static Result<EventWriter> open(const std::string& folder, std::string_view suffix = {});
  EventWriter(EventWriter&& o) noexcept;
  EventWriter& operator=(EventWriter&&) = delete;
  ~EventWriter();

  /// `wall_time` is in seconds since 1970; below zero it is now.
  void scalar(std::string_view tag, double value, int64_t step, double wall_time = -1);
  /// The distribution of `values`, in buckets a tenth apart; values that are not finite are left out.
  void histogram(std::string_view tag, std::span<const float> values, int64_t step, double wall_time = -1);
  void histogram(std::string_view tag, std::span<const double> values, int64_t step, double wall_time = -1);
  /// An image that is a PNG file already; `channels` is 1 (grey), 2 (grey, alpha), 3 (RGB) or 4 (RGBA).
  void image(std::string_view tag, std::string_view png, int64_t width, int64_t height, int64_t channels, int64_t step,
             double wall_time = -1);
  /// Markdown.
  void text(std::string_view tag, std::string_view markdown, int64_t step, double wall_time = -1);

  /// Hands all records to the system. Reports the first failure of this or an earlier write.
  Result<void> flush();
  const std::string& path() const { return path_; }

 private:
  EventWriter() = default;
  void event(std::string_view field, int64_t step, double wall_time);
  void summary(std::string_view value, int64_t step, double wall_time);
  std::string path_, buffer_, error_;
  int fd_ = -1;
};

/// A PNG file of 8-bit pixels, rows from the top, `channels` (1 to 4) values a pixel; empty where the size of `pixels` does not fit.
std::string encode_png(std::span<const uint8_t> pixels, int64_t width, int64_t height, int64_t channels);

}  // namespace keel::io
#pragma GCC visibility pop
