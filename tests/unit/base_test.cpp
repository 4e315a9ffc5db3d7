// Small tools of src/base: random numbers, checksums, log, results.
#include <gtest/gtest.h>

#include <cstdint>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "base/crc32c.h"
#include "base/log.h"
#include "base/philox.h"
#include "base/sha256.h"
#include "keel/base/result.h"
#include "test_data.h"

namespace keel::base {
namespace {

TEST(Philox, KnownAnswers) {
  static_assert(philox4x32({0, 0, 0, 0}, {0, 0}) == std::array<uint32_t, 4>{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  static_assert(philox(0x85a308d3243f6a88, 0x0370734413198a2e, 0x299f31d0a4093822) ==
                std::array<uint32_t, 4>{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
  SKIP_WITHOUT_DATA();
  std::istringstream lines(slurp(data_dir() + "/random123/kat_vectors"));
  int checked = 0;
  for (std::string line; std::getline(lines, line);) {
    std::istringstream in(line);
    std::string name;
    int rounds = 0;
    std::array<uint32_t, 4> c{}, want{};
    std::array<uint32_t, 2> k{};
    if (!(in >> name >> rounds) || name != "philox4x32") continue;
    in >> std::hex >> c[0] >> c[1] >> c[2] >> c[3] >> k[0] >> k[1] >> want[0] >> want[1] >> want[2] >> want[3];
    ASSERT_TRUE(in) << line;
    EXPECT_EQ(philox4x32(c, k, rounds), want) << line;
    ++checked;
  }
  EXPECT_EQ(checked, 6);
}

std::string sha(const std::string& s) { return hex(sha256(s.data(), s.size())); }

TEST(Sha256, KnownAnswers) {  // FIPS 180-4 examples
  for (const bool hardware : {false, true}) {
    Sha256::use_hardware(hardware);
    EXPECT_EQ(sha(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    EXPECT_EQ(sha("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    EXPECT_EQ(sha("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
              "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    EXPECT_EQ(sha(std::string(1000000, 'a')), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
  }
}

TEST(Sha256, PiecesAndBothPathsAgree) {
  std::string text(1000, '\0');
  for (size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>(i * 7 + i / 256);
  for (size_t length = 0; length < 300; ++length) {
    Sha256::use_hardware(false);
    const auto want = sha256(text.data(), length);
    Sha256::use_hardware(true);
    EXPECT_EQ(sha256(text.data(), length), want) << length;
    Sha256 h;
    for (size_t at = 0; at < length;) {
      const size_t n = std::min(length - at, at % 71 + 1);
      h.update(text.data() + at, n);
      at += n;
    }
    EXPECT_EQ(h.finish(), want) << length;
  }
}

TEST(Crc32c, KnownAnswers) {  // RFC 3720, B.4
  const auto both = [](const std::string& s) {
    EXPECT_EQ(crc32c(s.data(), s.size()), crc32c_portable(s.data(), s.size()));
    return crc32c(s.data(), s.size());
  };
  std::string up(32, 0), down(32, 0);
  for (int i = 0; i < 32; ++i) up[size_t(i)] = char(i), down[size_t(i)] = char(31 - i);
  EXPECT_EQ(both(std::string(32, 0)), 0x8a9136aau);
  EXPECT_EQ(both(std::string(32, char(0xff))), 0x62a8ab43u);
  EXPECT_EQ(both(up), 0x46dd794eu);
  EXPECT_EQ(both(down), 0x113fdb5cu);
  EXPECT_EQ(both("123456789"), 0xe3069283u);
  EXPECT_EQ(both(""), 0u);
  EXPECT_EQ(crc32c("6789", 4, crc32c("12345", 5)), 0xe3069283u);
  EXPECT_EQ(crc32c_portable("6789", 4, crc32c_portable("12345", 5)), 0xe3069283u);
  static_assert(mask_crc32c(0) == 0xa282ead8u && mask_crc32c(0x00008001u) == 0xa282ead8u + 0x00020001u);
}

struct Heard {
  std::vector<std::string> lines;
  static void listen(void* self, const LogRecord& r) {
    static_cast<Heard*>(self)->lines.push_back(std::string(to_string(r.level)) + '/' + std::string(r.topic) + '/' + std::string(r.text));
  }
};

TEST(Log, SilentByDefault) {
  configure_log("");
  ::testing::internal::CaptureStderr();
  ::testing::internal::CaptureStdout();
  log(LogLevel::error, "test", "nobody hears this");
  EXPECT_FALSE(log_enabled(LogLevel::error));
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "");
  EXPECT_EQ(::testing::internal::GetCapturedStdout(), "");
}

TEST(Log, SinkHearsInfoAndAbove) {
  configure_log("");
  Heard heard;
  set_log_sink(Heard::listen, &heard);
  EXPECT_EQ(log_level(), LogLevel::info);
  log(LogLevel::info, "a", "one");
  log(LogLevel::debug, "a", "two");
  set_log_level(LogLevel::error);
  log(LogLevel::warning, "a", "three");
  log(LogLevel::error, "a", "four");
  set_log_sink(nullptr);
  configure_log("");
  EXPECT_EQ(heard.lines, (std::vector<std::string>{"info/a/one", "error/a/four"}));
}

TEST(Log, Words) {
  const auto level_of = [](const char* words) {
    configure_log(words);
    return log_level();
  };
  EXPECT_EQ(level_of("1"), LogLevel::info);
  EXPECT_EQ(level_of("2"), LogLevel::debug);
  EXPECT_EQ(level_of("0"), LogLevel::off);
  EXPECT_EQ(level_of(" error , "), LogLevel::error);
  EXPECT_EQ(level_of("json"), LogLevel::info);
  EXPECT_EQ(level_of("dispatch"), LogLevel::warning);
  EXPECT_TRUE(log_topic("dispatch"));
  EXPECT_FALSE(log_topic("memory"));
  EXPECT_EQ(level_of("dispatch,error,memory"), LogLevel::error);
  EXPECT_TRUE(log_topic("memory"));
  EXPECT_EQ(level_of("all"), LogLevel::debug);
  EXPECT_TRUE(log_topic("anything"));
  configure_log("dispatch");
  ::testing::internal::CaptureStderr();
  log(LogLevel::debug, "dispatch", "chosen");
  log(LogLevel::debug, "memory", "not chosen");
  log(LogLevel::warning, "memory", "loud");
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "keel debug [dispatch] chosen\nkeel warning [memory] loud\n");
  configure_log("json");
  ::testing::internal::CaptureStderr();
  log(LogLevel::info, "x", "a \"b\"");
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "{\"level\":\"info\",\"topic\":\"x\",\"text\":\"a \\\"b\\\"\"}\n");
  configure_log("");
}

Result<int> half(int v) {
  if (v % 2 != 0) return Failure{"odd"};
  return v / 2;
}
TEST(Result, ValueOrFailure) {
  EXPECT_EQ(*half(4), 2);
  EXPECT_FALSE(half(3).ok());
  EXPECT_EQ(half(3).message(), "odd");
  const auto chain = [](int v) -> Result<std::string> {
    const auto r = half(v);
    if (!r) return r.failure();
    return std::to_string(*r);
  };
  EXPECT_EQ(chain(10).value(), "5");
  EXPECT_EQ(chain(1).message(), "odd");
  EXPECT_TRUE(Result<void>().ok());
  EXPECT_EQ(Result<void>(Failure{"no"}).message(), "no");
}

}  // namespace
}  // namespace keel::base
