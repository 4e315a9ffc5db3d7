// Debug mode: a monitor that raises. It stands where every monitor stands, so that nothing is asked while it is off.
#include "keel/debug.h"

#include <limits>
#include <memory>
#include <string_view>

#include "base/log.h"
#include "core/impl.h"
#include "keel/error.h"
#include "keel/ops.h"
#include "layers/monitor/monitor.h"
#include "op/checks.h"

namespace keel {
namespace {

MonitorState* top() { return static_cast<MonitorState*>(scope().monitor); }

/// Watches where the program has no monitor of its own. Lives until the thread ends, as guards may put it back into the scope at any time.
struct Watcher {
  std::unique_ptr<MonitorState> state;
  ~Watcher() {
    if (state && scope().monitor == state.get()) scope().monitor = nullptr;
  }
};
Watcher& watcher() {
  static thread_local Watcher one;
  return one;
}

double number_field(const Call& c, std::string_view name) {
  struct Wanted {
    std::string_view name;
    double value = 0;
  } wanted{name};
  FieldSink sink{&wanted, [](void* context, const FieldInfo& info, void* member) {
                   auto& w = *static_cast<Wanted*>(context);
                   if (info.name == w.name && info.kind == FieldKind::number) w.value = *static_cast<const double*>(member);
                   if (info.name == w.name && info.kind == FieldKind::boolean) w.value = *static_cast<const bool*>(member);
                 }};
  if (c.op.params.visit) c.op.params.visit(const_cast<void*>(c.params), sink);
  return wanted.value;
}

struct Replaced {
  int64_t n = 0, of = 0;
  const char* why = "";
};
Replaced count(const Tensor& mask, const char* why) { return {sum(mask).item<int64_t>(), mask.size(), why}; }

/// How many values of a safe op's result are not what the plain op gives, and why; nothing where it is no safe op.
Replaced replaced(const Call& c) {
  const std::string_view name = c.op.name;
  const Tensor& x = c.in[0];
  if (name == "div_safe") {
    const double least = impl(c.in[1]).spec.dtype == f64 ? 2.2250738585072014e-308 : 1.1754943508222875e-38;
    const Tensor size = abs(c.in[1]);
    const Tensor zero = size <= number_field(c, "zero_tol");
    return count(number_field(c, "skip_subnormal") > 0 ? logical_or(zero, size < least) : zero, "denominators count as zero");
  }
  if (name == "sqrt_safe") return count(x < 0, "arguments are negative");
  if (name == "rsqrt_safe" || name == "log_safe") return count(x <= 0, "arguments are not above zero");
  if (name == "pow_safe") return count(logical_and(isfinite(x), logical_not(isfinite(pow(x, c.in[1])))), "powers have no finite value");
  if (name == "sanitize") return is_inexact(x.dtype()) ? count(logical_not(isfinite(x)), "values are NaN or infinite") : Replaced{};
  if (x.size() == 0) return {};
  if (name == "softmax_safe") {
    const auto& p = *static_cast<const SoftmaxParams*>(c.params);
    return count(max(x, {.axis = p.axis}) == -std::numeric_limits<double>::infinity(), "rows are masked throughout and become zeros");
  }
  if (name == "norm_safe" && c.recording)  // its value at 0 is the plain one; its gradient is not
    return count(norm_safe(x, *static_cast<const NormSafeParams*>(c.params)) == 0, "norms are 0 and get gradient 0");
  if (name == "normalize_safe") {
    const auto& p = *static_cast<const NormalizeSafeParams*>(c.params);
    return count(norm_safe(x, {.axis = p.axis}) < p.eps, "vectors are shorter than eps");
  }
  return {};
}

}  // namespace

void MonitorState::speak(uint32_t site, const std::string& text) {
  if (spoken.size() <= site) spoken.resize(sites.size() > site ? sites.size() : size_t(site) + 1);
  if (spoken[site]) return;
  spoken[site] = true;
  if (!base::log_enabled(LogLevel::warning) && !base::log_topic("debug")) return;
  const WatchedSite& s = sites[site];
  base::log(LogLevel::warning, "debug", text + (*s.path ? std::string("; in ") + s.path : std::string()));
}

void MonitorState::check_safe(const Call& c) {
  const std::string_view name = c.op.name;
  if (!name.ends_with("_safe") && name != "sanitize") return;
  Replaced found;
  {
    ScopeGuard keep;
    Scope& s = scope();
    s.monitor = nullptr, s.trace = nullptr, s.grad = false, s.autocast = DType::none;
    found = replaced(c);
  }
  if (found.n == 0) return;
  const std::string text =
      name.data() + std::string(" replaced values: ") + std::to_string(found.n) + " of " + std::to_string(found.of) + " " + found.why;
  speak(site_of(c), text);
  raise(op_error(ErrorCode::numeric, text)
            .hint("debug mode is on: without it, this op returns its default")
            .note("step: " + std::to_string(step) + ", " + phase_name(c.scope.phase)));
}

bool debug_mode() {
  const MonitorState* m = top();
  return m && m->debug;
}

void set_debug_mode(bool on) {
  Scope& s = scope();
  if (on) {
    auto& own = watcher().state;
    if (!own && !s.monitor) own = std::make_unique<MonitorState>(MonitorOptions{.foretell = false, .shadow_every = 0});
    if (!s.monitor) s.monitor = own.get();
    top()->debug = true;
    return;
  }
  if (!s.monitor) return;
  MonitorState* const own = watcher().state.get();
  for (MonitorState* m = top(); m; m = static_cast<MonitorState*>(m->above)) {
    m->debug = false;
    if (own && m->above == own) m->above = nullptr;
  }
  if (s.monitor == own) s.monitor = nullptr;
}

}  // namespace keel
