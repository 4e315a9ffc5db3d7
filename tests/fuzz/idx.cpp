#include "keel/io/idx.h"

#include <cstddef>
#include <cstdint>
#include <string_view>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto r = keel::io::parse_idx(std::string_view(reinterpret_cast<const char*>(data), size));
  if (!r && r.message().empty()) __builtin_trap();
  return 0;
}
