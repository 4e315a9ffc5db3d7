#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "keel/base/result.h"
#include "keel/io/file.h"

namespace keel::io {

/// Writes a file so that its name shows, at every moment and after a crash, either the old content or the whole new one: into a file beside
/// it, which `commit` flushes to the disk and renames. Destruction without `commit` leaves no trace.
class AtomicFile {
 public:
  static Result<AtomicFile> create(const std::string& path);
  AtomicFile(AtomicFile&& o) noexcept;
  AtomicFile& operator=(AtomicFile&&) = delete;
  ~AtomicFile();

  /// Appends. After a failure, later calls do nothing and `commit` reports it.
  void write(const void* data, size_t bytes);
  void write(std::string_view text) { write(text.data(), text.size()); }
  uint64_t written() const { return written_; }
  Result<void> commit();

 private:
  AtomicFile() = default;
  void flush();
  std::string path_, temporary_, buffer_, error_;
  int fd_ = -1;
  uint64_t written_ = 0;
};

}  // namespace keel::io
