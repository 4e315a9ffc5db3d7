#pragma once
#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

/// Which instruction set the CPU kernels use. Chosen once: the best that the processor and the operating system allow, or what `KEEL_ISA` names
/// (scalar, avx2, avx512, amx), lowered to the best one present. Results are reproducible at one level, not across levels.
namespace keel::cpu {

/// Instruction-set levels, each containing the ones before it on the same architecture. `amx` is `avx512` plus AMX tiles for 16-bit matrix products.
enum class Isa : uint8_t { scalar, neon, simd128, avx2, avx512, amx };

/// "scalar", "neon", "simd128", "avx2", "avx512" or "amx".
const char* isa_name(Isa isa);

/// The level in use.
Isa active_isa();

/// Uses `isa` from now on, lowered to the best level present; returns what is in use. For tests: not to be called while kernels run.
Isa set_isa_for_tests(Isa isa);

/// One level or extension as `keel doctor` shows it.
struct IsaEntry {
  const char* name;
  bool found;          ///< The processor has it and the operating system enables it.
  bool used;           ///< Kernels use it now.
  std::string reason;  ///< Why it is not found or not used; empty when used.
};

/// What was found, what is used, and why one is not.
struct CpuReport {
  std::string model;                          ///< Processor name, or "unknown".
  Isa isa = Isa::scalar;                      ///< As `active_isa()`.
  std::string note;                           ///< What `KEEL_ISA` asked for where it could not be followed; else empty.
  std::vector<IsaEntry> entries;              ///< avx2, avx512, avx512_bf16, amx_bf16 on x86; one entry elsewhere.
  int64_t l1d_bytes = 0, l2_bytes = 0, l3_bytes = 0;  ///< Data cache sizes seen from one core; 0 where unknown.
};
CpuReport describe_cpu();

namespace detail {
inline constexpr uint32_t kBf16Dot = 1u << 16;  // vdpbf16ps present, and no tiles
extern std::atomic<uint32_t> isa_state;  // 0 until first use; else (Isa + 1) | slot << 8 | flags
uint32_t init_isa();
inline uint32_t isa_bits() {
  const uint32_t s = isa_state.load(std::memory_order_relaxed);
  return s ? s : init_isa();
}
}  // namespace detail

/// Index of the Highway target in use: 0 baseline, 1 AVX2, 2 AVX-512 (see simd_targets.h).
inline int simd_slot() { return int(detail::isa_bits() >> 8 & 3); }

/// True where bf16 products use AVX-512 BF16 dot products: at level avx512, where the processor has them.
inline bool use_bf16_dot() { return detail::isa_bits() & detail::kBf16Dot; }

/// Says whether bf16 products use AVX-512 BF16 dot products from now on, where the processor has them and the level is avx512; returns what holds.
/// For tests, as `set_isa_for_tests`, which puts back the rule above.
bool set_bf16_dot_for_tests(bool use);

/// Bytes of one core's L2 cache; 1 MiB where unknown. Block sizes may follow it, reduction order may not.
int64_t l2_bytes();

}  // namespace keel::cpu
