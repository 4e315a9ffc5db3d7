#include "backend/cuda/nvrtc_library.h"

#include <dlfcn.h>

#include <type_traits>

#include "base/env.h"

namespace keel::cuda {

bool NvrtcLibrary::open(const std::string& name) {
  void* const library = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!library) return false;
  bool all = true;
  const auto take = [&](auto& f, const char* symbol) {
    all = (f = reinterpret_cast<std::remove_reference_t<decltype(f)>>(dlsym(library, symbol))) && all;
  };
#define KEEL_TAKE(NAME) take(f_##NAME, #NAME)
  KEEL_TAKE(nvrtcVersion), KEEL_TAKE(nvrtcCreateProgram), KEEL_TAKE(nvrtcDestroyProgram), KEEL_TAKE(nvrtcCompileProgram);
  KEEL_TAKE(nvrtcGetProgramLogSize), KEEL_TAKE(nvrtcGetProgramLog), KEEL_TAKE(nvrtcGetCUBINSize), KEEL_TAKE(nvrtcGetCUBIN);
#undef KEEL_TAKE
  if (!all || f_nvrtcVersion(&major, &minor) != 0) {
    dlclose(library);
    return false;
  }
  handle_ = library, file = name;
  return true;
}

NvrtcLibrary::NvrtcLibrary(int wanted) {
  const std::string major_text = std::to_string(wanted / 1000), minor_text = std::to_string(wanted % 1000 / 10),
                    so = "libnvrtc.so." + major_text;
  std::vector<std::string> names;
  if (const auto own = base::env_string("KEEL_NVRTC"); !own.empty()) names.emplace_back(own);
  if (names.empty())
    names = {so, "/usr/local/cuda-" + major_text + "." + minor_text + "/lib64/" + so,
             "/usr/local/cuda-" + major_text + "." + minor_text + "/lib/" + so, "/usr/local/cuda/lib64/" + so, "/usr/local/cuda/lib/" + so};
  const auto is_wanted = [&] { return major == wanted / 1000 && minor == wanted % 1000 / 10; };
  std::string first;
  for (const std::string& name : names) {
    if (!open(name)) continue;
    if (is_wanted()) return;
    if (first.empty()) first = name;
    dlclose(handle_), handle_ = nullptr;
  }
  if (!first.empty() && open(first)) return;
  static const std::string text = so + " was not found (package nvidia-cuda-nvrtc, or CUDA's own; KEEL_NVRTC names a file)";
  refusal = text.c_str();
}

std::vector<std::string> nvrtc_options(int arch) {
  return {
      "--gpu-architecture=sm_" + std::to_string(arch), "--std=c++20", "--fmad=false", "--prec-div=true", "--prec-sqrt=true", "--ftz=false"};
}

std::vector<char> NvrtcLibrary::compile(const std::string& source, int arch, std::string& log) const {
  const FuseHeaders headers = fuse_headers();
  Program program = nullptr;
  if (f_nvrtcCreateProgram(&program, source.c_str(), "chain.cu", headers.count, headers.texts, headers.names) != 0) {
    log = "the run-time compiler takes no program";
    return {};
  }
  const std::vector<std::string> options = nvrtc_options(arch);
  std::vector<const char*> list;
  for (const std::string& o : options) list.push_back(o.c_str());
  const bool good = f_nvrtcCompileProgram(program, int(list.size()), list.data()) == 0;
  size_t bytes = 0;
  if (f_nvrtcGetProgramLogSize(program, &bytes) == 0 && bytes > 1) {
    log.resize(bytes);
    f_nvrtcGetProgramLog(program, log.data());
    log.resize(bytes - 1);
  }
  std::vector<char> code;
  if (good && f_nvrtcGetCUBINSize(program, &bytes) == 0 && bytes > 0) {
    code.resize(bytes);
    if (f_nvrtcGetCUBIN(program, code.data()) != 0) code.clear();
  }
  if (code.empty() && log.empty()) log = "the run-time compiler gave nothing";
  f_nvrtcDestroyProgram(&program);
  return code;
}

}  // namespace keel::cuda
