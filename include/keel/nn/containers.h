#pragma once
#include <initializer_list>
#include "keel/nn/module.h"

#pragma GCC visibility push(default)
namespace keel::nn {

/// A module of any type that maps a Tensor to a Tensor. A value: copying copies the module (which shares its parameters).
class AnyModule {
 public:
  AnyModule() = default;
  template <class M>
    requires std::is_base_of_v<ModuleBase, std::remove_cvref_t<M>>
  AnyModule(M&& m) : held_(new Held<std::remove_cvref_t<M>>(static_cast<M&&>(m))) {}
  AnyModule(const AnyModule& o) : held_(o.held_ ? o.held_->copy() : nullptr) {}
  AnyModule(AnyModule&& o) noexcept;
  AnyModule& operator=(AnyModule o) noexcept;
  ~AnyModule();

  bool defined() const { return held_ != nullptr; }
  Tensor operator()(const Tensor& x) const;
  ModuleBase& module() const;
  /// The module as an `M`, or null if it is of another type.
  template <class M>
  M* as() const { return held_ ? held_->module().template as<M>() : nullptr; }

 private:
  struct Holder {
    virtual ~Holder();
    virtual Holder* copy() const = 0;
    virtual ModuleBase& module() = 0;
    virtual Tensor call(const Tensor& x) = 0;
  };
  template <class M>
  struct Held final : Holder {
    M m;
    explicit Held(const M& from) : m(from) {}
    explicit Held(M&& from) : m(static_cast<M&&>(from)) {}
    Holder* copy() const override { return new Held(m); }
    ModuleBase& module() override { return m; }
    Tensor call(const Tensor& x) override {
      static_assert(requires { Tensor(m(x)); }, "a module in a Sequential takes one Tensor and gives one");
      return m(x);
    }
  };
  Holder* held_ = nullptr;
};

namespace detail {
/// The position that `i` means among `size` modules, negative ones counted from the end; IndexError where there is none.
size_t place_of(int64_t i, int64_t size, const char* container);
}  // namespace detail

/// Modules one after the other, each called with the result of the one before; parts are named "0", "1", ...
class Sequential : public Module<Sequential> {
 public:
  Sequential() = default;
  template <class... M>
    requires(sizeof...(M) > 0 && (std::is_base_of_v<ModuleBase, std::remove_cvref_t<M>> && ...) && !(sizeof...(M) == 1 && (std::is_same_v<Sequential, std::remove_cvref_t<M>> && ...)))
  explicit Sequential(M&&... modules) {
    layers_.reserve(sizeof...(M));
    (layers_.emplace_back(static_cast<M&&>(modules)), ...);
  }
  Sequential& append(AnyModule m);
  int64_t size() const { return int64_t(layers_.size()); }
  AnyModule& operator[](int64_t i) { return layers_[detail::place_of(i, size(), "Sequential")]; }
  const AnyModule& operator[](int64_t i) const { return layers_[detail::place_of(i, size(), "Sequential")]; }
  auto begin() { return layers_.begin(); }
  auto end() { return layers_.end(); }
  auto begin() const { return layers_.begin(); }
  auto end() const { return layers_.end(); }

  static void fields(auto& m, auto&& f) {
    for (int64_t i = 0; i < m.size(); ++i) f(std::to_string(i).c_str(), m[i]);
  }
  Tensor forward(const Tensor& x) const;

 private:
  std::vector<AnyModule> layers_;
};

/// Modules of one type in a row, named "0", "1", ...; it has no `forward`, loop over it.
template <class M>
class ModuleList : public Module<ModuleList<M>> {
 public:
  ModuleList() = default;
  ModuleList(std::initializer_list<M> list) : list_(list) {}
  template <class... A>
  M& emplace_back(A&&... a) { return list_.emplace_back(static_cast<A&&>(a)...); }
  void push_back(M m) { list_.push_back(static_cast<M&&>(m)); }
  void reserve(int64_t n) { list_.reserve(size_t(n)); }
  int64_t size() const { return int64_t(list_.size()); }
  bool empty() const { return list_.empty(); }
  M& operator[](int64_t i) { return list_[detail::place_of(i, size(), "ModuleList")]; }
  const M& operator[](int64_t i) const { return list_[detail::place_of(i, size(), "ModuleList")]; }
  auto begin() { return list_.begin(); }
  auto end() { return list_.end(); }
  auto begin() const { return list_.begin(); }
  auto end() const { return list_.end(); }

  static void fields(auto& m, auto&& f) {
    for (int64_t i = 0; i < m.size(); ++i) f(std::to_string(i).c_str(), m[i]);
  }

 private:
  std::vector<M> list_;
};

}  // namespace keel::nn
#pragma GCC visibility pop
