#include "tools/rope_report.h"

#include <cmath>

#include "lib/rope_bands.h"
#include "lib/rope_coverage.h"
#include "tools/units.h"

namespace ropewalk::tools {

std::string frequency_text(double f) { return f == 0 ? "0" : number_text(f, 5); }
std::string ratio_text(double ratio) {
  return std::isinf(ratio) ? "stands still" : (ratio < 1e6 ? fixed_text(ratio, 2) : number_text(ratio, 3)) + "x";
}
std::string factor_text(double a) { return a < 1e6 ? fixed_text(a, 4) : number_text(a, 5); }

namespace {

using formats::WantedLayer;

/// "21 untouched (0-20), 25 blended (21-45), 18 interpolated (46-63)"
std::string band_text(const std::vector<RopePair>& pairs) {
  std::string out;
  for (std::size_t from = 0; from < pairs.size();) {
    std::size_t to = from;
    while (to < pairs.size() && pairs[to].band == pairs[from].band) ++to;
    out += (out.empty() ? "" : ", ") + std::to_string(to - from) + " " + rope_band_name(pairs[from].band) + " (" +
           std::to_string(from) + (to - from > 1 ? "-" + std::to_string(to - 1) : "") + ")";
    from = to;
  }
  return out;
}

Table pair_table(const std::vector<RopePair>& pairs) {
  Table table{{{"pair", true},
               {"wavelength", true},
               {"turns", true},
               {"frequency before", true},
               {"after", true},
               {"slower by", true},
               {"band"}},
              {}};
  for (std::size_t index = 0; index < pairs.size(); ++index) {
    const RopePair& pair = pairs[index];
    table.rows.push_back({std::to_string(index), fixed_text(pair.wavelength, 1), fixed_text(pair.turns, 2),
                          frequency_text(pair.before), frequency_text(pair.after),
                          pair.after > 0 ? ratio_text(pair.before / pair.after) : "-", rope_band_name(pair.band)});
  }
  return table;
}

Table provenance_table(const RopeSource& source, const RopeSpec& spec) {
  constexpr std::size_t kWidest = 92;  // beside the longest field, of 120 columns
  Table table{{{"field"}, {"from"}}, {}};
  for (const RopeProvenance& from : spec.provenance) {
    std::string place = place_of(source, from);
    if (const std::size_t name = place.find(':'); place.size() > kWidest && name != std::string::npos)
      place = "line " + place.substr(name + 1);  // of the one file there is
    table.rows.push_back({from.field, std::move(place)});
  }
  return table;
}

void show_layer(Output& output, const RopeSource& source, const WantedLayer& layer, int sequence_length) {
  const int context = source.meant->context, original = trained_on(source, layer), reach = reach_of(source, layer);
  const std::vector<RopePair> pairs = rope_pairs(layer.spec, original, sequence_length);
  const RopeCoverage coverage = rope_coverage(unscaled_rope(layer.spec), original, layer.spec, std::max(1, reach));
  const double a = rope_table(layer.spec, sequence_length).attention_factor;
  std::vector<std::pair<std::string, std::string>> lines = {{"source", source.text}, {"read as", source.read_as}};
  if (!layer.layer_type.empty()) lines.emplace_back("layers", layer.layer_type);
  lines.emplace_back("rope", describe(layer.spec));
  // rope_freqs.weight may hold a scaling whose original context nobody wrote down
  const bool known = layer.spec.frequency_divisors.empty() || rope_original_context(layer.spec);
  const std::string told = plural(std::uint64_t(original), "token");
  lines.emplace_back("original context",
                     known ? told : "not known: rope_freqs.weight does not say it; below it counts as " + told);
  lines.emplace_back("context", plural(std::uint64_t(context), "token"));
  if (depends_on_length(layer.spec))
    lines.emplace_back("sequence", plural(std::uint64_t(sequence_length), "token") + ", on which this rope depends");
  lines.emplace_back("attention factor",
                     factor_text(a) + (a == 1 ? "" : ", so attention logits are multiplied by " + factor_text(a * a)));
  lines.emplace_back("pairs", band_text(pairs));
  const double unseen = coverage.unseen_angle_ratio;
  lines.emplace_back("unseen angles",
                     unseen == 0
                         ? "none: every pair completes a turn in " + std::to_string(original) + " tokens"
                         : "at " + std::to_string(reach) + " tokens" + (reach < context ? ", the window," : "") +
                               " the largest angle is " + fixed_text(unseen, 2) + "x the largest one seen in " +
                               std::to_string(original) + (unseen > 1.0005 ? ": extrapolates" : ""));
  lines.emplace_back("short-context damage", coverage.high_frequency_damage > 0
                                                 ? "pairs that turn 32 times or more are slowed by up to " +
                                                       fixed_text(100 * coverage.high_frequency_damage, 1) + " %"
                                                 : "none: no pair that turns 32 times or more is slowed");
  output.text(aligned(lines));
  output.table(pair_table(pairs));
  if (!layer.spec.provenance.empty()) output.table(provenance_table(source, layer.spec));
}

/// For programs, which take one table of a .csv: every pair of every kind of layer.
Table pairs_csv(const RopeSource& source, int sequence_length) {
  Table all;
  for (const WantedLayer& layer : source.meant->layers) {
    Table one = pair_table(rope_pairs(layer.spec, trained_on(source, layer), sequence_length));
    if (source.meant->layers.size() > 1) {
      one.columns.insert(one.columns.begin(), {"layers"});
      for (auto& row : one.rows) row.insert(row.begin(), layer.layer_type);
    }
    all.columns = std::move(one.columns);
    all.rows.insert(all.rows.end(), one.rows.begin(), one.rows.end());
  }
  return all;
}

}  // namespace

void show_meaning(Output& output, const RopeSource& source, int sequence_length) {
  output.csv = pairs_csv(source, sequence_length);
  for (const WantedLayer& layer : source.meant->layers) show_layer(output, source, layer, sequence_length);
}

}  // namespace ropewalk::tools
