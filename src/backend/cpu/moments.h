#pragma once
// Means and squared deviations of the columns of a matrix: those of chunks of rows are joined in order, so that threads change no bit.
#include <algorithm>

#include "backend/cpu/isa.h"
#include "backend/cpu/loops/moments.h"
#include "keel/parallel.h"

namespace keel::cpu {

/// Chunks of rows that a matrix is taken in.
inline int64_t row_chunks(int64_t rows) { return (rows + kMomentRows - 1) / kMomentRows; }
/// Calls f(chunk, first row, rows, first column, columns) for every chunk of rows, and for strips of columns where there are few chunks.
template <class F>
void each_chunk(int64_t rows, int64_t width, F f) {
  const int64_t chunks = row_chunks(rows), strip = chunks < 4 * num_threads() ? 64 : width, strips = (width + strip - 1) / strip;
  parallel_for(0, chunks * strips, std::max<int64_t>(1, 16384 / (kMomentRows * std::min(strip, width))), [&](int64_t lo, int64_t hi) {
    for (int64_t t = lo; t < hi; ++t) {
      const int64_t first = t / strips * kMomentRows, c = t % strips * strip;
      f(t / strips, first, std::min(kMomentRows, rows - first), c, std::min(strip, width - c));
    }
  });
}
/// Of every column of x [rows, width]. `part` holds row_chunks(rows) * kMomentValues * width values.
template <class T>
void column_moments(const T* x, int64_t rows, int64_t width, T* part, double* mean, double* square) {
  const MomentLoops loops = moment_loops(dtype_of<T>);
  const bool far = rows * width * int64_t(sizeof(T)) > l2_bytes();
  each_chunk(rows, width, [&](int64_t k, int64_t first, int64_t n, int64_t c, int64_t w) {
    loops.columns(x + first * width + c, n, width, w, far, part + k * kMomentValues * width + c, width);
  });
  parallel_for(0, width, std::max<int64_t>(1, 16384 / row_chunks(rows)), [&](int64_t lo, int64_t hi) {
    std::fill(mean + lo, mean + hi, 0.0), std::fill(square + lo, square + hi, 0.0);
    for (int64_t k = 0; k < row_chunks(rows); ++k) {
      const double n = double(k * kMomentRows), m = double(std::min(kMomentRows, rows - k * kMomentRows));
      for (int64_t c = lo; c < hi; ++c) {
        Moments all{n, mean[c], square[c]};
        all.join(m, part + k * kMomentValues * width + c, width);
        mean[c] = all.mean, square[c] = all.square;
      }
    }
  });
}

}  // namespace keel::cpu
