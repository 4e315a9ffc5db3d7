// Largest error of each elementwise function in units in the last place of the true value, on every instruction set of this processor.
// f32: all 2^32 inputs, or every N-th, against libm in double, whose error is far below. f64: samples of
// every exponent against long double (x87, 64 bits). Beside it: how many f32 results differ in bits between instruction sets.
// Usage: keel_ulp_survey [function...] [--isa=NAME,...] [--stride=N] [--samples=N] [--threads=N]; prints a Markdown table.
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

// References for functions that <cmath> lacks, in double for f32 and in long double for f64.
// clang-format off
constexpr Real kRootHalf = 0.707106781186547524400844362104849039L, kBent = 1.595769121605730711759784239737527L;  // of gelu, gelu_tanh
constexpr Real kSeluScale = 1.0507009873554804934193349852946L, kSeluAlpha = 1.6732632423543772848170429916717L;
template <class R> R ref_rsqrt(R x) { return 1 / std::sqrt(x); }
template <class R> R ref_reciprocal(R x) { return 1 / x; }
template <class R> R ref_sigmoid(R x) { return x >= 0 ? 1 / (1 + std::exp(-x)) : std::exp(x) / (1 + std::exp(x)); }
template <class R> R ref_silu(R x) { return x >= 0 ? x / (1 + std::exp(-x)) : x * std::exp(x) / (1 + std::exp(x)); }
template <class R> R ref_gelu(R x) { return x * std::erfc(-x * R(kRootHalf)) / 2; }
template <class R> R ref_gelu_tanh(R x) { return x * ref_sigmoid(R(kBent) * (x + R(0.044715L) * x * x * x)); }
template <class R> R ref_softplus(R x) { return std::log1p(std::exp(-std::fabs(x))) + std::max<R>(x, 0); }
template <class R> R ref_mish(R x) { return x * std::tanh(x > 60 ? x : ref_softplus(x)); }
template <class R> R ref_elu(R x) { return x > 0 ? x : std::expm1(x); }
template <class R> R ref_selu(R x) { return R(kSeluScale) * ref_elu(x) * (x > 0 ? 1 : R(kSeluAlpha)); }
// clang-format on

struct Function {
  const char* name;
  UnaryOp op;
  double (*of_f32)(double);
  Real (*of_f64)(Real);
};
#define F(NAME) \
  { #NAME, UnaryOp::NAME, [](double x) -> double { return std::NAME(x); }, [](Real x) -> Real { return std::NAME(x); } }
#define G(NAME) \
  { #NAME, UnaryOp::NAME, ref_##NAME<double>, ref_##NAME<Real> }
const Function kFunctions[] = {F(exp),  F(expm1), F(log),       F(log1p),    F(log2), F(sqrt), G(rsqrt), G(reciprocal),
                               F(sin),  F(cos),   F(tan),       F(sinh),     F(cosh), F(tanh), F(erf),   G(sigmoid),
                               G(silu), G(gelu),  G(gelu_tanh), G(softplus), G(mish), G(elu),  G(selu)};

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

/// What one instruction set did.
struct Worst {
  double ulp = 0, at = 0;
  void take(const Worst& o) {
    if (o.ulp > ulp) *this = o;
  }
};
using Isas = std::vector<keel::cpu::Isa>;

/// One function of one type on several instruction sets.
template <class T>
struct Survey {
  const Function& f;
  std::vector<keel::cpu::UnaryLoop> loops;
  std::vector<Worst> worst;
  uint64_t different = 0;  // results whose bits are not those of the first instruction set, NaN aside

  Survey(const Function& function, const Isas& isas) : f(function), worst(isas.size()) {
    for (const keel::cpu::Isa isa : isas) {
      keel::cpu::set_isa_for_tests(isa);
      loops.push_back(keel::cpu::unary_loop(f.op, sizeof(T) == 4 ? keel::DType::f32 : keel::DType::f64));
    }
  }
  double error(T x, T y) const {
    if constexpr (sizeof(T) == 4)
      return ulp_error_quick(y, f.of_f32(x));
    else
      return ulp_error<T, Real>(y, f.of_f64(x));
  }
  void measure(const std::vector<T>& x, size_t n) {
    const double args[2] = {1, f.op == UnaryOp::softplus ? 1e30 : 0};
    std::vector<T> first(n), y(n);
    Worst here, of_first;
    for (size_t k = 0; k < loops.size(); ++k) {
      loops[k](x.data(), y.data(), int64_t(n), args);
      here = of_first;
      if (k == 0 || std::memcmp(first.data(), y.data(), n * sizeof(T)) != 0) {
        here = {};
        for (size_t i = 0; i < n; ++i) {
          here.take({error(x[i], y[i]), double(x[i])});
          if (k) different += std::memcmp(&first[i], &y[i], sizeof(T)) != 0 && !(std::isnan(first[i]) && std::isnan(y[i]));
        }
      }
      worst[k].take(here);
      if (k == 0) first = y, of_first = here;
    }
  }
  void take(const Survey& o) {
    for (size_t k = 0; k < worst.size(); ++k) worst[k].take(o.worst[k]);
    different += o.different;
  }
};

constexpr size_t kBlock = 4096;
void every_f32(Survey<float>& s, uint64_t part, uint64_t parts, uint64_t stride) {
  constexpr uint64_t kAll = uint64_t(1) << 32;
  std::vector<float> x(kBlock);
  for (uint64_t at = part * kBlock * stride; at < kAll; at += parts * kBlock * stride) {
    size_t n = 0;
    for (uint64_t b = at; n < kBlock && b < kAll; b += stride) x[n++] = std::bit_cast<float>(uint32_t(b));
    s.measure(x, n);
  }
}
void some_f64(Survey<double>& s, uint64_t part, uint64_t samples) {
  std::mt19937_64 random(part + 1);
  std::vector<double> x(kBlock);
  for (uint64_t done = 0; done < samples; done += kBlock) {
    for (double& d : x) {
      const uint64_t r = random();
      const double unit = double(r >> 11) * 0x1p-53;
      const int kind = int(r & 7);  // plain bits, and ranges where the functions do their work
      d = kind < 2    ? std::bit_cast<double>(random())
          : kind < 5  ? (unit - 0.5) * 12
          : kind == 5 ? (unit - 0.5) * 1500
          : kind == 6 ? 1 + (unit - 0.5) * 0.8
                      : std::ldexp(unit - 0.5, -int(random() % 60));
    }
    s.measure(x, kBlock);
  }
}

Isas present(const std::string& wanted) {
  Isas found;
  for (const auto isa : {keel::cpu::Isa::avx512, keel::cpu::Isa::avx2, keel::cpu::Isa::scalar}) {
    const auto got = keel::cpu::set_isa_for_tests(isa);
    const bool asked = wanted.empty() || ("," + wanted + ",").find(std::string(",") + keel::cpu::isa_name(got) + ",") != std::string::npos;
    if (asked && std::find(found.begin(), found.end(), got) == found.end()) found.push_back(got);
  }
  return found;
}
}  // namespace

int main(int argc, char** argv) {
  std::vector<std::string> names;
  std::string wanted;
  uint64_t stride = 1, samples = 4'000'000;
  unsigned threads = std::max(1u, std::thread::hardware_concurrency());
  for (int i = 1; i < argc; ++i) {
    const std::string a = argv[i];
    const auto value = [&] { return std::strtoull(a.c_str() + a.find('=') + 1, nullptr, 10); };
    if (a.starts_with("--stride="))
      stride = value();
    else if (a.starts_with("--threads="))
      threads = unsigned(value());
    else if (a.starts_with("--samples="))
      samples = value();
    else if (a.starts_with("--isa="))
      wanted = a.substr(6);
    else
      names.push_back(a);
  }
  const Isas isas = present(wanted);
  if (isas.empty()) return std::fprintf(stderr, "no such instruction set here: %s\n", wanted.c_str()), 2;
  std::printf("| function |");
  for (const auto isa : isas) std::printf(" %s |", keel::cpu::isa_name(isa));
  std::printf(" at x | different | f64 | at x |\n|---|");
  for (size_t k = 0; k < isas.size() + 4; ++k) std::printf("---|");
  std::printf("\n");
  for (const Function& f : kFunctions) {
    if (!names.empty() && std::find(names.begin(), names.end(), f.name) == names.end()) continue;
    std::vector<Survey<float>> narrow(threads, {f, isas});
    std::vector<Survey<double>> wide(threads, {f, isas});
    std::vector<std::thread> pool;
    for (unsigned t = 0; t < threads; ++t)
      pool.emplace_back([&, t] { every_f32(narrow[t], t, threads, stride), some_f64(wide[t], t, samples / threads); });
    for (std::thread& p : pool) p.join();
    for (unsigned t = 1; t < threads; ++t) narrow[0].take(narrow[t]), wide[0].take(wide[t]);
    Worst f32, f64;
    std::printf("| %s |", f.name);
    for (const Worst& w : narrow[0].worst) std::printf(" %.3f |", w.ulp), f32.take(w);
    for (const Worst& w : wide[0].worst) f64.take(w);
    std::printf(" %a | %llu | %.3f | %a |\n", f32.at, (unsigned long long)narrow[0].different, f64.ulp, f64.at);
    std::fflush(stdout);
  }
  std::printf("\nevery %llu-th f32 bit pattern, %llu f64 samples\n", (unsigned long long)stride, (unsigned long long)samples);
}
