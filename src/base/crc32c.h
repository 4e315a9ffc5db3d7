#pragma once
#include <cstddef>
#include <cstdint>

#pragma GCC visibility push(default)  // the io library uses it too
namespace keel::base {

/// CRC-32C (Castagnoli, RFC 3720). `crc` is the value of what came before, so that pieces can follow each other; 0 to begin.
uint32_t crc32c(const void* data, size_t bytes, uint32_t crc = 0);

/// The same by tables, whatever the processor has; for tests.
uint32_t crc32c_portable(const void* data, size_t bytes, uint32_t crc = 0);

/// As the TFRecord format stores it, so that a checksum of data with checksums in it stays strong.
constexpr uint32_t mask_crc32c(uint32_t crc) { return ((crc >> 15) | (crc << 17)) + 0xa282ead8u; }

}  // namespace keel::base
#pragma GCC visibility pop
