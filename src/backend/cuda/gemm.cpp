#include "backend/cuda/gemm.h"

#include <cublasLt.h>
#include <dlfcn.h>

#include <algorithm>
#include <array>
#include <map>
#include <mutex>
#include <tuple>

namespace keel::cuda {
namespace {

/// The functions of cuBLASLt that are used.
struct Blas {
  const char* refusal = nullptr;
#define KEEL_BLAS_FUNCTION(NAME) decltype(&NAME) f_##NAME = nullptr
  KEEL_BLAS_FUNCTION(cublasLtCreate);
  KEEL_BLAS_FUNCTION(cublasLtMatmulDescCreate);
  KEEL_BLAS_FUNCTION(cublasLtMatmulDescDestroy);
  KEEL_BLAS_FUNCTION(cublasLtMatmulDescSetAttribute);
  KEEL_BLAS_FUNCTION(cublasLtMatrixLayoutCreate);
  KEEL_BLAS_FUNCTION(cublasLtMatrixLayoutDestroy);
  KEEL_BLAS_FUNCTION(cublasLtMatrixLayoutSetAttribute);
  KEEL_BLAS_FUNCTION(cublasLtMatmulPreferenceCreate);
  KEEL_BLAS_FUNCTION(cublasLtMatmulPreferenceDestroy);
  KEEL_BLAS_FUNCTION(cublasLtMatmulPreferenceSetAttribute);
  KEEL_BLAS_FUNCTION(cublasLtMatmulAlgoGetHeuristic);
  KEEL_BLAS_FUNCTION(cublasLtMatmulAlgoCheck);
  KEEL_BLAS_FUNCTION(cublasLtMatmulAlgoConfigGetAttribute);
  KEEL_BLAS_FUNCTION(cublasLtMatmul);
#undef KEEL_BLAS_FUNCTION
  cublasLtHandle_t handles[kMaxDevices] = {};
  void* workspaces[kMaxDevices] = {};
  std::once_flag made[kMaxDevices];

  Blas() {
    void* library = nullptr;
    for (const char* name : {"libcublasLt.so.13", "/usr/local/cuda/lib64/libcublasLt.so.13"})
      if (!library) library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
      refusal = "libcublasLt.so.13 was not found (it comes with the CUDA toolkit)";
      return;
    }
    bool all = true;
    const auto take = [&](auto& f, const char* name) {
      all = (f = reinterpret_cast<std::remove_reference_t<decltype(f)>>(dlsym(library, name))) && all;
    };
#define KEEL_TAKE(NAME) take(f_##NAME, #NAME)
    KEEL_TAKE(cublasLtCreate), KEEL_TAKE(cublasLtMatmulDescCreate), KEEL_TAKE(cublasLtMatmulDescDestroy),
        KEEL_TAKE(cublasLtMatmulDescSetAttribute);
    KEEL_TAKE(cublasLtMatrixLayoutCreate), KEEL_TAKE(cublasLtMatrixLayoutDestroy), KEEL_TAKE(cublasLtMatrixLayoutSetAttribute);
    KEEL_TAKE(cublasLtMatmulPreferenceCreate), KEEL_TAKE(cublasLtMatmulPreferenceDestroy), KEEL_TAKE(cublasLtMatmulPreferenceSetAttribute);
    KEEL_TAKE(cublasLtMatmulAlgoGetHeuristic), KEEL_TAKE(cublasLtMatmulAlgoCheck), KEEL_TAKE(cublasLtMatmulAlgoConfigGetAttribute);
    KEEL_TAKE(cublasLtMatmul);
#undef KEEL_TAKE
    if (!all) refusal = "libcublasLt.so.13 lacks a function that is needed";
  }
};
Blas& blas() {
  static Blas* const b = new Blas;
  return *b;
}

constexpr size_t kWorkspace = size_t(32) << 20;

cudaDataType_t data_type(DType t) { return t == f32 ? CUDA_R_32F : t == f64 ? CUDA_R_64F : t == f16 ? CUDA_R_16F : CUDA_R_16BF; }

/// One operand in the column-major terms of BLAS: the transpose of a row-major matrix lies as it is.
struct Operand {
  bool transposed;
  int64_t rows, columns, ld;
  /// `row`, `column`: strides of a [rows, columns] matrix whose transpose is wanted.
  static Operand of(int64_t rows, int64_t columns, int64_t row, int64_t column) {
    if (column == 1 && (row >= columns || rows == 1)) return {false, columns, rows, std::max(row, columns)};
    return {true, rows, columns, std::max(column, rows)};
  }
};

struct Algo {
  cublasLtMatmulAlgo_t algo;
  bool found;
  size_t space;  // that it works in
};

int64_t alignment(const void* p) { return grain(int64_t(reinterpret_cast<uintptr_t>(p) % 16)); }

Operand left(const Product& p) { return Operand::of(p.m, p.k, p.a_row, p.a_column); }
Operand right(const Product& p) { return Operand::of(p.k, p.n, p.b_row, p.b_column); }
DType result_of(const Product& p) { return p.result == DType::none ? p.dtype : p.result; }
int32_t end_of(const Product& p) {
  if (p.after == After::nothing) return p.bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
  if (p.inner) return p.bias ? CUBLASLT_EPILOGUE_GELU_AUX_BIAS : CUBLASLT_EPILOGUE_GELU_AUX;
  return p.bias ? CUBLASLT_EPILOGUE_GELU_BIAS : CUBLASLT_EPILOGUE_GELU;
}

/// A product as the library describes it.
struct Problem {
  cublasLtMatmulDesc_t desc;
  cublasLtMatrixLayout_t b, a, c;

  explicit Problem(const Product& p) {
    const Operand l = left(p), r = right(p);
    const bool wide = p.dtype == f64;
    const auto narrow = p.tf32 && p.dtype == f32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
    blas().f_cublasLtMatmulDescCreate(&desc, wide ? CUBLAS_COMPUTE_64F : narrow, wide ? CUDA_R_64F : CUDA_R_32F);
    set(CUBLASLT_MATMUL_DESC_TRANSA, int32_t(r.transposed ? CUBLAS_OP_T : CUBLAS_OP_N));
    set(CUBLASLT_MATMUL_DESC_TRANSB, int32_t(l.transposed ? CUBLAS_OP_T : CUBLAS_OP_N));
    if (const int32_t end = end_of(p); end != CUBLASLT_EPILOGUE_DEFAULT) set(CUBLASLT_MATMUL_DESC_EPILOGUE, end);
    if (p.bias) set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, p.bias);
    if (p.inner) set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, p.inner), set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, p.ldc);
    const auto layout = [&](cublasLtMatrixLayout_t* to, DType t, int64_t rows, int64_t columns, int64_t ld, int64_t step) {
      blas().f_cublasLtMatrixLayoutCreate(to, data_type(t), uint64_t(rows), uint64_t(columns), ld);
      if (p.batch == 1) return;
      const int32_t count = int32_t(p.batch);
      blas().f_cublasLtMatrixLayoutSetAttribute(*to, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count, sizeof count);
      blas().f_cublasLtMatrixLayoutSetAttribute(*to, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &step, sizeof step);
    };
    layout(&b, p.dtype, r.rows, r.columns, r.ld, p.b_step), layout(&a, p.dtype, l.rows, l.columns, l.ld, p.a_step);
    layout(&c, result_of(p), p.n, p.m, p.ldc, p.c_step);
  }
  ~Problem() {
    blas().f_cublasLtMatrixLayoutDestroy(b), blas().f_cublasLtMatrixLayoutDestroy(a), blas().f_cublasLtMatrixLayoutDestroy(c);
    blas().f_cublasLtMatmulDescDestroy(desc);
  }
  Problem(const Problem&) = delete;

 private:
  template <class T>
  void set(cublasLtMatmulDescAttributes_t what, T value) {
    blas().f_cublasLtMatmulDescSetAttribute(desc, what, &value, sizeof value);
  }
};

/// Up to `most` algorithms for a product in memory that is aligned so, the fastest first. `sums_in_order`: none that adds up parts of sums
/// in memory, and so needs a workspace.
int candidates(const Problem& problem, int device, int64_t b, int64_t a, int64_t c, bool sums_in_order, cublasLtMatmulHeuristicResult_t* to,
               int most) {
  Blas& lib = blas();
  cublasLtMatmulPreference_t wish;
  lib.f_cublasLtMatmulPreferenceCreate(&wish);
  const auto set = [&](cublasLtMatmulPreferenceAttributes_t what, auto value) {
    lib.f_cublasLtMatmulPreferenceSetAttribute(wish, what, &value, sizeof value);
  };
  set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, sums_in_order ? size_t(0) : kWorkspace);
  if (sums_in_order) set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, uint32_t(CUBLASLT_REDUCTION_SCHEME_NONE));
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, uint32_t(b)), set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, uint32_t(a));
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, uint32_t(c)), set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, uint32_t(c));
  int count = 0;
  const cublasStatus_t s = lib.f_cublasLtMatmulAlgoGetHeuristic(lib.handles[device], problem.desc, problem.b, problem.a, problem.c,
                                                                problem.c, wish, most, to, &count);
  lib.f_cublasLtMatmulPreferenceDestroy(wish);
  return s == CUBLAS_STATUS_SUCCESS ? count : 0;
}

/// The algorithm that is known by `key`, which `choose` finds the first time.
template <class Key, class Choose>
Algo known_algo(const Key& key, Choose choose) {
  static std::mutex mutex;
  static auto* known = new std::map<Key, Algo>;
  const std::lock_guard lock(mutex);
  auto it = known->find(key);
  if (it == known->end()) it = known->emplace(key, choose()).first;
  return it->second;
}

/// The fastest algorithm for this very product.
Algo best_algo(const Product& p, const Problem& problem, int device) {
  const Operand a = left(p), b = right(p);
  const std::array<int64_t, 20> key{int64_t(p.dtype),
                                    p.tf32,
                                    p.m,
                                    p.n,
                                    p.k,
                                    p.batch,
                                    b.transposed,
                                    a.transposed,
                                    b.ld,
                                    a.ld,
                                    p.ldc,
                                    p.b_step,
                                    p.a_step,
                                    p.c_step,
                                    end_of(p),
                                    std::min({alignment(p.a), alignment(p.b), alignment(p.c)}),
                                    device,
                                    int64_t(result_of(p)),
                                    alignment(p.bias),
                                    alignment(p.inner)};
  return known_algo(key, [&] {
    cublasLtMatmulHeuristicResult_t best{};
    const int n = candidates(problem, device, alignment(p.b), alignment(p.a), alignment(p.c), false, &best, 1);
    return Algo{best.algo, n > 0, best.workspaceSize};
  });
}

/// Whether every sum is added up in one go.
bool in_one_go(const cublasLtMatmulAlgo_t& algo) {
  const auto get = [&](cublasLtMatmulAlgoConfigAttributes_t what) {
    uint32_t value = 0;
    size_t written = 0;
    blas().f_cublasLtMatmulAlgoConfigGetAttribute(&algo, what, &value, sizeof value, &written);
    return value;
  };
  return get(CUBLASLT_ALGO_CONFIG_SPLITK_NUM) <= 1 && get(CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME) == CUBLASLT_REDUCTION_SCHEME_NONE;
}
/// Whether an algorithm takes a product without a workspace.
bool takes(const cublasLtMatmulAlgo_t& algo, const Product& p, int device) {
  const Problem q(p);
  cublasLtMatmulHeuristicResult_t r{};
  return blas().f_cublasLtMatmulAlgoCheck(blas().handles[device], q.desc, q.b, q.a, q.c, q.c, &algo, &r) == CUBLAS_STATUS_SUCCESS &&
         r.workspaceSize == 0;
}
/// `p` on dense memory with as many rows, as often.
Product with_rows(const Product& p, int64_t rows, int64_t batch) {
  const Operand b = right(p);
  Product q = p;
  q.m = rows, q.batch = batch;
  q.a_row = p.k, q.a_column = 1, q.ldc = p.n;
  q.a_step = rows * p.k, q.b_step = b.ld * (b.transposed ? p.n : p.k), q.c_step = rows * p.n;
  return q;
}
/// Whether an algorithm takes few rows and many, one product and, but where they end in something, several.
bool takes_any_rows(const cublasLtMatmulAlgo_t& algo, const Product& p, int device) {
  for (const int64_t rows : {1, 2, 3, 7, 16, 33, 64, 100, 129, 256, 1000, 4096, 100'000})
    if (!takes(algo, with_rows(p, rows, 1), device)) return false;
  if (end_of(p) != CUBLASLT_EPILOGUE_DEFAULT) return true;  // dense layers have one
  for (const int64_t batch : {2, 7, 200})
    for (const int64_t rows : {1, 64, 100})
      if (!takes(algo, with_rows(p, rows, batch), device)) return false;
  return true;
}
/// One algorithm for a right operand, whatever the number of rows and however many products there are: the fastest for many rows that adds
/// up every sum in one go and takes few rows and batches, too. A row of the result is then a matter of that row and of `b`.
Algo algo_for_any_rows(const Product& p, int device) {
  constexpr int64_t kManyRows = 2048;
  constexpr int kMost = 32;
  const Operand b = right(p);
  const auto begins_at = [&](int64_t elements, DType t) { return p.parts ? grain(elements * int64_t(size_of(t))) : 16; };
  const int64_t of_a = begins_at(p.k, p.dtype), of_b = std::min(alignment(p.b), begins_at(b.ld, p.dtype)),
                of_c = begins_at(p.n, result_of(p));
  const std::array<int64_t, 11> key{int64_t(p.dtype), int64_t(result_of(p)), p.n,    p.k, b.transposed, b.ld, of_b, end_of(p),
                                    device,           alignment(p.bias),     p.parts};
  return known_algo(key, [&] {
    cublasLtMatmulHeuristicResult_t found[kMost];
    const int n = candidates(Problem(with_rows(p, kManyRows, 1)), device, of_b, of_a, of_c, true, found, kMost);
    for (int i = 0; i < n; ++i)
      if (const auto& f = found[i]; f.workspaceSize == 0 && in_one_go(f.algo) && takes_any_rows(f.algo, p, device))
        return Algo{f.algo, true, 0};
    return Algo{{}, false, 0};
  });
}

const char* set_up(int device) {
  Blas& lib = blas();
  if (lib.refusal) return lib.refusal;
  use(device);
  std::call_once(lib.made[device], [&] {
    if (lib.f_cublasLtCreate(&lib.handles[device]) != CUBLAS_STATUS_SUCCESS) lib.handles[device] = nullptr;
    lib.workspaces[device] = allocate(device, kWorkspace, "cuBLASLt");
  });
  if (!lib.handles[device]) return "cuBLASLt could not be set up";
  return lib.workspaces[device] ? nullptr : "there is no memory for cuBLASLt's workspace";
}

/// Memory that a product works in: the device's for all, or some of its own.
class Room {
 public:
  /// Products of a recording may run at the same time: each works in memory of its own.
  Room(int device, const Algo& algo) : device_(device), own_(algo.found && algo.space && arena_of(device)), bytes_(algo.space) {
    p_ = own_ ? allocate(device, bytes_, "cuBLASLt") : blas().workspaces[device];
  }
  ~Room() {
    if (own_ && p_) release(device_, p_, bytes_);  // for work that is queued later
  }
  Room(const Room&) = delete;
  void* data() const { return p_; }
  size_t bytes() const { return own_ ? bytes_ : kWorkspace; }

 private:
  int device_;
  bool own_;
  size_t bytes_;
  void* p_;
};

cublasStatus_t launch(const Product& p, const Problem& problem, const Algo& algo, void* room, size_t bytes, int device,
                      cudaStream_t stream) {
  const double one64 = 1, zero64 = 0;
  const float one32 = 1, zero32 = 0;
  const bool wide = p.dtype == f64;
  const void *one = wide ? static_cast<const void*>(&one64) : &one32, *zero = wide ? static_cast<const void*>(&zero64) : &zero32;
  return blas().f_cublasLtMatmul(blas().handles[device], problem.desc, one, p.b, problem.b, p.a, problem.a, zero, p.c, problem.c, p.c,
                                 problem.c, &algo.algo, room, bytes, stream);
}

/// `found`: whether there is an algorithm.
KernelStatus run(const Product& p, int device, cudaStream_t stream, bool& found) {
  found = true;
  if (const char* wrong = set_up(device)) return KernelStatus::device(wrong);
  const Problem problem(p);
  const bool any_rows = p.invariant && !left(p).transposed;
  const Algo algo = any_rows ? algo_for_any_rows(p, device) : best_algo(p, problem, device);
  if (!algo.found && any_rows && p.after == After::nothing) return plain_product(p, device, stream);
  const Room room(device, algo);
  if (!room.data()) return KernelStatus::device("there is no memory for a product to work in");
  const cublasStatus_t status =
      algo.found ? launch(p, problem, algo, room.data(), any_rows ? 0 : room.bytes(), device, stream) : CUBLAS_STATUS_NOT_SUPPORTED;
  // Where an algorithm for any rows is refused after all, another way for these would give other bits.
  found = (any_rows && algo.found) || (status != CUBLAS_STATUS_NOT_SUPPORTED && status != CUBLAS_STATUS_INVALID_VALUE);
  if (status != CUBLAS_STATUS_SUCCESS) return KernelStatus::device("cuBLASLt refused the product");
  return {};
}

}  // namespace

const char* gemm_refusal() { return blas().refusal; }

KernelStatus multiply(const Product& p, int device, cudaStream_t stream) {
  bool found;
  return run(p, device, stream, found);
}
bool multiplied(const Product& p, int device, cudaStream_t stream, KernelStatus& status) {
  bool found;
  status = run(p, device, stream, found);
  return found;
}

}  // namespace keel::cuda
