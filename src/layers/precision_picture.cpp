// The profile as a picture: one row of exponents an entry, the ranges of the formats above and behind them.
#include <algorithm>
#include <cmath>
#include <cstdio>

#include "keel/precision_profile.h"

namespace keel {
namespace {

std::string number(double v) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f", v);
  return text;
}

std::string escaped(const std::string& s) {
  std::string out;
  for (char c : s)
    if (c == '&' || c == '<' || c == '>' || c == '"')
      out += "&#" + std::to_string(int(c)) + ";";
    else
      out += c;
  return out;
}

/// Exponents of the smallest subnormal, the smallest normal and the largest value.
struct Range {
  const char* name;
  int subnormal, normal, top;
  const char* colour;
};
constexpr Range kRanges[] = {{"f8e4m3fn", -9, -6, 8, "#c0392b"},
                             {"f8e5m2", -16, -14, 15, "#d68910"},
                             {"f16", -24, -14, 15, "#2471a3"},
                             {"bf16", -133, -126, 127, "#1e8449"}};

constexpr const char* colour_of(PrecisionProfile::Kind k) {
  constexpr const char* colours[] = {"#34495e", "#884ea0", "#117a65", "#b9770e"};
  return colours[int(k)];
}

}  // namespace

std::string PrecisionProfile::svg() const {
  int low = -26, high = 17;
  for (const Entry& e : entries)
    if (e.report.nonzero)
      low = std::min(low, std::max(-150, e.report.exponent_low - 2)),
      high = std::max(high, std::min(130, int(std::ilogb(e.report.amax)) + 2));
  constexpr double kLabel = 330, kPlot = 720, kRow = 26, kTop = 92;
  const double width = kLabel + kPlot + 20, height = kTop + kRow * double(entries.size()) + 34, step = kPlot / double(high + 1 - low);
  const auto x = [&](int e) { return kLabel + step * double(std::clamp(e, low, high + 1) - low); };
  std::string s = "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"" + number(width) + "\" height=\"" + number(height) +
                  "\" viewBox=\"0 0 " + number(width) + " " + number(height) +
                  "\" font-family=\"sans-serif\" font-size=\"11\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n";
  const auto rect = [&](double left, double top, double w, double h, const char* fill, double opacity) {
    char text[200];
    std::snprintf(text, sizeof text, "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" fill=\"%s\" fill-opacity=\"%.2f\"/>\n",
                  left, top, w, h, fill, opacity);
    s += text;
  };
  const auto text = [&](double left, double top, const char* anchor, const std::string& what, const char* fill = "#222") {
    s += "<text x=\"" + number(left) + "\" y=\"" + number(top) + "\" text-anchor=\"" + anchor + "\" fill=\"" + fill + "\">" +
         escaped(what) + "</text>\n";
  };
  const double bottom = kTop + kRow * double(entries.size());
  double band = 12;
  for (const Range& r : kRanges) {
    rect(x(r.normal), band, x(r.top + 1) - x(r.normal), 12, r.colour, 0.75);
    rect(x(r.subnormal), band, x(r.normal) - x(r.subnormal), 12, r.colour, 0.3);
    text(kLabel - 8, band + 10, "end", r.name, r.colour);
    for (int edge : {r.normal, r.top + 1})
      if (edge > low && edge <= high) rect(x(edge) - 0.5, band, 1, bottom - band, r.colour, 0.35);
    band += 17;
  }
  for (int e = low - low % 8; e <= high; e += 8)
    if (e >= low) text(x(e), bottom + 16, "middle", "2^" + std::to_string(e), "#666");
  text(kLabel + kPlot / 2, bottom + 30, "middle", "magnitude; solid bands: normal values of a format, pale: subnormal", "#666");
  double top = kTop;
  for (const Entry& e : entries) {
    const std::string what = e.path + (e.path.empty() ? "" : " ") + label(e);
    text(kLabel - 8, top + 17, "end", what.size() > 52 ? "..." + what.substr(what.size() - 49) : what, colour_of(e.kind));
    const std::vector<int64_t> h = e.report.histogram();
    const int first = e.report.least_exponent();
    double most = 0;
    for (int64_t n : h) most = std::max(most, double(n));
    for (size_t i = 0; i < h.size(); ++i)
      if (const int at = first + int(i); h[i] && at >= low && at <= high) {  // the root, so that rare values show
        const double tall = std::max(1.0, (kRow - 4) * std::sqrt(double(h[i]) / most));
        rect(x(at), top + kRow - 2 - tall, std::max(0.8, step - 0.4), tall, colour_of(e.kind), 0.85);
      }
    rect(kLabel, top + kRow - 2, kPlot, 0.6, "#bbb", 1);
    top += kRow;
  }
  return s + "</svg>\n";
}

std::string PrecisionProfile::html() const {
  return "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Precision profile</title></head>\n<body "
         "style=\"font-family:sans-serif;margin:2em\">\n"
         "<h1 style=\"font-size:1.3em\">Precision profile</h1>\n" +
         svg() + "<pre style=\"font-size:12px\">" + escaped(text()) + "</pre>\n</body></html>\n";
}

}  // namespace keel
