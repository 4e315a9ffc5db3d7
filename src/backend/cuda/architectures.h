#pragma once
// What this library holds machine code for. Knows no CUDA, so that tests have it on any machine.
#include <span>
#include <string>

namespace keel::cuda {

// Compute capabilities are written as nvcc does: 900 for 9.0.

/// Whether code for `built` runs on `capability`: machine code serves its own major number from its minor number up, and the newest is
/// there as PTX too, which the driver compiles for what came later.
constexpr bool serves(std::span<const int> built, int capability) {
  int newest = 0;
  for (const int b : built) newest = b > newest ? b : newest;
  for (const int b : built)
    if (b <= capability && (b / 100 == capability / 100 || b == newest)) return true;
  return false;
}

/// "8.0, 9.0".
inline std::string names_of(std::span<const int> built) {
  std::string text;
  for (const int b : built) text += (text.empty() ? "" : ", ") + std::to_string(b / 100) + "." + std::to_string(b / 10 % 10);
  return text;
}

/// Those of this library (architectures.cu).
std::span<const int> architectures();

}  // namespace keel::cuda
