#pragma once
#include <atomic>
#include <cstdint>
#if defined(__SSE__) || defined(_M_X64)
#include <xmmintrin.h>
#endif

namespace keel::base {

/// Sets rounding to nearest, subnormals on and exceptions masked while it lives, and restores what was there. Costs a register read where
/// that already holds, which is nearly always.
class DefaultFpEnv {
 public:
#if defined(__SSE__) || defined(_M_X64)
  DefaultFpEnv() : saved_(_mm_getcsr()) {
    if (foreign()) _mm_setcsr(kDefault);
  }
  ~DefaultFpEnv() {
    if (foreign()) _mm_setcsr(saved_);
  }

 private:
  static constexpr unsigned kDefault = 0x1f80, kFlags = 0x3f;  // all masked, nothing else; the low six bits only record what happened
  bool foreign() const { return (saved_ & ~kFlags) != kDefault; }
  unsigned saved_;
#elif defined(__aarch64__)
  DefaultFpEnv() {
    asm volatile("mrs %0, fpcr" : "=r"(saved_));
    if (saved_ != 0) asm volatile("msr fpcr, %0" ::"r"(uint64_t(0)));
  }
  ~DefaultFpEnv() {
    if (saved_ != 0) asm volatile("msr fpcr, %0" ::"r"(saved_));
  }

 private:
  uint64_t saved_;
#else
  DefaultFpEnv() {}
#endif
 public:
  DefaultFpEnv(const DefaultFpEnv&) = delete;
  DefaultFpEnv& operator=(const DefaultFpEnv&) = delete;
};

/// Exceptions that workers met and nobody asked for yet.
inline constinit std::atomic<unsigned> worker_exceptions{0};

/// Which of invalid operation, division by zero and overflow this thread's arithmetic has met since it was last asked, and what workers
/// left behind; as bits. 0 where the processor does not say.
inline unsigned take_exceptions() {
  unsigned seen = 0;
#if defined(__SSE__) || defined(_M_X64)
  constexpr unsigned kBad = 0x0d;
  const unsigned csr = _mm_getcsr();
  seen = csr & kBad;
  if (seen) _mm_setcsr(csr & ~kBad);
#elif defined(__aarch64__)
  constexpr uint64_t kBad = 0x07;  // invalid, division by zero, overflow
  uint64_t fpsr;
  asm volatile("mrs %0, fpsr" : "=r"(fpsr));
  seen = unsigned(fpsr & kBad);
  if (seen) asm volatile("msr fpsr, %0" ::"r"(fpsr & ~kBad));
#endif
  if (worker_exceptions.load(std::memory_order_relaxed)) seen |= worker_exceptions.exchange(0, std::memory_order_relaxed);
  return seen;
}

}  // namespace keel::base
