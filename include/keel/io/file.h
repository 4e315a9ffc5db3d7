#pragma once
#include <string>
#include <string_view>

#include "keel/base/result.h"

#pragma GCC visibility push(default)
namespace keel::io {

/// The whole content of a file; one that ends in .gz is unpacked.
Result<std::string> read_file(const std::string& path);

/// The same where a missing file is the program's end: raises an Error of code `io`.
std::string read_text(const std::string& path);

/// Replaces a file: its name shows, at every moment and after a crash, either the old content or the whole new one.
Result<void> write_file(const std::string& path, std::string_view content);

}  // namespace keel::io
#pragma GCC visibility pop
