#include "base/json.h"

#include <bit>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <system_error>
#include <unordered_set>
#include <utility>

namespace keel::base {
namespace {

// Bytes of the UTF-8 sequence at the start of `s`, 0 where there is none that is valid (Unicode 15, table 3-7).
size_t utf8_length(std::string_view s) {
  const auto at = [&](size_t i) { return i < s.size() ? static_cast<uint8_t>(s[i]) : 0; };
  const auto tail = [&](size_t i) { return (at(i) & 0xc0) == 0x80; };
  const uint8_t a = static_cast<uint8_t>(at(0)), b = static_cast<uint8_t>(at(1));
  if (a < 0x80) return 1;
  if (a >= 0xc2 && a <= 0xdf) return tail(1) ? 2 : 0;
  if (a >= 0xe0 && a <= 0xef) return tail(1) && tail(2) && !(a == 0xe0 && b < 0xa0) && !(a == 0xed && b > 0x9f) ? 3 : 0;
  if (a >= 0xf0 && a <= 0xf4) return tail(1) && tail(2) && tail(3) && !(a == 0xf0 && b < 0x90) && !(a == 0xf4 && b > 0x8f) ? 4 : 0;
  return 0;
}

void append_utf8(std::string& s, uint32_t c) {
  const auto put = [&](uint32_t byte) { s += static_cast<char>(byte); };
  if (c < 0x80)
    put(c);
  else if (c < 0x800)
    put(0xc0 | c >> 6), put(0x80 | (c & 0x3f));
  else if (c < 0x10000)
    put(0xe0 | c >> 12), put(0x80 | (c >> 6 & 0x3f)), put(0x80 | (c & 0x3f));
  else
    put(0xf0 | c >> 18), put(0x80 | (c >> 12 & 0x3f)), put(0x80 | (c >> 6 & 0x3f)), put(0x80 | (c & 0x3f));
}

// The double of a text that has the form of a JSON number; not finite where it is too large.
double to_double(const char* first, const char* last) {
#if defined(__cpp_lib_to_chars) && __cpp_lib_to_chars >= 201611L
  double v = 0;
  if (std::from_chars(first, last, v).ec == std::errc()) return v;
  // Out of range: too large or too small. The sign of the decimal exponent that remains tells which.
  int64_t digits = 0, exponent = 0;
  bool point = false, seen = false;
  for (const char* p = first; p < last; ++p) {
    if (*p == '.')
      point = true;
    else if (*p == 'e' || *p == 'E') {
      const bool negative = p[1] == '-';
      for (++p; p < last; ++p)
        if (*p >= '0' && *p <= '9') exponent = exponent < 1000000000 ? exponent * 10 + (*p - '0') : exponent;
      if (negative) exponent = -exponent;
    } else if (*p >= '0' && *p <= '9') {
      if (*p != '0') seen = true;
      if (seen && !point) ++digits;
      if (!seen && point) --digits;
    }
  }
  return seen && exponent + digits > 0 ? INFINITY : (*first == '-' ? -0.0 : 0.0);
#else
  return std::strtod(std::string(first, last).c_str(), nullptr);
#endif
}

}  // namespace

bool valid_utf8(std::string_view s) {
  while (!s.empty()) {
    const size_t n = utf8_length(s);
    if (n == 0) return false;
    s.remove_prefix(n);
  }
  return true;
}

class JsonParser {
 public:
  JsonParser(std::string_view text, const JsonLimits& limits) : text_(text), limits_(limits) {}

  Result<JsonDocument> parse() {
    // What may come next: a value, a value or the end of an array, a key or the end of an object, a key, a separator or the end of the
    // container.
    enum class Want { value, value_or_end, key_or_end, key, more } want = Want::value;
    for (;;) {
      skip_space();
      const char c = peek();
      if (want == Want::more) {
        if (open_.empty()) break;
        const bool object = doc_.nodes_[open_.back()].type == JsonType::object;
        if (c == ',') {
          ++at_, want = object ? Want::key : Want::value;
          continue;
        }
        if (c != (object ? '}' : ']')) return fail(object ? "expected ',' or '}'" : "expected ',' or ']'");
        if (!close()) return fail(error_);
        continue;
      }
      if ((want == Want::value_or_end && c == ']') || (want == Want::key_or_end && c == '}')) {
        if (!close()) return fail(error_);
        want = Want::more;
        continue;
      }
      if (want == Want::key || want == Want::key_or_end) {
        if (c != '"') return fail("expected a string as key");
        if (!string()) return fail(error_);
        skip_space();
        if (peek() != ':') return fail("expected ':'");
        ++at_, want = Want::value;
        continue;
      }
      if (!open_.empty()) ++doc_.nodes_[open_.back()].size;
      if (c == '[' || c == '{') {
        if (open_.size() >= static_cast<size_t>(limits_.depth)) return fail("nested too deeply");
        open_.push_back(static_cast<uint32_t>(doc_.nodes_.size()));
        if (!push({c == '[' ? JsonType::array : JsonType::object, 0, 0})) return fail(error_);
        ++at_, want = c == '[' ? Want::value_or_end : Want::key_or_end;
        continue;
      }
      if (!scalar(c)) return fail(error_);
      want = Want::more;
    }
    if (at_ != text_.size()) return fail("unexpected text after the value");
    return std::move(doc_);
  }

 private:
  using Node = JsonDocument::Node;

  char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }
  bool digit() const { return peek() >= '0' && peek() <= '9'; }
  void skip_space() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\t' || text_[at_] == '\n' || text_[at_] == '\r')) ++at_;
  }
  bool refuse(const char* why) {
    error_ = why;
    return false;
  }
  Failure fail(const char* why) const {
    size_t line = 1, column = 1;
    for (size_t i = 0; i < at_ && i < text_.size(); ++i) text_[i] == '\n' ? (++line, column = 1) : ++column;
    return {std::string(at_ >= text_.size() ? "unexpected end of text: " : "") + why + " at line " + std::to_string(line) + ", column " +
            std::to_string(column)};
  }
  bool push(Node n) {
    if (doc_.nodes_.size() >= limits_.nodes || doc_.nodes_.size() >= UINT32_MAX) return refuse("too many values");
    doc_.nodes_.push_back(n);
    return true;
  }

  bool close() {
    const uint32_t container = open_.back();
    open_.pop_back();
    doc_.nodes_[container].value = doc_.nodes_.size();
    if (limits_.unique_keys && doc_.nodes_[container].type == JsonType::object) {
      std::unordered_set<std::string_view> keys;
      for (uint32_t k = container + 1; k < doc_.nodes_.size(); k = doc_.after(k + 1))
        if (!keys.insert(doc_.text_of(k)).second) return refuse("a key appears twice in the object that ends");
    }
    ++at_;
    return true;
  }

  bool scalar(char c) {
    if (c == '"') return string();
    if (c == '-' || digit()) return number();
    constexpr std::pair<std::string_view, Node> kWords[] = {
        {"null", {JsonType::null, 0, 0}}, {"true", {JsonType::boolean, 0, 1}}, {"false", {JsonType::boolean, 0, 0}}};
    for (const auto& [word, node] : kWords)
      if (text_.substr(at_, word.size()) == word) {
        at_ += word.size();
        return push(node);
      }
    return refuse("expected a value");
  }

  bool number() {
    const size_t start = at_;
    bool real = false;
    if (peek() == '-') ++at_;
    if (!digit()) return refuse("expected a digit");
    if (peek() == '0')
      ++at_;
    else
      while (digit()) ++at_;
    if (peek() == '.') {
      ++at_, real = true;
      if (!digit()) return refuse("expected a digit");
      while (digit()) ++at_;
    }
    if (peek() == 'e' || peek() == 'E') {
      ++at_, real = true;
      if (peek() == '+' || peek() == '-') ++at_;
      if (!digit()) return refuse("expected a digit");
      while (digit()) ++at_;
    }
    const char *first = text_.data() + start, *last = text_.data() + at_;
    int64_t i = 0;
    real = real || text_.substr(start, at_ - start) == "-0";  // no integer has this sign
    if (!real && std::from_chars(first, last, i).ec == std::errc()) return push({JsonType::integer, 0, static_cast<uint64_t>(i)});
    const double d = to_double(first, last);
    if (!std::isfinite(d)) return refuse("number out of range");
    return push({JsonType::real, 0, std::bit_cast<uint64_t>(d)});
  }

  // Four hexadecimal digits after \u; -1 where they are not there.
  int64_t hex4() {
    uint32_t v = 0;
    if (text_.size() - at_ < 4) return -1;
    const auto [end, ec] = std::from_chars(text_.data() + at_, text_.data() + at_ + 4, v, 16);
    if (ec != std::errc() || end != text_.data() + at_ + 4) return -1;
    at_ += 4;
    return v;
  }

  bool string() {
    ++at_;
    const size_t offset = doc_.strings_.size();
    for (;;) {
      size_t run = at_;
      while (run < text_.size() && text_[run] != '"' && text_[run] != '\\' && static_cast<uint8_t>(text_[run]) >= 0x20 &&
             static_cast<uint8_t>(text_[run]) < 0x80)
        ++run;
      doc_.strings_.append(text_, at_, run - at_);
      at_ = run;
      if (at_ >= text_.size()) return refuse("a string is not closed");
      const char c = text_[at_];
      if (c == '"') break;
      if (c == '\\') {
        if (!escape()) return false;
        continue;
      }
      if (static_cast<uint8_t>(c) < 0x20) return refuse("control character in a string");
      const size_t n = utf8_length(text_.substr(at_));
      if (n == 0) return refuse("invalid UTF-8");
      doc_.strings_.append(text_, at_, n);
      at_ += n;
    }
    ++at_;
    const size_t length = doc_.strings_.size() - offset;
    if (length > UINT32_MAX) return refuse("string too long");
    return push({JsonType::string, static_cast<uint32_t>(length), offset});
  }

  bool escape() {
    ++at_;
    constexpr std::string_view kFrom = "\"\\/bfnrt", kTo = "\"\\/\b\f\n\r\t";
    const char c = peek();
    if (const size_t i = kFrom.find(c); c != '\0' && i != kFrom.npos) {
      ++at_;
      doc_.strings_ += kTo[i];
      return true;
    }
    if (c != 'u') return refuse("invalid escape");
    ++at_;
    int64_t v = hex4();
    if (v < 0) return refuse("expected four hexadecimal digits");
    if (v >= 0xdc00 && v <= 0xdfff) return refuse("lone surrogate");
    if (v >= 0xd800 && v <= 0xdbff) {
      if (text_.substr(at_, 2) != "\\u") return refuse("lone surrogate");
      at_ += 2;
      const int64_t low = hex4();
      if (low < 0xdc00 || low > 0xdfff) return refuse("lone surrogate");
      v = 0x10000 + ((v - 0xd800) << 10) + (low - 0xdc00);
    }
    append_utf8(doc_.strings_, static_cast<uint32_t>(v));
    return true;
  }

  std::string_view text_;
  JsonLimits limits_;
  size_t at_ = 0;
  std::vector<uint32_t> open_;  // the containers around the current place
  JsonDocument doc_;
  const char* error_ = "";
};

Result<JsonDocument> parse_json(std::string_view text, const JsonLimits& limits) { return JsonParser(text, limits).parse(); }

JsonType JsonValue::type() const { return doc_ == nullptr ? JsonType::null : doc_->nodes_[at_].type; }
bool JsonValue::as_bool() const { return is(JsonType::boolean) && doc_->nodes_[at_].value != 0; }
int64_t JsonValue::as_int() const { return is(JsonType::integer) ? static_cast<int64_t>(doc_->nodes_[at_].value) : 0; }
double JsonValue::as_double() const {
  return is(JsonType::real) ? std::bit_cast<double>(doc_->nodes_[at_].value) : static_cast<double>(as_int());
}
std::string_view JsonValue::as_string() const { return is(JsonType::string) ? doc_->text_of(at_) : std::string_view(); }
size_t JsonValue::size() const { return type() >= JsonType::array ? doc_->nodes_[at_].size : 0; }

JsonValue JsonValue::first() const {
  if (type() < JsonType::array || size() == 0) return {};
  const bool member = type() == JsonType::object;
  return {doc_, at_ + (member ? 2 : 1), doc_->after(at_), member};
}
JsonValue JsonValue::next() const {
  if (missing() || doc_->after(at_) >= end_) return {};
  return {doc_, doc_->after(at_) + (member_ ? 1 : 0), end_, member_};
}
std::string_view JsonValue::key() const { return member_ ? doc_->text_of(at_ - 1) : std::string_view(); }
JsonValue JsonValue::operator[](std::string_view k) const {
  if (!is(JsonType::object)) return {};
  for (JsonValue v = first(); v; v = v.next())
    if (v.key() == k) return v;
  return {};
}

void JsonWriter::separate() {
  if (comma_) out_ += ',';
  comma_ = true;
}
JsonWriter& JsonWriter::open(char c) {
  separate();
  out_ += c;
  comma_ = false;
  return *this;
}
JsonWriter& JsonWriter::close(char c) {
  out_ += c;
  comma_ = true;
  return *this;
}
void JsonWriter::quote(std::string_view v) {
  out_ += '"';
  for (const char c : v) {
    constexpr std::string_view kFrom = "\"\\\b\f\n\r\t", kTo = "\"\\bfnrt";
    if (const size_t i = kFrom.find(c); i != kFrom.npos) {
      out_ += '\\', out_ += kTo[i];
    } else if (static_cast<uint8_t>(c) < 0x20) {
      char code[8];
      std::snprintf(code, sizeof code, "\\u%04x", static_cast<unsigned>(c));
      out_ += code;
    } else {
      out_ += c;
    }
  }
  out_ += '"';
}
JsonWriter& JsonWriter::key(std::string_view k) {
  separate();
  quote(k);
  out_ += ':';
  comma_ = false;
  return *this;
}
JsonWriter& JsonWriter::value(std::string_view v) {
  separate();
  quote(v);
  return *this;
}
JsonWriter& JsonWriter::raw(std::string_view json) {
  separate();
  out_ += json;
  return *this;
}
JsonWriter& JsonWriter::value(int64_t v) { return raw(std::to_string(v)); }
JsonWriter& JsonWriter::value(uint64_t v) { return raw(std::to_string(v)); }
JsonWriter& JsonWriter::value(bool v) { return raw(v ? "true" : "false"); }
JsonWriter& JsonWriter::null() { return raw("null"); }
JsonWriter& JsonWriter::value(double v) {
  if (!std::isfinite(v)) return null();
  char text[40];
#if defined(__cpp_lib_to_chars) && __cpp_lib_to_chars >= 201611L
  const auto end = std::to_chars(text, text + sizeof text, v).ptr;
  return raw(std::string_view(text, static_cast<size_t>(end - text)));
#else
  for (int digits = 15; digits <= 17; ++digits) {
    std::snprintf(text, sizeof text, "%.*g", digits, v);
    if (std::strtod(text, nullptr) == v) break;
  }
  return raw(text);
#endif
}

}  // namespace keel::base
