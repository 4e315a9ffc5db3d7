// Random kernels. Work is cut into chunks of 2048 elements at fixed places; for each the words are made in a buffer on the stack (L1), then
// turned into values, so that the result depends on the position only. Memory traffic is the result written once (dropout: input read
// once).
#include "backend/cpu/loops/random.h"

#include <atomic>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "backend/cpu/loops/loops.h"
#include "backend/cpu/sort_keys.h"
#include "backend/kernel.h"
#include "base/philox.h"
#include "core/impl.h"
#include "keel/numerics/types.h"
#include "keel/ops/random.h"

namespace keel::cpu {
namespace {

constexpr int64_t kChunk = 2048;

struct Stream {
  uint64_t seed, begin;
  Stream(const TensorView& key, int64_t offset)
      : seed(key.ptr<uint64_t>()[0]), begin(key.ptr<uint64_t>()[key.stride(0)] + uint64_t(offset)) {}
  /// Words [first, first + n), first a multiple of 4; room for n rounded up to whole blocks.
  void words(int64_t first, int64_t n, uint32_t* to) const { philox_words(seed, begin + uint64_t(first / 4), to, (n + 3) / 4); }
  uint32_t word(int64_t i) const { return base::philox(begin + uint64_t(i / 4), 0, seed)[size_t(i % 4)]; }
};

/// Calls f(first, n) for chunks of a result of `size` elements, in parallel.
template <class F>
void chunks(int64_t size, F&& f) {
  parallel_for(0, (size + kChunk - 1) / kChunk, 4, [&](int64_t lo, int64_t hi) {
    for (int64_t c = lo; c < hi; ++c) f(c * kChunk, size - c * kChunk < kChunk ? size - c * kChunk : kChunk);
  });
}

double unit53(uint64_t w) { return double(w >> 11) * 0x1p-53; }
float unit24(uint32_t w) { return float(int32_t(w >> 8)) * 0x1p-24f; }

/// The largest value of dtype t below `high`.
double below(double high, DType t) {
  if (t == f32) return double(float(high)) < high ? float(high) : std::nextafter(float(high), -INFINITY);
  uint16_t bits;
  write_scalar(&bits, t, Scalar(high));
  if (read_double(&bits, t) >= high) bits = (bits & 0x7fff) == 0 ? 0x8001 : bits & 0x8000 ? uint16_t(bits + 1) : uint16_t(bits - 1);
  return read_double(&bits, t);
}

/// Rounds floats towards minus infinity to bf16 or f16; NaN and infinity do not occur.
void round_down(const float* x, void* y, int64_t n, DType t) {
  if (t == bf16) {
    auto* to = static_cast<uint16_t*>(y);
    for (int64_t i = 0; i < n; ++i) {
      const uint32_t b = std::bit_cast<uint32_t>(x[i]);
      to[i] = uint16_t((b + (b >> 31) * 0xffffu) >> 16);
    }
    return;
  }
  float cut[kChunk];
  for (int64_t i = 0; i < n; ++i) {
    const uint32_t b = std::bit_cast<uint32_t>(x[i]);
    cut[i] = std::bit_cast<float>((b + (b >> 31) * 0x1fffu) & ~0x1fffu);
  }
  convert_loop(f32, f16)(cut, y, n, nullptr);
}

void write_narrow(const float* x, const TensorView& y, int64_t first, int64_t n) {
  convert_loop(f32, y.dtype)(x, static_cast<std::byte*>(y.data) + first * 2, n, nullptr);
}

}  // namespace
}  // namespace keel::cpu

using namespace keel;
using namespace keel::cpu;

KEEL_CPU_KERNEL(uniform) {
  k.run([](const KernelArgs& a) -> KernelStatus {
    const auto& p = a.get<UniformParams>();
    const TensorView& y = a.out[0];
    const Stream s(a.in[0], p.offset);
    if (y.dtype == f64) {
      const double low = p.low, by = p.high - p.low, top = std::nextafter(p.high, -INFINITY);
      chunks(y.size(), [&](int64_t first, int64_t n) {
        uint64_t w[kChunk + 2];
        s.words(2 * first, 2 * n, reinterpret_cast<uint32_t*>(w));
        double* to = y.ptr<double>() + first;
        for (int64_t i = 0; i < n; ++i) {
          const double v = low + unit53(w[i]) * by;
          to[i] = v < top ? v : top;
        }
      });
      return {};
    }
    const float low = float(p.low), by = float(p.high - p.low), top = float(below(p.high, y.dtype));
    chunks(y.size(), [&](int64_t first, int64_t n) {
      uint32_t w[kChunk + 4];
      float v[kChunk];
      s.words(first, n, w);
      float* to = y.dtype == f32 ? y.ptr<float>() + first : v;
      for (int64_t i = 0; i < n; ++i) {
        const float u = low + unit24(w[i]) * by;
        to[i] = u < top ? u : top;
      }
      if (y.dtype != f32) round_down(v, y.ptr<uint16_t>() + first, n, y.dtype);
    });
    return {};
  });
}

KEEL_CPU_KERNEL(normal) {
  k.run([](const KernelArgs& a) -> KernelStatus {
    const auto& p = a.get<NormalParams>();
    const TensorView& y = a.out[0];
    const Stream s(a.in[0], p.offset);
    const bool standard = p.mean == 0 && p.stddev == 1;
    if (y.dtype == f64) {
      chunks(y.size(), [&](int64_t first, int64_t n) {
        uint64_t w[kChunk + 2];
        double z[kChunk];
        s.words(2 * first, 2 * n + 2, reinterpret_cast<uint32_t*>(w));
        double* to = y.ptr<double>() + first;
        box_muller(w, z, (n + 1) / 2 * 2);
        for (int64_t i = 0; i < n; ++i) to[i] = p.mean + p.stddev * z[i];
      });
      return {};
    }
    const float mean = float(p.mean), by = float(p.stddev);
    chunks(y.size(), [&](int64_t first, int64_t n) {
      uint32_t w[kChunk + 4];
      float z[kChunk];
      s.words(first, n + (n & 1), w);
      float* to = y.dtype == f32 && n % 2 == 0 ? y.ptr<float>() + first : z;
      box_muller(w, to, n + (n & 1));
      if (!standard)
        for (int64_t i = 0; i < n; ++i) to[i] = mean + by * to[i];
      if (y.dtype != f32)
        write_narrow(to, y, first, n);
      else if (to == z)
        std::memcpy(y.ptr<float>() + first, z, size_t(n) * sizeof(float));
    });
    return {};
  });
}

KEEL_CPU_KERNEL(randint) {
  k.run([](const KernelArgs& a) -> KernelStatus {
    const auto& p = a.get<RandintParams>();
    const TensorView& y = a.out[0];
    const Stream s(a.in[0], p.offset);
    const uint64_t range = uint64_t(p.high) - uint64_t(p.low), low = uint64_t(p.low);
    chunks(y.size(), [&](int64_t first, int64_t n) {
      uint64_t w[kChunk + 2];
      s.words(2 * first, 2 * n, reinterpret_cast<uint32_t*>(w));
      for (int64_t i = 0; i < n; ++i) w[i] = low + uint64_t((static_cast<unsigned __int128>(w[i]) * range) >> 64);
      auto write = [&](auto tag) {
        auto* to = y.ptr<decltype(tag)>() + first;
        for (int64_t i = 0; i < n; ++i) to[i] = decltype(tag)(w[i]);
      };
      switch (size_of(y.dtype)) {
        case 1: write(uint8_t{}); break;
        case 2: write(uint16_t{}); break;
        case 4: write(uint32_t{}); break;
        default: write(uint64_t{});
      }
    });
    return {};
  });
}

KEEL_CPU_KERNEL(permutation) {
  k.workspace([](const KernelArgs& a) {
     return size_t(2 * a.get<PermutationParams>().n) * sizeof(uint64_t);
   }).run([](const KernelArgs& a) -> KernelStatus {
    const auto& p = a.get<PermutationParams>();
    const TensorView& y = a.out[0];
    const Stream s(a.in[0], p.offset);
    const int64_t n = p.n, second = (n + 3) / 4 * 4;
    auto* item = static_cast<uint64_t*>(a.workspace);
    chunks(n, [&](int64_t first, int64_t m) {
      uint32_t w[kChunk + 4];
      s.words(first, m, w);
      for (int64_t i = 0; i < m; ++i) item[first + i] = (uint64_t(w[i]) << 32) | uint64_t(first + i);
    });
    sort_items_parallel(item, item + n, n, 32);
    // Equal words are rare: order each group of them by its second words.
    for (int64_t i = 1; i < n; ++i) {
      for (int64_t j = i; j > 0 && item[j] >> 32 == item[j - 1] >> 32; --j) {
        const int64_t x = int64_t(position(item[j - 1])), z = int64_t(position(item[j]));
        const uint32_t wx = s.word(second + x), wz = s.word(second + z);
        if (wx < wz || (wx == wz && x < z)) break;
        std::swap(item[j], item[j - 1]);
      }
    }
    parallel_for(0, n, 1 << 15, [&](int64_t lo, int64_t hi) {
      if (y.dtype == i32)
        for (int64_t i = lo; i < hi; ++i) y.ptr<int32_t>()[i] = int32_t(position(item[i]));
      else
        for (int64_t i = lo; i < hi; ++i) y.ptr<int64_t>()[i] = int64_t(position(item[i]));
    });
    return {};
  });
}

KEEL_CPU_KERNEL(bernoulli) {
  k.dtypes(kinds::floating).input(0, Layout::contiguous).run([](const KernelArgs& a) -> KernelStatus {
    const TensorView &x = a.in[0], &y = a.out[0];
    const Stream s(a.in[1], a.get<BernoulliParams>().offset);
    std::atomic<int64_t> bad{INT64_MAX};
    auto check = [&](auto* p, int64_t first, int64_t n) {
      bool wrong = false;
      for (int64_t i = 0; i < n; ++i) wrong |= !(p[i] >= 0 && p[i] <= 1);
      if (!wrong) return;
      int64_t i = 0;
      while (p[i] >= 0 && p[i] <= 1) ++i;
      for (int64_t old = bad.load(); first + i < old && !bad.compare_exchange_weak(old, first + i);) {}
    };
    chunks(y.size(), [&](int64_t first, int64_t n) {
      if (x.dtype == f64) {
        uint64_t w[kChunk + 2];
        s.words(2 * first, 2 * n, reinterpret_cast<uint32_t*>(w));
        const double* p = x.ptr<double>() + first;
        check(p, first, n);
        for (int64_t i = 0; i < n; ++i) y.ptr<double>()[first + i] = unit53(w[i]) < p[i] ? 1 : 0;
        return;
      }
      uint32_t w[kChunk + 4];
      float wide[kChunk], drawn[kChunk];
      s.words(first, n, w);
      const float* p = x.ptr<float>() + first;
      if (x.dtype != f32) convert_loop(x.dtype, f32)(x.ptr<uint16_t>() + first, wide, n, nullptr), p = wide;
      check(p, first, n);
      float* to = y.dtype == f32 ? y.ptr<float>() + first : drawn;
      for (int64_t i = 0; i < n; ++i) to[i] = unit24(w[i]) < p[i] ? 1.0f : 0.0f;
      if (y.dtype != f32) write_narrow(drawn, y, first, n);
    });
    return bad.load() == INT64_MAX ? KernelStatus{} : KernelStatus::element("p must be between 0 and 1", bad.load());
  });
}

KEEL_CPU_KERNEL(multinomial) {
  // A row of weights in f64 and, without replacement, an item a weight.
  k.dtypes(kinds::floating)
      .input(0, Layout::contiguous)
      .workspace([](const KernelArgs& a) {
        const int64_t n = a.in[0].dim(a.in[0].rank() - 1);
        return size_t(n) * (8 + (a.get<MultinomialParams>().replacement ? 0 : 8 + sizeof(WideItem))) + 64;
      })
      .run([](const KernelArgs& a) -> KernelStatus {
        const auto& p = a.get<MultinomialParams>();
        const TensorView &x = a.in[0], &y = a.out[0];
        const Stream s(a.in[1], p.offset);
        const int64_t n = x.dim(x.rank() - 1), rows = x.rank() == 2 ? x.dim(0) : 1, count = p.count;
        auto* w = static_cast<double*>(a.workspace);
        int64_t* out = y.ptr<int64_t>();
        for (int64_t r = 0; r < rows && count > 0; ++r) {
          convert_loop(x.dtype, f64)(static_cast<const std::byte*>(x.data) + r * n * int64_t(size_of(x.dtype)), w, n, nullptr);
          int64_t positive = 0;
          for (int64_t i = 0; i < n; ++i) {
            if (!(w[i] >= 0 && w[i] <= std::numeric_limits<double>::max()))
              return KernelStatus::element("weights must be finite and at least 0", r * n + i);
            positive += w[i] > 0;
          }
          if (positive < (p.replacement ? 1 : count)) {
            KernelStatus few;
            few.code = KernelStatus::bad_value, few.got = positive;
            few.what =
                p.replacement ? "every row needs a positive weight" : "every row needs as many positive weights as indices are drawn";
            return few;
          }
          if (p.replacement) {
            double total = 0;
            int64_t last = 0;
            for (int64_t i = 0; i < n; ++i) last = w[i] > 0 ? i : last, w[i] = total += w[i];
            for (int64_t i = 0; i < count; ++i) {
              const int64_t at = 2 * (r * count + i);
              const double u = unit53(s.word(at) | uint64_t(s.word(at + 1)) << 32) * total;
              const int64_t pick = std::upper_bound(w, w + n, u) - w;
              out[r * count + i] = pick < last ? pick : last;
            }
            continue;
          }
          auto* race = w + n;
          auto* item = reinterpret_cast<WideItem*>(race + n);
          auto make = [&](int64_t i) { return WideItem{w[i] > 0 ? std::bit_cast<uint64_t>(race[i] / w[i]) : ~uint64_t(0), uint64_t(i)}; };
          for (int64_t first = r * n; first < (r + 1) * n;) {
            // Words of this row, from a block's begin on.
            const int64_t begin = first / 2 * 2, m = std::min<int64_t>(kChunk, (r + 1) * n - begin);
            uint64_t words[kChunk + 2];
            double e[kChunk];
            s.words(2 * begin, 2 * m, reinterpret_cast<uint32_t*>(words));
            exponential(words, e, m);
            for (int64_t i = first; i < begin + m; ++i) race[i - r * n] = e[i - begin];
            first = begin + m;
          }
          if (select_room(count) < n) {
            select_items(0, n, count, item, select_room(count), make);
            std::sort(item, item + count);
          } else {
            for (int64_t i = 0; i < n; ++i) item[i] = make(i);
            std::sort(item, item + n);
          }
          for (int64_t i = 0; i < count; ++i) out[r * count + i] = int64_t(item[i].at);
        }
        return {};
      });
}

KEEL_CPU_KERNEL(dropout) {
  k.dtypes(kinds::floating).input(0, Layout::contiguous).run([](const KernelArgs& a) -> KernelStatus {
    const auto& p = a.get<DropoutParams>();
    const TensorView &x = a.in[0], &y = a.out[0];
    const Stream s(a.in[1], p.offset);
    const uint64_t bound = uint64_t(p.p * 0x1p32 + 0.5);
    if (bound > 0xffffffff) {
      std::memset(y.data, 0, size_t(y.size()) * size_of(y.dtype));
      return {};
    }
    const auto threshold = uint32_t(bound);
    const double scale = 1 / (1 - p.p);
    chunks(y.size(), [&](int64_t first, int64_t n) {
      uint32_t w[kChunk + 4];
      s.words(first, n, w);
      if (x.dtype == f32) return dropout_loop(w, threshold, x.ptr<float>() + first, y.ptr<float>() + first, n, float(scale));
      if (x.dtype == f64) {
        const double* from = x.ptr<double>() + first;
        double* to = y.ptr<double>() + first;
        for (int64_t i = 0; i < n; ++i) to[i] = w[i] < threshold ? 0 : from[i] * scale;
        return;
      }
      float v[kChunk];
      convert_loop(x.dtype, f32)(x.ptr<uint16_t>() + first, v, n, nullptr);
      dropout_loop(w, threshold, v, v, n, float(scale));
      write_narrow(v, y, first, n);
    });
    return {};
  });
}
