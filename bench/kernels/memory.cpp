// Ops bound by memory against plain reads, copies and triads of as many bytes, in turns. usage: memory [threads] [text in names]
// [seconds a row] [million elements]. A row gives the op's GB/s (every operand counted once, two passes over x where an op needs a whole
// tensor's statistics), the plain loop's, and the median of their ratio with its 10th and 90th percentiles; at or above 0.85 the op is at
// the limit.
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

KEEL_CLONES uint64_t plain_read(const uint64_t* x, size_t n) {
  uint64_t v = 0;
  for (size_t i = 0; i < n; ++i) v ^= x[i];
  return v;
}
/// z = x, or x + y, past the caches: 2 KiB at a time through L1, fetching the next 2 KiB meanwhile, the fastest of many ways tried.
constexpr size_t kBlock = 512;
#if defined(__x86_64__)
#define KEEL_STREAMED(NAME, TARGET, LANES, LOAD, STORE, ADD, STREAM)                                                            \
  __attribute__((target(TARGET))) void NAME(const float* x, const float* y, float* z, size_t n) {                               \
    alignas(64) float block[kBlock];                                                                                            \
    for (size_t i = 0; i < n; i += kBlock) {                                                                                    \
      for (size_t k = 0; k < kBlock; k += LANES) STORE(block + k, y ? ADD(LOAD(x + i + k), LOAD(y + i + k)) : LOAD(x + i + k)); \
      for (size_t k = 0; k < kBlock; k += 16) {                                                                                 \
        _mm_prefetch(reinterpret_cast<const char*>(x + i + kBlock + k), _MM_HINT_T0);                                           \
        if (y) _mm_prefetch(reinterpret_cast<const char*>(y + i + kBlock + k), _MM_HINT_T0);                                    \
        for (size_t m = k; m < k + 16; m += LANES) STREAM(z + i + m, LOAD(block + m));                                          \
      }                                                                                                                         \
    }                                                                                                                           \
    _mm_sfence();                                                                                                               \
  }
KEEL_STREAMED(streamed_avx512, "avx512f", 16, _mm512_loadu_ps, _mm512_storeu_ps, _mm512_add_ps, _mm512_stream_ps)
KEEL_STREAMED(streamed_avx, "avx", 8, _mm256_loadu_ps, _mm256_storeu_ps, _mm256_add_ps, _mm256_stream_ps)
void streamed(const float* x, const float* y, float* z, size_t n) {
  __builtin_cpu_supports("avx512f") ? streamed_avx512(x, y, z, n) : streamed_avx(x, y, z, n);
}
#else
void streamed(const float* x, const float* y, float* z, size_t n) {
  for (size_t i = 0; i < n; ++i) z[i] = y ? x[i] + y[i] : x[i];
}
#endif

enum class Plain { read, copy, triad };
constexpr const char* kNames[] = {"read", "copy", "triad"};
volatile uint64_t sink;

struct Bench {
  std::string only;
  double seconds;
  size_t n;
  Tensor a = zeros({int64_t(n)}), b = zeros({int64_t(n)}), c = zeros({int64_t(n)});  // of the same memory as the ops' operands
  const float *x = a.data<float>(), *y = b.data<float>();
  float* z = c.data<float>();

  /// Seconds to do `kind` once over n elements, by the faster way.
  double plain(Plain kind) const {
    double t = bench::tick();
    if (kind == Plain::read) sink = plain_read(reinterpret_cast<const uint64_t*>(x), n / 2);
    if (kind == Plain::copy) std::memcpy(z, x, n * 4);
    const double first = kind == Plain::triad ? 1e9 : bench::tick() - t;
    if (kind == Plain::read) return first;
    t = bench::tick();
    streamed(x, kind == Plain::triad ? y : nullptr, z, n);
    return std::min(first, bench::tick() - t);
  }
  /// `tensors`: how many times n elements the op moves.
  void row(const char* name, Plain kind, double tensors, const std::function<Tensor()>& f) const {
    if (std::string(name).find(only) == std::string::npos) return;
    std::vector<double> ratio, op, base;
    f(), plain(kind);
    const double begin = bench::now(), moved = kind == Plain::read ? 1 : kind == Plain::copy ? 2 : 3;
    while (bench::now() - begin < seconds || ratio.size() < 5) {
      const double t = bench::tick();
      f();
      op.push_back(tensors / (bench::tick() - t)), base.push_back(moved / plain(kind)), ratio.push_back(op.back() / base.back());
    }
    for (auto* v : {&ratio, &op, &base}) std::sort(v->begin(), v->end());
    const auto at = [](const std::vector<double>& v, double q) { return v[size_t(double(v.size() - 1) * q)]; };
    const double unit = double(n) * 4 / 1e9;
    std::printf("%-30s %7.1f GB/s  %-5s %7.1f  ratio %.2f (%.2f to %.2f)%s\n", name, at(op, 0.5) * unit, kNames[int(kind)],
                at(base, 0.5) * unit, at(ratio, 0.5), at(ratio, 0.1), at(ratio, 0.9), at(ratio, 0.5) < 0.85 ? "  BELOW" : "");
    std::fflush(stdout);
  }
  void gradient(const char* name, double tensors, Tensors in, const std::function<Tensor(const Tensors&)>& f) const {
    if (std::string(name).find(only) == std::string::npos) return;
    EnableGrad on;
    for (Tensor& t : in) t.requires_grad_();
    const Tensor out = f(in), g = randn(out.shape());
    const Tensor same = out.is_contiguous() ? g : g.channels_last();
    row(name, Plain::triad, tensors, [&] { return grad(Tensors{out}, in, {.retain_graph = true}, {same})[0]; });
  }
};

}  // namespace

int main(int argc, char** argv) {
  set_num_threads(argc > 1 ? std::atoi(argv[1]) : 1);
  bench::one_thread = num_threads() == 1;
  const size_t million = argc > 4 ? size_t(std::atoi(argv[4])) : 10;
  const Bench b{argc > 2 ? argv[2] : "", argc > 3 ? std::atof(argv[3]) : 0.5, million << 20};
  const auto n = int64_t(b.n);
  NoGrad off;
  std::printf("%d thread(s), %zu Mi elements of f32\n", int(num_threads()), million);
  const Tensor x = randn({n}), y = randn({n});
  b.row("add new", Plain::triad, 3, [&] { return add(x, y); });
  b.row("mul new", Plain::triad, 3, [&] { return mul(x, y); });
  b.row("relu", Plain::copy, 2, [&] { return relu(x); });
  b.row("exp", Plain::copy, 2, [&] { return exp(x); });
  b.row("tanh", Plain::copy, 2, [&] { return tanh(x); });
  b.row("gelu", Plain::copy, 2, [&] { return gelu(x); });
  b.row("gelu tanh", Plain::copy, 2, [&] { return gelu(x, {.approximate = Gelu::tanh}); });
  b.row("sigmoid", Plain::copy, 2, [&] { return sigmoid(x); });
  for (const int64_t width : {1024, 4096}) {
    const Tensor m = x.reshape({n / width, width}), w = ones({width}), v = zeros({width});
    const std::string at = " rows of " + std::to_string(width);
    const auto each = [&](const char* name, const auto& f) {
      if (width == 1024) b.row((std::string(name) + " whole").c_str(), Plain::read, 1, [&] { return f(x, Axes{}); });
      b.row((name + at).c_str(), Plain::read, 1, [&] { return f(m, Axes{1}); });
      if (width == 1024) b.row((std::string(name) + " columns").c_str(), Plain::read, 1, [&] { return f(m, Axes{0}); });
    };
    each("sum", [](const Tensor& t, const Axes& a) { return sum(t, {.axis = a}); });
    each("mean", [](const Tensor& t, const Axes& a) { return mean(t, {.axis = a}); });
    each("max", [](const Tensor& t, const Axes& a) { return max(t, {.axis = a}); });
    each("argmax", [](const Tensor& t, const Axes& a) { return a.empty() ? argmax(t) : argmax(t, {.axis = a[0]}); });
    // Rows and columns stay in cache between the two passes; a whole tensor does not.
    if (width == 1024) b.row("var whole (2 passes)", Plain::read, 2, [&] { return var(x); });
    b.row(("var" + at).c_str(), Plain::read, 1, [&] { return var(m, {.axis = {1}}); });
    if (width == 1024) b.row("var columns (2 passes)", Plain::read, 2, [&] { return var(m, {.axis = {0}}); });
    b.row(("softmax" + at).c_str(), Plain::copy, 2, [&] { return softmax(m); });
    b.row(("log_softmax" + at).c_str(), Plain::copy, 2, [&] { return log_softmax(m); });
    b.row(("layer_norm" + at).c_str(), Plain::copy, 2, [&] { return layer_norm(m, w, v); });
    b.row(("rms_norm" + at).c_str(), Plain::copy, 2, [&] { return rms_norm(m, w); });
    b.gradient(("softmax gradient" + at).c_str(), 3, {m.detach()}, [](const Tensors& t) { return softmax(t[0]); });
    b.gradient(("log_softmax gradient" + at).c_str(), 3, {m.detach()}, [](const Tensors& t) { return log_softmax(t[0]); });
    b.gradient(("layer_norm gradient" + at).c_str(), 3, {m.detach(), w.detach(), v.detach()},
               [](const Tensors& t) { return layer_norm(t[0], t[1], t[2]); });
    b.gradient(("rms_norm gradient" + at).c_str(), 3, {m.detach(), w.detach()}, [](const Tensors& t) { return rms_norm(t[0], t[1]); });
  }
  const int64_t side = 128, images = n / (64 * side * side);
  const Tensor w = ones({64}), v = zeros({64});
  for (const bool last : {false, true}) {
    Tensor image = x.reshape({images, 64, side, side});
    if (last) image = image.channels_last();
    const std::string at = last ? " nhwc" : " nchw";
    b.row(("batch_norm" + at).c_str(), Plain::triad, 3, [&] { return batch_norm(image, w, v).y; });
    b.gradient(("batch_norm gradient" + at).c_str(), 5, {image.detach(), w.detach(), v.detach()},
               [](const Tensors& t) { return batch_norm(t[0], t[1], t[2]).y; });
  }
}
