#include "layers/monitor/series.h"

#include <algorithm>

namespace keel {

Trend Series::trend(int n, float Reading::*field) const {
  Trend t;
  if (size() < n || n < 2) return t;
  double x0 = 0, y0 = 0;
  for (int k = 0; k < n; ++k) {
    const double y = double(back(k).*field);
    if (!std::isfinite(y)) return t;
    x0 += double(back(k).step), y0 += y;
  }
  x0 /= n, y0 /= n;
  double xx = 0, xy = 0, yy = 0;
  t.least_step = INFINITY;
  for (int k = 0; k < n; ++k) {
    const double x = double(back(k).step) - x0, y = double(back(k).*field) - y0;
    xx += x * x, xy += x * y, yy += y * y;
    if (k + 1 < n) t.least_step = std::min(t.least_step, double(back(k).*field) - double(back(k + 1).*field));
  }
  if (xx == 0) return t;
  t.n = n, t.slope = xy / xx, t.r2 = yy > 0 ? xy * xy / (xx * yy) : 0;
  t.last = double(back(0).*field), t.change = t.last - double(back(n - 1).*field);
  return t;
}

void Series::range(int n, float& least, float& most) const {
  least = INFINITY, most = -INFINITY;
  for (int k = 1; k <= n && k < size(); ++k) least = std::min(least, back(k).high), most = std::max(most, back(k).high);
}

void Numbers::centre(double& median, double& spread, int most, int without) const {
  float v[kLength];
  const int n = std::min(size() - without, most);
  median = spread = 0;
  if (n < 1) return;
  for (int k = 0; k < n; ++k) v[k] = back(k + without);
  std::nth_element(v, v + n / 2, v + n);
  median = double(v[n / 2]);
  for (int k = 0; k < n; ++k) v[k] = float(std::abs(double(v[k]) - median));
  std::nth_element(v, v + n / 2, v + n);
  spread = 1.4826 * double(v[n / 2]);
}

Format format_of(DType t) {
  switch (t) {
    case DType::f64:
    case DType::complex128: return {1024, -1022, -1074, 53, false};
    case DType::bf16: return {128, -126, -133, 8, false};
    case DType::f16: return {16, -14, -24, 11, true};
    case DType::f8e5m2: return {15.807, -14, -16, 3, true};
    case DType::f8e4m3fn: return {8.807, -6, -9, 4, true};
    default: return {128, -126, -149, 24, false};
  }
}

}  // namespace keel
