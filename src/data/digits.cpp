// Digits drawn by strokes: each is a list of points in a unit box, joined by lines, under a random affine map and jitter of every point, painted with a soft round pen, blurred by noise.
#include <algorithm>
#include <cmath>
#include <vector>

#include "core/impl.h"
#include "keel/data/dataset.h"
#include "keel/ops/creation.h"

namespace keel::data {
namespace {

struct Point {
  double x, y;
};
using Stroke = std::vector<Point>;

/// Points of an arc of an ellipse, angles in degrees, clockwise from the right (y grows downwards).
Stroke arc(double cx, double cy, double rx, double ry, double from, double to) {
  Stroke s;
  const int n = std::max(6, int(std::fabs(to - from) / 15));
  for (int i = 0; i <= n; ++i) {
    const double a = (from + (to - from) * i / n) * 3.141592653589793 / 180;
    s.push_back({cx + rx * std::cos(a), cy + ry * std::sin(a)});
  }
  return s;
}

std::vector<Stroke> glyph(int digit, ExampleRandom& r) {
  switch (digit) {
    case 0: return {arc(0.5, 0.5, r.uniform(0.22, 0.34), 0.42, 0, 360)};
    case 1:
      if (r.uniform() < 0.5) return {{{0.5, 0.08}, {0.5, 0.92}}};
      return {{{0.32, 0.26}, {0.52, 0.08}, {0.52, 0.92}}};
    case 2: {
      Stroke s = arc(0.5, 0.3, 0.28, 0.22, 190, 380);
      s.push_back({0.25, 0.9});
      s.push_back({0.8, 0.9});
      return {s};
    }
    case 3: {
      Stroke s = arc(0.46, 0.29, 0.27, 0.2, 200, 450), t = arc(0.46, 0.7, 0.31, 0.22, -90, 160);
      s.insert(s.end(), t.begin(), t.end());
      return {s};
    }
    case 4:
      if (r.uniform() < 0.5) return {{{0.62, 0.92}, {0.62, 0.08}, {0.18, 0.66}, {0.86, 0.66}}};
      return {{{0.26, 0.1}, {0.22, 0.54}, {0.78, 0.54}}, {{0.68, 0.1}, {0.66, 0.92}}};
    case 5: {
      Stroke s{{0.76, 0.1}, {0.3, 0.1}, {0.27, 0.45}};
      const Stroke bow = arc(0.48, 0.66, 0.29, 0.24, -110, 150);
      s.insert(s.end(), bow.begin(), bow.end());
      return {s};
    }
    case 6: {
      Stroke s{{0.64, 0.08}, {0.4, 0.3}, {0.25, 0.62}};
      const Stroke bow = arc(0.5, 0.68, 0.25, 0.22, 190, 550);
      s.insert(s.end(), bow.begin(), bow.end());
      return {s};
    }
    case 7:
      if (r.uniform() < 0.3) return {{{0.2, 0.1}, {0.8, 0.1}, {0.42, 0.92}}, {{0.36, 0.5}, {0.72, 0.5}}};
      return {{{0.2, 0.1}, {0.8, 0.1}, {0.42, 0.92}}};
    case 8: return {arc(0.5, 0.29, 0.23, 0.2, 90, 450), arc(0.5, 0.7, 0.28, 0.22, -90, 270)};
    default: {
      Stroke tail{{0.74, 0.32}, {0.7, 0.62}, {r.uniform(0.5, 0.68), 0.92}};
      return {arc(0.5, 0.32, 0.25, 0.22, 0, 360), tail};
    }
  }
}

double distance(Point p, Point a, Point b) {
  const double dx = b.x - a.x, dy = b.y - a.y, l = dx * dx + dy * dy;
  const double t = l > 0 ? std::clamp(((p.x - a.x) * dx + (p.y - a.y) * dy) / l, 0.0, 1.0) : 0;
  return std::hypot(p.x - a.x - t * dx, p.y - a.y - t * dy);
}

void draw(int digit, ExampleRandom& r, float* out) {
  constexpr int kSize = 28;
  const double angle = r.uniform(-0.24, 0.24), shear = r.uniform(-0.28, 0.28), sx = r.uniform(14, 20), sy = r.uniform(17, 21.5);
  const double cx = 13.5 + r.uniform(-1.6, 1.6), cy = 13.5 + r.uniform(-1.6, 1.6), pen = r.uniform(0.75, 1.7), grain = r.uniform(0, 0.06);
  std::vector<Stroke> strokes = glyph(digit, r);
  for (Stroke& s : strokes)
    for (Point& p : s) {
      const double u = (p.x - 0.5 + 0.018 * r.normal()) * sx, v = (p.y - 0.5 + 0.018 * r.normal()) * sy, w = u - shear * v;
      p = {cx + std::cos(angle) * w - std::sin(angle) * v, cy + std::sin(angle) * w + std::cos(angle) * v};
    }
  for (int y = 0; y < kSize; ++y)
    for (int x = 0; x < kSize; ++x) {
      double d = 1e9;
      for (const Stroke& s : strokes)
        for (size_t i = 0; i + 1 < s.size(); ++i) d = std::min(d, distance({double(x), double(y)}, s[i], s[i + 1]));
      const double ink = std::clamp(pen + 0.5 - d, 0.0, 1.0);
      out[y * kSize + x] = float(std::clamp(ink + (ink > 0 ? grain * r.normal() : 0), 0.0, 1.0));
    }
}

}  // namespace

Dataset digits(const DigitsOptions& o) {
  return Dataset(o.size, [seed = o.seed](const Fetch& f) {
    Batch b{empty(Shape({f.count, 1, 28, 28}), {.dtype = f32}), empty(Shape({f.count}), {.dtype = i64})};
    for (int64_t i = 0; i < f.count; ++i) {
      ExampleRandom r(seed, 0x4449474954u, uint64_t(f.index[i]));
      const auto digit = int(r.integer(0, 10));
      b.y.data<int64_t>()[i] = digit;
      draw(digit, r, b.x.data<float>() + i * 784);
    }
    return b;
  });
}

}  // namespace keel::data
