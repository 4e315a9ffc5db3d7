#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "keel/tensor.h"

#pragma GCC visibility push(default)
namespace keel::text {

/// Where the first byte stands that is no part of a character in UTF-8, or -1.
int64_t first_bad_byte(std::string_view text);

/// One id a character: the code points of a text in ascending order. The text is UTF-8; bytes that are not become U+FFFD.
class CharTokenizer {
 public:
  /// The vocabulary is the set of characters of `corpus`.
  explicit CharTokenizer(std::string_view corpus);
  /// The vocabulary as `characters()` gave it.
  static CharTokenizer from_characters(std::string_view characters) { return CharTokenizer(characters); }
  int64_t vocab_size() const { return static_cast<int64_t>(points_.size()); }
  /// i64[characters]; ValueError where a character is not in the vocabulary.
  Tensor encode(std::string_view text) const;
  /// The text of ids of any shape, in row-major order; IndexError where an id is out of range.
  std::string decode(const Tensor& ids) const;
  /// The vocabulary as one text.
  std::string characters() const;

 private:
  std::vector<uint32_t> points_;  // ascending
};

}  // namespace keel::text
#pragma GCC visibility pop
