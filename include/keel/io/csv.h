#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "keel/base/result.h"

#pragma GCC visibility push(default)
namespace keel::io {

struct CsvOptions {
  char delimiter = ',';
  bool header = false;            ///< the first record names the columns
  bool same_width = true;         ///< refuse records that differ from the first in their number of fields
  std::string_view comment = {};  ///< records that begin with this are skipped; empty: none are
};

/// The fields of a text in comma-separated values, as RFC 4180 has them: quoted fields may hold delimiters, line ends and doubled quotes.
/// Lines end in LF or CRLF; empty lines are skipped.
class CsvTable {
 public:
  int64_t rows() const { return static_cast<int64_t>(starts_.size()); }
  int64_t columns(int64_t row = 0) const;  ///< fields of a row
  std::string_view at(int64_t row, int64_t column) const;
  const std::vector<std::string>& header() const { return header_; }
  /// The column of that name in the header; -1 where there is none.
  int64_t column(std::string_view name) const;
  /// One column, or all fields row by row, as numbers; a field that is no number is a failure that names its line and column in the text.
  Result<std::vector<double>> numbers(int64_t column) const;
  Result<std::vector<double>> numbers() const;

 private:
  friend class CsvParser;
  struct Field {
    size_t offset, length;
    int64_t line, column;
  };
  const Field& field(int64_t row, int64_t column) const;
  Result<double> number(const Field& f) const;
  std::string text_;
  std::vector<Field> fields_;
  std::vector<size_t> starts_;  // of the rows, in fields_
  std::vector<std::string> header_;
};

/// Failures end in "at line L, column C".
Result<CsvTable> parse_csv(std::string_view text, const CsvOptions& options = {});

/// The same of a file; one that ends in .gz is unpacked first. Failures begin with the path.
Result<CsvTable> read_csv(const std::string& path, const CsvOptions& options = {});

}  // namespace keel::io
#pragma GCC visibility pop
