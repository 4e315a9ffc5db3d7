// Ops bound by memory against plain reads, copies and triads of as many bytes, in turns. usage: memory [threads] [text in names] [seconds a row]
// [million elements]. A row gives the op's GB/s (every operand counted once, two passes over x where an op needs a whole tensor's
// statistics), the plain loop's, and the median of their ratio with its 10th and 90th percentiles; at or above 0.85 the op is at the limit.
#include <cstdint>
#include <cstring>
#include <functional>
#include <string>

#include "interleave.h"
#include "keel/keel.h"
#if defined(__SSE2__)
#include <emmintrin.h>
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
KEEL_CLONES void plain_triad(const float* x, const float* y, float* z, size_t n) {
  for (size_t i = 0; i < n; ++i) z[i] = x[i] + 3 * y[i];
}
KEEL_CLONES void plain_copy(const float* x, float* z, size_t n) {
  for (size_t i = 0; i < n; ++i) z[i] = x[i] + 1;
}
/// The same with stores that go past the caches.
void streamed_triad(const float* x, const float* y, float* z, size_t n) {
#if defined(__SSE2__)
  for (size_t i = 0; i < n; i += 16)
    for (size_t k = i; k < i + 16; k += 4) _mm_stream_ps(z + k, _mm_add_ps(_mm_loadu_ps(x + k), _mm_loadu_ps(y + k)));
  _mm_sfence();
#else
  plain_triad(x, y, z, n);
#endif
}

enum class Plain { read, copy, triad };
constexpr const char* kNames[] = {"read", "copy", "triad"};
volatile uint64_t sink;

struct Bench {
  std::string only;
  double seconds;
  size_t n;
  float *x = bench::floats(n, 1), *y = bench::floats(n, 2), *z = bench::floats(n, 3);

  /// Seconds of the faster way to do `kind` once over n elements.
  double plain(Plain kind) const {
    double best = 1e9;
    for (int way = 0; way < (kind == Plain::read ? 1 : 2); ++way) {
      const double t = bench::tick();
      if (kind == Plain::read) sink = plain_read(reinterpret_cast<const uint64_t*>(x), n / 2);
      if (kind == Plain::copy) way ? plain_copy(x, z, n) : static_cast<void>(std::memcpy(z, x, n * 4));
      if (kind == Plain::triad) way ? plain_triad(x, y, z, n) : streamed_triad(x, y, z, n);
      best = std::min(best, bench::tick() - t);
    }
    return best;
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
    b.gradient(("layer_norm gradient" + at).c_str(), 3, {m.detach(), w.detach(), v.detach()}, [](const Tensors& t) { return layer_norm(t[0], t[1], t[2]); });
    b.gradient(("rms_norm gradient" + at).c_str(), 3, {m.detach(), w.detach()}, [](const Tensors& t) { return rms_norm(t[0], t[1]); });
  }
  const int64_t side = 128, images = n / (64 * side * side);
  const Tensor w = ones({64}), v = zeros({64});
  for (const bool last : {false, true}) {
    Tensor image = x.reshape({images, 64, side, side});
    if (last) image = image.channels_last();
    const std::string at = last ? " nhwc" : " nchw";
    b.row(("batch_norm" + at).c_str(), Plain::triad, 3, [&] { return batch_norm(image, w, v).y; });
    b.gradient(("batch_norm gradient" + at).c_str(), 5, {image.detach(), w.detach(), v.detach()}, [](const Tensors& t) { return batch_norm(t[0], t[1], t[2]).y; });
  }
}
