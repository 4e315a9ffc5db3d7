#pragma once
// Loops of safe and soft arithmetic, one pass each, forward and backward. Masked operands are replaced before the dangerous step, and
// results are selected, never multiplied by a mask, so that no NaN of a masked lane gets out. The zero of a
// denominator, infinities and NaN are told by bits.
#include "backend/cpu/loops/loops.h"

namespace keel::cpu {

/// Operands and parameters in order. `g` is the cotangent of the result.
///   div            a, b | otherwise, tol, top          a / b; where |b| <= tol: otherwise; above top in magnitude: top (infinity: never)
///   div_filled     a, b, fill | -, tol, top            the same with an operand as default
///   div_grad       g, a, b | -, tol, top               to a and b
///   sanitize       x | nan, inf, -inf                  what those become
///   finite_grad    g, x                                g where x is finite
///   clamp_to_zero  x | tol                             +0 where |x| <= tol
///   outside_grad   g, x | tol                          g where not |x| <= tol
///   clamp_grad     g, x, lo, hi | share                to x, with its share of g on a bound
///   sqrt, rsqrt    x | otherwise                       and their gradients g, x
///   log            x | otherwise, base, 1 / ln(base)   and its gradient g, x | -, -, 1 / ln(base)
///   norm_grad      g, x, y                             g x / y, 0 where the norm y is 0
///   pow            x, y | otherwise, top               finite arguments whose power reaches top give otherwise; gradient g, x, y | -, top
// clang-format off
enum class SafeOp : uint8_t {
  div, div_filled, div_grad, sanitize, finite_grad, clamp_to_zero, outside_grad, clamp_grad, sqrt, sqrt_grad, rsqrt, rsqrt_grad, log,
  log_grad,
  norm_grad, pow, pow_grad
};
///   soft_clamp     x, lo, hi | beta, leak              and its gradient g, x, lo, hi to x
///   soft_near      a, b | rel, abs, T (0: a quarter of the tolerance), normalized, detach     gradient g, a, b to a and b
///   soft_compare   a, b | T                            gradient g, a, b to a and b
enum class SoftOp : uint8_t { soft_clamp, soft_clamp_grad, soft_near, soft_near_grad, soft_compare, soft_compare_grad };
///   near           a, b | rel, abs, equal_nan          uint8 0 or 1
///   near_zero      x | abs                             uint8 0 or 1
///   of, next, prev x                                   in the type of x
///   diff           a, b                                i64
///   within         a, b | max_ulps                     uint8 0 or 1
enum class NearOp : uint8_t { near, near_zero, of, next, prev, diff, within };
// clang-format on

/// The loop for operands of type `t`: f32 or f64; NearOp::near also integers and bool, and the ulp functions every floating dtype.
FusedLoop safe_loop(SafeOp op, DType t);
FusedLoop soft_loop(SoftOp op, DType t);
FusedLoop near_loop(NearOp op, DType t);

/// Functions of whole contiguous rows of f32 or f64: the norm; x / max(norm, eps); and dx of that from g and x, with 1 / norm at most
/// `cap`.
struct SafeRowLoops {
  void (*norm)(const void* x, void* y, int64_t n);
  void (*normalize)(const void* x, void* y, int64_t n, double eps);
  void (*normalize_grad)(const void* g, const void* x, void* dx, int64_t n, double eps, double cap);
};
SafeRowLoops safe_row_loops(DType t);

}  // namespace keel::cpu
