#include "keel/io/checkpoint.h"

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "base/json.h"
#include "base/sha256.h"
#include "io/atomic_file.h"
#include "io/tensor_bytes.h"

namespace keel::io {
namespace {

using base::JsonType;
using base::JsonValue;
using base::Sha256;

constexpr char kMagic[] = "KEELCKPT";
constexpr uint32_t kVersion = 1;
constexpr size_t kHeader = 64, kSigned = 32,
                 kAlign = 64;  // the first kSigned bytes of the header are under the checksum, which fills the rest
constexpr uint64_t kMostIndex = 100'000'000;

Sha256::Digest index_digest(Bytes signed_part, Bytes index) {
  Sha256 h;
  h.update(signed_part.data(), signed_part.size());
  h.update(index.data(), index.size());
  return h.finish();
}

struct Record {
  std::string_view name;
  DType dtype;
  std::vector<int64_t> shape;
  uint64_t offset, bytes;
  std::string_view sha256;
};

Result<Record> read_record(const JsonValue& v) {
  Record r{v["name"].as_string(), DType::none, {}, 0, 0, v["sha256"].as_string()};
  const std::string who = "tensor " + shown(r.name);
  if (!v["name"].is(JsonType::string)) return Failure{"a tensor has no name"};
  r.dtype = dtype_from_name(std::string(v["dtype"].as_string()).c_str());
  if (r.dtype == DType::none) return Failure{who + " has no known dtype: " + shown(v["dtype"].as_string())};
  if (!v["shape"].is(JsonType::array)) return Failure{who + " has no shape"};
  for (JsonValue e = v["shape"].first(); e; e = e.next()) {
    if (!e.is(JsonType::integer) || e.as_int() < 0) return Failure{who + " has no valid shape"};
    r.shape.push_back(e.as_int());
  }
  if (!v["offset"].is(JsonType::integer) || v["offset"].as_int() < 0 || !v["bytes"].is(JsonType::integer) || v["bytes"].as_int() < 0)
    return Failure{who + " has no valid place"};
  r.offset = static_cast<uint64_t>(v["offset"].as_int()), r.bytes = static_cast<uint64_t>(v["bytes"].as_int());
  const auto needed = bytes_needed(r.shape, size_of(r.dtype) * 8);
  if (!needed || *needed != r.bytes)
    return Failure{who + " has " + std::to_string(r.bytes) + " bytes, which its shape and dtype do not need"};
  return r;
}

Result<Checkpoint> parse(Bytes file, const Ref<MappedFile>& owner, bool verify) {
  if (file.size() < kHeader || std::memcmp(file.data(), kMagic, 8) != 0) return Failure{"not a Keel checkpoint"};
  ByteReader head(file.subspan(8));
  const auto version = head.le<uint32_t>(), flags = head.le<uint32_t>();
  const auto index_bytes = head.le<uint64_t>(), data_bytes = head.le<uint64_t>();
  if (version != kVersion)
    return Failure{"checkpoint of version " + std::to_string(version) + "; this library reads version " + std::to_string(kVersion)};
  if (flags != 0) return Failure{"checkpoint with features that this library does not know"};
  if (index_bytes > kMostIndex || index_bytes % kAlign != 0 || !within(kHeader, index_bytes, file.size()))
    return Failure{"damaged checkpoint: the index does not fit the file"};
  if (data_bytes != file.size() - kHeader - index_bytes)
    return Failure{"damaged checkpoint: " + std::to_string(data_bytes) + " bytes of data announced, " +
                   std::to_string(file.size() - kHeader - index_bytes) + " present"};
  const Bytes index = file.subspan(kHeader, static_cast<size_t>(index_bytes)),
              data = file.subspan(kHeader + static_cast<size_t>(index_bytes));
  const auto digest = index_digest(file.first(kSigned), index);
  if (std::memcmp(digest.data(), &file[kSigned], digest.size()) != 0) return Failure{"damaged checkpoint: checksum of the index"};

  const auto json = base::parse_json(text_of(index), {.depth = 16, .nodes = size_t(1) << 24, .unique_keys = true});
  if (!json) return Failure{"damaged checkpoint: the index is not valid JSON: " + json.message()};
  const JsonValue metadata = json->root()["metadata"], tensors = json->root()["tensors"];
  if (!metadata.is(JsonType::object) || !tensors.is(JsonType::array))
    return Failure{"damaged checkpoint: the index lacks metadata or tensors"};
  Checkpoint out;
  for (JsonValue m = metadata.first(); m; m = m.next()) {
    if (!m.is(JsonType::string)) return Failure{"damaged checkpoint: metadata " + shown(m.key()) + " is no text"};
    out.metadata.emplace_back(m.key(), m.as_string());
  }
  uint64_t end = 0;
  for (JsonValue v = tensors.first(); v; v = v.next()) {
    const auto r = read_record(v);
    if (!r) return Failure{"damaged checkpoint: " + r.message()};
    const std::string who = "damaged checkpoint: tensor " + shown(r->name);
    if (r->offset % kAlign != 0 || r->offset < end || !within(r->offset, r->bytes, data.size()))
      return Failure{who + " overlaps another or lies outside the file"};
    end = r->offset + r->bytes;
    const Bytes bytes = data.subspan(static_cast<size_t>(r->offset), static_cast<size_t>(r->bytes));
    if (verify && base::hex(base::sha256(bytes.data(), bytes.size())) != r->sha256) return Failure{who + ": checksum"};
    if (out.tensors.contains(r->name)) return Failure{who + " appears twice"};
    auto t = tensor_of(bytes, r->dtype, r->shape, owner);
    if (!t) return Failure{who + " " + t.message()};
    out.tensors.set(std::string(r->name), std::move(*t));
  }
  return out;
}

}  // namespace

Result<Checkpoint> read_checkpoint(const std::string& path, bool verify) {
  const auto file = MappedFile::open(path);
  if (!file) return file.failure();
  auto content = parse((*file)->bytes(), *file, verify);
  if (!content) return Failure{path + ": " + content.message()};
  return content;
}

Result<Checkpoint> parse_checkpoint(std::string_view bytes) { return parse(bytes_of(bytes), {}, true); }

Result<void> write_checkpoint(const std::string& path, const StateDict& tensors, const Metadata& metadata) {
  const auto refuse = [&](const std::string& why) { return Failure{"cannot write " + path + ": " + why}; };
  std::string index;
  base::JsonWriter w(index);
  w.begin_object().key("metadata").begin_object();
  for (size_t i = 0; i < metadata.size(); ++i) {
    const auto& [key, text] = metadata[i];
    if (!base::valid_utf8(key) || !base::valid_utf8(text)) return refuse("metadata " + shown(key) + " is not UTF-8");
    for (size_t k = 0; k < i; ++k)
      if (metadata[k].first == key) return refuse("metadata " + shown(key) + " is given twice");
    w.key(key).value(text);
  }
  w.end_object().key("tensors").begin_array();
  std::vector<Tensor> order;
  uint64_t at = 0;
  for (const auto& [name, t] : tensors) {
    if (!t.defined()) return refuse("tensor " + shown(name) + " is not defined");
    if (!base::valid_utf8(name)) return refuse("tensor " + shown(name) + " has a name that is not UTF-8");
    const Tensor& d = order.emplace_back(dense(t));
    const Bytes bytes = raw_bytes(d);
    at = (at + kAlign - 1) / kAlign * kAlign;
    w.begin_object().key("name").value(name).key("dtype").value(name_of(d.dtype())).key("shape").begin_array();
    for (const int64_t e : d.shape()) w.value(e);
    w.end_array().key("offset").value(at).key("bytes").value(uint64_t(bytes.size()));
    w.key("sha256").value(base::hex(base::sha256(bytes.data(), bytes.size()))).end_object();
    at += bytes.size();
  }
  w.end_array().end_object();
  index.append((kAlign - index.size() % kAlign) % kAlign, ' ');
  if (index.size() > kMostIndex) return refuse("the index would have " + std::to_string(index.size()) + " bytes");

  std::string head(kMagic, 8);
  append_le(head, kVersion), append_le<uint32_t>(head, 0), append_le<uint64_t>(head, index.size()), append_le(head, at);
  const auto digest = index_digest(bytes_of(head), bytes_of(index));
  head.append(reinterpret_cast<const char*>(digest.data()), digest.size());
  auto file = AtomicFile::create(path);
  if (!file) return file.failure();
  file->write(head);
  file->write(index);
  const uint64_t start = file->written();
  for (const Tensor& t : order) {
    const uint64_t from = file->written() - start;
    file->write(std::string((kAlign - from % kAlign) % kAlign, '\0'));
    file->write(raw_bytes(t).data(), raw_bytes(t).size());
  }
  return file->commit();
}

}  // namespace keel::io
