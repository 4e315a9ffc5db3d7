// The last stage of the pipeline: a view, a kernel, or the decomposition, in that order. Gives kernels the memory layout that they demand.
#include <atomic>

#include "backend/cpu/stat_pass.h"
#include "backend/device_kernels.h"
#include "base/log.h"
#include "base/threads.h"
#include "core/allocator.h"
#include "core/impl.h"
#include "keel/matmul_precision.h"
#include "op/checks.h"
#include "op/device_call.h"
#include "op/scope.h"

namespace keel {

extern OpDef op_copy;

const KernelTable& library_kernels(DeviceType t) {
  static constinit KernelTable tables[3];
  static constinit std::atomic<bool> filled[3];
  if (filled[int(t)].load(std::memory_order_acquire)) return tables[int(t)];
  static base::Mutex mutex;
  const std::lock_guard lock(mutex);
  if (filled[int(t)].load(std::memory_order_relaxed)) return tables[int(t)];
  if (const DeviceDriver* driver = device_driver(t)) {
    const auto& list = *static_cast<const DeviceKernels*>(driver->kernels);
    for (int i = 0; i < list.count; ++i)
      if (const OpDef* op = registry().find(list.items[i].op)) tables[int(t)].add(*op, *list.items[i].entry);
  }
  filled[int(t)].store(true, std::memory_order_release);
  return tables[int(t)];
}

bool has_kernel(const OpDef& op, DeviceType t) { return op.view || (!scope().oracle && kernels_on(t).first(op) != nullptr); }

Device device_of(const Call& c) {
  for (int i = 0; i < c.in.size(); ++i)
    if (c.in[i].defined() && !impl(c.in[i]).weak && !c.op.in[std::min(i, c.op.in.size() - 1)].host) return impl(c.in[i]).device;
  if (c.op.params.device_offset >= 0) return *reinterpret_cast<const Device*>(static_cast<const char*>(c.params) + c.op.params.device_offset);
  return cpu_device;
}

namespace {

std::atomic<uint32_t> fallbacks[KernelTable::kMaxOps];  // calls without a kernel, by op

TensorView view_of(const Tensor& t) {
  const TensorImpl& x = impl(t);
  return {x.data, x.spec.dtype, &x.spec.shape, &x.strides, x.device.type == DeviceType::cpu};
}

/// Where a kernel is to run.
void aim(KernelArgs& a, Device d) {
  if (d.type == DeviceType::cpu) [[likely]]
    return;
  a.device = d.index, a.stream = driver_of(d).stream(d.index);
}

bool fits(const Tensor& t, Layout l) {
  const TensorImpl& x = impl(t);
  switch (l) {
    case Layout::strided: case Layout::like_inputs: return true;
    case Layout::contiguous: return is_contiguous(x.spec.shape, x.strides);
    case Layout::rows: return x.spec.shape.rank() == 0 || x.spec.shape[-1] <= 1 || x.strides[-1] == 1;
    case Layout::channels_last: return x.spec.shape.rank() == 4 && is_contiguous(Shape({x.spec.shape[0], x.spec.shape[2], x.spec.shape[3], x.spec.shape[1]}), Strides({x.strides[0], x.strides[2], x.strides[3], x.strides[1]}));
  }
  return false;
}

[[noreturn]] void raise_status(const KernelStatus& s);

Tensor copy_with_strides(const Tensor& x, const Strides& st) {
  const TensorImpl& xi = impl(x);
  Tensor y = make_tensor(xi.spec.dtype, xi.spec.shape, st, xi.device);
  const KernelEntry* k = kernels_on(xi.device.type).first(op_copy);
  if (!k) return send(copy_with_strides(on_host(x), st), xi.device);
  const TensorView in = view_of(x), out = view_of(y);
  KernelArgs a;
  a.in = &in, a.out = &out, a.n_in = a.n_out = 1;
  aim(a, xi.device);
  if (KernelStatus status = k->run(a); status.code) raise_status(status);
  return y;
}

/// Dense strides with the axes in the order of `x`, the last one innermost; empty where `x` has no such order.
Strides order_of(const TensorImpl& x) {
  const int rank = x.spec.shape.rank();
  int order[kMaxRank];
  for (int i = 0; i < rank; ++i) {
    if (x.strides[i] <= 0 || x.strides[i] < x.strides[-1]) return {};
    int at = i;
    while (at > 0 && i + 1 < rank && x.strides[order[at - 1]] < x.strides[i]) order[at] = order[at - 1], --at;
    order[at] = i;
  }
  Strides st;
  st.resize(rank);
  int64_t step = 1;
  for (int k = rank - 1; k >= 0; --k) st[order[k]] = step, step *= x.spec.shape[order[k]];
  return st;
}

Strides strides_for(Layout l, const Spec& s, Inputs in) {
  if (l == Layout::rows)
    for (int i = 0; i < in.size(); ++i)
      if (in[i].defined() && s.shape.rank() > 1 && impl(in[i]).spec.shape == s.shape && s.shape.numel() > 0) {
        const Strides st = order_of(impl(in[i]));
        return st.empty() ? contiguous_strides(s.shape) : st;
      }
  if (l == Layout::channels_last && s.shape.rank() == 4) return channels_last_strides(s.shape);
  // Images keep their channels innermost as soon as one operand has them so: a gradient that arrives in another order is turned once.
  if (l == Layout::like_inputs && s.shape.rank() == 4)
    for (int i = 0; i < in.size(); ++i)
      if (in[i].defined() && impl(in[i]).spec.shape == s.shape && !fits(in[i], Layout::contiguous) && fits(in[i], Layout::channels_last))
        return channels_last_strides(s.shape);
  if (l == Layout::like_inputs)
    for (int i = 0; i < in.size(); ++i) {
      if (!in[i].defined()) continue;
      const TensorImpl& x = impl(in[i]);
      if (!(x.spec.shape == s.shape)) continue;
      if (is_contiguous(x.spec.shape, x.strides)) return x.strides;
      if (is_dense(x.spec.shape, x.strides)) return x.strides;
    }
  // Results of another shape (pools) keep channels innermost where the first input has them so.
  if (l == Layout::like_inputs && s.shape.rank() == 4 && in.size() && in[0].defined() && !fits(in[0], Layout::contiguous) &&
      fits(in[0], Layout::channels_last))
    return channels_last_strides(s.shape);
  return contiguous_strides(s.shape);
}

bool is_invariant(const Call& c) { return determinism_of(c.scope) == Determinism::invariant; }

/// Why `k` is not for this call; null where it is. `t`: the dtype that it goes by.
const char* refusal(const KernelEntry& k, const Call& c, DType t) {
  if (!contains(k.dtypes, t)) return "is not for this dtype";
  if (k.varies && is_invariant(c)) return "varies with the batch";
  return k.refuses ? k.refuses(c.params, c.specs) : nullptr;
}
DType deciding_dtype(const Call& c) { return c.in.size() && c.in[0].defined() ? c.specs[0].dtype : c.out[0].dtype; }

const KernelEntry* find_kernel(const KernelTable& table, const Call& c) {
  const DType t = deciding_dtype(c);
  for (const KernelEntry* k = table.first(c.op); k; k = k->next)
    if (!refusal(*k, c, t)) return k;
  return nullptr;
}

[[gnu::cold, gnu::noinline, noreturn]] void raise_status(const KernelStatus& s) { raise(about_call(status_error(s))); }

/// Statistics of results whose kernel took none; results beyond the last declared output share its slot.
void watch_outputs(Call& c, const Tensors& out, Watch watch, Device d) {
  const int last = c.op.out.size() - 1;
  if (!watch.board) {
    for (int i = 0; i < out.size(); ++i)
      if (StatSlot& slot = watch.host[std::min(i, last)]; out[i].defined() && slot.wanted) observe(out[i], slot);
    return;
  }
  constexpr int kMost = 8;
  TensorView views[kMost];
  BoardSlot* to[kMost];
  int n = 0;
  const auto pass = [&] {
    if (const char* wrong =
            n ? static_cast<const DeviceKernels*>(driver_of(d).kernels)->observe(d.index, n, views, to, Look::part) : nullptr)
      raise(about_call(Error(ErrorCode::device, wrong)));
    n = 0;
  };
  for (int i = 0; i < out.size(); ++i) {
    if (!out[i].defined() || !on_boards(impl(out[i]).spec.dtype)) continue;
    views[n] = view_of(out[i]), to[n++] = watch.board + std::min(i, last);
    if (n == kMost) pass();
  }
  pass();
}

const OutDef& out_of(const OpDef& op, int i) { return op.out[std::min(i, op.out.size() - 1)]; }

/// Fills extents that only the data can tell.
[[gnu::noinline]] SpecList count_extents(const KernelEntry& k, Call& c, const KernelArgs& a) {
  Shape counted[4];
  KEEL_ASSERT(k.count && a.n_out <= 4);
  if (KernelStatus s = k.count(a, counted); s.code) raise_status(s);
  SpecList out = c.out;
  for (int i = 0; i < a.n_out; ++i) out[i].shape = counted[i];
  return out;
}

/// Gradients to inputs that share out one tensor between them, as queries, keys and values do that one product made, share out a tensor in
/// the same way: what joins them has nothing to copy. Empty where `c` has no such inputs.
Tensors side_by_side(const KernelEntry& k, const Call& c, const SpecList& specs, Device d) {
  const int n = int(specs.size());
  if (n < 2 || n > c.in.size()) return {};
  for (int i = 0; i < n; ++i)
    if (k.out_layout[std::min(i, 3)] != Layout::rows || !(specs[i] == specs[0])) return {};
  const Shape& shape = specs[0].shape;
  if (shape.rank() < 2 || shape.rank() >= kMaxRank || shape.numel() == 0) return {};
  for (int first = 0; first + n <= c.in.size(); ++first) {
    const auto fits_in = [&](int i) {
      if (!c.in[first + i].defined()) return false;
      const TensorImpl &x = impl(c.in[first + i]), &x0 = impl(c.in[first]);
      return x.spec == specs[0] && x.storage && x.storage.get() == x0.storage.get() && x.strides == x0.strides;
    };
    int fitting = 0;
    while (fitting < n && fits_in(fitting)) ++fitting;
    if (fitting < n) continue;
    const TensorImpl& x0 = impl(c.in[first]);
    const int64_t apart = impl(c.in[first + 1]).offset - x0.offset;
    bool even = apart > 0 && x0.strides[-1] == 1;
    for (int i = 1; i < n; ++i) even = even && impl(c.in[first + i]).offset - x0.offset == i * apart;
    Shape all;
    Strides strides;
    all.push_back(n), strides.push_back(apart);
    for (int i = 0; i < shape.rank(); ++i) all.push_back(shape[i]), strides.push_back(x0.strides[i]);
    if (!even || !is_dense(all, strides)) continue;
    const Tensor whole = make_tensor(specs[0].dtype, all, strides, d);
    Tensors out;
    for (int i = 0; i < n; ++i) out.push_back(make_view(whole, shape, x0.strides, impl(whole).offset + i * apart));
    return out;
  }
  return {};
}

/// Whether `x` begins inside a vector of 16 bytes, as a part of a batch may and the whole does not. Kernels of devices choose by that how they
/// add, so where a call is to be invariant they never see it.
bool askew(const Tensor& x, Device d) {
  return d.type != DeviceType::cpu && !impl(x).weak && impl(x).device == d && reinterpret_cast<uintptr_t>(impl(x).data) % 16 != 0;
}
Tensor aligned_copy(const Tensor& x) {
  const TensorImpl& i = impl(x);
  return copy_with_strides(x, is_dense(i.spec.shape, i.strides) ? i.strides : contiguous_strides(i.spec.shape));
}

/// Gives `k` the layouts that it demands and runs it on `d`, where all tensors of the call live.
Tensors run_kernel(const KernelEntry& k, Call& c, Watch watch, Device d) {
  const int n_in = c.in.size(), n_out = int(c.out.size());
  SmallVector<TensorView, 10> in;
  SmallVector<Tensor, 2> copies;
  const bool invariant = is_invariant(c);
  for (int i = 0; i < n_in; ++i) {
    if (!c.in[i].defined()) {
      in.push_back({});
      continue;
    }
    const Layout want = k.in_layout[std::min(i, int(std::size(k.in_layout)) - 1)];
    if (want != Layout::strided && !fits(c.in[i], want)) {
      const Spec& s = impl(c.in[i]).spec;
      copies.push_back(copy_with_strides(c.in[i], want == Layout::channels_last ? channels_last_strides(s.shape) : contiguous_strides(s.shape)));
      in.push_back(view_of(copies.back()));
    } else if (invariant && askew(c.in[i], d) && !c.op.in[std::min(i, c.op.in.size() - 1)].written) {
      copies.push_back(aligned_copy(c.in[i]));
      in.push_back(view_of(copies.back()));
    } else {
      in.push_back(view_of(c.in[i]));
    }
  }
  KernelArgs a;
  a.params = c.params, a.in = in.data(), a.n_in = n_in, a.n_out = n_out, a.guard = c.guard;
  a.invariant = invariant, a.any_order = determinism_of(c.scope) == Determinism::fast;
  a.tf32 = !invariant && float32_matmul_precision() == MatmulPrecision::high;
  aim(a, d);
  bool unknown = false;
  for (const Spec& s : c.out) unknown |= s.shape.unknown();
  SpecList counted;
  if (unknown) [[unlikely]]
    counted = count_extents(k, c, a);
  const SpecList& specs = unknown ? counted : c.out;
  Tensors out;
  const Tensors beside = n_out > 1 && k.out_layout[1] == Layout::rows ? side_by_side(k, c, specs, d) : Tensors();
  SmallVector<TensorView, 4> views;
  for (int i = 0; i < n_out; ++i) {
    const OutDef& def = out_of(c.op, i);
    if (def.only_when_recording && !c.recording) {
      out.push_back(Tensor());
      views.push_back({});
      continue;
    }
    const Layout l = k.out_layout[std::min(i, 3)];
    if (!beside.empty()) out.push_back(beside[i]);
    else if (def.alias_of >= 0 && c.op.in[def.alias_of].written) out.push_back(c.in[def.alias_of]);
    else if (i == 0 && c.into && k.inplace && l == Layout::like_inputs) out.push_back(*c.into);
    else out.push_back(make_tensor(specs[i].dtype, specs[i].shape, strides_for(l, specs[i], c.in), d));
    views.push_back(view_of(out[i]));
  }
  a.out = views.data();
  for (int i = 0; watch && k.stats && i < n_out && i < c.op.out.size(); ++i) {
    if (!out[i].defined()) continue;
    if (watch.board) a.stats[i] = reinterpret_cast<StatSlot*>(watch.board + i);
    else if (watch.host[i].wanted) a.stats[i] = watch.host + i;
  }
  if (k.late) a.call = remember_call(c);
  const size_t wanted = k.workspace ? k.workspace(a) : 0;
  const Ref<Storage> workspace = wanted ? allocate_storage(wanted, d) : Ref<Storage>();
  a.workspace = wanted ? workspace->data : nullptr;
  if (KernelStatus s = k.run(a); s.code) raise_status(s);
  if (watch && !k.stats) watch_outputs(c, out, watch, d);
  if (c.into && !out[0].is(*c.into)) Tensor(*c.into).copy_(out[0]);
  return out;
}

}  // namespace

std::vector<std::string> kernels_of(const OpDef& op) {
  std::vector<std::string> names;
  for (const KernelEntry* k = cpu_kernels().first(op); k; k = k->next) names.push_back(k->name);
  for (const KernelEntry* k = reference_kernels().first(op); k; k = k->next) names.push_back(k->name);
  return names;
}

int64_t fallback_calls() {
  int64_t n = 0;
  for (const auto& count : fallbacks) n += count.load(std::memory_order_relaxed);
  return n;
}
std::vector<FallbackCount> fallback_report() {
  std::vector<FallbackCount> out;
  for (int64_t i = 0; i < registry().size(); ++i)
    if (const int64_t n = fallbacks[size_t(i)].load(std::memory_order_relaxed)) out.push_back({registry().op(i).name, n});
  return out;
}

void observe(const Tensor& t, StatSlot& slot) {
  const TensorImpl& x = impl(t);
  if (x.device.type == DeviceType::cpu || x.weak) return cpu::stat_pass(view_of(t), slot);
  cpu::stat_pass(view_of(on_host(t)), slot);
}

Tensor contiguous_copy(const Tensor& x) { return copy_with_strides(x, contiguous_strides(impl(x).spec.shape)); }
Tensor channels_last_copy(const Tensor& x) { return copy_with_strides(x, channels_last_strides(impl(x).spec.shape)); }
bool is_channels_last(const Tensor& x) { return fits(x, Layout::channels_last); }

namespace {

/// Counts a call that no kernel serves; says once per op why, and what serves it instead.
[[gnu::cold]] void note_fallback(const Call& c, const KernelTable& table, const char* instead) {
  if (c.op.fallback == Fallback::ok || fallbacks[c.op.id].fetch_add(1, std::memory_order_relaxed)) return;
  if (!base::log_enabled(LogLevel::info) && !base::log_topic("dispatch")) return;
  std::string text = std::string(c.op.name) + ": ";
  const DType t = deciding_dtype(c);
  if (!table.first(c.op)) text += "no kernel";
  for (const KernelEntry* k = table.first(c.op); k; k = k->next)
    text += std::string(k == table.first(c.op) ? "" : ", ") + k->name + " " + (contains(k->dtypes, t) ? std::string("refuses: ") + refusal(*k, c, t) : std::string("does not take ") + name_of(t));
  base::log(LogLevel::info, "dispatch", text + "; " + instead + " runs instead");
}

/// A decomposition that has nothing to do may return its input. A result is a tensor of its own: one that was its input too would be leaf and result at once, which holds itself alive, and
/// writes into it would reach the input.
void own_results(const Call& c, Tensors& out) {
  for (int i = 0; i < out.size(); ++i) {
    if (!out[i].defined() || c.op.out[std::min(i, c.op.out.size() - 1)].alias_of >= 0) continue;
    for (int k = 0; k < c.in.size(); ++k)
      if (c.in[k].defined() && &impl(out[i]) == &impl(c.in[k])) {
        out[i] = contiguous_copy(out[i]);
        break;
      }
  }
}

/// A call that device `d` has no kernel for.
[[gnu::noinline]] Tensors run_fallback(Call& c, Watch watch, Device d) {
  Tensors out;
  if (c.op.decompose) {
    if (c.op.fallback == Fallback::refuse && c.out[0].shape.numel() * int64_t(size_of(c.out[0].dtype)) > c.op.refuse_above)
      fail(ErrorCode::unsupported, "has no kernel for this dtype here, and its decomposition would need too much memory");
    if (!c.scope.oracle) note_fallback(c, kernels_on(d.type), "its decomposition");
    ScopeGuard below;
    Scope& s = c.scope;
    s.grad = false, s.autocast = DType::none, s.trace = nullptr, s.monitor = nullptr;
    c.op.decompose(c.params, c.in, out);
    own_results(c, out);
    if (c.into) Tensor(*c.into).copy_(out[0]);
  } else if (d.type != DeviceType::cpu) {
    if (!c.scope.oracle) note_fallback(c, kernels_on(d.type), "the CPU, with copies there and back,");
    out = run_on_host(c, d);
  } else if (const KernelEntry* k = find_kernel(detail::reference_table, c)) {
    if (!c.scope.oracle) note_fallback(c, kernels_on(d.type), "the slow reference");
    out = run_kernel(*k, c, {}, d);
  } else {
    const DType t = c.in.size() ? c.in[0].dtype() : c.out[0].dtype;
    fail(ErrorCode::unsupported, std::string("has no kernel for ") + name_of(t) + " on " + to_string(d));
  }
  if (watch) watch_outputs(c, out, watch, d);
  return out;
}

Tensors run_view(Call& c) {
  ViewSpec v;
  if (c.op.view(c.params, c.in[0], c.out[0], v)) return {make_view(c.in[0], c.out[0].shape, v.strides, v.offset)};
  const Tensor dense = contiguous_copy(c.in[0]);
  KEEL_ASSERT(c.op.view(c.params, dense, c.out[0], v));
  return {make_view(dense, c.out[0].shape, v.strides, v.offset)};
}

[[gnu::always_inline]] inline Tensors run_there(Device d, Call& c, Watch watch) {
  const bool oracle = c.scope.oracle;
  if (const KernelEntry* k = oracle && c.op.is_primitive && d == cpu_device ? find_kernel(detail::reference_table, c) : nullptr) return run_kernel(*k, c, {}, d);
  if (const KernelEntry* k = oracle && c.op.decompose ? nullptr : find_kernel(kernels_on(d.type), c)) return run_kernel(*k, c, watch, d);
  return run_fallback(c, watch, d);
}

}  // namespace

Tensors run_backend_on(Device d, Call& c, Watch watch) { return run_there(d, c, watch); }
Tensors run_backend(Call& c, StatSlot* stats) { return c.op.view ? run_view(c) : run_there(device_of(c), c, {stats}); }

}  // namespace keel
