#pragma once
#include <cstddef>
#include <string>

#include "io/bytes.h"
#include "keel/base/ref.h"
#include "keel/base/result.h"

namespace keel::io {

/// The content of a file, mapped read-only where the system can; whoever holds a Ref keeps it.
class MappedFile : public RefCounted {
 public:
  /// The failure names the path and what the system said.
  static Result<Ref<MappedFile>> open(const std::string& path);
  Bytes bytes() const { return {data_, size_}; }
  const std::string& path() const { return path_; }
  static void destroy(MappedFile* f) { delete f; }

 private:
  MappedFile() = default;
  ~MappedFile();
  std::string path_;
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
  bool mapped_ = false;
};

}  // namespace keel::io
