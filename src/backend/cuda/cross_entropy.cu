// cross_entropy reads the logits once for the loss and the logarithm of the sum, its gradient once more, and neither keeps another tensor
// of their size.
#include "backend/cuda/loss.cuh"
#include "backend/cuda/math.cuh"

using namespace keel;
using namespace keel::cuda;

namespace {

struct Smoothing {
  double share;  // spread over all classes
  template <class C>
  __device__ C loss(C nll, C spread, int64_t n) const {
    return share == 0 ? nll : nll * C(1 - share) + spread * C(share / double(n));
  }
};

/// Rows whose targets are classes.
struct ByClass {
  template <class C>
  static __device__ C finish(C nll, C deviations, C log_sum, int64_t n, const Smoothing& s) {
    return s.loss(nll, -(deviations - C(n) * log_sum), n);
  }
  template <class T, int G, int P>
  struct Kernel : RowForm<G> {
    using C = Compute<T>;
    static __device__ void run(int64_t row, int64_t n, const T* x, Targets targets, Smoothing smoothing, C* losses, C* lse) {
      const RowOf<T, G, P> r(x, row, n);
      C top = -INFINITY, sum = 0, deviations = 0;
      r.each([&](int64_t, C v) { top = MaxOf()(top, v); });
      top = row_combine<G>(top, C(-INFINITY), MaxOf());
      r.each([&](int64_t, C v) { sum += exp_of(v - top), deviations += v - top; });
      sum = row_combine<G>(sum, C(0), SumOf());
      if (smoothing.share != 0) deviations = row_combine<G>(deviations, C(0), SumOf());
      if (r.lane) return;
      const C log_sum = log_of(sum);
      const int64_t t = targets.of(row);
      if (lse) lse[row] = top + log_sum;
      losses[row] = t < 0 ? C(0) : finish(-((widen(x[row * n + t]) - top) - log_sum), deviations, log_sum, n, smoothing);
    }
  };
  template <class T, class C>
  static __device__ void column(int64_t row, int64_t at, int64_t n, int64_t step, const T* x, Targets targets, Smoothing smoothing,
                                C* losses, C* lse) {
    C top = -INFINITY, sum = 0, deviations = 0;
    for (int64_t k = 0; k < n; ++k) top = MaxOf()(top, widen(x[at + k * step]));
    for (int64_t k = 0; k < n; ++k) sum += exp_of(widen(x[at + k * step]) - top), deviations += widen(x[at + k * step]) - top;
    const C log_sum = log_of(sum);
    const int64_t t = targets.of(row);
    if (lse) lse[row] = top + log_sum;
    losses[row] = t < 0 ? C(0) : finish(-((widen(x[at + t * step]) - top) - log_sum), deviations, log_sum, n, smoothing);
  }
};
/// Rows whose targets are probabilities.
struct ByProbability {
  template <class T, int G, int P>
  struct Kernel : RowForm<G> {
    using C = Compute<T>;
    static __device__ void run(int64_t row, int64_t n, const T* x, const T* target, Smoothing smoothing, C* losses, C* lse) {
      const RowOf<T, G, P> r(x, row, n), p(target, row, n);
      C top = -INFINITY, sum = 0, deviations = 0, dot = 0;
      r.each([&](int64_t, C v) { top = MaxOf()(top, v); });
      top = row_combine<G>(top, C(-INFINITY), MaxOf());
      r.each([&](int64_t, C v) { sum += exp_of(v - top), deviations += v - top; });
      sum = row_combine<G>(sum, C(0), SumOf());
      const C log_sum = log_of(sum);
      r.each([&](int64_t, C v, C w) { dot += w * ((v - top) - log_sum); }, p);
      dot = row_combine<G>(dot, C(0), SumOf());
      if (smoothing.share != 0) deviations = row_combine<G>(deviations, C(0), SumOf());
      if (r.lane) return;
      if (lse) lse[row] = top + log_sum;
      losses[row] = ByClass::finish(-dot, deviations, log_sum, n, smoothing);
    }
  };
  template <class T, class C>
  static __device__ void column(int64_t row, int64_t at, int64_t n, int64_t step, const T* x, const T* target, Smoothing smoothing,
                                C* losses, C* lse) {
    C top = -INFINITY, sum = 0, deviations = 0, dot = 0;
    for (int64_t k = 0; k < n; ++k) top = MaxOf()(top, widen(x[at + k * step]));
    for (int64_t k = 0; k < n; ++k) sum += exp_of(widen(x[at + k * step]) - top), deviations += widen(x[at + k * step]) - top;
    const C log_sum = log_of(sum);
    for (int64_t k = 0; k < n; ++k) dot += widen(target[at + k * step]) * ((widen(x[at + k * step]) - top) - log_sum);
    if (lse) lse[row] = top + log_sum;
    losses[row] = ByClass::finish(-dot, deviations, log_sum, n, smoothing);
  }
};

/// What gradients are divided by: a number; or of a few rows how many of their targets count, found by each warp; or nothing.
struct Share {
  static constexpr int64_t kFew = 256;
  const double* number = nullptr;
  Classes classes;
  int64_t rows = 0;
  /// Where it is no count of classes.
  template <class C>
  __device__ C of_number(C v) const {
    return number ? v / C(*number) : v;
  }
  /// By all threads of a warp.
  template <class C>
  __device__ C of(C v) const {
    if (!classes.p) return of_number(v);
    uint32_t own = 0;
    for (int64_t i = threadIdx.x % 32; i < rows; i += 32) own += classes.counts(i);
    return v / C(double(__reduce_add_sync(~0u, own)));
  }
};

/// g (exp(x - lse) - want).
struct ClassGradient {
  template <class C>
  static __device__ C one(C x, C lse, C g, bool hit, double share, int64_t n) {
    const C rest = C(share / double(n));
    return g * (exp_of(x - lse) - (hit ? C(1 - share) + rest : rest));
  }
  template <class T, int G, int P>
  struct Kernel : RowForm<G> {
    using C = Compute<T>;
    template <class Y>
    static __device__ void run(int64_t row, int64_t n, const T* x, LossGradients<T> g, Share share, Targets targets, Smoothing s,
                               const C* lse, Y dx) {
      const RowOf<T, G, P> r(x, row, n);
      const int64_t t = targets.of(row);
      const C by = share.of(g.of(row)), l = lse[row];
      r.write(dx + row * n, [&](int64_t i, C v) { return t < 0 ? C(0) : one(v, l, by, i == t, s.share, n); });
    }
  };
  template <class T, class C>
  static __device__ void column(int64_t row, int64_t at, int64_t n, int64_t step, const T* x, LossGradients<T> g, Share share,
                                Targets targets, Smoothing s, const C* lse, T* dx) {
    const int64_t t = targets.of(row);
    const C by = share.of_number(g.of(row)), l = lse[row];
    for (int64_t k = 0; k < n; ++k) dx[at + k * step] = narrow<T>(t < 0 ? C(0) : one(widen(x[at + k * step]), l, by, k == t, s.share, n));
  }
};

// ---- long rows of 16-bit logits, as language models have them ----
constexpr float kLog2e = 1.44269504f;
constexpr int64_t kLong = 2048;  // from here on a block takes a row and reads it once
/// 2^x to two units of f32's last place, far below what 16 bits hold.
__device__ __forceinline__ float two_to(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
/// f(index, pack) for this thread's packs of a row; four are on their way at a time.
template <class T, class F>
__device__ __forceinline__ void each_pack(const T* row, int64_t n, F f) {
  const auto* p = reinterpret_cast<const Pack<T, 8>*>(row);
  const int packs = int(n / 8);
  int i = int(threadIdx.x);
  for (; i + 3 * kThreads < packs; i += 4 * kThreads) {
    Pack<T, 8> k[4];
#pragma unroll
    for (int j = 0; j < 4; ++j) k[j] = p[i + j * kThreads];
#pragma unroll
    for (int j = 0; j < 4; ++j) f(i + j * kThreads, k[j]);
  }
  for (; i < packs; i += kThreads) f(i, p[i]);
}
struct PlainMax {
  __device__ float operator()(float a, float b) const { return fmaxf(a, b); }
};
/// A block a row: the sum of exponentials follows the largest value so far (Milakov and Gimelshein 2018). NaN reaches the sum.
template <class T>
__global__ void __launch_bounds__(kThreads)
    long_row_loss(int64_t n, const T* x, Targets targets, Smoothing smoothing, float* losses, float* lse) {
  const int64_t row = blockIdx.x;
  const bool smooth = smoothing.share != 0;
  float top = -INFINITY, sum = 0, plain = 0;
  each_pack(x + row * n, n, [&](int, const Pack<T, 8>& k) {
    float v[8], most = -INFINITY;
#pragma unroll
    for (int j = 0; j < 8; ++j) v[j] = widen(k.v[j]), most = fmaxf(most, v[j]);
    if (most > top) sum *= two_to((top - most) * kLog2e), top = most;
    const float base = top == -INFINITY ? 0.f : top * kLog2e;
    float part = 0;
#pragma unroll
    for (int j = 0; j < 8; ++j) part += two_to(__fmaf_rn(v[j], kLog2e, -base));
    sum += part;
    if (smooth) {
#pragma unroll
      for (int j = 0; j < 8; ++j) plain += v[j];
    }
  });
  const float all = row_combine<kThreads>(top, -INFINITY, PlainMax());
  if (top != -INFINITY) sum *= two_to((top - all) * kLog2e);
  sum = row_combine<kThreads>(sum, 0.f, SumOf());
  if (smooth) plain = row_combine<kThreads>(plain, 0.f, SumOf());
  if (threadIdx.x) return;
  const float log_sum = log_of(sum);
  const int64_t t = targets.of(row);
  if (lse) lse[row] = all + log_sum;
  losses[row] = t < 0 ? 0.f : ByClass::finish(-((widen(x[row * n + t]) - all) - log_sum), plain - float(n) * all, log_sum, n, smoothing);
}
template <class T>
__global__ void __launch_bounds__(kThreads)
    long_row_gradient(int64_t n, const T* x, LossGradients<T> g, Share share, Targets targets, Smoothing s, const float* lse, T* dx) {
  const int64_t row = blockIdx.x, t = targets.of(row);
  const float by = share.of(g.of(row)), base = lse[row] * kLog2e, rest = float(s.share / double(n)), hit = float(1 - s.share) + rest;
  const int at = t < 0 ? -1 : int(t / 8), place = int(t % 8);
  each_pack(x + row * n, n, [&](int i, const Pack<T, 8>& k) {
    Pack<T, 8> out;
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      const float p = two_to(__fmaf_rn(widen(k.v[j]), kLog2e, -base));
      out.v[j] = narrow<T>(t < 0 ? 0.f : by * (p - (i == at && j == place ? hit : rest)));
    }
    reinterpret_cast<Pack<T, 8>*>(dx + row * n)[i] = out;
  });
}
/// Whether the two kernels above take these rows.
template <class T>
bool long_rows(const Around& v, const TensorView& x) {
  return sizeof(T) == 2 && v.inner == 1 && v.n >= kLong && v.n % 8 == 0 && v.n < (int64_t(1) << 31) && aligned16(x);
}

}  // namespace

KEEL_CUDA_KERNEL(cross_entropy) {
  k.late()
      .dtypes(kinds::floating)
      .inputs(Layout::contiguous)
      .refuses([](const void*, Specs in) -> const char* {
        return is_floating(in[1].dtype) && in[1].dtype != in[0].dtype ? "probabilities of another dtype" : nullptr;
      })
      .workspace([](const KernelArgs& a) { return rows_bytes(Around(a.in[0].shape(), a.get<CrossEntropyParams>().axis).rows()); })
      .run([](const KernelArgs& a) {
        const auto& p = a.get<CrossEntropyParams>();
        const TensorView &x = a.in[0], &target = a.in[1];
        const Around v(x.shape(), p.axis);
        KernelStatus s;
        use(a.device);
        Floats::call(x.dtype, [&](auto t) {
          using T = decltype(t);
          using C = Compute<T>;
          auto* losses = static_cast<C*>(a.workspace);
          C* lse = a.n_out > 1 && a.out[1].present() ? a.out[1].ptr<C>() : nullptr;
          const T* logits = x.ptr<T>();
          const Smoothing smoothing{p.label_smoothing};
          if (is_floating(target.dtype)) {
            const T* probabilities = target.ptr<T>();
            s = around<ByProbability, T>(a, v, aligned16(x) && aligned16(target), logits, probabilities, smoothing, losses, lse);
            if (!s.code) s = reduce_losses<C>(a, p.reduction, v.rows(), losses, Classes());
          } else {
            const Targets targets(a, target, p.ignore_index, v.n);
            bool taken = false;
            if constexpr (sizeof(T) == 2)
              if (v.rows() && long_rows<T>(v, x)) {
                long_row_loss<<<unsigned(v.rows()), kThreads, 0, stream(a)>>>(v.n, logits, targets, smoothing, losses, lse);
                s = launched(), taken = true;
              }
            if (!taken) s = around<ByClass, T>(a, v, aligned16(x), logits, targets, smoothing, losses, lse);
            if (!s.code) s = reduce_losses<C>(a, p.reduction, v.rows(), losses, Classes(targets));
          }
        });
        return s;
      });
}
KEEL_CUDA_KERNEL(cross_entropy_backward) {
  k.late()
      .stats()
      .dtypes(kinds::floating)
      .inputs(Layout::contiguous)
      .refuses([](const void*, Specs in) -> const char* {
        const DType wide = in[1].dtype == f64 ? f64 : f32;
        if (in[0].dtype != wide && in[0].dtype != in[1].dtype) return "a gradient of another dtype";
        return in[3].dtype == wide ? nullptr : "lse of another dtype";
      })
      .workspace([](const KernelArgs&) -> size_t { return 8; })
      .run([](const KernelArgs& a) {
        const auto& p = a.get<CrossEntropyParams>();
        const TensorView& x = a.in[1];
        const Around v(x.shape(), p.axis);
        KernelStatus s;
        use(a.device);
        Floats::call(x.dtype, [&](auto t) {
          using T = decltype(t);
          using C = Compute<T>;
          const Targets targets(a, a.in[2], p.ignore_index, v.n);
          const LossGradients<T> g(a.in[0], p.reduction);
          Share share;
          if (p.reduction == Reduction::mean && v.inner == 1 && v.rows() <= Share::kFew)
            share.classes = Classes(targets), share.rows = v.rows();
          else
            share.number = counted_targets(a, p.reduction, targets, v.rows());
          if constexpr (sizeof(T) == 2)
            if (v.rows() && long_rows<T>(v, x) && aligned16(a.out[0])) {  // watched or not, the same bits
              long_row_gradient<<<unsigned(v.rows()), kThreads, 0, stream(a)>>>(
                  v.n, static_cast<const T*>(x.ptr<T>()), g, share, targets, Smoothing{p.label_smoothing},
                  static_cast<const float*>(a.in[3].ptr<float>()), a.out[0].ptr<T>());
              s = then_watch(a, launched());
              return;
            }
          const T* logits = x.ptr<T>();
          const C* lse = a.in[3].ptr<C>();
          s = around_watched<ClassGradient, T>(a, v, aligned16(x) && aligned16(a.out[0]), logits, g, share, targets,
                                               Smoothing{p.label_smoothing}, lse);
        });
        return s;
      });
}
