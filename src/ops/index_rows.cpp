#include "keel/ops/index.h"
#include "ops/common.h"

namespace keel {
Tensor index_get(const Tensor&, const Tensors&, const IndexParams&) { raise(Error(ErrorCode::unsupported, "not there yet").op("index_get")); }
Tensor index_put(const Tensor&, const Tensors&, const Tensor&, const IndexParams&, bool) { raise(Error(ErrorCode::unsupported, "not there yet").op("index_put")); }
Tensor nonzero(const Tensor&) { raise(Error(ErrorCode::unsupported, "not there yet").op("nonzero")); }
}  // namespace keel
