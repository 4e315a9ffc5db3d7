#pragma once
// What both kinds of sources of chains are written with (fuse_source.cpp, fuse_rows.cpp).
#include <string>
#include <vector>

#include "backend/cuda/fuse_source.h"

namespace keel::cuda {

/// The type of a dtype in sources; null: chains do not take it.
const char* type_text(DType t);
inline std::string text_of(int64_t v) { return std::to_string(v); }
inline std::string slot_text(int i) { return "v" + text_of(i); }

/// The words of a kernel's argument, and the parts of its text that name them.
struct FuseWriter {
  const FusedProgram& p;
  FuseSource& s;
  std::vector<int> tensors;  // sources that are tensors, then results
  int reads = 0;             // how many of them are sources
  std::vector<int> word_of_tensor, word_of_number;
  std::vector<std::string> functions;  // of each op: an object

  FuseWriter(const FusedProgram& program, FuseSource& source);
  int many() const { return int(tensors.size()); }
  const Strides& strides(int k) const;
  DType dtype(int k) const;
  std::string type(int k) const { return type_text(dtype(k)); }
  bool is_result(int k) const { return k >= reads; }
  const FusedResult& result(int k) const { return p.results[tensors[size_t(k)]]; }
  int add(uint64_t word) { return s.words.push_back(word), int(s.words.size()) - 1; }
  /// Words of tensors, numbers and parameters. `align` as in FuseSource::Pointer.
  void add_operands(const std::vector<int>& align);
  std::string pointer(int k) const;
  /// The value of op `i` from those of its operands.
  std::string call(int i) const;

  struct Axis {
    int64_t extent;
    int64_t stride[kMostOperands];
  };
  /// The first `rank` axes of the program in the order in which `lead` lies in memory, innermost first, neighbours merged where all
  /// operands allow it; without those of one element.
  std::vector<Axis> axes(int rank, const Strides& lead) const;
  /// Words of axes, and text that gives the offsets o0, o1, ... of number `i`.
  std::string offsets(const std::vector<Axis>& axes, bool wide, const char* i);
};

/// A program with ops on rows.
FuseSource rows_source(const FusedProgram& p);
/// How ops on rows take rows of `n` elements of dtype `t`: threads a row and packs a thread; 0: chains do not.
struct RowPlan {
  int group = 0, packs = 0;
  int block() const { return group == 32 ? 128 : group; }
};
RowPlan row_plan(DType t, int64_t n);

}  // namespace keel::cuda
