#pragma once
// Tensors [n, c, ...] for kernels that walk them with channels innermost or as planes, in f32 or f64: used as they lie where they lie so,
// else copied into and out of the workspace.
#include "backend/cpu/copy.h"
#include "backend/cpu/row_driver.h"

namespace keel::cpu {

/// How the channels of [n, c, ...] lie.
struct Geometry {
  int64_t images = 1, channels = 1, spots = 1;
  bool innermost = false;  // channels
  int64_t count() const { return images * spots; }
  int64_t size() const { return images * channels * spots; }
};
inline Geometry geometry(const TensorView& x) {
  Geometry g{.images = x.dim(0), .channels = x.dim(1)};
  for (int i = 2; i < x.rank(); ++i) g.spots *= x.dim(i);
  return g;
}
inline bool channels_innermost(const TensorView& x) {
  int64_t step = x.dim(1);
  if (x.dim(1) > 1 && x.stride(1) != 1) return false;
  for (int i = x.rank() - 1; i >= 0; --i) {
    if (i == 1) continue;
    if (x.dim(i) > 1 && x.stride(i) != step) return false;
    step *= x.dim(i);
  }
  return true;
}
/// Whether kernels can walk `x` as it lies, with channels innermost or not.
inline bool walkable(const TensorView& x, bool innermost) { return innermost ? channels_innermost(x) : x.contiguous(); }

/// Strides of a dense tensor [n, c, ...] with its channels innermost or not.
inline Strides order_strides(const Shape& s, bool innermost) {
  if (!innermost) return contiguous_strides(s);
  Strides st;
  st.resize(s.rank());
  int64_t step = s[1];
  for (int i = s.rank() - 1; i >= 0; --i)
    if (i != 1) st[i] = step, step *= s[i];
  st[1] = 1;
  return st;
}

/// x in type T in the wanted order: itself, or a copy.
template <class T>
const T* input(const TensorView& x, bool innermost, Buffers& b) {
  const bool in_order = walkable(x, innermost);
  if (in_order && x.dtype == dtype_of<T>) return x.ptr<T>();
  std::byte* packed = in_order ? static_cast<std::byte*>(x.data) : b.take<std::byte>(x.size() * int64_t(size_of(x.dtype)));
  T* wide = x.dtype == dtype_of<T> ? nullptr : b.take<T>(x.size());
  if (!b.base) return nullptr;
  if (!in_order) {
    const Strides st = order_strides(x.shape(), innermost);
    copy_view(x, {packed, x.dtype, x.shape_, &st});
  }
  if (!wide) return reinterpret_cast<const T*>(packed);
  const UnaryLoop convert = convert_loop(x.dtype, dtype_of<T>);
  parallel_for(0, x.size(), 1 << 15,
               [&](int64_t lo, int64_t hi) { convert(packed + lo * int64_t(size_of(x.dtype)), wide + lo, hi - lo, nullptr); });
  return wide;
}
/// Where to write y in type T and the wanted order; `finish` moves it where it belongs.
template <class T>
struct Output {
  const TensorView& y;
  bool innermost, in_order;
  T* at;
  std::byte* packed = nullptr;
  Output(const TensorView& view, bool inner, Buffers& b) : y(view), innermost(inner), in_order(walkable(view, inner)) {
    at = in_order && y.dtype == dtype_of<T> ? y.ptr<T>() : b.take<T>(y.size());
    if (!in_order && y.dtype != dtype_of<T>) packed = b.take<std::byte>(y.size() * int64_t(size_of(y.dtype)));
  }
  void finish(StatSlot* slot) {
    const int64_t bytes = int64_t(size_of(y.dtype));
    std::byte* to = in_order ? static_cast<std::byte*>(y.data) : y.dtype == dtype_of<T> ? reinterpret_cast<std::byte*>(at) : packed;
    const UnaryLoop convert = y.dtype == dtype_of<T> ? nullptr : convert_loop(dtype_of<T>, y.dtype);
    if (convert || slot)
      parallel_for(0, y.size(), 1 << 15, [&](int64_t lo, int64_t hi) {
        StatSlot::Part part;
        if (convert) convert(at + lo, to + lo * bytes, hi - lo, nullptr);
        if (slot) stat_block(y.dtype, to + lo * bytes, hi - lo, part), slot->merge(part);
      });
    if (in_order) return;
    const Strides st = order_strides(y.shape(), innermost);
    copy_view({to, y.dtype, y.shape_, &st}, y);
  }
};

}  // namespace keel::cpu
