#include "tools/gate_options.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "formats/rope_config.h"
#include "lib/error.h"
#include "tools/units.h"
#include "verify/confidence.h"

namespace ropewalk::tools {
namespace {

using verify::Bound;
using verify::FigureInfo;
using verify::GateRequest;
using verify::Positions;

[[noreturn]] void refuse(const std::string& problem, const std::string& fix) {
  throw Error(ErrorKind::usage, {}, problem, fix);
}

constexpr const char* kForm = "write NAME=V or NAME@FROM:TO=V, for example kl_mean@4k:=0.01";

[[noreturn]] void unreadable(std::string_view text, const std::string& problem) {
  refuse("gate '" + std::string(text) + "' " + problem, kForm);
}

int parse_position(std::string_view text, std::string_view gate) {
  if (text == "0") return 0;
  const std::optional<int> position = formats::parse_context(text);
  if (!position) unreadable(gate, "has '" + std::string(text) + "' where a position was expected");
  return *position;
}

Positions parse_positions(std::string_view range, std::string_view gate) {
  Positions out;
  const std::size_t colon = range.find(':');
  if (colon == std::string_view::npos) {
    parse_position(range, gate);
    unreadable(gate, "has one position, a range was expected");
  }
  if (colon > 0) out.from = parse_position(range.substr(0, colon), gate);
  if (colon + 1 < range.size()) out.to = parse_position(range.substr(colon + 1), gate);
  if (out.to && *out.to <= out.from) unreadable(gate, "has an empty range");
  return out;
}

const FigureInfo& parse_figure(std::string_view name) {
  const auto* found = std::ranges::find(verify::kFigures, name, &FigureInfo::name);
  if (found != std::end(verify::kFigures)) return *found;
  std::string names;
  for (const FigureInfo& figure : verify::kFigures) {
    if (&figure != verify::kFigures) names += &figure + 1 == std::end(verify::kFigures) ? " or " : ", ";
    names += figure.name;
  }
  refuse("gate '" + std::string(name) + "' is not known", "use " + names);
}

/// Error(usage) if `request` reaches past positions [0, context).
void check_range(const GateRequest& request, int context) {
  if (!request.positions) return;
  const auto& [from, to] = *request.positions;
  const FigureInfo& figure = verify::figure_info(request.figure);
  const int last = context - (figure.of_losses ? 1 : 0);  // nothing follows a window's last token
  if (from < last && to.value_or(0) <= context) return;
  refuse("gate '" + std::string(figure.name) + "@" + std::to_string(from) + ":" + (to ? std::to_string(*to) : "") +
             "' reaches past the context evaluated, whose positions are 0:" + std::to_string(context),
         "give a larger -c or a range within it");
}

}  // namespace

std::optional<double> limit_from(std::string_view text) {
  const bool percent = text.ends_with('%');
  if (percent) text.remove_suffix(1);
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(value)) return std::nullopt;
  return percent ? value / 100 : value;
}

double parse_limit(std::string_view text, std::string_view gate, const std::string& fix) {
  const std::optional<double> value = limit_from(text);
  if (!value)
    refuse("gate '" + std::string(gate) + "' has '" + std::string(text) + "' where a finite number was expected", fix);
  return *value;
}

void declare_gates(CommandLine& line, GateOptions& options) {
  std::string names;
  for (const FigureInfo& figure : verify::kFigures)
    if (figure.figure != verify::Figure::top1) names += (names.empty() ? "" : ", ") + std::string(figure.name);
  line.option("--max", options.max, "NAME[@FROM:TO]=V",
              "upper bound on a figure (" + names +
                  "). Replaces the default of that name and range; positions within the context. Repeatable");
  line.option("--min", options.min, "NAME[@FROM:TO]=V", "lower bound, e.g. top1=98%. Repeatable");
}

GateRequest parse_gate(Bound bound, std::string_view text) {
  const std::size_t equals = text.find('=');
  if (equals == std::string_view::npos) unreadable(text, "has no NAME=V");
  const std::string_view left = text.substr(0, equals);
  const std::size_t at = left.find('@');
  const std::string_view name = left.substr(0, at);
  if (name.empty()) unreadable(text, "has no NAME=V");
  const FigureInfo& figure = parse_figure(name);
  const double limit = parse_limit(text.substr(equals + 1), text, kForm);
  GateRequest out{figure.figure, bound, limit};
  if (at != std::string_view::npos) out.positions = parse_positions(left.substr(at + 1), text);
  if (out.positions && !figure.ranged)
    refuse("gate '" + std::string(left) + "' has no value on a range of positions", "leave the range out");
  if (figure.figure == verify::Figure::top1 && !(limit >= 0 && limit <= 1))
    refuse("gate 'top1' has a limit of " + number_text(limit, 6) + ", shares go up to 1", "write 98% or 0.98");
  if (!std::isfinite(verify::fewest_positions(out)))
    refuse("gate '" + std::string(text) + "' asks for a share of 1, which no number of positions can show",
           "write 99.9%, or bound every position: --max kl_max=V");
  return out;
}

std::vector<GateRequest> asked_gates(const GateOptions& options, int context) {
  std::vector<GateRequest> asked;
  for (const std::string& text : options.max) asked.push_back(parse_gate(Bound::max, text));
  for (const std::string& text : options.min) asked.push_back(parse_gate(Bound::min, text));
  if (context > 0)
    for (const GateRequest& request : asked) check_range(request, context);
  return asked;
}

std::vector<GateRequest> with_defaults(const std::vector<GateRequest>& asked, DType encoding) {
  std::vector<GateRequest> requests = verify::default_gates(encoding);
  std::erase_if(requests, [&](const GateRequest& standard) {
    return std::ranges::any_of(asked, [&](const GateRequest& request) {
      return request.figure == standard.figure && request.bound == standard.bound && !request.positions;
    });
  });
  requests.insert(requests.end(), asked.begin(), asked.end());
  return requests;
}

}  // namespace ropewalk::tools
