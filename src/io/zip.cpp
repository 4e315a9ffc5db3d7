// The zip format after PKWARE's APPNOTE 6.3.10.
#include "io/zip.h"

#include <algorithm>
#include <climits>
#include <unordered_set>
#include <utility>

#include <zlib.h>

#include "io/gzip.h"

namespace keel::io {
namespace {

constexpr uint32_t kLocal = 0x04034b50, kCentral = 0x02014b50, kEnd = 0x06054b50, kEnd64 = 0x06064b50, kLocator64 = 0x07064b50;
constexpr uint16_t kStored = 0, kDeflated = 8, kTag64 = 1, kVersion = 45, kUtf8 = 0x0800, kDate = 0x21;  // 1980-01-01

uint32_t crc_of(uint32_t crc, Bytes b) {
  while (!b.empty()) {
    const size_t n = std::min<size_t>(b.size(), UINT_MAX);
    crc = static_cast<uint32_t>(::crc32(crc, reinterpret_cast<const Bytef*>(b.data()), static_cast<uInt>(n)));
    b = b.subspan(n);
  }
  return crc;
}

struct Directory {
  uint64_t offset = 0, size = 0, count = 0;
};

Result<Directory> find_directory(Bytes data) {
  // The end record is the last 22 bytes, before a comment of at most 65535.
  constexpr size_t kEndSize = 22;
  if (data.size() < kEndSize) return Failure{"not a zip archive: too short"};
  const size_t last = data.size() - kEndSize, first = last > 65535 ? last - 65535 : 0;
  size_t at = last + 1;
  while (at-- > first)
    if (load_le<uint32_t>(&data[at]) == kEnd && at + kEndSize + load_le<uint16_t>(&data[at + 20]) == data.size()) break;
  if (at + 1 == first) return Failure{"not a zip archive: no directory at its end"};
  ByteReader r(data.subspan(at + 4));
  const auto disk = r.le<uint16_t>(), disk_of_directory = r.le<uint16_t>(), here = r.le<uint16_t>(), count = r.le<uint16_t>();
  Directory d;
  d.count = count;
  d.size = r.le<uint32_t>();
  d.offset = r.le<uint32_t>();
  constexpr size_t kLocatorSize = 20;
  if (at >= kLocatorSize && load_le<uint32_t>(&data[at - kLocatorSize]) == kLocator64) {
    const auto end64 = load_le<uint64_t>(&data[at - kLocatorSize + 8]);
    if (!within(end64, 56, data.size()) || load_le<uint32_t>(&data[static_cast<size_t>(end64)]) != kEnd64)
      return Failure{"damaged zip archive: zip64 end record"};
    ByteReader e(data.subspan(static_cast<size_t>(end64) + 32));
    d.count = e.le<uint64_t>();
    d.size = e.le<uint64_t>();
    d.offset = e.le<uint64_t>();
  } else if (disk != 0 || disk_of_directory != 0 || here != count) {
    return Failure{"zip archives in several volumes are not supported"};
  }
  if (!within(d.offset, d.size, at)) return Failure{"damaged zip archive: the directory lies outside the file"};
  if (d.count > d.size / 46) return Failure{"damaged zip archive: more entries than the directory can hold"};
  return d;
}

// Replaces the sizes that did not fit 32 bits by those of the zip64 field.
bool read_zip64(Bytes extra, ZipArchive::Entry& e) {
  ByteReader r(extra);
  while (r.ok() && r.left() >= 4) {
    const auto tag = r.le<uint16_t>(), length = r.le<uint16_t>();
    ByteReader field(r.take(length));
    if (!r.ok()) return false;
    if (tag != kTag64) continue;
    for (uint64_t* v : {&e.size, &e.compressed, &e.header})
      if (*v == UINT32_MAX) *v = field.le<uint64_t>();
    return field.ok();
  }
  return e.size != UINT32_MAX && e.compressed != UINT32_MAX && e.header != UINT32_MAX;
}

}  // namespace

Result<ZipArchive> ZipArchive::open(Bytes data) {
  const auto directory = find_directory(data);
  if (!directory) return directory.failure();
  ZipArchive z;
  z.data_ = data;
  ByteReader r(data.subspan(static_cast<size_t>(directory->offset), static_cast<size_t>(directory->size)));
  for (uint64_t i = 0; i < directory->count; ++i) {
    Entry e;
    const auto signature = r.le<uint32_t>();
    r.take(4);
    e.flags = r.le<uint16_t>();
    e.method = r.le<uint16_t>();
    r.take(4);
    e.crc = r.le<uint32_t>();
    e.compressed = r.le<uint32_t>();
    e.size = r.le<uint32_t>();
    const auto name = r.le<uint16_t>(), extra = r.le<uint16_t>(), comment = r.le<uint16_t>();
    r.take(8);
    e.header = r.le<uint32_t>();
    e.name = std::string(text_of(r.take(name)));
    const Bytes fields = r.take(extra);
    r.take(comment);
    if (!r.ok() || signature != kCentral || !read_zip64(fields, e))
      return Failure{"damaged zip archive: directory entry " + std::to_string(i)};
    z.entries_.push_back(std::move(e));
  }
  std::unordered_set<std::string_view> names;
  std::vector<std::pair<uint64_t, uint64_t>> ranges;
  for (const Entry& e : z.entries_) {
    if (!names.insert(e.name).second) return Failure{"zip archive names '" + e.name + "' twice"};
    const auto content = z.raw(e);
    if (!content) return content.failure();
    ranges.emplace_back(e.header, static_cast<uint64_t>(content->data() - data.data()) + content->size());
  }
  std::sort(ranges.begin(), ranges.end());
  for (size_t i = 1; i < ranges.size(); ++i)
    if (ranges[i].first < ranges[i - 1].second) return Failure{"damaged zip archive: entries overlap"};
  return z;
}

const ZipArchive::Entry* ZipArchive::find(std::string_view name) const {
  for (const Entry& e : entries_)
    if (e.name == name) return &e;
  return nullptr;
}

Result<Bytes> ZipArchive::raw(const Entry& e) const {
  if (!within(e.header, 30, data_.size())) return Failure{"damaged zip archive: '" + e.name + "' lies outside the file"};
  ByteReader r(data_.subspan(static_cast<size_t>(e.header)));
  const auto signature = r.le<uint32_t>();
  r.take(22);
  const auto name = r.le<uint16_t>(), extra = r.le<uint16_t>();
  const std::string_view local = text_of(r.take(name));
  r.take(extra);
  const Bytes content = r.take(e.compressed);
  if (!r.ok() || signature != kLocal) return Failure{"damaged zip archive: '" + e.name + "' lies outside the file"};
  if (local != e.name) return Failure{"damaged zip archive: '" + e.name + "' has another name in its own header"};
  return content;
}

Result<std::string> ZipArchive::read(const Entry& e, size_t most) const {
  if ((e.flags & 1) != 0) return Failure{"'" + e.name + "' is encrypted"};
  if (e.size > most) return Failure{"'" + e.name + "' holds more than the " + std::to_string(most) + " bytes allowed"};
  const auto content = raw(e);
  if (!content) return content.failure();
  Result<std::string> out = std::string();
  if (e.method == kStored) {
    if (content->size() != e.size) return Failure{"damaged zip archive: sizes of '" + e.name + "' disagree"};
    out = std::string(text_of(*content));
  } else if (e.method == kDeflated) {
    out = inflate_raw(*content, static_cast<size_t>(e.size));
    if (!out) return Failure{"'" + e.name + "': " + out.message()};
  } else {
    return Failure{"'" + e.name + "' is compressed by method " + std::to_string(e.method) + "; stored and deflated are supported"};
  }
  if (crc_of(0, bytes_of(*out)) != e.crc) return Failure{"damaged zip archive: checksum of '" + e.name + "'"};
  return out;
}

void ZipWriter::add(std::string_view name, const std::vector<Bytes>& pieces, bool compress) {
  const uint64_t header = out_.written();
  uint64_t size = 0;
  uint32_t crc = 0;
  for (const Bytes b : pieces) size += b.size(), crc = crc_of(crc, b);
  std::string packed;
  if (compress) {
    std::string all;
    for (const Bytes b : pieces) all += text_of(b);
    packed = deflate_raw(bytes_of(all));
  }
  const uint64_t compressed = compress ? packed.size() : size;
  const auto clip = [](uint64_t v) { return static_cast<uint32_t>(std::min<uint64_t>(v, UINT32_MAX)); };
  const bool large = size >= UINT32_MAX || compressed >= UINT32_MAX;
  const auto common = [&](std::string& s) {
    append_le<uint16_t>(s, kVersion), append_le<uint16_t>(s, kUtf8), append_le<uint16_t>(s, compress ? kDeflated : kStored);
    append_le<uint16_t>(s, 0), append_le<uint16_t>(s, kDate), append_le<uint32_t>(s, crc);
    append_le<uint32_t>(s, large ? UINT32_MAX : clip(compressed)), append_le<uint32_t>(s, large ? UINT32_MAX : clip(size));
    append_le<uint16_t>(s, static_cast<uint16_t>(name.size()));
  };
  std::string local, sizes;
  if (large) append_le<uint16_t>(sizes, kTag64), append_le<uint16_t>(sizes, 16), append_le(sizes, size), append_le(sizes, compressed);
  append_le(local, kLocal);
  common(local);
  append_le<uint16_t>(local, static_cast<uint16_t>(sizes.size()));
  out_.write(local.append(name).append(sizes));
  if (compress)
    out_.write(packed);
  else
    for (const Bytes b : pieces) out_.write(b.data(), b.size());

  std::string extra;
  if (large || header >= UINT32_MAX) {
    append_le<uint16_t>(extra, kTag64),
        append_le<uint16_t>(extra, static_cast<uint16_t>((large ? 16 : 0) + (header >= UINT32_MAX ? 8 : 0)));
    if (large) append_le(extra, size), append_le(extra, compressed);
    if (header >= UINT32_MAX) append_le(extra, header);
  }
  append_le(directory_, kCentral), append_le<uint16_t>(directory_, kVersion);
  common(directory_);
  append_le<uint16_t>(directory_, static_cast<uint16_t>(extra.size()));
  directory_.append(2 + 2 + 2 + 4, '\0');  // comment, disk, attributes
  append_le<uint32_t>(directory_, clip(header));
  directory_.append(name).append(extra);
  ++count_;
}

void ZipWriter::finish() {
  const uint64_t offset = out_.written(), size = directory_.size();
  std::string end;
  if (count_ >= UINT16_MAX || offset >= UINT32_MAX || size >= UINT32_MAX) {
    append_le(end, kEnd64), append_le<uint64_t>(end, 44), append_le<uint16_t>(end, kVersion), append_le<uint16_t>(end, kVersion);
    append_le<uint32_t>(end, 0), append_le<uint32_t>(end, 0), append_le(end, count_), append_le(end, count_), append_le(end, size),
        append_le(end, offset);
    append_le(end, kLocator64), append_le<uint32_t>(end, 0), append_le(end, offset + size), append_le<uint32_t>(end, 1);
  }
  append_le(end, kEnd), append_le<uint32_t>(end, 0);
  for (int i = 0; i < 2; ++i) append_le<uint16_t>(end, static_cast<uint16_t>(std::min<uint64_t>(count_, UINT16_MAX)));
  append_le<uint32_t>(end, static_cast<uint32_t>(std::min<uint64_t>(size, UINT32_MAX)));
  append_le<uint32_t>(end, static_cast<uint32_t>(std::min<uint64_t>(offset, UINT32_MAX))), append_le<uint16_t>(end, 0);
  out_.write(directory_);
  out_.write(end);
}

}  // namespace keel::io
