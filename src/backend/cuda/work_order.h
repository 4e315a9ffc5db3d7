#pragma once
// Which pieces of recorded work must wait for which: those that touch the same memory, of which one writes. Knows no CUDA.
#include <cstddef>
#include <cstdint>
#include <vector>

namespace keel::cuda {

class WorkOrder {
 public:
  /// The next piece begins; its number, from 0 on.
  int begin();
  /// The piece that began last touches memory in [begin, end). Gives the pieces that it must wait for and did not wait for before, also not
  /// by way of others; good until the next call.
  const std::vector<int>& touch(const void* begin, const void* end, bool writes);
  /// Pieces so far.
  int count() const { return int(all_.size()); }

 private:
  struct Span {
    uintptr_t begin, end;
    bool writes;
  };
  struct Piece {
    std::vector<Span> spans;
    std::vector<uint64_t> before;  // a bit for each piece that has been done when this one begins
  };
  static bool clash(const Piece& p, const Span& s);
  std::vector<Piece> all_;
  std::vector<int> found_;
};

}  // namespace keel::cuda
