#include "io/gzip.h"

#include <algorithm>
#include <climits>
#include <utility>

#include <zlib.h>

#include "io/mapped_file.h"

namespace keel::io {
namespace {

constexpr int kGzip = 15 + 16, kRaw = -15, kZlib = 15;  // zlib's window bits

struct Stream : z_stream {
  Stream() : z_stream{} {}
  void feed(Bytes b) { next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(b.data())), avail_in = static_cast<uInt>(b.size()); }
};

std::string deflate_all(Bytes data, int level, int window) {
  Stream s;
  if (deflateInit2(&s, level, Z_DEFLATED, window, 8, Z_DEFAULT_STRATEGY) != Z_OK) return {};
  std::string out;
  char buffer[65536];
  size_t at = 0;
  int code = Z_OK;
  while (code != Z_STREAM_END) {
    if (s.avail_in == 0) {
      const size_t n = std::min<size_t>(data.size() - at, UINT_MAX);
      s.feed(data.subspan(at, n));
      at += n;
    }
    s.next_out = reinterpret_cast<Bytef*>(buffer), s.avail_out = sizeof buffer;
    code = deflate(&s, at == data.size() ? Z_FINISH : Z_NO_FLUSH);
    out.append(buffer, sizeof buffer - s.avail_out);
  }
  deflateEnd(&s);
  return out;
}

// One stream from the front of `data`, appended to `out`; gives the bytes it took.
Result<size_t> inflate_one(Bytes data, int window, size_t most, std::string& out) {
  Stream s;
  if (inflateInit2(&s, window) != Z_OK) return Failure{"zlib cannot start"};
  struct End {
    Stream& s;
    ~End() { inflateEnd(&s); }
  } const end{s};
  char buffer[65536];
  size_t at = 0;
  for (;;) {
    if (s.avail_in == 0) {
      const size_t n = std::min<size_t>(data.size() - at, UINT_MAX);
      s.feed(data.subspan(at, n));
      at += n;
    }
    s.next_out = reinterpret_cast<Bytef*>(buffer), s.avail_out = sizeof buffer;
    const int code = inflate(&s, Z_NO_FLUSH);
    const size_t made = sizeof buffer - s.avail_out;
    if (made > most - out.size()) return Failure{"compressed data holds more than the " + std::to_string(most) + " bytes allowed"};
    out.append(buffer, made);
    if (code == Z_STREAM_END) return at - s.avail_in;
    if (code == Z_BUF_ERROR && s.avail_in == 0 && at == data.size()) return Failure{"compressed data ends too early"};
    if (code != Z_OK) return Failure{std::string("compressed data is damaged") + (s.msg != nullptr ? std::string(": ") + s.msg : "")};
  }
}

}  // namespace

Result<std::string> gunzip(Bytes data, size_t most) {
  std::string out;
  do {
    if (data.size() < 2 || data[0] != std::byte{0x1f} || data[1] != std::byte{0x8b})
      return Failure{out.empty() ? "not gzip data" : "unexpected bytes after gzip data"};
    const auto used = inflate_one(data, kGzip, most, out);
    if (!used) return used.failure();
    data = data.subspan(*used);
  } while (std::any_of(data.begin(), data.end(), [](std::byte b) { return b != std::byte{0}; }));  // zeros may pad a tape block
  return out;
}

Result<std::string> gunzip_file(const std::string& path, size_t most) {
  const auto file = MappedFile::open(path);
  if (!file) return file.failure();
  auto content = gunzip((*file)->bytes(), most);
  if (!content) return Failure{path + ": " + content.message()};
  return content;
}

Result<std::string> inflate_raw(Bytes data, size_t size) {
  std::string out;
  const auto used = inflate_one(data, kRaw, size, out);
  if (!used) return used.failure();
  if (out.size() != size)
    return Failure{"compressed data holds " + std::to_string(out.size()) + " bytes, not the " + std::to_string(size) + " announced"};
  return out;
}

std::string deflate_raw(Bytes data, int level) { return deflate_all(data, level, kRaw); }
std::string deflate_zlib(Bytes data, int level) { return deflate_all(data, level, kZlib); }

}  // namespace keel::io
