#pragma once
// The objects behind a Tensor handle. Only Keel's own modules see them.
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "keel/base/ref.h"
#include "keel/spec.h"
#include "keel/tensor.h"

namespace keel {

/// A block of memory. `version` counts writes and is shared by all views; `writer` names the op that wrote last.
struct Storage : RefCounted {
  std::byte* data = nullptr;
  size_t bytes = 0;
  Device device;
  bool readonly = false;
  std::atomic<uint32_t> version{0};
  const char* writer = "";
  uint64_t traced = 0;                  // which value of which recording owns this memory
  void (*release)(Storage*) = nullptr;  // frees `data`
  void* context = nullptr;              // for `release`: the owner of borrowed memory
  static void destroy(Storage* s);
};

/// New memory of the caching allocator; raises MemoryError with a report where there is none.
Ref<Storage> allocate_storage(size_t bytes, Device device = cpu_device);
/// Memory that somebody else owns; `release(context)` runs when the last view goes. It may be null.
Ref<Storage> borrow_storage(void* data, size_t bytes, bool readonly, void* context, void (*release)(void* context));

/// Base of autograd's nodes, so that a tensor can hold one without knowing them.
struct NodeBase : RefCounted {
  void (*free_self)(NodeBase*) = nullptr;
  static void destroy(NodeBase* n) { n->free_self(n); }
};

/// What autograd knows of a tensor; allocated for tracked tensors only. `hooks` belongs to autograd.
struct GradMeta {
  Tensor grad;
  Ref<NodeBase> node;  // null for a leaf
  uint32_t slot = 0;   // which output of the node
  bool requires_grad = false;
  bool is_view = false;        // a view made under grad mode from a tracked base
  uint32_t view_version = 0;   // the storage's version when the view was made
  int32_t optimisers = 0;      // how many optimisers train this leaf
  std::atomic<const char*> name{nullptr};  // path of a parameter in its model, interned, for messages
  void* hooks = nullptr;
  void (*free_hooks)(void*) = nullptr;
  ~GradMeta() { if (hooks) free_hooks(hooks); }
};

struct TensorImpl : RefCounted {
  Spec spec;
  Strides strides;
  int64_t offset = 0;         // in elements from the storage's begin
  std::byte* data = nullptr;  // first element
  Ref<Storage> storage;       // null for weak scalars: their value is `value`
  GradMeta* grad = nullptr;
  Device device;
  bool weak = false;
  uint64_t traced = 0;        // which value of which recording this is
  alignas(16) std::byte value[16];

  bool tracked() const { return grad && (grad->requires_grad || grad->node); }
  TensorImpl() = default;
  TensorImpl(DType t, const Shape& s, const Strides& st) : spec{t, s}, strides(st) {}
  static TensorImpl* create();
  static TensorImpl* create(DType t, const Shape& s, const Strides& st);
  static void destroy(TensorImpl* p);
};

inline TensorImpl& impl(const Tensor& t) { return *t.impl(); }
/// What is wrong with a new tensor's shape: an extent is negative, or the product of extents, times the element size, overflows int64. Empty: nothing.
std::string wrong_extents(const Shape& s, DType t);
/// Raises ValueError where the product of extents, times the element size, overflows int64 or an extent is negative.
void check_extents(const Shape& s, DType t);
/// Uninitialised tensor with the given layout; an empty `strides` means row-major.
#pragma GCC visibility push(default)  // the io library uses it too
Tensor make_tensor(DType t, const Shape& s, Device d = cpu_device);
Tensor make_tensor(DType t, const Shape& s, const Strides& st, Device d = cpu_device);
#pragma GCC visibility pop
/// Another window on `x`'s storage.
Tensor make_view(const Tensor& x, const Shape& s, const Strides& st, int64_t offset);
Tensor make_view(Ref<Storage> storage, DType t, const Shape& s, const Strides& st, int64_t offset);
/// A weak 0-d tensor with its value inside.
Tensor make_scalar(Scalar s);
/// The same number as `t`.
Tensor make_scalar(double v, int64_t i, DType source_kind, DType t);
/// The value of a weak 0-d tensor.
Scalar scalar_of(const Tensor& t);
/// A new handle object on the same memory, without gradient.
Tensor alias_of(const Tensor& x);
GradMeta& grad_meta(const Tensor& t);
/// Reads element `p` of dtype `t` as double / int64.
double read_double(const void* p, DType t);
int64_t read_int(const void* p, DType t);
void write_scalar(void* p, DType t, Scalar v);
/// Whether `t` has room for `v`: an integer dtype for what lies in its range once the fraction is cut off, the others for every number.
bool holds(DType t, Scalar v);

/// For Keel's own bugs only: no user, shape or file may trigger one.
[[noreturn]] void assert_failed(const char* expression, const char* file, int line);
#define KEEL_ASSERT(...) ((__VA_ARGS__) ? (void)0 : ::keel::assert_failed(#__VA_ARGS__, __FILE__, __LINE__))

}  // namespace keel
