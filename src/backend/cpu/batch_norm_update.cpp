// Running statistics of batch_norm: a few numbers a channel.
#include "backend/kernel.h"
#include "keel/ops/norm.h"

namespace keel::cpu {
namespace {

template <class T>
void update(const KernelArgs& a) {
  const auto& p = a.get<BatchNormUpdateParams>();
  const T keep = T(1 - p.momentum), share = T(p.momentum), unbiased = T(double(p.count) / double(p.count - 1));
  const auto at = [&](int i, int64_t c) -> T& { return a.in[i].ptr<T>()[c * a.in[i].stride(0)]; };
  for (int64_t c = 0; c < a.in[0].dim(0); ++c) {
    at(0, c) = at(0, c) * keep + at(3, c) * share;
    at(1, c) = at(1, c) * keep + at(4, c) * unbiased * share;
  }
  ++*a.in[2].ptr<int64_t>();
}

}  // namespace
}  // namespace keel::cpu

KEEL_CPU_KERNEL(batch_norm_update) {
  k.dtypes(keel::set_of(keel::f32, keel::f64)).run([](const keel::KernelArgs& a) -> keel::KernelStatus {
    a.in[0].dtype == keel::f64 ? keel::cpu::update<double>(a) : keel::cpu::update<float>(a);
    return {};
  });
}
