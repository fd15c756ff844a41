#include "tools/verify_charts.h"

#include <algorithm>
#include <cmath>

#include "tools/line_chart.h"
#include "tools/units.h"

namespace ropewalk::tools {
namespace {

/// Stretches of positions that grow by a constant factor, about 40 of them: enough to see a step, few enough that each holds
/// some tokens. Drawn at their middle, positions counted from 1.
struct Stretch {
  double at;
  verify::PairPosition sum;
};
std::vector<Stretch> stretches(const verify::LogitsReport& report) {
  constexpr int kStretches = 40;
  const auto n = double(report.by_position.size());
  std::vector<Stretch> out;
  int from = 0;
  for (int k = 1; k <= kStretches; ++k) {
    const int to = int(std::lround(std::pow(n, double(k) / kStretches)));
    if (to <= from) continue;
    out.push_back({std::sqrt(double(from + 1) * double(to)), verify::sum_positions(report.by_position, from, to)});
    from = to;
  }
  return out;
}

std::optional<LineChart::Mark> limit_of(const std::vector<verify::Gate>& gates, std::string_view name) {
  for (const verify::Gate& gate : gates)
    if (gate.name == name && !gate.positions) return LineChart::Mark{gate.limit, "limit " + number_text(gate.limit, 3)};
  return std::nullopt;
}

Drawing kl_chart(const Verdict& verdict) {
  LineChart chart{.title = "KL by position",
                  .x_axis = "position in the window",
                  .y_axis = "mean KL(source || candidate), nats",
                  .log_x = true,
                  .log_y = true};
  LineChart::Curve& curve = chart.curves.emplace_back();
  for (const Stretch& one : stretches(verdict.logits->report)) curve.points.emplace_back(one.at, one.sum.kl_mean());
  chart.level = limit_of(verdict.logits->gates, "kl_mean");
  if (verdict.original_context > 0)
    chart.upright = {double(verdict.original_context), "original context " + std::to_string(verdict.original_context)};
  return line_chart(chart);
}

Drawing perplexity_chart(const Verdict& verdict) {
  LineChart chart{.title = "Perplexity by position",
                  .x_axis = "position in the window",
                  .y_axis = "perplexity of the tokens there",
                  .log_x = true,
                  .curves = {{"source", {}}, {"candidate", {}}}};
  double least = INFINITY, most = 0;
  for (const Stretch& one : stretches(verdict.logits->report)) {
    if (one.sum.scored == 0) continue;
    const double scored = double(one.sum.scored), source = std::exp(one.sum.nll_source / scored),
                 candidate = std::exp(one.sum.nll_candidate / scored);
    chart.curves[0].points.emplace_back(one.at, source), chart.curves[1].points.emplace_back(one.at, candidate);
    least = std::min({least, source, candidate}), most = std::max({most, source, candidate});
  }
  chart.log_y = most > 20 * least;
  return line_chart(chart);
}

Drawing layer_chart(const Verdict& verdict) {
  LineChart chart{.title = "Distance by layer",
                  .x_axis = "after layer",
                  .y_axis = "mean |source - candidate| / |source| of hidden states",
                  .log_y = true};
  LineChart::Curve& curve = chart.curves.emplace_back();
  const std::vector<double>& layers = verdict.logits->report.layers;
  for (std::size_t layer = 0; layer < layers.size(); ++layer) curve.points.emplace_back(double(layer), layers[layer]);
  return line_chart(chart);
}

Drawing rope_spectrum(const Verdict& verdict) {
  LineChart chart{.title = "Rope at " + std::to_string(verdict.context) + " tokens",
                  .x_axis = "pair of channels",
                  .y_axis = "radians per token",
                  .log_y = true};
  const auto add = [&](const std::string& who, const RopeTable& rope) {
    LineChart::Curve& curve =
        chart.curves.emplace_back(who + ", attention factor " + number_text(rope.attention_factor, 5));
    for (std::size_t pair = 0; pair < rope.inv_freq.size(); ++pair)
      curve.points.emplace_back(double(pair), rope.inv_freq[pair]);
  };
  add("source", verdict.source_rope), add("candidate", verdict.candidate_rope);
  return line_chart(chart);
}

}  // namespace

std::vector<Drawing> verify_drawings(const Verdict& verdict) {
  std::vector<Drawing> out;
  if (verdict.logits && !verdict.logits->report.by_position.empty()) {
    out.push_back(kl_chart(verdict));
    out.push_back(perplexity_chart(verdict));
    if (!verdict.logits->report.layers.empty()) out.push_back(layer_chart(verdict));
  }
  out.push_back(rope_spectrum(verdict));
  return out;
}

}  // namespace ropewalk::tools
