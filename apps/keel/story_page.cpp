// The page of a run: one file, inline SVG, no script, light and dark.
#include <algorithm>
#include <cmath>

#include "story.h"

namespace keel::app {
namespace {

constexpr const char* kStyle = R"css(
:root { color-scheme: light dark; --ink: #1d2430; --soft: #667085; --line: #d9dee7; --paper: #ffffff; --card: #f6f8fb; --band: #2f6fd0;
--room: #16805a; --eta: #9a6700; --fault: #c62828; --warning: #b26a00; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ef; --soft: #98a2b3; --line: #323a48; --paper: #12161d; --card: #1a202a;
--band: #6aa5ff; --room: #4cc38a; --eta: #e3b341; --fault: #ff6b6b; --warning: #f0a732; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1080px; padding: 28px 20px 60px; background: var(--paper); color: var(--ink);
font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 22px; margin: 0 0 4px; overflow-wrap: anywhere; } h2 { font-size: 17px; margin: 34px 0 10px; }
h3 { font-size: 15px; margin: 0; overflow-wrap: anywhere; }
p { margin: 6px 0; } .soft { color: var(--soft); } code { font: 13px ui-monospace, monospace; overflow-wrap: anywhere; }
.tiles { display: flex; flex-wrap: wrap; gap: 10px; margin: 16px 0; }
.tile { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 8px 16px; min-width: 104px; }
.tile b { display: block; font-size: 21px; } .fault { color: var(--fault); } .warning { color: var(--warning); }
.info { color: var(--soft); }
.card { background: var(--card); border: 1px solid var(--line); border-left: 4px solid var(--soft); border-radius: 8px;
padding: 10px 14px; margin: 10px 0; }
.card.fault { border-left-color: var(--fault); } .card.warning { border-left-color: var(--warning); }
.card.fault, .card.warning, .card.info { color: var(--ink); }
.tag { display: inline-block; font-size: 12px; font-weight: 600; margin-right: 8px; }
.do { border-top: 1px solid var(--line); margin-top: 8px; padding-top: 6px; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; width: 100%; font-size: 13px; }
th, td { text-align: left; padding: 4px 10px 4px 0; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { color: var(--soft); font-weight: 600; } td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
td.path { max-width: 260px; overflow: hidden; text-overflow: ellipsis; }
svg { display: block; width: 100%; height: auto; } svg text { fill: var(--soft); font: 11px system-ui, sans-serif; }
svg.spark { width: 160px; height: 22px; } a { color: inherit; }
.grid { stroke: var(--line); stroke-width: 1; } .limit { stroke: var(--fault); stroke-width: 1; stroke-dasharray: 5 3; }
.band { fill: var(--band); opacity: .18; } .high { stroke: var(--band); } .low { stroke: var(--band); stroke-dasharray: 2 2; }
.room { stroke: var(--room); } .eta { stroke: var(--eta); } .high, .low, .room, .eta { fill: none; stroke-width: 1.6; }
.dot { fill: var(--band); } .bad { fill: var(--fault); }
.mark-fault { stroke: var(--fault); stroke-width: 1.5; }
.mark-warning { stroke: var(--warning); stroke-width: 1.5; stroke-dasharray: 3 2; }
.mark-info { stroke: var(--soft); stroke-width: 1; stroke-dasharray: 1 3; }
svg text.fault { fill: var(--fault); } svg text.warning { fill: var(--warning); } .site { margin: 14px 0 26px; }
)css";

std::string escape(std::string_view s) {
  std::string out;
  for (const char c : s) {
    if (c == '&')
      out += "&amp;";
    else if (c == '<')
      out += "&lt;";
    else if (c == '>')
      out += "&gt;";
    else if (c == '"')
      out += "&quot;";
    else if (c == '\'')
      out += "&#39;";
    else
      out += c;
  }
  return out;
}

const char* class_of(Severity s) { return s == Severity::fault ? "fault" : s == Severity::warning ? "warning" : "info"; }
std::string power_text(double log2_value) {
  const double v = std::exp2(log2_value);
  return std::isfinite(v) && v > 0 ? fmt::format("{:.3g}", v) : fmt::format("1e{:.0f}", log2_value * 0.30103);
}

/// One panel of a site's chart: maps steps and values to pixels, and draws what all panels have.
struct Panel {
  double left = 74, right = 900, top, bottom, least = 0, most = 1, steps = 1;
  double x(double step) const { return left + (steps > 0 ? step / steps : 0) * (right - left); }
  double y(double v) const {
    return bottom - (most > least ? (std::clamp(v, least, most) - least) / (most - least) : 0.5) * (bottom - top);
  }
  void grid(std::string& out, double v, const std::string& label) const {
    out += fmt::format(
        "<line class=\"grid\" x1=\"{:.0f}\" x2=\"{:.0f}\" y1=\"{:.1f}\" y2=\"{:.1f}\"/><text x=\"{:.0f}\" y=\"{:.1f}\" "
        "text-anchor=\"end\">{}</text>\n",
        left, right, y(v), y(v), left - 6, y(v) + 4, label);
  }
};

/// Lines through the points for which `value` is finite; a single point becomes a dot.
template <class F>
std::string lines(const Panel& p, const StorySite& t, int64_t stride, const char* name, F&& value) {
  std::string out, run;
  int n = 0;
  double last_x = 0, last_y = 0;
  const auto end = [&] {
    if (n > 1) out += fmt::format("<polyline class=\"{}\" points=\"{}\"/>\n", name, run);
    if (n == 1) out += fmt::format("<circle class=\"dot\" cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"2\"/>\n", last_x, last_y);
    run.clear(), n = 0;
  };
  for (size_t i = 0; i < t.points.size(); ++i) {
    if (!t.points[i].seen) continue;  // a site need not run at every step
    const double v = value(i);
    if (!std::isfinite(v)) {
      end();
      continue;
    }
    last_x = p.x(double(int64_t(i) * stride)), last_y = p.y(v);
    run += fmt::format("{}{:.1f},{:.1f}", n++ ? " " : "", last_x, last_y);
  }
  end();
  return out;
}

std::string chart(const Story& s, size_t at) {
  const StorySite& t = s.sites[at];
  const auto steps = double(std::max<int64_t>(s.steps, 1));
  double low = INFINITY, high = -INFINITY, room = 1, far = 10;
  for (size_t i = 0; i < t.points.size(); ++i) {
    const StoryPoint& p = t.points[i];
    if (!p.seen) continue;
    if (std::isfinite(p.high)) high = std::max(high, double(p.high)), low = std::min(low, double(p.high));
    if (std::isfinite(p.low)) low = std::min(low, double(p.low));
    if (std::isfinite(p.bits)) room = std::max(room, double(p.bits));
    if (const double eta = forecast(t, int64_t(i), s.stride); eta > 0) far = std::max(far, std::min(eta, 1e6));
  }
  if (!(low <= high)) low = -1, high = 1;
  const bool limit = std::isfinite(t.limit) && t.limit - high < std::max(6.0, high - low);
  if (limit) high = std::max(high, t.limit);
  const double margin = std::max(0.5, (high - low) * 0.05);
  Panel v{.top = 20, .bottom = 150, .least = low - margin, .most = high + margin, .steps = steps};
  Panel r{.top = 176, .bottom = 250, .least = 0, .most = room, .steps = steps};
  Panel e{.top = 276, .bottom = 330, .least = 0, .most = std::log10(far), .steps = steps};
  std::string out = fmt::format("<svg viewBox=\"0 0 1010 356\" role=\"img\" aria-label=\"{}\">\n",
                                escape("Values, headroom and forecast of " + place(t.op, t.path, t.phase)));
  constexpr double kDecade = 3.321928094887362;  // log2 of ten
  const double from = std::ceil(v.least / kDecade), to = std::floor(v.most / kDecade), stride = std::max(1.0, std::ceil((to - from) / 5));
  if (to - from >= 1)
    for (double k = from; k <= to; k += stride)
      v.grid(out, k * kDecade, std::fabs(k) < 4 ? fmt::format("{:g}", std::pow(10, k)) : fmt::format("1e{:.0f}", k));
  else
    for (double level : {low, high}) v.grid(out, level, power_text(level));
  for (int k = 0; k <= 2; ++k) r.grid(out, room * k / 2, fmt::format("{:.3g}", room * k / 2));
  for (double level = 0; level <= e.most + 1e-9; level += std::max(1.0, std::ceil(e.most / 3)))
    e.grid(out, level, fmt::format("{:.0f}", std::pow(10, level)));
  for (int k = 0; k <= 4; ++k)
    out += fmt::format("<text x=\"{:.0f}\" y=\"348\" text-anchor=\"{}\">{:.0f}</text>\n", v.x(steps * k / 4),
                       k == 0   ? "start"
                       : k == 4 ? "end"
                                : "middle",
                       steps * k / 4);
  out +=
      "<text x=\"908\" y=\"84\">magnitude</text><text x=\"908\" y=\"98\">largest, smallest</text><text x=\"908\" y=\"212\">headroom, "
      "bits</text><text x=\"908\" y=\"302\">steps left</text>"
      "<text x=\"908\" y=\"348\">step</text>\n";
  if (limit)
    out += fmt::format(
        "<line class=\"limit\" x1=\"74\" x2=\"900\" y1=\"{0:.1f}\" y2=\"{0:.1f}\"/><text class=\"fault\" x=\"908\" y=\"{1:.1f}\">largest "
        "{2}</text>\n",
        v.y(t.limit), v.y(t.limit) + 4, escape(t.dtype));
  std::string above, below;
  for (size_t i = 0; i < t.points.size(); ++i) {
    const StoryPoint& p = t.points[i];
    if (!p.seen || !std::isfinite(p.high)) continue;
    const double x = v.x(double(int64_t(i) * s.stride));
    above += fmt::format("{:.1f},{:.1f} ", x, v.y(double(p.high)));
    below = fmt::format("{:.1f},{:.1f} ", x, v.y(std::isfinite(p.low) ? double(p.low) : double(p.high))) + below;
  }
  if (!above.empty()) out += "<polygon class=\"band\" points=\"" + above + below + "\"/>\n";
  const auto& q = t.points;
  out += lines(v, t, s.stride, "high", [&](size_t i) { return double(q[i].high); });
  out += lines(v, t, s.stride, "low", [&](size_t i) { return double(q[i].low); });
  out += lines(r, t, s.stride, "room", [&](size_t i) { return double(q[i].bits); });
  out += lines(e, t, s.stride, "eta", [&](size_t i) {
    const double eta = forecast(t, int64_t(i), s.stride);
    return eta < 0 || eta > 1e6 ? NAN : std::log10(std::max(eta, 1.0));
  });
  for (size_t i = 0; i < q.size(); ++i)
    if (q[i].broken)
      out += fmt::format("<circle class=\"bad\" cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"3\"><title>step {}: {} NaN or infinite</title></circle>\n",
                         v.x(double(int64_t(i) * s.stride)), v.top, int64_t(i) * s.stride, q[i].broken);
  if (far <= 10 && out.find("class=\"eta\"") == std::string::npos)
    out += "<text x=\"487\" y=\"305\" text-anchor=\"middle\">headroom does not fall</text>\n";
  int label = 0;
  for (const StoryEvent& f : s.events) {
    if (f.at != int64_t(at)) continue;
    const double x = v.x(double(f.step));
    out += fmt::format("<line class=\"mark-{}\" x1=\"{:.1f}\" x2=\"{:.1f}\" y1=\"{:.0f}\" y2=\"{:.0f}\"><title>{}</title></line>\n",
                       class_of(f.severity), x, x, v.top - 16, e.bottom, escape(f.text));
    if (label++ < 4)
      out += fmt::format("<text class=\"{}\" x=\"{:.1f}\" y=\"{}\" text-anchor=\"{}\">{} at {}</text>\n", class_of(f.severity),
                         x > 700 ? x - 4 : x + 4, 12 + 13 * (label - 1), x > 700 ? "end" : "start",
                         escape(f.detector.empty() ? f.kind : f.detector), f.step);
  }
  return out + "</svg>\n";
}

std::string spark(const Story& s, const StorySite& t) {
  float most = 1;
  for (const StoryPoint& p : t.points)
    if (p.seen && std::isfinite(p.bits)) most = std::max(most, p.bits);
  const Panel p{
      .left = 1, .right = 159, .top = 2, .bottom = 20, .least = 0, .most = double(most), .steps = double(std::max<int64_t>(s.steps, 1))};
  std::string out = "<svg class=\"spark\" viewBox=\"0 0 160 22\" aria-hidden=\"true\">" +
                    lines(p, t, s.stride, "room", [&](size_t i) { return double(t.points[i].bits); });
  for (size_t i = 0; i < t.points.size(); ++i)
    if (t.points[i].broken)
      out += fmt::format("<circle class=\"bad\" cx=\"{:.1f}\" cy=\"20\" r=\"2\"/>", p.x(double(int64_t(i) * s.stride)));
  return out + "</svg>";
}

std::string event_card(const Story& s, const StoryEvent& e) {
  std::string out = fmt::format("<div class=\"card {}\"><h3><span class=\"tag {}\">{}</span>", class_of(e.severity), class_of(e.severity),
                                e.severity == Severity::info ? "note" : class_of(e.severity));
  const std::string where = escape(place(e.op, e.path, e.phase));
  out += e.at >= 0 ? fmt::format("<a href=\"#site-{}\">{}</a>", s.sites[size_t(e.at)].id, where) : where;
  out += fmt::format("</h3><p>{}</p><p class=\"soft\">step {}", escape(e.text), e.step);
  if (e.epoch > 0) out += fmt::format(", epoch {}", e.epoch);
  if (!e.detector.empty()) out += ", rule <i>" + escape(e.detector) + "</i>";
  if (e.eta >= 0) out += fmt::format(", out of range in about {} steps", e.eta);
  if (e.low > 0 || e.mean > 0) out += fmt::format(", magnitude at least {:.3g}, mean {:.3g}", e.low, e.mean);
  if (e.lost_ulps > 0) out += fmt::format(", {:.3g} ULPs lost", e.lost_ulps);
  if (e.count > 1) out += fmt::format(", {} times", e.count);
  if (!e.site.empty()) out += ", at <code>" + escape(e.site) + "</code>";
  out += "</p>";
  if (!e.advice.empty()) out += "<p class=\"do\">→ " + escape(e.advice) + "</p>";
  return out + "</div>\n";
}

}  // namespace

std::string story_page(const Story& s) {
  constexpr size_t kCharts = 48, kRows = 1000;
  std::string out =
      "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width, "
      "initial-scale=1\">\n<title>" +
      escape(s.file) + "</title>\n<style>" + kStyle + "</style></head>\n<body>\n<h1>" + escape(s.file) +
      "</h1>\n<p class=\"soft\">What the monitor saw" + (s.keel.empty() ? "" : ", Keel " + escape(s.keel)) +
      (s.isa.empty() ? "" : ", " + escape(s.isa)) + "</p>\n<div class=\"tiles\">";
  const auto tile = [&](int64_t n, const char* what, const char* kind) {
    out += fmt::format("<div class=\"tile\"><b class=\"{}\">{}</b>{}</div>", n ? kind : "", n, what);
  };
  tile(s.steps, "steps", ""), tile(int64_t(s.sites.size()) + s.more_sites, "sites", ""), tile(s.count(Severity::fault), "faults", "fault"),
      tile(s.count(Severity::warning), "warnings", "warning");
  tile(s.count(Severity::info), "notes", "");
  out += "</div>\n";
  if (s.damaged)
    out +=
        fmt::format("<p class=\"warning\">{} lines of the log could not be read; the first is line {}.</p>\n", s.damaged, s.first_damaged);
  if (s.cut_short) out += "<p class=\"soft\">The log's last line is not complete: the run goes on, or was killed.</p>\n";
  out += "<h2>What was found</h2>\n";
  if (s.events.empty()) out += "<p>Nothing: every value stayed in range, and no rule saw trouble coming.</p>\n";
  size_t shown_events = 0;
  for (const StoryEvent& e : s.events)
    if (shown_events++ < 200) out += event_card(s, e);
  if (const int64_t more = int64_t(s.events.size()) + s.more_events - 200; more > 0)
    out += fmt::format("<p class=\"soft\">... and {} more.</p>\n", more);

  out +=
      "<h2>Where values went</h2>\n<p class=\"soft\">The worst sites first. Headroom is the number of bits between the largest magnitude "
      "and the end of the dtype; steps left is what its trend over eight points leaves.</p>\n";
  size_t n = 0;
  for (; n < s.sites.size() && n < kCharts; ++n) {
    const StorySite& t = s.sites[n];
    if (t.points.empty()) continue;
    out += fmt::format(
        "<div class=\"site\" id=\"site-{}\"><h3>{} <span class=\"soft\">{}</span></h3><p class=\"soft\"><code>{}</code></p>\n{}</div>\n",
        t.id, escape(place(t.op, t.path, t.phase)), escape(t.dtype), escape(t.site), chart(s, n));
  }
  out +=
      "<h2>All sites</h2>\n<div class=\"scroll\"><table><thead><tr><th>op</th><th>path</th><th>phase</th><th>dtype</th><th>headroom over "
      "steps</th><th class=\"n\">least</th><th class=\"n\">last</th>"
      "<th class=\"n\">NaN, inf</th><th class=\"n\">subnormal</th><th class=\"n\">found</th></tr></thead><tbody>\n";
  for (size_t i = 0; i < s.sites.size() && i < kRows; ++i) {
    const StorySite& t = s.sites[i];
    const auto bits = [](float v) { return std::isfinite(v) ? fmt::format("{:.1f}", v) : std::string("-"); };
    const std::string op = escape(t.op + (t.output.empty() || t.output == "y" || t.output == "out" ? "" : "." + t.output));
    const std::string row_id = i < kCharts && !t.points.empty() ? "" : fmt::format(" id=\"site-{}\"", t.id);
    const std::string name = i < kCharts && !t.points.empty() ? fmt::format("<a href=\"#site-{}\">{}</a>", t.id, op) : op;
    out += fmt::format(
        "<tr{}><td>{}</td><td class=\"path\" title=\"{}\">{}</td><td>{}</td><td>{}</td><td>{}</td><td class=\"n\">{}</td><td "
        "class=\"n\">{}</td><td class=\"n{}\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td></tr>\n",
        row_id, name, escape(t.path), escape(t.path), escape(t.phase), escape(t.dtype), spark(s, t), bits(t.least), bits(t.last),
        t.broken ? " fault" : "", t.broken, t.subnormal, t.faults + t.warnings);
  }
  out += "</tbody></table></div>\n";
  if (const int64_t more = int64_t(s.sites.size()) + s.more_sites - int64_t(kRows); more > 0)
    out += fmt::format("<p class=\"soft\">... and {} more sites.</p>\n", more);
  return out + "</body></html>\n";
}

}  // namespace keel::app
