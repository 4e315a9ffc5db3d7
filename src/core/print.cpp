// Printing as NumPy does: columns aligned, 8 significant digits at most, large tensors summarised by their edges.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <ostream>
#include <vector>

#include "core/impl.h"

namespace keel {
namespace {

constexpr int64_t kThreshold = 1000, kEdge = 3;
constexpr int kPrecision = 8, kLineWidth = 75;

struct Formatter {
  DType dtype;
  bool exponent = false;
  int precision = 0, width = 0;

  /// Digits after the point that show `v` in the shortest form which reads back, but at most kPrecision.
  static int digits_needed(double v, DType t, bool exponent) {
    char text[64];
    for (int p = 0; p < kPrecision; ++p) {
      std::snprintf(text, sizeof text, exponent ? "%.*e" : "%.*f", p, v);
      const double back = std::strtod(text, nullptr);
      if (t == f64 ? back == v : float(back) == float(v)) return p;
    }
    return kPrecision;
  }

  void prepare(const std::vector<double>& values) {
    double largest = 0, smallest = INFINITY;
    for (double v : values)
      if (std::isfinite(v) && v != 0) largest = std::max(largest, std::fabs(v)), smallest = std::min(smallest, std::fabs(v));
    exponent = largest >= 1e8 || (largest > 0 && (smallest < 1e-4 || largest / smallest > 1e3 * 1e5));
    for (double v : values)
      if (std::isfinite(v)) precision = std::max(precision, digits_needed(v, dtype, exponent));
    for (double v : values) width = std::max(width, int(plain(v).size()));
  }
  std::string plain(double v) const {
    if (std::isnan(v)) return "nan";
    if (std::isinf(v)) return v > 0 ? "inf" : "-inf";
    char text[400];
    std::snprintf(text, sizeof text, exponent ? "%.*e" : "%.*f", precision, v);
    std::string s = text;
    if (exponent) return s;
    if (precision == 0) return s + ".";
    for (size_t i = s.size(); i-- > 0 && s[i] == '0';) s[i] = ' ';  // columns keep their points aligned
    return s;
  }
};

std::string element(const std::byte* p, DType t, const Formatter& f) {
  if (t == DType::boolean) return read_int(p, t) ? "True" : "False";
  if (is_integer(t)) return t == u64 ? std::to_string(uint64_t(read_int(p, t))) : std::to_string(read_int(p, t));
  if (is_complex(t)) {
    const size_t half = size_of(t) / 2;
    const DType part = t == complex64 ? f32 : f64;
    const double re = read_double(p, part), im = read_double(p + half, part);
    return f.plain(re) + (std::signbit(im) ? "" : "+") + f.plain(im) + "j";
  }
  return f.plain(read_double(p, t));
}

struct Printer {
  const TensorImpl& t;
  bool summarise;
  Formatter format;
  std::vector<std::string> cells;
  size_t next = 0, width = 0;

  template <class F>
  void visit(int axis, const std::byte* p, F&& f) {
    const int64_t n = axis < t.spec.shape.rank() ? t.spec.shape[axis] : 1;
    if (axis == t.spec.shape.rank()) return f(p);
    for (int64_t i = 0; i < n; ++i) {
      if (summarise && n > 2 * kEdge && i == kEdge) i = n - kEdge;
      visit(axis + 1, p + i * t.strides[axis] * int64_t(size_of(t.spec.dtype)), f);
    }
  }
  void row(std::string& out, int indent) {
    const int64_t n = t.spec.shape[-1];
    int column = indent + 1;
    out += "[";
    for (int64_t i = 0; i < n; ++i) {
      if (i) out += " ", ++column;
      if (summarise && n > 2 * kEdge && i == kEdge) {
        out += "... ", column += 4;
        i = n - kEdge;
      }
      const std::string& c = cells[next++];
      if (column + int(width) > kLineWidth && i) out += "\n" + std::string(size_t(indent + 1), ' '), column = indent + 1;
      out += std::string(width - c.size(), ' ') + c, column += int(width);
    }
    out += "]";
  }
  void block(std::string& out, int axis) {
    const int rank = t.spec.shape.rank();
    if (axis == rank - 1) return row(out, axis);
    const int64_t n = t.spec.shape[axis];
    const std::string gap = std::string(size_t(rank - 1 - axis), '\n') + std::string(size_t(axis + 1), ' ');
    out += "[";
    for (int64_t i = 0; i < n; ++i) {
      if (i) out += gap;
      if (summarise && n > 2 * kEdge && i == kEdge) {
        out += "..." + gap;
        i = n - kEdge;
      }
      block(out, axis + 1);
    }
    out += "]";
  }
};

}  // namespace

std::string to_string(const Tensor& t) {
  if (!t.defined()) return "<empty tensor>";
  const TensorImpl& ti = impl(t);
  if (ti.device.type != DeviceType::cpu) return "<" + to_string(ti.spec) + " on " + to_string(ti.device) + ">";
  const int64_t n = ti.spec.shape.numel();
  if (n == 0) return ti.spec.shape.rank() == 1 ? "[]" : "[] (shape " + to_string(ti.spec.shape) + ")";
  Printer p{ti, n > kThreshold, {ti.spec.dtype}, {}};
  if (is_inexact(ti.spec.dtype)) {
    std::vector<double> values;
    const size_t parts = is_complex(ti.spec.dtype) ? 2 : 1, step = size_of(ti.spec.dtype) / parts;
    const DType part = parts == 1 ? ti.spec.dtype : ti.spec.dtype == complex64 ? f32 : f64;
    p.visit(0, ti.data, [&](const std::byte* e) {
      for (size_t k = 0; k < parts; ++k) values.push_back(read_double(e + k * step, part));
    });
    p.format.dtype = part == f32 ? f32 : part;
    p.format.prepare(values);
  }
  p.visit(0, ti.data, [&](const std::byte* e) { p.cells.push_back(element(e, ti.spec.dtype, p.format)); });
  for (const std::string& c : p.cells) p.width = std::max(p.width, c.size());
  if (ti.spec.shape.rank() == 0) return p.cells[0].substr(0, p.cells[0].find_last_not_of(' ') + 1);
  std::string out;
  p.block(out, 0);
  return out;
}

std::ostream& operator<<(std::ostream& os, const Tensor& t) { return os << to_string(t); }

}  // namespace keel
