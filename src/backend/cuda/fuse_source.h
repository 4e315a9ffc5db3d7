#pragma once
// A program (backend/device_fusion.h) as source for the run-time compiler. Needs neither CUDA nor a device.
#include <string>
#include <vector>

#include "backend/device_fusion.h"

namespace keel::cuda {

/// Whether a kernel of `o` on operands of dtypes `in` can be made; else why not. `same_compiler`: the run-time compiler is the one that
/// made the ops' own kernels, so that their mathematical functions are the same too.
const char* fuses(const FusedOp& o, const DType* in, const Shape& shape, bool same_compiler);

/// Source of two kernels, `packs` and `single`, and what they are called with.
struct FuseSource {
  std::string text;
  /// The kernels' one argument, in words of 8 bytes: how many elements, addresses of sources and results, numbers and parameters, extents
  /// and strides.
  std::vector<uint64_t> words;
  struct Pointer {
    int word;
    bool result;
    int index;  // of the source or result
    int align;  // in bytes, for `packs`; 0: any
  };
  std::vector<Pointer> pointers;
  int64_t threads_of_packs = 0, threads_of_single = 0;
  int block = 256;  // threads
  bool has_packs = false;
};
/// `takes` has been asked for each op.
FuseSource fuse_source(const FusedProgram& p);

/// Sources and results of a chain.
inline constexpr int kMostOperands = 64;
/// Headers that the source includes: names and texts.
struct FuseHeaders {
  int count;
  const char* const* names;
  const char* const* texts;
};
FuseHeaders fuse_headers();  // made by the build

}  // namespace keel::cuda
