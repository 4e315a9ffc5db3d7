// The IDX format: two zero bytes, a type code, the number of axes, their extents, the elements; most significant byte first.
#include "keel/io/idx.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "io/gzip.h"
#include "io/tensor_bytes.h"

namespace keel::io {
namespace {

DType dtype_of_code(uint8_t code) {
  switch (code) {
    case 0x08: return u8;
    case 0x09: return i8;
    case 0x0b: return i16;
    case 0x0c: return i32;
    case 0x0d: return f32;
    case 0x0e: return f64;
    default: return DType::none;
  }
}

Result<Tensor> parse(Bytes file) {
  ByteReader r(file);
  const auto zeros = r.be<uint16_t>();
  const auto code = r.be<uint8_t>(), rank = r.be<uint8_t>();
  const DType t = dtype_of_code(code);
  if (!r.ok() || zeros != 0 || t == DType::none) return Failure{"not an IDX file"};
  std::vector<int64_t> shape;
  for (int i = 0; i < rank; ++i) shape.push_back(r.be<uint32_t>());
  if (!r.ok()) return Failure{"ends inside its header"};
  const auto needed = bytes_needed(shape, size_of(t) * 8);
  if (!needed) return Failure{"shape overflows"};
  if (*needed != r.left())
    return Failure{"array needs " + std::to_string(*needed) + " bytes, the file has " + std::to_string(r.left()) + " after its header"};
  const Bytes data = r.take(*needed);
  if (size_of(t) == 1) return tensor_of(data, t, shape, {});
  std::string swapped(text_of(data));
  for (size_t i = 0; i < swapped.size(); i += size_of(t))
    std::reverse(swapped.begin() + static_cast<ptrdiff_t>(i), swapped.begin() + static_cast<ptrdiff_t>(i + size_of(t)));
  return tensor_of(bytes_of(swapped), t, shape, {});
}

}  // namespace

Result<Tensor> parse_idx(std::string_view bytes) {
  auto x = parse(bytes_of(bytes));
  if (!x && x.message().starts_with("has ")) return Failure{"array " + x.message()};
  return x;
}

Result<Tensor> read_idx(const std::string& path) {
  const auto file = MappedFile::open(path);
  if (!file) return file.failure();
  std::string unpacked;
  std::string_view bytes = text_of((*file)->bytes());
  if (path.ends_with(".gz")) {
    auto content = gunzip(bytes_of(bytes), size_t(1) << 34);
    if (!content) return Failure{path + ": " + content.message()};
    unpacked = std::move(*content);
    bytes = unpacked;
  }
  auto x = parse_idx(bytes);
  if (!x) return Failure{path + ": " + x.message()};
  return x;
}

}  // namespace keel::io
