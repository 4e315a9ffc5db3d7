// Running statistics of batch_norm by their definition.
#include "backend/reference/walk.h"
#include "keel/ops/norm.h"

using namespace keel;
using namespace keel::reference;

KEEL_REFERENCE_KERNEL(batch_norm_update) {
  k.run([](const KernelArgs& a) -> KernelStatus {
    const auto& p = a.get<BatchNormUpdateParams>();
    for (int64_t c = 0; c < a.in[0].dim(0); ++c) {
      const auto value = [&](int i) { return get(a.in[i], &c, 1); };
      const double mean = value(0) + p.momentum * (value(3) - value(0));
      const double var = value(1) + p.momentum * (value(4) * double(p.count) / double(p.count - 1) - value(1));
      put(a.in[0], &c, Scalar(mean)), put(a.in[1], &c, Scalar(var));
    }
    ++*a.in[2].ptr<int64_t>();
    return {};
  });
}
