#pragma once
// Windows over images, and images as kernels of pools read them: in any order, or with channels innermost.
#include "backend/cuda/pointwise.cuh"

namespace keel::cuda {

struct Window {
  int64_t kernel[2], step[2], pad[2];
  template <class P>
  explicit Window(const P& p) {
    for (int i = 0; i < 2; ++i) kernel[i] = p.kernel[i], step[i] = p.stride[i] ? p.stride[i] : p.kernel[i], pad[i] = p.padding[i];
  }
};

/// Coordinates of a 4-d tensor's elements, in the order of its memory.
struct Images {
  int64_t extent[4], stride[4];
  bool inner, wide;  // channels innermost; more elements than 31 bits count
  explicit Images(const TensorView& v) : inner(v.dim(1) > 1 && v.stride(1) == 1), wide(v.size() > INT32_MAX) {
    for (int i = 0; i < 4; ++i) extent[i] = v.dim(i), stride[i] = v.stride(i);
  }
  __device__ void at(int64_t i, int64_t (&to)[4]) const { wide ? split(uint64_t(i), to) : split(uint32_t(i), to); }
  template <class U>
  __device__ void split(U i, int64_t (&to)[4]) const {
    const auto rest = [&](int axis) {
      const U n = U(extent[axis]), r = i % n;
      i /= n;
      return int64_t(r);
    };
    if (inner) to[1] = rest(1);
    to[3] = rest(3), to[2] = rest(2);
    if (!inner) to[1] = rest(1);
    to[0] = int64_t(i);
  }
  __device__ int64_t offset(int64_t a, int64_t b, int64_t c, int64_t d) const {
    return a * stride[0] + b * stride[1] + c * stride[2] + d * stride[3];
  }
};

// ---- channels innermost: a thread takes as many channels of a place as 16 bytes hold ----
template <class T>
inline constexpr int kWide = 16 / int(sizeof(T));
template <class T>
using Channels = Pack<T, kWide<T>>;
template <class T>
struct alignas(16) Marks {
  int32_t v[kWide<T>];
};
/// Extents of images in rows of channels; a step counts vectors.
struct Rows {
  uint32_t n;
  FastDivisor h, w, packs;
  explicit Rows(const TensorView& v, int wide)
      : n(uint32_t(v.dim(0))), h(uint32_t(v.dim(2))), w(uint32_t(v.dim(3))), packs(uint32_t(v.dim(1) / wide)) {}
  __device__ int64_t at(uint32_t image, uint32_t r, uint32_t c, uint32_t pack) const {
    return ((int64_t(image) * h.d + r) * w.d + c) * packs.d + pack;
  }
  int64_t size() const { return int64_t(n) * h.d * w.d * packs.d; }
};
struct SmallWindow {
  int kernel[2], step[2], pad[2];
  explicit SmallWindow(const Window& w) {
    for (int i = 0; i < 2; ++i) kernel[i] = int(w.kernel[i]), step[i] = int(w.step[i]), pad[i] = int(w.pad[i]);
  }
};
/// Whether the elements lie in the order of these strides, wherever an axis has more than one.
inline bool lies_in(const TensorView& v, const int64_t (&stride)[4]) {
  for (int i = 0; i < 4; ++i)
    if (v.dim(i) != 1 && v.stride(i) != stride[i]) return false;
  return true;
}
inline bool in_rows(const TensorView& v, int wide) {
  const int64_t c = v.dim(1);
  return c % wide == 0 && v.size() / wide <= INT32_MAX && reinterpret_cast<uintptr_t>(v.data) % 16 == 0 &&
         lies_in(v, {c * v.dim(2) * v.dim(3), 1, c * v.dim(3), c});
}
/// Calls f(T()) where all of `v` are rows of channels of a type that these kernels take; false elsewhere.
template <class F>
bool by_rows(std::initializer_list<const TensorView*> v, DType t, F&& f) {
  bool fits = true;
  return TypeList<float, half, bfloat>::call(t,
                                             [&](auto type) {
                                               for (const TensorView* x : v) fits &= in_rows(*x, kWide<decltype(type)>);
                                               if (fits) f(type);
                                             }) &&
         fits;
}

inline unsigned blocks_for(int64_t n) { return unsigned(ceil_div(n, kThreads)); }

}  // namespace keel::cuda
