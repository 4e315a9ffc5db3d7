#pragma once
#include <string>
#include <string_view>

#include "keel/base/result.h"
#include "keel/io/safetensors.h"
#include "keel/state_dict.h"

#pragma GCC visibility push(default)
namespace keel::io {

/// Keel's own file, for training states: any dtype, a checksum over everything, written so that a crash at any moment leaves the old file
/// or the new one.
///
///     offset  bytes
///     0       8      "KEELCKPT"
///     8       4      version, 1
///     12      4      flags, 0
///     16      8      n, bytes of the index; a multiple of 64
///     24      8      m, bytes of data
///     32      32     SHA-256 of bytes 0 to 32 and the index
///     64      n      index in JSON, padded with spaces:
///                    {"metadata": {key: text}, "tensors": [{"name", "dtype", "shape", "offset", "bytes", "sha256"}]}
///     64 + n  m      data: tensors in the order of the index, each at a multiple of 64, zeros between
struct Checkpoint {
  StateDict tensors;
  Metadata metadata;
};

/// Maps a file: tensors are read-only and keep the mapping alive. `verify_data` compares the checksum of every tensor, which reads the
/// whole file; the index is always compared.
Result<Checkpoint> read_checkpoint(const std::string& path, bool verify_data = true);
/// The same from memory, of which it keeps a copy.
Result<Checkpoint> parse_checkpoint(std::string_view bytes);
Result<void> write_checkpoint(const std::string& path, const StateDict& tensors, const Metadata& metadata = {});

}  // namespace keel::io
#pragma GCC visibility pop
