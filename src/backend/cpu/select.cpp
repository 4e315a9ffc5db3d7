// Kernels that choose and mix: where, masked_fill, clamp, lerp, and cast.
#include "backend/cpu/elementwise.h"
#include "keel/ops/cast.h"

using namespace keel;
using namespace keel::cpu;

namespace {
KernelStatus select(const KernelArgs& a, int cond, int yes, int no) {
  const TensorView views[3] = {a.in[cond], a.in[yes], a.in[no]};
  KernelArgs b = a;
  b.in = views;
  Elementwise e;
  const DType t = a.out[0].dtype;
  e.form = Elementwise::Form::where, e.n_in = 3;
  e.in_as[0] = DType::boolean, e.in_as[1] = e.in_as[2] = e.out_as = t;
  return run_elementwise(b, e);
}
}  // namespace

KEEL_CPU_KERNEL(where) {
  elementwise(k).run([](const KernelArgs& a) { return select(a, 0, 1, 2); });
}
KEEL_CPU_KERNEL(masked_fill) {
  elementwise(k).run([](const KernelArgs& a) { return select(a, 1, 2, 0); });
}
KEEL_CPU_KERNEL(clamp) {
  elementwise(k).dtypes(kinds::real).run(run_clamp);
}
KEEL_CPU_KERNEL(lerp) {
  elementwise(k).dtypes(kinds::floating).run([](const KernelArgs& a) { return run_ternary(a, TernaryOp::lerp, nullptr, kCheap); });
}
KEEL_CPU_KERNEL(cast) {
  k.inputs(Layout::strided).outputs(Layout::like_inputs).stats().run([](const KernelArgs& a) {
    Elementwise e;
    e.in_as[0] = a.in[0].dtype, e.out_as = a.out[0].dtype;
    e.unary = convert_loop(a.in[0].dtype, a.out[0].dtype, !a.get<CastParams>().saturate);
    return run_elementwise(a, e);
  });
}
