#pragma once
#include <keel/base/result.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#pragma GCC visibility push(default)  // the io library uses it too
/// Strict JSON (RFC 8259): a reader for headers and small files, and a writer.
namespace keel::base {

enum class JsonType : uint8_t { null, boolean, integer, real, string, array, object };

struct JsonLimits {
  int depth = 512;                 ///< nesting of arrays and objects
  size_t nodes = size_t(1) << 24;  ///< values and keys in all
  bool unique_keys = false;        ///< refuse an object that names a key twice
};

class JsonDocument;

/// A value inside a JsonDocument, which must outlive it. Reading a value as a type that it does not have gives zero, empty or `missing`.
class JsonValue {
 public:
  JsonValue() = default;
  bool missing() const { return doc_ == nullptr; }
  explicit operator bool() const { return !missing(); }
  JsonType type() const;
  bool is(JsonType t) const { return !missing() && type() == t; }
  bool as_bool() const;
  int64_t as_int() const;    ///< integers only; exact
  double as_double() const;  ///< reals and integers
  std::string_view as_string() const;
  size_t size() const;                               ///< elements of an array, members of an object
  JsonValue operator[](std::string_view key) const;  ///< the first member of that name

  /// Walks the elements of an array or the members of an object in file order: `for (JsonValue v = a.first(); v; v = v.next())`. The key of
  /// a member is `v.key()`.
  JsonValue first() const;
  JsonValue next() const;
  std::string_view key() const;

 private:
  friend class JsonDocument;
  JsonValue(const JsonDocument* doc, uint32_t at, uint32_t end, bool member) : doc_(doc), at_(at), end_(end), member_(member) {}
  const JsonDocument* doc_ = nullptr;
  uint32_t at_ = 0, end_ = 0;  // this node, and the end of the container it is in
  bool member_ = false;
};

/// A parsed text. Nodes lie in one array in file order, a container before its content, a key before its value; no recursion anywhere.
class JsonDocument {
 public:
  JsonValue root() const { return JsonValue(this, 0, static_cast<uint32_t>(nodes_.size()), false); }

 private:
  friend class JsonValue;
  friend class JsonParser;
  struct Node {
    JsonType type;
    uint32_t size;   // bytes of a string, elements or members of a container
    uint64_t value;  // bool, the bits of a number, offset of a string, or the node after a container's content
  };
  uint32_t after(uint32_t at) const { return nodes_[at].type >= JsonType::array ? static_cast<uint32_t>(nodes_[at].value) : at + 1; }
  std::string_view text_of(uint32_t at) const { return std::string_view(strings_).substr(nodes_[at].value, nodes_[at].size); }
  std::vector<Node> nodes_;
  std::string strings_;
};

/// Parses a whole text. The message of a failure ends in "at line L, column C". A number that no double can hold, invalid UTF-8, lone
/// surrogates and a byte order mark are refused.
Result<JsonDocument> parse_json(std::string_view text, const JsonLimits& limits = {});

/// Whether `text` is valid UTF-8: no overlong forms, no surrogates, nothing above U+10FFFF.
bool valid_utf8(std::string_view text);

/// Appends JSON to a string; places commas itself. Strings must be UTF-8. A number that is not finite becomes null.
class JsonWriter {
 public:
  explicit JsonWriter(std::string& out) : out_(out) {}
  JsonWriter& begin_object() { return open('{'); }
  JsonWriter& end_object() { return close('}'); }
  JsonWriter& begin_array() { return open('['); }
  JsonWriter& end_array() { return close(']'); }
  JsonWriter& key(std::string_view k);
  JsonWriter& value(std::string_view v);
  JsonWriter& value(const char* v) { return value(std::string_view(v)); }
  JsonWriter& value(const std::string& v) { return value(std::string_view(v)); }
  JsonWriter& value(int64_t v);
  JsonWriter& value(int v) { return value(static_cast<int64_t>(v)); }
  JsonWriter& value(uint64_t v);
  JsonWriter& value(double v);  ///< the shortest text that reads back as the same double
  JsonWriter& value(bool v);
  JsonWriter& null();
  /// Text that is JSON already.
  JsonWriter& raw(std::string_view json);

 private:
  JsonWriter& open(char c);
  JsonWriter& close(char c);
  void separate();
  void quote(std::string_view v);
  std::string& out_;
  bool comma_ = false;
};

}  // namespace keel::base
#pragma GCC visibility pop
