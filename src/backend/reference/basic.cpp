#include <algorithm>
#include <cmath>

#include "backend/reference/walk.h"
#include "keel/numerics/types.h"
#include "keel/ops/cast.h"
#include "keel/ops/creation.h"
#include "keel/ops/reduce.h"
#include "keel/ops/view.h"

using namespace keel;
using namespace keel::reference;

KEEL_REFERENCE_KERNEL(full) {
  k.run([](const KernelArgs& a) -> KernelStatus {
    each_index(a.out[0].shape(), [&](const int64_t* at) { put(a.out[0], at, a.get<FullParams>().value); });
    return {};
  });
}
KEEL_REFERENCE_KERNEL(arange) {
  k.run([](const KernelArgs& a) -> KernelStatus {
    const auto& p = a.get<ArangeParams>();
    const bool integral = p.start.kind() != f64 && p.step.kind() != f64;
    each_index(a.out[0].shape(), [&](const int64_t* at) {
      if (integral) put(a.out[0], at, Scalar(p.start.to_int() + at[0] * p.step.to_int()));
      else put(a.out[0], at, Scalar(p.start.to_double() + double(at[0]) * p.step.to_double()));
    });
    return {};
  });
}
KEEL_REFERENCE_KERNEL(linspace) {
  k.run([](const KernelArgs& a) -> KernelStatus {
    const auto& p = a.get<LinspaceParams>();
    const double step = p.count > 1 ? (p.stop - p.start) / double(p.count - 1) : 0;
    each_index(a.out[0].shape(), [&](const int64_t* at) { put(a.out[0], at, Scalar(at[0] == p.count - 1 && p.count > 1 ? p.stop : p.start + double(at[0]) * step)); });
    return {};
  });
}
KEEL_REFERENCE_KERNEL(eye) {
  k.run([](const KernelArgs& a) -> KernelStatus {
    each_index(a.out[0].shape(), [&](const int64_t* at) { put(a.out[0], at, Scalar(int64_t(at[0] == at[1]))); });
    return {};
  });
}
KEEL_REFERENCE_KERNEL(cast) {
  k.run([](const KernelArgs& a) -> KernelStatus {
    const DType to = a.get<CastParams>().saturate ? DType::none : a.out[0].dtype;
    const auto convert = [to](double x) {
      if (to == f8e4m3fn) return double(float8_e4m3fn(x, Overflow::nan_or_inf));
      return to == f8e5m2 ? double(float8_e5m2(x, Overflow::nan_or_inf)) : x;
    };
    return unary(a, convert, [](int64_t x) { return x; });
  }).inputs(Layout::strided);
}
KEEL_REFERENCE_KERNEL(copy) {
  k.run([](const KernelArgs& a) -> KernelStatus {
    each_index(a.out[0].shape(), [&](const int64_t* at) { std::memcpy(element(a.out[0], at, a.out[0].rank()), element(a.in[0], at, a.out[0].rank()), size_of(a.in[0].dtype)); });
    return {};
  });
}
KEEL_REFERENCE_KERNEL(add) {
  k.run([](const KernelArgs& a) -> KernelStatus { return binary(a, [](double x, double y) { return x + y; }, [](int64_t x, int64_t y) { return int64_t(uint64_t(x) + uint64_t(y)); }); });
}
KEEL_REFERENCE_KERNEL(sub) {
  k.run([](const KernelArgs& a) -> KernelStatus { return binary(a, [](double x, double y) { return x - y; }, [](int64_t x, int64_t y) { return int64_t(uint64_t(x) - uint64_t(y)); }); });
}
KEEL_REFERENCE_KERNEL(mul) {
  k.run([](const KernelArgs& a) -> KernelStatus { return binary(a, [](double x, double y) { return x * y; }, [](int64_t x, int64_t y) { return int64_t(uint64_t(x) * uint64_t(y)); }); });
}
KEEL_REFERENCE_KERNEL(div) {
  k.run([](const KernelArgs& a) -> KernelStatus { return binary(a, [](double x, double y) { return x / y; }, [](int64_t, int64_t) { return int64_t(0); }); });
}
KEEL_REFERENCE_KERNEL(neg) {
  k.run([](const KernelArgs& a) -> KernelStatus { return unary(a, [](double x) { return -x; }, [](int64_t x) { return int64_t(-uint64_t(x)); }); });
}
KEEL_REFERENCE_KERNEL(sum) {
  k.run([](const KernelArgs& a) -> KernelStatus {
    const TensorView &x = a.in[0], &y = a.out[0];
    const auto& p = a.get<SumParams>();
    bool reduced[kMaxRank] = {};
    for (int64_t i : p.axis) reduced[i < 0 ? i + std::max(x.rank(), 1) : i] = true;  // a 0-d tensor takes axis -1 too
    if (p.axis.empty())
      for (bool& b : reduced) b = true;
    const int r = x.rank();
    each_index(y.shape(), [&](const int64_t* to) {
      // Walk the reduced axes under this result.
      Shape inner;
      int64_t at[kMaxRank] = {};
      int k = 0;
      for (int i = 0; i < r; ++i) {
        inner.push_back(reduced[i] ? x.dim(i) : 1);
        if (!reduced[i]) at[i] = to[p.keepdim ? i : k++];
      }
      double d = 0;
      uint64_t n = 0;
      each_index(inner, [&](const int64_t* in) {
        int64_t full_at[kMaxRank] = {};
        for (int i = 0; i < r; ++i) full_at[i] = at[i] + in[i];
        if (is_inexact(x.dtype)) d += get(x, full_at, r);
        else n += uint64_t(get_int(x, full_at, r));
      });
      put(y, to, is_inexact(x.dtype) ? Scalar(d) : Scalar(int64_t(n)));
    });
    return {};
  });
}
KEEL_REFERENCE_KERNEL(slice_backward) {
  k.run([](const KernelArgs& a) -> KernelStatus {
    const TensorView &g = a.in[0], &y = a.out[0];
    const auto& p = a.get<SliceBackwardParams>();
    if (y.size()) std::memset(y.data, 0, size_t(y.size()) * size_of(y.dtype));
    each_index(g.shape(), [&](const int64_t* at) {
      int64_t to[kMaxRank] = {};
      for (int i = 0; i < g.rank(); ++i) to[i] = p.start[i] + at[i] * p.step[i];
      std::memcpy(element(y, to, y.rank()), element(g, at, g.rank()), size_of(g.dtype));
    });
    return {};
  });
}
