#pragma once
#include <atomic>
#include <cstdint>
#include <utility>

#pragma GCC visibility push(default)
namespace keel {

/// Base of everything that is shared by count. `destroy` frees the object, so no virtual destructor is needed.
struct RefCounted {
  mutable std::atomic<int32_t> refs{0};
};

/// Shared pointer to a `RefCounted`; the pointee offers `static void destroy(T*)`, found when the last owner goes.
template <class T>
class Ref {
 public:
  Ref() noexcept = default;
  explicit Ref(T* p) noexcept : p_(p) { retain(); }
  /// Takes over one reference that the caller holds.
  static Ref adopt(T* p) noexcept {
    Ref r;
    r.p_ = p;
    return r;
  }
  Ref(const Ref& o) noexcept : p_(o.p_) { retain(); }
  Ref(Ref&& o) noexcept : p_(std::exchange(o.p_, nullptr)) {}
  Ref& operator=(const Ref& o) noexcept {
    Ref(o).swap(*this);
    return *this;
  }
  Ref& operator=(Ref&& o) noexcept {
    Ref(std::move(o)).swap(*this);
    return *this;
  }
  ~Ref() { drop(); }
  void swap(Ref& o) noexcept { std::swap(p_, o.p_); }
  void reset() noexcept { Ref().swap(*this); }
  T* get() const noexcept { return p_; }
  T* operator->() const noexcept { return p_; }
  T& operator*() const noexcept { return *p_; }
  explicit operator bool() const noexcept { return p_ != nullptr; }
  bool operator==(const Ref& o) const noexcept { return p_ == o.p_; }
  int32_t use_count() const noexcept { return p_ ? p_->refs.load(std::memory_order_relaxed) : 0; }

 private:
  T* p_ = nullptr;
  void retain() noexcept {
    if (p_) p_->refs.fetch_add(1, std::memory_order_relaxed);
  }
  void drop() noexcept {
    // The sole owner may skip the locked decrement: nobody else can take a reference from here.
    if (p_ && (p_->refs.load(std::memory_order_acquire) == 1 || p_->refs.fetch_sub(1, std::memory_order_acq_rel) == 1)) T::destroy(p_);
  }
};

}  // namespace keel
#pragma GCC visibility pop
