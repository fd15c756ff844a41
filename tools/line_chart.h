#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tools/render.h"

namespace ropewalk::tools {

/// Curves over one axis.
struct LineChart {
  struct Curve {
    std::string name;
    std::vector<std::pair<double, double>> points;  // x ascending
  };
  struct Mark {
    double at = 0;
    std::string name;
  };
  std::string title, x_axis, y_axis;
  bool log_x = false, log_y = false;  // log_x: marks at powers of two; what is not above 0 has no place on such a scale
  std::vector<Curve> curves = {};
  std::optional<Mark> upright = {}, level = {};  // lines across: a position, a limit
};
/// As an SVG 1.1 image of 480 units' width, whose letters stay readable on a phone, without scripts, in light or dark as
/// the viewer prefers. Curves differ in colour, dashes and markers; each is a <polyline class="curve ...">. One of a
/// single point is its marker. The same input gives the same bytes.
Drawing line_chart(const LineChart& chart);

}  // namespace ropewalk::tools
