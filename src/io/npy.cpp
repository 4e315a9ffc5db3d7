// The .npy format after numpy/lib/_format_impl.py: magic, version, length of a header that is a Python dictionary, the elements.
#include "keel/io/npy.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <optional>
#include <utility>
#include <vector>

#include "io/atomic_file.h"
#include "io/tensor_bytes.h"
#include "io/zip.h"

namespace keel::io {
namespace {

constexpr std::string_view kMagic = "\x93NUMPY";
constexpr size_t kAlign = 64, kGrowth = 21;  // NumPy leaves room for the first extent to grow to 21 digits

struct Header {
  std::string descr;
  bool fortran = false;
  std::vector<int64_t> shape;
};

// Reads the one form of dictionary that a header may have: string keys; a string, a bool or a tuple of integers as values.
class HeaderParser {
 public:
  explicit HeaderParser(std::string_view text) : text_(text) {}

  Result<Header> parse() {
    Header h;
    bool descr = false, order = false, shape = false;
    if (!take('{')) return refuse();
    while (!take('}')) {
      std::string key;
      if (!string(key) || !take(':')) return refuse();
      if (key == "descr" && !descr) {
        descr = true;
        if (peek() == '[') return Failure{"structured dtypes are not supported"};
        if (!string(h.descr)) return refuse();
      } else if (key == "fortran_order" && !order) {
        order = true;
        if (word("True"))
          h.fortran = true;
        else if (!word("False"))
          return refuse();
      } else if (key == "shape" && !shape) {
        shape = true;
        if (!tuple(h.shape)) return refuse();
      } else {
        return Failure{"header has the key " + shown(key) + " that it should not have, or twice"};
      }
      if (!take(',') && peek() != '}') return refuse();
    }
    space();
    if (at_ != text_.size()) return refuse();
    if (!descr || !order || !shape) return Failure{"header lacks one of 'descr', 'fortran_order', 'shape'"};
    return h;
  }

 private:
  void space() {
    while (at_ < text_.size() && std::isspace(static_cast<unsigned char>(text_[at_]))) ++at_;
  }
  char peek() {
    space();
    return at_ < text_.size() ? text_[at_] : '\0';
  }
  bool take(char c) {
    if (peek() != c || at_ >= text_.size()) return false;
    ++at_;
    return true;
  }
  bool word(std::string_view w) {
    space();
    if (text_.substr(at_, w.size()) != w) return false;
    at_ += w.size();
    return true;
  }
  bool string(std::string& out) {
    const char quote = peek();
    if (quote != '\'' && quote != '"') return false;
    const size_t end = text_.find(quote, at_ + 1);
    if (end == std::string_view::npos) return false;
    out = text_.substr(at_ + 1, end - at_ - 1);
    at_ = end + 1;
    return out.find('\\') == std::string::npos;
  }
  bool tuple(std::vector<int64_t>& out) {
    if (!take('(')) return false;
    while (!take(')')) {
      space();
      int64_t v = 0;
      const char *first = text_.data() + at_, *last = text_.data() + text_.size();
      const auto [end, code] = std::from_chars(first, last, v);
      if (code != std::errc() || v < 0) return false;
      at_ += static_cast<size_t>(end - first);
      if (at_ < text_.size() && text_[at_] == 'L') ++at_;  // Python 2 wrote long integers so
      out.push_back(v);
      if (!take(',') && peek() != ')') return false;
    }
    return true;
  }
  Failure refuse() const { return {"header is not a valid dictionary, at its byte " + std::to_string(at_)}; }

  std::string_view text_;
  size_t at_ = 0;
};

struct Descr {
  const char* code;  // without byte order
  DType dtype;
};
constexpr Descr kDescrs[] = {
    {"b1", DType::boolean},
    {"u1", u8},
    {"u2", u16},
    {"u4", u32},
    {"u8", u64},
    {"i1", i8},
    {"i2", i16},
    {"i4", i32},
    {"i8", i64},
    {"f2", f16},
    {"f4", f32},
    {"f8", f64},
    {"c8", complex64},
    {"c16", complex128},
    {"bfloat16", bf16},
    {"float8_e4m3fn", f8e4m3fn},
    {"float8_e5m2", f8e5m2},
    {"V2", bf16},
    {"f1", f8e5m2},  // the last two: what NumPy writes for ml_dtypes
};

struct Type {
  DType dtype;
  bool swap;
};
Result<Type> type_of(const std::string& descr) {
  std::string_view code = descr;
  bool big = false;
  if (!code.empty() && (code[0] == '<' || code[0] == '>' || code[0] == '|' || code[0] == '=')) big = code[0] == '>', code.remove_prefix(1);
  for (const Descr& d : kDescrs)
    if (code == d.code) return Type{d.dtype, big && size_of(d.dtype) > 1};
  if (code.starts_with('O')) return Failure{"object arrays hold pickles, which can run code, and are refused"};
  if (code == "V1") return Failure{"dtype '" + descr + "' does not say which 8-bit float it is"};
  if (code.starts_with('U') || code.starts_with('S')) return Failure{"arrays of text (dtype " + shown(descr) + ") are not supported"};
  return Failure{"dtype " + shown(descr) + " is not supported"};
}

void swap_bytes(std::string& s, size_t width) {
  for (size_t i = 0; i + width <= s.size(); i += width)
    std::reverse(s.begin() + static_cast<ptrdiff_t>(i), s.begin() + static_cast<ptrdiff_t>(i + width));
}

// One array from the front of `file`; anything after it is refused.
Result<Tensor> parse(Bytes file) {
  ByteReader r(file);
  if (text_of(r.take(kMagic.size())) != kMagic) return Failure{"not a .npy file"};
  const auto major = r.le<uint8_t>(), minor = r.le<uint8_t>();
  if (major < 1 || major > 3 || minor != 0)
    return Failure{".npy version " + std::to_string(major) + "." + std::to_string(minor) + " is not supported"};
  const uint32_t length = major == 1 ? r.le<uint16_t>() : r.le<uint32_t>();
  const Bytes text = r.take(length);
  if (!r.ok()) return Failure{"ends inside its header"};
  constexpr uint32_t kMostHeader = 65536;
  if (length > kMostHeader) return Failure{"header of " + std::to_string(length) + " bytes is too long"};
  const auto h = HeaderParser(text_of(text)).parse();
  if (!h) return h.failure();
  const auto type = type_of(h->descr);
  if (!type) return type.failure();
  const auto needed = bytes_needed(h->shape, size_of(type->dtype) * 8);
  if (!needed) return Failure{"shape overflows"};
  if (*needed != r.left())
    return Failure{"array needs " + std::to_string(*needed) + " bytes, the file has " + std::to_string(r.left()) + " after its header"};
  Bytes data = r.take(*needed);
  std::string swapped;
  if (type->swap) {
    swapped = text_of(data);
    swap_bytes(swapped, is_complex(type->dtype) ? size_of(type->dtype) / 2 : size_of(type->dtype));
    data = bytes_of(swapped);
  }
  std::vector<int64_t> shape = h->shape;
  if (h->fortran) std::reverse(shape.begin(), shape.end());
  auto t = tensor_of(data, type->dtype, shape, {});
  if (!t) return Failure{"array " + t.message()};
  if (h->fortran && shape.size() > 1) {
    Dims order;
    for (size_t i = shape.size(); i-- > 0;) order.push_back(static_cast<int64_t>(i));
    return t->permute(order);
  }
  return t;
}

std::string header_of(const Tensor& x) {
  std::string code;
  for (const Descr& d : kDescrs)
    if (d.dtype == x.dtype()) {
      code = d.code;
      break;
    }
  if (x.dtype() != bf16 && x.dtype() != f8e4m3fn && x.dtype() != f8e5m2) code = (size_of(x.dtype()) == 1 ? "|" : "<") + code;
  std::string text = "{'descr': '" + code + "', 'fortran_order': False, 'shape': (";
  for (int64_t i = 0; i < x.rank(); ++i)
    text += (i > 0 ? " " : "") + std::to_string(x.shape()[static_cast<int>(i)]) + (x.rank() == 1 || i + 1 < x.rank() ? "," : "");
  text += "), }";
  if (x.rank() > 0) text.append(kGrowth - std::to_string(x.shape()[0]).size(), ' ');
  constexpr size_t kFixed = 6 + 2 + 2;
  text.append((kAlign - (kFixed + text.size() + 1) % kAlign) % kAlign, ' ');
  text += '\n';
  std::string head(kMagic);
  head += std::string_view("\x01\x00", 2);
  append_le(head, static_cast<uint16_t>(text.size()));
  return head + text;
}

Result<StateDict> parse_archive(Bytes file) {
  const auto zip = ZipArchive::open(file);
  if (!zip) return zip.failure();
  StateDict arrays;
  for (const auto& e : zip->entries()) {
    if (!e.name.ends_with(".npy")) return Failure{shown(e.name) + " in the archive is no .npy file"};
    const std::string name = e.name.substr(0, e.name.size() - 4);
    // Deflate makes at most 1032 bytes of one: what claims more is damaged, and not worth the memory.
    if (e.size > e.compressed * 1032 + 64) return Failure{shown(e.name) + " claims more bytes than its compressed data can hold"};
    const auto content = zip->read(e, static_cast<size_t>(e.size));
    if (!content) return content.failure();
    auto array = parse(bytes_of(*content));
    if (!array) return Failure{shown(e.name) + ": " + array.message()};
    if (arrays.contains(name)) return Failure{shown(e.name) + " appears twice"};
    arrays.set(name, std::move(*array));
  }
  return arrays;
}

}  // namespace

Result<Tensor> read_npy(const std::string& path) {
  const auto file = MappedFile::open(path);
  if (!file) return file.failure();
  auto x = parse((*file)->bytes());
  if (!x) return Failure{path + ": " + x.message()};
  return x;
}

Result<Tensor> parse_npy(std::string_view bytes) { return parse(bytes_of(bytes)); }

Result<void> write_npy(const std::string& path, const Tensor& x) {
  if (!x.defined()) return Failure{"cannot write " + path + ": the tensor is not defined"};
  const Tensor d = dense(x);
  auto file = AtomicFile::create(path);
  if (!file) return file.failure();
  file->write(header_of(d));
  file->write(raw_bytes(d).data(), raw_bytes(d).size());
  return file->commit();
}

Result<StateDict> read_npz(const std::string& path) {
  const auto file = MappedFile::open(path);
  if (!file) return file.failure();
  auto arrays = parse_archive((*file)->bytes());
  if (!arrays) return Failure{path + ": " + arrays.message()};
  return arrays;
}

Result<StateDict> parse_npz(std::string_view bytes) { return parse_archive(bytes_of(bytes)); }

Result<void> write_npz(const std::string& path, const StateDict& arrays, bool compress) {
  for (const auto& [name, t] : arrays) {
    if (!t.defined()) return Failure{"cannot write " + path + ": tensor " + shown(name) + " is not defined"};
    if (name.size() > 60000) return Failure{"cannot write " + path + ": a name is too long"};
  }
  auto file = AtomicFile::create(path);
  if (!file) return file.failure();
  ZipWriter zip(*file);
  for (const auto& [name, t] : arrays) {
    const Tensor d = dense(t);
    const std::string head = header_of(d);
    zip.add(name + ".npy", {bytes_of(head), raw_bytes(d)}, compress);
  }
  zip.finish();
  return file->commit();
}

}  // namespace keel::io
