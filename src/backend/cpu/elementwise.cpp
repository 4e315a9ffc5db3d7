// Driver of elementwise kernels. Outputs are dense, so axes are put in the order of the output's memory and merged where all operands
// allow; then the output is one flat range, cut among threads and into blocks that stay in L1. An operand of a block is a pointer into the
// tensor, a single element, or a copy gathered (strides, short rows) or converted (16-bit) into scratch. Results leave directly, by
// conversion, or by streaming stores where the output is larger than the caches. Each finished block gives its statistics. Traffic: every
// operand once.
#include "backend/cpu/elementwise.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "backend/cpu/loops/stat_rows.h"
#include "backend/cpu/loops/unary_stream.h"
#include "core/impl.h"
#include "keel/parallel.h"

namespace keel::cpu {
namespace {

constexpr int64_t kBlockBytes = 8192;         // of the widest operand; three inputs and an output stay in L1
constexpr int64_t kShortRow = 96;             // rows below it are gathered, several to a block
constexpr int64_t kStreamBlock = 2048;        // of the widest operand where results are streamed

struct Operand {
  const std::byte* data;
  DType dtype, as;
  int64_t bytes;      // of one element
  bool flat, single;  // runs along the output's memory; or is one element throughout
  bool row_single;    // one element a row
  int64_t stride[kMaxRank];
};

struct Plan {
  int rank = 0;
  int64_t n = 1, extent[kMaxRank];
  Operand in[Elementwise::kMaxIn];
  bool by_rows = false;  // blocks end at rows, of which every operand is a run or one element
};

/// Whether `x` runs along the memory of `y`.
bool same_layout(const TensorView& x, const TensorView& y) {
  if (!(x.shape() == y.shape())) return x.size() == 1 && y.size() == 1;
  for (int i = 0; i < y.rank(); ++i)
    if (y.dim(i) > 1 && x.stride(i) != y.stride(i)) return false;
  return true;
}

/// Axes in the order of the output's memory, merged where every operand runs on.
void order_axes(Plan& p, const KernelArgs& a, int n_in) {
  const TensorView& y = a.out[0];
  int order[kMaxRank], n = 0;
  for (int i = 0; i < y.rank(); ++i) {
    if (y.dim(i) == 1) continue;
    int at = n++;
    while (at > 0 && y.stride(order[at - 1]) < y.stride(i)) order[at] = order[at - 1], --at;
    order[at] = i;
  }
  for (int k = 0; k < n; ++k) {
    const int axis = order[k];
    int64_t stride[Elementwise::kMaxIn];
    bool joins = p.rank > 0;
    for (int i = 0; i < n_in; ++i) {
      const TensorView& x = a.in[i];
      const int own = axis - (y.rank() - x.rank());
      stride[i] = own < 0 || x.dim(own) == 1 ? 0 : x.stride(own);
      joins = joins && p.in[i].stride[p.rank - 1] == stride[i] * y.dim(axis);
    }
    if (!joins) p.extent[p.rank++] = 1;
    p.extent[p.rank - 1] *= y.dim(axis);
    for (int i = 0; i < n_in; ++i) p.in[i].stride[p.rank - 1] = stride[i];
  }
  for (int i = 0; i < n_in; ++i) {
    Operand& x = p.in[i];
    int64_t run = 1;
    x.flat = x.single = true;
    for (int d = p.rank - 1; d >= 0; --d)
      x.flat = x.flat && x.stride[d] == run, x.single = x.single && x.stride[d] == 0, run *= p.extent[d];
    x.row_single = p.rank > 0 && x.stride[p.rank - 1] == 0;
  }
}

template <class T>
void gather(const Plan& p, const Operand& x, int64_t at, int64_t count, T* to) {
  int64_t index[kMaxRank], offset = 0;
  const int inner = p.rank - 1;
  for (int d = inner; d >= 0; --d) index[d] = at % p.extent[d], at /= p.extent[d], offset += index[d] * x.stride[d];
  const T* from = reinterpret_cast<const T*>(x.data);
  const int64_t s = x.stride[inner];
  while (true) {
    const int64_t run = std::min(count, p.extent[inner] - index[inner]);
    const T* q = from + offset;
    if (s == 1)
      std::copy(q, q + run, to);
    else if (s == 0)
      std::fill(to, to + run, *q);
    else
      for (int64_t i = 0; i < run; ++i) to[i] = q[i * s];
    to += run, count -= run;
    if (count == 0) return;
    offset -= index[inner] * s, index[inner] = 0;
    for (int d = inner - 1; d >= 0; --d) {
      offset += x.stride[d];
      if (++index[d] < p.extent[d]) break;
      offset -= index[d] * x.stride[d], index[d] = 0;
    }
  }
}
struct Wide {
  uint64_t a, b;
};
void gather_any(const Plan& p, const Operand& x, int64_t at, int64_t count, void* to) {
  switch (x.bytes) {
    case 1: return gather(p, x, at, count, static_cast<uint8_t*>(to));
    case 2: return gather(p, x, at, count, static_cast<uint16_t*>(to));
    case 4: return gather(p, x, at, count, static_cast<uint32_t*>(to));
    case 8: return gather(p, x, at, count, static_cast<uint64_t*>(to));
    default: return gather(p, x, at, count, static_cast<Wide*>(to));
  }
}
/// The element offset of operand `x` at flat position `at`.
int64_t offset_of(const Plan& p, const Operand& x, int64_t at) {
  int64_t offset = 0;
  for (int d = p.rank - 1; d >= 0; --d) offset += at % p.extent[d] * x.stride[d], at /= p.extent[d];
  return offset;
}
void spread(const void* one, size_t bytes, void* to, int64_t count) {
  switch (bytes) {
    case 1: std::memset(to, *static_cast<const uint8_t*>(one), size_t(count)); break;
    case 2: std::fill_n(static_cast<uint16_t*>(to), count, *static_cast<const uint16_t*>(one)); break;
    case 4: std::fill_n(static_cast<uint32_t*>(to), count, *static_cast<const uint32_t*>(one)); break;
    case 8: std::fill_n(static_cast<uint64_t*>(to), count, *static_cast<const uint64_t*>(one)); break;
    default: std::fill_n(static_cast<Wide*>(to), count, *static_cast<const Wide*>(one));
  }
}

void call(const Elementwise& e, const void* const* in, const bool* one, void* const* out, int64_t n, size_t bytes) {
  void* const y = out[0];
  switch (e.form) {
    case Elementwise::Form::unary: return e.unary(in[0], y, n, e.args);
    case Elementwise::Form::binary: return e.binary[one[1] ? 1 : one[0] ? 2 : 0](in[0], in[1], y, n, e.args);
    case Elementwise::Form::ternary: return e.ternary(in[0], in[1], in[2], y, n, e.args);
    case Elementwise::Form::where: return where_loop(static_cast<const uint8_t*>(in[0]), in[1], !one[1], in[2], !one[2], y, n, bytes);
    case Elementwise::Form::fused: return e.fused(in, out, n, e.args);
  }
}
/// Whether the loop takes operand i as one element, given what it has taken already.
bool takes_single(const Elementwise& e, int i, const bool* one) {
  if (e.form == Elementwise::Form::where) return i > 0;
  return e.form == Elementwise::Form::binary && e.binary[i == 0 ? 2 : 1] && !(i == 1 && one[0]);
}

struct alignas(64) Scratch {
  std::byte native[Elementwise::kMaxIn][kBlockBytes], wide[Elementwise::kMaxIn][kBlockBytes], out[Elementwise::kMaxOut][kBlockBytes],
      packed[kBlockBytes];
};

struct Job {
  const Elementwise& e;
  const Plan& p;
  const TensorView* y;  // n_out of them
  UnaryLoop convert_in[Elementwise::kMaxIn] = {}, convert_out = nullptr;
  int64_t block = 0, out_bytes = 0;
  bool direct = false, stream = false;
  StatSlot* slot[Elementwise::kMaxOut] = {};
  bool watched = false;
};

/// Flat positions [lo, hi) of the output.
void run_range(const Job& j, int64_t lo, int64_t hi) {
  const Elementwise& e = j.e;
  const Plan& p = j.p;
  void* out[Elementwise::kMaxOut];
  const size_t width = size_of(e.out_as);
  if (j.direct) {  // every operand is a run or one element that the loop takes as such
    const void* in[Elementwise::kMaxIn];
    bool one[Elementwise::kMaxIn] = {};
    for (int i = 0; i < e.n_in; ++i) one[i] = p.in[i].single, in[i] = p.in[i].data + (one[i] ? 0 : lo * p.in[i].bytes);
    for (int k = 0; k < e.n_out; ++k) out[k] = static_cast<std::byte*>(j.y[k].data) + lo * j.out_bytes;
    return call(e, in, one, out, hi - lo, width);
  }
  Scratch s;
  StatSlot::Part part[Elementwise::kMaxOut];
  bool spread_done[Elementwise::kMaxIn] = {};
  int64_t counted = lo;  // up to where statistics have been taken
  for (int64_t at = lo; at < hi;) {
    int64_t n = std::min(j.block, hi - at);
    if (p.by_rows) n = std::min(n, p.extent[p.rank - 1] - at % p.extent[p.rank - 1]);
    const void* in[Elementwise::kMaxIn];
    bool one[Elementwise::kMaxIn] = {};
    for (int i = 0; i < e.n_in; ++i) {
      const Operand& x = p.in[i];
      const bool lone = x.single || (p.by_rows && x.row_single);
      const void* from;
      int64_t count = lone ? 1 : n;
      if (spread_done[i]) {
        in[i] = s.wide[i];
        continue;
      }
      if (x.single)
        from = x.data;
      else if (x.flat)
        from = x.data + at * x.bytes;
      else if (p.by_rows && (lone || x.stride[p.rank - 1] == 1))
        from = x.data + offset_of(p, x, at) * x.bytes;
      else
        gather_any(p, x, at, n, s.native[i]), from = s.native[i];
      if (j.convert_in[i]) j.convert_in[i](from, s.wide[i], count, nullptr), from = s.wide[i];
      if (lone && takes_single(e, i, one)) {
        one[i] = true;
      } else if (lone) {
        alignas(16) std::byte value[16];
        std::memcpy(value, from, size_of(x.as));
        spread(value, size_of(x.as), s.wide[i], x.single ? std::min(j.block, hi - lo) : n), from = s.wide[i];
        spread_done[i] = x.single;
      }
      in[i] = from;
    }
    for (int k = 0; k < e.n_out; ++k) {
      std::byte* to = static_cast<std::byte*>(j.y[k].data) + at * j.out_bytes;
      out[k] = j.convert_out ? s.out[k] : j.stream ? s.packed : to;
    }
    call(e, in, one, out, n, width);
    const bool count = j.watched && (j.stream || at + n - counted >= j.block || at + n == hi);  // short rows several at once
    for (int k = 0; k < e.n_out; ++k) {
      std::byte* to = static_cast<std::byte*>(j.y[k].data) + at * j.out_bytes;
      const void* made = out[k];
      if (j.convert_out) {
        std::byte* packed = j.stream ? s.packed : to;
        j.convert_out(made, packed, n, nullptr), made = packed;
      }
      if (j.slot[k] && count)
        stat_block(j.y[k].dtype, j.stream ? made : to - (at - counted) * j.out_bytes, j.stream ? n : at + n - counted, part[k]);
      if (!j.stream) continue;
      Ahead ahead;
      for (int i = 0; i < e.n_in && at + n < hi; ++i)
        if (p.in[i].flat) ahead.add(p.in[i].data + (at + n) * p.in[i].bytes);
      stream_copy(to, made, size_t(n * j.out_bytes), ahead);
    }
    at += n;
    if (count) counted = at;
  }
  if (j.stream) stream_fence();
  for (int k = 0; k < e.n_out; ++k)
    if (j.slot[k]) lo == 0 && hi == p.n ? merge_alone(*j.slot[k], part[k]) : j.slot[k]->merge(part[k]);
}

}  // namespace

KernelStatus run_elementwise(const KernelArgs& a, const Elementwise& e) {
  const TensorView& y = a.out[0];
  Plan p;
  p.n = y.size();
  if (p.n == 0) return {};
  bool simple = true;
  for (int i = 0; i < e.n_in; ++i) {
    const TensorView& v = a.in[i];
    Operand& x = p.in[i];
    x.data = static_cast<const std::byte*>(v.data), x.dtype = v.dtype, x.as = e.in_as[i], x.bytes = int64_t(size_of(v.dtype));
    x.flat = same_layout(v, y), x.single = !x.flat && v.size() == 1, x.row_single = false;
    simple = simple && (x.flat || x.single);
  }
  Job j{.e = e, .p = p, .y = a.out};
  for (int k = 0; k < e.n_out; ++k) j.slot[k] = a.stats[k], j.watched = j.watched || a.stats[k];
  j.out_bytes = int64_t(size_of(y.dtype));
  bool convert = false, aliased = false;
  int64_t widest = std::max<int64_t>(j.out_bytes, int64_t(size_of(e.out_as)));
  bool one[Elementwise::kMaxIn] = {}, taken = true;
  for (int i = 0; i < e.n_in; ++i) {
    const Operand& x = p.in[i];
    if (x.dtype != x.as) j.convert_in[i] = convert_loop(x.dtype, x.as), convert = true;
    widest = std::max({widest, x.bytes, int64_t(size_of(x.as))});
    aliased = aliased || x.data == y.data;
    if (x.single) taken = taken && takes_single(e, i, one), one[i] = true;
  }
  if (e.out_as != y.dtype && !(size_of(e.out_as) == 1 && size_of(y.dtype) == 1 && !is_inexact(y.dtype)))
    j.convert_out = convert_loop(e.out_as, y.dtype), convert = true;
  if (!simple) {
    order_axes(p, a, e.n_in);
    const int64_t row = p.extent[p.rank - 1];
    p.by_rows = p.rank > 1 && row >= kShortRow;
  }
  const int64_t threads = p.n > e.grain ? num_threads() : 1;
  j.stream = !aliased && e.n_out == 1 && p.n * j.out_bytes > kStreamBytes * threads;
  j.block = (j.stream ? kStreamBlock : kBlockBytes) / widest;
  j.direct = simple && taken && !convert && !j.stream && !j.watched;
  parallel_for(0, p.n, e.grain, [&](int64_t lo, int64_t hi) { run_range(j, lo, hi); });
  return {};
}

namespace {
/// Whether the operands and the result are f32 of one layout, nothing is to be counted, and the result is too large for the caches.
bool streams_straight(const KernelArgs& a) {
  const TensorView& y = a.out[0];
  if (y.size() * int64_t(sizeof(float)) <= kStreamBytes * num_threads() || y.dtype != f32 || a.stats[0]) return false;
  for (int i = 0; i < a.n_in; ++i)
    if (a.in[i].dtype != f32 || a.in[i].data == y.data || !same_layout(a.in[i], y)) return false;
  return true;
}
/// plain(at, n) for what does not fill a line of the result, past(at, n) for lines.
template <class Plain, class Past>
void by_lines(const TensorView& y, int64_t grain, Plain plain, Past past) {
  parallel_for(0, y.size(), grain, [&](int64_t lo, int64_t hi) {
    const int64_t beyond = int64_t(reinterpret_cast<uintptr_t>(y.ptr<float>() + lo) / sizeof(float) % 16);  // of a line
    const int64_t first = std::min(hi, lo + (16 - beyond) % 16), last = first + (hi - first) / 16 * 16;
    plain(lo, first - lo);
    past(first, last - first);
    plain(last, hi - last);
    stream_fence();
  });
}
/// f of f32 straight past the caches, where that is all there is to do; false where it is not.
bool run_streamed(const KernelArgs& a, UnaryOp op, const double* args, int64_t grain) {
  if (!streams_straight(a)) return false;
  const UnaryLoop past = unary_stream_loop(op), plain = unary_loop(op, f32);
  if (!past) return false;
  const float* x = a.in[0].ptr<float>();
  float* y = a.out[0].ptr<float>();
  by_lines(
      a.out[0], grain, [&](int64_t i, int64_t n) { plain(x + i, y + i, n, args); },
      [&](int64_t i, int64_t n) { past(x + i, y + i, n, args); });
  return true;
}
bool run_streamed(const KernelArgs& a, BinaryOp op, const double* args, int64_t grain) {
  if (!streams_straight(a)) return false;
  const BinaryLoop past = binary_stream_loop(op), plain = binary_loop(op, f32);
  if (!past) return false;
  const float *x = a.in[0].ptr<float>(), *z = a.in[1].ptr<float>();
  float* y = a.out[0].ptr<float>();
  by_lines(
      a.out[0], grain, [&](int64_t i, int64_t n) { plain(x + i, z + i, y + i, n, args); },
      [&](int64_t i, int64_t n) { past(x + i, z + i, y + i, n, args); });
  return true;
}
}  // namespace

KernelStatus run_fused(const KernelArgs& a, FusedLoop loop, DType as, const double* args, int64_t grain) {
  Elementwise e;
  e.form = Elementwise::Form::fused, e.n_out = a.n_out;
  e.n_in = 0;
  for (int i = 0; i < a.n_in; ++i)
    if (a.in[i].present()) e.in_as[e.n_in++] = as;
  e.out_as = is_floating(a.out[0].dtype) ? as : a.out[0].dtype;
  e.fused = loop, e.args = args, e.grain = grain;
  return run_elementwise(a, e);
}

KernelStatus run_unary(const KernelArgs& a, UnaryOp op, const double* args, int64_t grain) {
  if (run_streamed(a, op, args, grain)) return {};
  Elementwise e;
  const DType t = compute_dtype(a.in[0].dtype);
  e.in_as[0] = t, e.out_as = a.out[0].dtype == DType::boolean ? DType::boolean : t;
  e.unary = unary_loop(op, t), e.args = args, e.grain = t == f64 && grain == kMath ? kLibm : grain;
  return run_elementwise(a, e);
}

namespace {
/// Statistics of what is in the cache still.
void count_all(const TensorView& y, StatSlot& slot) {
  StatSlot::Part part;
  stat_block(y.dtype, y.data, y.size(), part);
  merge_alone(slot, part);
}
/// Sums of f32, which training takes of gradients at every turn, with statistics on the way; false where that is not all there is to do.
bool add_and_watch(const KernelArgs& a, int64_t grain) {
  const TensorView &x = a.in[0], &z = a.in[1], &y = a.out[0];
  const int64_t n = y.size(), threads = n > grain ? num_threads() : 1;
  if (n * int64_t(sizeof(float)) > kStreamBytes * threads || !same_layout(x, y) || !same_layout(z, y)) return false;
  constexpr int64_t kBlock = kBlockBytes / int64_t(sizeof(float));
  parallel_for(0, n, grain, [&](int64_t lo, int64_t hi) {
    StatSlot::Part part;
    for (int64_t i = lo; i < hi; i += kBlock)
      add_watched(x.ptr<float>() + i, z.ptr<float>() + i, y.ptr<float>() + i, std::min(kBlock, hi - i), part);
    hi - lo == n ? merge_alone(*a.stats[0], part) : a.stats[0]->merge(part);
  });
  return true;
}
}  // namespace

KernelStatus run_binary(const KernelArgs& a, BinaryOp op, const double* args, int64_t grain) {
  const DType t = compute_dtype(a.in[0].dtype);
  const TensorView& y = a.out[0];
  // Nothing to convert, to broadcast or to share: small calls shall not pay for a plan.
  const bool small = y.size() <= (a.stats[0] ? std::min(grain, 2 * kBlockBytes / int64_t(size_of(y.dtype))) : grain);
  if (small && t == a.in[0].dtype && t == y.dtype && same_layout(a.in[0], y) && same_layout(a.in[1], y)) {
    parallel_for(0, y.size(), grain, [&](int64_t, int64_t n) { binary_loop(op, t)(a.in[0].data, a.in[1].data, y.data, n, args); });
    if (a.stats[0]) count_all(y, *a.stats[0]);
    return {};
  }
  if (a.stats[0] && op == BinaryOp::add && a.in[0].dtype == f32 && y.dtype == f32 && add_and_watch(a, grain)) return {};
  if (run_streamed(a, op, args, grain)) return {};
  Elementwise e;
  e.form = Elementwise::Form::binary, e.n_in = 2;
  e.in_as[0] = e.in_as[1] = t, e.out_as = a.out[0].dtype == DType::boolean ? DType::boolean : t;
  // The single forms are looked up only where an operand is short.
  e.binary[0] = binary_loop(op, t);
  if (a.in[1].size() < a.out[0].size()) e.binary[1] = binary_loop(op, t, BinaryMode::vs);
  if (a.in[0].size() < a.out[0].size()) e.binary[2] = binary_loop(op, t, BinaryMode::sv);
  e.args = args, e.grain = t == f64 && grain == kMath ? kLibm : grain;
  return run_elementwise(a, e);
}

KernelStatus run_ternary(const KernelArgs& a, TernaryOp op, const double* args, int64_t grain) {
  Elementwise e;
  const DType t = compute_dtype(a.in[0].dtype);
  e.form = Elementwise::Form::ternary, e.n_in = 3;
  for (DType& as : e.in_as) as = t;
  e.out_as = t, e.ternary = ternary_loop(op, t), e.args = args, e.grain = grain;
  return run_elementwise(a, e);
}

KernelStatus run_clamp(const KernelArgs& a) {
  // Bounds that are numbers stay in registers.
  if (is_floating(a.in[0].dtype) && a.in[1].size() == 1 && a.in[2].size() == 1 && a.in[0].shape() == a.out[0].shape()) {
    const double bounds[] = {read_double(a.in[1].data, a.in[1].dtype), read_double(a.in[2].data, a.in[2].dtype)};
    KernelArgs one = a;
    one.n_in = 1;
    if (!std::isnan(bounds[0]) && !std::isnan(bounds[1])) return run_unary(one, UnaryOp::clamp, bounds, kCheap);
  }
  return run_ternary(a, TernaryOp::clamp, nullptr, kCheap);
}

}  // namespace keel::cpu
