#include "tools/perplexity_results.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>

#include "tools/describe.h"
#include "tools/served_context.h"
#include "tools/units.h"
#include "tools/window_scores.h"

namespace ropewalk::tools {
namespace {

/// The ids of windows [first, last), counted through all plans.
std::vector<verify::Window> windows_of(const std::vector<verify::WindowPlan>& plans, const Documents& documents,
                                       std::size_t first, std::size_t last) {
  std::vector<verify::Window> windows;
  std::size_t before = 0;
  for (const verify::WindowPlan& plan : plans) {
    const std::size_t begin = std::clamp(first, before, before + plan.spans.size()) - before,
                      end = std::clamp(last, before, before + plan.spans.size()) - before;
    std::ranges::move(verify::window_ids(plan, documents, begin, end), std::back_inserter(windows));
    before += plan.spans.size();
  }
  return windows;
}

/// The source whose perplexities are before the extension.
const SourceResults* baseline_of(const ProtocolResults& results) {
  const auto found = std::ranges::find(results.sources, true, &SourceResults::is_baseline);
  return found == results.sources.end() ? nullptr : &*found;
}

/// How much more `source`'s perplexity is than the baseline's, by context; nullopt where it was not evaluated, NaN where
/// the two are of other tokens or one is no finite number.
std::vector<std::optional<double>> taxes_of(const ProtocolResults& results, const SourceResults& source) {
  std::vector<std::optional<double>> taxes(source.results.size());
  const SourceResults* base = baseline_of(results);
  if (!base || source.is_baseline) return taxes;
  for (std::size_t i = 0; i < taxes.size(); ++i)
    if (base->results[i] && source.results[i])
      taxes[i] = source.as_baseline && std::isfinite(base->results[i]->perplexity)
                     ? source.results[i]->perplexity / base->results[i]->perplexity - 1
                     : std::nan("");
  return taxes;
}

/// "256", or "255 to 2047" where each context or source has its own.
std::string stride_text(const ProtocolResults& results) {
  int least = std::numeric_limits<int>::max(), most = 0;
  for (const SourceResults& source : results.sources)
    for (const auto& result : source.results)
      if (result) least = std::min(least, result->stride), most = std::max(most, result->stride);
  return std::to_string(least) + (least == most ? "" : " to " + std::to_string(most));
}

Json bucket_json(const verify::PositionBucket& bucket) {
  return {{"from", bucket.from}, {"to", bucket.to}, {"nll", bucket.nll}, {"tokens", bucket.tokens}};
}

/// Published figures that may stand beside ours, a row for each source; what may not is named with the reason.
void add_published(const ProtocolResults& results, const std::vector<PublishedFigure>& published,
                   const std::vector<int>& contexts, bool truncated, const std::string& text_sha256, Table& table,
                   Output& output) {
  std::vector<std::string> names, left_out;
  const std::size_t first = table.rows.size();
  for (const PublishedFigure& figure : published) {
    const auto at = std::ranges::find(contexts, figure.context);
    if (at == contexts.end() || figure.protocol != verify::protocol_name(results.protocol)) continue;
    const std::size_t column = static_cast<std::size_t>(at - contexts.begin());
    const verify::PerplexityResult& own = *results.sources.front().results[column];
    if (const auto why = not_comparable(figure, own, truncated, text_sha256)) {
      left_out.push_back(figure.source + " at " + std::to_string(figure.context) + " (" + *why + ")");
      continue;
    }
    auto name = std::ranges::find(names, figure.source);
    if (name == names.end()) {
      name = names.insert(names.end(), figure.source);
      table.rows.emplace_back(contexts.size() + 1, "-").front() =
          figure.source + (figure.text_sha256 ? ", published" : ", published; its text is not known");
    }
    table.rows[first + static_cast<std::size_t>(name - names.begin())][column + 1] = fixed_text(figure.perplexity, 3);
    output.body["published"].push_back({{"source", figure.source},
                                        {"context", figure.context},
                                        {"protocol", figure.protocol},
                                        {"perplexity", figure.perplexity},
                                        {"text_known", figure.text_sha256.has_value()}});
  }
  if (left_out.empty()) return;
  std::string line = std::string("not beside protocol ") + verify::protocol_name(results.protocol) + ": ";
  for (const std::string& one : left_out) line += (&one == &left_out.front() ? "" : ", ") + one;
  output.warnings.push_back(line);
}

}  // namespace

int WindowOptions::asked_stride() const { return truncate ? std::numeric_limits<int>::max() / 2 : stride.value_or(0); }

SourceResults evaluate(const Opened& opened, const std::vector<int>& contexts, verify::Protocol protocol,
                       const WindowOptions& options, SweepDevice& device, const CommonOptions& common, const Io& io) {
  SourceResults out{opened.source.spec.text,    opened.is_baseline, opened.as_baseline, 0, {},
                    described_by(opened.source)};
  out.results.resize(contexts.size());
  if (opened.is_baseline) out.own_context = context_of(std::nullopt, opened.source.checkpoint);
  const std::size_t most =
      options.windows ? static_cast<std::size_t>(*options.windows) : std::numeric_limits<std::size_t>::max();
  std::vector<verify::WindowPlan> plans;
  std::vector<std::size_t> places, lengths;
  for (std::size_t i = 0; i < contexts.size(); ++i) {
    if (opened.is_baseline && contexts[i] > out.own_context) continue;
    plans.push_back(
        verify::plan_windows(opened.documents, contexts[i], options.asked_stride(), protocol, opened.bos, most));
    places.push_back(i);
    for (const verify::WindowSpan& span : plans.back().spans) lengths.push_back(static_cast<std::size_t>(span.size()));
  }
  if (plans.empty()) return out;
  const auto scores = score_windows(
      opened.source.checkpoint, lengths,
      [&](std::size_t first, std::size_t last) { return windows_of(plans, opened.documents, first, last); }, device,
      common, io);
  auto at = scores.begin();
  for (std::size_t i = 0; i < plans.size(); ++i) {
    const auto end = at + static_cast<std::ptrdiff_t>(plans[i].spans.size());
    verify::PerplexityResult result = verify::summarise(plans[i], {at, end}, options.last.value_or(0));
    if (options.truncate) result.stride = result.context - (opened.bos ? 1 : 0);  // what the repository sets it to
    out.results[places[i]] = std::move(result);
    at = end;
  }
  return out;
}

void add_tables(const ProtocolResults& results, const std::vector<int>& contexts, const WindowOptions& windows,
                const std::vector<PublishedFigure>& published, const std::string& text_sha256,
                const std::string& headline, Output& output) {
  Table table{{{"perplexity"}}, {}}, last, tax;
  for (int context : contexts) table.columns.push_back({std::to_string(context), true});
  last = tax = table;
  last.columns.front().heading = "last " + std::to_string(windows.last.value_or(0)) + " positions";
  tax.columns.front().heading = "short-context tax";
  for (const SourceResults& source : results.sources) {
    std::vector<std::string> row = {source.source}, last_row = row, tax_row = row;
    bool any_tax = false;
    const auto taxes = taxes_of(results, source);
    for (std::size_t i = 0; i < contexts.size(); ++i) {
      const auto& result = source.results[i];
      row.push_back(result ? fixed_text(result->perplexity, 3) : "-");
      last_row.push_back(result && result->last && result->last->tokens > 0 ? fixed_text(std::exp(result->last->nll), 3)
                                                                            : "-");
      tax_row.push_back(taxes[i] ? percent_text(*taxes[i]) : "-");
      any_tax = any_tax || taxes[i];
    }
    table.rows.push_back(std::move(row)), last.rows.push_back(std::move(last_row));
    if (any_tax) tax.rows.push_back(std::move(tax_row));
  }
  for (const SourceResults& source : results.sources)
    for (const auto& result : source.results)
      if (result && !std::isfinite(result->perplexity))
        output.warnings.push_back("'" + source.source + "' at " + std::to_string(result->context) +
                                  ": its perplexity is no finite number, which passes no gate");
  add_published(results, published, contexts, windows.truncate, text_sha256, table, output);
  output.text(std::string("protocol ") + verify::protocol_name(results.protocol) +
              (windows.truncate ? ", one window of each document" : ", stride " + stride_text(results)) + headline);
  output.table(std::move(table));
  if (windows.last) output.table(std::move(last));
  if (!tax.rows.empty()) output.table(std::move(tax));
}

void add_json(const ProtocolResults& results, const WindowOptions& windows, Output& output) {
  for (const SourceResults& source : results.sources) {
    const auto taxes = taxes_of(results, source);
    for (std::size_t i = 0; i < source.results.size(); ++i) {
      if (!source.results[i]) continue;
      const verify::PerplexityResult& result = *source.results[i];
      Json positions = Json::array();
      for (const verify::PositionBucket& bucket : result.positions) positions.push_back(bucket_json(bucket));
      output.body["results"].push_back({{"source", source.source},
                                        {"baseline", source.is_baseline},
                                        {"context", result.context},
                                        {"stride", result.stride},
                                        {"truncated", windows.truncate},
                                        {"protocol", verify::protocol_name(result.protocol)},
                                        {"perplexity", result.perplexity},
                                        {"nll", result.nll},
                                        {"tokens", result.tokens},
                                        {"windows", result.windows},
                                        {"positions", positions},
                                        {"last", result.last ? bucket_json(*result.last) : Json(nullptr)},
                                        {"short_context_tax", taxes[i] ? Json(*taxes[i]) : Json(nullptr)}});
    }
  }
}

std::vector<PlacedFigure> figures_of(const ProtocolResults& results, bool with_protocol) {
  std::vector<PlacedFigure> figures;
  for (const SourceResults& source : results.sources) {
    if (source.is_baseline) continue;
    const std::string name =
        source.source + (with_protocol ? std::string(" (") + verify::protocol_name(results.protocol) + ")" : "");
    const auto taxes = taxes_of(results, source);
    for (std::size_t i = 0; i < source.results.size(); ++i) {
      if (!source.results[i]) continue;
      const verify::PerplexityResult& result = *source.results[i];
      const auto add = [&](const char* figure, double value, FigureKind kind,
                           std::optional<verify::Interval> interval) {
        figures.push_back(
            {name, figure, std::to_string(result.context), result.context, value, kind, interval, source.file});
      };
      add("ppl", result.perplexity, FigureKind::number, result.interval);
      if (result.last && result.last->tokens > 0)
        add("ppl_last", std::exp(result.last->nll), FigureKind::number, result.last_interval);
      if (taxes[i]) add("short_context_tax", *taxes[i], FigureKind::change, std::nullopt);
    }
  }
  return figures;
}

}  // namespace ropewalk::tools
