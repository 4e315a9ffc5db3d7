#include "backend/cuda/fuse_source.h"

#include <algorithm>
#include <cstring>

#include "backend/cuda/layout.h"
#include "keel/ops/cast.h"
#include "keel/ops/elementwise.h"

namespace keel {
namespace cuda {
namespace {

const char* type_of(DType t) {
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

/// How an op's function is called: on the compute type, on the type in memory, or as its name says.
enum class Form : uint8_t { lifted, plain, test, compare, number_or_lifted, choose, fill, cast };
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

std::string number(int64_t v) { return std::to_string(v); }

}  // namespace

const char* fuses(const FusedOp& o, const DType* in, bool same_compiler) {
  const Row* r = row_of(o.op);
  if (!r || o.n_in != r->operands) return "chains have no such op";
  if (!r->exact && !same_compiler) return "the run-time compiler is of another version than the one that made the kernels";
  const DType t = r->form == Form::choose ? in[1] : in[0];
  if (!contains(r->dtypes, t)) return "chains do not take its dtype";
  for (int i = 0; i < o.n_in; ++i) {
    const bool mask = (r->form == Form::choose && i == 0) || (r->form == Form::fill && i == 1);
    if (in[i] != (mask ? DType::boolean : t)) return "operands of several dtypes";
  }
  if (r->form == Form::cast) return contains(kOrdered, o.dtype) ? nullptr : "chains do not take its dtype";
  const bool yields_bool = r->form == Form::test || r->form == Form::compare;
  return o.dtype == (yields_bool ? DType::boolean : t) ? nullptr : "its result has another dtype";
}

FuseSource fuse_source(const FusedProgram& p) {
  FuseSource s;
  const int64_t n = p.shape.numel();
  // Axes as the first result has them in memory, neighbours merged where all operands allow it.
  constexpr int kMost = kMostOperands;
  struct Axis {
    int64_t extent;
    int64_t stride[kMost];
  };
  std::vector<int> tensors;  // sources that are tensors, then results
  for (int i = 0; i < p.n_sources; ++i)
    if (!p.sources[i].number) tensors.push_back(i);
  const int reads = int(tensors.size());
  for (int i = 0; i < p.n_results; ++i) tensors.push_back(i);
  const int many = int(tensors.size());
  const auto strides_of = [&](int k) -> const Strides& {
    return k < reads ? p.sources[tensors[size_t(k)]].strides : p.results[tensors[size_t(k)]].strides;
  };
  const auto dtype_of = [&](int k) {
    return k < reads ? p.sources[tensors[size_t(k)]].dtype : p.dtype_of(p.results[tensors[size_t(k)]].slot);
  };
  std::vector<Axis> axes;
  int order[kMaxRank];
  const Strides& lead = p.results[0].strides;
  int many_axes = 0;
  for (int axis = p.shape.rank() - 1; axis >= 0; --axis) {
    if (p.shape[axis] == 1) continue;
    int to = many_axes++;
    for (; to > 0 && lead[axis] < lead[order[to - 1]]; --to) order[to] = order[to - 1];
    order[to] = axis;
  }
  for (int i = 0; i < many_axes; ++i) {
    const int64_t e = p.shape[order[i]];
    Axis a{e, {}};
    bool merged = !axes.empty();
    for (int k = 0; k < many; ++k) {
      a.stride[k] = strides_of(k)[order[i]];
      merged = merged && a.stride[k] == axes.back().stride[k] * axes.back().extent;
    }
    if (merged)
      axes.back().extent *= e;
    else
      axes.push_back(a);
  }
  const int rank = int(axes.size());
  // Elements a thread: 16 bytes of the widest type, where the innermost axis lets them be read at once.
  size_t widest = 1;
  for (int k = 0; k < many; ++k) widest = std::max(widest, size_of(dtype_of(k)));
  const int64_t vector = int64_t(16 / widest);
  const bool dense = rank == 0 || (rank == 1 && [&] {
                       for (int k = 0; k < many; ++k)
                         if (axes[0].stride[k] != 1 && (k >= reads || axes[0].stride[k] != 0)) return false;
                       return true;
                     }());
  bool packs = rank > 0 && vector > 1;
  const auto runs = [&](int k) { return axes[0].stride[k] == 1; };
  for (int k = 0; k < many && packs && !dense; ++k) {
    packs = axes[0].extent % vector == 0 && (runs(k) || (k < reads && axes[0].stride[k] == 0));
    for (int i = 1; i < rank; ++i) packs = packs && (!runs(k) || axes[size_t(i)].stride[k] % vector == 0);
  }
  s.has_packs = packs;
  s.threads_of_single = n, s.threads_of_packs = (n + vector - 1) / vector;
  const bool wide = n >= INT32_MAX;

  // The argument.
  const auto add = [&](uint64_t w) { return s.words.push_back(w), int(s.words.size()) - 1; };
  add(uint64_t(n));
  std::vector<int> word_of_tensor;
  for (int k = 0; k < many; ++k) {
    const bool whole = packs && runs(k);
    word_of_tensor.push_back(add(0));
    s.pointers.push_back({word_of_tensor.back(), k >= reads, tensors[size_t(k)], whole ? int(size_of(dtype_of(k)) * size_t(vector)) : 0});
  }
  std::vector<int> word_of_number(size_t(p.n_sources), -1);
  for (int i = 0; i < p.n_sources; ++i) {
    if (!p.sources[i].number) continue;
    uint64_t bits = 0;
    std::memcpy(&bits, p.sources[i].number, size_of(p.sources[i].dtype));
    word_of_number[size_t(i)] = add(bits);
  }
  std::vector<std::string> functions;
  for (int i = 0; i < p.n_ops; ++i) {
    const Row& r = *row_of(p.ops[i].op);
    double values[4];
    std::string text;
    const int count = r.parameters ? r.parameters(p.ops[i].params, values) : 0;
    for (int k = 0; k < count; ++k) {
      uint64_t bits;
      std::memcpy(&bits, &values[k], 8);
      text += (k ? ", " : "") + ("parameter(w[" + number(add(bits)) + "])");
    }
    functions.push_back(function_of(r, p.ops[i], text));
  }
  const int first_axis = int(s.words.size());
  for (int i = 0; i < rank && !dense; ++i) {
    const FastDivisor by(wide ? 1u : uint32_t(axes[size_t(i)].extent));
    add(uint64_t(axes[size_t(i)].extent)), add(uint64_t(by.m) | uint64_t(by.s) << 32);
    for (int k = 0; k < many; ++k) add(uint64_t(axes[size_t(i)].stride[k]));
  }

  // What the ops compute of one element.
  const auto slot = [](int i) { return "v" + number(i); };
  std::string body;
  for (int i = 0; i < p.n_ops; ++i) {
    const FusedOp& o = p.ops[i];
    const Row& r = *row_of(o.op);
    const std::string type = type_of(o.dtype), f = functions[size_t(i)];
    std::string in;
    const auto operand = [&](int k) { return slot(o.in[k]); };
    if (r.form == Form::fill)
      in = operand(1) + ", " + operand(2) + ", " + operand(0);
    else
      for (int k = 0; k < o.n_in; ++k) in += (k ? ", " : "") + operand(k);
    std::string call;
    switch (r.form) {
      case Form::lifted: call = "Lifted<" + type + ", " + type_of_function(f) + ">{" + f + "}(" + in + ")"; break;
      case Form::number_or_lifted:
        call = contains(kFloat, o.dtype) ? "Lifted<" + type + ", Real<" + r.function + ">>{}(" + in + ")"
                                         : "Whole{" + std::string(r.function) + "}(" + in + ")";
        break;
      case Form::compare: call = "Compare{" + std::string(r.function) + "}(" + in + ")"; break;
      case Form::cast: call = "convert<" + type + ">(" + in + ")"; break;
      default: call = f + "(" + in + ")"; break;
    }
    body += "    const " + type + " " + slot(p.n_sources + i) + " = " + call + ";\n";
  }
  const auto source_name = [&](int k) { return "s" + number(k); };
  const auto result_name = [&](int k) { return "r" + number(k); };
  const auto pack = [&](int k, const char* v) { return "Pack<" + std::string(type_of(dtype_of(k))) + ", " + v + ">"; };
  std::string& t = s.text;
  t = "#include \"backend/cuda/fused.cuh\"\nusing namespace keel::cuda;\nusing namespace keel::cuda::element;\nusing namespace "
      "keel::cuda::fused;\n";
  t += "struct Words {\n  uint64_t w[" + number(int64_t(s.words.size())) + "];\n};\n";
  t += "template <int V>\n__device__ __forceinline__ void chain(const uint64_t* w";
  for (int k = 0; k < many; ++k)
    t += ", " + std::string(k < reads ? "const " : "") + pack(k, "V") + "& " + (k < reads ? source_name(k) : result_name(k));
  t += ") {\n#pragma unroll\n  for (int k = 0; k < V; ++k) {\n";
  int read = 0;
  for (int i = 0; i < p.n_sources; ++i) {
    const std::string type = type_of(p.sources[i].dtype);
    t += "    const " + type + " " + slot(i) + " = " +
         (p.sources[i].number ? "number<" + type + ">(w[" + number(word_of_number[size_t(i)]) + "])" : source_name(read++) + ".v[k]") +
         ";\n";
  }
  t += body;
  for (int k = reads; k < many; ++k) t += "    " + result_name(k) + ".v[k] = " + slot(p.results[tensors[size_t(k)]].slot) + ";\n";
  t += "  }\n}\n";
  t += "template <int V>\n__device__ __forceinline__ void at(const uint64_t* w, int64_t i) {\n";
  std::string offset[kMost];
  for (int k = 0; k < many; ++k) offset[k] = dense ? (rank && runs(k) ? "i" : "0") : "o" + number(k);
  if (!dense) {
    t += "  int64_t rest = i;\n";
    for (int k = 0; k < many; ++k) t += "  int64_t o" + number(k) + " = 0;\n";
    for (int i = 0; i < rank; ++i) {
      const int word = first_axis + i * (2 + many);
      t += "  {\n    const int64_t at = take<" + std::string(wide ? "true" : "false") + ">(rest, {w[" + number(word) + "], uint32_t(w[" +
           number(word + 1) + "]), uint32_t(w[" + number(word + 1) + "] >> 32)});\n";
      for (int k = 0; k < many; ++k)
        if (axes[size_t(i)].stride[k]) t += "    o" + number(k) + " += at * int64_t(w[" + number(word + 2 + k) + "]);\n";
      t += "  }\n";
    }
  }
  for (int k = 0; k < reads; ++k) {
    const std::string type = type_of(dtype_of(k)),
                      from = "pointer<const " + type + ">(w[" + number(word_of_tensor[size_t(k)]) + "]) + " + offset[k];
    const bool whole = rank && runs(k);
    t +=
        "  const " + pack(k, "V") + " " + source_name(k) + " = " + (whole ? "load<V>(" + from + ")" : "spread<V>(*(" + from + "))") + ";\n";
  }
  for (int k = reads; k < many; ++k) t += "  " + pack(k, "V") + " " + result_name(k) + ";\n";
  t += "  chain<V>(w";
  for (int k = 0; k < many; ++k) t += ", " + (k < reads ? source_name(k) : result_name(k));
  t += ");\n";
  for (int k = reads; k < many; ++k)
    t += "  store<V>(pointer<" + std::string(type_of(dtype_of(k))) + ">(w[" + number(word_of_tensor[size_t(k)]) + "]) + " + offset[k] +
         ", " + result_name(k) + ");\n";
  t += "}\n";
  if (packs) {
    const std::string v = number(vector);
    t += "extern \"C\" __global__ void __launch_bounds__(kThreads) packs(const __grid_constant__ Words a) {\n"
         "  const int64_t i = (int64_t(blockIdx.x) * kThreads + threadIdx.x) * " +
         v +
         ", n = int64_t(a.w[0]);\n"
         "  if (i + " +
         v + " <= n) {\n    at<" + v + ">(a.w, i);\n  } else {\n    for (int64_t k = i; k < n; ++k) at<1>(a.w, k);\n  }\n}\n";
  }
  t += "extern \"C\" __global__ void __launch_bounds__(kThreads) single(const __grid_constant__ Words a) {\n"
       "  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;\n  if (i < int64_t(a.w[0])) at<1>(a.w, i);\n}\n";
  return s;
}

}  // namespace cuda
}  // namespace keel
