// The choke point: every op of every backend passes here, in the order normalise, autocast, promote, infer, autograd, trace, monitor, backend.
#include <cmath>

#include "core/device_driver.h"
#include "core/impl.h"
#include "keel/ops/cast.h"
#include "op/checks.h"
#include "op/scope.h"

namespace keel {
namespace {

constexpr Spec kAbsent{};

const ArgDef& arg_of(const OpDef& op, int i) { return op.in[std::min(i, op.in.size() - 1)]; }

std::string set_text(DTypeSet s) {
  std::string out;
  for (int t = 1; t < kDTypes; ++t)
    if (contains(s, DType(t))) out += (out.empty() ? "" : ", ") + std::string(name_of(DType(t)));
  return out;
}

[[noreturn]] void refuse_dtype(const ArgDef& a, DType got) {
  std::string hint = contains(a.kinds, boolean) && !contains(a.kinds, i64)
                         ? std::string("a comparison makes a mask, as in ") + a.name + " != 0"
                         : std::string();
  for (DType t : {f32, i64, i32})
    if (hint.empty() && contains(a.kinds, t)) hint = std::string("cast it first, as in ") + a.name + ".astype(" + name_of(t) + ")";
  fail(ErrorCode::dtype, std::string("'") + a.name + "' has dtype " + name_of(got) + "; supported: " + set_text(a.kinds), hint);
}

/// Counts, presence and devices of what the caller passed.
void normalise(const OpDef& op, Inputs in) {
  const int defs = op.in.size();
  const bool variadic = defs && op.in[defs - 1].variadic;
  if (in.size() > defs && !variadic) fail(ErrorCode::value, "takes " + std::to_string(defs) + " inputs, got " + std::to_string(in.size()));
  Device device;
  bool known = false;
  for (int i = 0; i < in.size(); ++i) {
    if (!in[i].defined()) {
      if (!arg_of(op, i).optional) fail(ErrorCode::value, std::string("'") + arg_of(op, i).name + "' is an empty tensor", "a default-constructed Tensor has no value yet");
      continue;
    }
    const TensorImpl& t = impl(in[i]);
    if (t.weak) continue;
    if (arg_of(op, i).host) {
      if (t.device != cpu_device && !device_notes().recording) fail(ErrorCode::device, std::string("'") + arg_of(op, i).name + "' must be in host memory, and is on " + to_string(t.device));
      continue;
    }
    if (known && t.device != device) fail(ErrorCode::device, "inputs are on different devices (" + to_string(device) + " and " + to_string(t.device) + ")", "x.to(device) moves a tensor; nothing moves by itself");
    device = t.device, known = true;
  }
}

/// The dtype that the grouped inputs share, or none where there are no grouped inputs.
DType common_dtype(const OpDef& op, const Tensor* const* in, int n) {
  DType t = DType::none;
  DType weakest = DType::none;  // the strongest kind among weak numbers
  for (int i = 0; i < n; ++i) {
    if (!in[i]->defined() || !arg_of(op, i).grouped) continue;
    const TensorImpl& x = impl(*in[i]);
    if (x.weak) {
      if (weakest == DType::none || x.spec.dtype == f64 || weakest == DType::boolean) weakest = x.spec.dtype;
      continue;
    }
    if (t == DType::none || t == x.spec.dtype) {
      t = x.spec.dtype;
      continue;
    }
    const DType both = promote(t, x.spec.dtype);
    if (both == DType::none)
      fail(ErrorCode::dtype, std::string("no common dtype for ") + name_of(t) + " and " + name_of(x.spec.dtype), "cast(x, dtype) chooses one, as in x.astype(f32)");
    t = both;
  }
  if (weakest == DType::none) return t;
  if (t == DType::none) return weakest == f64 ? f32 : weakest;
  if (weakest == f64 && !is_inexact(t)) return f32;
  if (weakest != DType::boolean && t == DType::boolean) return weakest == f64 ? f32 : i64;
  return t;
}

}  // namespace

struct Prepared {
  SmallVector<const Tensor*, 10> in;
  SmallVector<Tensor, 4> keep;  // what autocast and promotion made
};

namespace {

/// Rewrites grouped inputs to one dtype that the row accepts.
void promote_inputs(const OpDef& op, Prepared& p) {
  const int n = int(p.in.size());
  DType target = DType::none;
  if (op.promote != Promote::none) target = common_dtype(op, p.in.data(), n);
  const DType integers = target;
  if (op.promote == Promote::compare)
    for (const Tensor* x : p.in)
      if (x->defined() && impl(*x).weak && !holds(integers, scalar_of(*x))) target = f32;  // in which it is infinite
  for (int i = 0; i < n; ++i) {
    if (!p.in[i]->defined()) continue;
    const ArgDef& a = arg_of(op, i);
    const TensorImpl& x = impl(*p.in[i]);
    DType want = target;
    if (!a.grouped || op.promote == Promote::none) want = x.weak && x.spec.dtype == f64 ? f32 : x.spec.dtype;
    else if (op.promote == Promote::to_float && !is_inexact(want)) want = f32;
    if (!contains(a.kinds, want)) {
      if (!a.grouped || !x.weak || !contains(a.kinds, f32)) refuse_dtype(a, want);
    }
    if (x.spec.dtype == want && !x.weak) continue;
    if (x.weak) {
      if (x.spec.dtype != want) {
        Scalar v = scalar_of(*p.in[i]);
        if (op.promote == Promote::compare && !holds(integers, v)) v = std::copysign(INFINITY, v.to_double());
        check_holds(want, v);
        TensorImpl* s = TensorImpl::create();
        s->refs.store(1, std::memory_order_relaxed);
        s->spec.dtype = want, s->weak = true, s->data = s->value;
        write_scalar(s->value, want, v);
        p.keep.push_back(Tensor::adopt(s));
        p.in[i] = &p.keep.back();
      }
    } else {
      p.keep.push_back(cast(*p.in[i], want));
      p.in[i] = &p.keep.back();
    }
  }
}

/// Whether the inputs are as the row wants them: checks presence, dtypes and devices in one go. False sends the call through `normalise` and promotion, which also know what to say.
bool uniform(const OpDef& op, Inputs in, bool& tracked) {
  if ((op.promote != Promote::common && op.promote != Promote::compare) || in.size() > op.in.size()) return false;
  DType t = DType::none;
  Device d;
  bool same = true, first = true;
  for (int i = 0; i < in.size(); ++i) {
    const ArgDef& a = op.in[i];
    const TensorImpl* x = in[i].impl();
    if (!x) {
      if (!a.optional) return false;
      continue;
    }
    tracked |= x->tracked();
    if (first && !a.host) d = x->device, first = false;
    if (a.grouped) {
      same &= t == DType::none || t == x->spec.dtype;
      t = x->spec.dtype;
    }
    same &= !x->weak && contains(a.kinds, x->spec.dtype) && x->device == (a.host ? cpu_device : d);
  }
  return same;
}

bool any_tracked(Inputs in) {
  for (int i = 0; i < in.size(); ++i)
    if (in[i].defined() && impl(in[i]).tracked()) return true;
  return false;
}

bool any_inexact(const OpDef& op, const SpecList& out) {
  for (int i = 0; i < out.size(); ++i)
    if (is_inexact(out[i].dtype) && !op.out[std::min(i, op.out.size() - 1)].only_when_recording) return true;
  return false;
}

[[gnu::cold, gnu::noinline, noreturn]] void refuse_gradient() {
  raise(op_error(ErrorCode::autograd, "is not differentiable: the row has neither a gradient nor a decomposition")
            .hint("x.detach() or NoGrad says that no gradient is wanted"));
}

struct Job {
  const OpDef& op;
  const void* params;
  const void* site;
  Scope& scope;
  const Tensor* into;
};

bool writes(const OpDef& op) {
  for (const ArgDef& a : op.in)
    if (a.written && !a.variadic) return true;
  return false;
}

/// Runs an op that writes into inputs: their versions move on, but stay as they were where the call fails. What is written of a variadic input, only its caller knows and notes.
[[gnu::noinline]] Tensors run_writing(Call& c) {
  struct Notes {
    SmallVector<std::pair<Storage*, const char*>, 2> list;
    bool done = false;
    ~Notes() {
      for (auto& [s, writer] : list)
        if (!done) s->version.fetch_sub(1, std::memory_order_relaxed), s->writer = writer;
    }
  } notes;
  for (int i = 0; i < c.in.size(); ++i) {
    const ArgDef& a = arg_of(c.op, i);
    if (!a.written || a.variadic || !c.in[i].defined()) continue;
    if (c.scope.grad && impl(c.in[i]).tracked())
      fail(ErrorCode::autograd, std::string("'") + a.name + "' is tracked and cannot be written in place while gradients are recorded", "inside NoGrad it can; or compute a new tensor");
    Storage* const s = impl(c.in[i]).storage.get();
    const char* const before = s ? s->writer : "";
    note_write(c.in[i], c.scope.writer ? c.scope.writer : c.op.name);
    notes.list.push_back({s, before});
  }
  Tensors out = run_below_autograd(c);
  notes.done = true;
  return out;
}

/// What follows once the inputs are as the row wants them.
Tensors infer_and_run(const Job& j, Inputs in, bool tracked) {
  const OpDef& op = j.op;
  SmallVector<const Spec*, 10> specs;
  for (int i = 0; i < in.size(); ++i) specs.push_back(in[i].defined() ? &impl(in[i]).spec : &kAbsent);
  for (int i = in.size(); i < op.in.size(); ++i) specs.push_back(&kAbsent);
  SpecList out;
  const Specs given(specs.data(), int(specs.size()));
  op.infer(j.params, given, out);

  Call c{op, j.params, in, given, out, j.site, j.scope, j.into};
  if (op.out[0].alias_of >= 0 && writes(op)) [[unlikely]]
    return run_writing(c);
  if (tracked && j.scope.grad && !j.into && any_inexact(op, out)) {
    if (op.vjp) return layer::autograd(c);
    if (!op.decompose) refuse_gradient();
  } else if (op.vjp || !op.decompose || has_kernel(op, in.size() && in[0].defined() ? impl(in[0]).device.type : DeviceType::cpu)) {
    return run_below_autograd(c);
  }
  Tensors made;
  op.decompose(j.params, in, made);
  if (j.into) Tensor(*j.into).copy_(made[0]);
  return made;
}

/// The long way: says what is wrong, casts, promotes.
[[gnu::noinline]] Tensors prepare_and_run(const Job& j, Inputs given, bool casting) {
  normalise(j.op, given);
  Prepared p;
  for (int i = 0; i < given.size(); ++i) p.in.push_back(&given[i]);
  p.keep.reserve(2 * given.size());  // pointers into it must stay good
  if (casting) layer::autocast(j.op, p.in.data(), int(p.in.size()), p.keep);
  promote_inputs(j.op, p);
  const Inputs in(p.in.data(), int(p.in.size()));
  return infer_and_run(j, in, any_tracked(in));
}

Tensors run_pipeline(const OpDef& op, const void* params, Inputs given, const void* site, const Tensor* into) {
  need_registry();
  Scope& s = scope();
  Frame frame{&op, params, given.data(), given.size(), s.frame ? s.frame->site : s.caller ? s.caller : site, s.frame};
  struct Pop {
    Scope& s;
    const Frame* up;
    ~Pop() { s.frame = up; }
  } pop{s, s.frame};
  s.frame = &frame;
  const Job job{op, params, frame.site, s, into};
  const bool casting = s.autocast != DType::none && op.cast != Cast::keep;
  bool tracked = false;
  if (!casting && uniform(op, given, tracked)) return infer_and_run(job, given, tracked);
  return prepare_and_run(job, given, casting);
}

}  // namespace

Tensors dispatch(const OpDef& op, const void* params, Inputs in, const void* site) { return run_pipeline(op, params, in, site, nullptr); }
Tensor dispatch_one(const OpDef& op, const void* params, Inputs in, const void* site) {
  Tensors out = run_pipeline(op, params, in, site, nullptr);
  return std::move(out[0]);
}

void dispatch_into(const OpDef& op, const void* params, Inputs in, const Tensor& into) {
  note_write(into, scope().writer ? scope().writer : op.name);
  run_pipeline(op, params, in, __builtin_return_address(0), &into);
}

void note_write(const Tensor& t, const char* writer) {
  const TensorImpl& ti = impl(t);
  if (!ti.storage) raise(Error(ErrorCode::value, "a number cannot be written in place").op(writer));
  if (ti.storage->readonly)
    raise(Error(ErrorCode::value, "the tensor's memory is read-only").op(writer).arg("x", to_string(ti.spec)).hint("x.clone() gives a writable copy").path(scope().path));
  ti.storage->version.fetch_add(1, std::memory_order_relaxed);
  ti.storage->writer = writer;
  if (TraceSink* trace = scope().trace) trace->wrote(trace, ti);
}

}  // namespace keel
