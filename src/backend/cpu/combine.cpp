// concat, pad and the gradient of a slice: placed copies. concat and slice_backward hand each part to the strided copy, which merges axes
// and moves runs; pad goes row by row along the last axis with the row's source found by coordinates. Every byte of the result is written
// once, but for slice_backward, which clears first.
#include <cstring>

#include "backend/cpu/copy.h"
#include "core/impl.h"
#include "keel/ops/combine.h"
#include "keel/ops/view.h"
#include "keel/parallel.h"

namespace keel::cpu {
namespace {

struct Wide {
  uint64_t a, b;
};

/// Element `i` of an axis of extent n, for i before or behind it; -1 in constant mode.
int64_t source_of(int64_t i, int64_t n, PadMode mode) {
  if (i >= 0 && i < n) return i;
  if (mode == PadMode::constant) return -1;
  if (mode == PadMode::replicate) return i < 0 ? 0 : n - 1;
  return i < 0 ? -i : 2 * (n - 1) - i;
}

template <class T>
void pad_rows(const PadParams& p, const TensorView& x, const TensorView& y, T value) {
  const int last = y.rank() - 1;
  if (last < 0) {
    *y.ptr<T>() = *x.ptr<T>();
    return;
  }
  const int64_t width = y.dim(last), n = x.dim(last), step = x.stride(last), before = p.before[last];
  const int64_t rows = width ? y.size() / width : 0;
  parallel_for(0, rows, 1 + (1 << 14) / (width + 1), [&](int64_t lo, int64_t hi) {
    for (int64_t row = lo; row < hi; ++row) {
      T* to = y.ptr<T>() + row * width;
      const T* from = x.ptr<T>();
      bool inside = true;
      for (int64_t i = last - 1, rest = row; i >= 0; --i) {
        const int64_t s = source_of(rest % y.dim(int(i)) - p.before[int(i)], x.dim(int(i)), p.mode);
        rest /= y.dim(int(i));
        if (s < 0) inside = false;
        else from += s * x.stride(int(i));
      }
      if (!inside) {
        for (int64_t i = 0; i < width; ++i) to[i] = value;
        continue;
      }
      auto edge = [&](int64_t i) {
        const int64_t s = source_of(i - before, n, p.mode);
        to[i] = s < 0 ? value : from[s * step];
      };
      for (int64_t i = 0; i < before; ++i) edge(i);
      if (step == 1)
        std::memcpy(to + before, from, size_t(n) * sizeof(T));
      else
        for (int64_t i = 0; i < n; ++i) to[before + i] = from[i * step];
      for (int64_t i = before + n; i < width; ++i) edge(i);
    }
  });
}

template <class T>
void pad_with(const PadParams& p, const TensorView& x, const TensorView& y) {
  T value;
  write_scalar(&value, x.dtype, Scalar(p.value));
  pad_rows(p, x, y, value);
}

}  // namespace
}  // namespace keel::cpu

using namespace keel;

KEEL_CPU_KERNEL(concat) {
  k.run([](const KernelArgs& a) -> KernelStatus {
    const TensorView& y = a.out[0];
    const int64_t axis = a.get<ConcatParams>().axis;
    const int at = int(axis < 0 ? axis + y.rank() : axis);
    auto* to = static_cast<std::byte*>(y.data);
    for (int i = 0; i < a.n_in; ++i) {
      copy_view(a.in[i], {to, y.dtype, a.in[i].shape_, y.strides_});
      to += a.in[i].dim(at) * y.stride(at) * int64_t(size_of(y.dtype));
    }
    return {};
  });
}

KEEL_CPU_KERNEL(pad) {
  k.run([](const KernelArgs& a) -> KernelStatus {
    const auto& p = a.get<PadParams>();
    const TensorView &x = a.in[0], &y = a.out[0];
    switch (size_of(x.dtype)) {
      case 1: pad_with<uint8_t>(p, x, y); break;
      case 2: pad_with<uint16_t>(p, x, y); break;
      case 4: pad_with<uint32_t>(p, x, y); break;
      case 8: pad_with<uint64_t>(p, x, y); break;
      default: pad_with<Wide>(p, x, y);
    }
    return {};
  });
}

KEEL_CPU_KERNEL(slice_backward) {
  k.run([](const KernelArgs& a) -> KernelStatus {
    const auto& p = a.get<SliceBackwardParams>();
    const TensorView &g = a.in[0], &y = a.out[0];
    auto* to = static_cast<std::byte*>(y.data);
    if (g.size() != y.size()) {
      const int64_t bytes = y.size() * int64_t(size_of(y.dtype));
      parallel_for(0, bytes, 1 << 18, [&](int64_t lo, int64_t hi) { std::memset(to + lo, 0, size_t(hi - lo)); });
    }
    if (g.size() == 0) return {};
    Strides st;
    for (int i = 0; i < y.rank(); ++i) st.push_back(y.stride(i) * p.step[i]), to += p.start[i] * y.stride(i) * int64_t(size_of(y.dtype));
    return copy_view(g, {to, y.dtype, g.shape_, &st});
  });
}
