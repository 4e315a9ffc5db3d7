// The safetensors format: u64 length of the header, the header in JSON, then the bytes of all tensors without gaps.
#include "keel/io/safetensors.h"

#include <algorithm>
#include <numeric>
#include <optional>
#include <tuple>

#include "base/json.h"
#include "io/atomic_file.h"
#include "io/tensor_bytes.h"

namespace keel::io {
namespace {

using base::JsonType;
using base::JsonValue;

constexpr uint64_t kMostHeader = 100'000'000;

// In the order of the reference writer, which puts later ones first.
struct Kind {
  const char* name;
  DType dtype;  // none: bytes without a dtype of ours
  int bits;
};
constexpr Kind kKinds[] = {
    {"BOOL", DType::boolean, 8},
    {"F4", DType::none, 4},
    {"F6_E2M3", DType::none, 6},
    {"F6_E3M2", DType::none, 6},
    {"U8", u8, 8},
    {"I8", i8, 8},
    {"F8_E5M2", f8e5m2, 8},
    {"F8_E4M3", f8e4m3fn, 8},
    {"F8_E8M0", DType::none, 8},
    {"F8_E4M3FNUZ", DType::none, 8},
    {"F8_E5M2FNUZ", DType::none, 8},
    {"I16", i16, 16},
    {"U16", u16, 16},
    {"F16", f16, 16},
    {"BF16", bf16, 16},
    {"I32", i32, 32},
    {"U32", u32, 32},
    {"F32", f32, 32},
    {"C64", complex64, 64},
    {"F64", f64, 64},
    {"I64", i64, 64},
    {"U64", u64, 64},
};

const Kind* kind_named(std::string_view name) {
  for (const Kind& k : kKinds)
    if (name == k.name) return &k;
  return nullptr;
}
const Kind* kind_of(DType t) {
  for (const Kind& k : kKinds)
    if (k.dtype == t) return &k;
  return nullptr;
}

// An array of non-negative integers.
std::optional<std::vector<int64_t>> integers(const JsonValue& list) {
  if (!list.is(JsonType::array)) return std::nullopt;
  std::vector<int64_t> v;
  for (JsonValue e = list.first(); e; e = e.next()) {
    if (!e.is(JsonType::integer) || e.as_int() < 0) return std::nullopt;
    v.push_back(e.as_int());
  }
  return v;
}

Result<Safetensors::Entry> read_entry(const JsonValue& v) {
  const std::string who = "tensor " + shown(v.key());
  if (!v.is(JsonType::object)) return Failure{who + " is no object"};
  Safetensors::Entry e;
  e.name = v.key(), e.dtype = v["dtype"].as_string();
  const Kind* kind = kind_named(e.dtype);
  if (kind == nullptr) return Failure{who + " has no known dtype: " + shown(e.dtype)};
  const auto shape = integers(v["shape"]), offsets = integers(v["data_offsets"]);
  if (!shape) return Failure{who + " has no valid shape"};
  if (!offsets || offsets->size() != 2 || offsets->at(0) > offsets->at(1)) return Failure{who + " has no valid data_offsets"};
  e.shape = *shape;
  e.begin = static_cast<uint64_t>(offsets->at(0)), e.end = static_cast<uint64_t>(offsets->at(1));
  const auto needed = bytes_needed(e.shape, static_cast<uint64_t>(kind->bits));
  if (!needed) return Failure{who + " has a shape whose size overflows or is no whole number of bytes"};
  if (*needed != e.end - e.begin)
    return Failure{who + " needs " + std::to_string(*needed) + " bytes by its shape and dtype, its data_offsets span " +
                   std::to_string(e.end - e.begin)};
  return e;
}

Result<Safetensors> parse(Bytes file, const Ref<MappedFile>& owner) {
  if (file.size() < 8) return Failure{"shorter than the 8 bytes that begin a safetensors file"};
  const auto length = load_le<uint64_t>(file.data());
  if (length > kMostHeader)
    return Failure{"header of " + std::to_string(length) + " bytes is too large: " + std::to_string(kMostHeader) + " are allowed"};
  if (length > file.size() - 8)
    return Failure{"header of " + std::to_string(length) + " bytes does not fit the file of " + std::to_string(file.size())};
  const std::string_view text = text_of(file.subspan(8, static_cast<size_t>(length)));
  const Bytes data = file.subspan(8 + static_cast<size_t>(length));
  const auto header = base::parse_json(text, {.depth = 64, .nodes = size_t(1) << 23, .unique_keys = true});
  if (!header) return Failure{"header is not valid JSON: " + header.message()};
  const JsonValue root = header->root();
  if (!root.is(JsonType::object)) return Failure{"header is no JSON object"};

  Safetensors out;
  for (JsonValue v = root.first(); v; v = v.next()) {
    if (v.key() == "__metadata__") {
      if (!v.is(JsonType::object)) return Failure{"__metadata__ is no object"};
      for (JsonValue m = v.first(); m; m = m.next()) {
        if (!m.is(JsonType::string)) return Failure{"__metadata__ " + shown(m.key()) + " is no text"};
        out.metadata.emplace_back(m.key(), m.as_string());
      }
      continue;
    }
    auto entry = read_entry(v);
    if (!entry) return entry.failure();
    out.entries.push_back(std::move(*entry));
  }

  // Sorted by offset, tensors must follow each other without gap or overlap, to the end of the file.
  std::vector<const Safetensors::Entry*> order;
  for (const auto& e : out.entries) order.push_back(&e);
  std::sort(order.begin(), order.end(),
            [](const auto* a, const auto* b) { return std::tie(a->begin, a->end) < std::tie(b->begin, b->end); });
  uint64_t at = 0;
  for (const auto* e : order) {
    if (e->begin != at)
      return Failure{"tensor " + shown(e->name) + " begins at byte " + std::to_string(e->begin) + " of the data, the one before ends at " +
                     std::to_string(at)};
    at = e->end;
  }
  if (at != data.size())
    return Failure{"tensors hold " + std::to_string(at) + " bytes, the file has " + std::to_string(data.size()) + " after its header"};

  for (const auto& e : out.entries) {
    const Kind& kind = *kind_named(e.dtype);
    std::vector<int64_t> shape = e.shape;
    DType dtype = kind.dtype;
    if (dtype == DType::none) {
      dtype = u8;
      int64_t bits = 0;
      if (!shape.empty() && !__builtin_mul_overflow(shape.back(), kind.bits, &bits) && bits % 8 == 0)
        shape.back() = bits / 8;
      else
        shape = {static_cast<int64_t>(e.end - e.begin)};
    }
    auto t = tensor_of(data.subspan(static_cast<size_t>(e.begin), static_cast<size_t>(e.end - e.begin)), dtype, shape, owner);
    if (!t) return Failure{"tensor " + shown(e.name) + " " + t.message()};
    out.tensors.set(e.name, std::move(*t));
  }
  return out;
}

struct Plan {
  std::string header;         // with its length in front
  std::vector<Tensor> order;  // dense, as the data follow
};

Result<Plan> plan(const StateDict& tensors, const Metadata& metadata) {
  struct Item {
    const std::string* name;
    const Kind* kind;
    Tensor tensor;
  };
  std::vector<Item> items;
  for (const auto& [name, t] : tensors) {
    const std::string who = "tensor " + shown(name);
    if (!t.defined()) return Failure{who + " is not defined"};
    const Kind* kind = kind_of(t.dtype());
    if (kind == nullptr) return Failure{who + " has dtype " + name_of(t.dtype()) + ", which safetensors cannot hold"};
    if (name == "__metadata__") return Failure{who + ": the format keeps this name for itself"};
    if (!base::valid_utf8(name)) return Failure{who + " has a name that is not UTF-8"};
    items.push_back({&name, kind, dense(t)});
  }
  std::sort(items.begin(), items.end(),
            [](const Item& a, const Item& b) { return a.kind != b.kind ? a.kind > b.kind : *a.name < *b.name; });

  std::string json;
  base::JsonWriter w(json);
  w.begin_object();
  if (!metadata.empty()) {
    auto sorted = metadata;
    std::sort(sorted.begin(), sorted.end());
    w.key("__metadata__").begin_object();
    for (size_t i = 0; i < sorted.size(); ++i) {
      const auto& [key, text] = sorted[i];
      if (!base::valid_utf8(key) || !base::valid_utf8(text)) return Failure{"metadata " + shown(key) + " is not UTF-8"};
      if (i > 0 && sorted[i - 1].first == key) return Failure{"metadata " + shown(key) + " is given twice"};
      w.key(key).value(text);
    }
    w.end_object();
  }
  Plan p;
  uint64_t at = 0;
  for (Item& item : items) {
    w.key(*item.name).begin_object().key("dtype").value(item.kind->name).key("shape").begin_array();
    for (const int64_t e : item.tensor.shape()) w.value(e);
    w.end_array().key("data_offsets").begin_array().value(at);
    at += item.tensor.nbytes();
    w.value(at).end_array().end_object();
    p.order.push_back(std::move(item.tensor));
  }
  w.end_object();
  json.append((8 - json.size() % 8) % 8, ' ');
  if (json.size() > kMostHeader) return Failure{"header would have " + std::to_string(json.size()) + " bytes, more than the format allows"};
  append_le<uint64_t>(p.header, json.size());
  p.header += json;
  return p;
}

}  // namespace

Result<Safetensors> read_safetensors(const std::string& path) {
  const auto file = MappedFile::open(path);
  if (!file) return file.failure();
  auto content = parse((*file)->bytes(), *file);
  if (!content) return Failure{path + ": " + content.message()};
  return content;
}

Result<Safetensors> parse_safetensors(std::string_view bytes) { return parse(bytes_of(bytes), {}); }

Result<std::string> to_safetensors(const StateDict& tensors, const Metadata& metadata) {
  auto p = plan(tensors, metadata);
  if (!p) return p.failure();
  for (const Tensor& t : p->order) p->header += text_of(raw_bytes(t));
  return std::move(p->header);
}

Result<void> write_safetensors(const std::string& path, const StateDict& tensors, const Metadata& metadata) {
  const auto p = plan(tensors, metadata);
  if (!p) return Failure{"cannot write " + path + ": " + p.message()};
  auto file = AtomicFile::create(path);
  if (!file) return file.failure();
  file->write(p->header);
  for (const Tensor& t : p->order) file->write(raw_bytes(t).data(), raw_bytes(t).size());
  return file->commit();
}

}  // namespace keel::io
