// Pools over windows of the last two axes of [n, c, h, w].
#include "keel/ops/pool.h"

#include "keel/ops/combine.h"
#include "ops/common.h"

namespace keel {
namespace {

int64_t step_of(const Pair& stride, const Pair& kernel, int i) { return stride[i] == 0 ? kernel[i] : stride[i]; }

/// Shape of the result; checks the window against the input.
template <class P>
Shape pooled_shape(const P& p, const Shape& x) {
  Shape s({x[0], x[1]});
  static constexpr const char* sides[] = {"rows", "columns"};
  for (int i = 0; i < 2; ++i) {
    check_value(p.kernel[i] >= 1, "kernel", "at least 1", double(p.kernel[i]));
    check_value(p.stride[i] >= 0, "stride", "positive, or 0 for the kernel's extent", double(p.stride[i]));
    check_value(p.padding[i] >= 0 && p.padding[i] <= p.kernel[i] / 2, "padding", "at least 0 and at most half the kernel",
                double(p.padding[i]));
    const int64_t extent = x[2 + i] + 2 * p.padding[i];
    if (x[2 + i] < 1)
      fail(ErrorCode::shape, "x " + to_string(x) + " has no " + sides[i]);
    if (extent < p.kernel[i])
      fail(ErrorCode::shape, "a window of " + std::to_string(p.kernel[i]) + " " + sides[i] + " does not fit into " + std::to_string(x[2 +
           i]) + " with padding " + std::to_string(p.padding[i]));
    s.push_back((extent - p.kernel[i]) / step_of(p.stride, p.kernel, i) + 1);
  }
  return s;
}
constexpr auto pool_spec = [](auto& p, Specs in) {
  check_rank(in[0], 4, "x");
  return Spec{in[0].dtype, pooled_shape(p, in[0].shape)};
};

/// Every place of the window: calls f(slice of the padded input that this place sees).
template <class P, class F>
void each_place(const P& p, const Shape& out, F f) {
  for (int64_t i = 0; i < p.kernel[0]; ++i)
    for (int64_t j = 0; j < p.kernel[1]; ++j) {
      const int64_t sh = step_of(p.stride, p.kernel, 0), sw = step_of(p.stride, p.kernel, 1);
      f(SliceParams{
          .start = {0, 0, i, j}, .stop = {out[0], out[1], i + (out[2] - 1) * sh + 1, j + (out[3] - 1) * sw + 1}, .step = {1, 1, sh, sw}});
    }
}
/// Where the input lies in the padded one.
template <class P>
SliceParams inside(const P& p, const Shape& x) {
  return {
      .start = {0, 0, p.padding[0], p.padding[1]}, .stop = {x[0], x[1], x[2] + p.padding[0], x[3] + p.padding[1]}, .step = {1, 1, 1, 1}};
}
template <class P>
Shape padded(const P& p, Shape x) {
  x[2] += 2 * p.padding[0], x[3] += 2 * p.padding[1];
  return x;
}
Tensor scatter_slice(const Tensor& g, const Shape& shape, const SliceParams& at) {
  return slice_backward(g, {.shape = shape, .start = at.start, .stop = at.stop, .step = at.step});
}

Tensor max_pool2d_backward(const Tensor& g, const Tensor& indices, const MaxPool2dBackwardParams& p);
Tensor max_pool2d_pick(const Tensor& x, const Tensor& indices);
Tensor avg_pool2d_backward(const Tensor& g, const Pool2dBackwardParams& p);

}  // namespace

KEEL_OP(max_pool2d, Pool2dParams) {
  def.doc("Largest element of each window of x [n, c, h, w]; NaN wins. `indices` are places in the h * w plane.")
      .in("x", kinds::real)
      .out("y")
      .aux("indices")
      .primitive()
      .infer([](auto& p, Specs in) {
        const Spec y = pool_spec(p, in);
        check_shape(in[0].shape[2] * in[0].shape[3] <= INT32_MAX, "planes of more than 2^31 - 1 elements are not supported");
        SpecList out;
        out.push_back(y), out.push_back({i32, y.shape});
        return out;
      })
      .saves(Out{1})
      .vjp([](auto& p, const VjpArgs& a) -> Tensors {
        return {max_pool2d_backward(a.g[0], a.out[1], {.shape = a.in_specs[0].shape, .kernel = p.kernel, .stride = p.stride, .padding = p.padding})};
      });
}
KEEL_OP(max_pool2d_backward, MaxPool2dBackwardParams) {
  def.doc("Zeros of `shape` with g added at the indices of its plane, in order.")
      .in("g", kinds::floating)
      .in("indices", set_of(i32))
      .alone()
      .out("dx")
      .primitive()
      .infer([](auto& p, Specs in) {
        check_rank(in[0], 4, "g");
        check_same_shape(in[0], in[1], "g and indices");
        if (!(p.shape.rank() == 4 && p.shape[0] == in[0].shape[0] && p.shape[1] == in[0].shape[1]))
          fail(ErrorCode::shape, "shape " + to_string(p.shape) + " does not belong to " + to_string(in[0]));
        return Spec{in[0].dtype, p.shape};
      })
      .saves(In{1})
      .vjp([](auto&, const VjpArgs& a) -> Tensors { return {max_pool2d_pick(a.g[0], a.in[1])}; });
}
KEEL_OP(max_pool2d_pick, NoParams) {
  def.doc("Elements of x [n, c, h, w] at indices into its planes.")
      .in("x", kinds::floating)
      .in("indices", set_of(i32))
      .alone()
      .out("y")
      .primitive()
      .infer([](auto&, Specs in) {
        check_rank(in[0], 4, "x");
        check_rank(in[1], 4, "indices");
        if (!(in[0].shape[0] == in[1].shape[0] && in[0].shape[1] == in[1].shape[1]))
          fail(ErrorCode::shape, "indices " + to_string(in[1]) + " do not belong to " + to_string(in[0]));
        return Spec{in[0].dtype, in[1].shape};
      })
      .saves(In{1})
      .vjp([](auto&, const VjpArgs& a) -> Tensors { return {max_pool2d_backward(a.g[0], a.in[1], {.shape = a.in_specs[0].shape})}; });
}

KEEL_OP(avg_pool2d, Pool2dParams) {
  def.doc("Mean of each window of x [n, c, h, w], padding counted as zeros.")
      .in("x", kinds::floating)
      .out("y")
      .promote(Promote::to_float)
      .infer(pool_spec)
      .decompose([](auto& p, Inputs in) {
        const Tensor x = acc(in[0]), wide = scatter_slice(x, padded(p, x.shape()), inside(p, x.shape()));
        Tensor total;
        each_place(p, pooled_shape(p, x.shape()), [&](const SliceParams& at) {
          const Tensor part = slice_view(wide, at);
          total = total.defined() ? add(total, part) : part;
        });
        return like(div(total, p.kernel[0] * p.kernel[1]), in[0]);
      })
      .saves()
      .vjp([](auto& p, const VjpArgs& a) -> Tensors {
        return {avg_pool2d_backward(a.g[0], {.shape = a.in_specs[0].shape, .kernel = p.kernel, .stride = p.stride, .padding = p.padding})};
      });
}
KEEL_OP(avg_pool2d_backward, Pool2dBackwardParams) {
  def.doc("Every element of g spread evenly over its window.")
      .in("g", kinds::floating)
      .out("dx")
      .infer([](auto& p, Specs in) {
        check_rank(in[0], 4, "g");
        if (!(p.shape.rank() == 4))
          fail(ErrorCode::shape, "shape must have rank 4, got " + to_string(p.shape));
        const Shape want = pooled_shape(p, p.shape);
        if (!(in[0].shape == want))
          fail(ErrorCode::shape, "g must have shape " + to_string(want) + ", got " + to_string(in[0].shape));
        return Spec{in[0].dtype, p.shape};
      })
      .decompose([](auto& p, Inputs in) {
        const Tensor g = div(acc(in[0]), p.kernel[0] * p.kernel[1]);
        Tensor total;
        each_place(p, g.shape(), [&](const SliceParams& at) {
          const Tensor part = scatter_slice(g, padded(p, p.shape), at);
          total = total.defined() ? add(total, part) : part;
        });
        return like(slice_view(total, inside(p, p.shape)), in[0]);
      })
      .saves()
      .vjp([](auto& p, const VjpArgs& a) -> Tensors {
        return {avg_pool2d(a.g[0], {.kernel = p.kernel, .stride = p.stride, .padding = p.padding})};
      });
}

namespace {
/// Means over the windows floor(i h / n) .. ceil((i + 1) h / n) of one axis.
Tensor adaptive_means(const Tensor& x, int axis, int64_t n) {
  const int64_t h = x.shape()[axis];
  Tensors parts;
  for (int64_t i = 0; i < n; ++i) {
    SliceParams p;
    for (int k = 0; k < x.rank(); ++k) p.start.push_back(0), p.stop.push_back(x.shape()[k]), p.step.push_back(1);
    p.start[axis] = i * h / n, p.stop[axis] = ((i + 1) * h + n - 1) / n;
    parts.push_back(mean(slice_view(x, p), {.axis = axis, .keepdim = true}));
  }
  return concat(parts, {.axis = axis});
}
}  // namespace

KEEL_OP(adaptive_avg_pool2d, AdaptivePool2dParams) {
  def.doc("Mean over windows of x [n, c, h, w] chosen so that the result has the given rows and columns.")
      .in("x", kinds::floating)
      .out("y")
      .promote(Promote::to_float)
      .fallback(Fallback::ok)
      .infer([](auto& p, Specs in) {
        check_rank(in[0], 4, "x");
        for (int i = 0; i < 2; ++i) {
          check_value(p.size[i] >= 1, "size", "at least 1", double(p.size[i]));
          if (in[0].shape[2 + i] < 1)
            fail(ErrorCode::shape, "x " + to_string(in[0]) + " has no elements to average");
        }
        return Spec{in[0].dtype, Shape({in[0].shape[0], in[0].shape[1], p.size[0], p.size[1]})};
      })
      .decompose([](auto& p, Inputs in) {
        const Shape& s = in[0].shape();
        if (s[2] % p.size[0] == 0 && s[3] % p.size[1] == 0) return avg_pool2d(in[0], {.kernel = {s[2] / p.size[0], s[3] / p.size[1]}});
        return like(adaptive_means(adaptive_means(acc(in[0]), 2, p.size[0]), 3, p.size[1]), in[0]);
      });
}

Tensor max_pool2d(const Tensor& x, const Pool2dParams& p) { return call(op_max_pool2d, p, x); }
Tensor avg_pool2d(const Tensor& x, const Pool2dParams& p) { return call(op_avg_pool2d, p, x); }
Tensor adaptive_avg_pool2d(const Tensor& x, const AdaptivePool2dParams& p) { return call(op_adaptive_avg_pool2d, p, x); }
namespace {
Tensor max_pool2d_backward(const Tensor& g, const Tensor& indices, const MaxPool2dBackwardParams& p) {
  return call(op_max_pool2d_backward, p, g, indices);
}
Tensor max_pool2d_pick(const Tensor& x, const Tensor& indices) { return call(op_max_pool2d_pick, NoParams{}, x, indices); }
Tensor avg_pool2d_backward(const Tensor& g, const Pool2dBackwardParams& p) { return call(op_avg_pool2d_backward, p, g); }
}  // namespace

}  // namespace keel
