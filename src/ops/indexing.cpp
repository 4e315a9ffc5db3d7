// operator[]: turns Python's index notation into slices, reshapes and integer arrays.
#include <vector>

#include "keel/ops/index.h"
#include "ops/common.h"

namespace keel {

void index_write(Tensor& x, const Tensors& arrays, const Tensor& value, const Dims& axis);

namespace {

[[noreturn]] void index_error(const Tensor& x, ErrorCode code, const std::string& message, const char* hint = "") {
  Error e(code, message);
  e.op("index").arg("x", to_string(impl(x).spec)).path(scope().path);
  if (*hint) e.hint(hint);
  raise(e);
}

/// An index spread over the axes of its tensor.
struct Plan {
  SliceParams slices;
  Shape shape;      // after slicing: integers gone, new axes in
  Dims array_axes;  // axes of `shape` that integer arrays replace
  Tensors arrays;
};

/// Whether integers beside arrays must be arrays too. NumPy counts them as such when it asks whether all arrays are neighbours: x[0, :, i]
/// puts the axes of i first, x[0][:, i] does not.
bool integers_are_arrays(const Index* at, int64_t n) {
  bool integer = false, array = false, apart = false, gap = false;
  for (int64_t i = 0; i < n; ++i) {
    const Index::Kind k = at[i].kind();
    const bool counts = k == Index::Kind::integer || k == Index::Kind::array;
    apart |= counts && gap && (integer || array);
    if (counts)
      gap = false;
    else if (integer || array)
      gap = true;
    integer |= k == Index::Kind::integer, array |= k == Index::Kind::array;
  }
  return integer && array && apart;
}

int64_t clamp_bound(int64_t v, int64_t lo, int64_t hi) { return v < lo ? lo : v > hi ? hi : v; }

Plan make_plan(const Tensor& x, const Index* at, int64_t n) {
  Plan p;
  const Shape& s = x.shape();
  int used = 0;
  bool dots = false;
  for (int64_t i = 0; i < n; ++i) {
    if (at[i].kind() == Index::Kind::ellipsis) {
      if (dots) index_error(x, ErrorCode::index, "an index may hold one ellipsis only", "`all` stands for one whole axis");
      dots = true;
    } else if (at[i].kind() == Index::Kind::array) {
      if (!at[i].array().defined()) index_error(x, ErrorCode::value, "an index array is an empty tensor", "a default-constructed Tensor has no value yet");
      used += at[i].array().dtype() == DType::boolean ? int(at[i].array().rank()) : 1;
    } else if (at[i].kind() != Index::Kind::newaxis) {
      ++used;
    }
  }
  if (used > s.rank())
    index_error(x, ErrorCode::index, "too many indices: " + std::to_string(used) + " for a tensor of rank " + std::to_string(s.rank()),
                "`newaxis` adds an axis; integers, slices and arrays take one each, a mask as many as it has");
  const bool as_arrays = integers_are_arrays(at, n);
  int axis = 0;
  auto whole = [&] {
    p.slices.start.push_back(0), p.slices.stop.push_back(s[axis]), p.slices.step.push_back(1);
    p.shape.push_back(s[axis++]);
  };
  for (int64_t i = 0; i < n; ++i) {
    const Index& e = at[i];
    switch (e.kind()) {
      case Index::Kind::newaxis: p.shape.push_back(1); break;
      case Index::Kind::ellipsis:
        for (int k = s.rank() - used; k > 0; --k) whole();
        break;
      case Index::Kind::integer: {
        const int64_t v = e.value() < 0 ? e.value() + s[axis] : e.value();
        if (v < 0 || v >= s[axis])
          index_error(x, ErrorCode::index,
                      "index " + std::to_string(e.value()) + " is out of range" +
                          (s[axis] ? " [" + std::to_string(-s[axis]) + ", " + std::to_string(s[axis] - 1) + "]" : ": there are no elements") +
                          " on axis " + std::to_string(axis),
                      s[axis] ? "negative indices count from the end" : "check size() first");
        if (as_arrays) {
          p.array_axes.push_back(p.shape.rank());
          p.arrays.push_back(full(Shape(), v, {.dtype = i64, .device = x.device()}));
          whole();
          break;
        }
        p.slices.start.push_back(v), p.slices.stop.push_back(v + 1), p.slices.step.push_back(1);
        ++axis;
        break;
      }
      case Index::Kind::slice: {
        const Slice& c = e.slice();
        const int64_t extent = s[axis];
        if (c.step == 0) index_error(x, ErrorCode::value, "a slice's step must not be 0", "a step of -1 walks backwards");
        auto bound = [&](const Slice::Bound& b, int64_t otherwise, int64_t lo, int64_t hi) {
          if (!b.given) return otherwise;
          return clamp_bound(b.value < 0 ? b.value + extent : b.value, lo, hi);
        };
        const bool forward = c.step > 0;
        int64_t start = forward ? bound(c.start, 0, 0, extent) : bound(c.start, extent - 1, -1, extent - 1);
        int64_t stop = forward ? bound(c.stop, extent, 0, extent) : bound(c.stop, -1, -1, extent - 1);
        const uint64_t stride = forward ? uint64_t(c.step) : 0 - uint64_t(c.step);  // INT64_MIN too
        const int64_t span = forward ? stop - start : start - stop, count = span > 0 ? int64_t(uint64_t(span - 1) / stride) + 1 : 0;
        if (count == 0) start = 0;
        if (count <= 1) stop = start + count;
        p.slices.start.push_back(start), p.slices.stop.push_back(stop), p.slices.step.push_back(count <= 1 ? 1 : c.step);
        p.shape.push_back(count);
        ++axis;
        break;
      }
      case Index::Kind::array: {
        const Tensor& a = e.array();
        if (a.dtype() == DType::boolean) {
          for (int k = 0; k < a.rank(); ++k)
            if (a.shape()[k] != s[axis + k])
              index_error(x, ErrorCode::index,
                          "the mask's extent " + std::to_string(a.shape()[k]) + " differs from " + std::to_string(s[axis + k]) +
                              " on axis " + std::to_string(axis + k),
                          "a mask has the shape of the axes that it selects from");
          const Tensor positions = nonzero(a.rank() ? a : reshape(a, {1}));  // i64[count, rank]
          for (int k = 0; k < positions.size(1); ++k) {
            p.array_axes.push_back(p.shape.rank());
            p.arrays.push_back(positions[{all, k}]);
            if (a.rank())
              whole();
            else
              p.shape.push_back(1);  // true keeps a new axis of extent 1, false makes it empty
          }
        } else {
          if (!is_integer(a.dtype()))
            index_error(x, ErrorCode::dtype, std::string("an index array must be of integers or bools, got ") + name_of(a.dtype()),
                        "i.astype(i64) makes indices, i != 0 a mask");
          p.array_axes.push_back(p.shape.rank());
          p.arrays.push_back(cast(a, i64));
          whole();
        }
        break;
      }
    }
  }
  while (axis < s.rank()) whole();
  return p;
}

bool is_whole(const Shape& s, const SliceParams& p) {
  bool whole = true;
  for (int i = 0; i < s.rank(); ++i) whole &= p.start[i] == 0 && p.stop[i] == s[i] && p.step[i] == 1;
  return whole;
}

Tensor basic(const Tensor& x, const Plan& p) {
  Tensor y = x;
  const bool trivial = is_whole(x.shape(), p.slices);
  if (!trivial) y = slice_view(y, p.slices);
  if (!(y.shape() == p.shape) || (trivial && y.is(x))) y = reshape(y, p.shape);
  return y;
}

}  // namespace

Indexed::Indexed(Tensor result, Tensor base, SmallVector<Index, 4> at)
    : Tensor(std::move(result)), base_(std::move(base)), at_(std::move(at)) {}

static Indexed take(const Tensor& x, const Index* at, int64_t n) {
  if (!x.defined()) raise(Error(ErrorCode::value, "an empty tensor cannot be indexed").op("index"));
  const Plan p = make_plan(x, at, n);
  Tensor y = basic(x, p);
  if (p.arrays.empty()) return Indexed(std::move(y));
  return Indexed(index_get(y, p.arrays, {.axis = p.array_axes}), x, SmallVector<Index, 4>(at, at + n));
}

Indexed Tensor::operator[](const Index& i) const { return take(*this, &i, 1); }
Indexed Tensor::operator[](std::initializer_list<Index> i) const { return take(*this, i.begin(), int64_t(i.size())); }
Tensor Tensor::index(std::initializer_list<Index> i) const { return take(*this, i.begin(), int64_t(i.size())); }

void Indexed::operator=(const Operand& v) && {
  if (!base_.defined()) {
    copy_(v);
    return;
  }
  if (!v.tensor().defined()) index_error(base_, ErrorCode::value, "the value to write is an empty tensor");
  const Plan p = make_plan(base_, at_.data(), at_.size());
  const bool whole = p.shape == base_.shape() && is_whole(base_.shape(), p.slices);
  Tensor window = whole ? base_ : basic(base_, p);  // the tensor itself may be tracked, a view of it not
  Tensor value = v.tensor();
  if (value.impl()->weak) value = full(Shape(), scalar_of(value), {.dtype = window.dtype(), .device = window.device()});
  value = cast(value, window.dtype());
  const bool recording = scope().grad && (window.tracked() || value.tracked());
  if (recording || scope().trace || (value.impl()->storage && value.shares_storage(window)))
    window.copy_(index_put(window, p.arrays, value, {.axis = p.array_axes}));
  else
    index_write(window, p.arrays, value, p.array_axes);
}
void Indexed::operator+=(const Operand& v) && {
  if (base_.defined())
    static_cast<Indexed&&>(*this) = Operand(add(*this, v));
  else
    add_(v);
}
void Indexed::operator-=(const Operand& v) && {
  if (base_.defined())
    static_cast<Indexed&&>(*this) = Operand(sub(*this, v));
  else
    sub_(v);
}
void Indexed::operator*=(const Operand& v) && {
  if (base_.defined())
    static_cast<Indexed&&>(*this) = Operand(mul(*this, v));
  else
    mul_(v);
}
void Indexed::operator/=(const Operand& v) && {
  if (base_.defined())
    static_cast<Indexed&&>(*this) = Operand(div(*this, v));
  else
    div_(v);
}
void Indexed::operator=(const Indexed& v) && { static_cast<Indexed&&>(*this) = Operand(static_cast<const Tensor&>(v)); }
void Indexed::operator=(Indexed&& v) && { static_cast<Indexed&&>(*this) = Operand(static_cast<const Tensor&>(v)); }

}  // namespace keel
