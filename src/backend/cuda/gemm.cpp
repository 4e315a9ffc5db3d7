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
    KEEL_TAKE(cublasLtMatmulAlgoGetHeuristic), KEEL_TAKE(cublasLtMatmul);
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

using Key = std::array<int64_t, 19>;
struct Algo {
  cublasLtMatmulAlgo_t algo;
  bool found;
  size_t space;  // that it works in
};

int64_t alignment(const void* p) {
  int64_t n = 1;
  while (n < 16 && reinterpret_cast<uintptr_t>(p) % uintptr_t(2 * n) == 0) n *= 2;
  return n;
}

}  // namespace

namespace {

/// Sets the descriptor's end; gives the epilogue.
template <class Set>
int32_t set_end(const Product& p, const Set& set) {
  int32_t end = p.bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
  if (p.after == After::gelu)
    end = p.inner ? (p.bias ? CUBLASLT_EPILOGUE_GELU_AUX_BIAS : CUBLASLT_EPILOGUE_GELU_AUX)
                  : (p.bias ? CUBLASLT_EPILOGUE_GELU_BIAS : CUBLASLT_EPILOGUE_GELU);
  if (end != CUBLASLT_EPILOGUE_DEFAULT) set(CUBLASLT_MATMUL_DESC_EPILOGUE, end);
  if (p.bias) set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, p.bias);
  if (p.inner) set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, p.inner), set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, p.ldc);
  return end;
}

/// `found`: whether there is an algorithm.
KernelStatus run(const Product& p, int device, cudaStream_t stream, bool& found) {
  Blas& lib = blas();
  found = true;
  if (lib.refusal) return KernelStatus::device(lib.refusal);
  use(device);
  std::call_once(lib.made[device], [&] {
    if (lib.f_cublasLtCreate(&lib.handles[device]) != CUBLAS_STATUS_SUCCESS) lib.handles[device] = nullptr;
    lib.workspaces[device] = allocate(device, kWorkspace, "cuBLASLt");
  });
  if (!lib.handles[device]) return KernelStatus::device("cuBLASLt could not be set up");
  if (!lib.workspaces[device]) return KernelStatus::device("there is no memory for cuBLASLt's workspace");
  const cudaDataType_t type = data_type(p.dtype), scale = p.dtype == f64 ? CUDA_R_64F : CUDA_R_32F;
  const cublasComputeType_t compute = p.dtype == f64 ? CUBLAS_COMPUTE_64F : CUBLAS_COMPUTE_32F;
  const Operand b = Operand::of(p.k, p.n, p.b_row, p.b_column), a = Operand::of(p.m, p.k, p.a_row, p.a_column);

  cublasLtMatmulDesc_t desc;
  cublasLtMatrixLayout_t lb, la, lc;
  lib.f_cublasLtMatmulDescCreate(&desc, compute, scale);
  const auto set = [&](cublasLtMatmulDescAttributes_t what, auto value) {
    lib.f_cublasLtMatmulDescSetAttribute(desc, what, &value, sizeof value);
  };
  set(CUBLASLT_MATMUL_DESC_TRANSA, int32_t(b.transposed ? CUBLAS_OP_T : CUBLAS_OP_N));
  set(CUBLASLT_MATMUL_DESC_TRANSB, int32_t(a.transposed ? CUBLAS_OP_T : CUBLAS_OP_N));
  const int32_t end = set_end(p, set);
  const cudaDataType_t result = p.result == DType::none ? type : data_type(p.result);
  const auto layout = [&](cublasLtMatrixLayout_t* l, cudaDataType_t type, int64_t rows, int64_t columns, int64_t ld, int64_t step) {
    lib.f_cublasLtMatrixLayoutCreate(l, type, uint64_t(rows), uint64_t(columns), ld);
    if (p.batch == 1) return;
    const int32_t count = int32_t(p.batch);
    lib.f_cublasLtMatrixLayoutSetAttribute(*l, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count, sizeof count);
    lib.f_cublasLtMatrixLayoutSetAttribute(*l, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &step, sizeof step);
  };
  layout(&lb, type, b.rows, b.columns, b.ld, p.b_step), layout(&la, type, a.rows, a.columns, a.ld, p.a_step),
      layout(&lc, result, p.n, p.m, p.ldc, p.c_step);

  const Key key{int64_t(p.dtype),
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
                end,
                std::min({alignment(p.a), alignment(p.b), alignment(p.c)}),
                device,
                int64_t(result),
                alignment(p.bias),
                alignment(p.inner)};
  static std::mutex mutex;
  static auto* known = new std::map<Key, Algo>;
  Algo algo;
  {
    const std::lock_guard lock(mutex);
    auto it = known->find(key);
    if (it == known->end()) {
      cublasLtMatmulPreference_t wish;
      lib.f_cublasLtMatmulPreferenceCreate(&wish);
      lib.f_cublasLtMatmulPreferenceSetAttribute(wish, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &kWorkspace, sizeof kWorkspace);
      const auto aligned = [&](cublasLtMatmulPreferenceAttributes_t what, const void* q) {
        const uint32_t n = uint32_t(alignment(q));
        lib.f_cublasLtMatmulPreferenceSetAttribute(wish, what, &n, sizeof n);
      };
      aligned(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, p.b), aligned(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, p.a);
      aligned(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, p.c), aligned(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, p.c);
      cublasLtMatmulHeuristicResult_t best{};
      int count = 0;
      const cublasStatus_t s = lib.f_cublasLtMatmulAlgoGetHeuristic(lib.handles[device], desc, lb, la, lc, lc, wish, 1, &best, &count);
      lib.f_cublasLtMatmulPreferenceDestroy(wish);
      it = known->emplace(key, Algo{best.algo, s == CUBLAS_STATUS_SUCCESS && count > 0, best.workspaceSize}).first;
    }
    algo = it->second;
  }
  // Products of a recording may run at the same time: each works in memory of its own.
  const bool own = algo.found && algo.space && arena_of(device);
  void* const space = own ? allocate(device, algo.space, "cuBLASLt") : lib.workspaces[device];
  if (!space) return KernelStatus::device("there is no memory for a product to work in");
  cublasStatus_t status = CUBLAS_STATUS_NOT_SUPPORTED;
  const double one64 = 1, zero64 = 0;
  const float one32 = 1, zero32 = 0;
  const void *one = scale == CUDA_R_64F ? static_cast<const void*>(&one64) : &one32,
             *zero = scale == CUDA_R_64F ? static_cast<const void*>(&zero64) : &zero32;
  if (algo.found)
    status = lib.f_cublasLtMatmul(lib.handles[device], desc, one, p.b, lb, p.a, la, zero, p.c, lc, p.c, lc, &algo.algo,
                                  space, own ? algo.space : kWorkspace, stream);
  if (own) release(device, space, algo.space);  // for work that is queued later
  lib.f_cublasLtMatrixLayoutDestroy(lb), lib.f_cublasLtMatrixLayoutDestroy(la), lib.f_cublasLtMatrixLayoutDestroy(lc);
  lib.f_cublasLtMatmulDescDestroy(desc);
  found = status != CUBLAS_STATUS_NOT_SUPPORTED && status != CUBLAS_STATUS_INVALID_VALUE;
  if (status != CUBLAS_STATUS_SUCCESS) return KernelStatus::device("cuBLASLt refused the product");
  return {};
}

}  // namespace

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
