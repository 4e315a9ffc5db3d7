// The public surface of the rows (names, inputs, params and their defaults, results) is what api/ops.json says, so that no change of it
// goes unseen. `./dev api` writes the file anew.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "base/json.h"
#include "keel/keel.h"
#include "keel/op.h"

namespace keel {
namespace {

std::string dtypes_text(DTypeSet s) {
  std::string out;
  for (int t = 1; t < kDTypes; ++t)
    if (contains(s, DType(t))) out += (out.empty() ? "" : " ") + std::string(name_of(DType(t)));
  return out;
}

void write_default(base::JsonWriter& w, const FieldInfo& info, const void* m) {
  switch (info.kind) {
    case FieldKind::boolean: w.value(*static_cast<const bool*>(m)); return;
    case FieldKind::integer: w.value(*static_cast<const int64_t*>(m)); return;
    case FieldKind::number: w.value(*static_cast<const double*>(m)); return;
    case FieldKind::scalar: w.value(to_string(*static_cast<const Scalar*>(m))); return;
    case FieldKind::dtype: w.value(name_of(*static_cast<const DType*>(m))); return;
    case FieldKind::dims: w.value(to_string(*static_cast<const Dims*>(m))); return;
    case FieldKind::enumeration: w.value(info.choices[*static_cast<const int32_t*>(m)]); return;
    case FieldKind::symbol: w.value(static_cast<const Symbol*>(m)->c_str()); return;
    case FieldKind::device: w.value(to_string(*static_cast<const Device*>(m))); return;
  }
}

std::string op_line(const OpDef& d) {
  constexpr const char* kinds[] = {"bool", "int", "float", "scalar", "dtype", "dims", "enum", "symbol", "device"};
  std::string line;
  base::JsonWriter w(line);
  w.begin_object().key("name").value(d.name).key("inputs").begin_array();
  for (const ArgDef& a : d.in) {
    w.begin_object().key("name").value(a.name).key("dtypes").value(dtypes_text(a.kinds));
    if (a.optional) w.key("optional").value(true);
    if (a.variadic) w.key("variadic").value(true);
    if (!a.grouped) w.key("alone").value(true);
    if (a.written) w.key("written").value(true);
    w.end_object();
  }
  w.end_array().key("params").begin_array();
  alignas(16) char plain[1024];
  d.params.construct(plain);
  struct Context {
    base::JsonWriter& w;
    const char* const* kinds;
  } context{w, kinds};
  FieldSink sink{&context, [](void* p, const FieldInfo& info, void* member) {
                   auto& [w, kinds] = *static_cast<Context*>(p);
                   w.begin_object().key("name").value(info.name).key("type").value(kinds[int(info.kind)]).key("default");
                   write_default(w, info, member);
                   if (info.choices) {
                     w.key("choices").begin_array();
                     for (const char* const* c = info.choices; *c; ++c) w.value(*c);
                     w.end_array();
                   }
                   w.end_object();
                 }};
  d.params.visit(plain, sink);
  w.end_array().key("outputs").begin_array();
  for (const OutDef& o : d.out) {
    w.begin_object().key("name").value(o.name);
    if (o.alias_of >= 0) w.key("alias").value(d.in[std::min(o.alias_of, d.in.size() - 1)].name);
    if (o.only_when_recording) w.key("aux").value(true);
    w.end_object();
  }
  w.end_array().end_object();
  return line;
}

TEST(Api, RowsAreThoseOfTheSnapshot) {
  std::vector<std::string> lines;
  for (int64_t i = 0; i < registry().size(); ++i) lines.push_back(op_line(registry().op(i)));
  std::sort(lines.begin(), lines.end());
  std::string all = "[\n";
  for (size_t i = 0; i < lines.size(); ++i) all += lines[i] + (i + 1 < lines.size() ? ",\n" : "\n]\n");
  if (std::getenv("KEEL_REGENERATE")) {
    std::ofstream(KEEL_API_SNAPSHOT) << all;
    return;
  }
  std::stringstream golden;
  golden << std::ifstream(KEEL_API_SNAPSHOT).rdbuf();
  const auto root = base::parse_json(golden.str());
  ASSERT_TRUE(root) << KEEL_API_SNAPSHOT << " is no JSON";
  EXPECT_EQ(root->root().size(), lines.size());
  std::stringstream want(golden.str()), got(all);
  std::string a, b;
  while (std::getline(want, a)) {
    ASSERT_TRUE(std::getline(got, b)) << "gone: " << a;
    ASSERT_EQ(b, a) << "a row's public surface changed; if that is meant, ./dev api writes the snapshot anew";
  }
  EXPECT_FALSE(std::getline(got, b)) << "new: " << b;
}

}  // namespace
}  // namespace keel
