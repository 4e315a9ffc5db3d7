// Functions of f32 whose results leave past the caches straight from registers: through a block in L1, arithmetic and stores would take
// turns. Bound by memory, or by about 26 vector instructions a line.
#include "backend/cpu/loops/unary_stream.h"

#include "backend/cpu/simd_targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/loops/unary_stream.cpp"
#include "hwy/foreach_target.h"

#include "backend/cpu/loops/activation-inl.h"

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

/// By measurement: operands are fetched 4 KiB ahead into L2; `kNear`, for the longest arithmetic, 2 KiB ahead into L1.
template <template <class> class Op, bool kNear = false>
void stream(const void* x_, void* y_, int64_t n, const double* args) {
  constexpr int64_t N = hn::MaxLanes(Tag<float>()), kAhead = kNear ? 512 : 1024;
  const Tag<float> d;
  const Op<Tag<float>> op(d, args);
  const float* x = static_cast<const float*>(x_);
  float* y = static_cast<float*>(y_);
  for (int64_t i = 0; i < n; i += 16) {
    __builtin_prefetch(reinterpret_cast<const void*>(uintptr_t(x + i) + kAhead * sizeof(float)), 0, kNear ? 3 : 2);
    KEEL_UNROLL for (int64_t k = i; k < i + 16; k += N) hn::Stream(op(d, hn::LoadU(d, x + k)), d, y + k);
  }
}
}  // namespace

UnaryLoop unary_stream(UnaryOp op) {
  switch (op) {
    case UnaryOp::relu: return stream<Relu>;
    case UnaryOp::exp: return stream<Exp>;
    case UnaryOp::log: return stream<Log>;
    case UnaryOp::sin: return stream<Sin>;
    case UnaryOp::cos: return stream<Cos>;
    case UnaryOp::tanh: return stream<Tanh, true>;
    case UnaryOp::sigmoid: return stream<Sigmoid>;
    case UnaryOp::erf: return stream<Erf>;
    case UnaryOp::gelu: return stream<Gelu, true>;
    case UnaryOp::gelu_tanh: return stream<GeluTanh, true>;
    case UnaryOp::silu: return stream<Silu>;
    default: return nullptr;
  }
}
}  // namespace keel::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace keel::cpu {
KEEL_SIMD_EXPORT(unary_stream);
UnaryLoop unary_stream_loop(UnaryOp op) { return KEEL_SIMD(unary_stream)(op); }
}  // namespace keel::cpu
#endif
