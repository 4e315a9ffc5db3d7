// Memory blocks and the tensor objects that look at them. Both kinds of object come from per-thread free lists: making a small tensor must cost tens of nanoseconds.
#include <cstdlib>
#include <cstring>
#include <new>

#include "core/allocator.h"
#include "core/impl.h"
#include "keel/error.h"
#include "core/scope.h"

namespace keel {
namespace {

/// Freed objects of one type, kept by the thread that freed them.
template <class T>
class FreeList {
 public:
  ~FreeList() {
    while (head_) {
      Link* l = head_;
      head_ = l->next;
      std::free(l);
    }
    closed_ = true;
  }
  void* take() {
    if (head_) {
      Link* l = head_;
      head_ = l->next, --count_;
      return l;
    }
    void* p = std::aligned_alloc(64, (sizeof(T) + 63) / 64 * 64);
    if (!p) raise(Error(ErrorCode::memory, "out of memory for tensor objects"));
    return p;
  }
  void give(void* p) {
    if (closed_ || count_ >= 4096) return std::free(p);
    auto* l = static_cast<Link*>(p);
    l->next = head_, head_ = l, ++count_;
  }

 private:
  struct Link {
    Link* next;
  };
  Link* head_ = nullptr;
  int count_ = 0;
  bool closed_ = false;
};
thread_local FreeList<TensorImpl> free_impls;
thread_local FreeList<Storage> free_storages;

Ref<Storage> new_storage() { return Ref<Storage>(new (free_storages.take()) Storage); }

}  // namespace

void Storage::destroy(Storage* s) {
  if (s->release) s->release(s);
  s->~Storage();
  free_storages.give(s);
}

Ref<Storage> allocate_storage(size_t bytes, Device device) {
  Ref<Storage> s = new_storage();
  s->bytes = bytes, s->device = device;
  if (device.type != DeviceType::cpu) raise(Error(ErrorCode::device, "no backend for " + to_string(device) + " is loaded"));
  if (bytes == 0) return s;
  s->data = static_cast<std::byte*>(cpu_allocate(bytes, scope().path));
  if (!s->data) raise(Error(ErrorCode::memory, "out of memory: " + std::to_string(bytes) + " bytes wanted").note(memory_report(bytes)));
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

TensorImpl* TensorImpl::create() { return new (free_impls.take()) TensorImpl; }
void TensorImpl::destroy(TensorImpl* p) {
  delete p->grad;
  p->~TensorImpl();
  free_impls.give(p);
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

void check_extents(const Shape& s, DType t) {
  int64_t n = int64_t(size_of(t));
  for (int64_t e : s) {
    if (e < 0) raise(Error(ErrorCode::value, "shape " + to_string(s) + " has a negative extent"));
    if (e != 0 && __builtin_mul_overflow(n, e, &n)) raise(Error(ErrorCode::value, "shape " + to_string(s) + " overflows: more bytes than an address can count"));
  }
}

Tensor make_tensor(DType t, const Shape& s, Device d) { return make_tensor(t, s, contiguous_strides(s), d); }

Tensor make_tensor(DType t, const Shape& s, const Strides& st, Device d) {
  check_extents(s, t);
  Ref<Storage> storage = allocate_storage(size_t(s.numel()) * size_of(t), d);
  return make_view(std::move(storage), t, s, st, 0);
}

Tensor make_view(Ref<Storage> storage, DType t, const Shape& s, const Strides& st, int64_t offset) {
  TensorImpl* p = TensorImpl::create();
  p->spec = {t, s}, p->strides = st, p->offset = offset, p->device = storage->device;
  p->data = storage->data + offset * int64_t(size_of(t));
  p->storage = std::move(storage);
  return wrap(p);
}

Tensor make_view(const Tensor& x, const Shape& s, const Strides& st, int64_t offset) {
  const TensorImpl& xi = impl(x);
  if (xi.weak) {  // a number has no storage; a window on it is the number
    TensorImpl* p = TensorImpl::create();
    p->spec = {xi.spec.dtype, s}, p->strides = st, p->device = xi.device, p->data = p->value;
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
  if (ti.spec.dtype == f64) return Scalar(read_double(ti.data, f64));
  if (ti.spec.dtype == DType::boolean) return Scalar(read_int(ti.data, DType::boolean) != 0);
  if (ti.spec.dtype == u64) return Scalar(uint64_t(read_int(ti.data, u64)));
  return Scalar(read_int(ti.data, ti.spec.dtype));
}

GradMeta& grad_meta(const Tensor& t) {
  TensorImpl& ti = impl(t);
  if (!ti.grad) ti.grad = new GradMeta;
  return *ti.grad;
}

}  // namespace keel
