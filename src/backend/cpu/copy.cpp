// Copies between any two strided layouts of one dtype. Axes that both sides run through alike are merged first; what is left is walked with the innermost axis in a plain loop.
#include <cstring>

#include "backend/cpu/copy.h"
#include "keel/parallel.h"

namespace keel::cpu {
namespace {

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

template <class T>
void run(const Walk& w, const T* x, T* y) {
  const int inner = w.rank - 1;
  int64_t rows = 1;
  for (int i = 0; i < inner; ++i) rows *= w.extent[i];
  const int64_t n = w.extent[inner], sx = w.from[inner], sy = w.to[inner];
  auto row = [&](int64_t r, int64_t lo, int64_t hi) {
    const T* p = x;
    T* q = y;
    for (int i = inner - 1; i >= 0; --i) {
      const int64_t k = r % w.extent[i];
      r /= w.extent[i];
      p += k * w.from[i], q += k * w.to[i];
    }
    if (sx == 1 && sy == 1) {
      std::memcpy(q + lo, p + lo, size_t(hi - lo) * sizeof(T));
    } else {
      for (int64_t i = lo; i < hi; ++i) q[i * sy] = p[i * sx];
    }
  };
  if (rows == 1) parallel_for(0, n, 1 << 16, [&](int64_t lo, int64_t hi) { row(0, lo, hi); });
  else parallel_for(0, rows, (1 << 16) / (n + 1) + 1, [&](int64_t lo, int64_t hi) {
    for (int64_t r = lo; r < hi; ++r) row(r, 0, n);
  });
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
