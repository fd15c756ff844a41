#pragma once

#include <string>
#include <vector>

#include "tools/rope_report.h"

namespace ropewalk::tools {

struct RopeChartLabels {
  std::string title;
  int context = 0;  // that the files declare; 0: not known
  int sequence_length = 0;
  std::vector<std::string> without;  // who has no curve, and why: "exllamav2 0.3.2 does not load it"
};

/// The frequencies as an SVG 1.1 image, without scripts, in light or dark as the viewer prefers: above, radians per
/// token over the pairs before and after, the bands shaded and a line where one turn is the original context; below, by
/// what each pair is slowed, or made faster. One curve for readings that turn alike, which the legend names with the
/// rope each has; the first reading gives bands, original context and the kinds of layers, each of which has plots of
/// its own. A reading with ropes of other kinds only has no curve there, and the legend says so. Every curve is a
/// <polyline id="curve-N" ...>, its frequencies before <polyline id="before">, its slow-down id="slow-N"; those of the
/// second kind of layer end in -layers-1, and so on. The same input gives the same bytes.
std::string rope_chart(const std::vector<RopeGroup>& readings, const RopeChartLabels& labels);

}  // namespace ropewalk::tools
