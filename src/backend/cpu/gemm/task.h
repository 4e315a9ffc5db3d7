#pragma once
#include "backend/cpu/gemm/gemm.h"

// What gemm.cpp (planning, threads) and the per-target code share. Not for other folders.
namespace keel::cpu {

/// One rectangle of C of one batch entry, with everything a thread needs to compute it.
struct GemmTask {
  int64_t m, n, k;  // of the rectangle
  const void* a;
  int64_t a_rs, a_cs;
  const void* b;
  int64_t b_rs, b_cs;
  void* c;
  int64_t ldc;
  double alpha, beta;
  const char* packed_b;    // whole packed B, or null
  int64_t packed_n, col0;  // its columns rounded up; first column of the rectangle (a multiple of the panel width)
  int64_t row0, batch;     // for the hook
  const GemmEpilogue* epilogue;
  int64_t bias_offset, pre_offset;  // elements, to the rectangle's first in `bias` (also its first column) and in `pre`
  char* workspace;
};

/// Tile and scratch sizes of one pair of dtypes on one target.
struct GemmShape {
  int64_t mr, nr;     // rows and columns of a register tile; panels of packed B are nr wide
  int64_t workspace;  // bytes a task
  int64_t kr = 1;     // packed B has k rounded up to a multiple of this; above 1 it holds 16-bit elements as they are
};

inline constexpr int64_t kKBlockBytes =
    2048;  // k block: 512 of f32, 256 of f64; fixes the order of summation, so it never depends on the machine

/// Length of the k blocks for a given k and size of the computing type: equal parts, a multiple of 8.
constexpr int64_t k_block(int64_t k, int64_t bytes) {
  const int64_t most = kKBlockBytes / bytes, parts = (k + most - 1) / most;
  return k <= most ? k : ((k + parts - 1) / parts + 7) / 8 * 8;
}
constexpr int64_t round_up(int64_t x, int64_t to) { return (x + to - 1) / to * to; }

/// How up to 8 rows pass over a B that is read once (stream-inl.h): contiguous along k; along n in wide stretches, with partial sums
/// in `sums`; along n.
enum class GemmStream : uint8_t { transposed, wide, rows };
void gemm_stream(GemmStream form, const GemmTask& t, const float* a, const float* b, float* c, float* sums, int64_t kc);
void gemm_stream(GemmStream form, const GemmTask& t, const double* a, const double* b, double* c, double* sums, int64_t kc);

GemmShape gemm_shape_f32(Elem in, Elem out);
void gemm_task_f32(Elem in, Elem out, const GemmTask& t);
void gemm_pack_b_f32(Elem in, int64_t k, int64_t n, const void* b, int64_t rs, int64_t cs, void* packed);
GemmShape gemm_shape_f64(Elem in, Elem out);
void gemm_task_f64(Elem in, Elem out, const GemmTask& t);
void gemm_pack_b_f64(Elem in, int64_t k, int64_t n, const void* b, int64_t rs, int64_t cs, void* packed);
GemmShape gemm_shape_half(Elem in, Elem out);
void gemm_task_half(Elem in, Elem out, const GemmTask& t);
void gemm_pack_b_half(Elem in, int64_t k, int64_t n, const void* b, int64_t rs, int64_t cs, void* packed);

/// Epilogue of rows [row, row + rows) x columns [col, col + cols) of a rectangle of f32 or 16-bit C, whose sums, times alpha, are in `sums`.
void gemm_finish_half(Elem out, const GemmTask& t, const float* sums, int64_t lds, int64_t row, int64_t rows, int64_t col, int64_t cols);

// bf16 by AMX tiles, or else by AVX-512 BF16 dot products; what gemm_*_half choose where these are in use. x86-64 only.
GemmShape gemm_shape_bf16(bool tiles);
void gemm_task_bf16(bool tiles, Elem out, const GemmTask& t);
void gemm_pack_b_bf16(int64_t k, int64_t n, const void* b, int64_t rs, int64_t cs, void* packed);

}  // namespace keel::cpu
