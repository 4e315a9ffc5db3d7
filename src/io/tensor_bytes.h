#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "io/bytes.h"
#include "io/mapped_file.h"
#include "keel/base/result.h"
#include "keel/dtype.h"
#include "keel/tensor.h"

/// Between bytes of a file and tensors.
namespace keel::io {

/// A name from a file as one short line: control characters as \xNN, cut after 80 bytes, in quotes.
std::string shown(std::string_view name);

/// Elements of a shape times `bits`, in bytes; nothing where that overflows int64 or is no whole number of bytes.
std::optional<uint64_t> bytes_needed(const std::vector<int64_t>& shape, uint64_t bits);

/// A tensor of `bytes`, whose number fits. With `owner`, whose mapping holds them, they are borrowed read-only where their alignment
/// allows; else copied. A failure: more axes than a Shape holds.
Result<Tensor> tensor_of(Bytes bytes, DType t, const std::vector<int64_t>& shape, const Ref<MappedFile>& owner);

/// The tensor on the CPU, row-major and without its gradient, so that `raw_bytes` are its elements in order.
Tensor dense(const Tensor& x);
Bytes raw_bytes(const Tensor& dense);

}  // namespace keel::io
