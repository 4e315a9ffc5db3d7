#pragma once
#include <string>

#pragma GCC visibility push(default)
namespace keel {

/// The instruction set that CPU kernels use: "scalar", "avx2", "avx512", "amx", ...
std::string cpu_isa();
/// What the processor has, what is used and why one is not, one line each; for people.
std::string cpu_report();

}  // namespace keel
#pragma GCC visibility pop
