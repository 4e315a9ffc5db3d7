// Copies between any two strided layouts of one dtype. Axes are put in the order of the output's memory and merged where both sides run on.
// Where the input's stride-1 axis is another one than the output's, the two are walked in square tiles, so that every cache line of either
// side is used whole. Traffic: both tensors once.
#include <algorithm>
#include <cstring>

#include "backend/cpu/copy.h"
#include "keel/parallel.h"

namespace keel::cpu {
namespace {

constexpr int64_t kGrain = 1 << 15;

struct Walk {
  int rank = 0;
  int64_t extent[kMaxRank], from[kMaxRank], to[kMaxRank];
};

Walk merge(const TensorView& x, const TensorView& y) {
  Walk w;
  int order[kMaxRank], n = 0;
  for (int i = 0; i < y.rank(); ++i) {
    if (y.dim(i) == 1) continue;
    int at = n++;
    while (at > 0 && y.stride(order[at - 1]) < y.stride(i)) order[at] = order[at - 1], --at;
    order[at] = i;
  }
  for (int k = 0; k < n; ++k) {
    const int i = order[k];
    if (w.rank && w.from[w.rank - 1] == x.stride(i) * y.dim(i) && w.to[w.rank - 1] == y.stride(i) * y.dim(i)) {
      w.extent[w.rank - 1] *= y.dim(i), w.from[w.rank - 1] = x.stride(i), w.to[w.rank - 1] = y.stride(i);
    } else {
      w.extent[w.rank] = y.dim(i), w.from[w.rank] = x.stride(i), w.to[w.rank] = y.stride(i), ++w.rank;
    }
  }
  if (w.rank == 0) w.rank = 1, w.extent[0] = 1, w.from[0] = w.to[0] = 1;
  return w;
}

/// A position in the axes of `w` before the innermost `skip`, with axis `without` left out; steps in row-major order.
struct Odometer {
  const Walk& w;
  int last, without;
  int64_t index[kMaxRank] = {}, from = 0, to = 0;
  Odometer(const Walk& walk, int skip, int gone, int64_t at) : w(walk), last(walk.rank - 1 - skip), without(gone) {
    for (int i = last; i >= 0; --i) {
      if (i == without) continue;
      index[i] = at % w.extent[i], at /= w.extent[i], from += index[i] * w.from[i], to += index[i] * w.to[i];
    }
  }
  void next() {
    for (int i = last; i >= 0; --i) {
      if (i == without) continue;
      from += w.from[i], to += w.to[i];
      if (++index[i] < w.extent[i]) return;
      from -= index[i] * w.from[i], to -= index[i] * w.to[i], index[i] = 0;
    }
  }
};

template <class T>
void rows(const Walk& w, const T* x, T* y) {
  const int inner = w.rank - 1;
  int64_t count = 1;
  for (int i = 0; i < inner; ++i) count *= w.extent[i];
  const int64_t n = w.extent[inner], sx = w.from[inner], sy = w.to[inner];
  const auto row = [&](const T* p, T* q, int64_t m) {
    if (sx == 1 && sy == 1) {
      if (m * int64_t(sizeof(T)) >= 64)
        std::memcpy(q, p, size_t(m) * sizeof(T));
      else
        for (int64_t i = 0; i < m; ++i) q[i] = p[i];
    } else if (sx == 0 && sy == 1) {
      std::fill(q, q + m, *p);
    } else {
      for (int64_t i = 0; i < m; ++i) q[i * sy] = p[i * sx];
    }
  };
  if (count == 1) {
    parallel_for(0, n, 2 * kGrain, [&](int64_t lo, int64_t hi) { row(x + lo * sx, y + lo * sy, hi - lo); });
    return;
  }
  parallel_for(0, count, kGrain / (n + 1) + 1, [&](int64_t lo, int64_t hi) {
    Odometer o(w, 1, -1, lo);
    for (int64_t r = lo; r < hi; ++r, o.next()) row(x + o.from, y + o.to, n);
  });
}

/// Axis `a` has stride 1 in the input, the innermost one in the output.
template <class T>
void tiles(const Walk& w, int a, const T* x, T* y) {
  constexpr int64_t kTile = 64 / int64_t(sizeof(T)) < 8 ? 8 : 64 / int64_t(sizeof(T));  // one cache line
  const int inner = w.rank - 1;
  const int64_t m = w.extent[a], n = w.extent[inner], sx = w.from[inner], sy = w.to[a];
  const int64_t down = (m + kTile - 1) / kTile;
  int64_t count = down;
  for (int i = 0; i < inner; ++i) count *= i == a ? 1 : w.extent[i];
  parallel_for(0, count, kGrain / (kTile * n) + 1, [&](int64_t lo, int64_t hi) {
    for (int64_t t = lo; t < hi; ++t) {
      const Odometer o(w, 1, a, t / down);
      const int64_t j0 = t % down * kTile, j1 = std::min(m, j0 + kTile);
      for (int64_t i0 = 0; i0 < n; i0 += kTile) {
        const int64_t i1 = std::min(n, i0 + kTile);
        const T* p = x + o.from + j0 + i0 * sx;
        T* q = y + o.to + j0 * sy + i0;
        if (i1 - i0 == kTile && j1 - j0 == kTile) {
          T tile[kTile][kTile];
          for (int64_t i = 0; i < kTile; ++i)
            for (int64_t j = 0; j < kTile; ++j) tile[i][j] = p[i * sx + j];
          for (int64_t j = 0; j < kTile; ++j)
            for (int64_t i = 0; i < kTile; ++i) q[j * sy + i] = tile[i][j];
        } else {
          for (int64_t j = 0; j < j1 - j0; ++j)
            for (int64_t i = 0; i < i1 - i0; ++i) q[j * sy + i] = p[i * sx + j];
        }
      }
    }
  });
}

template <class T>
void run(const Walk& w, const T* x, T* y) {
  const int inner = w.rank - 1;
  if (w.to[inner] == 1 && w.from[inner] != 1 && w.from[inner] != 0 && w.extent[inner] >= 4)
    for (int i = 0; i < inner; ++i)
      if (w.from[i] == 1 && w.extent[i] >= 4) return tiles(w, i, x, y);
  rows(w, x, y);
}

struct Wide {
  uint64_t a, b;
};

}  // namespace

KernelStatus copy_view(const TensorView& x, const TensorView& y) {
  if (y.size() == 0) return {};
  const Walk w = merge(x, y);
  switch (size_of(x.dtype)) {
    case 1: run(w, x.ptr<uint8_t>(), y.ptr<uint8_t>()); break;
    case 2: run(w, x.ptr<uint16_t>(), y.ptr<uint16_t>()); break;
    case 4: run(w, x.ptr<uint32_t>(), y.ptr<uint32_t>()); break;
    case 8: run(w, x.ptr<uint64_t>(), y.ptr<uint64_t>()); break;
    default: run(w, x.ptr<Wide>(), y.ptr<Wide>());
  }
  return {};
}

}  // namespace keel::cpu

KEEL_CPU_KERNEL(copy) {
  k.outputs(Layout::like_inputs).inplace().run([](const KernelArgs& a) { return copy_view(a.in[0], a.out[0]); });
}

KEEL_CPU_KERNEL(assign) {
  k.run([](const KernelArgs& a) -> KernelStatus {
    // The value broadcasts: axes it lacks or has with extent 1 get stride 0.
    const TensorView &v = a.in[1], &y = a.in[0];
    Strides st;
    st.resize(y.rank());
    for (int i = 1; i <= v.rank(); ++i) st[-i] = v.dim(v.rank() - i) == 1 ? 0 : v.stride(v.rank() - i);
    return copy_view({v.data, v.dtype, y.shape_, &st}, y);
  });
}
