#pragma once
// Raw loops over contiguous memory, one table entry an op and element type, dispatched to the active instruction set when they are fetched.
// Outer drivers (strides, broadcasting, 16-bit conversion, threads) fetch a loop once and call it a block at a time. Rules of all loops:
// element i depends neither on its position nor on n (tails are masked, never other code); the output may be the very memory of an input; n
// may be 0; pointers need the alignment of their element only.
#include <cstddef>
#include <cstdint>

#include "backend/stat_slot.h"
#include "keel/dtype.h"

namespace keel::cpu {

/// y[i] = f(x[i]). `args` are the op's parameters, see UnaryOp.
using UnaryLoop = void (*)(const void* x, void* y, int64_t n, const double* args);
/// y[i] = f(a[i], b[i]); one operand may be a single element instead, see BinaryMode.
using BinaryLoop = void (*)(const void* a, const void* b, void* y, int64_t n, const double* args);
/// y[i] = f(a[i], b[i], c[i]).
using TernaryLoop = void (*)(const void* a, const void* b, const void* c, void* y, int64_t n, const double* args);
/// out[k][i] = f_k(in[0][i], in[1][i], ...): several results in one pass, see loops/safe.h.
using FusedLoop = void (*)(const void* const* in, void* const* out, int64_t n, const double* args);

/// Which operands of a binary loop are vectors: both, the first (b is one element), or the second (a is one element).
enum class BinaryMode : uint8_t { vv, vs, sv };

/// Elementwise functions of one operand. f32 and f64 have all; integers have abs, neg, sign, square, relu. Parameters in order:
/// clamp(lo, hi: no NaN), leaky_relu(slope), elu(alpha), softplus(beta, threshold: linear where beta x is above it). round: half to even; gelu is the erf form,
/// gelu_tanh the tanh form; isnan, isinf, isfinite, logical_not write uint8 0 or 1.
// clang-format off
enum class UnaryOp : uint8_t {
  abs, neg, sign, square, relu, exp, expm1, log, log1p, log2, sqrt, rsqrt, reciprocal, sin, cos, tan, sinh, cosh, tanh, sigmoid, erf,
  floor, ceil, round, trunc, clamp, leaky_relu, elu, gelu, gelu_tanh, silu, softplus, hardswish, mish, selu, isnan, isinf, isfinite,
  logical_not, bitwise_not, count_
};

/// Functions of two operands. The comparisons and logical_* write uint8 0 or 1. floor_divide and remainder take Python's sign; integers
/// divided by 0 give 0; integer pow with a negative exponent gives what the reciprocal truncates to. maximum and minimum propagate NaN.
/// The *_grad ops take (cotangent g, saved value) and give dx: the saved value is the output y for tanh and sigmoid, and the input x for
/// the others; parameters are those of the forward op.
enum class BinaryOp : uint8_t {
  add, sub, mul, div, floor_divide, remainder, pow, maximum, minimum, atan2, eq, ne, lt, le, gt, ge, logical_and, logical_or, logical_xor,
  bitwise_and, bitwise_or, bitwise_xor, tanh_grad, sigmoid_grad, gelu_grad, gelu_tanh_grad, silu_grad, mish_grad, softplus_grad,
  relu_grad, leaky_relu_grad, elu_grad, hardswish_grad, selu_grad, count_
};

/// Functions of three operands of one type: lerp(a, b, w) = a + w (b - a), or b - (b - a)(1 - w) where w >= 1/2; clamp(x, lo, hi), NaN in
/// any propagates; addcmul(a, b, c) = a + args[0] b c; addcdiv(a, b, c) = a + args[0] b / c; fma(a, b, c) = a b + c, rounded once.
enum class TernaryOp : uint8_t { lerp, clamp, addcmul, addcdiv, fma, count_ };
// clang-format on

/// The loop for operands of type `t`; null where there is none (16- and 8-bit floats go through f32, see convert_loop).
UnaryLoop unary_loop(UnaryOp op, DType t);
BinaryLoop binary_loop(BinaryOp op, DType t, BinaryMode mode = BinaryMode::vv);
TernaryLoop ternary_loop(TernaryOp op, DType t);

/// y[i] = cond[i] ? a[i] : b[i] for elements of `bytes` = 1, 2, 4, 8 or 16; a step of 0 elements repeats the first value.
void where_loop(const uint8_t* cond, const void* a, int a_step, const void* b, int b_step, void* y, int64_t n, size_t bytes);

/// Conversion of contiguous elements between any two dtypes. Float to narrower float rounds to nearest even once; float to integer
/// truncates (NaN and what is beyond i64: the lowest i64) and wraps; to bool is x != 0; integer to integer wraps; complex to real takes the
/// real part. To fp8, `nan_or_inf` selects the second overflow rule of keel::Overflow. `args` are unused.
UnaryLoop convert_loop(DType from, DType to, bool nan_or_inf = false);

/// Bytes of an output a thread above which stores go past the caches, so that its lines are not read first.
inline constexpr int64_t kStreamBytes = 16ll << 20;
/// Up to three places whose next lines are fetched while a block is copied: the operands of the block after it.
struct Ahead {
  const void* at[3] = {};
  int n = 0;
  void add(const void* p) {
    if (n < 3) at[n++] = p;
  }
};
/// memcpy that writes past the caches, best 2 KiB at a time, and fetches as many bytes of `ahead`. `stream_fence` makes what this thread
/// streamed visible to others: call it once after the last copy.
void stream_copy(void* to, const void* from, size_t bytes, const Ahead& ahead = {});
void stream_fence();

/// Adds what the monitor wants to know about y[0..n) to `part` (see StatSlot): two integer reductions, and exact counts only where those
/// show that a NaN, an infinity or a subnormal is present. Floating dtypes; the others count elements only.
void stat_block(DType t, const void* y, int64_t n, StatSlot::Part& part);

}  // namespace keel::cpu
