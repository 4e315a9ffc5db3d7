// Sources of chains with ops on rows. A warp or a block takes a row, each thread the same elements as in the ops' own kernels, which keeps
// the order of every sum. Between two ops on rows elements are computed one by one, in stages: what a later stage needs of an earlier one
// stays in registers.
#include <algorithm>
#include <utility>

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

/// A chain with ops on rows on its way into text: first the plan, then the argument, then the text of one stage after the other.
class RowsWriter {
 public:
  explicit RowsWriter(const FusedProgram& program);
  FuseSource written();

 private:
  /// What loops of a stage are made of: arrays of packs and the loop that fills them ahead, then loads, values of elements and stores.
  struct Loop {
    std::string arrays, early, loads, values, stores;
  };
  void plan_stages();
  void write_argument();
  std::string beginning() const;
  std::string gathers(int now) const;
  std::vector<char> needed_in(int now) const;
  void read_sources(int now, const std::vector<char>& needed, Loop& to) const;
  void read_kept(int now, const std::vector<char>& needed, Loop& to) const;
  void compute(int now, Loop& to) const;
  void write_results(int now, Loop& to) const;
  std::string stage_text(int now) const;

  int slot_of(int op) const { return p_.n_sources + op; }
  bool kept(int slot) const { return kept_[size_t(slot)]; }
  int stage(int slot) const { return stage_[size_t(slot)]; }
  std::string type_of(int slot) const { return type_text(p_.dtype_of(FusedSlot(slot))); }
  static std::string held(int slot) { return "q" + text_of(slot); }
  std::string value(int slot, const std::string& from) const {
    return "      const " + type_of(slot) + " " + slot_text(slot) + " = " + from + ";\n";
  }
  std::string keep(int slot) const { return kept(slot) ? "      " + held(slot) + ".kept[k].v[j] = " + slot_text(slot) + ";\n" : ""; }

  const FusedProgram& p_;
  FuseSource s_;
  FuseWriter f_;
  const int many_ = f_.many(), slots_ = p_.n_sources + p_.n_ops;
  const int64_t n_ = p_.shape[-1], rows_ = p_.shape.numel() / n_;
  DType main_ = DType::none;  // that of the ops on rows
  RowPlan plan_;
  int64_t vector_ = 0;
  int together_ = 0;  // rows of a block
  int stages_ = 1;
  std::vector<int> stage_;  // of each slot; sources are read anew in each
  std::vector<char> kept_;  // slots that stay in registers
  std::vector<std::string> step_;
  std::string offsets_;
};

RowsWriter::RowsWriter(const FusedProgram& program) : p_(program), f_(program, s_) {
  for (int i = 0; i < p_.n_ops; ++i)
    if (on_rows(p_.ops[i])) main_ = p_.ops[i].dtype;
  plan_ = row_plan(main_, n_);
  vector_ = int64_t(16 / size_of(main_));
  s_.block = plan_.block();
  together_ = s_.block / plan_.group;
  s_.threads_of_packs = s_.threads_of_single = (rows_ + together_ - 1) / together_ * s_.block;
  plan_stages();
  write_argument();
}

/// An op on rows begins a stage. What it gathers, and what a later stage reads of an earlier one, is kept.
void RowsWriter::plan_stages() {
  stage_.assign(size_t(slots_), 0), kept_.assign(size_t(slots_), 0);
  std::vector<int> last(size_t(slots_), -1);  // stage in which a slot is read
  for (int i = 0; i < p_.n_ops; ++i) {
    const FusedOp& o = p_.ops[i];
    int at = 0;
    for (int k = 0; k < o.n_in; ++k) at = std::max(at, stage(o.in[k]));
    if (on_rows(o)) {
      for (int k = 0; k < gathered(o); ++k) kept_[size_t(o.in[k])] = 1;
      ++at;
    }
    stage_[size_t(slot_of(i))] = at;
    stages_ = std::max(stages_, at + 1);
    for (int k = 0; k < o.n_in; ++k) last[size_t(o.in[k])] = std::max(last[size_t(o.in[k])], at);
  }
  for (int i = p_.n_sources; i < slots_; ++i) kept_[size_t(i)] |= last[size_t(i)] > stage(i);
}

/// Rows, elements a row, operands, distances within a row.
void RowsWriter::write_argument() {
  f_.add(uint64_t(rows_)), f_.add(uint64_t(n_));
  const Strides& lead = p_.results[0].strides;
  const auto inner = [&](int k) { return f_.is_result(k) && f_.result(k).part ? 0 : f_.strides(k)[p_.shape.rank() - 1]; };
  const std::vector<FuseWriter::Axis> axes = f_.axes(p_.shape.rank() - 1, lead);
  s_.has_packs = vector_ > 1;
  std::vector<int> align;
  for (int k = 0; k < many_; ++k) {
    const bool runs = inner(k) == 1;
    s_.has_packs = s_.has_packs && (runs || inner(k) == 0);
    for (const FuseWriter::Axis& a : axes) s_.has_packs = s_.has_packs && (!runs || a.stride[k] % vector_ == 0);
    align.push_back(runs ? int(size_of(f_.dtype(k)) * size_t(vector_)) : 0);
  }
  if (!s_.has_packs) std::fill(align.begin(), align.end(), 0);
  f_.add_operands(align);
  for (int k = 0; k < many_; ++k)
    step_.push_back(inner(k) > 1 || inner(k) < 0 ? "int64_t(w[" + text_of(f_.add(uint64_t(inner(k)))) + "])" : text_of(inner(k)));
  offsets_ = f_.offsets(axes, rows_ >= INT32_MAX, "row");
}

/// Which row a thread has a part of, where operands begin, and what is kept of them.
std::string RowsWriter::beginning() const {
  std::string t = "  constexpr int V = " + text_of(vector_) + ", G = " + text_of(plan_.group) + ", P = " + text_of(plan_.packs) +
                  ", together = " + text_of(together_) + ";\n";
  t += "  const int64_t row = int64_t(blockIdx.x) * together + threadIdx.x / G, n = int64_t(w[1]);\n  if (row >= int64_t(w[0])) return;\n"
       "  const int lane = int(threadIdx.x) % G;\n" +
       offsets_;
  for (int i = 0; i < slots_; ++i) {
    if (!kept(i)) continue;
    // Rows that ops gather are of their dtype; others are kept alike, in packs of as many elements.
    t += p_.dtype_of(FusedSlot(i)) == main_ ? "  RowOf<" + type_of(i) + ", G, P> " + held(i) + "(n, lane);\n"
                                            : "  struct {\n    Pack<" + type_of(i) + ", V> kept[P];\n  } " + held(i) + ";\n";
  }
  return t;
}

/// What whole rows give, for the ops of a stage.
std::string RowsWriter::gathers(int now) const {
  std::string t;
  for (int i = 0; i < p_.n_ops; ++i) {
    const FusedOp& o = p_.ops[i];
    if (!on_rows(o) || stage(slot_of(i)) != now) continue;
    const std::string& object = f_.functions[size_t(i)];
    const size_t brace = object.find('{');
    const std::string function = object.substr(0, brace), parameters = object.substr(brace + 1, object.size() - brace - 2),
                      whole = "g" + text_of(slot_of(i));
    t += "  const auto " + whole + " = " + function + "::gather(";
    for (int k = 0; k < gathered(o); ++k) t += (k ? ", " : "") + held(o.in[k]);
    t += (parameters.empty() ? "" : ", " + parameters) + ");\n";
    for (int k = f_.reads; k < many_; ++k)
      if (f_.result(k).slot == slot_of(i) && f_.result(k).part)
        t += "  if (lane == 0) *(" + f_.pointer(k) + " + o" + text_of(k) + ") = " + function + "::part(" + whole + ", " +
             text_of(f_.result(k).part) + ");\n";
  }
  return t;
}

/// Slots that a stage needs from elsewhere.
std::vector<char> RowsWriter::needed_in(int now) const {
  std::vector<char> needed(size_t(slots_), 0);
  for (int i = 0; i < p_.n_ops; ++i)
    if (stage(slot_of(i)) == now)
      for (int k = 0; k < p_.ops[i].n_in; ++k) needed[size_t(p_.ops[i].in[k])] = 1;
  if (now > 0) return needed;
  for (int k = f_.reads; k < many_; ++k)
    if (!f_.result(k).part && f_.result(k).slot < p_.n_sources) needed[size_t(f_.result(k).slot)] = 1;
  for (int i = 0; i < p_.n_sources; ++i)
    if (kept(i)) needed[size_t(i)] = 1;
  return needed;
}

/// Sources from memory, unless an earlier stage has kept them. All packs are asked for before the first is used, where registers allow it.
void RowsWriter::read_sources(int now, const std::vector<char>& needed, Loop& to) const {
  const auto source = [&](int k) { return int(f_.tensors[size_t(k)]); };
  int asked = 0;
  for (int k = 0; k < f_.reads; ++k) asked += needed[size_t(source(k))] && !(kept(source(k)) && now > 0);
  const bool ahead = asked * plan_.packs <= 12;
  for (int k = 0; k < f_.reads; ++k) {
    const int slot = source(k);
    if (!needed[size_t(slot)]) continue;
    if (kept(slot) && now > 0) {
      to.values += value(slot, held(slot) + ".kept[k].v[j]");
      continue;
    }
    const std::string name = "s" + text_of(k) + "_" + text_of(now), pack = name + (ahead ? "[k]" : ""),
                      from = "fetch<whole, V>(" + f_.pointer(k) + " + o" + text_of(k) + ", i, " + step_[size_t(k)] + ");\n";
    if (ahead) to.arrays += "  Pack<" + f_.type(k) + ", V> " + name + "[P];\n";
    (ahead ? to.early : to.loads) += (ahead ? "    " : "    const auto ") + pack + " = " + from;
    to.values += value(slot, pack + ".v[j]") + keep(slot);
  }
}
/// Numbers, and values of earlier stages.
void RowsWriter::read_kept(int now, const std::vector<char>& needed, Loop& to) const {
  for (int i = 0; i < p_.n_sources; ++i)
    if (p_.sources[i].number && needed[size_t(i)])
      to.values += value(i, "number<" + type_of(i) + ">(w[" + text_of(f_.word_of_number[size_t(i)]) + "])");
  for (int i = p_.n_sources; i < slots_; ++i)
    if (needed[size_t(i)] && stage(i) < now) to.values += value(i, held(i) + ".kept[k].v[j]");
}
void RowsWriter::compute(int now, Loop& to) const {
  for (int i = 0; i < p_.n_ops; ++i)
    if (stage(slot_of(i)) == now) to.values += value(slot_of(i), f_.call(i)) + keep(slot_of(i));
}
void RowsWriter::write_results(int now, Loop& to) const {
  for (int k = f_.reads; k < many_; ++k) {
    const int slot = f_.result(k).slot;
    if (f_.result(k).part || stage(slot) != now) continue;
    const std::string pack = "r" + text_of(k);
    to.loads += "    Pack<" + f_.type(k) + ", V> " + pack + ";\n";
    to.values += "      " + pack + ".v[j] = " + slot_text(slot) + ";\n";
    to.stores += "    put<whole, V>(" + f_.pointer(k) + " + o" + text_of(k) + ", i, " + step_[size_t(k)] + ", " + pack + ");\n";
  }
}

std::string RowsWriter::stage_text(int now) const {
  const std::vector<char> needed = needed_in(now);
  Loop l;
  read_sources(now, needed, l), read_kept(now, needed, l), compute(now, l), write_results(now, l);
  const std::string loop =
      "#pragma unroll\n  for (int k = 0; k < P; ++k) {\n    const int64_t i = (int64_t(k) * G + lane) * V;\n    if (i >= n) break;\n";
  return gathers(now) + (l.early.empty() ? "" : l.arrays + loop + l.early + "  }\n") + loop + l.loads +
         "#pragma unroll\n    for (int j = 0; j < V; ++j) {\n" + l.values + "    }\n" + l.stores + "  }\n";
}

FuseSource RowsWriter::written() {
  std::string t = beginning();
  for (int now = 0; now < stages_; ++now) t += stage_text(now);
  s_.text =
      "#include \"backend/cuda/fused.cuh\"\n#include \"backend/cuda/row.cuh\"\n"
      "using namespace keel::cuda;\nusing namespace keel::cuda::element;\nusing namespace keel::cuda::fused;\n"
      "struct Words {\n  uint64_t w[" +
      text_of(int64_t(s_.words.size())) +
      "];\n};\n"
      "template <bool whole>\n__device__ __forceinline__ void chain(const uint64_t* w) {\n" +
      t + "}\n";
  const auto kernel = [&](const char* name, const char* whole) {
    return "extern \"C\" __global__ void __launch_bounds__(" + text_of(s_.block) + ") " + name +
           "(const __grid_constant__ Words a) { chain<" + whole + ">(a.w); }\n";
  };
  if (s_.has_packs) s_.text += kernel("packs", "true");
  s_.text += kernel("single", "false");
  return std::move(s_);
}

}  // namespace

FuseSource rows_source(const FusedProgram& p) { return RowsWriter(p).written(); }

}  // namespace keel::cuda
