#include "tools/placed_gates.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "formats/rope_config.h"
#include "lib/error.h"
#include "lib/nearest_word.h"
#include "lib/plural.h"
#include "tools/gate_options.h"
#include "tools/sarif.h"
#include "tools/units.h"

namespace ropewalk::tools {
namespace {

PlacedGate parse(verify::Bound bound, const std::string& text, const std::vector<KnownFigure>& known,
                 const KnownPlaces& places) {
  const std::size_t equals = text.find('='), at = std::min(text.find('@'), equals);
  const std::string name = text.substr(0, at);
  std::vector<std::string> names;
  for (const KnownFigure& figure : known) names.push_back(figure.name);
  const auto figure = std::ranges::find(known, name, &KnownFigure::name);
  if (equals == std::string::npos || figure == known.end()) {
    const auto near = nearest_word(name, names);
    throw Error(ErrorKind::usage, {}, "gate '" + text + "' is not known",
                near && *near != name ? "did you mean " + *near + "?"
                                      : "write NAME=V or NAME@WHERE=V; names are " + listed(names));
  }
  if (!figure->needs.empty())
    throw Error(ErrorKind::usage, {}, "gate '" + text + "' needs " + figure->needs + ", which is not given",
                "add it, or leave the gate out");
  PlacedGate gate{text, name, std::nullopt, bound,
                  parse_limit(std::string_view(text).substr(equals + 1), text,
                              "write " + text.substr(0, equals) + "=V, V such as " +
                                  (figure->kind == FigureKind::number ? "4.6" : "5% or 0.05"))};
  if (figure->kind == FigureKind::share && !(gate.limit >= 0 && gate.limit <= 1))
    throw Error(ErrorKind::usage, {}, "gate '" + text + "' has a limit past what a share can be", "write 90% or 0.9");
  if (at < equals) {
    gate.place = places.of(name, text.substr(at + 1, equals - at - 1));
    if (!gate.place)
      throw Error(ErrorKind::usage, {}, "gate '" + text + "' does not name " + places.noun,
                  "name one, or leave '@' and what follows it out for all");
  }
  return gate;
}

std::string value_text(double value, FigureKind kind) {
  if (std::isnan(value)) return "no number";
  return kind == FigureKind::number ? number_text(value, 6) : percent_text(value);
}

}  // namespace

std::string percent_text(double share) {
  return std::isfinite(share) ? fixed_text(share * 100, 1) + "%" : number_text(share, 3);
}

KnownPlaces lengths_as_places(std::vector<int> contexts) {
  return {"a length of -c",
          [contexts = std::move(contexts)](const std::string&, const std::string& text) -> std::optional<std::string> {
            const auto context = formats::parse_context(text);
            if (!context || std::ranges::find(contexts, *context) == contexts.end()) return std::nullopt;
            return std::to_string(*context);
          }};
}

std::vector<PlacedGate> placed_gates(const std::vector<std::string>& max, const std::vector<std::string>& min,
                                     const std::vector<KnownFigure>& known, const KnownPlaces& places) {
  std::vector<PlacedGate> gates;
  for (const std::string& text : max) gates.push_back(parse(verify::Bound::max, text, known, places));
  for (const std::string& text : min) gates.push_back(parse(verify::Bound::min, text, known, places));
  return gates;
}

bool judge_placed(const std::vector<PlacedGate>& gates, const std::vector<PlacedFigure>& figures,
                  const std::string& place_key, Output& output) {
  bool all = true;
  output.body["gates"] = Json::array();
  for (const PlacedGate& gate : gates) {
    bool any = false;
    for (const PlacedFigure& figure : figures) {
      if (figure.name != gate.name || (gate.place && *gate.place != figure.place)) continue;
      any = true;
      const bool pass = verify::holds(gate.bound, figure.value, gate.limit);
      const bool least = gate.bound == verify::Bound::min;
      const std::string words = least ? "at least " : "at most ",
                        name = figure.source + ": " + figure.name + "@" + figure.place;
      std::string found =
          value_text(figure.value, figure.kind) + ", " + words + value_text(gate.limit, figure.kind) + " asked for";
      Json confident;
      if (figure.interval) {
        const double end = least ? figure.interval->low : figure.interval->high;
        if (std::isfinite(end))
          confident = end, found += "; with 95 % confidence " + words + value_text(end, figure.kind);
        else found += "; too little was scored for a confidence bound";
      }
      output.checks.push_back({name, pass, found, figure.name, figure.file});
      output.text((pass ? "passed " : "FAILED ") + name + " is " + found);
      output.body["gates"].push_back({{"source", figure.source},
                                      {"name", figure.name},
                                      {place_key, figure.place_json},
                                      {"value", figure.value},
                                      {"bound", verify::name(gate.bound)},
                                      {"limit", gate.limit},
                                      {"confident", confident},
                                      {"pass", pass}});
      all = all && pass;
    }
    if (any) continue;
    output.checks.push_back(
        {gate.text, false, "nothing to hold it against", gate.name, figures.empty() ? "" : figures.front().file});
    output.text("FAILED " + gate.text + ": nothing to hold it against");
    all = false;
  }
  return all;
}

int judge_and_emit(const Judged& judged, SweepDevice& device, const CommonOptions& common, const Io& io,
                   Output& output) {
  const bool pass = judge_placed(judged.gates, judged.figures, judged.place_key, output);
  output.body["device"] = device_json(device);
  output.body["unmerged"] = judged.unmerged;
  output.sarif = sarif_log(output.checks);
  emit(output, common, io);
  forget_sweeps(device);
  return pass ? 0 : 1;
}

}  // namespace ropewalk::tools
