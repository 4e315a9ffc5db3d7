// Elementwise primitives in double, int64 and (for u64) uint64, one element at a time.
#include <cmath>
#include <type_traits>

#include "backend/reference/walk.h"

using namespace keel;
using namespace keel::reference;

namespace {

/// y = f(x) with x as double, int64_t or uint64_t.
template <class F>
KernelStatus map(const KernelArgs& a, F f) {
  const TensorView &x = a.in[0], &y = a.out[0];
  const int r = y.rank();
  each_index(y.shape(), [&](const int64_t* at) {
    if (is_inexact(x.dtype))
      put(y, at, Scalar(f(get(x, at, r))));
    else if (x.dtype == u64)
      put(y, at, Scalar(f(uint64_t(get_int(x, at, r)))));
    else
      put(y, at, Scalar(f(get_int(x, at, r))));
  });
  return {};
}
template <class F>
KernelStatus map2(const KernelArgs& a, F f) {
  const TensorView &p = a.in[0], &q = a.in[1], &y = a.out[0];
  const int r = y.rank();
  each_index(y.shape(), [&](const int64_t* at) {
    if (is_inexact(p.dtype))
      put(y, at, Scalar(f(get(p, at, r), get(q, at, r))));
    else if (p.dtype == u64)
      put(y, at, Scalar(f(uint64_t(get_int(p, at, r)), uint64_t(get_int(q, at, r)))));
    else
      put(y, at, Scalar(f(get_int(p, at, r), get_int(q, at, r))));
  });
  return {};
}

template <class T>
constexpr bool real = std::is_floating_point_v<T>;
template <class T>
bool truth(T v) {
  return v != 0;
}

template <class T>
T floor_divided(T a, T b) {
  if constexpr (real<T>) {
    if (b == 0) return a / b;
    const T m = std::fmod(a, b);
    T q = (a - m) / b;
    if (m != 0 && (m < 0) != (b < 0)) q -= 1;
    return q == 0 ? std::copysign(T(0), a / b) : std::nearbyint(q);
  } else {
    if (b == 0) return 0;
    if constexpr (std::is_signed_v<T>) {
      if (b == -1) return T(-std::make_unsigned_t<T>(a));
      return a / b - (a % b != 0 && (a < 0) != (b < 0));
    } else {
      return a / b;
    }
  }
}
template <class T>
T remainder_of(T a, T b) {
  if constexpr (real<T>) {
    const T m = std::fmod(a, b);
    if (m != 0 && (m < 0) != (b < 0)) return m + b;
    return m == 0 && b != 0 ? std::copysign(T(0), b) : m;
  } else {
    if (b == 0) return 0;
    if constexpr (std::is_signed_v<T>) {
      if (b == -1) return 0;
      const T m = a % b;
      return m != 0 && (m < 0) != (b < 0) ? m + b : m;
    } else {
      return a % b;
    }
  }
}
template <class T>
T power(T a, T b) {
  if constexpr (real<T>) {
    return std::pow(a, b);
  } else {
    if constexpr (std::is_signed_v<T>)
      if (b < 0) return a == 1 ? 1 : a == -1 ? (b & 1 ? -1 : 1) : 0;
    uint64_t y = 1, base = uint64_t(a);
    for (uint64_t n = uint64_t(b); n; n >>= 1, base *= base)
      if (n & 1) y *= base;
    return T(y);
  }
}

}  // namespace

#define KEEL_MAP(...)                             \
  k.run([](const KernelArgs& a) -> KernelStatus { \
    return map(a, [](auto x) {                    \
      using T [[maybe_unused]] = decltype(x);     \
      return __VA_ARGS__;                         \
    });                                           \
  })
#define KEEL_MAP2(...)                            \
  k.run([](const KernelArgs& a) -> KernelStatus { \
    return map2(a, [](auto x, auto y) {           \
      using T [[maybe_unused]] = decltype(x);     \
      return __VA_ARGS__;                         \
    });                                           \
  })

KEEL_REFERENCE_KERNEL(abs) {
  k.run([](const KernelArgs& a) -> KernelStatus {
    return map(a, [](auto x) {
      if constexpr (real<decltype(x)>)
        return std::fabs(x);
      else if constexpr (std::is_signed_v<decltype(x)>)
        return x < 0 ? int64_t(-uint64_t(x)) : x;
      else
        return x;
    });
  });
}
KEEL_REFERENCE_KERNEL(sign) {
  k.run([](const KernelArgs& a) -> KernelStatus {
    return map(a, [](auto x) { return x != x ? x : decltype(x)(x > 0) - decltype(x)(x < 0); });
  });
}
KEEL_REFERENCE_KERNEL(floor) {
  k.run([](const KernelArgs& a) -> KernelStatus {
    return map(a, [](auto x) {
      if constexpr (real<decltype(x)>)
        return std::floor(x);
      else
        return x;
    });
  });
}
KEEL_REFERENCE_KERNEL(ceil) {
  k.run([](const KernelArgs& a) -> KernelStatus {
    return map(a, [](auto x) {
      if constexpr (real<decltype(x)>)
        return std::ceil(x);
      else
        return x;
    });
  });
}
KEEL_REFERENCE_KERNEL(round) {
  k.run([](const KernelArgs& a) -> KernelStatus {
    return map(a, [](auto x) {
      if constexpr (real<decltype(x)>)
        return std::nearbyint(x);
      else
        return x;
    });
  });
}
KEEL_REFERENCE_KERNEL(trunc) {
  k.run([](const KernelArgs& a) -> KernelStatus {
    return map(a, [](auto x) {
      if constexpr (real<decltype(x)>)
        return std::trunc(x);
      else
        return x;
    });
  });
}
KEEL_REFERENCE_KERNEL(exp) { KEEL_MAP(std::exp(double(x))); }
KEEL_REFERENCE_KERNEL(expm1) { KEEL_MAP(std::expm1(double(x))); }
KEEL_REFERENCE_KERNEL(log) { KEEL_MAP(std::log(double(x))); }
KEEL_REFERENCE_KERNEL(log1p) { KEEL_MAP(std::log1p(double(x))); }
KEEL_REFERENCE_KERNEL(log2) { KEEL_MAP(std::log2(double(x))); }
KEEL_REFERENCE_KERNEL(sqrt) { KEEL_MAP(std::sqrt(double(x))); }
KEEL_REFERENCE_KERNEL(sin) { KEEL_MAP(std::sin(double(x))); }
KEEL_REFERENCE_KERNEL(cos) { KEEL_MAP(std::cos(double(x))); }
KEEL_REFERENCE_KERNEL(tan) { KEEL_MAP(std::tan(double(x))); }
KEEL_REFERENCE_KERNEL(sinh) { KEEL_MAP(std::sinh(double(x))); }
KEEL_REFERENCE_KERNEL(cosh) { KEEL_MAP(std::cosh(double(x))); }
KEEL_REFERENCE_KERNEL(tanh) { KEEL_MAP(std::tanh(double(x))); }
KEEL_REFERENCE_KERNEL(erf) { KEEL_MAP(std::erf(double(x))); }
KEEL_REFERENCE_KERNEL(isnan) { KEEL_MAP(x != x); }
KEEL_REFERENCE_KERNEL(isinf) { KEEL_MAP(std::isinf(double(x))); }
KEEL_REFERENCE_KERNEL(isfinite) { KEEL_MAP(std::isfinite(double(x))); }
KEEL_REFERENCE_KERNEL(logical_not) { KEEL_MAP(!truth(x)); }
KEEL_REFERENCE_KERNEL(bitwise_not) {
  k.run([](const KernelArgs& a) -> KernelStatus {
    const bool logical = a.in[0].dtype == DType::boolean;
    return unary(
        a, [](double x) { return x; }, [logical](int64_t x) { return logical ? int64_t(!x) : ~x; });
  });
}

KEEL_REFERENCE_KERNEL(pow) { KEEL_MAP2(power(x, y)); }
KEEL_REFERENCE_KERNEL(maximum) { KEEL_MAP2(x != x ? x : y != y ? y : x > y ? x : y); }
KEEL_REFERENCE_KERNEL(minimum) { KEEL_MAP2(x != x ? x : y != y ? y : x < y ? x : y); }
KEEL_REFERENCE_KERNEL(floor_divide) { KEEL_MAP2(floor_divided(x, y)); }
KEEL_REFERENCE_KERNEL(remainder) { KEEL_MAP2(remainder_of(x, y)); }
KEEL_REFERENCE_KERNEL(equal) { KEEL_MAP2(x == y); }
KEEL_REFERENCE_KERNEL(not_equal) { KEEL_MAP2(x != y); }
KEEL_REFERENCE_KERNEL(less) { KEEL_MAP2(x < y); }
KEEL_REFERENCE_KERNEL(less_equal) { KEEL_MAP2(x <= y); }
KEEL_REFERENCE_KERNEL(greater) { KEEL_MAP2(x > y); }
KEEL_REFERENCE_KERNEL(greater_equal) { KEEL_MAP2(x >= y); }
KEEL_REFERENCE_KERNEL(logical_and) { KEEL_MAP2(truth(x) && truth(y)); }
KEEL_REFERENCE_KERNEL(logical_or) { KEEL_MAP2(truth(x) || truth(y)); }
KEEL_REFERENCE_KERNEL(logical_xor) { KEEL_MAP2(truth(x) != truth(y)); }
KEEL_REFERENCE_KERNEL(bitwise_and) { KEEL_MAP2(T(int64_t(x) & int64_t(y))); }
KEEL_REFERENCE_KERNEL(bitwise_or) { KEEL_MAP2(T(int64_t(x) | int64_t(y))); }
KEEL_REFERENCE_KERNEL(bitwise_xor) { KEEL_MAP2(T(int64_t(x) ^ int64_t(y))); }

KEEL_REFERENCE_KERNEL(where) {
  k.run([](const KernelArgs& a) -> KernelStatus {
    const TensorView& y = a.out[0];
    const int r = y.rank();
    each_index(y.shape(), [&](const int64_t* at) {
      const TensorView& from = get_int(a.in[0], at, r) ? a.in[1] : a.in[2];
      std::memcpy(element(y, at, r), element(from, at, r), size_of(y.dtype));
    });
    return {};
  });
}
