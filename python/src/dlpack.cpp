// DLPack, both capsules: "dltensor" and, from version 1 on, "dltensor_versioned", which can say that memory is read-only.
#include "convert.h"

namespace keel::python {
namespace {

struct DlDevice {
  int32_t type, id;
};
struct DlType {
  uint8_t code, bits;
  uint16_t lanes;
};
struct DlTensor {
  void* data;
  DlDevice device;
  int32_t rank;
  DlType dtype;
  int64_t* shape;
  int64_t* strides;
  uint64_t byte_offset;
};
struct DlManaged {
  DlTensor tensor;
  void* context;
  void (*deleter)(DlManaged*);
};
struct DlVersioned {
  uint32_t major, minor;
  void* context;
  void (*deleter)(DlVersioned*);
  uint64_t flags;
  DlTensor tensor;
};
constexpr uint64_t kReadOnly = 1, kCopied = 2;
constexpr int32_t kCpu = 1;
constexpr const char *kOldName = "dltensor", *kNewName = "dltensor_versioned", *kOldUsed = "used_dltensor",
                     *kNewUsed = "used_dltensor_versioned";

constexpr uint8_t kCodes[kDTypes] = {0, 6, 1, 1, 1, 1, 0, 0, 0, 0, 10, 12, 2, 4, 2, 2, 5, 5};  // by DType

DlType dl_type(DType t) { return {kCodes[int(t)], uint8_t(size_of(t) * 8), 1}; }
DType from_dl_type(DlType d) {
  for (int i = 1; i < kDTypes; ++i)
    if (d.lanes == 1 && d.code == kCodes[i] && d.bits == size_of(DType(i)) * 8) return DType(i);
  throw nb::buffer_error("DLPack: no dtype of Keel stands for this element type");
}

template <class Managed>
struct Export {
  Managed managed{};
  Tensor keep;
  int64_t shape[kMaxRank], strides[kMaxRank];
};

template <class Managed>
Export<Managed>* make_export(const Tensor& t) {
  auto* e = new Export<Managed>;
  e->keep = t;
  for (int i = 0; i < t.rank(); ++i) e->shape[i] = t.shape()[i], e->strides[i] = t.strides()[i];
  e->managed.tensor = {impl(t).data, {kCpu, 0}, int32_t(t.rank()), dl_type(t.dtype()), e->shape, e->strides, 0};
  e->managed.context = e;
  e->managed.deleter = [](Managed* m) { delete static_cast<Export<Managed>*>(m->context); };
  return e;
}

template <class Managed>
nb::object capsule_of(Managed* m, const char* name) {
  PyObject* c = PyCapsule_New(m, name, [](PyObject* o) {
    const char* n = PyCapsule_GetName(o);
    if (n && (std::string_view(n) == kOldName || std::string_view(n) == kNewName)) {  // nobody took it
      auto* m = static_cast<Managed*>(PyCapsule_GetPointer(o, n));
      m->deleter(m);
    }
  });
  if (!c) m->deleter(m), nb::raise_python_error();
  return nb::steal(c);
}

template <class Managed>
void release_import(void* context) {
  auto* m = static_cast<Managed*>(context);
  if (!m->deleter || !nb::is_alive()) return;  // after the interpreter's end its memory is gone anyway
  nb::gil_scoped_acquire gil;
  m->deleter(m);
}

template <class Managed>
Tensor import_tensor(Managed* m, bool readonly) {
  const DlTensor& d = m->tensor;
  if (d.device.type != kCpu) throw nb::buffer_error("DLPack: the memory is not on the CPU");
  if (d.rank > kMaxRank) throw nb::buffer_error("DLPack: more than 8 axes");
  const DType t = from_dl_type(d.dtype);
  Shape s;
  for (int i = 0; i < d.rank; ++i) s.push_back(d.shape[i]);
  check_extents(s, t);
  Strides st = contiguous_strides(s);
  if (d.strides)
    for (int i = 0; i < d.rank; ++i) st[i] = d.strides[i];
  int64_t low = 0, high = 0;
  const int64_t n = s.numel(), bytes = int64_t(size_of(t));
  if (n > 0)
    for (int i = 0; i < d.rank; ++i) (st[i] < 0 ? low : high) += st[i] * (s[i] - 1);
  char* first = static_cast<char*>(d.data) + d.byte_offset;
  Ref<Storage> storage =
      borrow_storage(first + low * bytes, size_t(n > 0 ? (high - low + 1) * bytes : 0), readonly, m, release_import<Managed>);
  return make_view(std::move(storage), t, s, st, -low);
}

}  // namespace

nb::object to_dlpack(const Tensor& given, nb::object max_version, nb::object dl_device, nb::object copy) {
  if (!dl_device.is_none() && nb::cast<int>(dl_device[0]) != kCpu) throw nb::buffer_error("__dlpack__: the tensor is on the CPU");
  if (given.tracked())
    throw nb::buffer_error("__dlpack__: the tensor is part of a gradient graph, which other libraries do not see; export x.detach()");
  const bool copied = !copy.is_none() && nb::cast<bool>(copy);
  const Tensor t = copied ? given.clone() : given;
  const bool readonly = impl(t).storage && impl(t).storage->readonly;
  if (!max_version.is_none() && nb::cast<int>(max_version[0]) >= 1) {
    auto* e = make_export<DlVersioned>(t);
    e->managed.major = 1, e->managed.minor = 0;
    e->managed.flags = (readonly ? kReadOnly : 0) | (copied ? kCopied : 0);
    return capsule_of(&e->managed, kNewName);
  }
  if (readonly) throw nb::buffer_error("__dlpack__: the memory is read-only, which DLPack before version 1 cannot say; export x.clone()");
  return capsule_of(&make_export<DlManaged>(t)->managed, kOldName);
}

Tensor from_capsule(nb::object capsule) {
  PyObject* c = capsule.ptr();
  if (PyCapsule_IsValid(c, kNewName)) {
    auto* m = static_cast<DlVersioned*>(PyCapsule_GetPointer(c, kNewName));
    if (m->major != 1) throw nb::buffer_error("DLPack: unknown major version");
    Tensor t = import_tensor(m, m->flags & kReadOnly);
    PyCapsule_SetName(c, kNewUsed);
    return t;
  }
  if (PyCapsule_IsValid(c, kOldName)) {
    Tensor t = import_tensor(static_cast<DlManaged*>(PyCapsule_GetPointer(c, kOldName)), false);
    PyCapsule_SetName(c, kOldUsed);
    return t;
  }
  throw nb::value_error("from_dlpack: the object's __dlpack__ gave no fresh DLPack capsule");
}

}  // namespace keel::python
