// Largest error of each f32 function over all 2^32 inputs, in units in the last place of the correctly rounded result, against libm in
// double, whose error is far below (gelu_tanh, softplus, mish, selu: long double). f64 functions are sampled: every exponent, random
// mantissas, against long double (x87, 64 bits). Usage: keel_ulp_survey [function...] [--isa=NAME] [--stride=N] [--threads=N]; prints a
// Markdown table. With --same=NAME: counts the f32 inputs whose results differ in bits from those of another instruction set, NaN aside.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "backend/cpu/isa.h"
#include "backend/cpu/loops/loops.h"

namespace {
using keel::cpu::UnaryOp;
using Real = long double;

Real ref_sigmoid(Real x) { return x >= 0 ? 1 / (1 + std::exp(-x)) : std::exp(x) / (1 + std::exp(x)); }
Real ref_gelu(Real x) { return x * std::erfc(-x * 0.707106781186547524400844362104849039L) / 2; }
Real ref_gelu_tanh(Real x) { return x * ref_sigmoid(2 * 0.797884560802865355879892119868763737L * (x + 0.044715L * x * x * x)); }
Real ref_softplus(Real x) { return std::log1p(std::exp(-std::fabs(x))) + std::max<Real>(x, 0); }
Real ref_mish(Real x) { return x * std::tanh(x > 60 ? x : ref_softplus(x)); }
Real ref_elu(Real x) { return x > 0 ? x : std::expm1(x); }
Real ref_selu(Real x) { return 1.0507009873554804934193349852946L * (x > 0 ? x : 1.6732632423543772848170429916717L * std::expm1(x)); }
Real ref_silu(Real x) { return x * ref_sigmoid(x); }

struct Function {
  const char* name;
  UnaryOp op;
  double (*fast)(double);  // used for f32
  Real (*exact)(Real);     // used for f64 and where `fast` is null
};
#define F(NAME)                                                                                                        \
  {                                                                                                                    \
#NAME, UnaryOp::NAME, [](double x) -> double { return std::NAME(x); }, [](Real x) -> Real { return std::NAME(x); } \
  }
#define G(NAME) \
  { #NAME, UnaryOp::NAME, nullptr, ref_##NAME }
const Function kFunctions[] = {
    F(exp),
    F(expm1),
    F(log),
    F(log1p),
    F(log2),
    F(sqrt),
    {"rsqrt", UnaryOp::rsqrt, [](double x) { return 1 / std::sqrt(x); }, [](Real x) -> Real { return 1 / std::sqrt(x); }},
    {"reciprocal", UnaryOp::reciprocal, [](double x) { return 1 / x; }, [](Real x) -> Real { return 1 / x; }},
    F(sin),
    F(cos),
    F(tan),
    F(sinh),
    F(cosh),
    F(tanh),
    F(erf),
    {"sigmoid", UnaryOp::sigmoid, [](double x) { return x >= 0 ? 1 / (1 + std::exp(-x)) : std::exp(x) / (1 + std::exp(x)); }, ref_sigmoid},
    {"silu", UnaryOp::silu, [](double x) { return x >= 0 ? x / (1 + std::exp(-x)) : x * std::exp(x) / (1 + std::exp(x)); }, ref_silu},
    {"gelu", UnaryOp::gelu, [](double x) { return 0.5 * x * std::erfc(-x * 0.70710678118654752440); }, ref_gelu},
    G(gelu_tanh),
    G(softplus),
    G(mish),
    {"elu", UnaryOp::elu, [](double x) { return x > 0 ? x : std::expm1(x); }, ref_elu},
    {"selu", UnaryOp::selu, nullptr, ref_selu}};

/// |got - want| in ulp of T at want; 0 where both are NaN or the same infinity.
template <class T, class R>
double ulp_error(T got, R want) {
  if (std::isnan(want) || std::isnan(got)) return std::isnan(want) && std::isnan(got) ? 0 : INFINITY;
  const T w = T(want);
  if (std::isinf(w) || std::isinf(got))
    return w == got                                                           ? 0
           : std::isinf(w) && std::fabs(got) == std::numeric_limits<T>::max() ? 1
           : std::isinf(got) && std::fabs(w) == std::numeric_limits<T>::max() ? 1
                                                                              : INFINITY;
  int e;
  std::frexp(w == 0 ? std::numeric_limits<T>::denorm_min() : w, &e);
  const int bits = std::numeric_limits<T>::digits, low = std::numeric_limits<T>::min_exponent - bits;
  if (w == 0 && got == 0 && want == 0 && std::signbit(w) != std::signbit(got)) return INFINITY;
  return std::fabs(double(std::ldexp(R(got) - want, -std::max(e - bits, low))));
}

/// The same of f32 against f64 without calls.
double ulp_error_quick(float got, double want) {
  const float w = float(want);
  const uint32_t e = std::bit_cast<uint32_t>(w) >> 23 & 255, g = std::bit_cast<uint32_t>(got) >> 23 & 255;
  if (e == 255 || g == 255 || want == 0) return ulp_error<float, double>(got, want);
  return std::fabs(got - want) * std::bit_cast<double>(uint64_t(1023 + 150 - (e ? e : 1)) << 52);
}

struct Worst {
  double ulp = 0, at = 0, got = 0, normal = 0;  // normal: the worst where the result is a normal number
};

template <class T>
void measure(const Function& f, const T* x, T* y, int64_t n, Worst& w) {
  const double args[2] = {1, f.op == UnaryOp::softplus ? 1e30 : 0};
  keel::cpu::unary_loop(f.op, sizeof(T) == 4 ? keel::DType::f32 : keel::DType::f64)(x, y, n, args);
  for (int64_t i = 0; i < n; ++i) {
    double u;
    if (sizeof(T) == 4 && f.fast)
      u = ulp_error_quick(float(y[i]), f.fast(x[i]));
    else
      u = ulp_error<T, Real>(y[i], f.exact(x[i]));
    if (u > w.ulp) w.ulp = u, w.at = x[i], w.got = y[i];
    if (std::fabs(y[i]) >= std::numeric_limits<T>::min() && u > w.normal) w.normal = u;
  }
}
/// f32 patterns whose results differ in bits between two loops.
uint64_t differing(keel::cpu::UnaryLoop a, keel::cpu::UnaryLoop b, const double* args, uint64_t stride) {
  constexpr int64_t kBlock = 4096;
  std::vector<float> x(kBlock), y(kBlock), z(kBlock);
  uint64_t differ = 0;
  for (uint64_t at = 0; at < (uint64_t(1) << 32); at += kBlock * stride) {
    int64_t n = 0;
    for (uint64_t k = at; n < kBlock && k < (uint64_t(1) << 32); k += stride) x[size_t(n++)] = std::bit_cast<float>(uint32_t(k));
    a(x.data(), y.data(), n, args), b(x.data(), z.data(), n, args);
    if (std::memcmp(y.data(), z.data(), size_t(n) * sizeof(float)) == 0) continue;
    for (size_t i = 0; i < size_t(n); ++i)
      differ += std::bit_cast<uint32_t>(y[i]) != std::bit_cast<uint32_t>(z[i]) && !(std::isnan(y[i]) && std::isnan(z[i]));
  }
  return differ;
}
}  // namespace

int main(int argc, char** argv) {
  std::vector<std::string> names;
  std::string same;
  uint64_t stride = 1, samples = 20'000'000;
  unsigned threads = std::max(1u, std::thread::hardware_concurrency());
  for (int i = 1; i < argc; ++i) {
    const std::string a = argv[i];
    if (a.starts_with("--stride="))
      stride = std::strtoull(a.c_str() + 9, nullptr, 10);
    else if (a.starts_with("--threads="))
      threads = unsigned(std::atoi(a.c_str() + 10));
    else if (a.starts_with("--samples="))
      samples = std::strtoull(a.c_str() + 10, nullptr, 10);
    else if (a.starts_with("--isa="))
      setenv("KEEL_ISA", a.c_str() + 6, 1);
    else if (a.starts_with("--same="))
      same = a.substr(7);
    else
      names.push_back(a);
  }
  if (!same.empty()) {
    using keel::cpu::Isa;
    const Isa own = keel::cpu::active_isa();
    const Isa other = keel::cpu::set_isa_for_tests(same == "scalar" ? Isa::scalar : same == "avx2" ? Isa::avx2 : Isa::avx512);
    for (const Function& f : kFunctions) {
      if (!names.empty() && std::find(names.begin(), names.end(), f.name) == names.end()) continue;
      const double args[2] = {1, f.op == UnaryOp::softplus ? 1e30 : 0};
      const auto theirs = keel::cpu::unary_loop(f.op, keel::DType::f32);
      keel::cpu::set_isa_for_tests(own);
      const auto mine = keel::cpu::unary_loop(f.op, keel::DType::f32);
      keel::cpu::set_isa_for_tests(other);
      std::printf("%s: %llu of %llu results differ between %s and %s\n", f.name, (unsigned long long)differing(mine, theirs, args, stride),
                  (unsigned long long)(((uint64_t(1) << 32) + stride - 1) / stride), keel::cpu::isa_name(own), keel::cpu::isa_name(other));
      std::fflush(stdout);
    }
    return 0;
  }
  std::printf("| function | f32 max ulp | at x | max ulp, normal results | f64 max ulp (sampled) | at x |\n|---|---|---|---|---|---|\n");
  for (const Function& f : kFunctions) {
    if (!names.empty() && std::find(names.begin(), names.end(), f.name) == names.end()) continue;
    std::vector<Worst> w32(threads), w64(threads);
    std::vector<std::thread> pool;
    for (unsigned t = 0; t < threads; ++t)
      pool.emplace_back([&, t] {
        constexpr int64_t kBlock = 4096;
        std::vector<float> x(kBlock), y(kBlock);
        for (uint64_t at = t * kBlock * stride; at < (uint64_t(1) << 32); at += threads * kBlock * stride) {
          int64_t n = 0;
          for (uint64_t b = at; n < kBlock && b < (uint64_t(1) << 32); b += stride) x[size_t(n++)] = std::bit_cast<float>(uint32_t(b));
          measure(f, x.data(), y.data(), n, w32[t]);
        }
        std::mt19937_64 random(t + 1);
        std::vector<double> u(kBlock), v(kBlock);
        for (uint64_t done = 0; done < samples / threads; done += kBlock) {
          for (double& d : u) {
            const uint64_t r = random();
            const double unit = double(r >> 11) * 0x1p-53;
            const int kind = int(r & 7);  // plain bits, and ranges where the functions do their work
            d = kind < 2    ? std::bit_cast<double>(random())
                : kind < 5  ? (unit - 0.5) * 12
                : kind == 5 ? (unit - 0.5) * 1500
                : kind == 6 ? 1 + (unit - 0.5) * 0.8
                            : std::ldexp(unit - 0.5, -int(random() % 60));
          }
          measure(f, u.data(), v.data(), kBlock, w64[t]);
        }
      });
    for (std::thread& p : pool) p.join();
    Worst a, b;
    for (unsigned t = 0; t < threads; ++t) {
      a.normal = std::max(a.normal, w32[t].normal);
      if (w32[t].ulp > a.ulp) a.ulp = w32[t].ulp, a.at = w32[t].at, a.got = w32[t].got;
      if (w64[t].ulp > b.ulp) b = w64[t];
    }
    std::printf("| %s | %.3f | %a | %.3f | %.3f | %a |\n", f.name, a.ulp, a.at, a.normal, b.ulp, b.at);
    std::fflush(stdout);
  }
  std::printf("\nISA %s, every %llu-th f32 bit pattern, %llu f64 samples\n", keel::cpu::isa_name(keel::cpu::active_isa()),
              (unsigned long long)stride, (unsigned long long)samples);
}
