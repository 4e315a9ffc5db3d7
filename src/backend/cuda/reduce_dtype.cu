// Sums whose result is of another dtype than usual: floats, counts and masks into f32 or f64. Elements are taken in as what adds them up.
#include "backend/cuda/reduce.cuh"

using namespace keel;
using namespace keel::cuda;

namespace {

using From = TypeList<float, double, half, bfloat, bool, uint8_t, int32_t, int64_t>;
constexpr DTypeSet kFrom = kinds::floating | set_of(DType::boolean, DType::u8, DType::i32, DType::i64);

/// In f64 where one side is.
template <class T, class O>
struct SumInto : Sum<T, O> {
  using A = std::conditional_t<std::is_same_v<T, double>, double, O>;
  using Lane = A;
  __device__ A empty() const { return 0; }
  __device__ A lane() const { return 0; }
  __device__ void take(A& a, T x, int64_t) const { a += A(widen(x)); }
  __device__ A done(A a) const { return a; }
  __device__ A combine(A a, A b) const { return a + b; }
  __device__ O finish(A a, int64_t) const { return O(a); }
};

}  // namespace

KEEL_CUDA_KERNEL(sum__into) {
  reduction<SumParams>(k, kFrom)
      .refuses([](const void* params, Specs in) -> const char* {
        const DType to = static_cast<const SumParams*>(params)->dtype, from = in[0].dtype;
        return (to == f32 || to == f64) && to != from ? nullptr : "another dtype of the result";
      })
      .run([](const KernelArgs& a) {
        KernelStatus s;
        const Dims& axes = a.get<SumParams>().axis;
        From::call(a.in[0].dtype, [&](auto t) {
          using T = decltype(t);
          if constexpr (!std::is_same_v<T, double>)
            if (a.out[0].dtype == f64) return void(s = reduce(a, axes, SumInto<T, double>{}));
          if constexpr (!std::is_same_v<T, float>) s = reduce(a, axes, SumInto<T, float>{});
        });
        return s;
      });
}
