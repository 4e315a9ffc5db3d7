#include "io/gzip.h"

#include <cstddef>
#include <cstdint>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const keel::io::Bytes bytes(reinterpret_cast<const std::byte*>(data), size);
  const auto r = keel::io::gunzip(bytes, 1 << 20);
  if (r ? r->size() > (1 << 20) : r.message().empty()) __builtin_trap();
  const auto raw = keel::io::inflate_raw(bytes, 1000);
  if (raw && raw->size() != 1000) __builtin_trap();
  return 0;
}
