#pragma once

#include <optional>
#include <string>
#include <vector>

#include "tools/render.h"

namespace ropewalk::tools {

/// Shares over two axes.
struct HeatMap {
  std::string title;
  std::vector<std::string> columns, rows;  // what stands at the axes
  std::vector<std::vector<double>> share;  // [row][column], 0 to 1; NaN: there is none
};
/// One panel below the other as an SVG 1.1 image, without scripts, in light or dark as the viewer prefers. A cell's
/// colour goes from 0 (orange) over 0.5 (pale) to 1 (blue), and its percentage stands in it: nothing is told by colour
/// alone. Each is a <rect class="cell">. The same input gives the same bytes.
Drawing heat_maps(const std::string& title, const std::string& column_axis, const std::string& row_axis,
                  const std::vector<HeatMap>& maps);

}  // namespace ropewalk::tools
