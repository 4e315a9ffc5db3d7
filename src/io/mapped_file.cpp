#include "io/mapped_file.h"

#include <cerrno>
#include <cstring>
#include <utility>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace keel::io {
namespace {

Failure system_failure(const std::string& path) { return {"cannot read " + path + ": " + std::strerror(errno)}; }

// Pipes and the like cannot be mapped; their content is small.
constexpr size_t kMostUnmapped = size_t(1) << 30;

}  // namespace

Result<Ref<MappedFile>> MappedFile::open(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return system_failure(path);
  struct Close {
    int fd;
    ~Close() { ::close(fd); }
  } const close{fd};
  struct stat st {};
  if (fstat(fd, &st) != 0) return system_failure(path);
  if (S_ISDIR(st.st_mode)) return Failure{"cannot read " + path + ": it is a directory"};
  Ref<MappedFile> file(new MappedFile);
  file->path_ = path;
  if (S_ISREG(st.st_mode)) {
    if (st.st_size == 0) return file;
    void* p = mmap(nullptr, static_cast<size_t>(st.st_size), PROT_READ, MAP_PRIVATE, fd, 0);
    if (p != MAP_FAILED) {
      file->data_ = static_cast<const std::byte*>(p), file->size_ = static_cast<size_t>(st.st_size), file->mapped_ = true;
      return file;
    }
  }
  std::string text;
  char buffer[65536];
  for (ssize_t n; (n = read(fd, buffer, sizeof buffer)) != 0;) {
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return system_failure(path);
    text.append(buffer, static_cast<size_t>(n));
    if (text.size() > kMostUnmapped) return Failure{"cannot read " + path + ": no regular file, and longer than 1 GiB"};
  }
  auto* copy = new std::byte[text.size()];
  std::memcpy(copy, text.data(), text.size());
  file->data_ = copy, file->size_ = text.size();
  return file;
}

MappedFile::~MappedFile() {
  if (mapped_)
    munmap(const_cast<std::byte*>(data_), size_);
  else
    delete[] data_;
}

}  // namespace keel::io
