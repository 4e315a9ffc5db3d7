#include "keel/text/char_tokenizer.h"

#include <algorithm>

#include "core/impl.h"
#include "keel/error.h"
#include "keel/ops/creation.h"
#include "keel/ops/cast.h"

namespace keel::text {
namespace {

constexpr uint32_t kReplacement = 0xfffd;

/// The code point at `i`, which moves past it; overlong forms, surrogates and stray bytes count as one bad character each.
uint32_t next_point(std::string_view s, size_t& i) {
  const auto lead = uint8_t(s[i++]);
  if (lead < 0x80) return lead;
  const int more = lead >= 0xf0 && lead < 0xf5 ? 3 : lead >= 0xe0 && lead < 0xf0 ? 2 : lead >= 0xc2 && lead < 0xe0 ? 1 : 0;
  if (more == 0 || i + size_t(more) > s.size()) return kReplacement;
  uint32_t p = lead & (0x3f >> more);
  for (int k = 0; k < more; ++k) {
    const auto c = uint8_t(s[i + size_t(k)]);
    if ((c & 0xc0) != 0x80) return kReplacement;
    p = p << 6 | (c & 0x3f);
  }
  constexpr uint32_t least[] = {0, 0x80, 0x800, 0x10000};
  if (p < least[more] || p > 0x10ffff || (p >= 0xd800 && p < 0xe000)) return kReplacement;
  i += size_t(more);
  return p;
}

void append_point(std::string& out, uint32_t p) {
  if (p < 0x80) out += char(p);
  else if (p < 0x800) out += char(0xc0 | p >> 6), out += char(0x80 | (p & 0x3f));
  else if (p < 0x10000) out += char(0xe0 | p >> 12), out += char(0x80 | (p >> 6 & 0x3f)), out += char(0x80 | (p & 0x3f));
  else out += char(0xf0 | p >> 18), out += char(0x80 | (p >> 12 & 0x3f)), out += char(0x80 | (p >> 6 & 0x3f)), out += char(0x80 | (p & 0x3f));
}

}  // namespace

int64_t first_bad_byte(std::string_view text) {
  for (size_t i = 0; i < text.size();) {
    const size_t at = i;
    if (next_point(text, i) == kReplacement && i - at == 1) return int64_t(at);
  }
  return -1;
}

CharTokenizer::CharTokenizer(std::string_view corpus) {
  std::vector<bool> seen(0x110000);
  for (size_t i = 0; i < corpus.size();) seen[next_point(corpus, i)] = true;
  for (uint32_t p = 0; p < seen.size(); ++p)
    if (seen[p]) points_.push_back(p);
}

Tensor CharTokenizer::encode(std::string_view text) const {
  std::vector<int64_t> ids;
  ids.reserve(text.size());
  for (size_t i = 0; i < text.size();) {
    const size_t at = i;
    const uint32_t p = next_point(text, i);
    const auto it = std::lower_bound(points_.begin(), points_.end(), p);
    if (it == points_.end() || *it != p)
      raise(Error(ErrorCode::value, "character '" + std::string(text.substr(at, i - at)) + "' at byte " + std::to_string(at) + " is not in the vocabulary").op("CharTokenizer::encode")
                .hint("the vocabulary is the set of characters of the corpus that the tokenizer was made from"));
    ids.push_back(it - points_.begin());
  }
  Tensor t = empty(Shape({int64_t(ids.size())}), {.dtype = i64});
  std::copy(ids.begin(), ids.end(), t.data<int64_t>());
  return t;
}

std::string CharTokenizer::decode(const Tensor& ids) const {
  if (!is_integer(ids.dtype())) raise(Error(ErrorCode::dtype, "ids must be integers").op("CharTokenizer::decode").arg("ids", to_string(impl(ids).spec)));
  const Tensor dense = cast(ids, i64).contiguous();
  std::string out;
  for (int64_t i = 0; i < dense.size(); ++i) {
    const int64_t id = dense.data<int64_t>()[i];
    if (id < 0 || id >= vocab_size())
      raise(Error(ErrorCode::index, "id " + std::to_string(id) + " is out of range [0, " + std::to_string(vocab_size() - 1) + "]").op("CharTokenizer::decode"));
    append_point(out, points_[size_t(id)]);
  }
  return out;
}

std::string CharTokenizer::characters() const {
  std::string out;
  for (uint32_t p : points_) append_point(out, p);
  return out;
}

}  // namespace keel::text
