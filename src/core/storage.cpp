// Memory blocks and the tensor objects that look at them.
#include <cstdlib>
#include <cstring>
#include <new>

#include "core/allocator.h"
#include "core/device_driver.h"
#include "core/impl.h"
#include "core/pool.h"
#include "keel/error.h"
#include "core/scope.h"

namespace keel {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kPooled = false;  // so that a use after free shows
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
constexpr bool kPooled = false;
#else
constexpr bool kPooled = true;
#endif
#else
constexpr bool kPooled = true;
#endif

thread_local constinit bool pools_made = false;
struct PoolsEnd {
  bool armed = false;
  ~PoolsEnd() {
    ObjectPools* pools = std::exchange(detail::object_pools, nullptr);
    if (!pools) return;
    for (ObjectList& l : pools->lists)
      while (void* p = l.take()) std::free(p);
    delete pools;
  }
};
thread_local PoolsEnd pools_end;

Ref<Storage> new_storage() {
  auto* s = new (take_object<Storage>(PoolKind::storage)) Storage;
  s->refs.store(1, std::memory_order_relaxed);
  return Ref<Storage>::adopt(s);
}

}  // namespace

[[gnu::tls_model("initial-exec")]] thread_local constinit ObjectPools* detail::object_pools = nullptr;

void* detail::new_object(PoolKind, size_t bytes) {
  if (kPooled && !pools_made) {  // made and gone: the thread is ending
    pools_made = pools_end.armed = true;
    object_pools = new ObjectPools;
  }
  void* p = std::aligned_alloc(64, (bytes + 63) / 64 * 64);
  if (!p) raise(Error(ErrorCode::memory, "out of memory for tensor objects"));
  return p;
}
void detail::free_object(void* p) { std::free(p); }

void Storage::destroy(Storage* s) {
  if (s->release) s->release(s);
  s->~Storage();
  give_object(PoolKind::storage, s);
}

namespace {
[[gnu::cold, gnu::noinline]] void allocate_on(Device device, Storage& s) {
  const DeviceDriver& driver = driver_of(device);
  s.data = static_cast<std::byte*>(driver.allocate(device.index, s.bytes, scope().path));
  if (!s.data) {
    char report[4096];
    driver.memory_report(device.index, s.bytes, report, sizeof report);
    raise(about_call(Error(ErrorCode::memory, "out of memory on " + to_string(device) + ": " + std::to_string(s.bytes) + " bytes wanted")).note(report));
  }
  s.release = [](Storage* x) { driver_of(x->device).free(x->device.index, x->data, x->bytes); };
}
}  // namespace

Ref<Storage> allocate_storage(size_t bytes, Device device) {
  Ref<Storage> s = new_storage();
  s->bytes = bytes, s->device = device;
  if (bytes == 0) return s;
  if (device.type != DeviceType::cpu) [[unlikely]] {
    allocate_on(device, *s);
    return s;
  }
  s->data = static_cast<std::byte*>(cpu_allocate(bytes, scope().path));
  if (!s->data) raise(about_call(Error(ErrorCode::memory, "out of memory: " + std::to_string(bytes) + " bytes wanted")).note(memory_report(bytes)));
  s->release = [](Storage* x) { cpu_free(x->data, x->bytes); };
  return s;
}

Ref<Storage> borrow_storage(void* data, size_t bytes, bool readonly, void* context, void (*release)(void*)) {
  struct Owner {
    void* context;
    void (*release)(void*);
  };
  Ref<Storage> s = new_storage();
  s->data = static_cast<std::byte*>(data), s->bytes = bytes, s->readonly = readonly;
  if (release) {
    s->context = new Owner{context, release};
    s->release = [](Storage* x) {
      auto* o = static_cast<Owner*>(x->context);
      o->release(o->context);
      delete o;
    };
  }
  return s;
}

TensorImpl* TensorImpl::create() { return new (take_object<TensorImpl>(PoolKind::impl)) TensorImpl; }
TensorImpl* TensorImpl::create(DType t, const Shape& s, const Strides& st) { return new (take_object<TensorImpl>(PoolKind::impl)) TensorImpl(t, s, st); }
void TensorImpl::destroy(TensorImpl* p) {
  if (p->grad) p->grad->~GradMeta(), give_object(PoolKind::grad, p->grad);
  p->~TensorImpl();
  give_object(PoolKind::impl, p);
}

namespace detail {
void retain(const TensorImpl* p) noexcept { p->refs.fetch_add(1, std::memory_order_relaxed); }
void release(TensorImpl* p) noexcept {
  if (p->refs.load(std::memory_order_acquire) == 1 || p->refs.fetch_sub(1, std::memory_order_acq_rel) == 1) TensorImpl::destroy(p);
}
}  // namespace detail

namespace {
Tensor wrap(TensorImpl* p) {
  p->refs.store(1, std::memory_order_relaxed);
  return Tensor::adopt(p);
}
}  // namespace

std::string wrong_extents(const Shape& s, DType t) {
  int64_t n = int64_t(size_of(t));
  for (int64_t e : s) {
    if (e < 0) return "shape " + to_string(s) + " has a negative extent";
    if (e != 0 && __builtin_mul_overflow(n, e, &n)) return "shape " + to_string(s) + " overflows: more bytes than an address can count";
  }
  return {};
}

namespace {
[[gnu::cold, gnu::noinline, noreturn]] void refuse_extents(const Shape& s, DType t) {
  raise(about_call(Error(ErrorCode::value, wrong_extents(s, t))));
}

/// Bytes of a tensor.
size_t checked_bytes(const Shape& s, DType t) {
  int64_t n = int64_t(size_of(t)), zero = 1;
  for (int64_t e : s) {
    if (e == 0) zero = 0;
    else if (e < 0 || __builtin_mul_overflow(n, e, &n)) refuse_extents(s, t);
  }
  return size_t(n * zero);
}
}  // namespace

void check_extents(const Shape& s, DType t) { checked_bytes(s, t); }

Tensor make_tensor(DType t, const Shape& s, Device d) { return make_tensor(t, s, contiguous_strides(s), d); }

Tensor make_tensor(DType t, const Shape& s, const Strides& st, Device d) { return make_view(allocate_storage(checked_bytes(s, t), d), t, s, st, 0); }

Tensor make_view(Ref<Storage> storage, DType t, const Shape& s, const Strides& st, int64_t offset) {
  TensorImpl* p = TensorImpl::create(t, s, st);
  p->offset = offset, p->device = storage->device;
  p->data = storage->data ? storage->data + offset * int64_t(size_of(t)) : nullptr;
  p->storage = std::move(storage);
  return wrap(p);
}

Tensor make_view(const Tensor& x, const Shape& s, const Strides& st, int64_t offset) {
  const TensorImpl& xi = impl(x);
  if (xi.weak) {  // a number has no storage; a window on it is the number
    TensorImpl* p = TensorImpl::create(xi.spec.dtype, s, st);
    p->device = xi.device, p->data = p->value;
    std::memcpy(p->value, xi.value, sizeof p->value);
    return wrap(p);
  }
  return make_view(xi.storage, xi.spec.dtype, s, st, xi.offset + offset);
}

Tensor alias_of(const Tensor& x) {
  const TensorImpl& xi = impl(x);
  return make_view(x, xi.spec.shape, xi.strides, 0);
}

Tensor make_scalar(Scalar v) {
  TensorImpl* p = TensorImpl::create();
  p->spec.dtype = v.kind(), p->weak = true, p->data = p->value;
  write_scalar(p->value, v.kind(), v);
  return wrap(p);
}
Scalar scalar_of(const Tensor& t) {
  const TensorImpl& ti = impl(t);
  if (is_inexact(ti.spec.dtype)) return Scalar(read_double(ti.data, ti.spec.dtype));  // an operand's dtype, once promoted
  if (ti.spec.dtype == DType::boolean) return Scalar(read_int(ti.data, DType::boolean) != 0);
  if (ti.spec.dtype == u64) return Scalar(uint64_t(read_int(ti.data, u64)));
  return Scalar(read_int(ti.data, ti.spec.dtype));
}

GradMeta& grad_meta(const Tensor& t) {
  TensorImpl& ti = impl(t);
  if (!ti.grad) ti.grad = new (take_object<GradMeta>(PoolKind::grad)) GradMeta;
  return *ti.grad;
}

}  // namespace keel
