#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

#pragma GCC visibility push(default)  // the io library uses it too
namespace keel::base {

/// SHA-256 (FIPS 180-4), in pieces. Uses the processor's SHA instructions where it has them.
class Sha256 {
 public:
  using Digest = std::array<uint8_t, 32>;
  Sha256();
  void update(const void* data, size_t bytes);
  /// The digest of all that was given. The object is spent.
  Digest finish();

  /// For tests: with false, later objects compute without the SHA instructions.
  static void use_hardware(bool on);

 private:
  using Compress = void (*)(uint32_t* state, const uint8_t* blocks, size_t count);
  Compress compress_;
  uint32_t state_[8];
  uint8_t buffer_[64];
  uint64_t bytes_ = 0;
};

Sha256::Digest sha256(const void* data, size_t bytes);

/// Lower-case hexadecimal.
std::string hex(const uint8_t* data, size_t bytes);
inline std::string hex(const Sha256::Digest& d) { return hex(d.data(), d.size()); }

}  // namespace keel::base
#pragma GCC visibility pop
