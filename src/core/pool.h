#pragma once
// Objects that every op makes and drops (tensors, storages, gradient nodes) come from lists that each thread keeps: making one must cost a
// few nanoseconds.
#include <cstddef>
#include <new>

namespace keel {

/// Freed objects of one size.
class ObjectList {
 public:
  void* take() {
    Link* l = head_;
    if (!l) return nullptr;
    head_ = l->next, --count_;
    return l;
  }
  bool give(void* p) {
    if (count_ >= kMost) return false;
    auto* l = static_cast<Link*>(p);
    l->next = head_, head_ = l, ++count_;
    return true;
  }

 private:
  static constexpr int kMost = 4096;
  struct Link {
    Link* next;
  };
  Link* head_ = nullptr;
  int count_ = 0;
};

enum class PoolKind : int { impl, storage, grad, node, count_ };

struct ObjectPools {
  ObjectList lists[int(PoolKind::count_)];
};

namespace detail {
[[gnu::tls_model("initial-exec")]] extern thread_local constinit ObjectPools* object_pools;
void* new_object(PoolKind kind, size_t bytes);  // also makes the thread's pools
void free_object(void* p);
}  // namespace detail

/// Raw memory for a `T`, 64-byte aligned.
template <class T>
void* take_object(PoolKind kind) {
  if (ObjectPools* pools = detail::object_pools)
    if (void* p = pools->lists[int(kind)].take()) return p;
  return detail::new_object(kind, sizeof(T));
}
/// Gives back what `take_object` gave; the object must have been destroyed. Any thread may do it.
inline void give_object(PoolKind kind, void* p) {
  if (ObjectPools* pools = detail::object_pools)
    if (pools->lists[int(kind)].give(p)) return;
  detail::free_object(p);
}

}  // namespace keel
