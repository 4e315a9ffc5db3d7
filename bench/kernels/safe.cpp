// Safe, soft and near ops beside the expressions that a program would write without them, both by Keel's kernels, in turns. usage: safe
// [threads] [text in names] [seconds a row] [million elements]. A row gives the op's milliseconds (the best and the median), those of the
// expression, and the median of the expression's time over the op's with its 10th and 90th percentiles: above 1 the op is quicker. The
// expressions give the same values; those of gradients, which give NaN where the op does not, are forward and backward together.
#include <cmath>
#include <string>

#include "interleave.h"
#include "keel/keel.h"

using namespace keel;

namespace {

struct Bench {
  std::string only;
  double seconds;

  template <class A, class B>
  void row(const char* name, A op, B by_hand) const {
    if (std::string(name).find(only) == std::string::npos) return;
    const bench::Result r = bench::interleave(op, by_hand, seconds);
    std::printf("%-28s %8.3f %8.3f ms   by hand %8.3f %8.3f ms   %5.2f (%.2f to %.2f)\n", name, r.best[0] * 1e3, r.median[0] * 1e3,
                r.best[1] * 1e3, r.median[1] * 1e3, r.ratio, r.low, r.high);
    std::fflush(stdout);
  }
};
/// Numbers in [-1, 1), every 16th of them a zero.
Tensor numbers(int64_t n, DType t, unsigned seed) {
  Tensor x = empty({n}, {.dtype = f32});
  float* p = bench::floats(size_t(n), seed);
  for (int64_t i = 0; i < n; ++i) x.data<float>()[i] = i % 16 == 5 ? 0 : p[i];
  std::free(p);
  return x.astype(t);
}
/// Forward and backward.
template <class F>
auto trained(F f, Tensor a, Tensor b) {
  a = a.clone(), b = b.clone();
  a.requires_grad_(), b.requires_grad_();
  const Tensor g = ones(a.shape(), {.dtype = a.dtype()});
  return [=] { grad(Tensors{f(a, b)}, Tensors{a, b}, {}, Tensors{g}); };
}

void rows(const Bench& bench, DType t, int64_t n) {
  const std::string of = std::string(" ") + name_of(t);
  const auto row = [&](const char* name, auto op, auto hand) { bench.row((name + of).c_str(), op, hand); };
  const Tensor a = numbers(n, t, 1), b = numbers(n, t, 2);
  const Tensor odd = where(equal(b, 0), NAN, a);
  const auto hand_div = [](const Tensor& x, const Tensor& y) { return where(equal(y, 0), 0, div(x, where(equal(y, 0), 1, y))); };
  row("div_safe", [&] { div_safe(a, b, {.otherwise = 0}); }, [&] { hand_div(a, b); });
  row("div", [&] { div_safe(a, b, {.otherwise = 0}); }, [&] { div(a, b); });
  row("div_safe with gradient", trained([](const Tensor& x, const Tensor& y) { return div_safe(x, y, {.otherwise = 0}); }, a, b),
      trained(hand_div, a, b));
  row("sanitize", [&] { sanitize(odd); }, [&] { where(isfinite(odd), odd, where(isnan(odd), 0, clamp(odd, -1e30, 1e30))); });
  row("near", [&] { near(a, b); }, [&] { less_equal(abs(sub(a, b)), maximum(mul(maximum(abs(a), abs(b)), 1e-6), 1e-7)); });
  row("near_zero", [&] { near_zero(a); }, [&] { less_equal(abs(a), 1e-7); });
  row("clamp_to_zero", [&] { clamp_to_zero(a); }, [&] { where(less_equal(abs(a), 1e-7), 0, a); });
  row("clamp_safe", [&] { clamp_safe(a, -0.5, 0.5); }, [&] { minimum(maximum(a, -0.5), 0.5); });
  row("sqrt_safe", [&] { sqrt_safe(a, {.otherwise = 0}); }, [&] { where(less(a, 0), 0, sqrt(where(less(a, 0), 1, a))); });
  row("log_safe", [&] { log_safe(a, {.otherwise = 0}); }, [&] { where(less_equal(a, 0), 0, log(where(less_equal(a, 0), 1, a))); });
  row("pow_safe", [&] { pow_safe(a, 2.5, {.otherwise = 0}); }, [&] { where(less(a, 0), 0, pow(where(less(a, 0), 1, a), 2.5)); });
  row("soft_clamp", [&] { soft_clamp(a, 0, 0.5); }, [&] { sub(softplus(a, {.beta = 10}), softplus(sub(a, 0.5), {.beta = 10})); });
  row("soft_near", [&] { soft_near(a, b, {.temperature = 0.1}); },
      [&] { sigmoid(div(sub(maximum(mul(maximum(abs(a), abs(b)), 1e-6), 1e-7), abs(sub(a, b))), 0.1)); });
  row("soft_near with gradient", trained([](const Tensor& x, const Tensor& y) { return soft_near(x, y, {.temperature = 0.1}); }, a, b),
      trained([](const Tensor& x,
                 const Tensor& y) { return sigmoid(div(sub(maximum(mul(maximum(abs(x), abs(y)), 1e-6), 1e-7), abs(sub(x, y))), 0.1)); },
              a, b));
  row("soft_compare", [&] { soft_compare(a, b); }, [&] { tanh(sub(a, b)); });
  row("ulp_diff", [&] { ulp_diff(a, b); }, [&] { sub(a, b); });
  const Tensor logits = reshape(a, {n / 1000, 1000});
  row("norm_safe", [&] { norm_safe(logits, {.axis = {1}}); }, [&] { norm(logits, {.axis = {1}}); });
  row(
      "normalize_safe", [&] { normalize_safe(logits); },
      [&] { div(logits, maximum(norm(logits, {.axis = {1}, .keepdim = true}), 1e-12)); });
  row("softmax_safe", [&] { softmax_safe(logits); }, [&] { softmax(logits); });
}

}  // namespace

int main(int argc, char** argv) {
  const int threads = argc > 1 ? std::atoi(argv[1]) : 1;
  set_num_threads(threads);
  bench::one_thread = threads == 1;
  const Bench bench{argc > 2 ? argv[2] : "", argc > 3 ? std::atof(argv[3]) : 0.4};
  const int64_t n = int64_t(1e6 * (argc > 4 ? std::atof(argv[4]) : 1));
  std::printf("%lld elements, %d threads\n", static_cast<long long>(n), threads);
  for (DType t : {f64, f32}) rows(bench, t, n / 1000 * 1000);
}
