// Two-dimensional convolution and its two gradients. Each of the three is linear in both operands and the gradients of one are the other two, so any order of derivative exists.
#include "keel/ops/conv.h"

#include "ops/common.h"

namespace keel {
namespace {

template <class P>
void check_params(const P& p) {
  for (int i = 0; i < 2; ++i) {
    check_value(p.stride[i] >= 1, "stride", "at least 1", double(p.stride[i]));
    check_value(p.padding[i] >= 0, "padding", "at least 0", double(p.padding[i]));
    check_value(p.dilation[i] >= 1, "dilation", "at least 1", double(p.dilation[i]));
  }
  check_value(p.groups >= 1, "groups", "at least 1", double(p.groups));
}

/// Shape of the result of a convolution of `x` with `weight`.
template <class P>
Shape conv_shape(const P& p, const Shape& x, const Shape& weight) {
  const int64_t c = x[1], o = weight[0];
  const auto said = [](int64_t v) { return std::to_string(v); };
  if (c != weight[1] * p.groups) {
    std::string what = "x has " + said(c) + " channels, weight takes " + said(weight[1]);
    if (p.groups != 1) what += " in each of " + said(p.groups) + " groups";
    const bool last = x[3] == weight[1] * p.groups;
    fail(ErrorCode::shape, what,
         last ? "x is [n, c, h, w]; for [n, h, w, c] use permute(x, {0, 3, 1, 2})" : "weight is [out, in / groups, rows, columns]");
  }
  check_shape(o % p.groups == 0, "weight has " + said(o) + " outputs, which do not divide into " + said(p.groups) + " groups", "each group makes out / groups of the outputs");
  Shape out({x[0], o});
  for (int i = 0; i < 2; ++i) {
    const int64_t window = p.dilation[i] * (weight[2 + i] - 1) + 1, room = x[2 + i] + 2 * p.padding[i];
    check_shape(weight[2 + i] >= 1, "weight has an empty window " + said(weight[2]) + " x " + said(weight[3]));
    check_shape(window <= room,
                "the window (" + said(window) + (i ? " columns" : " rows") + ") is larger than the padded input (" + said(room) + ")",
                "padding widens the input; the window is dilation * (kernel - 1) + 1");
    out.push_back((room - window) / p.stride[i] + 1);
  }
  return out;
}

template <class P>
Conv2dBackwardParams backward_params(const P& p, Pair extent) {
  return {.stride = p.stride, .padding = p.padding, .dilation = p.dilation, .groups = p.groups, .extent = extent};
}
Conv2dParams forward_params(const Conv2dBackwardParams& p) {
  return {.stride = p.stride, .padding = p.padding, .dilation = p.dilation, .groups = p.groups};
}
Pair extent_of(const Spec& s) { return {s.shape[2], s.shape[3]}; }

Tensor conv2d_backward_input(const Tensor& g, const Tensor& weight, const Conv2dBackwardParams& p);
Tensor conv2d_backward_weight(const Tensor& g, const Tensor& x, const Conv2dBackwardParams& p);

/// A gradient of an operand needs the other operand.
constexpr auto saves_other = [](auto&, Needs n) {
  Saves s;
  if (n[0]) s.add(In{1});
  if (n[1]) s.add(In{0});
  return s;
};

}  // namespace

KEEL_OP(conv2d, Conv2dParams) {
  def.doc("Cross-correlation of x [n, c, h, w] with weight [out, c / groups, kh, kw], plus bias.")
      .in("x", kinds::floating)
      .in("weight", kinds::floating)
      .opt("bias", kinds::floating)
      .out("y")
      .primitive()
      .cast(Cast::lower)
      .cost(Cost::compute_bound)
      .risk(Risk::accumulates)
      .infer([](auto& p, Specs in) {
        check_rank(in[0], 4, "x"), check_rank(in[1], 4, "weight");
        check_params(p);
        const Shape y = conv_shape(p, in[0].shape, in[1].shape);
        if (in.has(2))
          if (!(in[2].shape == Shape({y[1]})))
            fail(ErrorCode::shape, "bias must have shape " + to_string(Shape({y[1]})) + ", got " + to_string(in[2].shape));
        return Spec{in[0].dtype, y};
      })
      .saves(saves_other)
      .vjp([](auto& p, const VjpArgs& a) -> Tensors {
        const Tensor& g = a.g[0];
        Tensor dx, dw, db;
        if (a.needs[0]) dx = conv2d_backward_input(g, a.in[1], backward_params(p, extent_of(a.in_specs[0])));
        if (a.needs[1]) dw = conv2d_backward_weight(g, a.in[0], backward_params(p, extent_of(a.in_specs[1])));
        if (a.in_specs.has(2) && a.needs[2]) db = sum(g, {.axis = {0, 2, 3}});
        return {dx, dw, db};
      });
}

KEEL_OP(conv2d_backward_input, Conv2dBackwardParams) {
  def.doc("The gradient of conv2d to its input: every output's cotangent spread over its window.")
      .in("g", kinds::floating)
      .in("weight", kinds::floating)
      .out("dx")
      .primitive()
      .cost(Cost::compute_bound)
      .risk(Risk::accumulates)
      .infer([](auto& p, Specs in) {
        check_rank(in[0], 4, "g"), check_rank(in[1], 4, "weight");
        check_params(p);
        const Shape x({in[0].shape[0], in[1].shape[1] * p.groups, p.extent[0], p.extent[1]});
        const Shape y = conv_shape(p, x, in[1].shape);
        if (!(in[0].shape == y))
          fail(ErrorCode::shape, "g has shape " + to_string(in[0].shape) + ", the convolution's result has " + to_string(y));
        return Spec{in[0].dtype, x};
      })
      .saves(saves_other)
      .vjp([](auto& p, const VjpArgs& a) -> Tensors {
        Tensor dg, dw;
        if (a.needs[0]) dg = conv2d(a.g[0], a.in[1], forward_params(p));
        if (a.needs[1]) dw = conv2d_backward_weight(a.in[0], a.g[0], backward_params(p, extent_of(a.in_specs[1])));
        return {dg, dw};
      });
}

KEEL_OP(conv2d_backward_weight, Conv2dBackwardParams) {
  def.doc("The gradient of conv2d to its weight: for each tap the products of cotangents with the inputs they met.")
      .in("g", kinds::floating)
      .in("x", kinds::floating)
      .out("dw")
      .primitive()
      .cost(Cost::compute_bound)
      .risk(Risk::accumulates)
      .infer([](auto& p, Specs in) {
        check_rank(in[0], 4, "g"), check_rank(in[1], 4, "x");
        check_params(p);
        const Shape w({in[0].shape[1], in[1].shape[1] / p.groups, p.extent[0], p.extent[1]});
        const Shape y = conv_shape(p, in[1].shape, w);
        if (!(in[0].shape == y))
          fail(ErrorCode::shape, "g has shape " + to_string(in[0].shape) + ", the convolution's result has " + to_string(y));
        return Spec{in[0].dtype, w};
      })
      .saves(saves_other)
      .vjp([](auto& p, const VjpArgs& a) -> Tensors {
        Tensor dg, dx;
        if (a.needs[0]) dg = conv2d(a.in[1], a.g[0], forward_params(p));
        if (a.needs[1]) dx = conv2d_backward_input(a.in[0], a.g[0], backward_params(p, extent_of(a.in_specs[1])));
        return {dg, dx};
      });
}

Tensor conv2d(const Tensor& x, const Tensor& weight, const Conv2dParams& p) { return call(op_conv2d, p, x, weight, Tensor()); }
Tensor conv2d(const Tensor& x, const Tensor& weight, const Tensor& bias, const Conv2dParams& p) {
  return call(op_conv2d, p, x, weight, bias);
}
namespace {
Tensor conv2d_backward_input(const Tensor& g, const Tensor& weight, const Conv2dBackwardParams& p) {
  return call(op_conv2d_backward_input, p, g, weight);
}
Tensor conv2d_backward_weight(const Tensor& g, const Tensor& x, const Conv2dBackwardParams& p) {
  return call(op_conv2d_backward_weight, p, g, x);
}
}  // namespace

}  // namespace keel
