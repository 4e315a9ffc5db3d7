#include "io/tensor_bytes.h"

#include <cstdio>
#include <cstring>
#include <limits>
#include <memory>

#include "keel/ops/creation.h"

namespace keel::io {

std::string shown(std::string_view name) {
  std::string out = "'";
  for (const char c : name.substr(0, 80)) {
    const auto u = static_cast<unsigned char>(c);
    if (u >= 0x20 && u != 0x7f) {
      out += c;
    } else {
      char code[8];
      std::snprintf(code, sizeof code, "\\x%02x", u);
      out += code;
    }
  }
  return out + (name.size() > 80 ? "...'" : "'");
}

std::optional<uint64_t> bytes_needed(const std::vector<int64_t>& shape, uint64_t bits) {
  uint64_t n = bits;
  for (const int64_t e : shape)
    if (e < 0 || __builtin_mul_overflow(n, static_cast<uint64_t>(e), &n)) return std::nullopt;
  if (n % 8 != 0 || n / 8 > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) return std::nullopt;
  return n / 8;
}

Result<Tensor> tensor_of(Bytes bytes, DType t, const std::vector<int64_t>& shape, const Ref<MappedFile>& owner) {
  if (shape.size() > kMaxRank) return Failure{"has " + std::to_string(shape.size()) + " axes, more than " + std::to_string(kMaxRank)};
  // Where an extent is 0 the others multiply to nothing that bounds them.
  uint64_t most = size_of(t);
  for (const int64_t e : shape)
    if (e > 0 && __builtin_mul_overflow(most, static_cast<uint64_t>(e), &most)) return Failure{"has a shape that overflows"};
  if (most > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) return Failure{"has a shape that overflows"};
  if (t == DType::boolean)
    for (const std::byte b : bytes)
      if (b > std::byte{1}) return Failure{"has a bool that is neither 0 nor 1"};
  const Shape s(shape.data(), static_cast<int64_t>(shape.size()));
  const size_t align = is_complex(t) ? size_of(t) / 2 : size_of(t);
  if (owner && reinterpret_cast<uintptr_t>(bytes.data()) % align == 0) {
    return from_memory(
        const_cast<std::byte*>(bytes.data()), static_cast<int64_t>(bytes.size()), t, s, new Ref<MappedFile>(owner),
        [](void* held) { delete static_cast<Ref<MappedFile>*>(held); }, true);
  }
  Tensor x = empty(s, {.dtype = t});
  if (!bytes.empty()) std::memcpy(x.raw_data(), bytes.data(), bytes.size());
  return x;
}

Tensor dense(const Tensor& x) { return x.detach().to(cpu_device).contiguous(); }

Bytes raw_bytes(const Tensor& dense) {
  const size_t n = dense.nbytes();
  return n == 0 ? Bytes() : Bytes(static_cast<const std::byte*>(dense.raw_data()), n);
}

}  // namespace keel::io
