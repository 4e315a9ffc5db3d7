#include "keel/precision.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>

#include "backend/exponent_table.h"
#include "base/json.h"
#include "core/impl.h"
#include "keel/error.h"
#include "keel/ops/exponent_counts.h"
#include "op/scope.h"

namespace keel {
namespace {

constexpr DType kOrder[] = {f8e4m3fn, f8e5m2, bf16, f16, f32};

std::string number(double v, int digits = 3) {
  char text[32];
  std::snprintf(text, sizeof text, "%.*g", digits, v);
  return text;
}
std::string percent(double share) { return number(100 * share) + " %"; }

const FormatBorders& borders(DType t) {
  if (const FormatBorders* f = borders_of(t)) return *f;
  raise(Error(ErrorCode::value, std::string("foretells casts to f8e4m3fn, f8e5m2, f16, bf16 and f32, not to ") + name_of(t))
            .op("PrecisionReport"));
}

/// The exponent of the smallest normal value, and of the largest value.
std::pair<int, int> range_of(DType t) {
  switch (t) {
    case f64: return {-1022, 1023};
    case f16: return {-14, 15};
    case f8e4m3fn: return {-6, 8};
    case f8e5m2: return {-14, 15};
    default: return {-126, 127};
  }
}

double share(int64_t n, int64_t of) { return of ? double(n) / double(of) : 0; }

CastForecast forecast(DType to, bool blocks, int scale, int64_t over, int64_t flushed, int64_t subnormal, int64_t of) {
  return {to, blocks, scale, share(over, of), share(flushed, of), share(subnormal, of), over, flushed, subnormal};
}

}  // namespace

int PrecisionReport::least_exponent() const { return keel::least_exponent(dtype); }

std::vector<int64_t> PrecisionReport::histogram() const {
  const int64_t rows = int64_t(counts.size()) / kExponentColumns;
  std::vector<int64_t> out;
  for (int64_t r = 1; r + 1 < rows; ++r) {
    int64_t n = 0;
    for (int64_t c = 0; c < kExponentColumns; ++c) n += counts[size_t(r * kExponentColumns + c)];
    out.push_back(n);
  }
  return out;
}

CastForecast PrecisionReport::target(DType to, int scale_exponent) const {
  const FormatBorders& f = borders(to);
  const int64_t rows = int64_t(counts.size()) / kExponentColumns;
  int64_t over = 0, flushed = 0, subnormal = 0;
  for (int64_t r = 1; r + 1 < rows; ++r) {
    const int64_t* row = counts.data() + r * kExponentColumns;
    const int e = int(r) - 1 + least_exponent() + scale_exponent;
    if (e > f.subnormal && e < f.top) continue;
    for (int c = 0; c < kExponentColumns; ++c) {
      if (e > f.top || (e == f.top && c >= f.over))
        over += row[c];
      else if (e < f.flush || (e == f.flush && c == 0))
        flushed += row[c];
      else if (e < f.subnormal || (e == f.subnormal && c < f.normal))
        subnormal += row[c];
    }
  }
  return forecast(to, false, scale_exponent, over, flushed, subnormal, nonzero);
}

int PrecisionReport::scale_exponent(DType to) const {
  const FormatBorders& f = borders(to);
  if (amax == 0) return 0;
  int e = 0;
  const double fraction = 2 * std::frexp(amax, &e);
  return f.top - (e - 1) - (fraction > std::ldexp(f.largest, -f.top) ? 1 : 0);
}

CastForecast PrecisionReport::mx(DType to) const {
  if (to != f8e4m3fn && to != f8e5m2)
    raise(Error(ErrorCode::value, std::string("MX blocks hold f8e4m3fn or f8e5m2, not ") + name_of(to)).op("PrecisionReport"));
  const int64_t* n = block_counts[to == f8e5m2];
  return forecast(to, true, 0, n[0], n[1], n[2], nonzero);
}

DType PrecisionReport::recommended(bool with_scale) const {
  if (nans + infinities > 0) return DType::none;
  for (DType t : kOrder)
    if ((with_scale ? scaled(t) : target(t)).fits()) return t;
  return DType::none;
}

namespace {

/// Everything that follows from the counts.
void summarise(PrecisionReport& r) {
  const int64_t rows = int64_t(r.counts.size()) / kExponentColumns;
  const std::vector<int64_t> h = r.histogram();
  const auto [normal, top] = range_of(r.dtype);
  const int least = r.least_exponent();
  r.zeros = r.counts[0];
  r.infinities = r.counts[size_t((rows - 1) * kExponentColumns)], r.nans = r.counts[size_t((rows - 1) * kExponentColumns) + 1];
  int64_t subnormal = 0, near = 0;
  r.nonzero = 0;
  for (size_t i = 0; i < h.size(); ++i) {
    const int e = least + int(i);
    r.nonzero += h[i], subnormal += e < normal ? h[i] : 0, near += e > top - 4 ? h[i] : 0;
  }
  r.elements = r.nonzero + r.zeros + r.infinities + r.nans;
  r.zero = share(r.zeros, r.elements), r.nonfinite = share(r.nans + r.infinities, r.elements);
  r.subnormal = share(subnormal, r.nonzero), r.near_max = share(near, r.nonzero);
  const auto quantile = [&](double q) {
    const auto want = std::max<int64_t>(1, int64_t(std::ceil(q * double(r.nonzero))));
    int64_t seen = 0;
    for (size_t i = 0; i < h.size(); ++i)
      if ((seen += h[i]) >= want) return least + int(i);
    return 0;
  };
  r.exponent_low = quantile(0.001), r.exponent_median = quantile(0.5), r.exponent_high = quantile(0.999);
}

/// The magnitude at a place of the table.
double value_at(uint64_t place, DType t) {
  if (place == 0) return 0;
  const int bits = t == f64 ? 52 : 23;
  const double fraction = double(place & ((uint64_t(1) << bits) - 1));
  const int e = int(place >> bits) - 1 + least_exponent(t);
  // In two steps, as 2^e may be subnormal while the value is exact.
  return std::ldexp(std::ldexp(1.0, bits) + fraction, e - bits);
}

}  // namespace

PrecisionReport analyze_precision(const Tensor& x, const PrecisionOptions& o) {
  ScopeGuard guard;
  Scope& s = scope();
  s.grad = false, s.trace = nullptr, s.monitor = nullptr;
  const ExponentCounts found = exponent_counts(x, {.round_up = o.round_up});
  const Tensor counts = found.counts.to(cpu_device), extras = found.blocks.to(cpu_device);
  PrecisionReport r;
  r.dtype = x.dtype();
  const int64_t* p = counts.data<int64_t>();
  r.counts.assign(p, p + counts.size());
  const int64_t* e = extras.data<int64_t>();
  r.amax = value_at(uint64_t(e[0]), r.dtype), r.min_nonzero = value_at(uint64_t(e[1]), r.dtype);
  for (int i = 0; i < 6; ++i) r.block_counts[i / 3][i % 3] = e[2 + i];
  summarise(r);
  return r;
}

void PrecisionReport::add(const PrecisionReport& other) {
  if (other.counts.empty()) return;
  if (counts.empty()) {
    *this = other;
    return;
  }
  const auto widened = [](const PrecisionReport& r) {
    std::vector<int64_t> wide(size_t(exponent_rows(f64) * kExponentColumns));
    const int64_t rows = exponent_rows(r.dtype),
                  shift = exponent_rows(f64) == rows ? 0 : keel::least_exponent(r.dtype) - keel::least_exponent(f64);
    for (int64_t i = 0; i < rows * kExponentColumns; ++i) {
      const int64_t row = i / kExponentColumns, to = row == 0 ? 0 : row == rows - 1 ? exponent_rows(f64) - 1 : row + shift;
      wide[size_t(to * kExponentColumns + i % kExponentColumns)] = r.counts[size_t(i)];
    }
    return wide;
  };
  std::vector<int64_t> more = other.counts;
  if (counts.size() != more.size()) counts = widened(*this), more = widened(other);
  for (size_t i = 0; i < counts.size(); ++i) counts[i] += more[i];
  for (int i = 0; i < 6; ++i) block_counts[i / 3][i % 3] += other.block_counts[i / 3][i % 3];
  const DType both = promote(dtype, other.dtype);
  dtype = both == DType::none ? f32 : both;
  amax = std::max(amax, other.amax);
  if (other.min_nonzero > 0) min_nonzero = min_nonzero > 0 ? std::min(min_nonzero, other.min_nonzero) : other.min_nonzero;
  summarise(*this);
}

std::string PrecisionReport::text() const {
  if (counts.empty()) return "no values\n";
  std::string s = std::to_string(elements) + " values in " + name_of(dtype) + ": " + percent(zero) + " zero, " + percent(nonfinite) +
                  " not finite; of the rest " + percent(subnormal) + " subnormal, " + percent(near_max) +
                  " within 4 bits of the largest value\n";
  if (nonzero == 0) return s;
  s += "magnitudes " + number(min_nonzero, 6) + " to " + number(amax, 6) + "; exponents 2^" + std::to_string(exponent_low) +
       " (0.1 %), 2^" + std::to_string(exponent_median) + " (half), 2^" + std::to_string(exponent_high) + " (99.9 %)\n";
  char line[192];
  std::snprintf(line, sizeof line, "%-20s %10s %10s %10s\n", "cast", "overflow", "to zero", "subnormal");
  s += line;
  const auto row = [&](const std::string& name, const CastForecast& f) {
    std::snprintf(line, sizeof line, "%-20s %10s %10s %10s%s\n", name.c_str(), percent(f.overflow).c_str(), percent(f.flushed).c_str(),
                  percent(f.subnormal).c_str(), f.fits() ? "  fits" : "");
    s += line;
  };
  for (DType t : kOrder) {
    if (t == f32 && dtype != f64) continue;
    row(name_of(t), target(t));
    if (const CastForecast f = scaled(t); f.scale_exponent != 0 && size_of(t) < 4 && t != bf16)
      row(std::string(name_of(t)) + " x 2^" + std::to_string(f.scale_exponent), f);
    if (size_of(t) == 1) row(std::string(name_of(t)) + " MX blocks", mx(t));
  }
  if (subnormal > 0.01 && (dtype == f32 || dtype == f64)) {
    const double slower = subnormal_slowdown();
    s += slower > 1.5 ? "subnormal values are " + number(slower, 2) + " times slower on this machine: clamp_to_zero or a scale pays\n"
                      : "subnormal values cost no time on this machine (measured: " + number(slower, 2) + " times)\n";
  }
  return s;
}

namespace {
void write(base::JsonWriter& w, const CastForecast& f) {
  w.begin_object().key("dtype").value(name_of(f.dtype)).key("blocks").value(f.blocks).key("scale_exponent").value(f.scale_exponent);
  w.key("overflow")
      .value(f.overflow)
      .key("flushed")
      .value(f.flushed)
      .key("subnormal")
      .value(f.subnormal)
      .key("fits")
      .value(f.fits())
      .end_object();
}
}  // namespace

std::string PrecisionReport::json() const {
  std::string s;
  base::JsonWriter w(s);
  w.begin_object()
      .key("dtype")
      .value(name_of(dtype))
      .key("elements")
      .value(elements)
      .key("zeros")
      .value(zeros)
      .key("nans")
      .value(nans)
      .key("infinities")
      .value(infinities);
  w.key("nonzero")
      .value(nonzero)
      .key("zero")
      .value(zero)
      .key("nonfinite")
      .value(nonfinite)
      .key("subnormal")
      .value(subnormal)
      .key("near_max")
      .value(near_max);
  w.key("amax").value(amax).key("min_nonzero").value(min_nonzero);
  w.key("exponents").begin_array().value(exponent_low).value(exponent_median).value(exponent_high).end_array();
  w.key("targets").begin_array();
  if (!counts.empty())
    for (DType t : kOrder) {
      write(w, target(t));
      if (scale_exponent(t) != 0) write(w, scaled(t));
      if (size_of(t) == 1) write(w, mx(t));
    }
  w.end_array();
  const std::vector<int64_t> h = histogram();
  size_t first = 0, last = h.size();
  while (first < last && h[first] == 0) ++first;
  while (last > first && h[last - 1] == 0) --last;
  w.key("first_exponent").value(first < last ? least_exponent() + int(first) : 0).key("histogram").begin_array();
  for (size_t i = first; i < last; ++i) w.value(h[i]);
  w.end_array().end_object();
  return s;
}

namespace {

DTypeSafety safety(const PrecisionReport& r, const CastForecast& f) {
  DTypeSafety s;
  s.forecast = f, s.invalid = r.nans + r.infinities;
  s.safe = s.invalid == 0 && f.fits();
  const std::string name = name_of(f.dtype);
  const double largest = borders(f.dtype).largest;
  if (s.invalid)
    s.message = std::to_string(s.invalid) + " of " + std::to_string(r.elements) + " values are NaN or infinite",
    s.recommendation = "remove them before the cast";
  else if (f.overflow_count)
    s.message = percent(f.overflow) + " overflow " + name + " (largest: " + number(largest, 6) + ")",
    s.recommendation = "scale by 2^" + std::to_string(r.scale_exponent(f.dtype)) + ", or take a wider range";
  else if (f.flushed_count)
    s.message = percent(f.flushed) + " become zero in " + name,
    s.recommendation =
        r.scale_exponent(f.dtype) > 0 ? "scale by up to 2^" + std::to_string(r.scale_exponent(f.dtype)) : "take a wider range";
  else if (f.subnormal_count)
    s.message = percent(f.subnormal) + " become subnormal in " + name,
    s.recommendation = "scale by up to 2^" + std::to_string(r.scale_exponent(f.dtype)) + " to keep all digits";
  else
    s.message = "all values are safe in " + name;
  return s;
}

}  // namespace

DTypeSafety safe_for_dtype(const Tensor& x, DType to) {
  borders(to);
  const PrecisionReport r = analyze_precision(x);
  return safety(r, r.target(to));
}

TensorDTypeComparison compare_dtypes(const Tensor& x) {
  const PrecisionReport r = analyze_precision(x);
  TensorDTypeComparison c;
  for (DType t : kOrder) c.results.push_back(safety(r, r.target(t)));
  c.best = r.recommended(), c.best_scaled = r.recommended(true);
  if (c.best_scaled != DType::none) c.scale_exponent = r.scale_exponent(c.best_scaled);
  c.recommendation = c.best == DType::none ? std::string("none fits: ") +
                                                 (r.nans + r.infinities ? "remove NaN and infinities first" : "rescale the values first")
                                           : std::string("use ") + name_of(c.best);
  if (c.best_scaled != c.best && c.best_scaled != DType::none)
    c.recommendation += std::string(", or ") + name_of(c.best_scaled) + " after a multiplication by 2^" + std::to_string(c.scale_exponent);
  return c;
}

double subnormal_slowdown() {
  static const double ratio = [] {
    constexpr int kCount = 1024;
    static float x[kCount], y[kCount];
    const auto time = [&](float value) {
      for (int i = 0; i < kCount; ++i) x[i] = value * float(1 + i % 3), y[i] = value;
      int64_t best = INT64_MAX;
      for (int k = 0; k < 40; ++k) {
        const auto begin = std::chrono::steady_clock::now();
        for (int i = 0; i < kCount; ++i) y[i] = x[i] * 0.75f + y[i] * 0.25f;
        asm volatile("" : : "r"(static_cast<float*>(y)) : "memory");
        best =
            std::min<int64_t>(best, std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now() - begin).count());
      }
      return double(std::max<int64_t>(best, 1));
    };
    return time(0x1p-130f) / time(1.0f);
  }();
  return ratio;
}

}  // namespace keel
