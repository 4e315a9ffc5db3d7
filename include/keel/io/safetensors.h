#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "keel/base/result.h"
#include "keel/state_dict.h"

#pragma GCC visibility push(default)
namespace keel::io {

/// Text by key, in order.
using Metadata = std::vector<std::pair<std::string, std::string>>;

/// The content of a safetensors file.
struct Safetensors {
  /// A tensor as the file describes it.
  struct Entry {
    std::string name, dtype;  ///< the format's name of the dtype, such as "BF16"
    std::vector<int64_t> shape;
    uint64_t begin = 0, end = 0;  ///< bytes, counted from the end of the header
  };
  StateDict
      tensors;  ///< in the order of the header; dtypes that Keel lacks (F4, F6, F8_E8M0) as u8, the last axis counted in bytes, or flat
  Metadata metadata;
  std::vector<Entry> entries;
};

/// Maps a file: no bytes are copied, tensors are read-only and keep the mapping alive. A tensor whose bytes are not aligned to its dtype is
/// copied. Refuses what upstream refuses: a header that is no JSON or longer than 100 MB, wrong sizes, offsets that overlap, leave holes or
/// do not end with the file; also names that appear twice.
Result<Safetensors> read_safetensors(const std::string& path);
/// The same from memory, of which it keeps a copy.
Result<Safetensors> parse_safetensors(std::string_view bytes);

/// The file that the reference writer makes: tensors ordered by falling alignment of their dtype, then by name; metadata by key; header
/// padded to 8 bytes. Fails for complex128, which the format lacks.
Result<std::string> to_safetensors(const StateDict& tensors, const Metadata& metadata = {});
Result<void> write_safetensors(const std::string& path, const StateDict& tensors, const Metadata& metadata = {});

}  // namespace keel::io
#pragma GCC visibility pop
