// The Monitor that a program holds: texts and tables. Nothing here runs while an op runs, but for findings.
#include <algorithm>
#include <cmath>
#include <utility>

#include "backend/float_bits.h"
#include "base/symbol.h"
#include "keel/debug.h"
#include "keel/error.h"
#include "layers/monitor/monitor.h"
#include "layers/monitor/suggest.h"

namespace keel {
namespace {

double largest_finite(DType t) {
  const FloatBits f = float_bits(t);
  return magnitude_of(f.inf - 1, t);
}

/// Bits between the largest magnitude and the dtype's end: none where a value was past it, infinite for zeros only.
double headroom(const WatchedResult& r) {
  if (r.nan + r.inf) return 0;
  return r.largest > 0 ? std::log2(largest_finite(r.dtype) / r.largest) : INFINITY;
}

std::string pad(std::string s, size_t width) {
  if (s.size() > width) s = s.substr(0, width - 2) + "..";
  s.resize(width, ' ');
  return s;
}

}  // namespace

Monitor::Finding MonitorState::finding(const Found& f) const {
  const WatchedSite& s = sites[f.site];
  Monitor::Finding g = f.about;
  g.op = (s.of ? s.of : s.op)->name, g.path = s.path, g.site = base::describe_code(s.site), g.phase = phase_name(s.phase), g.kind = f.kind;
  g.step = f.step, g.elements = f.elements, g.count = f.count, g.info = g.severity == Severity::info;
  return g;
}

Monitor::Statistic MonitorState::statistic(const WatchedSite& s, int output) const {
  const WatchedResult& r = s.results[output];
  return {s.op->name,
          s.op->out[output].name,
          s.path,
          base::describe_code(s.site),
          phase_name(s.phase),
          r.dtype,
          int64_t(r.calls),
          int64_t(r.elements),
          r.largest,
          r.smallest,
          int64_t(r.nan),
          int64_t(r.inf),
          int64_t(r.subnormal),
          r.first_step,
          r.last_step,
          int64_t(r.every)};
}

Monitor::Record MonitorState::record(const WatchedRow& r) const {
  const WatchedSite& s = sites[r.site];
  const FloatBits f = float_bits(r.dtype);
  return {r.step,
          s.op->name,
          s.op->out[r.output].name,
          s.path,
          phase_name(s.phase),
          r.dtype,
          int64_t(r.elements),
          r.max_bits < f.inf ? magnitude_of(r.max_bits, r.dtype)
          : r.nan            ? NAN
                             : INFINITY,
          r.min_bits < f.inf - 1 ? magnitude_of(r.min_bits + 1, r.dtype) : 0,
          r.nan,
          r.inf,
          r.subnormal,
          int64_t(r.every)};
}

std::vector<Monitor::Finding> MonitorState::found_with(Severity severity) const {
  std::vector<Monitor::Finding> out;
  for (const Found& f : found)
    if (f.about.severity == severity) out.push_back(finding(f));
  return out;
}

std::string MonitorState::report() const {
  struct Line {
    const WatchedSite* site;
    int output;
    double bits;
  };
  std::vector<Line> lines;
  int64_t calls = 0;
  for (const WatchedSite& s : sites)
    for (int i = 0; i < s.op->out.size(); ++i)
      if (s.results[i].calls) lines.push_back({&s, i, headroom(s.results[i])}), calls += int64_t(s.results[i].calls);
  int64_t faults = 0;
  for (const Found& f : found) faults += f.about.severity == Severity::fault;
  std::string out = "monitor: " + std::to_string(step) + " steps, " + std::to_string(calls) + " results at " +
                    std::to_string(lines.size()) + " sites, " + std::to_string(faults) + " findings";
  if (device_share >= 0) {
    out += "; watching took " + number(100 * device_share) + " % of the device's time";
    if (duty() > 1) out += ", one step in " + std::to_string(duty()) + " as a whole";
  }
  int64_t shown = 0;
  for (const Found& f : found) {
    if (f.about.severity != Severity::fault) continue;
    if (++shown > 20) {
      out += "\n  ... and " + std::to_string(faults - 20) + " more";
      break;
    }
    const Monitor::Finding g = finding(f);
    out += "\n  step " + std::to_string(g.step) + ", " + g.phase + ": " + g.text + "\n    in " +
           (g.path.empty() ? std::string("the program") : g.path) + ", at " + g.site;
    if (g.count > 1) out += " (" + std::to_string(g.count) + " times)";
  }
  // Sites with broken values first, then those nearest to the end of their dtype.
  std::stable_sort(lines.begin(), lines.end(), [](const Line& a, const Line& b) {
    const WatchedResult &x = a.site->results[a.output], &y = b.site->results[b.output];
    const bool bad_a = x.nan + x.inf > 0, bad_b = y.nan + y.inf > 0;
    return bad_a != bad_b ? bad_a : a.bits < b.bits;
  });
  if (lines.empty()) return out;
  out += "\n  " + pad("op", 22) + pad("path", 30) + pad("phase", 10) + pad("dtype", 6) + pad("calls", 9) + pad("largest", 11) +
         pad("smallest", 11) + pad("bits left", 11) + "nan/inf/subnormal";
  for (size_t i = 0; i < lines.size() && i < 20; ++i) {
    const WatchedSite& s = *lines[i].site;
    const WatchedResult& r = s.results[lines[i].output];
    const std::string name = lines[i].output == 0 ? s.op->name : std::string(s.op->name) + "." + s.op->out[lines[i].output].name;
    out += "\n  " + pad(name, 22) + pad(*s.path ? s.path : "-", 30) + pad(phase_name(s.phase), 10) + pad(name_of(r.dtype), 6) +
           pad(std::to_string(r.calls), 9) + pad(r.nan ? "nan" : r.inf ? "inf" : number(r.largest), 11) + pad(number(r.smallest), 11) + pad(number(lines[i].bits), 11) +
           std::to_string(r.nan) + "/" + std::to_string(r.inf) + "/" + std::to_string(r.subnormal);
    if (r.every > 1) out += " in a part of 1/" + std::to_string(r.every) + " a step";
  }
  if (lines.size() > 20) out += "\n  ... and " + std::to_string(lines.size() - 20) + " more sites";
  return out;
}

// ---- the public face ----

Monitor::Monitor(const MonitorOptions& options) : state_(new MonitorState(options)) {
  Scope& s = scope();
  state_->above = s.monitor;
  state_->debug = debug_mode();
  s.monitor = state_;
}
Monitor::~Monitor() {
  Scope& s = scope();
  if (s.monitor == state_) s.monitor = state_->above;
  if (state_->debug && !s.monitor) set_debug_mode(true);
  state_->settle(true);
  delete state_;
}
void Monitor::pause() {
  if (state_->paused || scope().monitor != state_) return;
  if (state_->boards) state_->end_device_step();
  state_->break_laps();
  scope().monitor = state_->above, state_->paused = true;
}
void Monitor::resume() {
  if (std::exchange(state_->paused, false)) scope().monitor = state_, state_->governor.forget_step();
}
bool Monitor::paused() const { return state_->paused; }
int64_t Monitor::whole_every() const { return state_->governor.every(); }
void Monitor::step() { state_->begin_step(); }
int64_t Monitor::current_step() const { return state_->step; }
std::vector<Monitor::Finding> Monitor::findings() const {
  state_->settle(true);
  return state_->found_with(Severity::fault);
}
std::vector<Monitor::Finding> Monitor::warnings() const {
  state_->settle(true);
  return state_->found_with(Severity::warning);
}
std::vector<Monitor::Finding> Monitor::notes() const {
  state_->settle(true);
  return state_->found_with(Severity::info);
}
void Monitor::epoch(int64_t number) { state_->epoch = number; }
int64_t Monitor::blocked_steps() const {
  state_->settle(true);
  return state_->blocked;
}
std::vector<Monitor::Statistic> Monitor::statistics() const {
  state_->settle(true);
  std::vector<Statistic> out;
  for (WatchedSite& s : state_->sites)
    for (int i = 0; i < s.op->out.size(); ++i)
      if (s.results[i].calls) MonitorState::fold(s.results[i]), out.push_back(state_->statistic(s, i));
  return out;
}
std::vector<Monitor::Record> Monitor::history() const {
  state_->settle(true);
  std::vector<Record> out;
  const uint64_t n = std::min<uint64_t>(state_->rows, MonitorState::kRing);
  for (uint64_t i = state_->rows - n; i < state_->rows; ++i) out.push_back(state_->record(state_->ring[i % MonitorState::kRing]));
  return out;
}
std::string Monitor::report() const {
  state_->settle(true);
  state_->fold_touched();
  return state_->report();
}

}  // namespace keel
