#pragma once
#include "backend/cpu/loops/loops.h"

namespace keel::cpu {

/// unary_loop(op, f32) that writes past the caches, line by line, for functions whose arithmetic then hides behind the stores; null for the
/// others. y is aligned to 64 bytes and n a multiple of 16; the caller ends with stream_fence.
UnaryLoop unary_stream_loop(UnaryOp op);
/// The same of two operands.
BinaryLoop binary_stream_loop(BinaryOp op);

}  // namespace keel::cpu
