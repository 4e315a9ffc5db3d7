// A line program is a byte code that steps through addresses and lines (DWARF 5, section 6.2). The first pass notes the address ranges of all units; a search then runs one unit again.
#include "base/debug_line.h"

#include <algorithm>
#include <cstring>

namespace keel::base {
namespace {

/// Reads little-endian values; past the end it gives zeros and says so.
struct Reader {
  std::string_view bytes;
  uint64_t at = 0;
  bool good = true;

  bool more() const { return good && at < bytes.size(); }
  template <class T>
  T fixed() {
    T v{};
    if (!good || bytes.size() - std::min<uint64_t>(at, bytes.size()) < sizeof(T)) {
      good = false;
      return v;
    }
    std::memcpy(&v, bytes.data() + at, sizeof v);
    at += sizeof v;
    return v;
  }
  uint64_t offset(bool wide) { return wide ? fixed<uint64_t>() : fixed<uint32_t>(); }
  uint64_t leb(bool with_sign = false) {
    uint64_t v = 0;
    for (int shift = 0; shift < 70; shift += 7) {
      const auto b = fixed<uint8_t>();
      if (shift < 64) v |= uint64_t(b & 0x7f) << shift;
      if (b & 0x80) continue;
      if (with_sign && (b & 0x40) && shift + 7 < 64) v |= ~uint64_t(0) << (shift + 7);
      return v;
    }
    good = false;
    return 0;
  }
  std::string_view text() {
    if (!more()) return good = false, std::string_view();
    const size_t end = bytes.find('\0', at);
    if (end == std::string_view::npos) return good = false, std::string_view();
    const std::string_view s = bytes.substr(at, end - at);
    at = end + 1;
    return s;
  }
  void skip(uint64_t n) {
    if (n > bytes.size() - std::min<uint64_t>(at, bytes.size())) good = false;
    else at += n;
  }
};

std::string_view text_at(std::string_view section, uint64_t at) {
  Reader r{section, at};
  return r.text();
}

/// One unit: its header, and where its program lies.
struct Unit {
  uint64_t end = 0;  // of the unit
  Reader program;
  uint8_t step = 1, base_opcode = 0, range = 1;
  int8_t base_line = 0;
  uint8_t operands[256] = {};
  struct File {
    std::string_view name;
    uint64_t folder = 0;
  };
  std::vector<std::string_view> folders;
  std::vector<File> files;
  uint16_t version = 0;

  std::string path(uint64_t file) const {
    const uint64_t i = version >= 5 ? file : file - 1;
    if (i >= files.size()) return {};
    const File& f = files[i];
    const uint64_t k = version >= 5 ? f.folder : f.folder - 1;  // before version 5, folder 0 is where the compiler ran
    std::string out;
    if (!f.name.starts_with('/') && k < folders.size() && !(version >= 5 && k == 0)) out = std::string(folders[k]) + "/";
    out += f.name;
    while (out.starts_with("../")) out.erase(0, 3);  // the build folder lies inside the project
    return out;
  }
};

/// Names of folders or files as version 5 lists them: first which columns there are, then the rows.
bool read_names(Reader& r, bool wide, std::string_view line_str, std::string_view str, std::vector<Unit::File>& out) {
  constexpr uint64_t kPath = 1, kFolder = 2;
  struct Column {
    uint64_t content, form;
  } columns[8];
  const int n = r.fixed<uint8_t>();
  if (n > 8) return false;
  for (int i = 0; i < n; ++i) columns[i].content = r.leb(), columns[i].form = r.leb();
  const uint64_t rows = r.leb();
  if (n == 0) return rows == 0;
  for (uint64_t row = 0; row < rows && r.good; ++row) {
    Unit::File f;
    for (int i = 0; i < n; ++i) {
      std::string_view text;
      uint64_t number = 0;
      switch (columns[i].form) {
        case 0x08: text = r.text(); break;
        case 0x1f: text = text_at(line_str, r.offset(wide)); break;
        case 0x0e: text = text_at(str, r.offset(wide)); break;
        case 0x0f: number = r.leb(); break;
        case 0x0b: number = r.fixed<uint8_t>(); break;
        case 0x05: number = r.fixed<uint16_t>(); break;
        case 0x06: number = r.fixed<uint32_t>(); break;
        case 0x07: number = r.fixed<uint64_t>(); break;
        case 0x1e: r.skip(16); break;
        case 0x09: r.skip(r.leb()); break;
        default: return false;
      }
      if (columns[i].content == kPath) f.name = text;
      if (columns[i].content == kFolder) f.folder = number;
    }
    out.push_back(f);
  }
  return r.good;
}

/// The unit that begins at `at`. `names`: whether the lists of files are wanted. False where it cannot be read; `end` is right if it is not 0.
bool read_unit(std::string_view line, std::string_view line_str, std::string_view str, uint64_t at, bool names, Unit& u) {
  Reader r{line, at};
  uint64_t length = r.fixed<uint32_t>();
  const bool wide = length == 0xffffffff;
  if (wide) length = r.fixed<uint64_t>();
  if (!r.good || length > line.size() - r.at) return false;
  u.end = r.at + length;
  r.bytes = line.substr(0, u.end);
  u.version = r.fixed<uint16_t>();
  if (u.version < 2 || u.version > 5) return false;
  if (u.version >= 5) r.skip(2);
  const uint64_t header = r.offset(wide);
  if (!r.good || header > r.bytes.size() - r.at) return false;
  u.program = {r.bytes, r.at + header};
  u.step = r.fixed<uint8_t>();
  if (u.version >= 4) r.skip(1);
  r.skip(1);
  u.base_line = r.fixed<int8_t>(), u.range = r.fixed<uint8_t>(), u.base_opcode = r.fixed<uint8_t>();
  if (!r.good || u.range == 0) return false;
  for (int i = 1; i < u.base_opcode; ++i) u.operands[i] = r.fixed<uint8_t>();
  if (!names) return r.good;
  if (u.version >= 5) {
    std::vector<Unit::File> folders;
    if (!read_names(r, wide, line_str, str, folders)) return false;
    for (const Unit::File& f : folders) u.folders.push_back(f.name);
    return read_names(r, wide, line_str, str, u.files);
  }
  while (r.good) {
    const std::string_view s = r.text();
    if (s.empty()) break;
    u.folders.push_back(s);
  }
  while (r.good) {
    const std::string_view s = r.text();
    if (s.empty()) break;
    const uint64_t folder = r.leb();
    r.leb(), r.leb();
    u.files.push_back({s, folder});
  }
  return r.good;
}

/// Runs a unit's program and calls `row(address, file, line, last)` for each of its rows; `last` ends a sequence of rising addresses.
template <class F>
void run(const Unit& u, F&& row) {
  Reader r = u.program;
  uint64_t address = 0, file = 1, line = 1;
  while (r.more()) {
    const auto op = r.fixed<uint8_t>();
    if (op >= u.base_opcode) {
      const int adjusted = op - u.base_opcode;
      address += uint64_t(adjusted / u.range) * u.step, line += uint64_t(int64_t(u.base_line + adjusted % u.range));
      row(address, file, line, false);
      continue;
    }
    switch (op) {
      case 0: {
        const uint64_t n = r.leb();
        Reader inside = r;
        r.skip(n);
        if (n == 0 || !r.good) break;
        const auto kind = inside.fixed<uint8_t>();
        if (kind == 1) {
          row(address, file, line, true);
          address = 0, file = 1, line = 1;
        } else if (kind == 2) {
          address = n == 9 ? inside.fixed<uint64_t>() : n == 5 ? inside.fixed<uint32_t>() : 0;
        }
        break;
      }
      case 1: row(address, file, line, false); break;
      case 2: address += r.leb() * u.step; break;
      case 3: line += r.leb(true); break;
      case 4: file = r.leb(); break;
      case 8: address += uint64_t((255 - u.base_opcode) / u.range) * u.step; break;
      case 9: address += r.fixed<uint16_t>(); break;
      default:
        for (int i = 0; i < u.operands[op]; ++i) r.leb();
    }
  }
}

}  // namespace

LineTable::LineTable(std::string_view debug_line, std::string_view line_str, std::string_view str) : line_(debug_line), line_str_(line_str), str_(str) {
  for (uint64_t at = 0; at < line_.size();) {
    Unit u;
    const bool good = read_unit(line_, line_str_, str_, at, false, u);
    if (u.end <= at) break;
    if (good) {
      uint64_t begin = 0;
      bool inside = false;
      run(u, [&](uint64_t address, uint64_t, uint64_t, bool last) {
        if (!inside) begin = address, inside = true;
        if (!last) return;
        if (begin && address > begin) ranges_.push_back({begin, address, at});  // what the linker dropped begins at 0
        inside = false;
      });
    }
    at = u.end;
  }
  std::sort(ranges_.begin(), ranges_.end(), [](const Range& a, const Range& b) { return a.begin < b.begin; });
}

std::string LineTable::find(uint64_t address) const {
  const auto next = std::upper_bound(ranges_.begin(), ranges_.end(), address, [](uint64_t v, const Range& r) { return v < r.begin; });
  if (next == ranges_.begin() || address >= std::prev(next)->end) return {};
  Unit u;
  if (!read_unit(line_, line_str_, str_, std::prev(next)->unit, true, u)) return {};
  uint64_t file = 0, line = 0, before_file = 0, before_line = 0, before = ~uint64_t(0);
  run(u, [&](uint64_t at, uint64_t f, uint64_t l, bool last) {
    if (before <= address && address < at) file = before_file, line = before_line;
    before = last ? ~uint64_t(0) : at, before_file = f, before_line = l;
  });
  if (line == 0) return {};
  const std::string path = u.path(file);
  return path.empty() ? path : path + ":" + std::to_string(line);
}

}  // namespace keel::base
