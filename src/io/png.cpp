// The PNG format after its specification (third edition), 8 bits a channel.
#include <algorithm>
#include <cstdlib>
#include <string>
#include <vector>

#include <zlib.h>

#include "io/bytes.h"
#include "io/gzip.h"
#include "keel/io/tensorboard.h"

namespace keel::io {
namespace {

void append_be(std::string& s, uint32_t v) {
  for (int shift = 24; shift >= 0; shift -= 8) s += static_cast<char>(v >> shift);
}

void append_chunk(std::string& png, std::string_view type, std::string_view content) {
  append_be(png, static_cast<uint32_t>(content.size()));
  const size_t start = png.size();
  png.append(type).append(content);
  append_be(png,
            static_cast<uint32_t>(crc32(0, reinterpret_cast<const Bytef*>(png.data() + start), static_cast<uInt>(png.size() - start))));
}

}  // namespace

std::string encode_png(std::span<const uint8_t> pixels, int64_t width, int64_t height, int64_t channels) {
  constexpr int64_t kMost = 1 << 20;
  if (width < 1 || height < 1 || width > kMost || height > kMost || channels < 1 || channels > 4) return {};
  const auto row = static_cast<size_t>(width * channels);
  if (pixels.size() != row * static_cast<size_t>(height) || pixels.size() > (size_t(1) << 30)) return {};
  std::string lines;
  lines.reserve(pixels.size() + static_cast<size_t>(height));
  for (size_t y = 0; y < static_cast<size_t>(height); ++y) {  // filter "up": each row minus the one above
    lines += y == 0 ? '\0' : '\2';
    for (size_t i = 0; i < row; ++i) lines += static_cast<char>(pixels[y * row + i] - (y == 0 ? 0 : pixels[(y - 1) * row + i]));
  }
  std::string header;
  append_be(header, static_cast<uint32_t>(width));
  append_be(header, static_cast<uint32_t>(height));
  constexpr char kColour[] = {0, 4, 2, 6};
  header.append({8, kColour[channels - 1], 0, 0, 0});
  std::string png = "\x89PNG\r\n\x1a\n";
  append_chunk(png, "IHDR", header);
  append_chunk(png, "IDAT", deflate_zlib(bytes_of(lines)));
  append_chunk(png, "IEND", {});
  return png;
}

}  // namespace keel::io
