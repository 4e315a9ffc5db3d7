#pragma once
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

/// Reading of environment variables. Only start-up code reads them, never a kernel.
namespace keel::base {

/// The value of a variable; empty where it is unset.
inline std::string_view env_string(const char* name) {
  const char* v = std::getenv(name);
  return v == nullptr ? std::string_view() : std::string_view(v);
}

/// The decimal integer at the start of `text`, ended by the end, a comma or white space; nothing where there is none or it leaves [0,
/// 2^31).
inline std::optional<int64_t> leading_int(std::string_view text) {
  size_t i = 0;
  while (i < text.size() && (text[i] == ' ' || text[i] == '\t')) ++i;
  const size_t first = i;
  int64_t v = 0;
  for (; i < text.size() && text[i] >= '0' && text[i] <= '9'; ++i)
    if ((v = v * 10 + (text[i] - '0')) >= (int64_t(1) << 31)) return std::nullopt;
  if (i == first || (i < text.size() && text[i] != ',' && text[i] != ' ' && text[i] != '\t' && text[i] != '\n')) return std::nullopt;
  return v;
}

/// A variable that holds a non-negative integer; nothing where it is unset or malformed. Of a comma-separated list the first counts.
inline std::optional<int64_t> env_int(const char* name) { return leading_int(env_string(name)); }

/// A sentence for each of Keel's variables that holds none of the values it can have; what reads it does as if it were unset.
std::vector<std::string> env_complaints();

}  // namespace keel::base
