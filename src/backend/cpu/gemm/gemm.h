#pragma once
#include <cstdint>

/// Matrix products of the CPU backend: C = act(alpha * A B + beta * C + bias), A and B with any strides, one packed layout of B per dtype and ISA.
///
/// Numerics. f64 in f64; all else in f32. The k dimension is cut into blocks whose length depends on k alone; within a block an element is one chain of
/// FMAs (multiply, then add on the scalar ISA) in rising k, and block sums are added in rising order. Nothing else enters, so a result does not change with m, n,
/// batch, strides, packing or thread count (level `invariant`). bf16 inputs go through AMX tiles or AVX-512 BF16 dot products where `active_isa()` is amx or
/// `use_bf16_dot()`: then products are exact too and sums are f32, one chain over all of k, but numbers below the normal range count as zero (gemm_bf16.cpp).
namespace keel::cpu {

enum class Elem : uint8_t { f32, f64, bf16, f16 };
constexpr int64_t elem_bytes(Elem e) { return e == Elem::f64 ? 8 : e == Elem::f32 ? 4 : 2; }

enum class Act : uint8_t { none, relu, gelu_tanh, gelu_erf };

/// A finished part of C, still in cache: `rows` x `cols` elements from row `row`, column `col` of batch entry `batch`. Where batch entries lie one below the other as rows of one product, they are run as one: `row`
/// then counts through all of them and `batch` is 0.
struct GemmBlock {
  const void* c;
  int64_t ldc, batch, row, col, rows, cols;
};

/// What happens to a finished element before it is stored. All pointers may be null.
struct GemmEpilogue {
  const void* bias = nullptr;  ///< n values of C's type, added to each row
  Act act = Act::none;
  void* pre = nullptr;  ///< also receives the value before `act`, in C's type
  int64_t ldpre = 0, pre_bs = 0;
  void (*on_block)(void* context, const GemmBlock& block) = nullptr;  ///< called for each finished part, on the thread that made it
  void* context = nullptr;
};

inline constexpr int kMaxBatchRank = 6;

/// One product, or a batch of them. Strides count elements; `a[i * a_rs + k * a_cs]`, `b[k * b_rs + j * b_cs]`, `c[i * ldc + j]`. C must not overlap A or B.
struct GemmArgs {
  Elem in = Elem::f32, out = Elem::f32;  ///< f64 goes with f64; 16-bit inputs give f32 or the same 16-bit type
  int64_t m = 0, n = 0, k = 0;
  const void* a = nullptr;
  int64_t a_rs = 0, a_cs = 1;
  const void* b = nullptr;  ///< not read where `packed_b` is given
  int64_t b_rs = 0, b_cs = 1;
  void* c = nullptr;
  int64_t ldc = 0;
  double alpha = 1, beta = 0;  ///< C is not read where beta is 0
  GemmEpilogue epilogue;
  const void* packed_b = nullptr;  ///< from `gemm_pack_b` under the same ISA; the batch must not stride it
  int batch_rank = 0;              ///< batch dimensions, outermost first; strides may be 0
  int64_t batch[kMaxBatchRank] = {}, a_bs[kMaxBatchRank] = {}, b_bs[kMaxBatchRank] = {}, c_bs[kMaxBatchRank] = {};
};

/// Bytes of scratch that `gemm` needs for these arguments at the present thread count and ISA. Memory need not be cleared; 64-byte alignment is made inside.
int64_t gemm_workspace_bytes(const GemmArgs& args);

/// Runs the product. With less workspace than asked for it uses fewer threads; one thread's share must be there.
void gemm(const GemmArgs& args, void* workspace, int64_t workspace_bytes);

/// Size of, and conversion to, the packed layout of B for the active ISA: for use with every m, from 1 up.
int64_t gemm_packed_b_bytes(Elem in, int64_t k, int64_t n);
void gemm_pack_b(Elem in, int64_t k, int64_t n, const void* b, int64_t b_rs, int64_t b_cs, void* packed);

}  // namespace keel::cpu
