#include "base/symbol.h"

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string_view>
#include <vector>

#include "base/debug_line.h"
#include "base/threads.h"

#if defined(__linux__) && defined(__LP64__)
#include <cxxabi.h>
#include <dlfcn.h>
#include <elf.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#define KEEL_HAS_ELF 1
#endif

namespace keel::base {
namespace {

std::string hex(uint64_t v) {
  char text[20];
  std::snprintf(text, sizeof text, "+0x%llx", static_cast<unsigned long long>(v));
  return text;
}

#if defined(KEEL_HAS_ELF)
/// The functions of one file, by address.
struct SymbolTable {
  struct Entry {
    uint64_t begin, size;
    std::string name;
  };
  std::vector<Entry> entries;
  LineTable lines;        // of a file with debug information, which then stays mapped
  bool relocated = true;  // addresses count from where the file was loaded
  bool opened = false;
};

/// Reads .symtab, or .dynsym where a file was stripped. Every offset is checked against the file's size: the file may be anything.
SymbolTable read_symbols(const char* file) {
  SymbolTable table;
  const int fd = ::open(file, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return table;
  struct stat st {};
  const bool ok = ::fstat(fd, &st) == 0 && st.st_size > static_cast<off_t>(sizeof(Elf64_Ehdr));
  const auto bytes = static_cast<uint64_t>(st.st_size);
  void* map = ok ? ::mmap(nullptr, bytes, PROT_READ, MAP_PRIVATE, fd, 0) : MAP_FAILED;
  ::close(fd);
  if (map == MAP_FAILED) return table;
  table.opened = true;
  const auto* base = static_cast<const char*>(map);
  Elf64_Ehdr head;
  std::memcpy(&head, base, sizeof head);
  const auto inside = [&](uint64_t at, uint64_t n) { return at <= bytes && n <= bytes - at; };
  if (std::memcmp(head.e_ident, ELFMAG, SELFMAG) == 0 && head.e_ident[EI_CLASS] == ELFCLASS64 && head.e_shentsize == sizeof(Elf64_Shdr) &&
      inside(head.e_shoff, uint64_t(head.e_shnum) * sizeof(Elf64_Shdr))) {
    table.relocated = head.e_type == ET_DYN;
    std::vector<Elf64_Shdr> sections(head.e_shnum);
    std::memcpy(sections.data(), base + head.e_shoff, sections.size() * sizeof(Elf64_Shdr));
    for (const uint32_t wanted : {SHT_SYMTAB, SHT_DYNSYM}) {
      for (const Elf64_Shdr& s : sections) {
        if (s.sh_type != wanted || s.sh_link >= sections.size() || !inside(s.sh_offset, s.sh_size)) continue;
        const Elf64_Shdr& strings = sections[s.sh_link];
        if (!inside(strings.sh_offset, strings.sh_size)) continue;
        for (uint64_t at = 0; at + sizeof(Elf64_Sym) <= s.sh_size; at += sizeof(Elf64_Sym)) {
          Elf64_Sym symbol;
          std::memcpy(&symbol, base + s.sh_offset + at, sizeof symbol);
          if (ELF64_ST_TYPE(symbol.st_info) != STT_FUNC || symbol.st_shndx == SHN_UNDEF || symbol.st_name >= strings.sh_size) continue;
          const char* name = base + strings.sh_offset + symbol.st_name;
          table.entries.push_back({symbol.st_value, symbol.st_size, std::string(name, strnlen(name, strings.sh_size - symbol.st_name))});
        }
      }
      if (!table.entries.empty()) break;
    }
    std::sort(table.entries.begin(), table.entries.end(), [](const auto& a, const auto& b) { return a.begin < b.begin; });
    const auto section = [&](std::string_view name) -> std::string_view {
      if (head.e_shstrndx >= sections.size()) return {};
      const Elf64_Shdr& names = sections[head.e_shstrndx];
      if (!inside(names.sh_offset, names.sh_size)) return {};
      for (const Elf64_Shdr& s : sections) {
        if (s.sh_type == SHT_NOBITS || (s.sh_flags & SHF_COMPRESSED) || s.sh_name >= names.sh_size || !inside(s.sh_offset, s.sh_size)) continue;
        const char* text = base + names.sh_offset + s.sh_name;
        if (std::string_view(text, strnlen(text, names.sh_size - s.sh_name)) == name) return {base + s.sh_offset, s.sh_size};
      }
      return {};
    };
    if (const std::string_view lines = section(".debug_line"); !lines.empty()) {
      table.lines = LineTable(lines, section(".debug_line_str"), section(".debug_str"));
      return table;
    }
  }
  ::munmap(map, bytes);
  return table;
}

std::string demangle(const char* name) {
  int status = 0;
  char* plain = abi::__cxa_demangle(name, nullptr, nullptr, &status);
  std::string s = plain && status == 0 ? plain : name;
  std::free(plain);
  for (std::string_view drop : {"keel::", "(anonymous namespace)::"})
    for (size_t at; (at = s.find(drop)) != s.npos;) s.erase(at, drop.size());
  if (s.size() > 160) s.resize(157), s += "...";
  return s;
}

std::string look_up(const void* address) {
  Dl_info info{};
  const auto at = reinterpret_cast<uintptr_t>(address) - 1;  // a return address may be the first byte of the next function
  if (!::dladdr(reinterpret_cast<const void*>(at), &info) || !info.dli_fname) return {};
  static Mutex mutex;
  static auto* tables = new std::map<std::string, SymbolTable, std::less<>>;
  const std::lock_guard lock(mutex);
  auto it = tables->find(info.dli_fname);
  if (it == tables->end()) {
    SymbolTable t = read_symbols(info.dli_fname);
    if (!t.opened) t = read_symbols("/proc/self/exe");  // the program's own name may be relative to a folder that it left
    it = tables->emplace(info.dli_fname, std::move(t)).first;
  }
  const SymbolTable& table = it->second;
  const uint64_t offset = table.relocated ? at - reinterpret_cast<uintptr_t>(info.dli_fbase) : at;
  std::string line = table.lines.find(offset);
  if (!line.empty()) line = " (" + line + ")";
  auto next = std::upper_bound(table.entries.begin(), table.entries.end(), offset, [](uint64_t v, const auto& e) { return v < e.begin; });
  if (next != table.entries.begin()) {
    const auto& e = *std::prev(next);
    if (offset - e.begin < e.size) return demangle(e.name.c_str()) + hex(offset + 1 - e.begin) + line;
  }
  if (info.dli_sname) return demangle(info.dli_sname) + hex(at + 1 - reinterpret_cast<uintptr_t>(info.dli_saddr)) + line;
  const char* slash = std::strrchr(info.dli_fname, '/');
  return std::string(slash ? slash + 1 : info.dli_fname) + hex(offset + 1) + line;
}
#endif

}  // namespace

std::string describe_code(const void* address) {
#if defined(KEEL_HAS_ELF)
  if (std::string s = look_up(address); !s.empty()) return s;
#endif
  return "code" + hex(reinterpret_cast<uintptr_t>(address));
}

}  // namespace keel::base
