#pragma once
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

}  // namespace keel::base
