// Event files as tensorboard/compat/proto defines them: protocol buffers written by hand. Field numbers:
//   Event          1 wall_time (double)  2 step (int64)  3 file_version (string)  5 summary
//   Summary        1 value (repeated)
//   Summary.Value  1 tag  2 simple_value (float)  4 image  5 histo  8 tensor  9 metadata
//   Image          1 height  2 width  3 colorspace  4 encoded_image_string
//   Histogram      1 min  2 max  3 num  4 sum  5 sum_squares  6 bucket_limit (packed doubles)  7 bucket (packed doubles)
//   TensorProto    1 dtype  2 tensor_shape  8 string_val        TensorShape  2 dim        Dim  1 size
//   Metadata       1 plugin_data        PluginData  1 plugin_name
#include "keel/io/tensorboard.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstring>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/crc32c.h"
#include "io/bytes.h"

namespace keel::io {
namespace {

class Message {
 public:
  Message& varint(int field, uint64_t v) {
    head(field, 0);
    return raw(v);
  }
  Message& number(int field, double v) {
    head(field, 1);
    append_le(text_, std::bit_cast<uint64_t>(v));
    return *this;
  }
  Message& number32(int field, float v) {
    head(field, 5);
    append_le(text_, std::bit_cast<uint32_t>(v));
    return *this;
  }
  Message& bytes(int field, std::string_view v) {
    head(field, 2);
    raw(v.size());
    text_ += v;
    return *this;
  }
  Message& message(int field, const Message& m) { return bytes(field, m.text_); }
  Message& packed(int field, const std::vector<double>& values) {
    head(field, 2);
    raw(values.size() * 8);
    for (const double v : values) append_le(text_, std::bit_cast<uint64_t>(v));
    return *this;
  }
  operator std::string_view() const { return text_; }

 private:
  void head(int field, unsigned wire) { raw(static_cast<uint64_t>(field) << 3 | wire); }
  Message& raw(uint64_t v) {
    for (; v >= 0x80; v >>= 7) text_ += static_cast<char>(v | 0x80);
    text_ += static_cast<char>(v);
    return *this;
  }
  std::string text_;
};

double now() { return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count(); }

bool make_folders(const std::string& path) {
  for (size_t at = 0; at != std::string::npos;) {
    at = path.find('/', at + 1);
    if (mkdir(path.substr(0, at).c_str(), 0777) != 0 && errno != EEXIST && errno != EISDIR) return false;
  }
  struct stat st {};
  if (stat(path.c_str(), &st) == 0 && S_ISDIR(st.st_mode)) return true;
  errno = ENOTDIR;
  return false;
}

// Upper ends of buckets: 1e-12 * 1.1^k for both signs, zero between them, and the largest double.
std::vector<double> bucket_limits() {
  std::vector<double> up;
  for (double v = 1e-12; v < 1e20; v *= 1.1) up.push_back(v);
  std::vector<double> all;
  for (size_t i = up.size(); i-- > 0;) all.push_back(-up[i]);
  all.push_back(0);
  all.insert(all.end(), up.begin(), up.end());
  all.push_back(1.7976931348623157e308);
  return all;
}

template <class T>
Message histogram_of(std::span<const T> values) {
  static const std::vector<double>* const limits = new std::vector<double>(bucket_limits());
  std::vector<double> counts(limits->size());
  double low = 1.7976931348623157e308, high = -low, sum = 0, squares = 0, n = 0;
  for (const T t : values) {
    const double v = t;
    if (!std::isfinite(v)) continue;
    low = std::min(low, v), high = std::max(high, v), sum += v, squares += v * v, ++n;
    ++counts[static_cast<size_t>(std::lower_bound(limits->begin(), limits->end(), v) - limits->begin())];
  }
  // Buckets from the one below the first that holds something to the last.
  size_t first = 0, last = counts.size();
  while (first < last && counts[first] == 0) ++first;
  while (last > first && counts[last - 1] == 0) --last;
  if (first > 0 && first < last) --first;
  if (n == 0) low = high = 0, first = 0, last = 1;
  Message m;
  m.number(1, low).number(2, high).number(3, n).number(4, sum).number(5, squares);
  m.packed(6, {limits->begin() + static_cast<ptrdiff_t>(first), limits->begin() + static_cast<ptrdiff_t>(last)});
  m.packed(7, {counts.begin() + static_cast<ptrdiff_t>(first), counts.begin() + static_cast<ptrdiff_t>(last)});
  return m;
}

}  // namespace

Result<EventWriter> EventWriter::open(const std::string& folder, std::string_view suffix) {
  if (!make_folders(folder)) return Failure{"cannot make folder " + folder + ": " + std::strerror(errno)};
  static std::atomic<int> opened{0};
  char host[256] = "localhost";
  gethostname(host, sizeof host - 1);
  const int nth = opened.fetch_add(1, std::memory_order_relaxed);  // several writers of one process in one second
  EventWriter w;
  w.path_ = folder + "/events.out.tfevents." + std::to_string(static_cast<int64_t>(now())) + "." + host + "." + std::to_string(getpid()) +
            (nth > 0 ? "." + std::to_string(nth) : "") + std::string(suffix);
  w.fd_ = ::open(w.path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (w.fd_ < 0) return Failure{"cannot write " + w.path_ + ": " + std::strerror(errno)};
  w.event(Message().bytes(3, "brain.Event:2"), 0, -1);
  const auto flushed = w.flush();
  if (!flushed) return flushed.failure();
  return w;
}

EventWriter::EventWriter(EventWriter&& o) noexcept
    : path_(std::move(o.path_)), buffer_(std::exchange(o.buffer_, {})), error_(std::move(o.error_)), fd_(std::exchange(o.fd_, -1)) {}

EventWriter::~EventWriter() {
  if (fd_ < 0) return;
  (void)flush().ok();
  close(fd_);
}

void EventWriter::event(std::string_view field, int64_t step, double wall_time) {
  Message head;
  head.number(1, wall_time < 0 ? now() : wall_time);
  if (step != 0) head.varint(2, static_cast<uint64_t>(step));
  const std::string data = std::string(std::string_view(head)) + std::string(field);
  std::string length;
  append_le(length, static_cast<uint64_t>(data.size()));
  buffer_ += length;
  append_le(buffer_, base::mask_crc32c(base::crc32c(length.data(), length.size())));
  buffer_ += data;
  append_le(buffer_, base::mask_crc32c(base::crc32c(data.data(), data.size())));
  if (buffer_.size() >= 65536) (void)flush().ok();  // a failure is kept for the caller's own flush
}

void EventWriter::summary(std::string_view value, int64_t step, double wall_time) {
  event(Message().message(5, Message().bytes(1, value)), step, wall_time);
}

void EventWriter::scalar(std::string_view tag, double value, int64_t step, double wall_time) {
  summary(Message().bytes(1, tag).number32(2, static_cast<float>(value)), step, wall_time);
}

void EventWriter::histogram(std::string_view tag, std::span<const float> values, int64_t step, double wall_time) {
  summary(Message().bytes(1, tag).message(5, histogram_of(values)), step, wall_time);
}
void EventWriter::histogram(std::string_view tag, std::span<const double> values, int64_t step, double wall_time) {
  summary(Message().bytes(1, tag).message(5, histogram_of(values)), step, wall_time);
}

void EventWriter::image(std::string_view tag, std::string_view png, int64_t width, int64_t height, int64_t channels, int64_t step,
                        double wall_time) {
  const Message image = Message()
                            .varint(1, static_cast<uint64_t>(height))
                            .varint(2, static_cast<uint64_t>(width))
                            .varint(3, static_cast<uint64_t>(channels))
                            .bytes(4, png);
  summary(Message().bytes(1, tag).message(4, image), step, wall_time);
}

void EventWriter::text(std::string_view tag, std::string_view markdown, int64_t step, double wall_time) {
  constexpr uint64_t kString = 7;  // DT_STRING
  const Message tensor = Message().varint(1, kString).message(2, Message().message(2, Message().varint(1, 1))).bytes(8, markdown);
  const Message metadata = Message().message(1, Message().bytes(1, "text"));
  summary(Message().bytes(1, tag).message(8, tensor).message(9, metadata), step, wall_time);
}

Result<void> EventWriter::flush() {
  const char* p = buffer_.data();
  for (size_t left = buffer_.size(); left > 0 && error_.empty();) {
    const ssize_t n = ::write(fd_, p, left);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0)
      error_ = "cannot write " + path_ + ": " + std::strerror(errno);
    else
      p += n, left -= static_cast<size_t>(n);
  }
  buffer_.clear();
  if (!error_.empty()) return Failure{error_};
  return {};
}

}  // namespace keel::io
