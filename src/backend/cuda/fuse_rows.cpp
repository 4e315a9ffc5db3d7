// Sources of chains with ops on rows. A warp or a block takes a row, each thread the same elements as in the ops' own kernels, which keeps
// the order of every sum. Between two ops on rows elements are computed one by one, in stages: what a later stage needs of an earlier one
// stays in registers.
#include <algorithm>

#include "backend/cuda/fuse_text.h"

namespace keel::cuda {

RowPlan row_plan(DType t, int64_t n) {
  const auto v = int64_t(16 / size_of(t));
  if (n % v || n >= 65536) return {};  // beyond that a few rows are cut
  for (const int group : {32, 128, 512, 1024})
    if (n <= group * v * 8) return {group, int((n + group * v - 1) / (group * v))};
  return {};
}

namespace {

bool on_rows(const FusedOp& o) {
  const std::string_view op = o.op;
  for (const char* name : {"softmax", "log_softmax", "softmax_backward", "log_softmax_backward", "layer_norm", "rms_norm"})
    if (op == name) return true;
  return false;
}
/// Operands that whole rows are gathered of; a norm's weight and bias are not.
int gathered(const FusedOp& o) { return std::string_view(o.op).find("norm") != std::string_view::npos ? 1 : o.n_in; }

}  // namespace

FuseSource rows_source(const FusedProgram& p) {
  FuseSource s;
  FuseWriter f(p, s);
  const int many = f.many(), reads = f.reads, slots = p.n_sources + p.n_ops;
  const int64_t n = p.shape[-1], rows = p.shape.numel() / n;
  DType main = DType::none;
  for (int i = 0; i < p.n_ops; ++i)
    if (on_rows(p.ops[i])) main = p.ops[i].dtype;
  const RowPlan plan = row_plan(main, n);
  const auto vector = int64_t(16 / size_of(main));
  s.block = plan.block();
  const int together = s.block / plan.group;
  s.threads_of_packs = s.threads_of_single = (rows + together - 1) / together * s.block;

  // Stages, and the last one in which each slot is read. Sources are read anew in each.
  std::vector<int> stage(size_t(slots), 0), last(size_t(slots), -1);
  std::vector<char> kept(size_t(slots), 0);
  int stages = 1;
  for (int i = 0; i < p.n_ops; ++i) {
    const FusedOp& o = p.ops[i];
    int at = 0;
    for (int k = 0; k < o.n_in; ++k) at = std::max(at, stage[size_t(o.in[k])]);
    if (on_rows(o)) {
      for (int k = 0; k < gathered(o); ++k) kept[size_t(o.in[k])] = 1;
      ++at;
    }
    stage[size_t(p.n_sources + i)] = at;
    stages = std::max(stages, at + 1);
    for (int k = 0; k < o.n_in; ++k) last[size_t(o.in[k])] = std::max(last[size_t(o.in[k])], at);
  }
  for (int i = p.n_sources; i < slots; ++i) kept[size_t(i)] |= last[size_t(i)] > stage[size_t(i)];

  // The argument: rows, elements a row, operands, distances within a row.
  f.add(uint64_t(rows)), f.add(uint64_t(n));
  const Strides& lead = p.results[0].strides;
  const auto inner = [&](int k) { return f.is_result(k) && f.result(k).part ? 0 : f.strides(k)[p.shape.rank() - 1]; };
  const std::vector<FuseWriter::Axis> axes = f.axes(p.shape.rank() - 1, lead);
  bool packs = vector > 1;
  std::vector<int> align;
  for (int k = 0; k < many; ++k) {
    const bool runs = inner(k) == 1;
    packs = packs && (runs || inner(k) == 0);
    for (const FuseWriter::Axis& a : axes) packs = packs && (!runs || a.stride[k] % vector == 0);
    align.push_back(runs ? int(size_of(f.dtype(k)) * size_t(vector)) : 0);
  }
  if (!packs) std::fill(align.begin(), align.end(), 0);
  s.has_packs = packs;
  f.add_operands(align);
  std::vector<std::string> step;
  for (int k = 0; k < many; ++k)
    step.push_back(inner(k) > 1 || inner(k) < 0 ? "int64_t(w[" + text_of(f.add(uint64_t(inner(k)))) + "])" : text_of(inner(k)));
  const std::string offsets = f.offsets(axes, rows >= INT32_MAX, "row");

  std::string t;
  const auto type_of = [&](int slot) { return std::string(type_text(p.dtype_of(FusedSlot(slot)))); };
  const auto held = [](int slot) { return "q" + text_of(slot); };
  t += "  constexpr int V = " + text_of(vector) + ", G = " + text_of(plan.group) + ", P = " + text_of(plan.packs) +
       ", together = " + text_of(together) + ";\n";
  t += "  const int64_t row = int64_t(blockIdx.x) * together + threadIdx.x / G, n = int64_t(w[1]);\n  if (row >= int64_t(w[0])) return;\n"
       "  const int lane = int(threadIdx.x) % G;\n" +
       offsets;
  for (int i = 0; i < slots; ++i) {
    if (!kept[size_t(i)]) continue;
    // Rows that ops gather are of their dtype; others are kept alike, in packs of as many elements.
    t += p.dtype_of(FusedSlot(i)) == main ? "  RowOf<" + type_of(i) + ", G, P> " + held(i) + "(n, lane);\n"
                                          : "  struct {\n    Pack<" + type_of(i) + ", V> kept[P];\n  } " + held(i) + ";\n";
  }
  for (int now = 0; now < stages; ++now) {
    // What whole rows give, for the ops of this stage.
    for (int i = 0; i < p.n_ops; ++i) {
      const FusedOp& o = p.ops[i];
      if (!on_rows(o) || stage[size_t(p.n_sources + i)] != now) continue;
      const std::string& object = f.functions[size_t(i)];
      const size_t brace = object.find('{');
      const std::string parameters = object.substr(brace + 1, object.size() - brace - 2);
      t += "  const auto g" + text_of(p.n_sources + i) + " = " + object.substr(0, brace) + "::gather(";
      for (int k = 0; k < gathered(o); ++k) t += (k ? ", " : "") + held(o.in[k]);
      t += (parameters.empty() ? "" : ", " + parameters) + ");\n";
      for (int k = reads; k < many; ++k)
        if (f.result(k).slot == p.n_sources + i && f.result(k).part)
          t += "  if (lane == 0) *(" + f.pointer(k) + " + o" + text_of(k) + ") = " + object.substr(0, brace) + "::part(g" +
               text_of(p.n_sources + i) + ", " + text_of(f.result(k).part) + ");\n";
    }
    // Which slots the stage needs from elsewhere.
    std::vector<char> needed(size_t(slots), 0);
    const auto need = [&](int slot) { needed[size_t(slot)] = 1; };
    for (int i = 0; i < p.n_ops; ++i)
      if (stage[size_t(p.n_sources + i)] == now)
        for (int k = 0; k < p.ops[i].n_in; ++k) need(p.ops[i].in[k]);
    for (int k = reads; k < many; ++k)
      if (!f.result(k).part && f.result(k).slot < p.n_sources && now == 0) need(f.result(k).slot);
    if (now == 0)
      for (int i = 0; i < p.n_sources; ++i)
        if (kept[size_t(i)]) need(i);
    // All packs are asked for before the first is used, where registers allow it.
    int asked = 0;
    for (int k = 0; k < reads; ++k) asked += needed[size_t(f.tensors[size_t(k)])] && !(kept[size_t(f.tensors[size_t(k)])] && now > 0);
    const bool ahead = asked * plan.packs <= 12;
    std::string arrays, early, loads, values;
    for (int k = 0; k < reads; ++k) {
      const int slot = f.tensors[size_t(k)];
      if (!needed[size_t(slot)]) continue;
      if (kept[size_t(slot)] && now > 0) {
        values += "      const " + type_of(slot) + " " + slot_text(slot) + " = " + held(slot) + ".kept[k].v[j];\n";
        continue;
      }
      const std::string from = "fetch<whole, V>(" + f.pointer(k) + " + o" + text_of(k) + ", i, " + step[size_t(k)] + ");\n",
                        pack = "s" + text_of(k) + "_" + text_of(now) + (ahead ? "[k]" : "");
      if (ahead) arrays += "  Pack<" + f.type(k) + ", V> s" + text_of(k) + "_" + text_of(now) + "[P];\n";
      (ahead ? early : loads) += (ahead ? "    " : "    const auto ") + pack + " = " + from;
      values += "      const " + type_of(slot) + " " + slot_text(slot) + " = " + pack + ".v[j];\n";
      if (kept[size_t(slot)]) values += "      " + held(slot) + ".kept[k].v[j] = " + slot_text(slot) + ";\n";
    }
    for (int i = 0; i < p.n_sources; ++i)
      if (p.sources[i].number && needed[size_t(i)])
        values += "      const " + type_of(i) + " " + slot_text(i) + " = number<" + type_of(i) + ">(w[" +
                  text_of(f.word_of_number[size_t(i)]) + "]);\n";
    for (int i = p.n_sources; i < slots; ++i)
      if (needed[size_t(i)] && stage[size_t(i)] < now)
        values += "      const " + type_of(i) + " " + slot_text(i) + " = " + held(i) + ".kept[k].v[j];\n";
    for (int i = 0; i < p.n_ops; ++i) {
      const int slot = p.n_sources + i;
      if (stage[size_t(slot)] != now) continue;
      values += "      const " + type_of(slot) + " " + slot_text(slot) + " = " + f.call(i) + ";\n";
      if (kept[size_t(slot)]) values += "      " + held(slot) + ".kept[k].v[j] = " + slot_text(slot) + ";\n";
    }
    std::string stores;
    for (int k = reads; k < many; ++k) {
      const int slot = f.result(k).slot;
      if (f.result(k).part || stage[size_t(slot)] != now) continue;
      loads += "    Pack<" + f.type(k) + ", V> r" + text_of(k) + ";\n";
      values += "      r" + text_of(k) + ".v[j] = " + slot_text(slot) + ";\n";
      stores += "    put<whole, V>(" + f.pointer(k) + " + o" + text_of(k) + ", i, " + step[size_t(k)] + ", r" + text_of(k) + ");\n";
    }
    const std::string loop =
        "#pragma unroll\n  for (int k = 0; k < P; ++k) {\n    const int64_t i = (int64_t(k) * G + lane) * V;\n    if (i >= n) break;\n";
    if (!early.empty()) t += arrays + loop + early + "  }\n";
    t += loop + loads + "#pragma unroll\n    for (int j = 0; j < V; ++j) {\n" + values + "    }\n" + stores + "  }\n";
  }
  const std::string bounds = text_of(s.block);
  s.text =
      "#include \"backend/cuda/fused.cuh\"\n#include \"backend/cuda/row.cuh\"\n"
      "using namespace keel::cuda;\nusing namespace keel::cuda::element;\nusing namespace keel::cuda::fused;\n"
      "struct Words {\n  uint64_t w[" +
      text_of(int64_t(s.words.size())) +
      "];\n};\n"
      "template <bool whole>\n__device__ __forceinline__ void chain(const uint64_t* w) {\n" +
      t + "}\n";
  if (packs)
    s.text +=
        "extern \"C\" __global__ void __launch_bounds__(" + bounds + ") packs(const __grid_constant__ Words a) { chain<true>(a.w); }\n";
  s.text +=
      "extern \"C\" __global__ void __launch_bounds__(" + bounds + ") single(const __grid_constant__ Words a) { chain<false>(a.w); }\n";
  return s;
}

}  // namespace keel::cuda
