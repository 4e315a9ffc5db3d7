#pragma once
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <iosfwd>
#include <string>

#include "keel/base/ref.h"
#include "keel/base/small_vector.h"
#include "keel/device.h"
#include "keel/dtype.h"
#include "keel/index.h"
#include "keel/scalar.h"
#include "keel/shape.h"

#pragma GCC visibility push(default)
namespace keel {

struct TensorImpl;
class Indexed;
class Operand;
struct SumParams;
struct MeanParams;
struct VarParams;
struct ReduceParams;
struct AllParams;
struct ArgParams;
struct NormParams;
struct SoftmaxParams;
struct CumsumParams;

namespace detail {
void retain(const TensorImpl*) noexcept;
void release(TensorImpl*) noexcept;
}  // namespace detail

/// An n-dimensional array: a cheap handle on shared, typed, strided memory. Copies share; `clone()` copies. A default-constructed Tensor is empty: `defined()` is false and ops refuse it.
/// Rank is at most 8. Axes may be negative and then count from the end. All ops are free functions too, with the same names and params.
class Tensor {
 public:
  Tensor() noexcept = default;
  Tensor(const Tensor& o) noexcept : p_(o.p_) { if (p_) detail::retain(p_); }
  Tensor(Tensor&& o) noexcept : p_(o.p_) { o.p_ = nullptr; }
  Tensor& operator=(const Tensor& o) & noexcept {
    Tensor(o).swap(*this);
    return *this;
  }
  Tensor& operator=(Tensor&& o) & noexcept {
    Tensor(static_cast<Tensor&&>(o)).swap(*this);
    return *this;
  }
  /// `x[i] = v` writes through the view that the index made.
  void operator=(const Operand& v) &&;
  ~Tensor() { if (p_) detail::release(p_); }
  void swap(Tensor& o) noexcept { TensorImpl* t = p_; p_ = o.p_; o.p_ = t; }

  bool defined() const noexcept { return p_ != nullptr; }
  DType dtype() const;
  Device device() const;
  const Shape& shape() const&;
  Shape shape() && ;
  const Strides& strides() const&;
  Strides strides() &&;
  int64_t rank() const;
  /// Number of elements.
  int64_t size() const;
  /// Extent of one axis.
  int64_t size(int64_t axis) const;
  size_t nbytes() const;
  bool is_contiguous() const;
  /// Whether both look at the same memory block.
  bool shares_storage(const Tensor& o) const;
  /// Whether both handles name the same tensor object.
  bool is(const Tensor& o) const noexcept { return p_ == o.p_; }

  /// Pointer to the first element; raises DTypeError where `T` is not the dtype, DeviceError off the CPU. Read-only storage gives only the const form.
  template <class T> T* data() { return static_cast<T*>(mutable_bytes(dtype_of<T>)); }
  template <class T> const T* data() const { return static_cast<const T*>(bytes(dtype_of<T>)); }
  const void* raw_data() const { return bytes(DType::none); }
  void* raw_data() { return mutable_bytes(DType::none); }
  /// The single element as double, or as `T`; raises ShapeError where there is not exactly one.
  double item() const;
  template <class T> T item() const {
    if constexpr (std::is_floating_point_v<T>) return T(item());
    else if constexpr (std::is_same_v<T, bool>) return item_int() != 0;
    else return T(item_int());
  }

  // Indexing: views for integers, slices, `ellipsis`, `newaxis`; copies for masks and integer arrays. Assignment through an index writes in every case.
  Indexed operator[](const Index& i) const;
  Indexed operator[](std::initializer_list<Index> i) const;
  Tensor index(std::initializer_list<Index> i) const;

  // Gradients
  bool requires_grad() const;
  Tensor& requires_grad_(bool on = true);
  /// Whether gradients flow through this tensor: a leaf that requires them, or a result computed from one.
  bool tracked() const;
  bool is_leaf() const;
  /// The accumulated gradient of a leaf; undefined before the first backward.
  Tensor grad() const;
  void set_grad(const Tensor& g);
  void zero_grad();
  void backward() const;
  void backward(const Tensor& cotangent, bool retain_graph = false, bool create_graph = false) const;
  Tensor detach() const;
  /// How often the storage was written; shared by all views.
  uint32_t version() const;

  // Conversion and copies
  Tensor to(DType t) const;
  Tensor to(Device d) const;
  Tensor astype(DType t) const;
  Tensor clone() const;
  Tensor contiguous() const;
  /// A dense copy (or itself) whose channels are innermost in memory; rank 4.
  Tensor channels_last() const;

  // In place. On a tracked result its graph node is replaced; on a tracked leaf or view: AutogradError.
  Tensor& copy_(const Operand& src);
  Tensor& fill_(Scalar v);
  Tensor& zero_();
  Tensor& add_(const Operand& o);
  Tensor& sub_(const Operand& o);
  Tensor& mul_(const Operand& o);
  Tensor& div_(const Operand& o);
  Tensor& operator+=(const Operand& o) { return add_(o); }
  Tensor& operator-=(const Operand& o) { return sub_(o); }
  Tensor& operator*=(const Operand& o) { return mul_(o); }
  Tensor& operator/=(const Operand& o) { return div_(o); }
  Tensor& relu_();
  Tensor& clamp_(Scalar lo, Scalar hi);
  Tensor& masked_fill_(const Tensor& mask, Scalar v);

  // Shape
  Tensor reshape(const Shape& s) const;
  Tensor view(const Shape& s) const;
  Tensor transpose() const;
  Tensor transpose(int64_t a, int64_t b) const;
  Tensor permute(const Dims& order) const;
  Tensor flatten(int64_t first = 0, int64_t last = -1) const;
  Tensor squeeze() const;
  Tensor squeeze(int64_t axis) const;
  Tensor unsqueeze(int64_t axis) const;
  Tensor expand(const Shape& s) const;
  Tensor broadcast_to(const Shape& s) const;
  Tensor flip(const Axes& axes) const;

  // Reductions and row ops; without params: over all axes
  Tensor sum() const;
  Tensor sum(const SumParams& p) const;
  Tensor mean() const;
  Tensor mean(const MeanParams& p) const;
  Tensor var() const;
  Tensor var(const VarParams& p) const;
  Tensor stddev() const;
  Tensor stddev(const VarParams& p) const;
  Tensor max() const;
  Tensor max(const ReduceParams& p) const;
  Tensor min() const;
  Tensor min(const ReduceParams& p) const;
  Tensor prod() const;
  Tensor prod(const SumParams& p) const;
  Tensor any() const;
  Tensor any(const AllParams& p) const;
  Tensor all() const;
  Tensor all(const AllParams& p) const;
  Tensor argmax() const;
  Tensor argmax(const ArgParams& p) const;
  Tensor argmin() const;
  Tensor argmin(const ArgParams& p) const;
  Tensor norm() const;
  Tensor norm(const NormParams& p) const;
  Tensor softmax(const SoftmaxParams& p) const;
  Tensor log_softmax(const SoftmaxParams& p) const;
  Tensor cumsum(const CumsumParams& p) const;

  // Elementwise
  Tensor abs() const;
  Tensor exp() const;
  Tensor log() const;
  Tensor sqrt() const;
  Tensor square() const;
  Tensor sin() const;
  Tensor cos() const;
  Tensor tanh() const;
  Tensor sigmoid() const;
  Tensor relu() const;
  Tensor pow(const Operand& e) const;
  Tensor clamp(Scalar lo, Scalar hi) const;
  Tensor masked_fill(const Tensor& mask, Scalar v) const;
  Tensor matmul(const Tensor& o) const;

  /// For Keel's own code: the shared object behind the handle.
  TensorImpl* impl() const noexcept { return p_; }
  /// Takes over one reference that the caller holds.
  static Tensor adopt(TensorImpl* p) noexcept {
    Tensor t;
    t.p_ = p;
    return t;
  }

 protected:
  TensorImpl* p_ = nullptr;

 private:
  const void* bytes(DType expected) const;
  void* mutable_bytes(DType expected);
  int64_t item_int() const;
};

/// A list of tensors, as ops that take or give several use it.
using Tensors = SmallVector<Tensor, 3>;

/// The result of indexing: a tensor that remembers where it came from, so that assigning to it writes there.
class Indexed : public Tensor {
 public:
  explicit Indexed(Tensor view) : Tensor(static_cast<Tensor&&>(view)) {}
  Indexed(Tensor result, Tensor base, SmallVector<Index, 4> at);
  Indexed(const Indexed&) = default;
  Indexed(Indexed&&) = default;
  Indexed& operator=(const Indexed& o) & = default;
  Indexed& operator=(Indexed&& o) & = default;
  /// A named variable is bound anew, as any Tensor.
  Indexed& operator=(const Tensor& t) & { return *this = Indexed(t); }
  void operator=(const Operand& v) &&;
  void operator=(const Indexed& v) &&;
  void operator=(Indexed&& v) &&;
  /// `x[i] += v` reads, adds and writes; a position that an array names twice is written once, as in NumPy.
  void operator+=(const Operand& v) &&;
  void operator-=(const Operand& v) &&;
  void operator*=(const Operand& v) &&;
  void operator/=(const Operand& v) &&;
  Tensor& operator+=(const Operand& v) & { return add_(v); }
  Tensor& operator-=(const Operand& v) & { return sub_(v); }
  Tensor& operator*=(const Operand& v) & { return mul_(v); }
  Tensor& operator/=(const Operand& v) & { return div_(v); }

 private:
  Tensor base_;  // defined for masks and integer arrays only
  SmallVector<Index, 4> at_;
};

/// A tensor or a weak number: what elementwise ops take.
/// A type of parameters: it looks at an lvalue that it is made from, which must outlive it.
class Operand {
 public:
  Operand(const Tensor& t) : at_(&t) {}
  Operand(Tensor&& t) : own_(static_cast<Tensor&&>(t)), at_(&own_) {}
  Operand(Scalar s);
  template <Arithmetic T> Operand(T v) : Operand(Scalar(v)) {}
  Operand(const Operand& o) : own_(o.own_), at_(o.at_ == &o.own_ ? &own_ : o.at_) {}
  Operand& operator=(const Operand&) = delete;
  const Tensor& tensor() const { return *at_; }

 private:
  Tensor own_;  // numbers are 0-d tensors marked weak, with the value inside the object
  const Tensor* at_;
};

std::string to_string(const Tensor& t);
std::ostream& operator<<(std::ostream& os, const Tensor& t);

// Operators; comparisons are elementwise and give bool tensors.
#define KEEL_BINARY_OPERATOR(SYMBOL)                           \
  Tensor operator SYMBOL(const Tensor& a, const Tensor& b);    \
  Tensor operator SYMBOL(const Tensor& a, const Scalar& b);    \
  Tensor operator SYMBOL(const Scalar& a, const Tensor& b);
KEEL_BINARY_OPERATOR(+)
KEEL_BINARY_OPERATOR(-)
KEEL_BINARY_OPERATOR(*)
KEEL_BINARY_OPERATOR(/)
KEEL_BINARY_OPERATOR(%)
KEEL_BINARY_OPERATOR(==)
KEEL_BINARY_OPERATOR(!=)
KEEL_BINARY_OPERATOR(<)
KEEL_BINARY_OPERATOR(<=)
KEEL_BINARY_OPERATOR(>)
KEEL_BINARY_OPERATOR(>=)
KEEL_BINARY_OPERATOR(&)
KEEL_BINARY_OPERATOR(|)
KEEL_BINARY_OPERATOR(^)
#undef KEEL_BINARY_OPERATOR
Tensor operator-(const Tensor& x);
Tensor operator~(const Tensor& x);
Tensor operator!(const Tensor& x);

/// How a tensor is created.
struct TensorOptions {
  [[no_unique_address]] ByName by_name = ByName();
  DType dtype = DType::none;  // none: f32, or what the values call for
  Device device = cpu_device;
  bool requires_grad = false;
};

}  // namespace keel
#pragma GCC visibility pop
