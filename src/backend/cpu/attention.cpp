// Kernels of attention and its gradient over the tiles of attention/. Operands are strided views, so that heads need not be copied apart;
// the mask broadcasts by stride 0.
#include "backend/cpu/attention/attention.h"

#include "backend/cpu/loops/stat_rows.h"
#include "backend/kernel.h"
#include "keel/ops/attention.h"

namespace keel::cpu {
namespace {

HeadsView view_of(const TensorView& t) {
  HeadsView v{t.data, {}};
  for (int i = 0; i < t.rank(); ++i) v.stride[4 - t.rank() + i] = t.dim(i) == 1 ? 0 : t.stride(i);
  return v;
}
MaskKind mask_kind(DType t) {
  return t == f32 ? MaskKind::f32 : t == f64 ? MaskKind::f64 : t == bf16 ? MaskKind::bf16 : t == f16 ? MaskKind::f16 : MaskKind::boolean;
}

/// What both directions share; q, k, v and mask at these places among the inputs.
AttentionArgs common_args(const KernelArgs& a, int q, int mask) {
  const TensorView &tq = a.in[q], &tk = a.in[q + 1], &tv = a.in[q + 2];
  const auto& p = a.get<AttentionParams>();
  AttentionArgs args;
  args.e = tq.dtype == f64 ? Elem::f64 : tq.dtype == bf16 ? Elem::bf16 : tq.dtype == f16 ? Elem::f16 : Elem::f32;
  args.b = tq.dim(0), args.heads = tq.dim(1), args.kv_heads = tk.dim(1), args.t = tq.dim(2), args.s = tk.dim(2), args.d = tq.dim(3),
  args.dv = tv.dim(3);
  args.q = view_of(tq), args.k = view_of(tk), args.v = view_of(tv);
  args.causal = p.causal, args.scale = p.factor(args.d);
  if (a.n_in > mask && a.in[mask].present()) args.mask = view_of(a.in[mask]), args.mask_kind = mask_kind(a.in[mask].dtype);
  return args;
}
AttentionArgs forward_args(const KernelArgs& a) {
  AttentionArgs args = common_args(a, 0, 3);
  args.y = view_of(a.out[0]);
  if (a.n_out > 1 && a.out[1].present()) args.lse = a.out[1].data;
  return args;
}
AttentionArgs backward_args(const KernelArgs& a) {
  AttentionArgs args = common_args(a, 1, 6);
  args.g = view_of(a.in[0]), args.y_in = view_of(a.in[4]), args.lse = a.in[5].data;
  args.dq = view_of(a.out[0]), args.dk = view_of(a.out[1]), args.dv_out = view_of(a.out[2]);
  return args;
}

struct Watch {
  const KernelArgs& args;
  static void see(void* context, int out, const void* p, int64_t rows, int64_t n, int64_t step) {
    const KernelArgs& a = static_cast<const Watch*>(context)->args;
    if (!a.stats[out]) return;
    StatSlot::Part part;
    stat_rows(a.out[out].dtype, p, rows, n, step, part);
    a.stats[out]->merge(part);
  }
};
template <class F>
KernelStatus run_watched(const KernelArgs& a, AttentionArgs args, F f) {
  Watch watch{a};
  for (int i = 0; i < a.n_out; ++i)
    if (a.stats[i]) args.watch = Watch::see, args.context = &watch;
  f(args);
  return {};
}

}  // namespace
}  // namespace keel::cpu

using namespace keel;

KEEL_CPU_KERNEL(attention) {
  k.dtypes(kinds::floating)
      .output(0, Layout::rows)
      .stats()
      .workspace([](const KernelArgs& a) { return size_t(cpu::attention_workspace(cpu::forward_args(a))); })
      .run([](const KernelArgs& a) {
        return cpu::run_watched(a, cpu::forward_args(a), [&](const cpu::AttentionArgs& args) {
          cpu::attention_forward(args, a.workspace, cpu::attention_workspace(args));
        });
      });
}
KEEL_CPU_KERNEL(attention_backward) {
  k.dtypes(kinds::floating)
      .outputs(Layout::rows)
      .input(5, Layout::contiguous)
      .stats()
      .workspace([](const KernelArgs& a) { return size_t(cpu::attention_backward_workspace(cpu::backward_args(a))); })
      .run([](const KernelArgs& a) {
        return cpu::run_watched(a, cpu::backward_args(a), [&](const cpu::AttentionArgs& args) {
          cpu::attention_backward(args, a.workspace, cpu::attention_backward_workspace(args));
        });
      });
}
