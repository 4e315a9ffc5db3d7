// Printing as NumPy 2 does: columns aligned, at most 8 digits after the point, shortest digits that read back in the tensor's dtype,
// exponents where magnitudes call for them, lines of 75 characters, large tensors summarised by their edges.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ostream>
#include <vector>

#include "core/device_driver.h"
#include "core/impl.h"

namespace keel {
namespace {

constexpr int64_t kThreshold = 1000, kEdge = 3;
constexpr int kPrecision = 8, kLineWidth = 75;

/// Decimal digits d.ddd times 10^exponent.
struct Decimal {
  bool negative = false;
  std::string digits = "0";
  int exponent = 0;
};

/// Takes apart what "%e" writes.
Decimal parse(const char* text) {
  Decimal d;
  d.digits.clear();
  if (*text == '-') d.negative = true, ++text;
  for (; *text && *text != 'e'; ++text)
    if (*text != '.') d.digits += *text;
  if (*text == 'e') d.exponent = std::atoi(text + 1);
  while (d.digits.size() > 1 && d.digits.back() == '0') d.digits.pop_back();
  return d;
}

bool reads_back(const char* text, double v, DType t) {
  const double back = std::strtod(text, nullptr);
  alignas(8) std::byte a[8] = {}, b[8] = {};
  write_scalar(a, t, Scalar(back)), write_scalar(b, t, Scalar(v));
  return std::equal(a, a + size_of(t), b);
}

/// The fewest digits that read back as `v` in dtype t.
Decimal shortest(double v, DType t) {
  char text[64];
  if (t == f32 || t == f64) {
    const auto end = t == f32 ? std::to_chars(text, text + sizeof text - 1, float(v), std::chars_format::scientific)
                              : std::to_chars(text, text + sizeof text - 1, v, std::chars_format::scientific);
    *end.ptr = 0;
    return parse(text);
  }
  for (int digits = 0; digits < 8; ++digits) {
    std::snprintf(text, sizeof text, "%.*e", digits, v);
    if (reads_back(text, v, t)) break;
  }
  return parse(text);
}

/// Integer and fraction digits, the latter without trailing zeros and at most `precision`; the sign belongs to the integer part.
struct Parts {
  std::string whole, fraction, exponent;
};

Parts positional(double v, DType t, int precision, bool plus) {
  const Decimal d = shortest(v, t);
  Parts p;
  const int fraction = std::max(0, int(d.digits.size()) - 1 - d.exponent);
  if (fraction > precision) {
    char text[400];
    std::snprintf(text, sizeof text, "%.*f", precision, std::fabs(v));
    const std::string s = text;
    const size_t point = s.find('.');
    p.whole = s.substr(0, point), p.fraction = point == std::string::npos ? "" : s.substr(point + 1);
    while (!p.fraction.empty() && p.fraction.back() == '0') p.fraction.pop_back();
  } else if (d.exponent < 0) {
    p.whole = "0", p.fraction = std::string(size_t(-d.exponent - 1), '0') + d.digits;
    if (d.digits == "0") p.fraction.clear();
  } else {
    const size_t n = size_t(d.exponent) + 1;
    p.whole = d.digits.substr(0, n), p.whole += std::string(n - p.whole.size(), '0');
    if (d.digits.size() > n) p.fraction = d.digits.substr(n);
  }
  p.whole = (d.negative ? "-" : plus ? "+" : "") + p.whole;
  return p;
}

Parts scientific(double v, DType t, int precision, bool plus) {
  Decimal d = shortest(v, t);
  if (int(d.digits.size()) - 1 > precision) {
    char text[64];
    std::snprintf(text, sizeof text, "%.*e", precision, v);
    d = parse(text);
  }
  char text[16];
  std::snprintf(text, sizeof text, "%c%02d", d.exponent < 0 ? '-' : '+', std::abs(d.exponent));
  return {(d.negative ? "-" : plus ? "+" : "") + d.digits.substr(0, 1), d.digits.substr(1), text};
}

/// Where positional notation ends: 10 to the number of digits that the dtype holds, at most 8 (arrays) or 16 (numbers).
double cutoff(DType t, int most) { return t == f64 ? (most == 8 ? 1e8 : 1e16) : t == f32 ? 1e6 : 1e3; }

std::string number(double v, DType t, bool plus = false) {
  if (std::isnan(v)) return plus ? "+nan" : "nan";
  if (std::isinf(v)) return v < 0 ? "-inf" : plus ? "+inf" : "inf";
  const double m = std::fabs(v);
  if (m != 0 && (m >= cutoff(t, 16) || m < 1e-4)) {
    const Parts p = scientific(v, t, 17, plus);
    return p.whole + (p.fraction.empty() ? "" : "." + p.fraction) + "e" + p.exponent;
  }
  const Parts p = positional(v, t, 400, plus);
  return p.whole + "." + (p.fraction.empty() ? "0" : p.fraction);
}

/// The common form of one part of the elements: real parts, imaginary parts.
struct Formatter {
  DType dtype = f64;
  bool plus = false;
  bool exponent = false;
  int precision = kPrecision;
  size_t left = 0, right = 0, exponent_width = 0;

  void prepare(const std::vector<double>& values) {
    double largest = 0, smallest = INFINITY;
    bool all_finite = true, negative_inf = plus;
    for (double v : values) {
      all_finite &= std::isfinite(v), negative_inf |= std::isinf(v) && v < 0;
      if (std::isfinite(v) && v != 0) largest = std::max(largest, std::fabs(v)), smallest = std::min(smallest, std::fabs(v));
    }
    exponent = largest > 0 && (largest >= cutoff(dtype, 8) || smallest < 0.0001 || largest / smallest > 1000);
    size_t fraction = 0;
    bool any = false;
    for (double v : values) {
      if (!std::isfinite(v)) continue;
      any = true;
      const Parts p = exponent ? scientific(v, dtype, kPrecision, plus) : positional(v, dtype, kPrecision, plus);
      left = std::max(left, p.whole.size()), fraction = std::max(fraction, p.fraction.size()),
      exponent_width = std::max(exponent_width, p.exponent.size());
    }
    if (exponent)
      precision = int(fraction), right = fraction + exponent_width + 1;
    else
      right = any ? fraction : 0;
    if (!all_finite) {
      const size_t inf = negative_inf ? 4 : 3;
      left = std::max({left, right < 2 ? 2 - right : 0, inf > right + 1 ? inf - right - 1 : 0});
    }
  }
  std::string operator()(double v) const {
    auto aligned = [](std::string s, size_t width) { return std::string(width > s.size() ? width - s.size() : 0, ' ') + s; };
    if (!std::isfinite(v)) return aligned(number(v, dtype, plus && !(v < 0)), left + right + 1);
    if (exponent) {
      Parts p = scientific(v, dtype, precision, plus);
      if (int(p.fraction.size()) < precision) {  // more digits of the exact value, as NumPy shows; they may begin with a 9 below the shortest form
        char text[64];
        std::snprintf(text, sizeof text, "%.*e", precision, v);
        const std::string s = text;
        const size_t point = s.find('.'), e = s.find('e');
        p.whole = (plus && v >= 0 ? "+" : "") + s.substr(0, point), p.fraction = s.substr(point + 1, e - point - 1), p.exponent = s.substr(e + 1);
      }
      while (p.exponent.size() < exponent_width) p.exponent.insert(1, "0");
      return aligned(p.whole, left) + "." + p.fraction + "e" + p.exponent;
    }
    const Parts p = positional(v, dtype, precision, plus);
    return aligned(p.whole, left) + "." + p.fraction + std::string(right - p.fraction.size(), ' ');
  }
};

std::string integer(const std::byte* p, DType t) {
  if (t == DType::boolean) return read_int(p, t) ? "True" : "False";
  return t == u64 ? std::to_string(uint64_t(read_int(p, t))) : std::to_string(read_int(p, t));
}

DType part_of(DType t) { return t == complex64 ? f32 : t == complex128 ? f64 : t; }

struct Printer {
  const TensorImpl& t;
  bool summarise;
  Formatter real = {}, imaginary = {};
  size_t width = 0;  // of integers and bools

  template <class F>
  void visit(int axis, const std::byte* p, F&& f) {
    if (axis == t.spec.shape.rank()) return f(p);
    const int64_t n = t.spec.shape[axis];
    for (int64_t i = 0; i < n; ++i) {
      if (summarise && n > 2 * kEdge && i == kEdge) i = n - kEdge;
      visit(axis + 1, p + i * t.strides[axis] * int64_t(size_of(t.spec.dtype)), f);
    }
  }
  void prepare() {
    const DType d = t.spec.dtype, part = part_of(d);
    if (d == DType::boolean) width = 5;  // as wide as "False", be there one or not
    if (!is_inexact(d)) return visit(0, t.data, [&](const std::byte* p) { width = std::max(width, integer(p, d).size()); });
    std::vector<double> re, im;
    visit(0, t.data, [&](const std::byte* p) {
      re.push_back(read_double(p, part));
      if (is_complex(d)) im.push_back(read_double(p + size_of(part), part));
    });
    real.dtype = imaginary.dtype = part, imaginary.plus = true;
    real.prepare(re), imaginary.prepare(im);
  }
  std::string cell(const std::byte* p) const {
    const DType d = t.spec.dtype;
    if (!is_inexact(d)) {
      const std::string s = integer(p, d);
      return std::string(width - s.size(), ' ') + s;
    }
    if (!is_complex(d)) return real(read_double(p, d));
    const DType part = part_of(d);
    std::string i = imaginary(read_double(p + size_of(part), part));
    i.insert(i.find_last_not_of(' ') + 1, "j");
    return real(read_double(p, part)) + i;
  }
  std::string block(int axis, const std::byte* p, const std::string& indent, int room) const {
    const int left = t.spec.shape.rank() - axis;
    const int64_t n = t.spec.shape[axis], step = t.strides[axis] * int64_t(size_of(t.spec.dtype));
    const bool cut = summarise && n > 2 * kEdge;
    std::string out, line = indent;
    auto extend = [&](const std::string& word) {
      if (int(line.size() + word.size()) > room - 1 && line.size() > indent.size()) {
        line.erase(line.find_last_not_of(' ') + 1);
        out += line + "\n", line = indent;
      }
      line += word;
    };
    const std::string gap = std::string(size_t(left - 1), '\n');
    for (int64_t i = 0; i < n; ++i) {
      if (cut && i == kEdge) {
        if (left == 1)
          extend("..."), line += " ";
        else
          out += indent + "..." + gap;
        i = n - kEdge;
      }
      if (left == 1) {
        extend(cell(p + i * step));
        if (i + 1 < n) line += " ";
      } else {
        out += indent + block(axis + 1, p + i * step, indent + " ", room - 1) + (i + 1 < n ? gap : "");
      }
    }
    if (left == 1) out += line;
    return "[" + out.substr(indent.size()) + "]";
  }
};

}  // namespace

std::string to_string(const Tensor& t) {
  if (!t.defined()) return "<empty tensor>";
  const Tensor host = on_host(t);
  const TensorImpl& ti = impl(host);
  const DType d = ti.spec.dtype;
  const int64_t n = ti.spec.shape.numel();
  if (n == 0) return ti.spec.shape.rank() == 1 ? "[]" : "[] (shape " + to_string(ti.spec.shape) + ")";
  if (ti.spec.shape.rank() == 0) {
    if (!is_inexact(d)) return integer(ti.data, d);
    if (!is_complex(d)) return number(read_double(ti.data, d), d);
    const DType part = part_of(d);
    auto bare = [](std::string v) { return v.ends_with(".0") ? v.substr(0, v.size() - 2) : v; };  // as Python writes them: (1.5+2j)
    return "(" + bare(number(read_double(ti.data, part), part)) + bare(number(read_double(ti.data + size_of(part), part), part, true)) + "j)";
  }
  Printer p{ti, n > kThreshold};
  p.prepare();
  return p.block(0, ti.data, " ", kLineWidth);
}

std::ostream& operator<<(std::ostream& os, const Tensor& t) { return os << to_string(t); }

}  // namespace keel
