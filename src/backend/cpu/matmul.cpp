// Kernels of matmul and linear over the packed GEMM: operands of any strides, batch axes broadcast by stride 0, bias in the epilogue, statistics taken from each finished block while it is in cache.
#include "backend/cpu/gemm/gemm.h"
#include "backend/cpu/loops/stat_rows.h"
#include "backend/kernel.h"
#include "keel/parallel.h"

namespace keel::cpu {
namespace {

Elem elem_of(DType t) { return t == f64 ? Elem::f64 : t == bf16 ? Elem::bf16 : t == f16 ? Elem::f16 : Elem::f32; }

struct Watch {
  DType dtype;
  StatSlot* slot;
  bool alone;  // one thread makes all blocks
};
void watch_block(void* context, const GemmBlock& block) {
  const Watch& w = *static_cast<Watch*>(context);
  StatSlot::Part part;  // beginning with what is known, so that most blocks bring nothing new
  part.max_bits = w.slot->max_bits.load(std::memory_order_relaxed), part.min_bits = w.slot->min_bits.load(std::memory_order_relaxed);
  stat_rows(w.dtype, block.c, block.rows, block.cols, block.ldc, part);
  w.alone ? merge_alone(*w.slot, part) : w.slot->merge(part);
}

GemmArgs matmul_args(const KernelArgs& args) {
  const TensorView &a = args.in[0], &b = args.in[1], &y = args.out[0];
  const bool row = a.rank() == 1, column = b.rank() == 1;
  GemmArgs g;
  g.in = g.out = elem_of(y.dtype);
  g.k = a.dim(a.rank() - 1), g.m = row ? 1 : a.dim(a.rank() - 2), g.n = column ? 1 : b.dim(b.rank() - 1);
  g.a = a.data, g.a_rs = row ? 0 : a.stride(a.rank() - 2), g.a_cs = a.stride(a.rank() - 1);
  g.b = b.data, g.b_rs = b.stride(column ? 0 : b.rank() - 2), g.b_cs = column ? 0 : b.stride(b.rank() - 1);
  g.c = y.data, g.ldc = g.n;
  g.batch_rank = y.rank() - (row ? 0 : 1) - (column ? 0 : 1);
  for (int i = 0; i < g.batch_rank; ++i) {
    const int ia = i - (g.batch_rank - (a.rank() - 2)), ib = i - (g.batch_rank - (b.rank() - 2));
    g.batch[i] = y.dim(i), g.c_bs[i] = y.stride(i);
    g.a_bs[i] = a.rank() > 2 && ia >= 0 && a.dim(ia) != 1 ? a.stride(ia) : 0;
    g.b_bs[i] = b.rank() > 2 && ib >= 0 && b.dim(ib) != 1 ? b.stride(ib) : 0;
  }
  return g;
}

GemmArgs linear_args(const KernelArgs& args) {
  const TensorView &x = args.in[0], &w = args.in[1], &y = args.out[0];
  const int last = x.rank() - 1;
  GemmArgs g;
  g.in = g.out = elem_of(y.dtype);
  g.k = w.dim(1), g.n = w.dim(0), g.m = last ? x.dim(last - 1) : 1;
  g.a = x.data, g.a_rs = last ? x.stride(last - 1) : 0, g.a_cs = x.stride(last);
  g.b = w.data, g.b_rs = w.stride(1), g.b_cs = w.stride(0);
  g.c = y.data, g.ldc = g.n;
  if (args.n_in > 2 && args.in[2].present()) g.epilogue.bias = args.in[2].data;
  g.batch_rank = last > 1 ? last - 1 : 0;
  for (int i = 0; i < g.batch_rank; ++i) g.batch[i] = x.dim(i), g.a_bs[i] = x.stride(i), g.c_bs[i] = y.stride(i);
  return g;
}

KernelStatus run(GemmArgs g, const KernelArgs& args) {
  Watch watch{args.out[0].dtype, args.stats[0], num_threads() == 1};
  if (args.stats[0]) g.epilogue.on_block = watch_block, g.epilogue.context = &watch;
  for (int i = 0; i < g.batch_rank; ++i)
    if (g.batch[i] == 0) return {};
  gemm(g, args.workspace, gemm_workspace_bytes(g));
  return {};
}

}  // namespace
}  // namespace keel::cpu

using namespace keel;

KEEL_CPU_KERNEL(matmul) {
  k.dtypes(kinds::floating)
      .refuses([](const void*, Specs in) -> const char* {
        return in[0].shape.rank() > 2 + cpu::kMaxBatchRank || in[1].shape.rank() > 2 + cpu::kMaxBatchRank ? "too many batch axes" : nullptr;
      })
      .workspace([](const KernelArgs& a) { return size_t(cpu::gemm_workspace_bytes(cpu::matmul_args(a))); })
      .stats()
      .run([](const KernelArgs& a) { return cpu::run(cpu::matmul_args(a), a); });
}
KEEL_CPU_KERNEL(linear) {
  k.dtypes(kinds::floating)
      .input(2, Layout::contiguous)
      .refuses([](const void*, Specs in) -> const char* {
        return in[0].shape.rank() > 2 + cpu::kMaxBatchRank ? "too many leading axes" : nullptr;
      })
      .workspace([](const KernelArgs& a) { return size_t(cpu::gemm_workspace_bytes(cpu::linear_args(a))); })
      .stats()
      .run([](const KernelArgs& a) { return cpu::run(cpu::linear_args(a), a); });
}
