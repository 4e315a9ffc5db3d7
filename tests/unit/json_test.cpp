#include "base/json.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <limits>
#include <string>

#include "test_data.h"

namespace keel::base {
namespace {

JsonDocument parsed(std::string_view text, const JsonLimits& limits = {}) {
  auto r = parse_json(text, limits);
  EXPECT_TRUE(r.ok()) << text << ": " << r.message();
  return r.ok() ? std::move(*r) : std::move(*parse_json("null"));
}
std::string refusal(std::string_view text, const JsonLimits& limits = {}) {
  auto r = parse_json(text, limits);
  EXPECT_FALSE(r.ok()) << text;
  return r.message();
}

TEST(Json, ReadsValues) {
  const JsonDocument d = parsed(R"( {"a": [1, -2.5e1, true, null, "x\n\u00e9\ud83d\ude00"], "b": {}, "c": [], "é": false} )");
  const JsonValue r = d.root();
  ASSERT_EQ(r.size(), 4u);
  JsonValue v = r["a"].first();
  EXPECT_EQ(v.as_int(), 1);
  EXPECT_TRUE(v.is(JsonType::integer));
  v = v.next();
  EXPECT_EQ(v.as_double(), -25.0);
  EXPECT_TRUE(v.is(JsonType::real));
  v = v.next();
  EXPECT_TRUE(v.as_bool());
  v = v.next();
  EXPECT_TRUE(v.is(JsonType::null));
  v = v.next();
  EXPECT_EQ(v.as_string(), "x\n\xc3\xa9\xf0\x9f\x98\x80");
  EXPECT_TRUE(v.next().missing());
  EXPECT_EQ(r["b"].size(), 0u);
  EXPECT_TRUE(r["b"].first().missing());
  EXPECT_TRUE(r["c"].first().missing());
  EXPECT_TRUE(r["\xc3\xa9"].is(JsonType::boolean));
  EXPECT_TRUE(r["none"].missing());
  EXPECT_TRUE(r["none"]["deeper"].missing());
  EXPECT_EQ(r["b"].as_int(), 0);
  EXPECT_EQ(r.first().key(), "a");
  EXPECT_EQ(r.first().next().key(), "b");
}

TEST(Json, NumbersAreExact) {
  const auto one = [](std::string_view t) { return parsed(t); };
  EXPECT_EQ(one("9223372036854775807").root().as_int(), std::numeric_limits<int64_t>::max());
  EXPECT_EQ(one("-9223372036854775808").root().as_int(), std::numeric_limits<int64_t>::min());
  EXPECT_EQ(one("9007199254740993").root().as_int(), 9007199254740993);
  EXPECT_TRUE(one("9223372036854775808").root().is(JsonType::real));
  EXPECT_EQ(one("9223372036854775808").root().as_double(), 0x1p63);
  EXPECT_TRUE(std::signbit(one("-0").root().as_double()));
  EXPECT_EQ(one("0.1").root().as_double(), 0.1);
  EXPECT_EQ(one("1e-400").root().as_double(), 0.0);
  EXPECT_EQ(one("0e99999").root().as_double(), 0.0);
  EXPECT_EQ(one("0.00000001e-320").root().as_double(), 0.0);
  EXPECT_NE(refusal("1e400").find("out of range"), std::string::npos);
  EXPECT_NE(refusal("-123456789e999999999999").find("out of range"), std::string::npos);
}

TEST(Json, SaysWhere) {
  EXPECT_EQ(refusal("{\n  \"a\": [1, 2,, 3]\n}"), "expected a value at line 2, column 14");
  EXPECT_EQ(refusal("[1"), "unexpected end of text: expected ',' or ']' at line 1, column 3");
  EXPECT_EQ(refusal("[1] x"), "unexpected text after the value at line 1, column 5");
  EXPECT_EQ(refusal(std::string_view("\0", 1)), "expected a value at line 1, column 1");
}

TEST(Json, Limits) {
  const std::string deep(100000, '[');
  EXPECT_NE(refusal(deep).find("nested too deeply"), std::string::npos);
  const std::string fits = std::string(512, '[') + std::string(512, ']');
  parsed(fits);
  refusal('[' + fits + ']');
  EXPECT_NE(refusal("[1,2,3]", {.nodes = 3}).find("too many values"), std::string::npos);
  EXPECT_NE(refusal(R"({"a":{"b":1,"c":[1,2],"b":2}})", {.unique_keys = true}).find("twice"), std::string::npos);
  EXPECT_EQ(parsed(R"({"a":{"b":1},"c":{"b":2}})", {.unique_keys = true}).root()["c"]["b"].as_int(), 2);
  EXPECT_EQ(parsed(R"({"b":1,"b":2})").root()["b"].as_int(), 1);
}

TEST(Json, Utf8) {
  EXPECT_TRUE(valid_utf8("\xc3\xa9\xf4\x8f\xbf\xbf"));
  for (const char* bad : {"\xc0\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\x80", "\xe2\x82", "\xff", "\xf0\x80\x80\x80"}) {
    EXPECT_FALSE(valid_utf8(bad));
    refusal('"' + std::string(bad) + '"');
  }
}

TEST(Json, WritesWhatItReads) {
  std::string s;
  JsonWriter w(s);
  w.begin_object()
      .key("k\"\n\x01")
      .value("v\\\xc3\xa9")
      .key("n")
      .begin_array()
      .value(int64_t(-5))
      .value(0.1)
      .value(1e300)
      .value(true)
      .null()
      .value(uint64_t(1) << 63)
      .begin_array()
      .end_array();
  w.begin_object().end_object().end_array().key("z").value(std::numeric_limits<double>::infinity()).end_object();
  EXPECT_EQ(s, "{\"k\\\"\\n\\u0001\":\"v\\\\\xc3\xa9\",\"n\":[-5,0.1,1e+300,true,null,9223372036854775808,[],{}],\"z\":null}");
  const JsonDocument d = parsed(s);
  EXPECT_EQ(d.root()["k\"\n\x01"].as_string(), "v\\\xc3\xa9");
}

TEST(Json, Suite) {
  SKIP_WITHOUT_DATA();
  std::string dir = ::testing::TempDir() + "keel_json_XXXXXX";
  ASSERT_NE(mkdtemp(dir.data()), nullptr);
  if (std::system(("tar --zstd -xf '" + data_dir() + "/json-suite/JSONTestSuite-test_parsing.tar.zst' -C '" + dir + "'").c_str()) != 0)
    GTEST_SKIP() << "needs tar with zstd";
  int yes = 0, no = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(dir)) {
    const std::string name = entry.path().filename().string();
    if (!entry.is_regular_file()) continue;
    const auto r = parse_json(slurp(entry.path().string()));
    if (name.starts_with("y_")) {
      ++yes;
      EXPECT_TRUE(r.ok()) << name << ": " << r.message();
    } else if (name.starts_with("n_")) {
      ++no;
      EXPECT_FALSE(r.ok()) << name;
    }
  }
  std::filesystem::remove_all(dir);
  EXPECT_GE(yes, 95);
  EXPECT_GE(no, 187);
}

}  // namespace
}  // namespace keel::base
