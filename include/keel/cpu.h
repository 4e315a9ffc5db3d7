#pragma once
#include <string>
#include <vector>

#pragma GCC visibility push(default)
namespace keel {

/// The instruction set that CPU kernels use: "scalar", "avx2", "avx512", "amx", ...
std::string cpu_isa();
/// What the processor has, what is used and why one is not, one line each; for people.
std::string cpu_report();

/// One level or extension of the processor, as `cpu_report` shows it.
struct CpuFeature {
  std::string name;
  bool found = false;  // the processor has it and the operating system enables it
  bool used = false;   // kernels use it now
  std::string why;     // why it is not found or not used; empty where it is used
};
std::vector<CpuFeature> cpu_features();
/// What the variable KEEL_ISA asks for where that cannot be followed, as a sentence; else empty.
std::string cpu_refusal();
/// A sentence for each other variable of Keel's, such as KEEL_NUM_THREADS, that holds no value it can have and is ignored. They are also
/// logged, as warnings of the topic `environment`, when threads are first counted.
std::vector<std::string> environment_complaints();

/// Whether f32 convolutions of 3 x 3 windows and stride 1 may take Winograd's form, F(2 x 2, 3 x 3): 16 products where direct sums take 36,
/// rounding errors relative to the 4 x 4 pixels of a tile, and an infinite pixel makes its whole 2 x 2 tile of results NaN or infinite (docs/adr/0022). On at
/// the start, unless the environment says KEEL_WINOGRAD=0. Not to be changed while convolutions run.
void allow_winograd(bool on);
bool winograd_allowed();

}  // namespace keel
#pragma GCC visibility pop
