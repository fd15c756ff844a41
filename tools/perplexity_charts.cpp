#include "tools/perplexity_charts.h"

#include <algorithm>
#include <cmath>

#include "tools/line_chart.h"

namespace ropewalk::tools {
namespace {

/// A scale by logarithms where a model that collapses would press the others flat.
Drawing drawn(LineChart chart) {
  double least = INFINITY, most = 0;
  for (const LineChart::Curve& curve : chart.curves)
    for (const auto& [x, y] : curve.points)
      if (std::isfinite(y)) least = std::min(least, y), most = std::max(most, y);
  chart.log_y = most > 20 * least;
  return line_chart(chart);
}

}  // namespace

std::vector<Drawing> perplexity_drawings(const std::vector<PerplexityRow>& rows) {
  const verify::PerplexityResult& any = rows.front().results.front();
  const std::string protocol = std::string(", protocol ") + verify::protocol_name(any.protocol);
  LineChart by_context{
      .title = "Perplexity by context" + protocol, .x_axis = "context, tokens", .y_axis = "perplexity", .log_x = true};
  LineChart by_position = by_context;
  int longest = 0;
  for (const PerplexityRow& row : rows) {
    std::vector<verify::PerplexityResult> results = row.results;
    std::ranges::sort(results, {}, &verify::PerplexityResult::context);
    LineChart::Curve &contexts = by_context.curves.emplace_back(row.source),
                     &positions = by_position.curves.emplace_back(row.source);
    for (const auto& result : results) contexts.points.emplace_back(result.context, result.perplexity);
    longest = std::max(longest, results.back().context);
    for (const verify::PositionBucket& bucket : results.back().positions)
      positions.points.emplace_back(std::sqrt(double(bucket.from) * double(bucket.to)), std::exp(bucket.nll));
  }
  by_position.title = "Perplexity by position at " + std::to_string(longest) + protocol;
  by_position.x_axis = "position in the window";
  std::vector<Drawing> out;
  const bool several = std::ranges::any_of(rows, [](const PerplexityRow& row) { return row.results.size() > 1; });
  if (several) out.push_back(drawn(by_context));
  out.push_back(drawn(by_position));
  return out;
}

}  // namespace ropewalk::tools
