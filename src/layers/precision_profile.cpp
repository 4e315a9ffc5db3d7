// The profiler stands where a trace would: each op runs below it as usual, then its results are counted, outside of every layer.
#include "keel/precision_profile.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>
#include <tuple>
#include <unordered_map>

#include "base/json.h"
#include "keel/error.h"
#include "layers/trace.h"

namespace keel {
namespace {

using Kind = PrecisionProfile::Kind;
using Entry = PrecisionProfile::Entry;

struct Profiler : Recorder {
  PrecisionProfile profile;
  PrecisionOptions options;
  std::map<std::tuple<const char*, const void*, int, Kind>, size_t> index;       // path, op or leaf, output, kind
  std::unordered_map<const TensorImpl*, std::pair<Tensor, const char*>> leaves;  // parameters that were read, held, and where

  Entry& entry(const char* path, const void* what, int output, Kind kind) {
    const auto [at, fresh] = index.try_emplace({path, what, output, kind}, profile.entries.size());
    if (fresh) profile.entries.push_back({path, {}, {}, kind, 0, {}});
    return profile.entries[at->second];
  }
  void count(Entry& e, const Tensor& t) {
    ++e.calls;
    e.report.add(analyze_precision(t, options));
  }
  static bool counts(const Tensor& t) { return t.defined() && is_floating(impl(t).spec.dtype) && !impl(t).weak; }

  void parameter(const Tensor& t, const char* path) {
    const GradMeta* g = impl(t).grad;
    if (!g || !g->requires_grad || g->node || !counts(t) || !leaves.try_emplace(t.impl(), t, path).second) return;
    Entry& e = entry(path, t.impl(), 0, Kind::parameter);
    e.op = name(t);
    count(e, t);
  }
  static std::string name(const Tensor& t) {
    const char* full = impl(t).grad->name.load(std::memory_order_relaxed);
    if (!full) return to_string(impl(t).spec);
    const std::string_view s = full;
    return std::string(s.substr(s.rfind('.') == std::string_view::npos ? 0 : s.rfind('.') + 1));
  }
  void parameter_gradient(const Tensor& leaf, const Tensor& g) {
    if (!counts(g)) return;
    const auto at = leaves.find(leaf.impl());
    Entry& e = entry(at == leaves.end() ? "" : at->second.second, leaf.impl(), 0, Kind::parameter_gradient);
    e.op = name(leaf);
    count(e, g);
  }
  void results(const Call& c, const Tensors& out) {
    if (c.op.view || c.scope.phase == Phase::optimiser) return;
    const Kind kind = c.scope.phase == Phase::backward ? Kind::gradient : Kind::value;
    for (int i = 0; i < out.size(); ++i) {
      const int declared = std::min(i, c.op.out.size() - 1);
      if (!counts(out[i]) || c.op.out[declared].only_when_recording) continue;
      Entry& e = entry(c.scope.path, &c.op, declared, kind);
      e.op = c.op.name, e.output = c.op.out[declared].name;
      count(e, out[i]);
    }
  }
};

Tensors watch(Recorder& r, Call& c) {
  auto& p = static_cast<Profiler&>(r);
  if (c.scope.phase == Phase::forward)
    for (int i = 0; i < c.in.size(); ++i)
      if (c.in[i].defined()) p.parameter(c.in[i], c.scope.path);
  Tensors out = run_below_trace(c);
  p.results(c, out);
  return out;
}

std::string number(double v) {
  char text[32];
  std::snprintf(text, sizeof text, "%.3g", v);
  return text;
}
std::string percent(double share) { return number(100 * share) + " %"; }

bool is_gradient(Kind k) { return k == Kind::gradient || k == Kind::parameter_gradient; }

int log2_of(double scale) { return std::ilogb(scale); }

}  // namespace

const char* name_of(PrecisionProfile::Kind k) {
  constexpr const char* names[] = {"value", "gradient", "parameter", "parameter gradient"};
  return names[int(k)];
}

PrecisionProfile precision_profile(const Callback<void()>& step, const PrecisionProfileOptions& o) {
  if (o.low != f16 && o.low != bf16)
    raise(Error(ErrorCode::dtype, std::string("a profile proposes f16 or bf16, not ") + name_of(o.low)).op("precision_profile"));
  if (scope().trace) raise(Error(ErrorCode::unsupported, "a recording is in progress on this thread").op("precision_profile"));
  Profiler p;
  p.profile.low = o.low, p.options.round_up = o.round_up;
  p.watch = watch;
  p.wrote = [](TraceSink*, const TensorImpl&) {};
  p.host_read = [](TraceSink*, const TensorImpl&) {};
  p.gradient = [](TraceSink* s, const Tensor& leaf, const Tensor& g) { static_cast<Profiler*>(s)->parameter_gradient(leaf, g); };
  {
    ScopeGuard guard;
    scope().trace = &p;
    step();
  }
  return std::move(p.profile);
}

PrecisionProfile precision_profile(const StateDict& tensors, const PrecisionProfileOptions& o) {
  PrecisionProfile p;
  p.low = o.low;
  for (const StateDict::Entry& e : tensors)
    if (e.tensor.defined() && is_floating(e.tensor.dtype()))
      p.entries.push_back({"", e.name, {}, Kind::parameter, 1, analyze_precision(e.tensor, {.round_up = o.round_up})});
  return p;
}

double PrecisionProfile::loss_scale() const {
  PrecisionReport all;
  for (const Entry& e : entries)
    if (is_gradient(e.kind)) all.add(e.report);
  return all.amax > 0 ? std::ldexp(1.0, all.scale_exponent(f16) - 2) : 1;
}

std::vector<PrecisionProfile::Advice> PrecisionProfile::advice() const {
  const int loss = log2_of(loss_scale());
  const auto cast_of = [&](const Entry& e, DType t) {
    if (size_of(t) == 1) return e.report.scaled(t);
    return e.report.target(t, t == f16 && is_gradient(e.kind) ? loss : 0);
  };
  std::vector<Advice> out;
  for (const Entry& own : entries) {
    if (own.kind != Kind::value) continue;
    const auto same = [&](const Advice& a) { return a.path == own.path && a.op == own.op; };
    if (std::any_of(out.begin(), out.end(), same)) continue;
    Advice a{own.path, own.op, f32, f32, {}};
    std::string why;
    bool decided = false;
    for (DType t : {f8e4m3fn, f8e5m2, bf16, f16, f32}) {
      if (decided && t != low) continue;
      std::string bad;
      for (const Entry& e : entries) {
        if (e.path != own.path || (e.kind == Kind::value && e.op != own.op)) continue;
        const CastForecast f = cast_of(e, t);
        if (f.fits() || t == f32) continue;
        bad = std::string(name_of(t)) + ": " + name_of(e.kind) + " " + e.op + " " +
              (f.overflow_count ? "overflows in " + percent(f.overflow) : "loses " + percent(f.flushed) + " to zero");
        break;
      }
      if (bad.empty()) {
        if (!decided) a.dtype = t, a.reason = why, decided = true;
        if (t == low) a.compute = low;
      } else if (!decided) {
        why = bad;
      }
    }
    out.push_back(std::move(a));
  }
  return out;
}

AutocastPolicy PrecisionProfile::policy() const {
  AutocastPolicy p;
  p.low = low;
  for (const Advice& a : advice())
    if (a.compute != low) p.rules.push_back({a.path, a.op, a.compute});
  return p;
}

std::string PrecisionProfile::label(const Entry& e) const {
  std::string s = e.op;
  const auto other = [&](const Entry& o) { return o.kind == e.kind && o.path == e.path && o.op == e.op && o.output != e.output; };
  if (std::any_of(entries.begin(), entries.end(), other)) s += "." + e.output;
  return is_gradient(e.kind) ? s + " gradient" : s;
}

std::string PrecisionProfile::text() const {
  std::string s;
  char line[256];
  const auto row = [&](const std::string& where, const std::string& what, const std::string& range, const std::string(&cell)[5]) {
    std::snprintf(line, sizeof line, "%-28s %-30s %12s %14s %14s %14s %14s %14s\n", where.c_str(), what.c_str(), range.c_str(),
                  cell[0].c_str(), cell[1].c_str(), cell[2].c_str(), cell[3].c_str(), cell[4].c_str());
    s += line;
  };
  const auto cell = [](const CastForecast& f) {
    return f.overflow_count ? "over " + percent(f.overflow) : f.flushed_count ? "zero " + percent(f.flushed) : std::string("fits");
  };
  s += "What casts do: values beyond the largest one (over) or else to zero. fp8 with a scale a tensor, MX with one for 32 neighbours.\n";
  row("layer", "what", "exponents", {"f16", "bf16", "e4m3 scaled", "e5m2 scaled", "e4m3 MX"});
  for (const Entry& e : entries) {
    const PrecisionReport& r = e.report;
    const std::string what = label(e) + (e.calls > 1 ? " x" + std::to_string(e.calls) : "");
    row(e.path, what, r.nonzero ? std::to_string(r.exponent_low) + ".." + std::to_string(std::ilogb(r.amax)) : "-",
        {cell(r.target(f16)), cell(r.target(bf16)), cell(r.scaled(f8e4m3fn)), cell(r.scaled(f8e5m2)), cell(r.mx(f8e4m3fn))});
  }
  const std::vector<Advice> all = advice();
  if (all.empty()) return s;
  s += "\nloss scale: 2^" + std::to_string(log2_of(loss_scale())) + " = " + number(loss_scale()) + "\n";
  for (const Advice& a : all) {
    std::snprintf(line, sizeof line, "%-28s %-30s %-9s compute in %-5s", a.path.c_str(), a.op.c_str(), name_of(a.dtype),
                  name_of(a.compute));
    s += line + (a.reason.empty() ? "" : " (" + a.reason + ")") + "\n";
  }
  return s;
}

std::string PrecisionProfile::json() const {
  std::string s;
  base::JsonWriter w(s);
  w.begin_object().key("loss_scale").value(loss_scale()).key("entries").begin_array();
  for (const Entry& e : entries) {
    w.begin_object().key("path").value(e.path).key("op").value(e.op).key("output").value(e.output).key("kind").value(name_of(e.kind));
    w.key("calls").value(e.calls).key("report").raw(e.report.json()).end_object();
  }
  w.end_array().key("advice").begin_array();
  for (const Advice& a : advice()) {
    w.begin_object().key("path").value(a.path).key("op").value(a.op).key("dtype").value(name_of(a.dtype));
    w.key("compute").value(name_of(a.compute)).key("reason").value(a.reason).end_object();
  }
  w.end_array().key("policy").raw(policy().json()).end_object();
  return s;
}

}  // namespace keel
