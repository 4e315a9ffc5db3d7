// Comparisons with a slope, and clamps, in the formulas of src/ops/soft.cpp. Elementwise; 16-bit floats compute in f32 and are rounded
// once. The gradients of the two operands are two launches.
#include "keel/ops/soft.h"

#include "backend/cuda/pointwise.cuh"
#include "backend/cuda/tolerance.cuh"

using namespace keel;
using namespace keel::cuda;

namespace {

template <class C>
__device__ C sigmoid_of(C z) {
  return quotient(C(1), C(1) + exp_of(-z));
}
/// s (1 - s) for s = sigmoid(z).
template <class C>
__device__ C bell_of(C z) {
  const C e = exp_of(z < 0 ? z : -z), e1 = C(1) + e;
  return quotient(quotient(e, e1), e1);
}

struct Near {
  double rel, abs, temperature;  // 0: a quarter of the tolerance
  bool normalized, detach;
  explicit Near(const KernelArgs& a) {
    const auto& p = a.get<SoftNearParams>();
    const numerics::Tolerance own = tolerance_of(a.in[0].dtype);
    rel = std::isnan(p.rel_tol) ? own.rel : p.rel_tol, abs = std::isnan(p.abs_tol) ? own.abs : p.abs_tol;
    temperature = std::isnan(p.temperature) ? 0 : p.temperature, normalized = p.normalized, detach = p.detach_tol;
  }
  template <class C>
  struct Parts {
    C distance, tol, z, at_zero;  // at_zero: tol / temperature
    bool apart;                   // one infinity, or two of different sign
  };
  template <class C>
  __device__ Parts<C> parts(C a, C b) const {
    Parts<C> p;
    const C x = fabs(a), y = fabs(b), size = x > y ? x : y;
    p.apart = a == a && b == b && a != b && (isinf(a) || isinf(b));
    p.distance = a == b ? C(0) : C(fabs(a - b));
    const C scaled = C(rel) * (isinf(size) ? C(0) : size);
    p.tol = scaled > C(abs) ? scaled : C(abs);
    if (temperature == 0) {
      p.z = C(4) * (C(1) - (p.distance == 0 ? C(0) : quotient(p.distance, p.tol))), p.at_zero = 4;
    } else {
      p.z = quotient(p.tol - p.distance, C(temperature)), p.at_zero = quotient(p.tol, C(temperature));
    }
    return p;
  }
};
struct SoftNear : Near {
  template <class C>
  __device__ C operator()(C a, C b) const {
    const Parts<C> p = parts(a, b);
    C s = sigmoid_of(p.z);
    if (normalized) s = quotient(s, sigmoid_of(p.at_zero));
    return p.apart ? C(0) : s;
  }
};
/// The slope along the distance, and along the tolerance, which grows with the larger of |a| and |b|; a tie gives half to each.
template <bool to_a>
struct SoftNearGrad : Near {
  template <class C>
  __device__ C operator()(C g, C a, C b) const {
    const Parts<C> p = parts(a, b);
    const C bell = bell_of(p.z), s = sigmoid_of(p.z), n = normalized ? sigmoid_of(p.at_zero) : C(1), bent = quotient(bell, n);
    C along, grown;
    if (temperature == 0) {
      const bool none = p.tol <= 0;
      const C tol = none ? C(1) : p.tol, steep = quotient(C(4) * bent, tol);
      along = none ? C(0) : steep;
      // 0 where the slope has vanished or nothing lies between a and b: the other factor may be infinite
      grown = none || bell == 0 || p.distance == 0 ? C(0) : steep * quotient(p.distance, tol);
    } else {
      along = grown = quotient(bent, C(temperature));
      if (normalized) {  // s / n loses s n' / n^2 = (s / n) (1 - n) / temperature
        const C m = exp_of(-p.at_zero), left = quotient(m, C(1) + m);
        grown = grown - quotient(quotient(s, n) * left, C(temperature));
      }
    }
    if (p.apart || isinf(a) || isinf(b)) return 0;
    const C x = fabs(a), y = fabs(b), step = a > b ? along : a < b ? -along : C(0);
    C slope = to_a ? -step : step;
    if (!detach) {
      const C rise = C(rel) * (x > y ? x : y) > C(abs) ? C(rel) * grown : C(0), mine = to_a ? x : y, other = to_a ? y : x;
      const C share = mine > other ? rise : mine < other ? C(0) : rise * C(0.5);
      slope = slope + ((to_a ? a : b) < 0 ? -share : share);
    }
    return g * slope;
  }
};

struct Compared {
  double temperature;
  template <class C>
  __device__ C share(C a, C b) const {
    return quotient(a == b ? C(0) : a - b, C(temperature));
  }
};
struct SoftCompare : Compared {
  template <class C>
  __device__ C operator()(C a, C b) const {
    return tanh_of(share(a, b));
  }
};
/// (1 - tanh(u)^2) / temperature = 4 s (1 - s) / temperature with s = sigmoid(2 u).
struct SoftCompareGrad : Compared {
  double sign;
  template <class C>
  __device__ C operator()(C g, C a, C b) const {
    const C slope = quotient(C(4) * bell_of(C(2) * share(a, b)), C(temperature));
    return isinf(a) || isinf(b) ? C(0) : C(sign) * (g * slope);
  }
};

/// The side of the middle decides which of two equal forms is taken: that in which nothing cancels.
struct SoftClamp {
  double beta, leak;
  template <class T>
  __device__ T rest(T z) const {
    return log1p_of(exp_of(-absolute(T(beta) * z))) / T(beta);
  }
  template <class T>
  __device__ T operator()(T x, T lo, T hi) const {
    if (x != x || lo != lo || hi != hi) return x + lo + hi;
    const bool upper = x >= lo * T(0.5) + hi * T(0.5);
    const T p = x - lo, q = x - hi, u = upper ? -p : p, v = upper ? -q : q, ru = rest(u), rv = rest(v);
    const T su = (u > 0 ? u : T(0)) + ru, sv = (v > 0 ? v : T(0)) + rv, diff = su - sv;
    T f = (upper ? hi : lo) + (upper ? (diff < 0 ? diff : T(0)) : (diff > 0 ? diff : T(0)));
    f = f < lo ? lo : f;
    f = f > hi ? hi : f;
    if (leak == 0) return f;
    const T nu = (u < 0 ? -u : T(0)) + ru, nv = (v < 0 ? -v : T(0)) + rv;
    return f + T(leak) * ((upper ? nv : sv) - (upper ? su : nu));
  }
};
struct SoftClampGrad {
  double beta, leak;
  template <class T>
  __device__ T logistic(T z) const {
    const T e = exp_of(z < 0 ? z : -z);
    return z < 0 ? e / (1 + e) : 1 / (1 + e);
  }
  template <class T>
  __device__ T operator()(T g, T x, T lo, T hi) const {
    const bool upper = x >= lo * T(0.5) + hi * T(0.5);
    const T p = x - lo, q = x - hi, su = logistic(T(beta) * (upper ? -p : p)), sv = logistic(T(beta) * (upper ? -q : q));
    const T slope = upper ? sv - su : su - sv;
    return g * (slope + T(leak) * (1 - slope));
  }
};

}  // namespace

KEEL_CUDA_KERNEL(soft_near) {
  pointwise_def(k, kinds::floating).run([](const KernelArgs& a) { return lifted<Floats, 2>(a, SoftNear{Near(a)}); });
}
KEEL_CUDA_KERNEL(soft_near_backward) {
  apart_def(k).run([](const KernelArgs& a) {
    const KernelStatus s = lifted_for<3>(a, 0, SoftNearGrad<true>{Near(a)});
    return s.code ? s : lifted_for<3>(a, 1, SoftNearGrad<false>{Near(a)});
  });
}
KEEL_CUDA_KERNEL(soft_compare) {
  pointwise_def(k, kinds::floating).run([](const KernelArgs& a) {
    return lifted<Floats, 2>(a, SoftCompare{{a.get<SoftCompareParams>().temperature}});
  });
}
KEEL_CUDA_KERNEL(soft_compare_backward) {
  apart_def(k).run([](const KernelArgs& a) {
    const double t = a.get<SoftCompareParams>().temperature;
    const KernelStatus s = lifted_for<3>(a, 0, SoftCompareGrad{{t}, 1});
    return s.code ? s : lifted_for<3>(a, 1, SoftCompareGrad{{t}, -1});
  });
}
KEEL_CUDA_KERNEL(soft_clamp) {
  pointwise_def(k, kinds::floating)
      .refuses([](const void*, Specs in) -> const char* { return in.has(3) ? "a sharpness of every element" : nullptr; })
      .run([](const KernelArgs& a) {
        return lifted<Floats, 3>(a, SoftClamp{a.get<SoftClampParams>().beta, a.get<SoftClampParams>().leak});
      });
}
KEEL_CUDA_KERNEL(soft_clamp_backward) {
  pointwise_def(k, kinds::floating)
      .refuses([](const void*, Specs in) -> const char* { return in.has(4) ? "a sharpness of every element" : nullptr; })
      .run([](const KernelArgs& a) {
        return lifted<Floats, 4>(a, SoftClampGrad{a.get<SoftClampParams>().beta, a.get<SoftClampParams>().leak});
      });
}
