#pragma once

#include <string>
#include <vector>

#include "tools/rope_report.h"

namespace ropewalk::tools {

struct RopeChartLabels {
  std::string title;
  int context = 0;  // 0: not known
  int sequence_length = 0;
};

/// The frequencies as an SVG 1.1 image, without scripts, in light or dark as the viewer prefers: above, radians per
/// token over the pairs before and after, the bands shaded and a line where one turn is the original context; below, by
/// what each pair is slowed. One curve per group; the first group's method gives bands and original context. Every
/// curve is a <polyline id="curve-N" ...>, its frequencies before <polyline id="before">, its slow-down id="slow-N";
/// the same input gives the same bytes. Of ropes per kind of layer the first kind with a method is drawn.
std::string rope_chart(const std::vector<RopeGroup>& groups, const RopeChartLabels& labels);

}  // namespace ropewalk::tools
