#pragma once
#include <string>
#include <vector>

#pragma GCC visibility push(default)
namespace keel::io {

struct ChartSeries {
  std::string name;
  std::vector<double> x, y;  ///< points that are not finite break the line
};

struct ChartOptions {
  std::string title = {}, x_label = {}, y_label = {};
  int width = 720, height = 420;  ///< pixels
  bool log_y = false;             ///< values that are not above zero break the line
};

/// A line chart as an SVG document: axes with round ticks, a grid, a legend where there is more than one series. Needs no font, script or
/// network.
std::string svg_chart(const std::vector<ChartSeries>& series, const ChartOptions& options = {});

}  // namespace keel::io
#pragma GCC visibility pop
