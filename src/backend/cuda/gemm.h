#pragma once
// Matrix products by cuBLASLt, which is opened when the first one is asked for.
#include "backend/cuda/kernel.h"

namespace keel::cuda {

/// What a product ends in. gelu, in its tanh form: of the sum with the bias, which goes to `inner` where that is there.
enum class After : uint8_t { nothing, gelu };
/// c[m, n] = a[m, k] b[k, n] (+ bias[n]), row-major result with rows `ldc` apart, `batch` times. A matrix is given by its row and column
/// strides, one of which is 1.
struct Product {
  DType dtype = DType::none, result = DType::none;  // of a and b; of c, none: the same
  int64_t m = 0, n = 0, k = 0, batch = 1;
  const void *a = nullptr, *b = nullptr, *bias = nullptr;
  void* c = nullptr;
  int64_t a_row = 0, a_column = 0, b_row = 0, b_column = 0, ldc = 0;
  int64_t a_step = 0, b_step = 0, c_step = 0;  // from one of the batch to the next
  After after = After::nothing;
  void* inner = nullptr;  // like c
  /// A row of c is to have the same bits however many rows and products there are, and whichever of them it is. Holds where elements of a
  /// row of `a` are neighbours and rows begin as those of dense memory do; other products are run as they are fastest.
  bool invariant = false;
  bool tf32 = false;   // of f32: operands may be rounded to TF32
  bool parts = false;  // of `invariant`: operands and result may be parts of larger ones, and begin at any row; else at a vector of 16 bytes
};

/// Whether a matrix with these strides can be an operand.
constexpr bool blas_strides(int64_t rows, int64_t columns, int64_t row, int64_t column) {
  return (column == 1 && (row >= columns || rows == 1)) || (row == 1 && (column >= rows || columns == 1));
}

/// The largest power of 2, up to 16, that divides `bytes`.
constexpr int64_t grain(int64_t bytes) {
  int64_t n = 1;
  while (n < 16 && bytes % (2 * n) == 0) n *= 2;
  return n;
}

/// Why cuBLASLt cannot be had, or null.
const char* gemm_refusal();
KernelStatus multiply(const Product& p, int device, cudaStream_t stream);
/// The same; false, and nothing done, where cuBLASLt has no algorithm that ends so.
bool multiplied(const Product& p, int device, cudaStream_t stream, KernelStatus& status);

/// The same by a kernel of our own, each sum in the order of k; with any strides, and without `after`.
KernelStatus plain_product(const Product& p, int device, cudaStream_t stream);

}  // namespace keel::cuda
