#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "tools/render.h"
#include "tools/sweep_options.h"
#include "verify/block_mean.h"
#include "verify/gates.h"

namespace ropewalk::tools {

// Gates of commands whose figures are of a source at a place: a context or a task. NAME[@PLACE]=V, as verify's
// NAME[@FROM:TO]=V.

struct PlacedGate {
  std::string text;  // as given
  std::string name;
  std::optional<std::string> place;  // nullopt: wherever there is one of that name
  verify::Bound bound = verify::Bound::min;
  double limit = 0;
};
enum class FigureKind {
  number,
  share,   // of 1, shown in percent
  change,  // relative, shown in percent
};
struct KnownFigure {
  std::string name;
  FigureKind kind = FigureKind::number;
  std::string needs = {};  // an option that was not given, and without which there is none: "--baseline BASE"
};
/// Where figures are. of: a place as PlacedFigure spells it, nullopt if `name` has none there; noun: "a length of -c".
struct KnownPlaces {
  std::string noun;
  std::function<std::optional<std::string>(const std::string& name, const std::string& text)> of;
};
/// Contexts as places: "64k" of 65536.
KnownPlaces lengths_as_places(std::vector<int> contexts);
/// What --max and --min ask for. Error(usage) for a name or place that is not known and for a share past 1.
std::vector<PlacedGate> placed_gates(const std::vector<std::string>& max, const std::vector<std::string>& min,
                                     const std::vector<KnownFigure>& known, const KnownPlaces& places);

struct PlacedFigure {
  std::string source, name, place;
  Json place_json;  // the place as JSON has it
  double value = 0;
  FigureKind kind = FigureKind::number;
  std::optional<verify::Interval> interval = {};  // of longer texts, or more rows, of the kind; nullopt: not known
  std::string file = {};                          // that the source is of, for SARIF
};
/// Holds the value of every figure against every gate that names it, and says beside it the end of its interval on the
/// limit's side: a line and a check each, and body["gates"] with the place under `place_key`. True if all passed; a gate
/// that names no figure has failed, and so has one on a figure that is not finite.
bool judge_placed(const std::vector<PlacedGate>& gates, const std::vector<PlacedFigure>& figures,
                  const std::string& place_key, Output& output);

/// What a command has found, and how.
struct Judged {
  std::vector<PlacedGate> gates;
  std::vector<PlacedFigure> figures;
  std::string place_key;
  bool unmerged = false;
};
/// Judges and prints it, with the device and whether adapters were merged; nothing is left to go on with. The exit code.
int judge_and_emit(const Judged& judged, SweepDevice& device, const CommonOptions& common, const Io& io,
                   Output& output);

/// "12.5%"; "nan", "inf"
std::string percent_text(double share);

}  // namespace ropewalk::tools
