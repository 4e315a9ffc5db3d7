#pragma once
#include <type_traits>
#include <utility>

#include "keel/base/ref.h"

#pragma GCC visibility push(default)
namespace keel {

/// A shared callable: any function object with that signature, kept on the heap and counted. Copies share it.
template <class Signature>
class Callback;

template <class R, class... A>
class Callback<R(A...)> {
 public:
  Callback() = default;
  template <class F>
    requires(!std::is_same_v<std::remove_cvref_t<F>, Callback> && std::is_invocable_r_v<R, std::remove_cvref_t<F>&, A...>)
  Callback(F&& f) : p_(new Holder<std::remove_cvref_t<F>>(std::forward<F>(f))) {}
  explicit operator bool() const { return bool(p_); }
  R operator()(A... a) const { return p_->call(p_.get(), std::forward<A>(a)...); }

 private:
  struct Base : RefCounted {
    R (*call)(Base*, A...);
    void (*drop)(Base*);
    static void destroy(Base* b) { b->drop(b); }
  };
  template <class F>
  struct Holder : Base {
    F f;
    explicit Holder(F g) : f(std::move(g)) {
      this->call = [](Base* b, A... a) -> R { return static_cast<Holder*>(b)->f(std::forward<A>(a)...); };
      this->drop = [](Base* b) { delete static_cast<Holder*>(b); };
    }
  };
  Ref<Base> p_;
};

}  // namespace keel
#pragma GCC visibility pop
