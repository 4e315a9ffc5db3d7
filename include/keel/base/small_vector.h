#pragma once
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <new>
#include <utility>

#pragma GCC visibility push(default)
namespace keel {

/// A vector whose first `N` elements live inside the object; more go to the heap. Moves are cheap only for the heap part.
template <class T, int N>
class SmallVector {
 public:
  using value_type = T;
  SmallVector() noexcept {}
  SmallVector(std::initializer_list<T> l) { append(l.begin(), l.end()); }
  template <class It>
  SmallVector(It first, It last) { append(first, last); }
  explicit SmallVector(int64_t n) { resize(n); }
  SmallVector(int64_t n, const T& v) { reserve(n); while (size_ < n) push_back(v); }
  SmallVector(const SmallVector& o) { append(o.begin(), o.end()); }
  SmallVector(SmallVector&& o) noexcept { take(o); }
  SmallVector& operator=(const SmallVector& o) {
    if (this != &o) { clear(); append(o.begin(), o.end()); }
    return *this;
  }
  SmallVector& operator=(SmallVector&& o) noexcept {
    if (this != &o) { destroy(); take(o); }
    return *this;
  }
  ~SmallVector() { destroy(); }

  int64_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  T* data() { return data_; }
  const T* data() const { return data_; }
  T* begin() { return data_; }
  T* end() { return data_ + size_; }
  const T* begin() const { return data_; }
  const T* end() const { return data_ + size_; }
  T& operator[](int64_t i) { return data_[i]; }
  const T& operator[](int64_t i) const { return data_[i]; }
  T& front() { return data_[0]; }
  const T& front() const { return data_[0]; }
  T& back() { return data_[size_ - 1]; }
  const T& back() const { return data_[size_ - 1]; }

  template <class... A>
  T& emplace_back(A&&... a) {
    if (size_ == capacity_) {
      T fresh(static_cast<A&&>(a)...);  // an argument may live in the old block
      grow(capacity_ * 2);
      return *new (data_ + size_++) T(std::move(fresh));
    }
    return *new (data_ + size_++) T(static_cast<A&&>(a)...);
  }
  void push_back(const T& v) { emplace_back(v); }
  void push_back(T&& v) { emplace_back(std::move(v)); }
  void pop_back() { data_[--size_].~T(); }
  void clear() {
    while (size_ > 0) pop_back();
  }
  void reserve(int64_t n) {
    if (n > capacity_) grow(n);
  }
  void resize(int64_t n) {
    reserve(n);
    while (size_ > n) pop_back();
    while (size_ < n) emplace_back();
  }
  template <class It>
  void append(It first, It last) {
    for (; first != last; ++first) push_back(*first);
  }

 private:
  T* data_ = reinterpret_cast<T*>(inline_);
  int64_t size_ = 0, capacity_ = N;
  alignas(T) unsigned char inline_[N * sizeof(T)];

  bool is_inline() const { return data_ == reinterpret_cast<const T*>(inline_); }
  void grow(int64_t n) {
    T* fresh = static_cast<T*>(::operator new(size_t(n) * sizeof(T), std::align_val_t(alignof(T) > 16 ? alignof(T) : 16)));
    for (int64_t i = 0; i < size_; ++i) new (fresh + i) T(std::move(data_[i])), data_[i].~T();
    release();
    data_ = fresh, capacity_ = n;
  }
  void release() {
    if (!is_inline()) ::operator delete(data_, std::align_val_t(alignof(T) > 16 ? alignof(T) : 16));
  }
  void destroy() { clear(), release(), data_ = reinterpret_cast<T*>(inline_), capacity_ = N; }
  void take(SmallVector& o) {
    if (o.is_inline()) {
      for (int64_t i = 0; i < o.size_; ++i) new (data_ + i) T(std::move(o.data_[i]));
      size_ = o.size_;
      o.clear();
    } else {
      data_ = o.data_, size_ = o.size_, capacity_ = o.capacity_;
      o.data_ = reinterpret_cast<T*>(o.inline_), o.size_ = 0, o.capacity_ = N;
    }
  }
};

}  // namespace keel
#pragma GCC visibility pop
