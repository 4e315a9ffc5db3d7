#include "backend/cuda/pointwise.h"

#include <cstring>

#include "backend/cuda/layout.h"

namespace keel::cuda {
namespace {

/// A call on N operands, for whatever function and types.
template <int N>
struct Call {
  const KernelArgs& a;
  const PointwiseKernels& k;
  const TensorView* const (&operands)[N];
  const Walk<N> walk{operands};
  const int64_t n = operands[0]->size();

  bool aligned(int i) const { return reinterpret_cast<uintptr_t>(operands[i]->data) % (size_t(k.pack) * k.sizes[i]) == 0; }
  /// Whether elements lie in a row without gaps and in whole packs; an input may be one element.
  bool dense() const {
    for (int i = 0; i < N; ++i)
      if (!(i > 0 && walk.constant(i)) && !(walk.dense(i) && aligned(i))) return false;
    return true;
  }
  /// Whether this holds along the innermost axis, in packs that are whole everywhere.
  bool rows() const {
    if (walk.rank == 0 || walk.stride[0][0] != 1 || walk.extent[0] % k.pack) return false;
    for (int i = 0; i < N; ++i) {
      if (walk.stride[i][0] == 0) continue;  // one element a row
      if (walk.stride[i][0] != 1 || !aligned(i)) return false;
      for (int axis = 1; axis < walk.rank; ++axis)
        if (walk.stride[i][axis] % k.pack) return false;
    }
    return true;
  }

  /// Starts one of the kernels, whose arguments begin with the function and the number of elements, and end in the operands.
  KernelStatus start(const PointwiseKernels::Form& form, unsigned blocks, const void* f, const void* between) const {
    void* y = operands[0]->data;
    AnySource sources[N] = {};
    void* arguments[4 + N] = {const_cast<void*>(f), const_cast<int64_t*>(&n)};
    int count = 2;
    if (between) arguments[count++] = const_cast<void*>(between);
    arguments[count++] = &y;
    for (int i = 1; i < N; ++i) {
      const TensorView& v = *operands[i];
      const size_t size = k.sizes[i];
      unsigned char* const to = sources[i].bytes;
      const void* const p = v.on_host ? nullptr : v.data;
      std::memcpy(to, &p, sizeof p);
      if (v.on_host) std::memcpy(to + AnySource::value_at(size), v.data, size);
      to[AnySource::one_at(size)] = walk.constant(i);
      arguments[count++] = to;
    }
    return launched(cuda::start(*form.handles, form.kernel, a.device, dim3(blocks), kThreads, stream(a), arguments));
  }
  KernelStatus run(const void* f) const {
    const auto blocks = unsigned(ceil_div(n, int64_t(kThreads) * k.pack));
    if (dense()) {
      BoardSlot* const slot = k.watched.kernel ? board_slot(a, 0) : nullptr;
      if (slot) return start(k.watched, std::min(blocks, 32u * unsigned(processors(a.device))), f, &slot);
      return then_watch(a, start(k.dense, blocks, f, nullptr));
    }
    const DeviceWalk<N> w(walk, n);
    if (k.rows.kernel && rows()) return then_watch(a, start(k.rows, blocks, f, &w));
    return then_watch(a, start(k.strided, unsigned(ceil_div(n, kThreads)), f, &w));
  }
};

template <int N>
KernelStatus run(const KernelArgs& a, const PointwiseKernels& k, const void* f, const TensorView* const* operands) {
  const TensorView* all[N];
  std::copy_n(operands, N, all);
  return Call<N>{a, k, all}.run(f);
}

}  // namespace

KernelStatus start_pointwise(const KernelArgs& a, const PointwiseKernels& k, const void* f, const TensorView* const* operands, int n) {
  if (operands[0]->size() == 0) return {};
  use(a.device);
  switch (n) {
    case 1: return run<1>(a, k, f, operands);
    case 2: return run<2>(a, k, f, operands);
    case 3: return run<3>(a, k, f, operands);
    case 4: return run<4>(a, k, f, operands);
    case 5: return run<5>(a, k, f, operands);
    case 6: return run<6>(a, k, f, operands);
    case 7: return run<7>(a, k, f, operands);
    default: return run<8>(a, k, f, operands);
  }
}

}  // namespace keel::cuda
