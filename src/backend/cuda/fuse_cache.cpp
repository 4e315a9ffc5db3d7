// A file: kMagic, bytes of key and code, a checksum of both, key, code. The whole key is compared, so a name may collide with another.
#include "backend/cuda/fuse_cache.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstring>

#include "base/env.h"

namespace keel::cuda {
namespace {

constexpr char kMagic[8] = {'k', 'e', 'e', 'l', 'f', 'u', 's', '1'};
constexpr uint64_t kMost = uint64_t(1) << 26;  // bytes of a file

struct Head {
  char magic[8];
  uint64_t key, code, check;
};

uint64_t hash_of(const char* p, size_t n, uint64_t h) {
  for (size_t i = 0; i < n; ++i) h = (h ^ uint8_t(p[i])) * 0x100000001b3ull;  // FNV-1a
  return h;
}
uint64_t check_of(const std::string& key, const char* code, size_t n) {
  return hash_of(code, n, hash_of(key.data(), key.size(), 0xcbf29ce484222325ull));
}
bool read_all(int file, void* to, size_t n) {
  for (char* p = static_cast<char*>(to); n;) {
    const ssize_t got = read(file, p, n);
    if (got <= 0) return false;
    p += got, n -= size_t(got);
  }
  return true;
}
bool write_all(int file, const void* from, size_t n) {
  for (const char* p = static_cast<const char*>(from); n;) {
    const ssize_t put = write(file, p, n);
    if (put <= 0) return false;
    p += put, n -= size_t(put);
  }
  return true;
}
/// A folder and those above it.
bool make_folder(const std::string& path) {
  for (size_t i = 1; i <= path.size(); ++i)
    if (i == path.size() || path[i] == '/') mkdir(path.substr(0, i).c_str(), 0700);
  struct stat s;
  return stat(path.c_str(), &s) == 0 && S_ISDIR(s.st_mode);
}

}  // namespace

std::string fuse_cache_folder() {
  const auto variable = [](const char* name) { return std::string(base::env_string(name)); };
  if (const std::string own = variable("KEEL_CACHE_DIR"); !own.empty()) return own + "/kernels";
  if (const std::string xdg = variable("XDG_CACHE_HOME"); !xdg.empty()) return xdg + "/keel/kernels";
  if (const std::string home = variable("HOME"); !home.empty()) return home + "/.cache/keel/kernels";
  return {};
}

std::string cache_file(const std::string& folder, const std::string& key) {
  char name[48];
  std::snprintf(name, sizeof name, "%016llx%016llx.cubin",
                static_cast<unsigned long long>(hash_of(key.data(), key.size(), 0xcbf29ce484222325ull)),
                static_cast<unsigned long long>(hash_of(key.data(), key.size(), 0x9e3779b97f4a7c15ull)));
  return folder + "/" + name;
}

std::vector<char> cached_code(const std::string& folder, const std::string& key) {
  if (folder.empty()) return {};
  const int file = open(cache_file(folder, key).c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  if (file < 0) return {};
  std::vector<char> code;
  struct stat s;
  Head h;
  // What others could have written is not run.
  const bool own = fstat(file, &s) == 0 && S_ISREG(s.st_mode) && s.st_uid == geteuid() && !(s.st_mode & (S_IWGRP | S_IWOTH));
  if (own && uint64_t(s.st_size) <= kMost && read_all(file, &h, sizeof h) && std::memcmp(h.magic, kMagic, sizeof kMagic) == 0 &&
      h.key == key.size() && h.code > 0 && h.code <= kMost && sizeof h + h.key + h.code == uint64_t(s.st_size)) {
    std::string stored(key.size(), 0);
    code.resize(h.code);
    if (!read_all(file, stored.data(), stored.size()) || stored != key || !read_all(file, code.data(), code.size()) ||
        check_of(key, code.data(), code.size()) != h.check)
      code.clear();
  }
  close(file);
  return code;
}

void keep_code(const std::string& folder, const std::string& key, const std::vector<char>& code) {
  static std::atomic<uint64_t> count{0};
  if (folder.empty() || code.empty() || key.size() + code.size() + sizeof(Head) > kMost || !make_folder(folder)) return;
  const std::string name = cache_file(folder, key);
  const std::string temporary = name + "." + std::to_string(getpid()) + "." + std::to_string(count.fetch_add(1));
  const int file = open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (file < 0) return;
  Head h;
  std::memcpy(h.magic, kMagic, sizeof kMagic);
  h.key = key.size(), h.code = code.size(), h.check = check_of(key, code.data(), code.size());
  const bool whole = write_all(file, &h, sizeof h) && write_all(file, key.data(), key.size()) && write_all(file, code.data(), code.size());
  const bool closed = close(file) == 0;
  if (!whole || !closed || rename(temporary.c_str(), name.c_str()) != 0) unlink(temporary.c_str());
}

}  // namespace keel::cuda
