#pragma once
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

/// Real data and golden files, in the folder that KEEL_DATA names. A test that needs them skips without it.
inline std::string data_dir() {
  const char* dir = std::getenv("KEEL_DATA");
  return dir == nullptr || !std::filesystem::is_directory(dir) ? std::string() : std::string(dir);
}
inline std::string slurp(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}
#define SKIP_WITHOUT_DATA() \
  if (data_dir().empty()) GTEST_SKIP() << "KEEL_DATA names no folder"
