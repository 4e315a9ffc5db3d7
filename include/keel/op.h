#pragma once
#include <cstring>
#include <string>
#include <type_traits>
#include <vector>

#include "keel/spec.h"
#include "keel/tensor.h"

#pragma GCC visibility push(default)
/// The op row: how an op is defined, for Keel's own ops and for a program's. An op is a struct of parameters and a row of pure functions, its columns.
/// See docs/guide/add-an-op.md.
namespace keel {

/// The inputs of a call, as pointers, so that passing them costs no reference count. An optional input that is absent is an undefined tensor.
class Inputs {
 public:
  Inputs(const Tensor* const* p, int n) : p_(p), n_(n) {}
  const Tensor& operator[](int i) const { return *p_[i]; }
  int size() const { return n_; }
  bool has(int i) const { return i < n_ && p_[i]->defined(); }
  const Tensor* const* data() const { return p_; }
  Inputs from(int first) const { return {p_ + first, n_ - first}; }
  Tensors list() const {
    Tensors t;
    for (int i = 0; i < n_; ++i) t.push_back(*p_[i]);
    return t;
  }

 private:
  const Tensor* const* p_;
  int n_;
};

/// The dtypes and shapes of the inputs, after autocast and promotion.
class Specs {
 public:
  Specs(const Spec* const* p, int n) : p_(p), n_(n) {}
  const Spec& operator[](int i) const { return *p_[i]; }
  int size() const { return n_; }
  bool has(int i) const { return i < n_ && p_[i]->dtype != DType::none; }

 private:
  const Spec* const* p_;
  int n_;
};

/// Interned text: equal text, equal pointer.
class Symbol {
 public:
  Symbol() = default;
  Symbol(const char* text);
  const char* c_str() const { return text_; }
  bool operator==(const Symbol&) const = default;

 private:
  const char* text_ = "";
};

// ---- parameters, seen through their `fields` ----
enum class FieldKind : uint8_t { boolean, integer, number, scalar, dtype, dims, enumeration, symbol, device };
struct FieldInfo {
  const char* name = nullptr;
  const char* doc = "";
  FieldKind kind = FieldKind::boolean;
  const char* const* choices = nullptr;  // names of an enumeration, ended by null
};
/// Called once a field with a pointer to the member: bool, int64_t, double, Scalar, DType, Dims (or derived), int32_t for enumerations, Symbol, Device.
struct FieldSink {
  void* context;
  void (*on)(void* context, const FieldInfo& info, void* member);
};
/// Enumerations used in params have underlying type int32_t and a function `enum_names(E)` found by argument-dependent lookup, which gives names ended by null.
template <class E>
concept ParamEnum = std::is_enum_v<E> && std::is_same_v<std::underlying_type_t<E>, int32_t>;

namespace detail {
template <class T>
constexpr FieldKind field_kind() {
  if constexpr (std::is_same_v<T, bool>) return FieldKind::boolean;
  else if constexpr (std::is_same_v<T, int64_t>) return FieldKind::integer;
  else if constexpr (std::is_same_v<T, double>) return FieldKind::number;
  else if constexpr (std::is_same_v<T, Scalar>) return FieldKind::scalar;
  else if constexpr (std::is_same_v<T, DType>) return FieldKind::dtype;
  else if constexpr (std::is_base_of_v<Dims, T>) return FieldKind::dims;
  else if constexpr (std::is_same_v<T, Symbol>) return FieldKind::symbol;
  else if constexpr (std::is_same_v<T, Device>) return FieldKind::device;
  else {
    static_assert(ParamEnum<T>, "a param is bool, int64_t, double, Scalar, DType, Dims, Symbol or an enum of int32_t");
    return FieldKind::enumeration;
  }
}
struct SinkCaller {
  FieldSink& sink;
  template <class T>
  SinkCaller& operator()(const char* name, T& member, const char* doc = "") {
    FieldInfo info{name, doc, field_kind<T>(), nullptr};
    if constexpr (std::is_enum_v<T> && !std::is_same_v<T, DType>) info.choices = enum_names(T{});
    void* at;
    if constexpr (std::is_base_of_v<Dims, T>) at = static_cast<Dims*>(&member);
    else at = &member;
    sink.on(sink.context, info, at);
    return *this;
  }
};
struct FieldCounter {
  int n = 0;
  constexpr FieldCounter& operator()(const char*, auto&, const char* = "") {
    ++n;
    return *this;
  }
};
struct AnyValue {
  template <class T> constexpr operator T() const;
};
template <class P, class... A>
constexpr int count_members() {
  if constexpr (requires { P{A{}..., AnyValue{}}; }) return count_members<P, A..., AnyValue>();
  else return sizeof...(A);
}
template <class P>
constexpr bool members_visited() {
  P p{};
  FieldCounter count;
  P::fields(p, count);
  return count.n + 1 == count_members<P>();  // one more for `by_name`
}
}  // namespace detail

/// Params of ops that have none.
struct NoParams {
  [[no_unique_address]] ByName by_name = ByName();
  static constexpr void fields(auto&, auto&&) {}
};

/// Params of one type, with the type erased. Params are trivially copyable.
struct ParamsType {
  uint32_t size = 0;
  int32_t device_offset = -1;  // where a param `device` lies, for ops without inputs
  void (*construct)(void* p) = nullptr;
  void (*visit)(void* p, FieldSink& sink) = nullptr;
  bool equal(const void* a, const void* b) const;
  uint64_t hash(const void* p) const;
  /// "axis=1, keepdim=true": fields that differ from their defaults.
  std::string text(const void* p) const;
};
template <class P>
ParamsType params_type() {
  static_assert(std::is_trivially_copyable_v<P>, "op params are plain data");
  int32_t device = -1;
  if constexpr (requires(P p) { p.device; }) device = int32_t(offsetof(P, device));
  return {uint32_t(sizeof(P)), device, [](void* p) { new (p) P{}; },
          [](void* p, FieldSink& s) {
            detail::SinkCaller call{s};
            P::fields(*static_cast<P*>(p), call);
          }};
}

// ---- columns ----
enum class Cast : uint8_t { keep, lower, fp32 };          // under autocast: leave, cast to the low dtype, cast to f32
// to_float: integers and bools become the default float; compare: as common, and a number that integers cannot hold lies beyond them all
enum class Promote : uint8_t { common, to_float, none, compare };
enum class Cost : uint8_t { memory_bound, compute_bound, view };
enum class Fallback : uint8_t { ok, slow, refuse };
/// What can go wrong with the numbers; the monitor reads it. `exp_range`: values beyond the logarithm of the largest number; `domain`: singular at 0, undefined below; `divides`:
/// singular at 0; `cancels`: equal leading digits vanish; `accumulates`: many terms are summed; `grows`: magnitudes multiply.
enum class Risk : uint16_t { none = 0, exp_range = 1, domain = 2, divides = 4, cancels = 8, accumulates = 16, grows = 32 };
constexpr Risk operator|(Risk a, Risk b) { return Risk(uint16_t(a) | uint16_t(b)); }
constexpr bool has_risk(Risk set, Risk r) { return uint16_t(set) & uint16_t(r); }

struct In { int i; };
struct Out { int i; };
/// Which inputs and outputs the gradient needs, one bit each.
struct Saves {
  uint32_t in = 0, out = 0;
  constexpr Saves() = default;
  template <class... T> constexpr Saves(T... t) { (add(t), ...); }
  constexpr void add(In i) { in |= 1u << i.i; }
  constexpr void add(Out o) { out |= 1u << o.i; }
};
/// Which inputs want a gradient.
struct Needs {
  uint32_t bits = 0;
  constexpr bool operator[](int i) const { return i >= 32 || ((bits >> i) & 1); }
};

struct VjpArgs {
  Inputs in, out;  // undefined where not saved
  Inputs g;        // cotangents of the outputs; undefined where no gradient came
  const Tensor* second = nullptr;  // what is to be added to g[0], for a row that takes two gradients; null: nothing
  Needs needs;
  Specs in_specs, out_specs;
};

/// Where a view of `x` begins (in elements from x's first) and how it is strided; `false` means that it can't be a view.
struct ViewSpec {
  Strides strides;
  int64_t offset = 0;
};

struct ArgDef {
  const char* name = nullptr;
  DTypeSet kinds = 0;
  bool optional = false, variadic = false;
  bool grouped = true;   // takes part in promotion with the other grouped inputs
  bool written = false;  // the op writes into it
  Risk risk = Risk::none;  // what its values can do to the result: exp_range, domain or divides
  bool host = false;     // stays in host memory whatever the device: a few settings that kernels take when they are called
};
struct OutDef {
  const char* name = nullptr;
  int alias_of = -1;         // shares memory with that input
  bool only_when_recording = false;
};

template <class T, int N>
struct FixedList {
  T items[N] = {};
  int n = 0;
  void push_back(const T& v) { items[n++] = v; }
  T& back() { return items[n - 1]; }
  int size() const { return n; }
  const T& operator[](int i) const { return items[i]; }
  const T* begin() const { return items; }
  const T* end() const { return items + n; }
};

struct OpDef {
  const char* name = nullptr;
  const char* doc = "";
  uint16_t id = 0;
  FixedList<ArgDef, 10> in;
  FixedList<OutDef, 4> out;
  ParamsType params;
  Cast cast = Cast::keep;
  Promote promote = Promote::common;
  Cost cost = Cost::memory_bound;
  Fallback fallback = Fallback::slow;
  Risk risk = Risk::none;
  bool is_primitive = false, random = false, elementwise = false;
  const char* onnx = nullptr;
  const char* why_no_oracle = nullptr;
  Saves saves;
  const OpDef* adds_gradients = nullptr;  // the row that adds two gradients of result 0 in the pass that reads them,
  int adds_for = -1;                      // where this input wants a gradient too (-1: always)
  int64_t refuse_above = -1;
  void (*infer)(const void* p, Specs in, SpecList& out) = nullptr;
  void (*vjp)(const void* p, const VjpArgs& a, Tensors& grads) = nullptr;
  void (*decompose)(const void* p, Inputs in, Tensors& out) = nullptr;
  Saves (*saves_fn)(const void* p, Needs needs) = nullptr;
  bool (*view)(const void* p, const Tensor& x, const Spec& out, ViewSpec& v) = nullptr;
  Tensors (*batch)(const void* p, Inputs in, const int64_t* axes) = nullptr;

  Saves saved(const void* p, Needs n) const { return saves_fn ? saves_fn(p, n) : saves; }
};

/// Builds one row. Every function column is a captureless lambda.
template <class P>
class Def {
 public:
  explicit Def(OpDef& d) : d_(d) {}
  Def& doc(const char* text) { return d_.doc = text, *this; }
  Def& in(const char* name, DTypeSet k) { return d_.in.push_back({name, k}), *this; }
  Def& opt(const char* name, DTypeSet k) { return d_.in.push_back({name, k, true}), *this; }
  Def& variadic(const char* name, DTypeSet k) { return d_.in.push_back({name, k, false, true}), *this; }
  /// The last input stands outside promotion and autocast: an index, a mask, a key.
  Def& alone() { return d_.in.back().grouped = false, *this; }
  /// The last input stays in host memory whatever the device of the others: a random key, an optimiser's settings.
  Def& host() { return d_.in.back().host = true, *this; }
  /// The last input is written in place.
  Def& written() { return d_.in.back().written = true, *this; }
  Def& out(const char* name) { return d_.out.push_back({name}), *this; }
  /// An output that exists only for the gradient.
  Def& aux(const char* name) { return d_.out.push_back({name, -1, true}), *this; }
  /// The last output shares memory with input `i`.
  Def& alias(int i) { return d_.out.back().alias_of = i, *this; }
  Def& cast(Cast c) { return d_.cast = c, *this; }
  Def& promote(Promote p) { return d_.promote = p, *this; }
  Def& cost(Cost c) { return d_.cost = c, *this; }
  Def& risk(Risk r) { return d_.risk = r, *this; }
  /// What the values of input `i` can do: a / b is endangered by b near 0. The monitor watches how far that input is from its singular point.
  Def& watch_input(int i, Risk r) { return d_.in.items[i].risk = r, *this; }
  Def& onnx(const char* name) { return d_.onnx = name, *this; }
  Def& primitive() { return d_.is_primitive = true, *this; }
  Def& elementwise() { return d_.elementwise = true, *this; }
  Def& random() { return d_.random = true, *this; }
  Def& no_oracle(const char* why) { return d_.why_no_oracle = why, *this; }
  Def& fallback(Fallback f, int64_t above_bytes = -1) { return d_.fallback = f, d_.refuse_above = above_bytes, *this; }

  template <class F> Def& infer(F) {
    d_.infer = [](const void* p, Specs in, SpecList& out) {
      using R = decltype(F{}(cast_params(p), in));
      if constexpr (std::is_same_v<R, SpecList>) out = F{}(cast_params(p), in);
      else out.push_back(F{}(cast_params(p), in));
    };
    return *this;
  }
  template <class F> Def& vjp(F) {
    d_.vjp = [](const void* p, const VjpArgs& a, Tensors& grads) { grads = F{}(cast_params(p), a); };
    return *this;
  }
  /// A result that was used twice gets two gradients, whose sum the engine makes before `vjp` sees it. Where the device has a kernel of `row`
  /// and input `i` wants a gradient, `vjp` gets the second as `VjpArgs::second` instead and hands both to `row`, which saves a pass over memory.
  Def& takes_two_gradients(const OpDef& row, int i = -1) { return d_.adds_gradients = &row, d_.adds_for = i, *this; }
  template <class F> Def& decompose(F) {
    d_.decompose = [](const void* p, Inputs in, Tensors& out) {
      using R = decltype(F{}(cast_params(p), in));
      if constexpr (std::is_same_v<R, Tensors>) out = F{}(cast_params(p), in);
      else out.push_back(F{}(cast_params(p), in));
    };
    return *this;
  }
  template <class... S>
    requires((std::is_same_v<S, In> || std::is_same_v<S, Out>) && ...)
  Def& saves(S... s) { return d_.saves = Saves(s...), *this; }
  template <class F>
    requires(!std::is_same_v<F, In> && !std::is_same_v<F, Out>)
  Def& saves(F) {
    d_.saves_fn = [](const void* p, Needs n) -> Saves { return F{}(cast_params(p), n); };
    return *this;
  }
  template <class F> Def& view(F) {
    d_.view = [](const void* p, const Tensor& x, const Spec& out, ViewSpec& v) -> bool { return F{}(cast_params(p), x, out, v); };
    d_.cost = Cost::view;
    return *this;
  }

 private:
  OpDef& d_;
  static const P& cast_params(const void* p) { return *static_cast<const P*>(p); }
};

class Registry {
 public:
  template <class P>
  Def<P> add(OpDef& d, const char* name) {
    enroll(d, name, params_type<P>());
    return Def<P>(d);
  }
  int64_t size() const;
  const OpDef& op(int64_t id) const;
  const OpDef* find(const char* name) const;
  /// Checks every row added since the last call: `infer` present, a gradient or a decomposition or `primitive()`.
  void validate();

 private:
  void enroll(OpDef& d, const char* name, ParamsType params);
};

/// All registered ops; Keel's own are added at first use.
Registry& registry();

/// Names of the kernels that can serve an op, in the order in which they are asked.
std::vector<std::string> kernels_of(const OpDef& op);

/// Runs an op through the whole pipeline: normalise, autocast, promote, infer, autograd, trace, monitor, backend. `site` is the caller's code address.
Tensors dispatch(const OpDef& op, const void* params, Inputs in, const void* site);
Tensor dispatch_one(const OpDef& op, const void* params, Inputs in, const void* site);

/// How a public op function calls its row.
template <class P, class... T>
[[gnu::always_inline]] inline Tensor call(const OpDef& op, const P& params, const T&... inputs) {
  const Tensor* in[sizeof...(T) + 1] = {&inputs..., nullptr};
  return dispatch_one(op, &params, Inputs(in, int(sizeof...(T))), __builtin_return_address(0));
}
template <class P>
[[gnu::always_inline]] inline Tensors call_list(const OpDef& op, const P& params, const Tensors& inputs) {
  SmallVector<const Tensor*, 16> in;
  for (const Tensor& t : inputs) in.push_back(&t);
  return dispatch(op, &params, Inputs(in.data(), int(in.size())), __builtin_return_address(0));
}
template <class P, class... T>
[[gnu::always_inline]] inline Tensors call_all(const OpDef& op, const P& params, const T&... inputs) {
  const Tensor* in[sizeof...(T) + 1] = {&inputs..., nullptr};
  return dispatch(op, &params, Inputs(in, int(sizeof...(T))), __builtin_return_address(0));
}

}  // namespace keel
#pragma GCC visibility pop

/// Defines the row of op `NAME`; the body adds columns to `def`. The row is the object `keel::op_NAME`. Found by the build, which lists every row at file scope that starts a line.
#define KEEL_OP(NAME, PARAMS)                                                                                              \
  static_assert(::keel::detail::members_visited<PARAMS>(), "`fields` of " #PARAMS " must visit every member");             \
  constinit ::keel::OpDef op_##NAME{};                                                                                     \
  static void define_op_##NAME([[maybe_unused]] ::keel::Def<PARAMS> def);                                                  \
  void register_op_##NAME(::keel::Registry& r);                                                                            \
  void register_op_##NAME(::keel::Registry& r) { define_op_##NAME(r.add<PARAMS>(op_##NAME, #NAME)); }                      \
  static void define_op_##NAME([[maybe_unused]] ::keel::Def<PARAMS> def)
