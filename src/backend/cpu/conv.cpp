// Kernels of conv2d and its two gradients over the implicit matrix products of conv/. Images must be channels-last, weights row-major; dispatch copies what is not.
#include "backend/cpu/conv/conv.h"

#include "backend/kernel.h"
#include "keel/ops/conv.h"

namespace keel::cpu {
namespace {

Elem elem_of(DType t) { return t == f64 ? Elem::f64 : t == bf16 ? Elem::bf16 : t == f16 ? Elem::f16 : Elem::f32; }

template <class P>
ConvShape conv_shape(const P& p, const Shape& x, const Shape& weight, const Shape& y) {
  return {x[0],      x[1],        x[2],        x[3],         y[1],         y[2],          y[3],          weight[2],
          weight[3], p.stride[0], p.stride[1], p.padding[0], p.padding[1], p.dilation[0], p.dilation[1], p.groups};
}
ConvShape forward_shape(const KernelArgs& a) {
  return conv_shape(a.get<Conv2dParams>(), a.in[0].shape(), a.in[1].shape(), a.out[0].shape());
}
ConvShape input_shape(const KernelArgs& a) {
  return conv_shape(a.get<Conv2dBackwardParams>(), a.out[0].shape(), a.in[1].shape(), a.in[0].shape());
}
ConvShape weight_shape(const KernelArgs& a) {
  return conv_shape(a.get<Conv2dBackwardParams>(), a.in[1].shape(), a.out[0].shape(), a.in[0].shape());
}

const char* too_large(const void*, Specs in) { return in[1].shape[2] > 32 || in[1].shape[3] > 32 ? "windows beyond 32 x 32" : nullptr; }
const char* too_large_extent(const void* params, Specs) {
  const auto& p = *static_cast<const Conv2dBackwardParams*>(params);
  return p.extent[0] > 32 || p.extent[1] > 32 ? "windows beyond 32 x 32" : nullptr;
}

}  // namespace
}  // namespace keel::cpu

using namespace keel;

KEEL_CPU_KERNEL(conv2d) {
  k.dtypes(kinds::floating)
      .input(0, Layout::channels_last)
      .input(1, Layout::contiguous)
      .input(2, Layout::contiguous)
      .output(0, Layout::channels_last)
      .refuses(cpu::too_large)
      .workspace(
          [](const KernelArgs& a) { return size_t(cpu::conv_forward_workspace(cpu::elem_of(a.in[0].dtype), cpu::forward_shape(a))); })
      .stats()
      .run([](const KernelArgs& a) -> KernelStatus {
        const void* bias = a.n_in > 2 && a.in[2].present() ? a.in[2].data : nullptr;
        cpu::conv_forward(cpu::elem_of(a.in[0].dtype), cpu::forward_shape(a), a.in[0].data, a.in[1].data, bias, a.out[0].data, a.stats[0],
                          a.workspace);
        return {};
      });
}
KEEL_CPU_KERNEL(conv2d_backward_input) {
  k.dtypes(kinds::floating)
      .input(0, Layout::channels_last)
      .input(1, Layout::contiguous)
      .output(0, Layout::channels_last)
      .refuses(cpu::too_large)
      .workspace(
          [](const KernelArgs& a) { return size_t(cpu::conv_backward_input_workspace(cpu::elem_of(a.in[0].dtype), cpu::input_shape(a))); })
      .stats()
      .run([](const KernelArgs& a) -> KernelStatus {
        cpu::conv_backward_input(cpu::elem_of(a.in[0].dtype), cpu::input_shape(a), a.in[0].data, a.in[1].data, a.out[0].data, a.stats[0],
                                 a.workspace);
        return {};
      });
}
KEEL_CPU_KERNEL(conv2d_backward_weight) {
  k.dtypes(kinds::floating)
      .input(0, Layout::channels_last)
      .input(1, Layout::channels_last)
      .refuses(cpu::too_large_extent)
      .workspace([](const KernelArgs& a) {
        return size_t(cpu::conv_backward_weight_workspace(cpu::elem_of(a.in[0].dtype), cpu::weight_shape(a)));
      })
      .stats()
      .run([](const KernelArgs& a) -> KernelStatus {
        cpu::conv_backward_weight(cpu::elem_of(a.in[0].dtype), cpu::weight_shape(a), a.in[0].data, a.in[1].data, a.out[0].data, a.stats[0],
                                  a.workspace);
        return {};
      });
}
