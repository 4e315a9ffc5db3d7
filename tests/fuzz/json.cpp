#include "base/json.h"

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace {

using keel::base::JsonType;
using keel::base::JsonValue;

// Writes a value again; depth is bounded by the reader.
void write(keel::base::JsonWriter& w, JsonValue v) {
  switch (v.type()) {
    case JsonType::null: w.null(); break;
    case JsonType::boolean: w.value(v.as_bool()); break;
    case JsonType::integer: w.value(v.as_int()); break;
    case JsonType::real: w.value(v.as_double()); break;
    case JsonType::string: w.value(v.as_string()); break;
    case JsonType::array:
      w.begin_array();
      for (JsonValue e = v.first(); e; e = e.next()) write(w, e);
      w.end_array();
      break;
    case JsonType::object:
      w.begin_object();
      for (JsonValue e = v.first(); e; e = e.next()) write(w.key(e.key()), e);
      w.end_object();
      break;
  }
}
std::string text_of(const keel::base::JsonDocument& d) {
  std::string s;
  keel::base::JsonWriter w(s);
  write(w, d.root());
  return s;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto r = keel::base::parse_json(std::string_view(reinterpret_cast<const char*>(data), size));
  if (!r) return r.message().empty() ? __builtin_trap(), 0 : 0;
  const std::string once = text_of(*r);
  const auto again = keel::base::parse_json(once);
  if (!again || text_of(*again) != once) __builtin_trap();
  return 0;
}
