#include "io/atomic_file.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>

#include <fcntl.h>
#include <unistd.h>

namespace keel::io {
namespace {

constexpr size_t kBuffer = size_t(1) << 20;

std::string folder_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
}

// Where the name is a symbolic link, the file it leads to.
std::string target_of(const std::string& path) {
  char* real = realpath(path.c_str(), nullptr);
  if (real == nullptr) return path;
  std::string target = real;
  std::free(real);
  return target;
}

}  // namespace

Result<AtomicFile> AtomicFile::create(const std::string& path) {
  static std::atomic<unsigned> count{0};
  AtomicFile f;
  f.path_ = target_of(path);
  for (int attempt = 0; attempt < 100; ++attempt) {
    f.temporary_ = f.path_ + ".part-" + std::to_string(getpid()) + "-" + std::to_string(count.fetch_add(1, std::memory_order_relaxed));
    f.fd_ = open(f.temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (f.fd_ >= 0) return f;
    if (errno != EEXIST) break;
  }
  f.temporary_.clear();
  return Failure{"cannot write " + path + ": " + std::strerror(errno)};
}

AtomicFile::AtomicFile(AtomicFile&& o) noexcept
    : path_(std::move(o.path_)),
      temporary_(std::exchange(o.temporary_, {})),
      buffer_(std::move(o.buffer_)),
      error_(std::move(o.error_)),
      fd_(std::exchange(o.fd_, -1)),
      written_(o.written_) {}

AtomicFile::~AtomicFile() {
  if (fd_ >= 0) close(fd_);
  if (!temporary_.empty()) unlink(temporary_.c_str());
}

void AtomicFile::flush() {
  const char* p = buffer_.data();
  for (size_t left = buffer_.size(); left > 0 && error_.empty();) {
    const ssize_t n = ::write(fd_, p, left);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0)
      error_ = std::strerror(errno);
    else
      p += n, left -= static_cast<size_t>(n);
  }
  buffer_.clear();
}

void AtomicFile::write(const void* data, size_t bytes) {
  written_ += bytes;
  const auto* p = static_cast<const char*>(data);
  while (bytes > 0 && error_.empty()) {
    const size_t n = std::min(bytes, kBuffer);  // large writes go through in pieces, so that nothing is copied twice at once
    buffer_.append(p, n);
    if (buffer_.size() >= kBuffer) flush();
    p += n, bytes -= n;
  }
}

Result<void> AtomicFile::commit() {
  const auto failure = [&](const std::string& why) { return Failure{"cannot write " + path_ + ": " + why}; };
  flush();
  if (!error_.empty()) return failure(error_);
  if (fsync(fd_) != 0) return failure(std::strerror(errno));
  if (close(std::exchange(fd_, -1)) != 0) return failure(std::strerror(errno));
  if (rename(temporary_.c_str(), path_.c_str()) != 0) return failure(std::strerror(errno));
  temporary_.clear();
  const int folder = open(folder_of(path_).c_str(), O_RDONLY | O_CLOEXEC);  // the name too must reach the disk
  if (folder >= 0) {
    fsync(folder);
    close(folder);
  }
  return {};
}

Result<void> write_file(const std::string& path, std::string_view content) {
  auto file = AtomicFile::create(path);
  if (!file) return file.failure();
  file->write(content);
  return file->commit();
}

}  // namespace keel::io
