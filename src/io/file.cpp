#include "keel/io/file.h"

#include <utility>

#include "io/gzip.h"
#include "io/mapped_file.h"
#include "keel/error.h"

namespace keel::io {

Result<std::string> read_file(const std::string& path) {
  if (path.ends_with(".gz")) return gunzip_file(path);
  const auto file = MappedFile::open(path);
  if (!file) return file.failure();
  return std::string(text_of((*file)->bytes()));
}

std::string read_text(const std::string& path) {
  auto text = read_file(path);
  if (!text) raise(Error(ErrorCode::io, text.message()).op("read_text"));
  return std::move(*text);
}

}  // namespace keel::io
