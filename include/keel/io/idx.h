#pragma once
#include <string>
#include <string_view>

#include "keel/base/result.h"
#include "keel/tensor.h"

#pragma GCC visibility push(default)
namespace keel::io {

/// An array in the IDX format of the MNIST files (u8, i8, i16, i32, f32, f64, most significant byte first); a path that ends in .gz is
/// unpacked.
Result<Tensor> read_idx(const std::string& path);
Result<Tensor> parse_idx(std::string_view bytes);

}  // namespace keel::io
#pragma GCC visibility pop
