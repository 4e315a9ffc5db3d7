#pragma once
#include <cstdint>

#pragma GCC visibility push(default)
namespace keel {

/// With how many digits a GPU multiplies f32 in products and convolutions. `highest`: all of them. `high`: operands may be rounded to TF32,
/// which has f32's range and 11 bits, as tensor cores multiply these several times as fast; sums stay f32. The CPU, other dtypes and calls
/// at the level `invariant` (keel/determinism.h) know `highest` only.
enum class MatmulPrecision : uint8_t { highest, high };

/// Of all threads; `highest` from the start. The name is PyTorch's.
void set_float32_matmul_precision(MatmulPrecision p);
MatmulPrecision float32_matmul_precision();

/// "highest" or "high".
const char* name_of(MatmulPrecision p);
/// The one of that name; raises where there is none.
MatmulPrecision matmul_precision_from_name(const char* name);

}  // namespace keel
#pragma GCC visibility pop
