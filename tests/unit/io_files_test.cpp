// Files as bytes: mapping, atomic writing, gzip, zip.
#include <gtest/gtest.h>

#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "base/philox.h"
#include "io/atomic_file.h"
#include "io/bytes.h"
#include "io/gzip.h"
#include "io/mapped_file.h"
#include "io/zip.h"
#include "temp_dir.h"
#include "test_data.h"

namespace keel::io {
namespace {

std::string noise(size_t n) {
  std::string s;
  for (uint64_t i = 0; s.size() < n; ++i)
    for (uint32_t w : base::philox(i, 0, 3)) append_le(s, w);
  s.resize(n);
  return s;
}
size_t files_in(const std::string& dir) {
  return static_cast<size_t>(std::distance(std::filesystem::directory_iterator(dir), std::filesystem::directory_iterator()));
}

TEST(Bytes, ReaderStopsAtTheEnd) {
  const std::string s("\x01\x02\x03\x04\x05", 5);
  ByteReader r(bytes_of(s));
  EXPECT_EQ(r.le<uint16_t>(), 0x0201);
  EXPECT_EQ(r.be<uint16_t>(), 0x0304);
  EXPECT_EQ(r.le<uint32_t>(), 0u);
  EXPECT_FALSE(r.ok());
  EXPECT_EQ(r.le<uint8_t>(), 0);  // once failed, always failed
  EXPECT_TRUE(within(3, 2, 5) && within(5, 0, 5));
  EXPECT_FALSE(within(4, 2, 5) || within(6, 0, 5) || within(2, UINT64_MAX, 5) || within(UINT64_MAX, 2, 5));
}

TEST(MappedFile, ReadsAndRefuses) {
  const TempDir dir;
  const auto file = MappedFile::open(dir.put("a", "hello"));
  ASSERT_TRUE(file.ok());
  EXPECT_EQ(text_of((*file)->bytes()), "hello");
  EXPECT_EQ((*MappedFile::open(dir.put("empty", "")))->bytes().size(), 0u);
  EXPECT_EQ(MappedFile::open(dir.file("none")).message(), "cannot read " + dir.file("none") + ": No such file or directory");
  EXPECT_EQ(MappedFile::open(dir.path()).message(), "cannot read " + dir.path() + ": it is a directory");
  ASSERT_EQ(mkfifo(dir.file("pipe").c_str(), 0600), 0);
  const pid_t child = fork();
  if (child == 0) {
    FILE* f = fopen(dir.file("pipe").c_str(), "w");
    fputs("through a pipe", f);
    fclose(f);
    _exit(0);
  }
  EXPECT_EQ(text_of((*MappedFile::open(dir.file("pipe")))->bytes()), "through a pipe");
  waitpid(child, nullptr, 0);
}

TEST(AtomicFile, OldOrNew) {
  const TempDir dir;
  const std::string path = dir.put("f", "old"), big = noise(3'000'000);
  {
    auto file = AtomicFile::create(path);
    ASSERT_TRUE(file.ok());
    file->write("half of the n");
    EXPECT_EQ(slurp(path), "old");
    EXPECT_EQ(files_in(dir.path()), 2u);
  }  // given up
  EXPECT_EQ(slurp(path), "old");
  EXPECT_EQ(files_in(dir.path()), 1u);
  auto file = AtomicFile::create(path);
  file->write("ab");
  file->write(big);
  EXPECT_EQ(file->written(), big.size() + 2);
  EXPECT_EQ(slurp(path), "old");
  ASSERT_TRUE(file->commit().ok());
  EXPECT_EQ(slurp(path), "ab" + big);
  EXPECT_EQ(files_in(dir.path()), 1u);
  std::filesystem::create_symlink(path, dir.file("link"));
  ASSERT_TRUE(write_file(dir.file("link"), "through").ok());
  EXPECT_EQ(slurp(path), "through");
  EXPECT_TRUE(std::filesystem::is_symlink(dir.file("link")));
  EXPECT_EQ(write_file(dir.file("no/such"), "x").message(), "cannot write " + dir.file("no/such") + ": No such file or directory");
}

TEST(AtomicFile, AKilledWriterLeavesTheOldFile) {
  const TempDir dir;
  const std::string path = dir.put("f", "old");
  const pid_t child = fork();
  if (child == 0) {
    auto file = AtomicFile::create(path);
    file->write(std::string(5'000'000, 'x'));
    kill(getpid(), SIGKILL);
  }
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_TRUE(WIFSIGNALED(status));
  EXPECT_EQ(slurp(path), "old");
}

TEST(Gzip, RoundTripAndLimits) {
  const TempDir dir;
  const std::string text = noise(200'000) + std::string(1'000'000, 'z');
  const std::string raw = deflate_raw(bytes_of(text));
  EXPECT_LT(raw.size(), 210'000u);
  EXPECT_EQ(*inflate_raw(bytes_of(raw), text.size()), text);
  EXPECT_NE(inflate_raw(bytes_of(raw), text.size() + 1).message().find("not the"), std::string::npos);
  EXPECT_NE(inflate_raw(bytes_of(raw), text.size() - 1).message().find("more than"), std::string::npos);
  EXPECT_NE(inflate_raw(bytes_of(raw).first(1000), text.size()).message().find("too early"), std::string::npos);
  EXPECT_EQ(*inflate_raw(bytes_of(deflate_raw({})), 0), "");
  const std::string path = dir.put("t", text);
  ASSERT_EQ(
      std::system(
          ("gzip -k '" + path + "' && cp '" + path + ".gz' '" + path + "2.gz' && cat '" + path + "2.gz' >> '" + path + ".gz'").c_str()),
      0);
  EXPECT_EQ(*gunzip_file(path + "2.gz"), text);
  EXPECT_EQ(*gunzip_file(path + ".gz"), text + text);  // two members
  EXPECT_EQ(gunzip_file(path + "2.gz", 1000).message(), path + "2.gz: compressed data holds more than the 1000 bytes allowed");
  EXPECT_EQ(gunzip_file(path).message(), path + ": not gzip data");
  std::string bad = slurp(path + "2.gz");
  EXPECT_FALSE(gunzip(bytes_of(bad.substr(0, bad.size() - 5)), 1 << 30).ok());
  EXPECT_EQ(*gunzip(bytes_of(bad + std::string(10, '\0')), 1 << 30), text);
  EXPECT_FALSE(gunzip(bytes_of(bad + "trailing"), 1 << 30).ok());
  bad[bad.size() - 6] ^= 1;  // of the CRC
  EXPECT_NE(gunzip(bytes_of(bad), 1 << 30).message().find("damaged"), std::string::npos);
}

std::string archive(const TempDir& dir) {
  auto file = AtomicFile::create(dir.file("a.zip"));
  ZipWriter zip(*file);
  const std::string head = "head ", tail = noise(1000), zeros(100'000, '\0');
  zip.add("stored", {bytes_of(head), bytes_of(tail)});
  zip.add("packed/zeros", {bytes_of(zeros)}, true);
  zip.add("empty", {});
  zip.finish();
  EXPECT_TRUE(file->commit().ok());
  return dir.file("a.zip");
}

TEST(Zip, WritesAndReads) {
  const TempDir dir;
  const std::string path = archive(dir), data = slurp(path);
  const auto zip = ZipArchive::open(bytes_of(data));
  ASSERT_TRUE(zip.ok()) << zip.message();
  ASSERT_EQ(zip->entries().size(), 3u);
  EXPECT_EQ(*zip->read(*zip->find("stored"), 10000), "head " + noise(1000));
  EXPECT_EQ(*zip->read(*zip->find("packed/zeros"), 1 << 20), std::string(100'000, '\0'));
  EXPECT_EQ(*zip->read(*zip->find("empty"), 0), "");
  EXPECT_EQ(zip->find("other"), nullptr);
  EXPECT_FALSE(zip->read(*zip->find("packed/zeros"), 1000).ok());
  const int rc = run_python(
      dir,
      "import sys, zipfile\nz = zipfile.ZipFile(sys.argv[1])\nassert z.testzip() is None\nassert z.namelist() == ['stored', "
      "'packed/zeros', 'empty']\n"
      "assert z.read('packed/zeros') == bytes(100000)\nopen(sys.argv[1] + '64', 'wb')\nw = zipfile.ZipFile(sys.argv[1] + '64', 'w')\n"
      "with w.open('x', 'w', force_zip64=True) as f: f.write(b'sixty-four')\nw.comment = b'PK\\x05\\x06 comment'\nw.close()\n",
      path);
  if (rc == 77) GTEST_SKIP() << "needs python3";
  ASSERT_EQ(rc, 0);
  const std::string other = slurp(path + "64");
  const auto from_python = ZipArchive::open(bytes_of(other));
  ASSERT_TRUE(from_python.ok()) << from_python.message();
  EXPECT_EQ(*from_python->read(*from_python->find("x"), 100), "sixty-four");
}

TEST(Zip, NoDamageGoesUnnoticedOrCrashes) {
  const TempDir dir;
  const std::string data = slurp(archive(dir));
  for (size_t n = 0; n < data.size(); n += 7) EXPECT_FALSE(ZipArchive::open(bytes_of(data).first(n)).ok()) << n;
  int noticed = 0;
  for (size_t i = 0; i < data.size(); ++i) {
    std::string bad = data;
    bad[i] = static_cast<char>(bad[i] ^ 0xff);
    const auto zip = ZipArchive::open(bytes_of(bad));
    if (!zip) {
      ++noticed;
      continue;
    }
    for (const auto& e : zip->entries()) noticed += !zip->read(e, 1 << 20).ok();
  }
  EXPECT_GT(noticed, 1000);  // all of the content, and most of the headers
}

}  // namespace
}  // namespace keel::io
