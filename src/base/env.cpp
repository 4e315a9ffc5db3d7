#include "base/env.h"

namespace keel::base {
namespace {

bool is_count(std::string_view v) { return leading_int(v).has_value(); }
bool is_switch(std::string_view v) { return v == "0" || v == "1"; }

/// The variables that take a value out of few; KEEL_ISA is judged where instruction sets are known, the others are paths and topics.
constexpr struct {
  const char *name, *wanted;
  bool (*good)(std::string_view);
} kVariables[] = {
    {"KEEL_NUM_THREADS", "a whole number", is_count},
    {"KEEL_WINOGRAD", "0 or 1", is_switch},
    {"KEEL_FUSE", "0, 1 or all", [](std::string_view v) { return is_switch(v) || v == "all"; }},
    {"KEEL_BRANCHES", "0 or 1", is_switch},
    {"KEEL_DEVICE_POOL", "0, 1 or nan", [](std::string_view v) { return is_switch(v) || v == "nan"; }},
};

}  // namespace

std::vector<std::string> env_complaints() {
  std::vector<std::string> all;
  for (const auto& v : kVariables)
    if (const std::string_view held = env_string(v.name); !held.empty() && !v.good(held))
      all.push_back(std::string(v.name) + "=" + std::string(held) + " is not " + v.wanted + ", and is ignored");
  return all;
}

}  // namespace keel::base
