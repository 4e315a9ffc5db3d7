#include "backend/cuda/fuse_source.h"

#include <algorithm>
#include <cstring>

#include "backend/cuda/fuse_text.h"
#include "backend/cuda/layout.h"
#include "keel/ops/cast.h"
#include "keel/ops/elementwise.h"
#include "keel/ops/norm.h"

namespace keel {
namespace cuda {

const char* type_text(DType t) {
  switch (t) {
    case DType::boolean: return "bool";
    case DType::u8: return "uint8_t";
    case DType::u16: return "uint16_t";
    case DType::u32: return "uint32_t";
    case DType::u64: return "uint64_t";
    case DType::i8: return "int8_t";
    case DType::i16: return "int16_t";
    case DType::i32: return "int32_t";
    case DType::i64: return "int64_t";
    case DType::f16: return "half";
    case DType::bf16: return "bfloat";
    case DType::f32: return "float";
    case DType::f64: return "double";
    default: return nullptr;
  }
}

namespace {

/// How an op's function is called: on the compute type, on the type in memory, or as its name says.
enum class Form : uint8_t { lifted, plain, test, compare, number_or_lifted, choose, fill, cast, row };
struct Row {
  const char* op;
  const char* function;  // its type
  Form form;
  int operands;
  DTypeSet dtypes;
  bool exact;  // every compiler gives the same bits
  int (*parameters)(const void* p, double* to) = nullptr;
};
constexpr DTypeSet kReal = kinds::real, kFloat = kinds::floating, kOrdered = kinds::ordered, kBits = kinds::integer | kinds::boolean;

int eps_of(const void* p, double* to) { return to[0] = static_cast<const LayerNormParams*>(p)->eps, 1; }

const Row kRows[] = {
    {"abs", "Abs", Form::lifted, 1, kReal, true},
    {"sign", "Sign", Form::lifted, 1, kReal, true},
    {"neg", "Neg", Form::lifted, 1, kReal, true},
    {"square", "Square", Form::lifted, 1, kReal, true},
    {"floor", "Floor", Form::lifted, 1, kFloat, true},
    {"ceil", "Ceil", Form::lifted, 1, kFloat, true},
    {"round", "Round", Form::lifted, 1, kFloat, true},
    {"trunc", "Trunc", Form::lifted, 1, kFloat, true},
    {"sqrt", "Sqrt", Form::lifted, 1, kFloat, true},
    {"rsqrt", "Rsqrt", Form::lifted, 1, kFloat, true},
    {"reciprocal", "Reciprocal", Form::lifted, 1, kFloat, true},
    {"exp", "Exp", Form::lifted, 1, kFloat, false},
    {"expm1", "Expm1", Form::lifted, 1, kFloat, false},
    {"log", "Log", Form::lifted, 1, kFloat, false},
    {"log1p", "Log1p", Form::lifted, 1, kFloat, false},
    {"log2", "Log2", Form::lifted, 1, kFloat, false},
    {"sin", "Sin", Form::lifted, 1, kFloat, false},
    {"cos", "Cos", Form::lifted, 1, kFloat, false},
    {"tan", "Tan", Form::lifted, 1, kFloat, false},
    {"sinh", "Sinh", Form::lifted, 1, kFloat, false},
    {"cosh", "Cosh", Form::lifted, 1, kFloat, false},
    {"tanh", "Tanh", Form::lifted, 1, kFloat, false},
    {"erf", "Erf", Form::lifted, 1, kFloat, false},
    {"isnan", "Test<IsNan>", Form::test, 1, kFloat, true},
    {"isinf", "Test<IsInf>", Form::test, 1, kFloat, true},
    {"isfinite", "Test<IsFinite>", Form::test, 1, kFloat, true},
    {"logical_not", "Test<IsZero>", Form::test, 1, kOrdered, true},
    {"bitwise_not", "BitNot", Form::plain, 1, kBits, true},
    {"add", "Op::add", Form::number_or_lifted, 2, kOrdered, true},
    {"sub", "Op::sub", Form::number_or_lifted, 2, kReal, true},
    {"mul", "Op::mul", Form::number_or_lifted, 2, kOrdered, true},
    {"maximum", "Op::maximum", Form::number_or_lifted, 2, kOrdered, true},
    {"minimum", "Op::minimum", Form::number_or_lifted, 2, kOrdered, true},
    {"div", "Div", Form::lifted, 2, kFloat, true},
    {"pow", "Pow", Form::lifted, 2, kFloat, false},
    {"floor_divide", "FloorDivide", Form::lifted, 2, kReal, true},
    {"remainder", "Remainder", Form::lifted, 2, kReal, true},
    {"equal", "Op::equal", Form::compare, 2, kOrdered, true},
    {"not_equal", "Op::not_equal", Form::compare, 2, kOrdered, true},
    {"less", "Op::less", Form::compare, 2, kOrdered, true},
    {"less_equal", "Op::less_equal", Form::compare, 2, kOrdered, true},
    {"greater", "Op::greater", Form::compare, 2, kOrdered, true},
    {"greater_equal", "Op::greater_equal", Form::compare, 2, kOrdered, true},
    {"logical_and", "Op::logical_and", Form::compare, 2, kOrdered, true},
    {"logical_or", "Op::logical_or", Form::compare, 2, kOrdered, true},
    {"logical_xor", "Op::logical_xor", Form::compare, 2, kOrdered, true},
    {"bitwise_and", "Bits<Op::logical_and>", Form::plain, 2, kBits, true},
    {"bitwise_or", "Bits<Op::logical_or>", Form::plain, 2, kBits, true},
    {"bitwise_xor", "Bits<Op::logical_xor>", Form::plain, 2, kBits, true},
    {"where", "Choose", Form::choose, 3, kOrdered, true},
    {"masked_fill", "Choose", Form::fill, 3, kOrdered, true},
    {"clamp", "Clamp", Form::lifted, 3, kReal, true},
    {"lerp", "Lerp", Form::lifted, 3, kFloat, true},
    {"cast", "", Form::cast, 1, kOrdered, true},
    {"relu", "Relu", Form::lifted, 1, kReal, true},
    {"relu_backward", "ReluBackward", Form::lifted, 2, kFloat, true},
    {"tanh_backward", "TanhBackward", Form::lifted, 2, kFloat, true},
    {"sigmoid", "Sigmoid", Form::lifted, 1, kFloat, false},
    {"sigmoid_backward", "SigmoidBackward", Form::lifted, 2, kFloat, true},
    {"silu", "Silu", Form::lifted, 1, kFloat, false},
    {"silu_backward", "SiluBackward", Form::lifted, 2, kFloat, false},
    {"gelu", "Gelu", Form::lifted, 1, kFloat, false},
    {"gelu_backward", "Gelu", Form::lifted, 2, kFloat, false},
    {"leaky_relu", "LeakyRelu", Form::lifted, 1, kFloat, true,
     [](const void* p, double* to) { return to[0] = static_cast<const LeakyReluParams*>(p)->slope, 1; }},
    {"leaky_relu_backward", "LeakyReluBackward", Form::lifted, 2, kFloat, true,
     [](const void* p, double* to) { return to[0] = static_cast<const LeakyReluParams*>(p)->slope, 1; }},
    {"elu", "Elu", Form::lifted, 1, kFloat, false,
     [](const void* p, double* to) { return to[0] = static_cast<const EluParams*>(p)->alpha, to[1] = 1, 2; }},
    {"elu_backward", "EluBackward", Form::lifted, 2, kFloat, false,
     [](const void* p, double* to) { return to[0] = static_cast<const EluParams*>(p)->alpha, to[1] = 1, 2; }},
    {"selu", "Selu", Form::lifted, 1, kFloat, false},
    {"selu_backward", "SeluBackward", Form::lifted, 2, kFloat, false},
    {"softplus", "Softplus", Form::lifted, 1, kFloat, false,
     [](const void* p, double* to) {
       const auto& s = *static_cast<const SoftplusParams*>(p);
       return to[0] = s.beta, to[1] = s.threshold, 2;
     }},
    {"softplus_backward", "SoftplusBackward", Form::lifted, 2, kFloat, false,
     [](const void* p, double* to) {
       const auto& s = *static_cast<const SoftplusParams*>(p);
       return to[0] = s.beta, to[1] = s.threshold, 2;
     }},
    {"hardswish", "Hardswish", Form::lifted, 1, kFloat, true},
    {"hardswish_backward", "HardswishBackward", Form::lifted, 2, kFloat, true},
    {"mish", "Mish", Form::lifted, 1, kFloat, false},
    {"mish_backward", "MishBackward", Form::lifted, 2, kFloat, false},
    {"softmax", "SoftmaxOf<false>", Form::row, 1, kFloat, false},
    {"log_softmax", "SoftmaxOf<true>", Form::row, 1, kFloat, false},
    {"softmax_backward", "SoftmaxBackwardOf<false>", Form::row, 2, kFloat, true},
    {"log_softmax_backward", "SoftmaxBackwardOf<true>", Form::row, 2, kFloat, false},
    {"layer_norm", "NormOf<true>", Form::row, 3, kFloat, true, eps_of},
    {"rms_norm", "NormOf<false>", Form::row, 2, kFloat, true, eps_of},
};
const Row* row_of(const char* op) {
  for (const Row& r : kRows)
    if (std::strcmp(r.op, op) == 0) return &r;
  return nullptr;
}

/// The op's function with its parameters, of which `parameter` gives the text: an object.
std::string function_of(const Row& r, const FusedOp& o, const std::string& parameters) {
  if (std::strncmp(r.op, "gelu", 4) == 0) {
    const bool tanh = static_cast<const GeluParams*>(o.params)->approximate == keel::Gelu::tanh;
    return std::string(tanh ? "GeluTanh" : "Gelu0") + (r.operands == 2 ? "Backward{}" : "{}");
  }
  if (std::strncmp(r.op, "selu", 4) == 0) return std::string(r.operands == 2 ? "EluBackward" : "Elu") + "{kSeluAlpha, kSeluScale}";
  return std::string(r.function) + "{" + parameters + "}";
}
/// Its type.
std::string type_of_function(const std::string& object) { return object.substr(0, object.find('{')); }

}  // namespace

const char* fuses(const FusedOp& o, const DType* in, const Shape& shape, bool same_compiler) {
  const Row* r = row_of(o.op);
  if (!r || (r->form == Form::row ? o.n_in < 1 || o.n_in > r->operands : o.n_in != r->operands)) return "chains have no such op";
  if (!r->exact && !same_compiler) return "the run-time compiler is of another version than the one that made the kernels";
  const DType t = r->form == Form::choose ? in[1] : in[0];
  if (!contains(r->dtypes, t)) return "chains do not take its dtype";
  for (int i = 0; i < o.n_in; ++i) {
    const bool mask = (r->form == Form::choose && i == 0) || (r->form == Form::fill && i == 1);
    if (in[i] != (mask ? DType::boolean : t)) return "operands of several dtypes";
  }
  if (r->form == Form::row && !row_plan(t, shape[-1]).group) return "its rows are too long or uneven for registers";
  if (r->form == Form::cast) return contains(kOrdered, o.dtype) ? nullptr : "chains do not take its dtype";
  const bool yields_bool = r->form == Form::test || r->form == Form::compare;
  return o.dtype == (yields_bool ? DType::boolean : t) ? nullptr : "its result has another dtype";
}

FuseWriter::FuseWriter(const FusedProgram& program, FuseSource& source) : p(program), s(source) {
  for (int i = 0; i < p.n_sources; ++i)
    if (!p.sources[i].number) tensors.push_back(i);
  reads = int(tensors.size());
  for (int i = 0; i < p.n_results; ++i) tensors.push_back(i);
}
const Strides& FuseWriter::strides(int k) const { return is_result(k) ? result(k).strides : p.sources[tensors[size_t(k)]].strides; }
DType FuseWriter::dtype(int k) const {
  if (!is_result(k)) return p.sources[tensors[size_t(k)]].dtype;
  const DType t = p.dtype_of(result(k).slot);
  return result(k).part ? accumulate_dtype(t) : t;
}
std::string FuseWriter::pointer(int k) const {
  return "pointer<" + std::string(is_result(k) ? "" : "const ") + type(k) + ">(w[" + text_of(word_of_tensor[size_t(k)]) + "])";
}

void FuseWriter::add_operands(const std::vector<int>& align) {
  for (int k = 0; k < many(); ++k) {
    word_of_tensor.push_back(add(0));
    s.pointers.push_back({word_of_tensor.back(), is_result(k), tensors[size_t(k)], align[size_t(k)]});
  }
  word_of_number.assign(size_t(p.n_sources), -1);
  for (int i = 0; i < p.n_sources; ++i) {
    if (!p.sources[i].number) continue;
    uint64_t bits = 0;
    std::memcpy(&bits, p.sources[i].number, size_of(p.sources[i].dtype));
    word_of_number[size_t(i)] = add(bits);
  }
  for (int i = 0; i < p.n_ops; ++i) {
    const Row& r = *row_of(p.ops[i].op);
    double values[4];
    std::string text;
    const int count = r.parameters ? r.parameters(p.ops[i].params, values) : 0;
    for (int k = 0; k < count; ++k) {
      uint64_t bits;
      std::memcpy(&bits, &values[k], 8);
      text += (k ? ", " : "") + ("parameter(w[" + text_of(add(bits)) + "])");
    }
    functions.push_back(function_of(r, p.ops[i], text));
  }
}

std::string FuseWriter::call(int i) const {
  const FusedOp& o = p.ops[i];
  const Row& r = *row_of(o.op);
  const std::string to = type_text(o.dtype), f = functions[size_t(i)];
  const auto operand = [&](int k) { return slot_text(o.in[k]); };
  std::string in;
  if (r.form == Form::fill)
    in = operand(1) + ", " + operand(2) + ", " + operand(0);
  else
    for (int k = 0; k < o.n_in; ++k) in += (k ? ", " : "") + operand(k);
  switch (r.form) {
    case Form::lifted: return "Lifted<" + to + ", " + type_of_function(f) + ">{" + f + "}(" + in + ")";
    case Form::number_or_lifted:
      return contains(kFloat, o.dtype) ? "Lifted<" + to + ", Real<" + r.function + ">>{}(" + in + ")"
                                       : "Whole{" + std::string(r.function) + "}(" + in + ")";
    case Form::compare: return "Compare{" + std::string(r.function) + "}(" + in + ")";
    case Form::cast: return "convert<" + to + ">(" + in + ")";
    case Form::row: {
      std::string wide;
      for (int k = 0; k < o.n_in; ++k) wide += ", widen(" + operand(k) + ")";
      return "narrow<" + to + ">(" + r.function + "::value(g" + text_of(p.n_sources + i) + wide + "))";
    }
    default: return f + "(" + in + ")";
  }
}

std::vector<FuseWriter::Axis> FuseWriter::axes(int rank, const Strides& lead) const {
  std::vector<Axis> all;
  int order[kMaxRank], n = 0;
  for (int axis = rank - 1; axis >= 0; --axis) {
    if (p.shape[axis] == 1) continue;
    int to = n++;
    for (; to > 0 && lead[axis] < lead[order[to - 1]]; --to) order[to] = order[to - 1];
    order[to] = axis;
  }
  for (int i = 0; i < n; ++i) {
    Axis a{p.shape[order[i]], {}};
    bool merged = !all.empty();
    for (int k = 0; k < many(); ++k) {
      a.stride[k] = strides(k)[order[i]];
      merged = merged && a.stride[k] == all.back().stride[k] * all.back().extent;
    }
    if (merged)
      all.back().extent *= a.extent;
    else
      all.push_back(a);
  }
  return all;
}

std::string FuseWriter::offsets(const std::vector<Axis>& axes, bool wide, const char* i) {
  std::string t = "  int64_t rest = " + std::string(i) + ";\n";
  for (int k = 0; k < many(); ++k) t += "  int64_t o" + text_of(k) + " = 0;\n";
  for (const Axis& a : axes) {
    const FastDivisor by(wide ? 1u : uint32_t(a.extent));
    const std::string extent = text_of(add(uint64_t(a.extent))), divisor = text_of(add(uint64_t(by.m) | uint64_t(by.s) << 32));
    t += "  {\n    const int64_t at = take<" + std::string(wide ? "true" : "false") + ">(rest, {w[" + extent + "], uint32_t(w[" + divisor +
         "]), uint32_t(w[" + divisor + "] >> 32)});\n";
    for (int k = 0; k < many(); ++k)
      if (a.stride[k]) t += "    o" + text_of(k) + " += at * int64_t(w[" + text_of(add(uint64_t(a.stride[k]))) + "]);\n";
    t += "  }\n";
  }
  return t;
}

FuseSource fuse_source(const FusedProgram& p) {
  if (p.rows) return rows_source(p);
  FuseSource s;
  FuseWriter f(p, s);
  const int64_t n = p.shape.numel();
  const int many = f.many(), reads = f.reads;
  const std::vector<FuseWriter::Axis> axes = f.axes(p.shape.rank(), p.results[0].strides);
  const int rank = int(axes.size());
  // Elements a thread: 16 bytes of the widest type, where the innermost axis lets them be read at once.
  size_t widest = 1;
  for (int k = 0; k < many; ++k) widest = std::max(widest, size_of(f.dtype(k)));
  const int64_t vector = int64_t(16 / widest);
  const auto runs = [&](int k) { return axes[0].stride[k] == 1; };
  bool dense = rank <= 1, packs = rank > 0 && vector > 1;
  for (int k = 0; k < many && rank == 1; ++k) dense = dense && (runs(k) || (k < reads && axes[0].stride[k] == 0));
  for (int k = 0; k < many && packs && !dense; ++k) {
    packs = axes[0].extent % vector == 0 && (runs(k) || (k < reads && axes[0].stride[k] == 0));
    for (int i = 1; i < rank; ++i) packs = packs && (!runs(k) || axes[size_t(i)].stride[k] % vector == 0);
  }
  s.has_packs = packs;
  s.threads_of_single = n, s.threads_of_packs = (n + vector - 1) / vector;

  f.add(uint64_t(n));
  std::vector<int> align;
  for (int k = 0; k < many; ++k) align.push_back(packs && runs(k) ? int(size_of(f.dtype(k)) * size_t(vector)) : 0);
  f.add_operands(align);
  const std::string offsets = dense ? "" : f.offsets(axes, n >= INT32_MAX, "i");

  const auto name = [&](int k) { return (k < reads ? "s" : "r") + text_of(k); };
  const auto pack = [&](int k) { return "Pack<" + f.type(k) + ", V>"; };
  const auto place = [&](int k) { return f.pointer(k) + " + " + (dense ? (rank && runs(k) ? "i" : "0") : "o" + text_of(k)); };
  std::string& t = s.text;
  t = "#include \"backend/cuda/fused.cuh\"\n"
      "using namespace keel::cuda;\nusing namespace keel::cuda::element;\nusing namespace keel::cuda::fused;\n";
  t += "struct Words {\n  uint64_t w[" + text_of(int64_t(s.words.size())) + "];\n};\n";
  t += "template <int V>\n__device__ __forceinline__ void chain(const uint64_t* w";
  for (int k = 0; k < many; ++k) t += ", " + std::string(k < reads ? "const " : "") + pack(k) + "& " + name(k);
  t += ") {\n#pragma unroll\n  for (int k = 0; k < V; ++k) {\n";
  for (int i = 0, read = 0; i < p.n_sources; ++i) {
    const std::string type = type_text(p.sources[i].dtype);
    t += "    const " + type + " " + slot_text(i) + " = " +
         (p.sources[i].number ? "number<" + type + ">(w[" + text_of(f.word_of_number[size_t(i)]) + "])" : name(read++) + ".v[k]") + ";\n";
  }
  for (int i = 0; i < p.n_ops; ++i)
    t += "    const " + std::string(type_text(p.ops[i].dtype)) + " " + slot_text(p.n_sources + i) + " = " + f.call(i) + ";\n";
  for (int k = reads; k < many; ++k) t += "    " + name(k) + ".v[k] = " + slot_text(f.result(k).slot) + ";\n";
  t += "  }\n}\n";
  t += "template <int V>\n__device__ __forceinline__ void at(const uint64_t* w, int64_t i) {\n" + offsets;
  for (int k = 0; k < reads; ++k)
    t += "  const " + pack(k) + " " + name(k) + " = " + (rank && runs(k) ? "load<V>(" : "spread<V>(*(") + place(k) +
         (rank && runs(k) ? ");\n" : "));\n");
  for (int k = reads; k < many; ++k) t += "  " + pack(k) + " " + name(k) + ";\n";
  t += "  chain<V>(w";
  for (int k = 0; k < many; ++k) t += ", " + name(k);
  t += ");\n";
  for (int k = reads; k < many; ++k) t += "  store<V>(" + place(k) + ", " + name(k) + ");\n";
  t += "}\n";
  if (packs) {
    const std::string v = text_of(vector);
    t += "extern \"C\" __global__ void __launch_bounds__(kThreads) packs(const __grid_constant__ Words a) {\n"
         "  const int64_t i = (int64_t(blockIdx.x) * kThreads + threadIdx.x) * " +
         v + ", n = int64_t(a.w[0]);\n  if (i + " + v + " <= n) {\n    at<" + v +
         ">(a.w, i);\n  } else {\n    for (int64_t k = i; k < n; ++k) at<1>(a.w, k);\n  }\n}\n";
  }
  t += "extern \"C\" __global__ void __launch_bounds__(kThreads) single(const __grid_constant__ Words a) {\n"
       "  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;\n  if (i < int64_t(a.w[0])) at<1>(a.w, i);\n}\n";
  return s;
}

}  // namespace cuda
}  // namespace keel
