#pragma once
// Rows along one axis of contiguous tensors for kernels that want them contiguous and in f32 or f64: a row is used in place where it lies
// so, else gathered and converted into the task's scratch.
#include <algorithm>
#include <cstring>

#include "backend/cpu/elementwise.h"
#include "backend/cpu/isa.h"
#include "backend/cpu/loops/fetch.h"
#include "backend/cpu/loops/rows.h"
#include "backend/cpu/workspace.h"
#include "keel/parallel.h"

namespace keel::cpu {

/// A contiguous tensor as [outer, n, inner]; its rows are outer * inner runs of n elements, `inner` elements apart.
struct Rows {
  int64_t outer = 1, n = 1, inner = 1;
  int64_t count() const { return outer * inner; }
};
inline Rows rows_along(const Shape& s, int64_t axis) {
  Rows r;
  if (s.rank() == 0) return r;
  const int at = int(axis < 0 ? axis + s.rank() : axis);
  for (int i = 0; i < s.rank(); ++i) (i < at ? r.outer : i == at ? r.n : r.inner) *= s[i];
  return r;
}
/// The last `axes` axes as one.
inline Rows rows_trailing(const Shape& s, int64_t axes) {
  Rows r;
  for (int i = 0; i < s.rank(); ++i) (i < s.rank() - axes ? r.outer : r.n) *= s[i];
  return r;
}

/// How many tasks `rows` rows of `n` elements are cut into, each with scratch of its own. Results do not depend on it.
inline int64_t row_tasks(int64_t rows, int64_t n, int64_t grain = 1 << 14) {
  return rows * n <= grain ? 1 : std::max<int64_t>(1, std::min(rows, num_threads()));
}
/// Calls f(first, last, task) for the tasks' ranges of rows.
template <class F>
void each_task(int64_t rows, int64_t tasks, F f) {
  parallel_for(0, tasks, 1, [&](int64_t lo, int64_t hi) {
    for (int64_t t = lo; t < hi; ++t) f(rows * t / tasks, rows * (t + 1) / tasks, t);
  });
}

/// Whether rows of the result `y` are computed in scratch and streamed past the caches.
inline bool streams(const TensorView& y, const Rows& rows) {
  const int64_t row = rows.n * int64_t(size_of(y.dtype));
  return rows.inner == 1 && y.dtype == compute_dtype(y.dtype) && row >= 256 && row <= 1 << 18 &&
         rows.count() * row > kStreamBytes * row_tasks(rows.count(), rows.n);
}

/// Bytes ahead of what is read that a processor that follows streams fetches into L1: where one operand is read in the only pass before the
/// one that writes, and else, by rows. Other processors fetch by rows, into L2.
inline constexpr int64_t kAheadOfOne = 8192, kAheadByRows = 0;

/// How rows of the result `y` leave: `stream` where loops write them past the caches themselves, which they cannot where the row is looked
/// at again for statistics. `ahead` is set where operands, which must be in place, come from beyond L2.
inline RowFlow flow_of(const TensorView& y, const Rows& rows, bool in_place, bool stats, int64_t ahead) {
  RowFlow f;
  f.stream = streams(y, rows) && !stats;
  f.near = follows_streams();
  const int64_t one = int64_t(size_of(y.dtype)), row = rows.n * one;
  if (in_place && y.size() * one > l2_bytes()) f.ahead = f.near && ahead ? ahead / one : (row + 16383) / row * rows.n;
  return f;
}
/// Whether every row of `y` is made of whole lines.
inline bool whole_lines(const TensorView& y, const Rows& rows) {
  return rows.n * int64_t(size_of(y.dtype)) % 64 == 0 && reinterpret_cast<uintptr_t>(y.data) % 64 == 0;
}

/// One operand's rows.
class RowView {
 public:
  /// `stream`: what `streams` says of a result.
  RowView(const TensorView& x, const Rows& rows, bool stream = false)
      : data_(static_cast<std::byte*>(x.data)),
        dtype_(x.dtype),
        rows_(rows),
        bytes_(int64_t(size_of(x.dtype))),
        in_place_(rows.inner == 1 && x.dtype == compute_dtype(x.dtype) && !stream),
        stream_(stream) {
    if (x.dtype != compute_dtype(x.dtype))
      in_ = convert_loop(x.dtype, compute_dtype(x.dtype)), out_ = convert_loop(compute_dtype(x.dtype), x.dtype);
  }
  /// Scratch that one task needs for a row.
  static size_t scratch(const TensorView& x, const Rows& rows, bool stream = false) {
    return !stream && rows.inner == 1 && x.dtype == compute_dtype(x.dtype) ? 0
                                                                           : 2 * round_up(size_t(rows.n) * size_of(compute_dtype(x.dtype)));
  }
  bool in_place() const { return in_place_; }
  /// Row r, in place or read into scratch.
  const void* read(int64_t r, std::byte* scratch) const {
    std::byte* at = data_ + place(r);
    if (in_place_) return at;
    if (rows_.inner == 1) return in_(at, scratch, rows_.n, nullptr), scratch;
    std::byte* gathered = in_ ? scratch + round_up(size_t(rows_.n) * size_of(compute_dtype(dtype_))) : scratch;
    move(at, rows_.inner * bytes_, gathered, bytes_);
    if (in_) in_(gathered, scratch, rows_.n, nullptr);
    return scratch;
  }
  /// Where to compute row r before `write`.
  void* target(int64_t r, std::byte* scratch) const { return in_place_ ? data_ + place(r) : scratch; }
  /// Puts what was computed at `target` into the tensor; gives the row in the tensor's dtype, contiguous.
  const void* write(int64_t r, std::byte* scratch) const {
    std::byte* at = data_ + place(r);
    if (in_place_) return at;
    if (stream_) return stream_copy(at, scratch, size_t(rows_.n * bytes_)), scratch;
    if (rows_.inner == 1) return out_(scratch, at, rows_.n, nullptr), at;
    std::byte* packed = scratch;
    if (out_) packed = scratch + round_up(size_t(rows_.n) * size_of(compute_dtype(dtype_))), out_(scratch, packed, rows_.n, nullptr);
    move(packed, bytes_, at, rows_.inner * bytes_);
    return packed;
  }

 private:
  std::byte* data_;
  DType dtype_;
  Rows rows_;
  int64_t bytes_;
  bool in_place_, stream_;
  UnaryLoop in_ = nullptr, out_ = nullptr;

  int64_t place(int64_t r) const { return (r / rows_.inner * rows_.n * rows_.inner + r % rows_.inner) * bytes_; }
  template <class U>
  void move_as(const std::byte* from, int64_t from_step, std::byte* to, int64_t to_step) const {
    for (int64_t i = 0; i < rows_.n; ++i) *reinterpret_cast<U*>(to + i * to_step) = *reinterpret_cast<const U*>(from + i * from_step);
  }
  void move(const std::byte* from, int64_t from_step, std::byte* to, int64_t to_step) const {
    switch (bytes_) {
      case 1: return move_as<uint8_t>(from, from_step, to, to_step);
      case 2: return move_as<uint16_t>(from, from_step, to, to_step);
      case 4: return move_as<uint32_t>(from, from_step, to, to_step);
      default: return move_as<uint64_t>(from, from_step, to, to_step);
    }
  }
};

}  // namespace keel::cpu
