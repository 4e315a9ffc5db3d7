#include "keel/io/svg_chart.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <iterator>
#include <string_view>
#include <utility>

namespace keel::io {
namespace {

// Colours that people with any colour vision tell apart (Okabe and Ito, 2008).
constexpr const char* kColours[] = {"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#8a8a00"};

std::string escaped(std::string_view s) {
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
    else if (static_cast<unsigned char>(c) >= 0x20)
      out += c;
  }
  return out;
}

std::string number(double v, const char* format = "%.2f") {
  char text[64];
  std::snprintf(text, sizeof text, format, v);
  return text;
}

// An axis from data to pixels, with ticks at 1, 2 or 5 times a power of ten, or at powers of ten.
struct Axis {
  double low = 0, high = 1, from = 0, to = 1;
  bool log = false;
  std::vector<double> ticks;

  double map(double v) const { return log ? std::log10(v) : v; }
  double at(double v) const { return from + (map(v) - low) / (high - low) * (to - from); }

  void fit(double least, double most) {
    low = map(least), high = map(most);
    if (!(high - low > 1e-12 * std::max(std::fabs(low), std::fabs(high)))) {
      const double pad = low == 0 ? 1 : std::max(std::fabs(low) * 0.1, 1e-300);
      low -= pad, high += pad;
    }
    const double span = high - low;
    if (log && span >= 0.9) {
      low = std::floor(low + 1e-9), high = std::ceil(high - 1e-9);
      const double step = std::max(1.0, std::ceil((high - low) / 8));
      for (double e = low; e <= high + 0.5; e += step) ticks.push_back(std::pow(10, e));
      return;
    }
    const double raw = span / 6, power = std::pow(10, std::floor(std::log10(raw))), lead = raw / power;
    const double step = power * (lead <= 1 ? 1 : lead <= 2 ? 2 : lead <= 5 ? 5 : 10);
    if (!log) low = std::floor(low / step) * step, high = std::ceil(high / step) * step;
    for (double k = std::ceil(low / step - 1e-9); k * step <= high + step * 1e-9 && ticks.size() < 50; ++k)
      ticks.push_back(log ? std::pow(10, k * step) : k * step);
  }
};

std::string label(double v, double scale) { return number(std::fabs(v) < scale * 1e-9 ? 0.0 : v, "%.4g"); }

}  // namespace

std::string svg_chart(const std::vector<ChartSeries>& series, const ChartOptions& o) {
  const auto visible = [&](double x, double y) { return std::isfinite(x) && std::isfinite(y) && (!o.log_y || y > 0); };
  double least_x = INFINITY, most_x = -INFINITY, least_y = INFINITY, most_y = -INFINITY;
  for (const auto& s : series)
    for (size_t i = 0; i < std::min(s.x.size(), s.y.size()); ++i)
      if (visible(s.x[i], s.y[i])) {
        least_x = std::min(least_x, s.x[i]), most_x = std::max(most_x, s.x[i]);
        least_y = std::min(least_y, s.y[i]), most_y = std::max(most_y, s.y[i]);
      }
  if (!(least_x <= most_x)) least_x = 0, most_x = 1, least_y = o.log_y ? 0.1 : 0, most_y = 1;

  const double left = 72, right = o.width - 20.0, top = o.title.empty() ? 20 : 44, bottom = o.height - (o.x_label.empty() ? 36.0 : 54.0);
  Axis x, y;
  x.from = left, x.to = right, y.from = bottom, y.to = top, y.log = o.log_y;
  x.fit(least_x, most_x);
  y.fit(least_y, most_y);

  const std::string w = std::to_string(o.width), h = std::to_string(o.height);
  std::string svg = "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"" + w + "\" height=\"" + h + "\" viewBox=\"0 0 " + w + " " + h +
                    "\" font-family=\"sans-serif\" font-size=\"12\">\n";
  svg += "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n";
  const auto text = [&](double px, double py, const char* anchor, std::string_view content, const std::string& more = {}) {
    svg += "<text x=\"" + number(px) + "\" y=\"" + number(py) + "\" text-anchor=\"" + anchor + "\"" + more + ">" + escaped(content) +
           "</text>\n";
  };
  const auto line = [&](double x1, double y1, double x2, double y2, const char* colour) {
    svg += "<line x1=\"" + number(x1) + "\" y1=\"" + number(y1) + "\" x2=\"" + number(x2) + "\" y2=\"" + number(y2) + "\" stroke=\"" +
           colour + "\"/>\n";
  };
  if (!o.title.empty()) text(o.width / 2.0, 26, "middle", o.title, " font-size=\"16\"");
  for (const double t : x.ticks) {
    line(x.at(t), top, x.at(t), bottom, "#e0e0e0");
    text(x.at(t), bottom + 18, "middle", label(t, x.high - x.low));
  }
  for (const double t : y.ticks) {
    line(left, y.at(t), right, y.at(t), "#e0e0e0");
    text(left - 8, y.at(t) + 4, "end", y.log ? number(t, "%.4g") : label(t, y.high - y.low));
  }
  line(left, bottom, right, bottom, "#404040");
  line(left, top, left, bottom, "#404040");
  if (!o.x_label.empty()) text((left + right) / 2, o.height - 12.0, "middle", o.x_label);
  if (!o.y_label.empty())
    text(18, (top + bottom) / 2, "middle", o.y_label, " transform=\"rotate(-90 18 " + number((top + bottom) / 2) + ")\"");

  for (size_t k = 0; k < series.size(); ++k) {
    const auto& s = series[k];
    const std::string colour = kColours[k % std::size(kColours)];
    std::string points;
    size_t run = 0;
    const auto finish = [&] {
      if (run == 1)
        svg += "<circle cx=\"" + points.substr(0, points.find(',')) + "\" cy=\"" + points.substr(points.find(',') + 1) +
               "\" r=\"2.5\" fill=\"" + colour + "\"/>\n";
      if (run > 1) svg += "<polyline fill=\"none\" stroke=\"" + colour + "\" stroke-width=\"1.6\" points=\"" + points + "\"/>\n";
      points.clear(), run = 0;
    };
    for (size_t i = 0; i < std::min(s.x.size(), s.y.size()); ++i) {
      if (!visible(s.x[i], s.y[i])) {
        finish();
        continue;
      }
      points += (run++ > 0 ? " " : "") + number(x.at(s.x[i])) + "," + number(y.at(s.y[i]));
    }
    finish();
    if (series.size() < 2) continue;
    const double row = top + 14 + 18.0 * static_cast<double>(k);
    svg += "<line x1=\"" + number(right - 150) + "\" y1=\"" + number(row - 4) + "\" x2=\"" + number(right - 126) + "\" y2=\"" +
           number(row - 4) + "\" stroke=\"" + colour + "\" stroke-width=\"3\"/>\n";
    text(right - 120, row, "start", s.name);
  }
  return svg + "</svg>\n";
}

}  // namespace keel::io
