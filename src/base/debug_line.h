#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace keel::base {

/// Which source line a piece of code came from, by the .debug_line section of an ELF file (DWARF 2 to 5). The sections must outlive it and may hold anything: every read is checked.
class LineTable {
 public:
  LineTable() = default;
  /// `line_str` and `str`: the sections .debug_line_str and .debug_str, where version 5 keeps names. Reads the whole section once, to know what lies where.
  LineTable(std::string_view debug_line, std::string_view line_str, std::string_view str);
  /// "src/net.cpp:12", the path as the compiler was given it; empty where nothing is known.
  std::string find(uint64_t address) const;

 private:
  struct Range {
    uint64_t begin, end, unit;  // addresses; where the unit that describes them begins
  };
  std::string_view line_, line_str_, str_;
  std::vector<Range> ranges_;  // by begin
};

}  // namespace keel::base
