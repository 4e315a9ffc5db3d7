// The monitor's log: one JSON object a line. "run" once; "site" when a result of an op first appears at a place; "series" the values of a
// step; "finding", "warning" and "note" as they come; "step" a summary; "total" at the end.
#include <algorithm>
#include <cmath>

#include "backend/float_bits.h"
#include "base/json.h"
#include "base/symbol.h"
#include "keel/cpu.h"
#include "keel/version.h"
#include "layers/monitor/monitor.h"

namespace keel {
namespace {

void write_line(std::FILE* f, std::string line) {
  line += '\n';
  std::fwrite(line.data(), 1, line.size(), f);
}

/// Four digits are enough for a picture, and a long run has many numbers.
void short_number(base::JsonWriter& w, double v) {
  char text[32];
  std::snprintf(text, sizeof text, "%.4g", v);
  if (std::isfinite(v))
    w.raw(text);
  else
    w.null();
}

int64_t id_of(uint32_t site, int output) { return int64_t(site) * 4 + output; }

/// Steps between lines of values: all of them at first, then 64 lines each time that the number of steps doubles.
int64_t interval(int64_t step) {
  int64_t every = 1;
  while (step / every >= 128) every *= 2;
  return every;
}

}  // namespace

MonitorState::~MonitorState() {
  if (!log) return;
  fold_touched();
  write_step();
  write_end();
  std::fclose(log);
}

void MonitorState::write_begin() {
  std::string line;
  base::JsonWriter w(line);
  w.begin_object().key("event").value("run").key("format").value(2).key("keel").value(version()).key("isa").value(cpu_isa()).end_object();
  write_line(log, std::move(line));
}

void MonitorState::announce(uint32_t site, int output) {
  if (announced.size() <= site) announced.resize(std::max<size_t>(size_t(site) + 1, sites.size()));
  if (announced[site] >> output & 1) return;
  announced[site] |= uint8_t(1 << output);
  const Monitor::Statistic t = statistic(sites[site], output);
  std::string line;
  base::JsonWriter w(line);
  w.begin_object().key("event").value("site").key("id").value(id_of(site, output)).key("op").value(t.op).key("output").value(t.output);
  w.key("path").value(t.path).key("phase").value(t.phase).key("site").value(t.site).key("dtype").value(name_of(t.dtype)).end_object();
  write_line(log, std::move(line));
}

void MonitorState::write_findings() {
  if (!log) return;
  for (; logged < found.size() && !undecided(logged); ++logged) {
    const Found& of = found[logged];
    announce(of.site, of.output);
    const Monitor::Finding f = finding(of);
    constexpr const char* events[] = {"note", "warning", "finding"};
    constexpr const char* severities[] = {"info", "warning", "fault"};
    std::string line;
    base::JsonWriter w(line);
    w.begin_object().key("event").value(events[int(f.severity)]).key("severity").value(severities[int(f.severity)]);
    w.key("detector").value(f.detector).key("step").value(f.step).key("epoch").value(f.epoch).key("id").value(id_of(of.site, of.output));
    w.key("op").value(f.op).key("path").value(f.path).key("site").value(f.site).key("phase").value(f.phase).key("kind").value(f.kind);
    w.key("elements").value(f.elements).key("value").value(f.value).key("eta");
    if (f.eta < 0)
      w.null();
    else
      w.value(f.eta);
    w.key("low").value(f.low).key("mean").value(f.mean).key("lost_ulps").value(f.lost_ulps).key("text").value(f.text).key("suggestion");
    if (f.suggestion.kind.empty())
      w.null();
    else
      w.begin_object()
          .key("kind")
          .value(f.suggestion.kind)
          .key("value")
          .value(f.suggestion.value)
          .key("text")
          .value(f.suggestion.text)
          .end_object();
    w.end_object();
    write_line(log, std::move(line));
  }
  std::fflush(log);  // the next op may be the last one of the run
}

/// What every site that ran in this step wrote, from the ring: of a step that it cannot hold, the end.
void MonitorState::write_series() {
  struct Value {
    int64_t id;
    double high = 0, low = 0, bits = INFINITY;
    uint64_t nan = 0, inf = 0, subnormal = 0;
  };
  std::vector<Value> values;
  const uint64_t oldest = rows > kRing ? rows - kRing : 0;
  for (uint64_t i = rows; i > oldest; --i) {
    const WatchedRow& r = ring[(i - 1) % kRing];
    if (r.step != step) break;
    const FloatBits f = float_bits(r.dtype);
    Value v{.id = id_of(r.site, r.output), .nan = r.nan, .inf = r.inf, .subnormal = r.subnormal};
    const bool broken = r.max_bits >= f.inf;
    v.high = broken ? INFINITY : magnitude_of(r.max_bits, r.dtype);
    if (r.min_bits < f.inf - 1) v.low = magnitude_of(r.min_bits + 1, r.dtype);
    v.bits = broken ? 0 : v.high > 0 ? std::log2(magnitude_of(f.inf - 1, r.dtype) / v.high) : INFINITY;
    values.push_back(v);
  }
  std::sort(values.begin(), values.end(), [](const Value& a, const Value& b) { return a.id < b.id; });
  size_t n = 0;  // calls at one place become one value
  for (const Value& v : values) {
    if (n == 0 || values[n - 1].id != v.id) {
      values[n++] = v;
      continue;
    }
    Value& to = values[n - 1];
    to.high = std::max(to.high, v.high), to.bits = std::min(to.bits, v.bits);
    if (v.low > 0 && (to.low == 0 || v.low < to.low)) to.low = v.low;
    to.nan += v.nan, to.inf += v.inf, to.subnormal += v.subnormal;
  }
  values.resize(n);
  for (const Value& v : values) announce(uint32_t(v.id / 4), int(v.id % 4));
  constexpr size_t kMostInALine = 2000;
  for (size_t from = 0; from < n; from += kMostInALine) {
    const size_t to = std::min(n, from + kMostInALine);
    std::string line;
    base::JsonWriter w(line);
    w.begin_object().key("event").value("series").key("step").value(step);
    const auto array = [&](const char* name, auto&& put) {
      w.key(name).begin_array();
      for (size_t i = from; i < to; ++i) put(values[i]);
      w.end_array();
    };
    array("id", [&](const Value& v) { w.value(v.id); });
    array("high", [&](const Value& v) { short_number(w, v.high); });
    array("low", [&](const Value& v) { short_number(w, v.low); });
    array("bits", [&](const Value& v) { short_number(w, v.bits); });
    array("nan", [&](const Value& v) { w.value(v.nan); });
    array("inf", [&](const Value& v) { w.value(v.inf); });
    array("subnormal", [&](const Value& v) { w.value(v.subnormal); });
    w.end_object();
    write_line(log, std::move(line));
  }
  std::fflush(log);
}

void MonitorState::write_step() {
  if (!log || step_ops == 0) return;
  write_findings();
  constexpr int kMostBroken = 64;  // a run that goes on with NaN would fill the disk
  if (step % interval(step) == 0 || (step_nan + step_inf > 0 && broken_lines++ < kMostBroken)) write_series();
  std::string line;
  base::JsonWriter w(line);
  w.begin_object().key("event").value("step").key("step").value(step).key("ops").value(step_ops).key("largest").value(step_largest);
  w.key("nan").value(step_nan).key("inf").value(step_inf).key("subnormal").value(step_subnormal).end_object();
  write_line(log, std::move(line));
}

void MonitorState::write_end() {
  write_findings();
  for (uint32_t at = 0; at < sites.size(); ++at)
    for (int i = 0; i < sites[at].op->out.size(); ++i) {
      if (!sites[at].results[i].calls) continue;
      announce(at, i);
      const Monitor::Statistic t = statistic(sites[at], i);
      std::string line;
      base::JsonWriter w(line);
      w.begin_object()
          .key("event")
          .value("total")
          .key("id")
          .value(id_of(at, i))
          .key("calls")
          .value(t.calls)
          .key("elements")
          .value(t.elements);
      w.key("largest").value(t.largest).key("smallest").value(t.smallest).key("nan").value(t.nan).key("inf").value(t.inf);
      w.key("subnormal")
          .value(t.subnormal)
          .key("first_step")
          .value(t.first_step)
          .key("last_step")
          .value(t.last_step)
          .key("every")
          .value(t.every)
          .end_object();
      write_line(log, std::move(line));
    }
}

}  // namespace keel
