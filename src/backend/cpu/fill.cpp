// Constants: the pattern of one element is repeated.
#include <algorithm>
#include <cstring>

#include "backend/kernel.h"
#include "core/impl.h"
#include "keel/ops/creation.h"
#include "keel/parallel.h"

namespace keel::cpu {
namespace {

struct Wide {
  uint64_t a, b;
};
template <class T>
void fill(const TensorView& y, const std::byte* value) {
  T v;
  std::memcpy(&v, value, sizeof v);
  parallel_for(0, y.size(), 1 << 16, [&](int64_t lo, int64_t hi) { std::fill(y.ptr<T>() + lo, y.ptr<T>() + hi, v); });
}

}  // namespace
}  // namespace keel::cpu

using namespace keel;

KEEL_CPU_KERNEL(full) {
  k.run([](const KernelArgs& a) -> KernelStatus {
    alignas(16) std::byte value[16];
    write_scalar(value, a.out[0].dtype, a.get<FullParams>().value);
    switch (size_of(a.out[0].dtype)) {
      case 1: cpu::fill<uint8_t>(a.out[0], value); break;
      case 2: cpu::fill<uint16_t>(a.out[0], value); break;
      case 4: cpu::fill<uint32_t>(a.out[0], value); break;
      case 8: cpu::fill<uint64_t>(a.out[0], value); break;
      default: cpu::fill<cpu::Wide>(a.out[0], value);
    }
    return {};
  });
}
