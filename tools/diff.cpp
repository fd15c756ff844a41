#include <algorithm>
#include <cmath>
#include <limits>

#include "lib/error.h"
#include "tools/commands.h"
#include "tools/common_options.h"
#include "tools/describe.h"
#include "tools/progress.h"
#include "tools/units.h"
#include "verify/structure.h"
#include "verify/weights.h"

namespace ropewalk::tools {
namespace {

struct DiffOptions {
  std::vector<std::string> sources;
  bool structure_only = false, exit_code = false, all = false;
  CommonOptions common;
};

void declare(CommandLine& line, DiffOptions& options) {
  line.positionals(options.sources, "SOURCE", "two of them: any kinds, modifiers included", 2);
  line.flag("--structure", options.structure_only, "names, shapes, tokenizer and rope only; no weight is read");
  line.flag("--all", options.all, "list every tensor that differs, not only the ten that differ most");
  line.flag("--exit-code", options.exit_code, "exit 1 if they differ");
  declare_common(line, options.common);
  line.example("ropewalk diff base merged", "which weights a merge changed, and by how much");
  line.example("ropewalk diff model model-f16.gguf", "what an export kept");
}

/// Relative size of a difference: mean error over the values' root mean square.
double relative(const verify::WeightDifference& difference) { return difference.rms > 0 ? difference.mean_error / difference.rms : difference.mean_error; }

/// What the list is sorted by: NaN, which has no place in an order, comes first.
double rank(const verify::WeightDifference& difference) {
  const double size = relative(difference);
  return std::isnan(size) ? std::numeric_limits<double>::infinity() : size;
}

int run_diff(const DiffOptions& options, Io& io) {
  check_reports(options.common);
  if (options.sources.size() != 2) throw Error(ErrorKind::usage, {}, "diff compares two sources, and " + std::to_string(options.sources.size()) + " were given", "usage: ropewalk diff [options] A B");
  const formats::Source a = open_source(options.sources[0], {}, options.common, io), b = open_source(options.sources[1], {}, options.common, io);
  const verify::StructureReport structure = verify::compare_structure(a.checkpoint, b.checkpoint, {}, std::max(a.checkpoint.config.context, b.checkpoint.config.context));

  Output output{.command = "diff", .source = a.spec.text, .warnings = a.checkpoint.warnings};
  output.warnings.insert(output.warnings.end(), b.checkpoint.warnings.begin(), b.checkpoint.warnings.end());
  Json items = Json::array();
  std::vector<std::pair<std::string, std::string>> lines;
  bool differ = structure.rope_differs || structure.geometry_differs;
  for (const verify::StructureItem& item : structure.items) {
    items.push_back({{"name", item.name}, {"pass", item.pass ? Json(*item.pass) : Json(nullptr)}, {"detail", item.detail}});
    lines.emplace_back(item.name, item.detail);
    differ = differ || (item.pass && !*item.pass);
  }
  output.text(a.spec.text + " and " + b.spec.text + "\n" + aligned(lines));
  for (const std::string& problem : structure.problems) output.text(problem);

  Json weights = nullptr;
  if (!options.structure_only) {
    Progress progress(io, options.common.quiet, "comparing weights", total_bytes(a.checkpoint.tensors), Progress::Unit::bytes);
    auto differences = verify::compare_weights(a.checkpoint, b.checkpoint, options.common.threads, [&](std::uint64_t bytes) { progress.add(bytes); });
    const auto changed = static_cast<std::uint64_t>(std::count_if(differences.begin(), differences.end(), [](const auto& d) { return !(d.max_error == 0); }));
    differ = differ || changed > 0;
    weights = Json::array();
    for (const auto& d : differences)
      weights.push_back({{"name", d.name}, {"type", info(d.type).name}, {"max_error", d.max_error}, {"mean_error", d.mean_error}, {"rms", d.rms}});
    std::stable_sort(differences.begin(), differences.end(), [](const auto& x, const auto& y) { return rank(x) > rank(y); });
    output.text("weights: " + std::to_string(changed) + " of " + std::to_string(differences.size()) + " tensors differ");
    Table table{{{"tensor"}, {"type"}, {"largest difference", true}, {"mean", true}, {"mean / rms", true}}, {}};
    for (const auto& d : differences) {
      if (d.max_error == 0 || (!options.all && table.rows.size() == 10)) break;
      table.rows.push_back({d.name, std::string(info(d.type).name), number_text(d.max_error, 3), number_text(d.mean_error, 3), number_text(relative(d), 3)});
    }
    if (!table.rows.empty()) output.table(std::move(table));
  }
  output.body = {{"other", b.spec.text}, {"differ", differ}, {"structure", items}, {"problems", structure.problems}, {"weights", weights}};
  emit(output, options.common, io);
  return options.exit_code && differ ? 1 : 0;
}

}  // namespace

Command diff_command() { return make_command("diff", "structure and weights of any two sources", declare, run_diff); }

}  // namespace ropewalk::tools
