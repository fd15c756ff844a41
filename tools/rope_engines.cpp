// rope with --engine and --flags: engines side by side, and the command lines that mend them.
#include <algorithm>
#include <cmath>
#include <set>

#include "tools/one_line.h"
#include "tools/rope_report.h"
#include "tools/units.h"

namespace ropewalk::tools {
namespace {

using formats::EngineReading;
using formats::EngineRope;
using formats::WantedLayer;

std::string attention_text(const RopeSpec& spec, int length) {
  return factor_text(rope_table(spec, length).attention_factor);
}
std::string all_or(const std::string& layer_type, const char* otherwise) {
  return layer_type.empty() ? otherwise : layer_type;
}
/// "full" for full_attention, in tables.
std::string kind_text(const std::string& layer_type) {
  constexpr std::string_view kEnd = "_attention";
  if (layer_type.empty()) return "all";
  return layer_type.ends_with(kEnd) ? layer_type.substr(0, layer_type.size() - kEnd.size()) : layer_type;
}
std::string differs_text(const RopeTarget& target) {
  if (!target.difference) return "-";
  const formats::RopeDifference& difference = *target.difference;
  if (target.reading.error) return "-";
  if (difference.shape) return "shape";
  return difference.pairs == 0 ? "none" : std::to_string(difference.pairs);
}

std::string served_text(const EngineReading& reading) {
  if (not_followed(reading)) return "-";
  if (reading.error || reading.context_error) return "error";
  return reading.context ? std::to_string(*reading.context) : "-";
}

/// What all rows say of a rope, after the columns of who and of which layers.
std::vector<std::string> method_cells(const RopeSpec& spec, int length) {
  const auto original = rope_original_context(spec);
  const auto factor = rope_factor(spec);
  return {rope_method_name(spec), factor ? number_text(*factor, 6) : "-", original ? std::to_string(*original) : "-",
          number_text(spec.theta, 8), attention_text(spec, length)};
}

/// What is meant and what each engine makes of it, a row for each kind of layer.
class EngineRows {
 public:
  explicit EngineRows(int length) : length_(length) {}

  void meant(const formats::WantedRope& rope) {
    bool first = true;
    for (const WantedLayer& layer : rope.layers) {
      const std::string none = first ? "-" : "";
      add(first ? "meant" : "", layer.layer_type, layer.spec,
          {first ? std::to_string(rope.context) : "", none, none, none});
      first = false;
    }
  }
  void engine(const RopeTarget& target) {
    const EngineReading& reading = target.reading;
    if (reading.error) {
      table_.rows.push_back({reading.engine.title(), "-", not_followed(reading) ? "not known" : "error", "-", "-", "-",
                             "-", served_text(reading), "-", "-", "-"});
      return;
    }
    bool first = true;
    for (const EngineRope& rope : reading.ropes) {
      const bool wrong = first && target.difference && target.difference->pairs > 0;
      const std::string none = first ? "-" : "";
      add(first ? reading.engine.title() : "", rope.layer_type, rope.spec,
          {first ? served_text(reading) : "", first ? differs_text(target) : "",
           wrong ? ratio_text(target.difference->worst_ratio) : none,
           wrong ? std::to_string(target.difference->first_pair) : none});
      first = false;
    }
  }
  Table take() {
    if (!layered_) {
      table_.columns.erase(table_.columns.begin() + 1);
      for (auto& row : table_.rows) row.erase(row.begin() + 1);
    }
    return std::move(table_);
  }

 private:
  void add(const std::string& who, const std::string& layer_type, const RopeSpec& spec,
           const std::vector<std::string>& rest) {
    std::vector<std::string> row = {who, kind_text(layer_type)};
    for (const auto& cells : {method_cells(spec, length_), rest}) row.insert(row.end(), cells.begin(), cells.end());
    table_.rows.push_back(std::move(row));
    layered_ = layered_ || !layer_type.empty();
  }

  int length_;
  bool layered_ = false;
  Table table_{{{"engine"},
                {"layers"},
                {"method"},
                {"factor", true},
                {"orig.", true},
                {"theta", true},
                {"attention", true},
                {"serves", true},
                {"differ", true},
                {"worst", true},
                {"from", true}},
               {}};
};

/// The groups' names over columns of numbers: without versions where a terminal has no room for them and no engine is
/// there in two.
std::vector<std::string> headings(const std::vector<RopeGroup>& groups) {
  std::vector<std::string> names, bare;
  std::set<std::string> seen;
  std::size_t width = 8, engines = 0;
  for (const RopeGroup& group : groups) {
    names.push_back(group.name);
    width += std::max<std::size_t>(group.name.size(), 10) + 3;
    std::string without;
    for (std::size_t at = 0; at < group.name.size(); ++engines) {
      const std::size_t end = std::min(group.name.find(", ", at), group.name.size());
      const std::string engine = group.name.substr(at, std::min(group.name.find(' ', at), end) - at);
      seen.insert(engine);
      without += (without.empty() ? "" : ", ") + engine;
      at = end + 2;
    }
    bare.push_back(std::move(without));
  }
  return width > 120 && seen.size() == engines ? bare : names;
}

/// Where the groups part, pair by pair, for one kind of layer.
std::optional<Table> parting_table(const std::vector<RopeGroup>& groups, std::size_t layer, int length) {
  Table table{{{"pair", true}}, {}};
  std::vector<std::vector<double>> columns;
  const std::vector<std::string> names = headings(groups);
  for (const RopeGroup& group : groups) {
    if (layer >= group.rope.layers.size()) return std::nullopt;
    columns.push_back(rope_table(group.rope.layers[layer].spec, length).inv_freq);
    if (columns.back().size() != columns[0].size()) return std::nullopt;
    table.columns.push_back({names[columns.size() - 1], true});
  }
  for (std::size_t pair = 0; pair < columns[0].size(); ++pair) {
    bool part = false;
    for (const auto& column : columns) part = part || std::abs(column[pair] / columns[0][pair] - 1) > 1e-6;
    if (!part) continue;
    std::vector<std::string> row = {std::to_string(pair)};
    for (const auto& column : columns) row.push_back(frequency_text(column[pair]));
    table.rows.push_back(std::move(row));
  }
  if (table.rows.empty()) return std::nullopt;
  return table;
}

std::string notices_text(const RopeSource& source, const EngineReading& reading) {
  std::string out;
  const auto say = [&](const std::string& pointer, const std::string& text) {
    const std::string place = pointer.empty() ? "" : place_of(source, {"", "config.json", pointer}) + ": ";
    out += "\n  " + one_line(place + text);
  };
  if (reading.error) say(reading.error->pointer, reading.error->kind + ": " + reading.error->text.substr(0, 400));
  if (reading.context_error)
    say(reading.context_error->pointer,
        "it does not start: " + reading.context_error->kind + ": " + reading.context_error->text.substr(0, 400));
  for (const formats::EngineNotice& notice : reading.notices) {
    const bool place =
        !notice.pointer.empty() && notice.text == reading.engine.title() + " does not read " + notice.pointer.substr(1);
    say(notice.pointer, place ? "not read" : notice.text);
  }
  return out;
}

/// The same of what is meant beside each engine: frequencies, empty where an engine has none.
Table engines_csv(const RopeSource& source, const std::vector<RopeTarget>& targets, int length) {
  std::vector<std::pair<std::string, formats::WantedRope>> columns;
  if (source.meant) columns.push_back({"meant", *source.meant});
  for (const RopeTarget& target : targets)
    columns.push_back({target.reading.engine.title(), wanted_rope(target.reading, 0)});
  std::vector<std::string> kinds;
  for (const auto& [name, rope] : columns)
    for (const WantedLayer& layer : rope.layers)
      if (std::find(kinds.begin(), kinds.end(), layer.layer_type) == kinds.end()) kinds.push_back(layer.layer_type);
  Table table{{{"layers"}, {"pair", true}}, {}};
  for (const auto& [name, rope] : columns) table.columns.push_back({name, true});
  for (const std::string& kind : kinds) {
    std::vector<std::vector<double>> frequencies;
    std::size_t pairs = 0;
    for (const auto& [name, rope] : columns) {
      frequencies.emplace_back();
      for (const WantedLayer& layer : rope.layers)
        if (layer.layer_type == kind) frequencies.back() = rope_table(layer.spec, length).inv_freq;
      pairs = std::max(pairs, frequencies.back().size());
    }
    for (std::size_t pair = 0; pair < pairs; ++pair) {
      table.rows.push_back({all_or(kind, "all"), std::to_string(pair)});
      for (const auto& column : frequencies)
        table.rows.back().push_back(pair < column.size() ? number_text(column[pair], 9) : "");
    }
  }
  return table;
}

}  // namespace

void show_engines(Output& output, const RopeSource& source, const std::vector<RopeTarget>& targets,
                  const RopeQuestion& question) {
  const int length = question.sequence_length;
  std::vector<std::pair<std::string, std::string>> head = {{"source", source.text}};
  if (source.meant) {
    head.emplace_back("read as", source.read_as);
    for (const WantedLayer& layer : source.meant->layers)
      head.emplace_back("meant" + (layer.layer_type.empty() ? "" : ", " + one_line(layer.layer_type)),
                        describe(layer.spec));
    head.emplace_back("context", plural(std::uint64_t(source.meant->context), "token"));
  } else {
    head.emplace_back("meant", "unknown: " + std::string(source.trouble->what()));
  }
  output.text(aligned(head));
  EngineRows rows(length);
  if (source.meant) rows.meant(*source.meant);
  for (const RopeTarget& target : targets) rows.engine(target);
  output.table(rows.take());
  output.csv = engines_csv(source, targets, length);
  const std::vector<RopeGroup> groups = distinct_ropes(source, targets, length);
  std::size_t layers = 0;
  for (const RopeGroup& group : groups) layers = std::max(layers, group.rope.layers.size());
  bool part = false;
  for (std::size_t layer = 0; groups.size() > 1 && layer < layers; ++layer)
    if (std::optional<Table> table = parting_table(groups, layer, length)) {
      const std::string& type = groups[0].rope.layers.at(layer).layer_type;
      output.text("frequencies where they part" + (type.empty() ? "" : ", " + one_line(type)) + ":");
      output.table(std::move(*table));
      part = true;
    }
  if (!part && groups.size() == 1) output.text("every pair turns alike in all that read the file");
  for (const RopeTarget& target : targets)
    if (const std::string notices = notices_text(source, target.reading); !notices.empty())
      output.text(target.reading.engine.title() + ":" + notices);
}

void show_flags(Output& output, const std::vector<RopeTarget>& targets) {
  output.csv = Table{{{"engine"}, {"possible"}, {"flags"}, {"reason"}}, {}};
  for (const RopeTarget& target : targets) {
    if (!target.flags) continue;
    const formats::EngineFlags& flags = *target.flags;
    output.csv->rows.push_back({target.reading.engine.title(),
                                !flags.followed  ? "not known"
                                : flags.possible ? "yes"
                                                 : "no",
                                flags.line, flags.reason});
    std::string text = target.reading.engine.title() + ":\n  " +
                       one_line(!flags.followed      ? "not known: " + flags.reason
                                : !flags.possible    ? "none: " + flags.reason
                                : flags.line.empty() ? "no flag needed"
                                                     : flags.line);
    if (flags.possible && !flags.reason.empty()) text += "\n  without: " + one_line(flags.reason);
    for (const std::string& note : flags.notes) text += "\n  note: " + one_line(note);
    output.text(text);
  }
}

Output engine_list() {
  Output output{.command = "rope"};
  Table table{{{"engine"}, {"from"}, {"newest known"}, {"what tells it apart"}}, {}};
  Json ranges = Json::array();
  for (const formats::EngineRange& range : formats::engine_ranges()) {
    table.rows.push_back({formats::engine_name(range.engine), std::string(range.label), std::string(range.newest),
                          std::string(range.summary)});
    ranges.push_back({{"engine", formats::engine_name(range.engine)},
                      {"first", range.label},
                      {"newest", range.newest},
                      {"summary", range.summary}});
  }
  output.body = {{"read_as", nullptr}, {"context", nullptr},       {"sequence_length", nullptr},
                 {"meant", nullptr},   {"targets", Json::array()}, {"engines", ranges}};
  output.table(std::move(table));
  return output;
}

}  // namespace ropewalk::tools
