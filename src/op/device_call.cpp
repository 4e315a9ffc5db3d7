// Copies between devices, and calls that a device leaves to the CPU.
#include "op/device_call.h"

#include <unordered_map>

#include "base/threads.h"
#include "core/impl.h"
#include "op/checks.h"

namespace keel {

Tensor move_to(const Tensor& x, Device to) {
  const TensorImpl& xi = impl(x);
  if (xi.device == to) return x;
  if (!is_dense(xi.spec.shape, xi.strides)) return move_to(contiguous_copy(x), to);
  const Tensor here = on_host(x);
  return to.type == DeviceType::cpu ? here : send(here, to);
}

Error status_error(const KernelStatus& s) {
  if (s.code == KernelStatus::bad_index) {
    const std::string axis = s.axis < 0 ? "" : " on axis " + std::to_string(s.axis), what = std::string(s.what) + " " + std::to_string(s.got);
    if (s.limit <= 0) return Error(ErrorCode::index, what + " is out of range: there are no elements" + axis).hint("check size() first");
    return Error(ErrorCode::index, what + " is out of range [" + std::to_string(-s.limit) + ", " + std::to_string(s.limit - 1) + "]" + axis)
        .hint("negative indices count from the end");
  }
  if (s.code == KernelStatus::bad_element)
    return Error(ErrorCode::value, std::string(s.what) + "; element " + std::to_string(s.got) + " is not");
  if (s.code == KernelStatus::bad_place)
    return Error(ErrorCode::index,
                 std::string(s.what) + " " + std::to_string(s.got) + " is out of range [0, " + std::to_string(s.limit - 1) + "]");
  if (s.code == KernelStatus::device_error) return Error(ErrorCode::device, s.what);
  return Error(ErrorCode::value, std::string(s.what) + ", got " + std::to_string(s.got));
}

namespace {

/// A call whose work may still be under way.
struct Origin {
  uint64_t call = 0;
  const OpDef* op = nullptr;
  const char* path = "";
  int n = 0;
  const char* roles[3];
  Spec specs[3];
};
/// The last calls; a fault of an older one is told without its origin.
struct Origins {
  static constexpr uint64_t kKept = 512;
  base::Mutex mutex;
  uint64_t count = 0;
  Origin kept[kKept];
  std::unordered_map<uint64_t, Origin> recorded;  // of calls that recordings repeat
};
Origins& origins() {
  static Origins* const o = new Origins;
  return *o;
}

thread_local constinit KeptCalls* keeping = nullptr;

}  // namespace

KeptCalls::~KeptCalls() {
  if (numbers_.empty()) return;
  Origins& all = origins();
  const std::lock_guard lock(all.mutex);
  for (const uint64_t n : numbers_) all.recorded.erase(n);
}
KeepCalls::KeepCalls(KeptCalls& calls) { keeping = &calls; }
KeepCalls::~KeepCalls() { keeping = nullptr; }

uint64_t remember_call(const Call& c) {
  Origins& all = origins();
  const std::lock_guard lock(all.mutex);
  const uint64_t call = ++all.count;
  Origin& o = all.kept[call % Origins::kKept];
  const Frame* f = c.scope.frame;
  while (f && f->up) f = f->up;  // the op that the program called, not a part of its decomposition
  o.call = call, o.op = f ? f->op : &c.op, o.path = c.scope.path, o.n = 0;
  for (int i = 0; i < c.in.size() && o.op == &c.op && o.n < 3; ++i) {
    if (!c.in[i].defined()) continue;
    o.roles[o.n] = c.op.in[std::min(i, c.op.in.size() - 1)].name, o.specs[o.n++] = c.specs[i];
  }
  if (keeping) all.recorded.emplace(call, o), keeping->numbers_.push_back(call);
  return call;
}

Error late_error(const DeviceFault& f) {
  KernelStatus s{KernelStatus::Code(f.code), f.got, f.limit, f.what, f.axis};
  Error e = status_error(s);
  Origins& all = origins();
  const std::lock_guard lock(all.mutex);
  const auto recorded = all.recorded.find(f.call);
  const Origin& o = recorded != all.recorded.end() ? recorded->second : all.kept[f.call % Origins::kKept];
  if (o.call != f.call) return e;
  e.op(o.op->name);
  for (int i = 0; i < o.n; ++i) e.arg(o.roles[i], to_string(o.specs[i]));
  if (*o.path) e.path(o.path);
  e.note("found by queued work of the device, after the call had returned");
  return e;
}

Tensors run_on_host(Call& c, Device d) {
  device_notes().note(device_notes().host_runs);
  SmallVector<Tensor, 10> hosted;
  SmallVector<const Tensor*, 10> in;
  hosted.reserve(c.in.size());  // pointers into it must stay good
  for (int i = 0; i < c.in.size(); ++i) {
    hosted.push_back(c.in[i].defined() ? on_host(c.in[i]) : Tensor());
    in.push_back(&hosted.back());
  }
  Call host{c.op, c.params, Inputs(in.data(), int(in.size())), c.specs, c.out, c.site, c.scope, nullptr, c.recording, c.guard};
  const Tensors made = run_backend_on(cpu_device, host, {});
  for (int i = 0; i < c.in.size(); ++i) {
    if (!c.op.in[std::min(i, c.op.in.size() - 1)].written || !c.in[i].defined()) continue;
    const TensorImpl &from = impl(hosted[size_t(i)]), &to = impl(c.in[i]);
    const ElementSpan span(to);  // the whole span goes back: what the view leaves out has not changed meanwhile
    const int64_t low = span.low * int64_t(size_of(to.spec.dtype));
    if (const size_t bytes = span.bytes(to.spec.dtype)) device_copy(d, to.data + low, from.data + low, bytes, CopyWay::to_device);
  }
  Tensors out;
  for (int i = 0; i < made.size(); ++i) {
    const int alias = c.op.out[std::min(i, c.op.out.size() - 1)].alias_of;
    if (alias >= 0 && c.op.in[alias].written)
      out.push_back(c.in[alias]);
    else
      out.push_back(made[i].defined() ? send(made[i], d) : Tensor());
  }
  if (c.into) Tensor(*c.into).copy_(out[0]);
  return out;
}

}  // namespace keel
