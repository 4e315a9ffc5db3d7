// Functions of f32 whose results leave past the caches straight from registers: through a block in L1, arithmetic and stores would take
// turns. Bound by memory, or by about 26 vector instructions a line.
#include "backend/cpu/loops/unary_stream.h"

#include "backend/cpu/simd_targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/loops/unary_stream.cpp"
#include "hwy/foreach_target.h"

#include "backend/cpu/loops/activation-inl.h"
#include "backend/cpu/loops/fetch.h"

HWY_BEFORE_NAMESPACE();
namespace keel::cpu::HWY_NAMESPACE {
namespace {
KEEL_LANES1(Relu, at_least(d, x, hn::Zero(d)))
KEEL_LANES1(Exp, math::exp(d, x))
KEEL_LANES1(Log, math::log(d, x))
KEEL_LANES1(Sin, math::sin(d, x))
KEEL_LANES1(Cos, math::cos(d, x))
KEEL_LANES1(Tanh, math::tanh(d, x))
KEEL_LANES1(Sigmoid, math::sigmoid(d, x))
KEEL_LANES1(Erf, math::erf(d, x))
KEEL_LANES1(Gelu, math::gelu(d, x))
KEEL_LANES1(GeluTanh, math::gelu_tanh(d, x))
KEEL_LANES1(Silu, math::silu(d, x))

/// Fetches the line of x that lies `bytes` ahead, which need not exist, to L1 (3) or L2 (2).
template <int bytes, int to>
HWY_INLINE void fetch_line(const float* x) {
  __builtin_prefetch(reinterpret_cast<const void*>(uintptr_t(x) + bytes), 0, to);
}
/// Operands come in two steps: from memory to L2, of which the processor follows many at once, and from there to L1, so that none of the
/// few fills of L1, which stores past the caches need as well, waits for memory. A processor that follows streams needs none of it.
template <template <class> class Op>
void stream(const void* x_, void* y_, int64_t n, const double* args) {
  constexpr int64_t N = hn::MaxLanes(Tag<float>());
  const Tag<float> d;
  const Op<Tag<float>> op(d, args);
  const float* x = static_cast<const float*>(x_);
  float* y = static_cast<float*>(y_);
  const bool ahead = !follows_streams();
  for (int64_t i = 0; i < n; i += 16) {
    if (ahead) fetch_line<8192, 2>(x + i), fetch_line<1024, 3>(x + i);
    KEEL_UNROLL for (int64_t k = i; k < i + 16; k += N) hn::Stream(op(d, hn::LoadU(d, x + k)), d, y + k);
  }
}

KEEL_LANES2(Add, hn::Add(x, y))
KEEL_LANES2(Sub, hn::Sub(x, y))
KEEL_LANES2(Mul, hn::Mul(x, y))
KEEL_LANES2(Div, hn::Div(x, y))

template <template <class> class Op>
void stream_two(const void* a_, const void* b_, void* y_, int64_t n, const double* args) {
  constexpr int64_t N = hn::MaxLanes(Tag<float>());
  const Tag<float> d;
  const Op<Tag<float>> op(d, args);
  const float *a = static_cast<const float*>(a_), *b = static_cast<const float*>(b_);
  float* y = static_cast<float*>(y_);
  const bool ahead = !follows_streams();
  for (int64_t i = 0; i < n; i += 16) {
    if (ahead) fetch_line<8192, 2>(a + i), fetch_line<8192, 2>(b + i), fetch_line<1024, 3>(a + i), fetch_line<1024, 3>(b + i);
    KEEL_UNROLL for (int64_t k = i; k < i + 16; k += N) hn::Stream(op(d, hn::LoadU(d, a + k), hn::LoadU(d, b + k)), d, y + k);
  }
}
}  // namespace

UnaryLoop unary_stream(UnaryOp op) {
  switch (op) {
    case UnaryOp::relu: return stream<Relu>;
    case UnaryOp::clamp: return stream<Between>;
    case UnaryOp::exp: return stream<Exp>;
    case UnaryOp::log: return stream<Log>;
    case UnaryOp::sin: return stream<Sin>;
    case UnaryOp::cos: return stream<Cos>;
    case UnaryOp::tanh: return stream<Tanh>;
    case UnaryOp::sigmoid: return stream<Sigmoid>;
    case UnaryOp::erf: return stream<Erf>;
    case UnaryOp::gelu: return stream<Gelu>;
    case UnaryOp::gelu_tanh: return stream<GeluTanh>;
    case UnaryOp::silu: return stream<Silu>;
    default: return nullptr;
  }
}
BinaryLoop binary_stream(BinaryOp op) {
  switch (op) {
    case BinaryOp::add: return stream_two<Add>;
    case BinaryOp::sub: return stream_two<Sub>;
    case BinaryOp::mul: return stream_two<Mul>;
    case BinaryOp::div: return stream_two<Div>;
    default: return nullptr;
  }
}
}  // namespace keel::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace keel::cpu {
KEEL_SIMD_EXPORT(unary_stream);
KEEL_SIMD_EXPORT(binary_stream);
UnaryLoop unary_stream_loop(UnaryOp op) { return KEEL_SIMD(unary_stream)(op); }
BinaryLoop binary_stream_loop(BinaryOp op) { return KEEL_SIMD(binary_stream)(op); }
}  // namespace keel::cpu
#endif
