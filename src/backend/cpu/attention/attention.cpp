// Planning of attention: a thread takes heads of keys with their groups of query heads. Where there are fewer such heads than threads, the
// query tiles of a head are dealt out too; backward then makes dq by tiles of queries and dk, dv by tiles of keys, each in the order of the
// single pass, so that the bits stay the same.
#include "backend/cpu/attention/attention.h"

#include <algorithm>

#include "backend/cpu/attention/task.h"
#include "backend/cpu/gemm/task.h"
#include "keel/parallel.h"

namespace keel::cpu {
namespace {

constexpr double kFlopsPerThread = 1e6;

const AttentionKernels& kernels(const AttentionArgs& a) { return a.e == Elem::f64 ? attention_kernels_f64() : attention_kernels_f32(); }

struct Plan {
  int64_t heads, parts, kinds,
      threads;  // heads of keys; parts of each; 2 where dq and dk, dv are made apart; threads that share heads * parts * kinds
};
Plan make_plan(const AttentionArgs& a, bool backward, int64_t most) {
  const double flops = 2.0 * double(a.b * a.heads * a.t) * double(a.s) * double(a.d + a.dv) * (backward ? 2.5 : 1) * (a.causal ? 0.5 : 1);
  const int64_t heads = a.b * a.kv_heads, threads = std::clamp<int64_t>(int64_t(flops / kFlopsPerThread), 1, most);
  if (heads >= threads || heads == 0) return {heads, 1, 1, std::max<int64_t>(std::min(threads, heads), 1)};
  const int64_t tiles = std::max<int64_t>(backward ? std::min(query_tiles(a), key_tiles(a)) : query_tiles(a), 1);
  const int64_t parts = std::min((threads + heads - 1) / heads, tiles), kinds = backward && parts > 1 ? 2 : 1;
  return {heads, parts, kinds, std::min(threads, heads * parts * kinds)};
}

int64_t bytes_a_thread(const AttentionArgs& a, bool backward) {
  return round_up(backward ? kernels(a).backward_bytes(a) : kernels(a).forward_bytes(a), 64);
}

void run(const AttentionArgs& a, bool backward, void* workspace, int64_t workspace_bytes) {
  const AttentionKernels& kernel = kernels(a);
  const int64_t bytes = bytes_a_thread(a, backward), tiles = query_tiles(a), keys = key_tiles(a);
  const Plan p = make_plan(a, backward, std::max<int64_t>(std::min(num_threads(), workspace_bytes / bytes), 1));
  const int64_t total = p.heads * p.parts * p.kinds;
  const auto share = [&](int64_t lo, int64_t hi) {
    for (int64_t slot = lo; slot < hi; ++slot)
      for (int64_t i = slot * total / p.threads; i < (slot + 1) * total / p.threads; ++i) {
        const int64_t head = i / (p.parts * p.kinds), part = i / p.kinds % p.parts, kind = i % p.kinds;
        AttentionTask t{
            &a, head / a.kv_heads, head % a.kv_heads, 0, tiles, 0, keys, true, true, static_cast<char*>(workspace) + slot * bytes};
        if (p.kinds == 2) t.makes_dq = kind == 0, t.makes_dkv = kind == 1;
        if (t.makes_dq) t.tile0 = part * tiles / p.parts, t.tile1 = (part + 1) * tiles / p.parts;
        if (p.kinds == 2 && t.makes_dkv) t.key0 = part * keys / p.parts, t.key1 = (part + 1) * keys / p.parts;
        backward ? kernel.backward(t) : kernel.forward(t);
      }
  };
  if (p.threads <= 1)
    share(0, p.threads);
  else
    parallel_for(0, p.threads, 1, share);
}

}  // namespace

int64_t attention_workspace(const AttentionArgs& a) { return make_plan(a, false, num_threads()).threads * bytes_a_thread(a, false); }
void attention_forward(const AttentionArgs& a, void* workspace, int64_t workspace_bytes) { run(a, false, workspace, workspace_bytes); }
int64_t attention_backward_workspace(const AttentionArgs& a) { return make_plan(a, true, num_threads()).threads * bytes_a_thread(a, true); }
void attention_backward(const AttentionArgs& a, void* workspace, int64_t workspace_bytes) { run(a, true, workspace, workspace_bytes); }

}  // namespace keel::cpu
