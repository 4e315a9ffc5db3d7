#include "keel/io/checkpoint.h"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>

#include "base/sha256.h"
#include "io/bytes.h"

// The bytes are an index and, after a zero byte, the data; header and checksum of the index are made to fit, so that what lies behind them
// is reached.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  (void)keel::io::parse_checkpoint(std::string_view(reinterpret_cast<const char*>(data), size)).ok();
  const auto* end = static_cast<const uint8_t*>(size > 0 ? std::memchr(data, 0, size) : nullptr);
  const size_t n = end != nullptr ? static_cast<size_t>(end - data) : size;
  std::string index(reinterpret_cast<const char*>(data), n), file = "KEELCKPT";
  index.append((64 - n % 64) % 64, ' ');
  const size_t rest = size - n - (end != nullptr ? 1 : 0);
  keel::io::append_le<uint32_t>(file, 1), keel::io::append_le<uint32_t>(file, 0);
  keel::io::append_le<uint64_t>(file, index.size()), keel::io::append_le<uint64_t>(file, rest);
  const std::string covered = file + index;
  const auto digest = keel::base::sha256(covered.data(), covered.size());
  file.append(reinterpret_cast<const char*>(digest.data()), digest.size())
      .append(index)
      .append(reinterpret_cast<const char*>(data + size - rest), rest);
  const auto r = keel::io::parse_checkpoint(file);
  if (!r && r.message().empty()) __builtin_trap();
  return 0;
}
