#pragma once
#include <cstddef>
#include <string>

#include "io/bytes.h"
#include "keel/base/result.h"

namespace keel::io {

/// The content of gzip data (RFC 1952), of all its members one after the other. More than `most` bytes, damage or missing data is a
/// failure.
Result<std::string> gunzip(Bytes data, size_t most);

/// The same of a file.
Result<std::string> gunzip_file(const std::string& path, size_t most = size_t(1) << 32);

/// Raw deflate (RFC 1951) of `size` bytes exactly, as zip archives hold it.
Result<std::string> inflate_raw(Bytes data, size_t size);
std::string deflate_raw(Bytes data, int level = 6);

/// zlib format (RFC 1950), as PNG holds it.
std::string deflate_zlib(Bytes data, int level = 6);

}  // namespace keel::io
