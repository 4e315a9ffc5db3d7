#pragma once
// Programs: several elementwise ops that a device runs as one kernel. Plain data, made from a graph by src/layers/fuse.cpp.
#include "backend/kernel.h"

namespace keel {

/// Where the values of a program are: first its sources, then what its ops give, one each.
using FusedSlot = int16_t;

/// What a program reads: a tensor, broadcast to the program's shape by strides of 0, or a number.
struct FusedSource {
  DType dtype = DType::none;
  const void* number = nullptr;  // its value; null: a tensor
  Strides strides;
};
/// As one call of the op, on operands of the dtypes that the call would see; rounded to the dtype of its result. An op on rows computes
/// along the last axis, of operands that all have the program's shape. A gradient of a norm is followed by one addition, of a tensor that
/// lies as its result does; all of its operands are dense.
struct FusedOp {
  static constexpr int kMostInputs = 5;
  const char* op = "";
  const void* params = nullptr;
  DType dtype = DType::none;  // of the result
  int32_t n_in = 0;
  FusedSlot in[kMostInputs] = {};
};
/// What a program writes: dense or not, elements never share memory. A tensor may be a source, too, if it lies there just as here.
struct FusedResult {
  FusedSlot slot = 0;
  Strides strides;
  int32_t part = 0;  // above 0: a further result of the slot's op, of an extent of its own; dense where it is not one element a row
};
struct FusedProgram {
  Shape shape;  // of everything that the ops compute
  const FusedSource* sources = nullptr;
  const FusedOp* ops = nullptr;
  const FusedResult* results = nullptr;
  int32_t n_sources = 0, n_ops = 0, n_results = 0;
  bool rows = false;  // some ops are on rows, all of one dtype; then no result is in a source's memory
  DType dtype_of(FusedSlot s) const { return s < n_sources ? sources[s].dtype : ops[s - n_sources].dtype; }
};

/// What a device that can make kernels of programs gives. Each result has the bits that the ops' own kernels give one after another.
/// Functions that return text return null where all went well; the text lives until the thread's next call.
struct DeviceFusion {
  /// Whether `o`, on operands of dtypes `in`, can be part of a program of this shape; else why not.
  const char* (*takes)(const FusedOp& o, const DType* in, const Shape& shape) = nullptr;
  /// Begins to make a kernel of `p`, of which nothing is needed afterwards.
  const char* (*make)(int device, const FusedProgram& p, void** made) = nullptr;
  /// Whether it can be run. Text: it never can.
  const char* (*ready)(int device, void* made, bool* is) = nullptr;
  /// Queues it, where it is ready. `sources`: one a source, that of a number is not looked at.
  const char* (*run)(int device, void* made, const void* const* sources, void* const* results) = nullptr;
  void (*forget)(int device, void* made) = nullptr;
};

}  // namespace keel
