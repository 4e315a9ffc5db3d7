#pragma once
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

/// Bounds-checked reading and writing of little-endian data.
namespace keel::io {

using Bytes = std::span<const std::byte>;

inline Bytes bytes_of(std::string_view s) { return {reinterpret_cast<const std::byte*>(s.data()), s.size()}; }
inline std::string_view text_of(Bytes b) { return {reinterpret_cast<const char*>(b.data()), b.size()}; }

/// Whether [offset, offset + length) lies within `size` bytes; no sum can wrap.
constexpr bool within(uint64_t offset, uint64_t length, uint64_t size) { return offset <= size && length <= size - offset; }

template <class Int>
Int load_le(const std::byte* p) {
  Int v = 0;
  for (size_t i = 0; i < sizeof(Int); ++i) v = static_cast<Int>(v | static_cast<Int>(static_cast<Int>(p[i]) << (8 * i)));
  return v;
}
template <class Int>
Int load_be(const std::byte* p) {
  Int v = 0;
  for (size_t i = 0; i < sizeof(Int); ++i) v = static_cast<Int>(static_cast<Int>(v << (sizeof(Int) > 1 ? 8 : 0)) | static_cast<Int>(p[i]));
  return v;
}
template <class Int>
void append_le(std::string& s, Int v) {
  for (size_t i = 0; i < sizeof(Int); ++i) s += static_cast<char>(static_cast<uint64_t>(v) >> (8 * i));
}

/// Takes values off the front of a block. Once a read does not fit, it and all later ones give zero or nothing, and `ok()` is false.
class ByteReader {
 public:
  explicit ByteReader(Bytes data) : data_(data) {}
  bool ok() const { return ok_; }
  size_t position() const { return at_; }
  size_t left() const { return data_.size() - at_; }
  Bytes take(uint64_t n) {
    if (!ok_ || n > left()) {
      ok_ = false;
      return {};
    }
    const Bytes b = data_.subspan(at_, static_cast<size_t>(n));
    at_ += static_cast<size_t>(n);
    return b;
  }
  template <class Int>
  Int le() {
    const Bytes b = take(sizeof(Int));
    return b.empty() ? Int(0) : load_le<Int>(b.data());
  }
  template <class Int>
  Int be() {
    const Bytes b = take(sizeof(Int));
    return b.empty() ? Int(0) : load_be<Int>(b.data());
  }

 private:
  Bytes data_;
  size_t at_ = 0;
  bool ok_ = true;
};

}  // namespace keel::io
