#pragma once
// The run-time compiler, opened when the first chain is asked for. Needs neither CUDA's headers nor a device.
#include <cstddef>
#include <string>
#include <vector>

#include "backend/cuda/fuse_source.h"

namespace keel::cuda {

struct NvrtcLibrary {
  const char* refusal = nullptr;  // why there is none
  int major = 0, minor = 0;
  std::string file;  // as it was opened
  /// Opens libnvrtc; of several the one of version `wanted` (13000 for 13.0), else the first. KEEL_NVRTC names another.
  explicit NvrtcLibrary(int wanted);

  /// Machine code for `arch` (90 for sm_90); empty where `log` says why there is none. One thread at a time.
  std::vector<char> compile(const std::string& source, int arch, std::string& log) const;

 private:
  using Program = struct Opaque*;
  int (*f_nvrtcVersion)(int*, int*) = nullptr;
  int (*f_nvrtcCreateProgram)(Program*, const char*, const char*, int, const char* const*, const char* const*) = nullptr;
  int (*f_nvrtcDestroyProgram)(Program*) = nullptr;
  int (*f_nvrtcCompileProgram)(Program, int, const char* const*) = nullptr;
  int (*f_nvrtcGetProgramLogSize)(Program, size_t*) = nullptr;
  int (*f_nvrtcGetProgramLog)(Program, char*) = nullptr;
  int (*f_nvrtcGetCUBINSize)(Program, size_t*) = nullptr;
  int (*f_nvrtcGetCUBIN)(Program, char*) = nullptr;
  bool open(const std::string& name);
  void* handle_ = nullptr;
};
/// How every source is compiled: with the rules of the ops' own kernels.
std::vector<std::string> nvrtc_options(int arch);

}  // namespace keel::cuda
