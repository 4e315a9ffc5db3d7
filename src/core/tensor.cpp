#include "keel/tensor.h"

#include <cmath>
#include <cstring>

#include "core/device_driver.h"
#include "core/impl.h"
#include "core/scope.h"
#include "keel/error.h"
#include "keel/numerics/types.h"

namespace keel {
namespace {

const TensorImpl& given(const Tensor& t, const char* what) {
  if (!t.defined()) raise(Error(ErrorCode::value, std::string(what) + " of an empty tensor").op(what).hint("a default-constructed Tensor has no value yet"));
  return *t.impl();
}

template <class T>
T load(const void* p) {
  T v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
template <class T>
void store(void* p, T v) { std::memcpy(p, &v, sizeof v); }

void require_single(const Tensor& t) {
  if (t.size() != 1)
    raise(Error(ErrorCode::shape, "item needs a tensor with one element, got " + std::to_string(t.size())).op("item").arg("x", to_string(t.impl()->spec)).hint("index first, as in x[{0, 1}].item(), or reduce"));
}

}  // namespace

DType Tensor::dtype() const { return given(*this, "dtype").spec.dtype; }
Device Tensor::device() const { return given(*this, "device").device; }
const Shape& Tensor::shape() const& { return given(*this, "shape").spec.shape; }
Shape Tensor::shape() && { return given(*this, "shape").spec.shape; }
const Strides& Tensor::strides() const& { return given(*this, "strides").strides; }
Strides Tensor::strides() && { return given(*this, "strides").strides; }
int64_t Tensor::rank() const { return given(*this, "rank").spec.shape.rank(); }
int64_t Tensor::size() const { return given(*this, "size").spec.shape.numel(); }
int64_t Tensor::size(int64_t axis) const {
  const Shape& s = shape();
  if (axis < -s.rank() || axis >= s.rank())
    raise(Error(ErrorCode::index, "axis " + std::to_string(axis) + " is out of range [" + std::to_string(-s.rank()) + ", " + std::to_string(s.rank() - 1) + "]").op("size").arg("x", to_string(p_->spec)));
  return s[int(axis)];
}
size_t Tensor::nbytes() const { return size_t(size()) * size_of(dtype()); }
bool Tensor::is_contiguous() const { return keel::is_contiguous(shape(), strides()); }
bool Tensor::shares_storage(const Tensor& o) const {
  const TensorImpl &a = given(*this, "storage"), &b = given(o, "storage");
  return a.storage && a.storage == b.storage;
}
uint32_t Tensor::version() const {
  const TensorImpl& t = given(*this, "version");
  return t.storage ? t.storage->version.load(std::memory_order_relaxed) : 0;
}

const void* Tensor::bytes(DType expected) const {
  const TensorImpl& t = given(*this, "data");
  if (t.device.type != DeviceType::cpu) raise(Error(ErrorCode::device, "data of a tensor on " + to_string(t.device) + " cannot be read here").op("data").hint("x.to(device(\"cpu\")) copies it"));
  if (expected != DType::none && expected != t.spec.dtype)
    raise(Error(ErrorCode::dtype, std::string("values of ") + name_of(expected) + " asked of a tensor of " + name_of(t.spec.dtype)).op("data").arg("x", to_string(t.spec)).hint(std::string("x.astype(") + name_of(expected) + ") converts"));
  if (TraceSink* trace = scope().trace) trace->host_read(trace, t);
  return t.data;
}
void* Tensor::mutable_bytes(DType expected) {
  const void* p = static_cast<const Tensor*>(this)->bytes(expected);
  if (p_->storage && p_->storage->readonly) raise(Error(ErrorCode::value, "the tensor's memory is read-only").op("data").arg("x", to_string(p_->spec)).hint("x.clone() gives a writable copy; a const Tensor gives const data"));
  return const_cast<void*>(p);
}

namespace {
/// The bytes of the one element, wherever it lives.
struct OneElement {
  alignas(16) std::byte value[16];
  explicit OneElement(const Tensor& t) {
    const TensorImpl& x = given(t, "item");
    require_single(t);
    if (TraceSink* trace = scope().trace) trace->host_read(trace, x);
    if (x.device.type == DeviceType::cpu || x.weak) std::memcpy(value, x.data, size_of(x.spec.dtype));
    else device_copy(x.device, value, x.data, size_of(x.spec.dtype), CopyWay::to_host);
  }
};
}  // namespace

double Tensor::item() const { return read_double(OneElement(*this).value, dtype()); }
int64_t Tensor::item_int() const { return read_int(OneElement(*this).value, dtype()); }

double read_double(const void* p, DType t) {
  switch (t) {
    case DType::boolean: return load<uint8_t>(p) != 0;
    case u8: return load<uint8_t>(p);
    case u16: return load<uint16_t>(p);
    case u32: return load<uint32_t>(p);
    case u64: return double(load<uint64_t>(p));
    case i8: return load<int8_t>(p);
    case i16: return load<int16_t>(p);
    case i32: return load<int32_t>(p);
    case i64: return double(load<int64_t>(p));
    case f8e4m3fn: return float(load<float8_e4m3fn>(p));
    case f8e5m2: return float(load<float8_e5m2>(p));
    case f16: return float(load<float16>(p));
    case bf16: return float(load<bfloat16>(p));
    case f32: case complex64: return load<float>(p);
    case f64: case complex128: return load<double>(p);
    default: KEEL_ASSERT(false);
  }
}

int64_t read_int(const void* p, DType t) {
  switch (t) {
    case DType::boolean: return load<uint8_t>(p) != 0;
    case u8: return load<uint8_t>(p);
    case u16: return load<uint16_t>(p);
    case u32: return load<uint32_t>(p);
    case u64: case i64: return load<int64_t>(p);
    case i8: return load<int8_t>(p);
    case i16: return load<int16_t>(p);
    case i32: return load<int32_t>(p);
    default: {
      const double v = read_double(p, t);
      if (!(v >= -0x1p63 && v < 0x1p63)) return INT64_MIN;  // what the hardware gives for a value without an integer
      return int64_t(v);
    }
  }
}

void write_scalar(void* p, DType t, Scalar v) {
  switch (t) {
    case DType::boolean: return store(p, uint8_t(v.to_bool()));
    case u8: case i8: return store(p, int8_t(v.to_int()));
    case u16: case i16: return store(p, int16_t(v.to_int()));
    case u32: case i32: return store(p, int32_t(v.to_int()));
    case u64: case i64: return store(p, v.to_int());
    case f8e4m3fn: return store(p, float8_e4m3fn(v.to_double()));
    case f8e5m2: return store(p, float8_e5m2(v.to_double()));
    case f16: return store(p, float16(v.to_double()));
    case bf16: return store(p, bfloat16(v.to_double()));
    case f32: return store(p, float(v.to_double()));
    case f64: return store(p, v.to_double());
    case complex64: store(p, float(v.to_double())); return store(static_cast<char*>(p) + 4, 0.0f);
    case complex128: store(p, v.to_double()); return store(static_cast<char*>(p) + 8, 0.0);
    default: KEEL_ASSERT(false);
  }
}

bool holds(DType t, Scalar v) {
  if (!is_integer(t)) return true;
  const int bits = 8 * int(size_of(t));
  const bool is_signed = t >= i8 && t <= i64;
  if (v.kind() == f64) {
    const double whole = std::trunc(v.to_double()), end = std::ldexp(1.0, is_signed ? bits - 1 : bits);
    return whole >= (is_signed ? -end : 0) && whole < end;  // NaN is in no range
  }
  const int64_t i = v.to_int();
  if (v.kind() == u64) return t == u64;  // beyond the range of i64
  if (is_signed) return i >> (bits - 1) == 0 || i >> (bits - 1) == -1;
  return i >= 0 && (bits == 64 || i >> bits == 0);
}

Operand::Operand(Scalar s) : own_(make_scalar(s)), at_(&own_) {}

Index::Index(const Tensor& t) : kind_(Kind::array), array_(t.impl()) {
  if (array_) detail::retain(array_);
}
Index::Index(const Index& o) : value_(o.value_), slice_(o.slice_), kind_(o.kind_), array_(o.array_) {
  if (array_) detail::retain(array_);
}
Index& Index::operator=(const Index& o) {
  if (o.array_) detail::retain(o.array_);
  if (array_) detail::release(array_);
  value_ = o.value_, slice_ = o.slice_, kind_ = o.kind_, array_ = o.array_;
  return *this;
}
Index::~Index() {
  if (array_) detail::release(array_);
}
const Tensor& Index::array() const {
  static_assert(sizeof(Tensor) == sizeof(TensorImpl*));
  return reinterpret_cast<const Tensor&>(array_);
}

std::string to_string(const Spec& s) {
  std::string text = std::string(name_of(s.dtype)) + "[";
  for (int i = 0; i < s.shape.rank(); ++i) text += (i ? ", " : "") + (s.shape[i] == Extent::unknown ? "?" : std::to_string(s.shape[i]));
  return text + "]";
}

std::string to_string(Device d) {
  constexpr const char* names[] = {"cpu", "cuda", "webgpu"};
  std::string s = names[int(d.type)];
  if (d.type != DeviceType::cpu) s += ":" + std::to_string(d.index);
  return s;
}

}  // namespace keel
