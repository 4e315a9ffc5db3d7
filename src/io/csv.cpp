#include "keel/io/csv.h"

#include <charconv>
#include <cmath>
#include <cstdlib>
#include <system_error>
#include <utility>

#include "io/gzip.h"
#include "io/mapped_file.h"

namespace keel::io {
namespace {

std::string place(int64_t line, int64_t column) { return " at line " + std::to_string(line) + ", column " + std::to_string(column); }

}  // namespace

class CsvParser {
 public:
  CsvParser(std::string_view text, const CsvOptions& o) : text_(text), options_(o) {}

  Result<CsvTable> parse() {
    if (text_.starts_with("\xef\xbb\xbf")) text_.remove_prefix(3);  // a byte order mark, as spreadsheets write it
    bool first = true;
    while (at_ < text_.size()) {
      if (end_of_line()) continue;
      if (!options_.comment.empty() && text_.substr(at_).starts_with(options_.comment)) {
        while (at_ < text_.size() && text_[at_] != '\n') ++at_;
        continue;
      }
      const size_t start = table_.fields_.size();
      const int64_t line = line_;
      if (!record()) return Failure{std::string(error_) + place(line_, column())};
      const size_t width = table_.fields_.size() - start;
      if (options_.same_width && !first && width != width_)
        return Failure{"record has " + std::to_string(width) + (width == 1 ? " field" : " fields") + ", not " + std::to_string(width_) +
                       place(line, 1)};
      if (first) width_ = width;
      if (first && options_.header) {
        for (const auto& f : table_.fields_) table_.header_.emplace_back(table_.text_, f.offset, f.length);
        table_.fields_.clear();
      } else {
        table_.starts_.push_back(start);
      }
      first = false;
    }
    return std::move(table_);
  }

 private:
  int64_t column() const { return static_cast<int64_t>(at_ - line_start_) + 1; }

  // Takes a line end, where one is here.
  bool end_of_line() {
    size_t n = 0;
    if (text_[at_] == '\n')
      n = 1;
    else if (text_[at_] == '\r' && at_ + 1 < text_.size() && text_[at_ + 1] == '\n')
      n = 2;
    at_ += n;
    if (n > 0) ++line_, line_start_ = at_;
    return n > 0;
  }

  bool record() {
    for (;;) {
      CsvTable::Field f{table_.text_.size(), 0, line_, column()};
      if (at_ < text_.size() && text_[at_] == '"') {
        if (!quoted()) return false;
      } else {
        size_t end = at_;
        while (end < text_.size() && text_[end] != options_.delimiter && text_[end] != '\n' &&
               !(text_[end] == '\r' && text_.substr(end, 2) == "\r\n")) {
          if (text_[end] == '"') {
            at_ = end;
            error_ = "quote inside a field that does not begin with one";
            return false;
          }
          ++end;
        }
        table_.text_.append(text_, at_, end - at_);
        at_ = end;
      }
      f.length = table_.text_.size() - f.offset;
      table_.fields_.push_back(f);
      if (at_ >= text_.size() || end_of_line()) return true;
      if (text_[at_] != options_.delimiter) {
        error_ = "text after a quoted field";
        return false;
      }
      ++at_;
    }
  }

  bool quoted() {
    for (++at_; at_ < text_.size(); ++at_) {
      if (text_[at_] == '\n') ++line_, line_start_ = at_ + 1;
      if (text_[at_] == '"') {
        ++at_;
        if (at_ >= text_.size() || text_[at_] != '"') return true;
      }
      table_.text_ += text_[at_];
    }
    error_ = "a quoted field is not closed";
    return false;
  }

  std::string_view text_;
  CsvOptions options_;
  CsvTable table_;
  size_t at_ = 0, line_start_ = 0, width_ = 0;
  int64_t line_ = 1;
  const char* error_ = "";
};

int64_t CsvTable::columns(int64_t row) const {
  if (row < 0 || row >= rows()) return static_cast<int64_t>(row == 0 ? header_.size() : 0);
  const auto r = static_cast<size_t>(row);
  return static_cast<int64_t>((r + 1 < starts_.size() ? starts_[r + 1] : fields_.size()) - starts_[r]);
}
const CsvTable::Field& CsvTable::field(int64_t row, int64_t column) const {
  return fields_[starts_[static_cast<size_t>(row)] + static_cast<size_t>(column)];
}
std::string_view CsvTable::at(int64_t row, int64_t column) const {
  if (row < 0 || row >= rows() || column < 0 || column >= columns(row)) return {};
  const Field& f = field(row, column);
  return std::string_view(text_).substr(f.offset, f.length);
}
int64_t CsvTable::column(std::string_view name) const {
  for (size_t i = 0; i < header_.size(); ++i)
    if (header_[i] == name) return static_cast<int64_t>(i);
  return -1;
}

Result<double> CsvTable::number(const Field& f) const {
  std::string_view s = std::string_view(text_).substr(f.offset, f.length);
  while (!s.empty() && (s.front() == ' ' || s.front() == '\t')) s.remove_prefix(1);
  while (!s.empty() && (s.back() == ' ' || s.back() == '\t')) s.remove_suffix(1);
  if (s.starts_with('+') && s.size() > 1 && s[1] != '-') s.remove_prefix(1);
  double v = 0;
#if defined(__cpp_lib_to_chars) && __cpp_lib_to_chars >= 201611L
  const auto [end, code] = std::from_chars(s.data(), s.data() + s.size(), v);
  bool ok = end == s.data() + s.size() && !s.empty();
  if (ok && code == std::errc::result_out_of_range)
    v = std::strtod(std::string(s).c_str(), nullptr);  // infinity or zero
  else
    ok = ok && code == std::errc();
#else
  char* end = nullptr;
  const std::string copy(s);
  v = std::strtod(copy.c_str(), &end);
  const bool ok = !s.empty() && end == copy.c_str() + copy.size();
#endif
  if (!ok) return Failure{"'" + std::string(s.substr(0, 40)) + "' is not a number" + place(f.line, f.column)};
  return v;
}

Result<std::vector<double>> CsvTable::numbers(int64_t column) const {
  std::vector<double> v;
  v.reserve(starts_.size());
  for (int64_t r = 0; r < rows(); ++r) {
    if (column < 0 || column >= columns(r)) return Failure{"row " + std::to_string(r) + " has no column " + std::to_string(column)};
    const auto n = number(field(r, column));
    if (!n) return n.failure();
    v.push_back(*n);
  }
  return v;
}

Result<std::vector<double>> CsvTable::numbers() const {
  std::vector<double> v;
  v.reserve(fields_.size());
  for (const Field& f : fields_) {
    const auto n = number(f);
    if (!n) return n.failure();
    v.push_back(*n);
  }
  return v;
}

Result<CsvTable> parse_csv(std::string_view text, const CsvOptions& options) { return CsvParser(text, options).parse(); }

Result<CsvTable> read_csv(const std::string& path, const CsvOptions& options) {
  const auto file = MappedFile::open(path);
  if (!file) return file.failure();
  std::string unpacked;
  std::string_view text = text_of((*file)->bytes());
  if (path.ends_with(".gz")) {
    auto content = gunzip((*file)->bytes(), size_t(1) << 32);
    if (!content) return Failure{path + ": " + content.message()};
    unpacked = std::move(*content);
    text = unpacked;
  }
  auto table = parse_csv(text, options);
  if (!table) return Failure{path + ": " + table.message()};
  return table;
}

}  // namespace keel::io
