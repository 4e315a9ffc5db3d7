// Processor detection by CPUID and XGETBV, the KEEL_ISA override, and the report behind `keel doctor`. AMX tiles additionally need the kernel's permission
// (arch_prctl ARCH_REQ_XCOMP_PERM), which holds for the whole process and is asked for once. The choice is kept in one atomic word; racing first uses
// compute the same word. AVX-512 BF16 dot products serve bf16 matrix products wherever the processor has them and no tiles: they beat widening to f32 on Intel too.
#include "backend/cpu/isa.h"

#include <cstring>

#include "backend/cpu/loops/fetch.h"
#include "base/env.h"
#include "base/log.h"
#include "keel/error.h"

#if defined(__x86_64__) || defined(_M_X64)
#define KEEL_X86 1
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#endif

namespace keel::cpu {
namespace detail {
std::atomic<uint32_t> isa_state{0};
}
namespace {

struct Found {
  bool avx2 = false, avx512 = false, bf16_dot = false, amx = false, amd = false;
  const char *avx2_why = "", *avx512_why = "", *bf16_why = "", *amx_why = "";
  char model[49] = "unknown";
  int64_t l1d = 0, l2 = 0, l3 = 0;
};

#ifdef KEEL_X86
struct Regs {
  uint32_t a = 0, b = 0, c = 0, d = 0;
};
Regs cpuid(uint32_t leaf, uint32_t sub = 0) {
  Regs r;
  __get_cpuid_count(leaf, sub, &r.a, &r.b, &r.c, &r.d);
  return r;
}
bool all(uint32_t word, std::initializer_list<int> bits) {
  for (int b : bits)
    if (!(word >> b & 1)) return false;
  return true;
}

bool amx_permitted() {
#if defined(__linux__) && defined(SYS_arch_prctl)
  constexpr long kReqXcompPerm = 0x1023, kTileData = 18;
  return syscall(SYS_arch_prctl, kReqXcompPerm, kTileData) == 0;
#else
  return false;
#endif
}

void read_caches(Found& f, uint32_t leaf) {
  for (uint32_t i = 0; i < 16; ++i) {
    const Regs r = cpuid(leaf, i);
    const uint32_t type = r.a & 31, level = r.a >> 5 & 7;
    if (!type) break;
    if (type == 2) continue;  // instruction cache
    const int64_t bytes = int64_t((r.b >> 22) + 1) * ((r.b >> 12 & 1023) + 1) * ((r.b & 4095) + 1) * (int64_t(r.c) + 1);
    (level == 1 ? f.l1d : level == 2 ? f.l2 : f.l3) = bytes;
  }
}

Found detect() {
  Found f;
  const Regs r0 = cpuid(0), r1 = cpuid(1), r7 = cpuid(7), r71 = r7.a >= 1 ? cpuid(7, 1) : Regs{};
  f.amd = r0.b == 0x68747541;  // "Auth"enticAMD
  if (cpuid(0x80000000).a >= 0x80000004) {
    char name[49] = {};
    for (uint32_t i = 0; i < 3; ++i) {
      const Regs r = cpuid(0x80000002 + i);
      std::memcpy(name + 16 * i, &r, 16);
    }
    const char* p = name;
    while (*p == ' ') ++p;
    std::memcpy(f.model, p, std::strlen(p) + 1);
  }
  read_caches(f, f.amd ? 0x8000001d : 4);
  uint64_t xcr0 = 0;
  if (r1.c >> 27 & 1) {
    uint32_t lo, hi;
    __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    xcr0 = uint64_t(hi) << 32 | lo;
  }
  const bool bits2 = all(r1.c, {1, 9, 12, 19, 20, 25, 28, 29}) && all(r7.b, {3, 5, 8}) && (cpuid(0x80000001).c >> 5 & 1);
  const bool bits512 = all(r7.b, {16, 17, 28, 30, 31});
  const bool bf16 = r71.a >> 5 & 1, tiles = all(r7.d, {22, 24});
  f.avx2 = bits2 && (xcr0 & 6) == 6;
  f.avx2_why = !bits2 ? "the processor lacks AVX2, FMA, BMI2 or F16C" : "the operating system does not save 256-bit registers";
  f.avx512 = f.avx2 && bits512 && (xcr0 & 0xe6) == 0xe6;
  f.avx512_why = !bits512 ? "the processor lacks AVX-512 F, CD, BW, DQ or VL" : "the operating system does not save 512-bit registers";
  f.bf16_dot = f.avx512 && bf16;
  f.bf16_why = !bf16 ? "the processor lacks AVX512_BF16" : "needs avx512";
  const bool saved = (xcr0 & 0x60000) == 0x60000;
  f.amx = f.avx512 && tiles && saved && amx_permitted();
  f.amx_why = !tiles ? "the processor lacks AMX_TILE or AMX_BF16" : !saved ? "the operating system does not save tile registers" : "the kernel refuses tile data to this process";
  return f;
}
constexpr bool kX86 = true;
#ifdef KEEL_NATIVE_ISA
constexpr Isa kStatic = Isa::KEEL_NATIVE_ISA;  // a build for this kind of processor has no lower level
#else
constexpr Isa kStatic = Isa::scalar;
#endif
#else
Found detect() { return {}; }
constexpr bool kX86 = false;
#if defined(__aarch64__) || defined(__ARM_NEON)
constexpr Isa kStatic = Isa::neon;
#elif defined(__wasm_simd128__)
constexpr Isa kStatic = Isa::simd128;
#else
constexpr Isa kStatic = Isa::scalar;
#endif
#endif

const Found& found() {
  static const Found f = detect();
  return f;
}
Isa best() {
  const Found& f = found();
  return !kX86 ? kStatic : f.amx ? Isa::amx : f.avx512 ? Isa::avx512 : f.avx2 ? Isa::avx2 : Isa::scalar;
}
Isa lowered(Isa want) {
  if (!kX86 || want <= kStatic) return kStatic;
  return want < best() ? (want == Isa::neon || want == Isa::simd128 ? Isa::scalar : want) : best();
}
uint32_t word(Isa isa) {
  const uint32_t slot = isa >= Isa::avx512 ? 2 : isa == Isa::avx2 ? 1 : 0;
  const bool dot = isa == Isa::avx512 && found().bf16_dot;
  return (uint32_t(isa) + 1) | slot << 8 | (dot ? detail::kBf16Dot : 0);
}
constexpr Isa kAll[] = {Isa::scalar, Isa::neon, Isa::simd128, Isa::avx2, Isa::avx512, Isa::amx};
bool parse(const char* s, Isa& out) {
  for (Isa i : kAll)
    if (!std::strcmp(s, isa_name(i))) return out = i, true;
  return false;
}

std::string why_not(Isa want) {
  const Found& f = found();
  if (!kX86 || want < kStatic) return std::string("this build has ") + isa_name(kStatic) + (kX86 ? " and above only" : " only");
  return want == Isa::avx2 ? f.avx2_why : want == Isa::avx512 ? f.avx512_why : want == Isa::amx ? f.amx_why : "it belongs to another kind of processor";
}

/// What KEEL_ISA says, or null where it says nothing.
const char* asked_for() {
  const char* env = base::env_string("KEEL_ISA").data();
  return env && *env ? env : nullptr;
}

}  // namespace

const char* isa_name(Isa isa) {
  constexpr const char* kNames[] = {"scalar", "neon", "simd128", "avx2", "avx512", "amx"};
  return kNames[int(isa)];
}

uint32_t detail::init_isa() {
  const char* env = asked_for();
  if (best() < kStatic)
    raise(Error(ErrorCode::unsupported, std::string("this build of Keel is for processors with ") + isa_name(kStatic) + " only").hint("build with -DKEEL_NATIVE=OFF"));
  Isa want;
  const uint32_t w = word(env && parse(env, want) ? lowered(want) : best());
  uint32_t none = 0;
  if (isa_state.compare_exchange_strong(none, w) && env)
    if (const std::string note = describe_cpu().note; !note.empty()) base::log(LogLevel::warning, "environment", note);
  return none ? none : w;
}

Isa active_isa() { return Isa((detail::isa_bits() & 255) - 1); }

Isa set_isa_for_tests(Isa isa) {
  detail::isa_state.store(word(lowered(isa)));
  return active_isa();
}

bool set_bf16_dot_for_tests(bool use) {
  const uint32_t w = word(active_isa()) & ~detail::kBf16Dot;
  detail::isa_state.store(use && found().bf16_dot && active_isa() >= Isa::avx512 ? w | detail::kBf16Dot : w);
  return use_bf16_dot();
}

bool follows_streams() { return found().amd; }

int64_t l2_bytes() { return found().l2 > 0 ? found().l2 : 1 << 20; }

CpuReport describe_cpu() {
  const Found& f = found();
  CpuReport r;
  r.model = f.model, r.isa = active_isa(), r.l1d_bytes = f.l1d, r.l2_bytes = f.l2, r.l3_bytes = f.l3;
  if (const char* env = asked_for()) {
    Isa want = Isa::scalar;
    const bool known = parse(env, want);
    if (!known) r.note = std::string("KEEL_ISA=") + env + " is not one of scalar, avx2, avx512, amx";
    else if (lowered(want) != want) r.note = std::string("KEEL_ISA=") + env + " cannot be followed here: " + why_not(want);
  }
  if (!kX86) {
    r.entries.push_back({isa_name(kStatic), true, true, ""});
    return r;
  }
  const std::string pinned = std::string("pinned to ") + isa_name(r.isa);
  const auto add = [&](const char* name, bool is_found, bool used, const char* why, const char* unused) {
    r.entries.push_back({name, is_found, used, used ? "" : !is_found ? why : unused ? unused : pinned});
  };
  add("avx2", f.avx2, r.isa >= Isa::avx2, f.avx2_why, nullptr);
  add("avx512", f.avx512, r.isa >= Isa::avx512, f.avx512_why, nullptr);
  add("avx512_bf16", f.bf16_dot, use_bf16_dot(), f.bf16_why, r.isa == Isa::amx ? "AMX is quicker" : nullptr);
  add("amx_bf16", f.amx, r.isa == Isa::amx, f.amx_why, nullptr);
  return r;
}

}  // namespace keel::cpu
