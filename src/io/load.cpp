#include "keel/io/load.h"

#include <algorithm>
#include <utility>

#include "io/tensor_bytes.h"
#include "keel/error.h"
#include "keel/io/checkpoint.h"
#include "keel/io/npy.h"
#include "keel/io/safetensors.h"

namespace keel {
namespace {

Result<StateDict> load_any(const std::string& path) {
  std::string begin;
  {
    const auto file = io::MappedFile::open(path);
    if (!file) return file.failure();
    begin = io::text_of((*file)->bytes().first(std::min<size_t>(8, (*file)->bytes().size())));
  }
  if (begin.empty()) return Failure{path + ": is empty"};
  if (begin == "KEELCKPT") {
    auto c = io::read_checkpoint(path);
    if (!c) return c.failure();
    return std::move(c->tensors);
  }
  if (begin.starts_with("\x93NUMPY")) {
    auto x = io::read_npy(path);
    if (!x) return x.failure();
    return StateDict({{"arr_0", std::move(*x)}});
  }
  if (begin.starts_with("PK\x03\x04") || begin.starts_with("PK\x05\x06")) return io::read_npz(path);
  if (begin.size() == 8) {
    uint64_t header = 0;
    for (int i = 7; i >= 0; --i) header = header << 8 | uint8_t(begin[size_t(i)]);
    if (header > UINT32_MAX) return Failure{path + ": is no file of tensors: it begins as none of safetensors, .keel, .npy, .npz does"};
  }
  auto s = io::read_safetensors(path);
  if (!s) return s.failure();
  return std::move(s->tensors);
}

Result<void> save_any(const std::string& path, const StateDict& tensors) {
  if (path.ends_with(".safetensors")) return io::write_safetensors(path, tensors);
  if (path.ends_with(".keel")) return io::write_checkpoint(path, tensors);
  if (path.ends_with(".npz")) return io::write_npz(path, tensors);
  if (path.ends_with(".npy")) {
    if (tensors.size() == 1) return io::write_npy(path, tensors.at(0).tensor);
    return Failure{"cannot write " + std::to_string(tensors.size()) + " tensors to " + path + ": .npy holds one, .npz any number"};
  }
  return Failure{"cannot write " + path + ": its ending names no format"};
}

}  // namespace

StateDict load(const std::string& path) {
  auto content = load_any(path);
  if (!content) raise(Error(ErrorCode::io, content.message()).op("load"));
  return std::move(*content);
}

void save(const std::string& path, const StateDict& tensors) {
  const auto done = save_any(path, tensors);
  if (done) return;
  Error e(ErrorCode::io, done.message());
  e.op("save");
  if (done.message().ends_with("names no format")) e.hint("endings are .safetensors, .keel, .npz and, for one tensor, .npy");
  raise(e);
}

}  // namespace keel
