#include "keel/matmul_precision.h"

#include <atomic>
#include <cstring>
#include <string>

#include "keel/error.h"

namespace keel {
namespace {

constinit std::atomic<MatmulPrecision> precision = MatmulPrecision::highest;

}  // namespace

void set_float32_matmul_precision(MatmulPrecision p) { precision.store(p, std::memory_order_relaxed); }
MatmulPrecision float32_matmul_precision() { return precision.load(std::memory_order_relaxed); }

const char* name_of(MatmulPrecision p) { return p == MatmulPrecision::high ? "high" : "highest"; }
MatmulPrecision matmul_precision_from_name(const char* name) {
  for (const MatmulPrecision p : {MatmulPrecision::highest, MatmulPrecision::high})
    if (std::strcmp(name, name_of(p)) == 0) return p;
  raise(Error(ErrorCode::value, "'" + std::string(name) + "' is no precision of products").hint("'highest' or 'high', which allows TF32"));
}

}  // namespace keel
