#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <type_traits>

#pragma GCC visibility push(default)
namespace keel {

inline constexpr int kMaxRank = 8;

/// First member of every params struct: makes `f(x, {0, 1})` fail to compile, so that params are always given by name.
struct ByName {
  explicit constexpr ByName() = default;
};

/// A short list of integers kept in place: extents, strides, axes, kernel sizes. Holds at most kMaxRank values; a longer list raises ValueError.
class Dims {
 public:
  constexpr Dims() = default;
  constexpr Dims(std::initializer_list<int64_t> l) { assign(l.begin(), int64_t(l.size())); }
  constexpr Dims(const int64_t* p, int64_t n) { assign(p, n); }

  constexpr int rank() const { return n_; }
  constexpr int64_t size() const { return n_; }
  constexpr bool empty() const { return n_ == 0; }
  constexpr int64_t operator[](int i) const { return d_[i < 0 ? i + n_ : i]; }
  constexpr int64_t& operator[](int i) { return d_[i < 0 ? i + n_ : i]; }
  const int64_t* begin() const { return d_; }
  const int64_t* end() const { return d_ + n_; }
  int64_t* begin() { return d_; }
  int64_t* end() { return d_ + n_; }
  int64_t front() const { return d_[0]; }
  int64_t back() const { return d_[n_ - 1]; }
  void push_back(int64_t v) {
    if (n_ == kMaxRank) too_long(n_ + 1);
    d_[n_++] = v;
  }
  void pop_back() { --n_; }
  void insert(int at, int64_t v);
  void erase(int at);
  void resize(int n, int64_t fill = 0) {
    if (n > kMaxRank) too_long(n);
    for (int i = n_; i < kMaxRank; ++i) {
      if (i >= n) break;
      d_[i] = fill;
    }
    n_ = n;
  }
  constexpr bool operator==(const Dims& o) const {
    if (n_ != o.n_) return false;
    for (int i = 0; i < n_; ++i)
      if (d_[i] != o.d_[i]) return false;
    return true;
  }

 private:
  constexpr void assign(const int64_t* p, int64_t n) {
    if (n > kMaxRank) too_long(n);
    for (int i = 0; i < kMaxRank; ++i) {  // two ways out, so that no compiler makes a call or a string move of it
      if (i >= n) break;
      d_[i] = p[i];
    }
    n_ = int(n);
  }
  [[noreturn]] static void too_long(int64_t n);
  int64_t d_[kMaxRank] = {};
  int n_ = 0;
};

/// "[2, 3]".
std::string to_string(const Dims& d);

/// The extent of a dimension that only the data can tell (`nonzero`, boolean masks).
struct Extent {
  static constexpr int64_t unknown = -1;
};

/// Extents of a tensor, outermost first. `Shape{}` is the shape of a 0-d tensor.
class Shape : public Dims {
 public:
  using Dims::Dims;
  constexpr Shape() = default;
  constexpr explicit Shape(const Dims& d) : Dims(d) {}
  /// Number of elements; 1 for 0-d. Sizes of tensors that exist cannot overflow: creation checks.
  constexpr int64_t numel() const {
    int64_t n = 1;
    for (int i = 0; i < rank(); ++i) n *= (*this)[i];
    return n;
  }
  /// The extents as an array for structured bindings; raises ShapeError where the rank is not `R`.
  template <int R>
  std::array<int64_t, R> as() const {
    require_rank(R);
    std::array<int64_t, R> a;
    for (int i = 0; i < R; ++i) a[i] = (*this)[i];
    return a;
  }
  bool unknown() const {
    for (int64_t e : *this)
      if (e == Extent::unknown) return true;
    return false;
  }

 private:
  void require_rank(int r) const;
};

/// Distance, in elements, between neighbours along each axis.
class Strides : public Dims {
 public:
  using Dims::Dims;
  constexpr Strides() = default;
  constexpr explicit Strides(const Dims& d) : Dims(d) {}
};

/// Axes of a reduction. Converts from one axis or a list; an empty list means all axes.
class Axes : public Dims {
 public:
  constexpr Axes() = default;
  constexpr Axes(int64_t axis) : Dims({axis}) {}
  constexpr Axes(int axis) : Dims({int64_t(axis)}) {}
  constexpr Axes(std::initializer_list<int64_t> l) : Dims(l) {}
  constexpr explicit Axes(const Dims& d) : Dims(d) {}
};

/// A size per spatial axis (rows, columns): one number stands for both.
class Pair : public Dims {
 public:
  constexpr Pair() : Dims({0, 0}) {}
  constexpr Pair(int64_t both) : Dims({both, both}) {}
  constexpr Pair(int both) : Dims({int64_t(both), int64_t(both)}) {}
  constexpr Pair(int64_t h, int64_t w) : Dims({h, w}) {}
};

/// Row-major strides of a shape.
Strides contiguous_strides(const Shape& s);
/// Strides of a 4-d shape [n, c, h, w] whose channels are innermost in memory.
Strides channels_last_strides(const Shape& s);
/// Whether elements lie in row-major order without gaps. Axes of extent 1 do not count.
bool is_contiguous(const Shape& s, const Strides& st);
/// Whether the elements fill one block without gaps or overlap, in whatever order of axes.
bool is_dense(const Shape& s, const Strides& st);

}  // namespace keel
#pragma GCC visibility pop
