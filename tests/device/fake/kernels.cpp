// Kernels for the fake device, where KEEL_FAKE_KERNELS is set: those of the CPU, on memory that is opened to them. While the device
// records, a call is kept with its views and parameters, and runs in every replay: what it reads of host memory is what was there when it
// was kept.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "backend/device_kernels.h"
#include "device/fake/queue.h"
#include "op/scope.h"

namespace keel {
namespace {

constexpr size_t kMost = 768;
struct Served {
  const OpDef* op = nullptr;
  const KernelEntry* kernel = nullptr;
};
Served served[kMost];

FakeQueue& queue_of(const KernelArgs& a) { return *static_cast<FakeQueue*>(a.stream); }

/// A call with everything that it looks at.
struct Kept {
  const KernelEntry* kernel;
  KernelArgs args;
  std::vector<Shape> shapes;
  std::vector<Strides> strides;
  std::vector<TensorView> views;
  std::vector<std::vector<std::byte>> host;
  std::vector<std::byte> params;

  Kept(const Served& s, const KernelArgs& a, bool copy) : kernel(s.kernel), args(a) {
    const FakeQueue& q = queue_of(a);
    const size_t n = size_t(a.n_in + a.n_out);
    shapes.reserve(n), strides.reserve(n), views.reserve(n);
    for (int i = 0; i < a.n_in + a.n_out; ++i) {
      TensorView v = i < a.n_in ? a.in[i] : a.out ? a.out[i - a.n_in] : TensorView{};
      if (v.present()) {
        shapes.push_back(v.shape()), strides.push_back(v.strides());
        v.shape_ = &shapes.back(), v.strides_ = &strides.back();
        if (!v.on_host) {
          v.data = q.open(v.data);
        } else if (copy) {
          int64_t elements = 1;
          for (int k = 0; k < v.rank(); ++k) elements += (v.dim(k) - 1) * v.stride(k);
          host.emplace_back(size_t(elements) * size_of(v.dtype));
          std::memcpy(host.back().data(), v.data, host.back().size());
          v.data = host.back().data();
        }
        v.on_host = true;
      }
      views.push_back(v);
    }
    const auto* p = static_cast<const std::byte*>(a.params);
    if (p && s.op->params.size) params.assign(p, p + s.op->params.size);
    args.params = params.empty() ? nullptr : params.data(), args.in = views.data(), args.out = views.data() + a.n_in;
    args.workspace = q.open(a.workspace), args.stream = nullptr, args.device = 0;
  }
};

// What a function of each place calls with its place; they are many, so nothing of these goes into them.
[[gnu::noinline]] KernelStatus run_at(size_t at, const KernelArgs& a) {
  FakeQueue& q = queue_of(a);
  if (!q.recording()) {
    Kept k(served[at], a, false);
    StepGuard guard;  // its notes go to a board, as a device's do
    if (a.guard) guard.holds = a.guard->holds, k.args.guard = &guard;
    const KernelStatus status = k.kernel->run(k.args);
    if (guard.elements) {
      auto& slot = *static_cast<BoardSlot*>(q.open(a.guard->board));
      slot.seen += uint64_t(guard.elements), slot.part |= guard.lists, slot.first = std::max(slot.first, ~uint64_t(guard.tensor));
    }
    return status;
  }
  q.keep(
      [](void* p) {
        const Kept& k = *static_cast<Kept*>(p);
        if (k.kernel->run(k.args).code) std::abort();
      },
      [](void* p) { delete static_cast<Kept*>(p); }, new Kept(served[at], a, true));
  return {};
}
[[gnu::noinline]] KernelStatus count_at(size_t at, const KernelArgs& a, Shape* out) {
  const Kept k(served[at], a, false);
  return k.kernel->count(k.args, out);
}
[[gnu::noinline]] size_t workspace_at(size_t at, const KernelArgs& a) {
  const Kept k(served[at], a, false);
  return k.kernel->workspace(k.args);
}
template <size_t I>
KernelStatus run_served(const KernelArgs& a) {
  return run_at(I, a);
}
template <size_t I>
KernelStatus count_served(const KernelArgs& a, Shape* out) {
  return count_at(I, a, out);
}
template <size_t I>
size_t workspace_served(const KernelArgs& a) {
  return workspace_at(I, a);
}

struct Functions {
  KernelFn run[kMost];
  KernelStatus (*count[kMost])(const KernelArgs&, Shape*);
  size_t (*workspace[kMost])(const KernelArgs&);
};
template <size_t... I>
constexpr Functions functions_of(std::index_sequence<I...>) {
  return {{run_served<I>...}, {count_served<I>...}, {workspace_served<I>...}};
}
constexpr Functions functions = functions_of(std::make_index_sequence<kMost>());

class FakeKernels : public ::testing::Environment {
  void SetUp() override {
    if (!std::getenv("KEEL_FAKE_KERNELS")) return;
    const DeviceDriver* driver = device_driver(DeviceType::webgpu);
    if (!driver) return;
    static std::array<KernelEntry, kMost> entries;
    static std::vector<DeviceKernel> items;
    for (int64_t i = 0; i < registry().size(); ++i) {
      const OpDef& op = registry().op(i);
      if (std::string_view(op.name) == "cumsum") continue;  // what a device has no kernel for
      for (const KernelEntry* k = cpu_kernels().first(op); k; k = k->next) {
        ASSERT_LT(items.size(), kMost);
        const size_t at = items.size();
        KernelEntry& e = entries[at];
        served[at] = {&op, k};
        e = *k;
        e.run = functions.run[at], e.count = k->count ? functions.count[at] : nullptr;
        e.workspace = k->workspace ? functions.workspace[at] : nullptr;
        e.stats = false, e.next = nullptr;
        items.push_back({op.name, &e});
      }
    }
    auto& list = *const_cast<DeviceKernels*>(static_cast<const DeviceKernels*>(driver->kernels));
    list.items = items.data(), list.count = int32_t(items.size());
  }
};
[[maybe_unused]] const auto* const added = ::testing::AddGlobalTestEnvironment(new FakeKernels);

}  // namespace
}  // namespace keel
