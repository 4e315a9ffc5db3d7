// Filled tensors: full, arange, linspace, eye. Each element is written once; zeros and other values of equal bytes by memset.
#include <cstring>

#include "backend/kernel.h"
#include "core/impl.h"
#include "keel/numerics/types.h"
#include "keel/ops/creation.h"
#include "keel/parallel.h"

namespace keel::cpu {
namespace {

constexpr int64_t kGrain = 1 << 15;

void fill_bytes(void* to, int64_t bytes, int value) {
  parallel_for(0, bytes, 1 << 18, [&](int64_t lo, int64_t hi) { std::memset(static_cast<char*>(to) + lo, value, size_t(hi - lo)); });
}

struct Wide {
  uint64_t a, b;
};
template <class T>
void fill_with(void* to, int64_t n, const std::byte* value) {
  T v;
  std::memcpy(&v, value, sizeof v);
  T* p = static_cast<T*>(to);
  parallel_for(0, n, kGrain, [=](int64_t lo, int64_t hi) {
    for (int64_t i = lo; i < hi; ++i) p[i] = v;
  });
}

template <class T, class V>
T converted(V v) {
  if constexpr (std::is_integral_v<T> && std::is_floating_point_v<V>)
    return v >= -0x1p63 && v < 0x1p63 ? T(int64_t(v)) : T(INT64_MIN);
  else
    return T(v);
}

/// to[i] = f(i), computed in C and converted to the dtype of `y`.
template <class C, class F>
void generate(const TensorView& y, F f) {
  const int64_t n = y.size();
  auto go = [&](auto tag) {
    using T = decltype(tag);
    T* p = y.ptr<T>();
    parallel_for(0, n, kGrain, [=](int64_t lo, int64_t hi) {
      for (int64_t i = lo; i < hi; ++i) p[i] = converted<T>(f(i));
    });
  };
  switch (y.dtype) {
    case f32: return go(float{});
    case f64: return go(double{});
    case i64: return go(int64_t{});
    case i32: return go(int32_t{});
    default:
      parallel_for(0, n, kGrain, [&](int64_t lo, int64_t hi) {
        auto* p = static_cast<std::byte*>(y.data);
        const int64_t size = int64_t(size_of(y.dtype));
        for (int64_t i = lo; i < hi; ++i) write_scalar(p + i * size, y.dtype, Scalar(C(f(i))));
      });
  }
}

}  // namespace
}  // namespace keel::cpu

using namespace keel;
using namespace keel::cpu;

KEEL_CPU_KERNEL(full) {
  k.run([](const KernelArgs& a) -> KernelStatus {
    const TensorView& y = a.out[0];
    alignas(16) std::byte v[16] = {};
    write_scalar(v, y.dtype, a.get<FullParams>().value);
    const size_t size = size_of(y.dtype);
    bool even = true;
    for (size_t i = 1; i < size; ++i) even &= v[i] == v[0];
    if (even) return fill_bytes(y.data, y.size() * int64_t(size), int(v[0])), KernelStatus{};
    switch (size) {
      case 2: fill_with<uint16_t>(y.data, y.size(), v); break;
      case 4: fill_with<uint32_t>(y.data, y.size(), v); break;
      case 8: fill_with<uint64_t>(y.data, y.size(), v); break;
      default: fill_with<Wide>(y.data, y.size(), v);
    }
    return {};
  });
}

KEEL_CPU_KERNEL(arange) {
  k.run([](const KernelArgs& a) -> KernelStatus {
    const auto& p = a.get<ArangeParams>();
    if (p.start.kind() != f64 && p.step.kind() != f64) {
      const uint64_t start = uint64_t(p.start.to_int()), step = uint64_t(p.step.to_int());
      generate<int64_t>(a.out[0], [=](int64_t i) { return int64_t(start + uint64_t(i) * step); });
    } else {
      const double start = p.start.to_double(), step = p.step.to_double();
      generate<double>(a.out[0], [=](int64_t i) { return start + double(i) * step; });
    }
    return {};
  });
}

KEEL_CPU_KERNEL(linspace) {
  k.run([](const KernelArgs& a) -> KernelStatus {
    const auto& p = a.get<LinspaceParams>();
    const int64_t last = p.count > 1 ? p.count - 1 : INT64_MAX;
    const double start = p.start, stop = p.stop, step = p.count > 1 ? (stop - start) / double(p.count - 1) : 0;
    generate<double>(a.out[0], [=](int64_t i) { return i == last ? stop : start + double(i) * step; });
    return {};
  });
}

KEEL_CPU_KERNEL(eye) {
  k.run([](const KernelArgs& a) -> KernelStatus {
    const TensorView& y = a.out[0];
    const int64_t size = int64_t(size_of(y.dtype)), rows = y.dim(0), columns = y.dim(1);
    fill_bytes(y.data, y.size() * size, 0);
    for (int64_t i = 0; i < rows && i < columns; ++i)
      write_scalar(static_cast<std::byte*>(y.data) + (i * columns + i) * size, y.dtype, Scalar(1));
    return {};
  });
}
