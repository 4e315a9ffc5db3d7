// Ops bound by memory against plain reads, copies and triads of as many bytes, in turns. usage: memory [threads] [text in names]
// [seconds a row] [million elements]. A row gives the op's GB/s, that of plain loops that move the same bytes with the same mix of reads
// and writes, and the median of their ratio with its 10th and 90th percentiles; at or above 0.85 the op is at the limit. Every operand
// counts once, x twice where an op needs a whole tensor's statistics first: then the floor is a plain read and a plain copy. Of several
// ways to read, copy and add, the quickest on this machine is found first and used throughout. A row's op and its floor meet memory alike:
// each finds its operands as cold as the other's traffic has left them.
#include <cstdint>
#include <cstring>
#include <functional>
#include <string>

#include "interleave.h"
#include "keel/keel.h"
#if defined(__x86_64__)
#include <immintrin.h>
#endif

using namespace keel;

namespace {

#if defined(__x86_64__)
#define KEEL_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define KEEL_CLONES
#endif

/// x read line by line, fetched some bytes before to L2 (2), to L1 (3), to both, or as the processor does by itself.
using Line = uint64_t __attribute__((vector_size(64), aligned(8), may_alias));
#define KEEL_READ(NAME, FETCH)                                     \
  KEEL_CLONES uint64_t NAME(const uint64_t* x, size_t n) {         \
    Line v = {};                                                   \
    for (size_t i = 0; i < n; i += 8) {                            \
      FETCH;                                                       \
      v ^= *reinterpret_cast<const Line*>(x + i);                  \
    }                                                              \
    return v[0] ^ v[1] ^ v[2] ^ v[3] ^ v[4] ^ v[5] ^ v[6] ^ v[7];  \
  }
KEEL_READ(plain_read, )
KEEL_READ(read_far, __builtin_prefetch(x + i + 512, 0, 2))
KEEL_READ(read_near, __builtin_prefetch(x + i + 256, 0, 3))
KEEL_READ(read_both, (__builtin_prefetch(x + i + 1024, 0, 2), __builtin_prefetch(x + i + 128, 0, 3)))
using Reader = uint64_t (*)(const uint64_t* x, size_t n);
/// z = x, or x + y where there is a y.
using Way = void (*)(const float* x, const float* y, float* z, size_t n);
void by_memcpy(const float* x, const float*, float* z, size_t n) { std::memcpy(z, x, n * 4); }
KEEL_CLONES void by_loop(const float* x, const float* y, float* z, size_t n) {
  if (y)
    for (size_t i = 0; i < n; ++i) z[i] = x[i] + y[i];
  else
    for (size_t i = 0; i < n; ++i) z[i] = x[i];
}
#if defined(__x86_64__)
/// Past the caches, line by line, operands fetched `kAhead` elements before, to L1 (3) or L2 (2); or through a block of 2 KiB in L1.
#define KEEL_PAST(NAME, TARGET, LANES, LOAD, STORE, ADD, STREAM)                                                              \
  template <int kAhead, int kTo>                                                                                              \
  __attribute__((target(TARGET))) void NAME(const float* x, const float* y, float* z, size_t n) {                             \
    for (size_t i = 0; i < n; i += 16) {                                                                                      \
      __builtin_prefetch(x + i + kAhead, 0, kTo);                                                                             \
      if (y) __builtin_prefetch(y + i + kAhead, 0, kTo);                                                                      \
      for (size_t m = i; m < i + 16; m += LANES) STREAM(z + m, y ? ADD(LOAD(x + m), LOAD(y + m)) : LOAD(x + m));              \
    }                                                                                                                         \
    _mm_sfence();                                                                                                             \
  }                                                                                                                           \
  template <int kAhead, int kTo>                                                                                              \
  __attribute__((target(TARGET))) void NAME##_blocks(const float* x, const float* y, float* z, size_t n) {                    \
    constexpr size_t kBlock = 512;                                                                                            \
    alignas(64) float block[kBlock];                                                                                          \
    for (size_t i = 0; i < n; i += kBlock) {                                                                                  \
      for (size_t k = 0; k < kBlock; k += LANES) STORE(block + k, y ? ADD(LOAD(x + i + k), LOAD(y + i + k)) : LOAD(x + i + k));\
      for (size_t k = 0; k < kBlock; k += 16) {                                                                               \
        __builtin_prefetch(x + i + kAhead + k, 0, kTo);                                                                       \
        if (y) __builtin_prefetch(y + i + kAhead + k, 0, kTo);                                                                \
        for (size_t m = k; m < k + 16; m += LANES) STREAM(z + i + m, LOAD(block + m));                                        \
      }                                                                                                                       \
    }                                                                                                                         \
    _mm_sfence();                                                                                                             \
  }
KEEL_PAST(past_avx512, "avx512f", 16, _mm512_loadu_ps, _mm512_storeu_ps, _mm512_add_ps, _mm512_stream_ps)
KEEL_PAST(past_avx, "avx", 8, _mm256_loadu_ps, _mm256_storeu_ps, _mm256_add_ps, _mm256_stream_ps)
#define KEEL_WAYS(NAME)                                                                                                       \
  {by_loop, NAME<512, 3>, NAME<1024, 2>, NAME##_blocks<512, 3>, NAME##_blocks<1024, 2>}
std::vector<Way> ways() {
  if (__builtin_cpu_supports("avx512f")) return KEEL_WAYS(past_avx512);
  return KEEL_WAYS(past_avx);
}
#else
std::vector<Way> ways() { return {by_loop}; }
#endif

enum class Plain { read, copy, triad };
/// What an op must do: one plain loop, and as many more reads of n elements.
struct Floor {
  Plain kind;
  int reads = 0;
  double tensors() const { return double(reads) + (kind == Plain::read ? 1 : kind == Plain::copy ? 2 : 3); }
  std::string name() const {
    return std::string(kind == Plain::read ? "read" : kind == Plain::copy ? "copy" : "triad") + (reads ? "+" + std::to_string(reads) : "");
  }
};
volatile uint64_t sink;

struct Bench {
  std::string only;
  double seconds;
  size_t n;
  Tensor a = randn({int64_t(n)}), b = randn({int64_t(n)}), c = zeros({int64_t(n)});  // of the same memory as the ops' operands
  const float *x = a.data<float>(), *y = b.data<float>();
  float* z = c.data<float>();

  Way copy_by = nullptr, triad_by = nullptr;
  Reader read_by = nullptr;

  /// Seconds to do `floor` once over n elements.
  double plain(const Floor& floor) const {
    const double t = bench::tick();
    for (int i = 0; i < floor.reads + (floor.kind == Plain::read); ++i)
      sink = read_by(reinterpret_cast<const uint64_t*>(floor.kind == Plain::triad && i % 2 ? y : x), n / 2);
    if (floor.kind == Plain::copy) copy_by(x, nullptr, z, n);
    if (floor.kind == Plain::triad) triad_by(x, y, z, n);
    return bench::tick() - t;
  }
  /// The quickest of `candidates` by the medians of runs in turns; run(w) runs one.
  template <class W, class F>
  static W quickest(const std::vector<W>& candidates, F run) {
    std::vector<std::vector<double>> t(candidates.size());
    for (int k = 0; k < 12; ++k)
      for (size_t i = 0; i < candidates.size(); ++i) {
        const double begin = bench::tick();
        run(candidates[i]);
        t[i].push_back(bench::tick() - begin);
      }
    size_t best = 0;
    for (auto& v : t) std::sort(v.begin(), v.end());
    for (size_t i = 0; i < t.size(); ++i)
      if (t[i][t[i].size() / 2] < t[best][t[best].size() / 2]) best = i;
    return candidates[best];
  }
  void choose() {
    std::vector<Way> copies = ways();
    triad_by = quickest(copies, [&](Way w) { w(x, y, z, n); });
    copies.push_back(by_memcpy);
    copy_by = quickest(copies, [&](Way w) { w(x, nullptr, z, n); });
    const auto* words = reinterpret_cast<const uint64_t*>(x);
    read_by = quickest(std::vector<Reader>{plain_read, read_far, read_near, read_both}, [&](Reader r) { sink = r(words, n / 2); });
  }
  void row(const char* name, const Floor& floor, const std::function<Tensor()>& f) const {
    if (std::string(name).find(only) == std::string::npos) return;
    std::vector<double> ratio, op, base;
    f(), plain(floor);
    const double begin = bench::now();
    while (bench::now() - begin < seconds || ratio.size() < 5) {
      const double t = bench::tick();
      f();
      op.push_back(1 / (bench::tick() - t)), base.push_back(1 / plain(floor)), ratio.push_back(op.back() / base.back());
    }
    for (auto* v : {&ratio, &op, &base}) std::sort(v->begin(), v->end());
    const auto at = [](const std::vector<double>& v, double q) { return v[size_t(double(v.size() - 1) * q)]; };
    const double unit = floor.tensors() * double(n) * 4 / 1e9;
    std::printf("%-34s %6.1f GB/s  %-7s %6.1f  ratio %.2f (%.2f to %.2f)%s\n", name, at(op, 0.5) * unit, floor.name().c_str(),
                at(base, 0.5) * unit, at(ratio, 0.5), at(ratio, 0.1), at(ratio, 0.9), at(ratio, 0.5) < 0.85 ? "  BELOW" : "");
    std::fflush(stdout);
  }
  void gradient(const char* name, const Floor& floor, Tensors in, const std::function<Tensor(const Tensors&)>& f) const {
    if (std::string(name).find(only) == std::string::npos) return;
    EnableGrad on;
    for (Tensor& t : in) t.requires_grad_();
    const Tensor out = f(in), g = randn(out.shape());
    const Tensor same = out.is_contiguous() ? g : g.channels_last();
    row(name, floor, [&] { return grad(Tensors{out}, in, {.retain_graph = true}, {same})[0]; });
  }
};

}  // namespace

int main(int argc, char** argv) {
  set_num_threads(argc > 1 ? std::atoi(argv[1]) : 1);
  bench::one_thread = num_threads() == 1;
  const size_t million = argc > 4 ? size_t(std::atoi(argv[4])) : 10;
  Bench b{argc > 2 ? argv[2] : "", argc > 3 ? std::atof(argv[3]) : 0.5, million << 20};
  const auto n = int64_t(b.n);
  b.choose();
  NoGrad off;
  std::printf("%d thread(s), %zu Mi elements of f32\n", int(num_threads()), million);
  const Tensor x = randn({n}), y = randn({n});
  b.row("add new", {Plain::triad}, [&] { return add(x, y); });
  b.row("mul new", {Plain::triad}, [&] { return mul(x, y); });
  b.row("relu", {Plain::copy}, [&] { return relu(x); });
  b.row("exp", {Plain::copy}, [&] { return exp(x); });
  b.row("tanh", {Plain::copy}, [&] { return tanh(x); });
  b.row("gelu", {Plain::copy}, [&] { return gelu(x); });
  b.row("gelu tanh", {Plain::copy}, [&] { return gelu(x, {.approximate = Gelu::tanh}); });
  b.row("sigmoid", {Plain::copy}, [&] { return sigmoid(x); });
  for (const int64_t width : {1024, 4096}) {
    const Tensor m = x.reshape({n / width, width}), w = ones({width}), v = zeros({width});
    const std::string at = " rows of " + std::to_string(width);
    const auto each = [&](const char* name, const auto& f) {
      if (width == 1024) b.row((std::string(name) + " whole").c_str(), {Plain::read}, [&] { return f(x, Axes{}); });
      b.row((name + at).c_str(), {Plain::read}, [&] { return f(m, Axes{1}); });
      if (width == 1024) b.row((std::string(name) + " columns").c_str(), {Plain::read}, [&] { return f(m, Axes{0}); });
    };
    each("sum", [](const Tensor& t, const Axes& a) { return sum(t, {.axis = a}); });
    each("mean", [](const Tensor& t, const Axes& a) { return mean(t, {.axis = a}); });
    each("max", [](const Tensor& t, const Axes& a) { return max(t, {.axis = a}); });
    each("argmax", [](const Tensor& t, const Axes& a) { return a.empty() ? argmax(t) : argmax(t, {.axis = a[0]}); });
    if (width == 1024) b.row("var whole", {Plain::read}, [&] { return var(x); });
    b.row(("var" + at).c_str(), {Plain::read}, [&] { return var(m, {.axis = {1}}); });
    if (width == 1024) b.row("var columns", {Plain::read}, [&] { return var(m, {.axis = {0}}); });
    b.row(("softmax" + at).c_str(), {Plain::copy}, [&] { return softmax(m); });
    b.row(("log_softmax" + at).c_str(), {Plain::copy}, [&] { return log_softmax(m); });
    b.row(("layer_norm" + at).c_str(), {Plain::copy}, [&] { return layer_norm(m, w, v); });
    b.row(("rms_norm" + at).c_str(), {Plain::copy}, [&] { return rms_norm(m, w); });
    b.gradient(("softmax gradient" + at).c_str(), {Plain::triad}, {m.detach()}, [](const Tensors& t) { return softmax(t[0]); });
    b.gradient(("log_softmax gradient" + at).c_str(), {Plain::triad}, {m.detach()}, [](const Tensors& t) { return log_softmax(t[0]); });
    b.gradient(("layer_norm gradient" + at).c_str(), {Plain::triad}, {m.detach(), w.detach(), v.detach()},
               [](const Tensors& t) { return layer_norm(t[0], t[1], t[2]); });
    b.gradient(("rms_norm gradient" + at).c_str(), {Plain::triad}, {m.detach(), w.detach()},
               [](const Tensors& t) { return rms_norm(t[0], t[1]); });
  }
  const int64_t side = 128, images = n / (64 * side * side);
  const Tensor w = ones({64}), v = zeros({64});
  for (const bool last : {false, true}) {
    Tensor image = x.reshape({images, 64, side, side});
    if (last) image = image.channels_last();
    const std::string at = last ? " nhwc" : " nchw";
    b.row(("batch_norm" + at).c_str(), {Plain::copy, 1}, [&] { return batch_norm(image, w, v).y; });
    b.gradient(("batch_norm gradient" + at).c_str(), {Plain::triad, 2}, {image.detach(), w.detach(), v.detach()},
               [](const Tensors& t) { return batch_norm(t[0], t[1], t[2]).y; });
  }
}
