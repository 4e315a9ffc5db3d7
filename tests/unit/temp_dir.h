#pragma once
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

/// A folder that goes with the object.
class TempDir {
 public:
  TempDir() : path_(::testing::TempDir() + "keel_XXXXXX") { EXPECT_NE(mkdtemp(path_.data()), nullptr); }
  ~TempDir() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  std::string file(std::string_view name) const { return path_ + "/" + std::string(name); }
  std::string put(std::string_view name, std::string_view content) const {
    std::ofstream(file(name), std::ios::binary).write(content.data(), static_cast<std::streamsize>(content.size()));
    return file(name);
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

/// Runs a Python script with one argument; its exit status, or 77 where there is no Python.
inline int run_python(const TempDir& dir, std::string_view script, const std::string& argument) {
  const int status = std::system(("python3 '" + dir.put("script.py", script) + "' '" + argument + "'").c_str());
  const int rc = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  return rc == 127 ? 77 : rc;
}
