#include "keel/data/transforms.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/impl.h"
#include "keel/error.h"
#include "keel/ops.h"

namespace keel::data {
namespace {

struct Image {
  float* pixels;
  int64_t c, h, w;
  float* channel(int64_t i) const { return pixels + i * h * w; }
};

/// Runs `f` on every image of a private copy of the batch.
template <class F>
Batch each_image(Batch b, const Fetch& fetch, F&& f) {
  if (b.x.dtype() != f32 || b.x.rank() != 4)
    raise(Error(ErrorCode::shape, "image transforms need f32[n, c, h, w]").op("transform").arg("x", to_string(impl(b.x).spec)));
  b.x = b.x.contiguous().clone();
  const int64_t c = b.x.shape()[1], h = b.x.shape()[2], w = b.x.shape()[3];
  for (int64_t i = 0; i < fetch.count; ++i) {
    ExampleRandom r(fetch.seed, fetch.epoch, uint64_t(fetch.index[i]));
    f(Image{b.x.data<float>() + i * c * h * w, c, h, w}, r);
  }
  return b;
}

}  // namespace

Transform normalise(std::vector<double> mean, std::vector<double> stddev) {
  if (mean.size() != stddev.size() || mean.empty()) raise(Error(ErrorCode::value, "mean and stddev must have the same, positive, length").op("normalise"));
  return [=](Batch b, const Fetch& fetch) {
    return each_image(std::move(b), fetch, [&](Image m, ExampleRandom&) {
      if (mean.size() != 1 && int64_t(mean.size()) != m.c)
        raise(Error(ErrorCode::shape, std::to_string(mean.size()) + " means for " + std::to_string(m.c) + " channels").op("normalise"));
      for (int64_t c = 0; c < m.c; ++c) {
        const size_t k = mean.size() == 1 ? 0 : size_t(c);
        for (int64_t i = 0; i < m.h * m.w; ++i) m.channel(c)[i] = float((m.channel(c)[i] - mean[k]) / stddev[k]);
      }
    });
  };
}
Transform normalise(double mean, double stddev) { return normalise(std::vector{mean}, std::vector{stddev}); }

Transform random_flip(double p) {
  return [=](Batch b, const Fetch& fetch) {
    return each_image(std::move(b), fetch, [&](Image m, ExampleRandom& r) {
      if (r.uniform() >= p) return;
      for (int64_t row = 0; row < m.c * m.h; ++row) std::reverse(m.pixels + row * m.w, m.pixels + (row + 1) * m.w);
    });
  };
}

Transform random_crop(int64_t padding) {
  return [=](Batch b, const Fetch& fetch) {
    return each_image(std::move(b), fetch, [&](Image m, ExampleRandom& r) {
      const int64_t dy = r.integer(-padding, padding + 1), dx = r.integer(-padding, padding + 1);
      std::vector<float> from(m.pixels, m.pixels + m.c * m.h * m.w);
      for (int64_t c = 0; c < m.c; ++c)
        for (int64_t y = 0; y < m.h; ++y)
          for (int64_t x = 0; x < m.w; ++x) {
            const int64_t u = y + dy, v = x + dx;
            m.channel(c)[y * m.w + x] = u >= 0 && u < m.h && v >= 0 && v < m.w ? from[size_t((c * m.h + u) * m.w + v)] : 0.0f;
          }
    });
  };
}

Transform random_affine(double degrees, double shift, double scale) {
  return [=](Batch b, const Fetch& fetch) {
    return each_image(std::move(b), fetch, [&](Image m, ExampleRandom& r) {
      const double angle = r.uniform(-degrees, degrees) * 3.141592653589793 / 180, zoom = 1 + r.uniform(-scale, scale);
      const double dy = r.uniform(-shift, shift) * double(m.h), dx = r.uniform(-shift, shift) * double(m.w);
      const double cosine = std::cos(angle) / zoom, sine = std::sin(angle) / zoom, cy = double(m.h - 1) / 2, cx = double(m.w - 1) / 2;
      std::vector<float> from(m.pixels, m.pixels + m.c * m.h * m.w);
      for (int64_t y = 0; y < m.h; ++y)
        for (int64_t x = 0; x < m.w; ++x) {
          const double py = double(y) - cy - dy, px = double(x) - cx - dx, u = cosine * py + sine * px + cy, v = cosine * px - sine * py + cx;
          const auto u0 = int64_t(std::floor(u)), v0 = int64_t(std::floor(v));
          const double fu = u - double(u0), fv = v - double(v0);
          for (int64_t c = 0; c < m.c; ++c) {
            auto at = [&](int64_t a, int64_t e) { return a >= 0 && a < m.h && e >= 0 && e < m.w ? double(from[size_t((c * m.h + a) * m.w + e)]) : 0.0; };
            m.channel(c)[y * m.w + x] = float((1 - fu) * ((1 - fv) * at(u0, v0) + fv * at(u0, v0 + 1)) + fu * ((1 - fv) * at(u0 + 1, v0) + fv * at(u0 + 1, v0 + 1)));
          }
        }
    });
  };
}

Transform jitter(double brightness, double contrast) {
  return [=](Batch b, const Fetch& fetch) {
    return each_image(std::move(b), fetch, [&](Image m, ExampleRandom& r) {
      const double factor = 1 + r.uniform(-contrast, contrast), lift = r.uniform(-brightness, brightness);
      const int64_t n = m.c * m.h * m.w;
      double mean = 0;
      for (int64_t i = 0; i < n; ++i) mean += m.pixels[i];
      mean /= double(n);
      for (int64_t i = 0; i < n; ++i) m.pixels[i] = float((m.pixels[i] - mean) * factor + mean + lift);
    });
  };
}

Transform noise(double stddev) {
  return [=](Batch b, const Fetch& fetch) {
    return each_image(std::move(b), fetch, [&](Image m, ExampleRandom& r) {
      for (int64_t i = 0; i < m.c * m.h * m.w; ++i) m.pixels[i] += float(stddev * r.normal());
    });
  };
}

Transform compose(std::vector<Transform> all) {
  return [all = std::move(all)](Batch b, const Fetch& fetch) {
    for (const Transform& t : all) b = t(std::move(b), fetch);
    return b;
  };
}

}  // namespace keel::data
