// Attention as cuDNN's fused engines know it: the product of queries and keys, its scale, the mask by comparing indices, a softmax in its
// parts with the logarithm of each row's sum, the product with the values (Dao et al., FlashAttention, 2022). In the gradient dq is the
// product of a matrix that is kept, unless sums may be taken in any order: then many blocks add to dq in f32, which no engine says of itself.
// Before 9.16 the library needs another graph where the number of keys is no multiple of 128.
#include "backend/cuda/cudnn_attention.h"

#include "backend/cuda/cudnn_library.h"

#ifdef KEEL_HAS_CUDNN
#include <array>
#include <cmath>
#include <cstddef>
#include <map>
#endif

namespace keel::cuda {

#ifdef KEEL_HAS_CUDNN

struct AttentionPlan : CudnnPlan {
  bool backward = false, causal = false, lse = false;
  size_t rows_bytes = 0;  // backward: sums of g y, before the library's own workspace
  size_t sum_bytes = 0;   // backward in any order: dq in f32, after them
};

namespace {

enum Id : int64_t { kQ = 1, kK, kV, kY, kLse, kG, kDq, kDk, kDv, kScale, kNever, kOne, kRows, kSum, kInner };
using Dims = std::array<int64_t, 4>;
Dims row_major(const Dims& d) { return {d[1] * d[2] * d[3], d[2] * d[3], d[3], 1}; }
Dims turned(Dims d) { return std::swap(d[2], d[3]), d; }
Dims steps(const AttentionShape::Steps& s) { return {s.of[0], s.of[1], s.of[2], s.of[3]}; }

/// The operations of a graph, one after another.
struct Builder {
  CudnnPlan& plan;
  std::vector<cudnnBackendDescriptor_t> operations;
  int64_t next = kInner;
  bool ok = true;

  const Descriptor& tensor(int64_t id, cudnnDataType_t t, const Dims& dims, const Dims& strides, bool inner = false, bool number = false) {
    const int64_t align = 16;
    Descriptor& d = plan.keep(Descriptor(CUDNN_BACKEND_TENSOR_DESCRIPTOR));
    d.set(CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, t)
        .set(CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, dims.data(), 4)
        .set(CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, strides.data(), 4)
        .set(CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, id)
        .set(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, align)
        .set(CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, inner)
        .set(CUDNN_ATTR_TENSOR_IS_BY_VALUE, CUDNN_TYPE_BOOLEAN, number);
    ok = d.finalise() && ok;
    return d;
  }
  /// A result that never reaches memory.
  const Descriptor& inner(const Dims& dims, cudnnDataType_t t = CUDNN_DATA_FLOAT) { return tensor(next++, t, dims, row_major(dims), true); }
  const Descriptor& inner(const Dims& dims, const Dims& strides, cudnnDataType_t t) { return tensor(next++, t, dims, strides, true); }
  const Descriptor& number(Id id) { return tensor(id, CUDNN_DATA_FLOAT, {1, 1, 1, 1}, {1, 1, 1, 1}, false, true); }

  void add(Descriptor& op) {
    ok = op.finalise() && ok;
    operations.push_back(op.raw());
  }
  /// y = mode(x, b, choice); what a mode does not take is null. `axis` is that of an index.
  const Descriptor& pointwise(cudnnPointwiseMode_t mode, const Descriptor& x, const Descriptor* b, const Descriptor& y,
                              const Descriptor* choice = nullptr, int64_t axis = -1, cudnnDataType_t precision = CUDNN_DATA_FLOAT) {
    Descriptor& how = plan.keep(Descriptor(CUDNN_BACKEND_POINTWISE_DESCRIPTOR));
    how.set(CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, mode)
        .set(CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, precision);
    if (axis >= 0) how.set(CUDNN_ATTR_POINTWISE_AXIS, CUDNN_TYPE_INT64, axis);
    how.finalise();
    Descriptor& op = plan.keep(Descriptor(CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR));
    op.set(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, how)
        .set(CUDNN_ATTR_OPERATION_POINTWISE_XDESC, x)
        .set(CUDNN_ATTR_OPERATION_POINTWISE_YDESC, y);
    if (b) op.set(CUDNN_ATTR_OPERATION_POINTWISE_BDESC, *b);
    if (choice) op.set(CUDNN_ATTR_OPERATION_POINTWISE_TDESC, *choice);
    add(op);
    return y;
  }
  const Descriptor& matmul(const Descriptor& a, const Descriptor& b, const Descriptor& c) {
    Descriptor& how = plan.keep(Descriptor(CUDNN_BACKEND_MATMUL_DESCRIPTOR));
    how.set(CUDNN_ATTR_MATMUL_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT).finalise();
    Descriptor& op = plan.keep(Descriptor(CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR));
    op.set(CUDNN_ATTR_OPERATION_MATMUL_ADESC, a)
        .set(CUDNN_ATTR_OPERATION_MATMUL_BDESC, b)
        .set(CUDNN_ATTR_OPERATION_MATMUL_CDESC, c)
        .set(CUDNN_ATTR_OPERATION_MATMUL_DESC, how);
    add(op);
    return c;
  }
  const Descriptor& reduce(cudnnReduceTensorOp_t mode, const Descriptor& x, const Descriptor& y) {
    Descriptor& how = plan.keep(Descriptor(CUDNN_BACKEND_REDUCTION_DESCRIPTOR));
    how.set(CUDNN_ATTR_REDUCTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT)
        .set(CUDNN_ATTR_REDUCTION_OPERATOR, CUDNN_TYPE_REDUCTION_OPERATOR_TYPE, mode)
        .finalise();
    Descriptor& op = plan.keep(Descriptor(CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR));
    op.set(CUDNN_ATTR_OPERATION_REDUCTION_DESC, how)
        .set(CUDNN_ATTR_OPERATION_REDUCTION_XDESC, x)
        .set(CUDNN_ATTR_OPERATION_REDUCTION_YDESC, y);
    add(op);
    return y;
  }
  const Descriptor& reshape(const Descriptor& x, const Descriptor& y) {
    Descriptor& op = plan.keep(Descriptor(CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR));
    op.set(CUDNN_ATTR_OPERATION_RESHAPE_XDESC, x).set(CUDNN_ATTR_OPERATION_RESHAPE_YDESC, y);
    add(op);
    return y;
  }
  /// -inf where the query's position comes before the key's.
  const Descriptor& causal(const Descriptor& scores, const Dims& dims) {
    const Descriptor& never = number(kNever);
    const Descriptor& row = pointwise(CUDNN_POINTWISE_GEN_INDEX, scores, nullptr, inner(dims, CUDNN_DATA_INT32), nullptr, 2);
    const Descriptor& column = pointwise(CUDNN_POINTWISE_GEN_INDEX, scores, nullptr, inner(dims, CUDNN_DATA_INT32), nullptr, 3);
    const Descriptor& seen =
        pointwise(CUDNN_POINTWISE_CMP_GE, row, &column, inner(dims, CUDNN_DATA_BOOLEAN), nullptr, -1, CUDNN_DATA_BOOLEAN);
    return pointwise(CUDNN_POINTWISE_BINARY_SELECT, scores, &never, inner(dims), &seen);
  }
};

void forward_graph(Builder& b, const AttentionShape& a) {
  const cudnnDataType_t type = cudnn_type(a.dtype);
  const Dims scores{a.batch, a.heads, a.t, a.s}, rows{a.batch, a.heads, a.t, 1};
  const Descriptor& q = b.tensor(kQ, type, {a.batch, a.heads, a.t, a.d}, steps(a.q));
  const Descriptor& k = b.tensor(kK, type, {a.batch, a.kv_heads, a.d, a.s}, turned(steps(a.k)));
  const Descriptor& v = b.tensor(kV, type, {a.batch, a.kv_heads, a.s, a.dv}, steps(a.v));
  const Descriptor& y = b.tensor(kY, type, {a.batch, a.heads, a.t, a.dv}, steps(a.y));
  const Descriptor* x = &b.matmul(q, k, b.inner(scores));
  x = &b.pointwise(CUDNN_POINTWISE_MUL, *x, &b.number(kScale), b.inner(scores));
  if (a.causal) x = &b.causal(*x, scores);
  const Descriptor& top = b.reduce(CUDNN_REDUCE_TENSOR_MAX, *x, b.inner(rows));
  const Descriptor& less = b.pointwise(CUDNN_POINTWISE_SUB, *x, &top, b.inner(scores));
  const Descriptor& e = b.pointwise(CUDNN_POINTWISE_EXP, less, nullptr, b.inner(scores));
  const Descriptor& sum = b.reduce(CUDNN_REDUCE_TENSOR_ADD, e, b.inner(rows));
  const Descriptor& log = b.pointwise(CUDNN_POINTWISE_LOG, sum, nullptr, b.inner(rows));  // the engines ask for it even if nobody does
  b.pointwise(CUDNN_POINTWISE_ADD, top, &log, b.tensor(kLse, CUDNN_DATA_FLOAT, rows, row_major(rows), !a.lse));
  const Descriptor& p = b.pointwise(CUDNN_POINTWISE_DIV, e, &sum, b.inner(scores, type));
  b.matmul(p, v, y);
}

void backward_graph(Builder& b, const AttentionShape& a) {
  const cudnnDataType_t type = cudnn_type(a.dtype);
  const Dims scores{a.batch, a.heads, a.t, a.s}, rows{a.batch, a.heads, a.t, 1}, across{a.batch, a.heads, a.s, a.t};
  const Dims keys{a.batch, a.kv_heads, a.s, a.d}, values{a.batch, a.kv_heads, a.s, a.dv};
  const Descriptor& q = b.tensor(kQ, type, {a.batch, a.heads, a.t, a.d}, steps(a.q));
  const Descriptor& k = b.tensor(kK, type, turned(keys), turned(steps(a.k)));
  const Descriptor& v = b.tensor(kV, type, turned(values), turned(steps(a.v)));
  const Descriptor& y = b.tensor(kY, type, {a.batch, a.heads, a.t, a.dv}, steps(a.y));
  const Descriptor& g = b.tensor(kG, type, {a.batch, a.heads, a.t, a.dv}, steps(a.g));
  const Descriptor& lse = b.tensor(kLse, CUDNN_DATA_FLOAT, rows, row_major(rows));
  const Descriptor& dq = b.tensor(kDq, type, {a.batch, a.heads, a.t, a.d}, steps(a.dq));
  const Descriptor& dk = b.tensor(kDk, type, keys, steps(a.dk));
  const Descriptor& dv = b.tensor(kDv, type, values, steps(a.dv_));
  const Descriptor& scale = b.number(kScale);

  const Descriptor& gy = b.pointwise(CUDNN_POINTWISE_MUL, g, &y, b.inner({a.batch, a.heads, a.t, a.dv}));
  const Descriptor& sums = b.reduce(CUDNN_REDUCE_TENSOR_ADD, gy, b.inner(rows));
  const Descriptor& delta =
      b.pointwise(CUDNN_POINTWISE_MUL, sums, &b.number(kOne), b.tensor(kRows, CUDNN_DATA_FLOAT, rows, row_major(rows)));

  const Descriptor* x = &b.matmul(q, k, b.inner(scores));
  x = &b.pointwise(CUDNN_POINTWISE_MUL, *x, &scale, b.inner(scores));
  x = &b.pointwise(CUDNN_POINTWISE_SUB, *x, &lse, b.inner(scores));
  if (a.causal) x = &b.causal(*x, scores);
  const Descriptor& p = b.pointwise(CUDNN_POINTWISE_EXP, *x, nullptr, b.inner(scores));
  const auto of_heads = [&](const Descriptor& left, const Descriptor& right, int64_t width, const Descriptor& result) {
    if (a.heads == a.kv_heads)
      b.matmul(left, right, result);
    else
      b.reduce(CUDNN_REDUCE_TENSOR_ADD, b.matmul(left, right, b.inner({a.batch, a.heads, a.s, width}, type)), result);
  };
  of_heads(b.reshape(p, b.inner(across, turned(row_major(scores)), type)), g, a.dv, dv);

  x = &b.matmul(g, v, b.inner(scores));
  x = &b.pointwise(CUDNN_POINTWISE_SUB, *x, &delta, b.inner(scores));
  x = &b.pointwise(CUDNN_POINTWISE_MUL, *x, &p, b.inner(scores));
  const Descriptor& ds = b.pointwise(CUDNN_POINTWISE_MUL, *x, &scale, b.inner(scores));
  of_heads(b.reshape(ds, b.inner(across, turned(row_major(scores)), type)), q, a.d, dk);
  const Descriptor& across_k = b.reshape(k, b.inner(keys, steps(a.k), CUDNN_DATA_FLOAT));
  if (!a.any_order) return void(b.matmul(ds, across_k, dq));
  const Dims queries{a.batch, a.heads, a.t, a.d};
  b.pointwise(CUDNN_POINTWISE_IDENTITY, b.matmul(ds, across_k, b.tensor(kSum, CUDNN_DATA_FLOAT, queries, row_major(queries))), nullptr, dq);
}

using Key = std::array<int64_t, 13 + 32>;
Key key_of(const AttentionShape& a, int device) {
  Key k{int64_t(a.dtype), a.backward, a.causal, a.lse, a.batch, a.heads, a.kv_heads, a.t, a.s, a.d, a.dv, a.any_order, device};
  size_t at = 13;
  for (const auto* s : {&a.q, &a.k, &a.v, &a.y, &a.g, &a.dq, &a.dk, &a.dv_})
    for (int64_t step : s->of) k[at++] = step;
  return k;
}

AttentionPlan* make_plan(const AttentionShape& a, cudnnHandle_t handle) {
  auto* made = new AttentionPlan;
  made->backward = a.backward, made->causal = a.causal, made->lse = a.lse;
  const auto f32_bytes = [](int64_t n) { return size_t(ceil_div(n * 4, 256)) * 256; };
  if (a.backward) made->rows_bytes = f32_bytes(a.batch * a.heads * a.t);
  if (a.backward && a.any_order) made->sum_bytes = f32_bytes(a.batch * a.heads * a.t * a.d);
  Builder b{*made, {}};
  a.backward ? backward_graph(b, a) : forward_graph(b, a);
  if (!b.ok || !made->choose(b.operations, handle, {.any_order = a.any_order})) return delete made, nullptr;
  return made;
}

}  // namespace

const AttentionPlan* attention_plan(const AttentionShape& a, int device) {
  CudnnLibrary& lib = cudnn();
  if (!lib.handle(device) || lib.f_cudnnGetVersion() < 91600) return nullptr;
  static std::mutex mutex;
  static auto* const known = new std::map<Key, const AttentionPlan*>;
  const Key key = key_of(a, device);
  const std::lock_guard lock(mutex);
  const auto it = known->find(key);
  if (it != known->end()) return it->second;
  const std::lock_guard mine(lib.running[device]);
  return known->emplace(key, make_plan(a, lib.handle(device))).first->second;
}

size_t workspace_of(const AttentionPlan& p) { return p.rows_bytes + p.sum_bytes + size_t(p.workspace); }

KernelStatus run(const AttentionPlan& p, const AttentionOperands& o, void* workspace, int device, cudaStream_t stream) {
  const float never = -INFINITY, one = 1;
  auto* const room = static_cast<std::byte*>(workspace);
  int64_t ids[16];
  const void* data[16];
  int64_t n = 0;
  const auto give = [&](Id id, const void* at) { ids[n] = id, data[n++] = at; };
  give(kQ, o.q), give(kK, o.k), give(kV, o.v), give(kY, o.y), give(kScale, &o.scale);
  if (p.causal) give(kNever, &never);
  if (p.backward)
    give(kLse, o.lse), give(kG, o.g), give(kDq, o.dq), give(kDk, o.dk), give(kDv, o.dv), give(kOne, &one), give(kRows, room);
  else if (p.lse)
    give(kLse, o.lse);
  if (p.sum_bytes) give(kSum, room + p.rows_bytes);  // cleared by the library since 9.6
  return run_plan(p, ids, data, n, room ? room + p.rows_bytes + p.sum_bytes : nullptr, device, stream, "cuDNN refused an attention");
}

#else
struct AttentionPlan {};
const AttentionPlan* attention_plan(const AttentionShape&, int) { return nullptr; }
size_t workspace_of(const AttentionPlan&) { return 0; }
KernelStatus run(const AttentionPlan&, const AttentionOperands&, void*, int, cudaStream_t) { return {}; }
#endif

}  // namespace keel::cuda
