// What a Monitor tells beside its tables: what is new, a finding in one line, and all that a run leaves when it breaks.
#include <algorithm>
#include <cmath>

#include "backend/float_bits.h"
#include "base/json.h"
#include "keel/cpu.h"
#include "keel/random.h"
#include "keel/version.h"
#include "layers/monitor/monitor.h"

namespace keel {
namespace {

std::string short_text(double v) {
  char text[32];
  std::snprintf(text, sizeof text, "%.3g", v);
  return text;
}

void short_number(base::JsonWriter& w, double v) {
  if (std::isfinite(v))
    w.raw(short_text(v));
  else
    w.value(std::isnan(v) ? "nan" : v > 0 ? "inf" : "-inf");
}

constexpr const char* kSeverities[] = {"info", "warning", "fault"};

void write_finding(base::JsonWriter& w, const Monitor::Finding& f) {
  w.begin_object().key("severity").value(kSeverities[int(f.severity)]).key("detector").value(f.detector).key("kind").value(f.kind);
  w.key("step").value(f.step).key("epoch").value(f.epoch).key("op").value(f.op).key("path").value(f.path).key("phase").value(f.phase);
  w.key("site")
      .value(f.site)
      .key("text")
      .value(f.text)
      .key("elements")
      .value(f.elements)
      .key("count")
      .value(f.count)
      .key("eta")
      .value(f.eta);
  w.key("low").value(f.low).key("mean").value(f.mean).key("lost_ulps").value(f.lost_ulps).key("suggestion").begin_object();
  w.key("kind")
      .value(f.suggestion.kind)
      .key("value")
      .value(f.suggestion.value)
      .key("text")
      .value(f.suggestion.text)
      .end_object()
      .end_object();
}

/// A value of a row: what its bits stand for.
double value_of(uint64_t bits, DType t, bool nan) { return bits < float_bits(t).inf ? magnitude_of(bits, t) : nan ? NAN : INFINITY; }

}  // namespace

std::vector<Monitor::Finding> Monitor::news() {
  state_->settle(false);
  std::vector<Finding> out;
  for (; state_->told < state_->found.size() && !state_->undecided(state_->told); ++state_->told)
    out.push_back(state_->finding(state_->found[state_->told]));
  return out;
}

std::string to_string(const Monitor::Finding& f) {
  std::string s = "step " + std::to_string(f.step);
  if (f.epoch > 0) s += ", epoch " + std::to_string(f.epoch);
  s += ": " + f.op + (f.path.empty() ? "" : " in " + f.path) + ", " + f.phase;
  if (!f.detector.empty() && f.detector != "nonfinite") s += " (" + f.detector + ")";
  s += ": " + f.text;
  // Texts of rules have their numbers; what one lacks comes after it.
  const auto said = [&](const std::string& what) { return f.text.find(what) != f.text.npos; };
  if (f.mean > 0 && !said(short_text(f.mean))) s += "; magnitude at least " + short_text(f.low) + ", mean " + short_text(f.mean);
  if (f.lost_ulps > 0 && !said(short_text(f.lost_ulps))) s += "; " + short_text(f.lost_ulps) + " ULPs lost";
  if (f.eta >= 0 && !said(std::to_string(f.eta) + " steps")) s += "; out of range in about " + std::to_string(f.eta) + " steps";
  if (f.count > 1) s += "; " + std::to_string(f.count) + " times";
  if (!f.site.empty()) s += "; at " + f.site;
  const Suggestion& g = f.suggestion;
  if (!g.text.empty()) s += "; to do: " + g.text;
  if (!g.kind.empty() && g.value != 0 && g.text.find(short_text(g.value)) == g.text.npos) s += " (" + g.kind + " " + short_text(g.value) + ")";
  return s;
}

Monitor::PostMortem Monitor::post_mortem() const {
  state_->settle(true);
  const MonitorState& m = *state_;
  PostMortem out;
  const Generator::State g = default_generator().state();
  DTypeSet dtypes = 0;
  for (const WatchedSite& s : m.sites)
    for (int i = 0; i < s.op->out.size(); ++i)
      if (s.results[i].calls) dtypes |= set_of(s.results[i].dtype);
  base::JsonWriter w(out.json);
  w.begin_object().key("format").value(1).key("keel").value(version()).key("build").value(build_id()).key("isa").value(cpu_isa());
  w.key("seed").value(uint64_t(g.seed)).key("random_offset").value(int64_t(g.offset)).key("step").value(m.step).key("epoch").value(m.epoch);
  w.key("blocked_steps").value(m.blocked).key("dtypes").begin_array();
  std::string names;
  for (int t = 1; t < kDTypes; ++t)
    if (contains(dtypes, DType(t))) w.value(name_of(DType(t))), names += (names.empty() ? "" : ", ") + std::string(name_of(DType(t)));
  w.end_array().key("findings").begin_array();
  for (const MonitorState::Found& f : m.found) write_finding(w, m.finding(f));
  w.end_array().key("sites").begin_array();
  for (size_t at = 0; at < m.sites.size(); ++at)
    for (int i = 0; i < m.sites[at].op->out.size(); ++i) {
      if (!m.sites[at].results[i].calls) continue;
      const Statistic t = m.statistic(m.sites[at], i);
      w.begin_object().key("site").value(int64_t(at)).key("result").value(i).key("op").value(t.op).key("output").value(t.output);
      w.key("path").value(t.path).key("phase").value(t.phase).key("at").value(t.site).key("dtype").value(name_of(t.dtype));
      w.key("calls").value(t.calls).key("elements").value(t.elements).key("largest").value(t.largest).key("smallest").value(t.smallest);
      w.key("nan").value(t.nan).key("inf").value(t.inf).key("subnormal").value(t.subnormal);
      w.key("first_step").value(t.first_step).key("last_step").value(t.last_step).key("every").value(t.every);
      w.key("steps").begin_array();  // of steps_columns; the step that broke is in the results only
      if (const Series* s = m.sites[at].results[i].series.get())
        for (int k = s->size(); k-- > 0;) {
          const Reading& r = s->back(k);
          w.begin_array().value(r.step);
          short_number(w, std::isfinite(r.high) ? std::exp2(double(r.high)) : 0);
          short_number(w, std::isfinite(r.low) ? std::exp2(double(r.low)) : 0);
          w.value(int64_t(r.nan)).value(int64_t(r.inf)).value(int64_t(r.subnormal)).end_array();
        }
      w.end_array().end_object();
    }
  // One array a result, not an object: there are thousands.
  w.end_array().key("steps_columns").begin_array();
  for (const char* c : {"step", "largest", "smallest", "nan", "inf", "subnormal"}) w.value(c);
  w.end_array().key("results_columns").begin_array();
  for (const char* c : {"step", "site", "result", "elements", "largest", "smallest", "nan", "inf", "subnormal"}) w.value(c);
  w.end_array().key("results").begin_array();
  const uint64_t n = std::min<uint64_t>(m.rows, MonitorState::kRing);
  for (uint64_t i = m.rows - n; i < m.rows; ++i) {
    const WatchedRow& r = m.ring[i % MonitorState::kRing];
    w.begin_array().value(r.step).value(int64_t(r.site)).value(int(r.output)).value(r.elements);
    short_number(w, value_of(r.max_bits, r.dtype, r.nan > 0));
    short_number(w, r.min_bits < float_bits(r.dtype).inf - 1 ? magnitude_of(r.min_bits + 1, r.dtype) : 0);
    w.value(int64_t(r.nan)).value(int64_t(r.inf)).value(int64_t(r.subnormal)).end_array();
  }
  w.end_array().end_object();
  out.json += '\n';

  out.text = std::string("Keel ") + version() + " (" + build_id() + "), " + cpu_isa() + ", seed " + std::to_string(g.seed) + ", step " +
             std::to_string(m.step) + ", epoch " + std::to_string(m.epoch) + ", values in " + (names.empty() ? "-" : names) + "\n\n";
  constexpr const char* headings[] = {"Notes", "Warnings", "Faults"};
  for (Severity severity : {Severity::fault, Severity::warning, Severity::info}) {
    const std::vector<Finding> list = m.found_with(severity);
    if (list.empty()) continue;
    out.text += std::string(headings[int(severity)]) + "\n";
    for (const Finding& f : list) out.text += "  " + to_string(f) + "\n";
    out.text += "\n";
  }
  // The results around the first fault, where the ring still has them.
  uint64_t until = m.rows;
  for (uint64_t i = m.rows - n; i < m.rows; ++i)
    if (const WatchedRow& r = m.ring[i % MonitorState::kRing]; r.nan + r.inf > 0) {
      until = std::min(m.rows, i + 9);
      break;
    }
  const uint64_t from = std::max(m.rows - n, until > 40 ? until - 40 : 0);
  out.text += "Results, the last ones first to last; where one is broken, up to the first of those\n";
  for (uint64_t i = from; i < until; ++i) {
    const WatchedRow& r = m.ring[i % MonitorState::kRing];
    const Record t = m.record(r);
    char line[256];
    std::snprintf(line, sizeof line, "  step %-6lld %-9s %-20.20s %-28.28s %-6s %10.3g to %-10.3g %u NaN, %u inf, %u subnormal of %lld%s\n",
                  static_cast<long long>(t.step), t.phase.c_str(), t.op.c_str(), t.path.empty() ? "-" : t.path.c_str(), name_of(t.dtype),
                  t.smallest, t.largest, r.nan, r.inf, r.subnormal, static_cast<long long>(t.elements), r.every > 1 ? " seen, a part" : "");
    out.text += line;
  }
  out.text += "\n" + m.report() + "\n";
  return out;
}

}  // namespace keel
