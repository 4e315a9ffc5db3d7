// The optimiser steps by their formulas, one element after the other.
#include <cmath>

#include "backend/reference/walk.h"
#include "keel/ops/optim_step.h"

using namespace keel;
using namespace keel::reference;

namespace {

/// Calls f(x, t) for every element of every tensor: x[k] is its value in list k, t the step that is being taken. Then writes back and counts the step.
/// The lists begin behind `before` inputs, of which the second, where there are two, asks for no step where it is not 0. With `master` a list of
/// masters stands behind the values, in whose place the first list gets what they become.
template <class F>
void each(const KernelArgs& a, int before, int lists, bool steps, F f, bool master = false) {
  lists += master;
  if (before == 2 && a.in[1].present() && read_double(a.in[1].data, a.in[1].dtype) != 0) return;
  const TensorView* const in = a.in + before;
  const int n = (a.n_in - before) / lists, values = lists - steps - master;
  for (int i = 0; i < n; ++i) {
    const TensorView* count = steps ? &in[(lists - 1) * n + i] : nullptr;
    const double t = count ? *count->ptr<double>() + 1 : 1;
    each_index(in[i].shape(), [&](const int64_t* at) {
      double x[6];
      for (int k = 0; k < values; ++k) x[k] = get(in[k * n + i], at, in[i].rank());
      if (master) x[0] = get(in[values * n + i], at, in[i].rank());
      f(x, t);
      if (master) put(in[values * n + i], at, Scalar(x[0]));
      for (int k = 0; k < values; ++k)
        if (k != 1) put(in[k * n + i], at, Scalar(x[k]));
    });
    if (count) *count->ptr<double>() = t;
  }
}

}  // namespace

KEEL_REFERENCE_KERNEL(sgd_step) {
  k.input(0, Layout::contiguous).run([](const KernelArgs& a) -> KernelStatus {
    const auto& p = a.get<SgdStepParams>();
    const double* h = a.in[0].ptr<double>();
    each(a, 2, p.momentum ? 4 : 2, p.momentum, [&](double* x, double t) {
      double g = (p.maximize ? -x[1] : x[1]);
      if (h[3] != 0) g += h[3] * x[0];
      if (p.momentum) {
        x[2] = t == 1 ? g : h[1] * x[2] + (1 - h[2]) * g;
        g = p.nesterov ? g + h[1] * x[2] : x[2];
      }
      x[0] -= h[0] * g;
    }, p.master);
    return {};
  });
}
KEEL_REFERENCE_KERNEL(adam_step) {
  k.input(0, Layout::contiguous).run([](const KernelArgs& a) -> KernelStatus {
    const auto& p = a.get<AdamStepParams>();
    const double *h = a.in[0].ptr<double>(), lr = h[0], b1 = h[1], b2 = h[2], eps = h[3], decay = h[4];
    each(a, 2, p.amsgrad ? 6 : 5, true, [&](double* x, double t) {
      double g = (p.maximize ? -x[1] : x[1]);
      if (p.decoupled) x[0] -= lr * decay * x[0];
      else if (decay != 0) g += decay * x[0];
      x[2] = b1 * x[2] + (1 - b1) * g;
      x[3] = b2 * x[3] + (1 - b2) * g * g;
      double second = x[3];
      if (p.amsgrad) second = x[4] = x[3] > x[4] || std::isnan(x[3]) ? x[3] : x[4];
      x[0] -= lr * (x[2] / (1 - std::pow(b1, t))) / (std::sqrt(second / (1 - std::pow(b2, t))) + eps);
    }, p.master);
    return {};
  });
}
KEEL_REFERENCE_KERNEL(rmsprop_step) {
  k.input(0, Layout::contiguous).run([](const KernelArgs& a) -> KernelStatus {
    const auto& p = a.get<RmspropStepParams>();
    const double* h = a.in[0].ptr<double>();
    each(a, 2, 4 + p.centered + p.momentum, true, [&](double* x, double) {
      double g = (p.maximize ? -x[1] : x[1]);
      if (h[3] != 0) g += h[3] * x[0];
      x[2] = h[1] * x[2] + (1 - h[1]) * g * g;
      double square = x[2];
      if (p.centered) x[3] = h[1] * x[3] + (1 - h[1]) * g, square = std::isless(square, x[3] * x[3]) ? 0 : square - x[3] * x[3];
      double step = g / (std::sqrt(square) + h[2]);
      if (p.momentum) step = x[3 + p.centered] = h[4] * x[3 + p.centered] + step;
      x[0] -= h[0] * step;
    }, p.master);
    return {};
  });
}
KEEL_REFERENCE_KERNEL(ema_step) {
  k.input(0, Layout::contiguous).run([](const KernelArgs& a) -> KernelStatus {
    const double decay = *a.in[0].ptr<double>();
    each(a, 1, 2, false, [&](double* x, double) { x[0] = decay * x[0] + (1 - decay) * x[1]; });
    return {};
  });
}
KEEL_REFERENCE_KERNEL(clip_norm) {
  k.input(0, Layout::contiguous).run([](const KernelArgs& a) -> KernelStatus {
    const double order = a.get<ClipNormParams>().p;
    double sum = 0;
    for (int i = 1; i < a.n_in; ++i)
      each_index(a.in[i].shape(), [&](const int64_t* at) {
        const double v = std::fabs(get(a.in[i], at, a.in[i].rank()));
        if (std::isinf(order)) sum = std::isnan(v) || v > sum ? v : sum;
        else sum += std::pow(v, order);
      });
    const double norm = std::isinf(order) ? sum : std::pow(sum, 1 / order);
    write_scalar(a.out[0].data, a.out[0].dtype, Scalar(norm));
    const double limit = *a.in[0].ptr<double>(), factor = limit / (norm + 1e-6);
    if (!(factor >= 1) && !std::isinf(limit))
      for (int i = 1; i < a.n_in; ++i) each_index(a.in[i].shape(), [&](const int64_t* at) { put(a.in[i], at, Scalar(get(a.in[i], at, a.in[i].rank()) * factor)); });
    return {};
  });
}
KEEL_REFERENCE_KERNEL(unscale) {
  k.input(0, Layout::contiguous).run([](const KernelArgs& a) -> KernelStatus {
    const double factor = *a.in[0].ptr<double>();
    bool bad = false;
    for (int i = 1; i < a.n_in; ++i)
      each_index(a.in[i].shape(), [&](const int64_t* at) {
        const double v = get(a.in[i], at, a.in[i].rank());
        bad |= !std::isfinite(v);
        put(a.in[i], at, Scalar(v * factor));
      });
    write_scalar(a.out[0].data, a.out[0].dtype, Scalar(bad ? 1.0 : 0.0));
    return {};
  });
}
KEEL_REFERENCE_KERNEL(update_scale) {
  k.run([](const KernelArgs& a) -> KernelStatus {
    const auto& p = a.get<UpdateScaleParams>();
    double good = 1;
    for (int i = 2; i < a.n_in; ++i) good *= read_double(a.in[i].data, a.in[i].dtype) == 0;
    const double count = good * (double(*a.in[1].ptr<int64_t>()) + 1);
    const bool grows = count >= double(p.growth_interval);
    const double now = read_double(a.in[0].data, a.in[0].dtype);
    const float next = float(now * (good == 0 ? p.backoff_factor : grows ? p.growth_factor : 1));
    write_scalar(a.in[0].data, a.in[0].dtype, Scalar(std::isinf(next) ? now : double(next)));
    *a.in[1].ptr<int64_t>() = grows ? 0 : int64_t(count);
    return {};
  });
}
