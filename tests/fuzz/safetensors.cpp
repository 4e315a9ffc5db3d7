#include "keel/io/safetensors.h"

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto r = keel::io::parse_safetensors(std::string_view(reinterpret_cast<const char*>(data), size));
  if (!r && (r.message().empty() || r.message().find('\n') != std::string::npos)) __builtin_trap();
  if (r && r->tensors.size() == static_cast<int64_t>(r->entries.size())) {
    // What is read can be written, and read again to the same bytes.
    const auto once = keel::io::to_safetensors(r->tensors, r->metadata);
    if (!once || *keel::io::to_safetensors(keel::io::parse_safetensors(*once)->tensors, r->metadata) != *once) __builtin_trap();
  }
  return 0;
}
