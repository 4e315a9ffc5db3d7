#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "io/atomic_file.h"
#include "io/bytes.h"
#include "keel/base/result.h"

namespace keel::io {

/// An archive in memory or a mapped file, which must outlive it. Stored and deflated entries, zip64; no encryption, no archives in several
/// volumes.
class ZipArchive {
 public:
  struct Entry {
    std::string name;
    uint64_t size = 0, compressed = 0, header = 0;  // header: offset of the local header
    uint32_t crc = 0;
    uint16_t method = 0, flags = 0;
  };
  /// Reads the directory and checks that every entry lies inside the file, that names are unique, and that no two entries share bytes.
  static Result<ZipArchive> open(Bytes data);
  const std::vector<Entry>& entries() const { return entries_; }
  /// The entry of that name; null where there is none.
  const Entry* find(std::string_view name) const;
  /// The content, checked against its CRC. More than `most` bytes is a failure.
  Result<std::string> read(const Entry& e, size_t most) const;

 private:
  Result<Bytes> raw(const Entry& e) const;
  Bytes data_;
  std::vector<Entry> entries_;
};

/// Writes an archive into a file; `finish` writes the directory. Times are fixed, so that equal content gives equal bytes.
class ZipWriter {
 public:
  explicit ZipWriter(AtomicFile& out) : out_(out) {}
  /// An entry made of `pieces` one after the other.
  void add(std::string_view name, const std::vector<Bytes>& pieces, bool compress = false);
  void finish();

 private:
  AtomicFile& out_;
  std::string directory_;
  uint64_t count_ = 0;
};

}  // namespace keel::io
