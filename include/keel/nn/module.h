#pragma once
#include <atomic>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "keel/base/callback.h"
#include "keel/state_dict.h"
#include "keel/tensor.h"

#pragma GCC visibility push(default)
namespace keel {
struct ModuleMode;
}
/// Modules: structs that hold parameters and other modules, and a `forward`.
///
///     struct Net : nn::Module<Net> {
///       nn::Linear hidden{784, 128}, out{128, 10};
///       static void fields(auto& m, auto&& f) { f("hidden", m.hidden)("out", m.out); }
///       Tensor forward(const Tensor& x) const { return out(relu(hidden(x))); }
///     };
namespace keel::nn {

class ModuleBase;

/// A parameter: a tensor that an optimiser trains. Copies are the same parameter; two modules that hold one are tied.
class Weight : public Tensor {
 public:
  Weight() = default;
  /// A leaf that requires a gradient is taken as it is. Of any other tensor a new leaf on the same memory is made, which requires a gradient if its dtype is floating or complex.
  Weight(const Tensor& t);
};

/// A buffer that is gathered over many steps, such as a running mean. Where its module is cast to 16 bits it stays f32: a small share added to a
/// 16-bit number would be rounded off.
class Statistic : public Tensor {
 public:
  Statistic() = default;
  Statistic(const Tensor& t) : Tensor(t) {}
};

/// A parameter or buffer with its path in the module.
struct NamedTensor {
  std::string name;
  Tensor tensor;
};
/// A module with its path in another, which is empty for that other itself.
struct NamedModule {
  std::string name;
  ModuleBase* module;
};

struct LoadOptions {
  [[no_unique_address]] ByName by_name = ByName();
  bool strict = true;  // missing and unexpected names are an error
};
/// What `load_state_dict` left alone; both are empty when it was strict.
struct LoadResult {
  std::vector<std::string> missing, unexpected;
};

/// Called before `forward` with its tensor arguments, in order; it may replace them.
using ForwardPreHook = Callback<void(Tensors& inputs)>;
/// Called after `forward` with its tensor arguments and results; it may replace the results. Results that are no tensors are not shown.
using ForwardHook = Callback<void(const Tensors& inputs, Tensors& outputs)>;

namespace detail {

/// What `fields` is given: sees each part once. A part is a Weight (parameter), a Tensor or Statistic (buffer), a module, or an optional one of these.
class PartVisitor {
 public:
  enum class Kind : uint8_t { weight, buffer, statistic, module };
  /// `part` is a Tensor*, or a ModuleBase* where `kind` is module. `name` lives as long as the call.
  using Fn = void (*)(PartVisitor& self, const char* name, Kind kind, void* part);
  explicit PartVisitor(Fn on) : on_(on) {}
  template <class T>
  PartVisitor& operator()(const char* name, T& part) {
    if constexpr (std::is_base_of_v<ModuleBase, T>) on_(*this, name, Kind::module, static_cast<ModuleBase*>(&part));
    else if constexpr (std::is_base_of_v<Weight, T>) on_(*this, name, Kind::weight, static_cast<Tensor*>(&part));
    else if constexpr (std::is_base_of_v<Statistic, T>) on_(*this, name, Kind::statistic, static_cast<Tensor*>(&part));
    else if constexpr (std::is_base_of_v<Tensor, T>) on_(*this, name, Kind::buffer, static_cast<Tensor*>(&part));
    else if constexpr (requires { part.module(); part.defined(); }) {
      if (part.defined()) on_(*this, name, Kind::module, &part.module());
    } else if constexpr (requires { part.has_value(); *part; }) {
      if (part.has_value()) (*this)(name, *part);
    } else static_assert(sizeof(T) == 0, "a part named in `fields` is a Weight, a Tensor, a module, or an optional one of these");
    return *this;
  }

 private:
  Fn on_;
};

struct ModuleType {
  const char* signature;  // of a function template with the type as its parameter; the name is cut out of it
  void (*visit)(ModuleBase& m, PartVisitor& v);
};
template <class M>
constexpr const char* type_signature() { return __PRETTY_FUNCTION__; }
std::string_view type_name(const char* signature);

/// Where a module was last called from, and the path that this gave it. Belongs to a place in memory: neither copied nor moved.
class PathCache {
 public:
  PathCache() = default;
  PathCache(const PathCache&) noexcept {}
  PathCache& operator=(const PathCache&) noexcept { return *this; }
  const char* find(const void* parent, const char* above) const;
  void store(const void* parent, const char* above, const char* path);
  void forget() { store(nullptr, nullptr, nullptr); }

 private:
  std::atomic<uint32_t> version_{0};  // odd while a thread writes
  std::atomic<const void*> parent_{nullptr};
  std::atomic<const char*> above_{nullptr}, path_{nullptr};
};

/// Opens a module: while it lives, ops and modules called belong to it.
class Enter {
 public:
  explicit Enter(const ModuleBase& m);
  ~Enter();
  Enter(const Enter&) = delete;
  Enter& operator=(const Enter&) = delete;

 private:
  const void* module_;
  const char* path_;
};

template <class S, class... A>
concept ForwardsConst = requires(const S& s, A&&... a) { s.forward(static_cast<A&&>(a)...); };
template <class S, class... A>
concept Forwards = requires(S& s, A&&... a) { s.forward(static_cast<A&&>(a)...); };
template <class T>
inline constexpr bool is_tensor = std::is_base_of_v<Tensor, std::remove_cvref_t<T>>;

template <class... A>
constexpr int tensors_before(size_t n) {
  constexpr bool is[] = {is_tensor<A>..., false};
  int count = 0;
  for (size_t i = 0; i < n; ++i) count += is[i];
  return count;
}
template <class T>
decltype(auto) pick(T&& given, const Tensors& in, int i) {
  if constexpr (is_tensor<T>) return (in[i]);
  else return static_cast<T&&>(given);
}
template <class F>
struct FirstArgument;
template <class R, class C, class A>
struct FirstArgument<R (C::*)(A) const> { using type = std::remove_cvref_t<A>; };
template <class R, class C, class A>
struct FirstArgument<R (C::*)(A)> { using type = std::remove_cvref_t<A>; };

}  // namespace detail

/// What every module has, whatever its type. Names are paths of the names in `fields`, joined by dots. A parameter that stands in several places counts once, under the first.
class ModuleBase {
 public:
  std::vector<NamedTensor> named_parameters() const;
  Tensors parameters() const;
  std::vector<NamedTensor> named_buffers() const;
  /// This module (with an empty name) and all modules inside, outermost first.
  std::vector<NamedModule> named_modules();
  /// Elements of all parameters.
  int64_t num_parameters() const;

  /// Parameters and buffers by name. The tensors share memory with the module but carry no gradient.
  StateDict state_dict() const;
  /// Copies values in by name, cast to the dtypes that are here; memory, ties and optimisers stay. One error lists all missing and unexpected names and all wrong shapes, and then nothing was changed.
  /// A tied parameter is filled by any of its names.
  LoadResult load_state_dict(const StateDict& state, const LoadOptions& o = {});

  /// Whether layers such as Dropout and BatchNorm behave as in training; on at first. Copies of a module have their own flag.
  bool is_training() const;
  void train(bool on = true);
  void eval() { train(false); }
  /// Calls f(module) for every module inside and then for this one. `f` takes a ModuleBase&, or one type of module, and then sees only those: `net.apply([](nn::Linear& m) { nn::init::zeros(m.bias); })`.
  template <class F>
  void apply(F f) {
    for_each([](void* c, ModuleBase& m) {
      if constexpr (std::is_invocable_v<F&, ModuleBase&>) (*static_cast<F*>(c))(m);
      else if (auto* p = m.template as<typename detail::FirstArgument<decltype(&F::operator())>::type>()) (*static_cast<F*>(c))(*p);
    }, &f);
  }
  /// Moves parameters and buffers. They stay the same parameters, so ties and optimisers survive.
  void to(Device d);
  /// Casts floating parameters and buffers, and their gradients; a Statistic is never cast below f32.
  void to(DType t);
  void zero_grad();
  /// Freezes (`false`) or unfreezes all parameters. A frozen parameter costs no gradient and saves nothing for it.
  void requires_grad_(bool on = true);

  /// Hooks are called in the order of their registration. The number is for `remove_hook`.
  int64_t register_forward_pre_hook(ForwardPreHook hook);
  int64_t register_forward_hook(ForwardHook hook);
  void remove_hook(int64_t id);

  /// The C++ type, with its namespaces.
  std::string_view type_name() const { return detail::type_name(type_->signature); }
  /// This module as an `M`, or null if it is of another type.
  template <class M>
  M* as() {
    const char* wanted = detail::type_signature<M>();
    return type_->signature == wanted || std::string_view(type_->signature) == wanted ? static_cast<M*>(this) : nullptr;
  }

  struct Hooks;

 protected:
  explicit ModuleBase(const detail::ModuleType* t) : type_(t) {}
  ModuleBase(const ModuleBase& o);
  ModuleBase& operator=(const ModuleBase& o);
  ~ModuleBase();
  void before(Tensors& inputs) const;
  void after(const Tensors& inputs, Tensors& outputs) const;

  const detail::ModuleType* type_;
  Hooks* hooks_ = nullptr;
  detail::PathCache cache_;
  bool training_ = true;

 private:
  void tell_recording() const;
  mutable ModuleMode* mode_ = nullptr;  // where a recording asked for it

  void for_each(void (*f)(void* context, ModuleBase& m), void* context);
  friend struct ModuleAccess;
};

/// Base of a module: `struct Net : nn::Module<Net>`, with `static void fields(auto& m, auto&& f) { f("name", m.part)(...); }` and `forward`. Copies share parameters, as tensors do; `clone` is deep.
/// In evaluation `forward` should be const and is then safe to call from several threads.
template <class Self>
class Module : public ModuleBase {
 public:
  Module() : ModuleBase(&kType) {}

  /// Opens the module (errors and the monitor name the outermost one by its type, those inside by the names in `fields`), runs hooks and `forward`.
  template <class... A>
    requires detail::ForwardsConst<Self, A...>
  auto operator()(A&&... a) const { return run(static_cast<const Self&>(*this), static_cast<A&&>(a)...); }
  template <class... A>
    requires(!detail::ForwardsConst<Self, A...> && detail::Forwards<Self, A...>)
  auto operator()(A&&... a) { return run(static_cast<Self&>(*this), static_cast<A&&>(a)...); }
  // Braces cannot be forwarded, so options of a call, `attend(x, {.causal = true})`, have overloads of their own.
  template <class S = Self>
    requires detail::ForwardsConst<S, const Tensor&, const typename S::Options&>
  auto operator()(const Tensor& x, const typename S::Options& o) const { return run(static_cast<const S&>(*this), x, o); }
  template <class S = Self>
    requires detail::ForwardsConst<S, const Tensor&, const Tensor&, const typename S::Options&>
  auto operator()(const Tensor& x, const Tensor& y, const typename S::Options& o) const { return run(static_cast<const S&>(*this), x, y, o); }
  template <class S = Self>
    requires detail::ForwardsConst<S, const Tensor&, const Tensor&, const Tensor&, const typename S::Options&>
  auto operator()(const Tensor& x, const Tensor& y, const Tensor& z, const typename S::Options& o) const { return run(static_cast<const S&>(*this), x, y, z, o); }
  template <class S = Self>
    requires detail::ForwardsConst<S, const Tensor&, const Tensor&, const Tensor&, const Tensor&, const typename S::Options&>
  auto operator()(const Tensor& x, const Tensor& y, const Tensor& z, const Tensor& w, const typename S::Options& o) const { return run(static_cast<const S&>(*this), x, y, z, w, o); }

 private:
  static void visit(ModuleBase& m, detail::PartVisitor& v) {
    static_assert(requires(Self& s) { Self::fields(s, v); }, "a module names its parts: static void fields(auto& m, auto&& f) { f(\"name\", m.part); }");
    Self::fields(static_cast<Self&>(m), v);
  }
  static constexpr detail::ModuleType kType{detail::type_signature<Self>(), visit};

  template <class S, class... A>
  auto run(S& self, A&&... a) const {
    detail::Enter enter(*this);
    if (hooks_) [[unlikely]] return run_hooked(self, std::index_sequence_for<A...>(), static_cast<A&&>(a)...);
    return self.forward(static_cast<A&&>(a)...);
  }
  template <class S, size_t... At, class... A>
  auto run_hooked(S& self, std::index_sequence<At...>, A&&... a) const {
    Tensors in;
    ([&] {
      if constexpr (detail::is_tensor<A>) in.push_back(a);
    }(), ...);
    before(in);
    auto result = self.forward(detail::pick<A>(static_cast<A&&>(a), in, detail::tensors_before<A...>(At))...);
    Tensors out;
    using R = decltype(result);
    if constexpr (detail::is_tensor<R>) out.push_back(result);
    else if constexpr (std::is_same_v<R, Tensors>) out = result;
    after(in, out);
    if constexpr (std::is_same_v<R, Tensor>) result = out[0];
    else if constexpr (std::is_same_v<R, Tensors>) result = out;
    return result;
  }
};

namespace detail {
/// Gives `m` its own copies of all parameters and buffers; what was tied stays tied.
void unshare(ModuleBase& m);
}  // namespace detail

/// A deep copy: new parameters and buffers with the same values, tied where they were tied; gradients are not copied.
template <class M>
  requires std::is_base_of_v<ModuleBase, M>
M clone(const M& m) {
  M copy(m);
  detail::unshare(copy);
  return copy;
}

}  // namespace keel::nn
#pragma GCC visibility pop
