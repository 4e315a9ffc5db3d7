#pragma once
// Chains of a norm's gradient and one addition: they have a kernel of their own, which is not made at run time.
#include <memory>

#include "backend/device_fusion.h"
#include "keel/ops/norm.h"

namespace keel::cuda {

/// Whether `o` is a norm's gradient; `refusal` says why a chain cannot begin with it, or is null.
bool begins_norm_sum(const FusedOp& o, const DType* in, const Shape& shape, const char** refusal);

struct NormSum {
  bool centered = false;
  NormBackwardParams params;
  DType dtype = DType::none;
  Shape shape;
  int in[5] = {-1, -1, -1, -1, -1};  // sources
  int more = -1;                     // the source that is added
  int out[3] = {-1, -1, -1};         // results
  const char* run(int device, const void* const* sources, void* const* results) const;
};
/// Null where `p` is another chain; `refusal` where it begins as one of these but cannot be run.
std::unique_ptr<NormSum> norm_sum_of(const FusedProgram& p, const char** refusal);

}  // namespace keel::cuda
