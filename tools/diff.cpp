#include <algorithm>
#include <cmath>
#include <limits>

#include "lib/error.h"
#include "tools/commands.h"
#include "tools/common_options.h"
#include "tools/describe.h"
#include "tools/progress.h"
#include "tools/units.h"
#include "tools/verdict.h"

namespace ropewalk::tools {
namespace {

struct DiffOptions {
  std::string a, b;
  bool structure_only = false, exit_code = false, all = false;
  CommonOptions common;
};

void declare(CommandLine& line, DiffOptions& options) {
  line.positional(options.a, reads("A"), "a SOURCE of any kind, modifiers included");
  line.positional(options.b, reads("B"), "the SOURCE it is held against");
  line.flag("--structure", options.structure_only, "names, shapes, tokenizer and rope only; no weight is read");
  line.flag("--all", options.all, "list every tensor that differs, not only ten");
  line.flag("--exit-code", options.exit_code, "exit 1 if they differ");
  declare_no_modifiers(line);
  declare_common(line, options.common);
  line.example("ropewalk diff base merged", "which weights a merge changed, and by how much");
  line.example("ropewalk diff model model-f16.gguf", "what an export kept");
}

/// Relative size of a difference: mean error over the values' root mean square.
double relative(const verify::WeightDifference& difference) {
  return difference.rms > 0 ? difference.mean_error / difference.rms : difference.mean_error;
}

/// What the list is sorted by: NaN, which has no place in an order, comes first.
double rank(const verify::WeightDifference& difference) {
  const double size = relative(difference);
  return std::isnan(size) ? std::numeric_limits<double>::infinity() : size;
}

/// The tensors that have no counterpart, a line each: ten, or all.
std::string problem_list(const std::vector<std::string>& problems, bool all) {
  std::string text;
  const std::size_t shown = all ? problems.size() : std::min<std::size_t>(10, problems.size());
  for (std::size_t i = 0; i < shown; ++i) text += (i ? "\n  " : "  ") + problems[i];
  if (shown < problems.size()) text += "\n  and " + std::to_string(problems.size() - shown) + " more (--all)";
  return text;
}

std::string no_verdict(const DiffOptions& options) { return !options.exit_code ? "diff without --exit-code" : ""; }

int run_diff(const DiffOptions& options, Io& io) {
  check_reports(options.common, {.table = !options.structure_only});
  const formats::Source a = open_source(options.a, {}, options.common, io),
                        b = open_source(options.b, {}, options.common, io);
  const verify::StructureReport structure = verify::compare_structure(
      a.checkpoint, b.checkpoint, {}, std::max(a.checkpoint.config.context, b.checkpoint.config.context),
      {.source = "A", .candidate = "B"});

  Output output{.command = "diff", .source = a.spec.text, .warnings = a.checkpoint.warnings};
  output.warnings.insert(output.warnings.end(), b.checkpoint.warnings.begin(), b.checkpoint.warnings.end());
  std::vector<std::pair<std::string, std::string>> lines;
  bool differ = a.checkpoint.config.context != b.checkpoint.config.context;
  for (const verify::StructureItem& item : structure.items) {
    lines.emplace_back(item.name, item.detail);
    differ = differ || (item.pass && !*item.pass);
  }
  lines.insert(lines.begin(), {{"A", a.spec.text}, {"B", b.spec.text}});
  output.text(aligned(lines));
  if (structure.problems.size() > 1) output.text(problem_list(structure.problems, options.all));

  Json weights = nullptr;
  if (!options.structure_only) {
    Progress progress(io, options.common.quiet, "comparing weights", total_bytes(a.checkpoint.tensors),
                      Progress::Unit::bytes);
    auto differences = verify::compare_weights(a.checkpoint, b.checkpoint, options.common.threads,
                                               [&](std::uint64_t bytes) { progress.add(bytes); });
    const auto changed = static_cast<std::uint64_t>(
        std::count_if(differences.begin(), differences.end(), [](const auto& d) { return !(d.max_error == 0); }));
    differ = differ || changed > 0;
    weights = Json::array();
    for (const auto& d : differences)
      weights.push_back({{"name", d.name},
                         {"type", info(d.type).name},
                         {"max_error", d.max_error},
                         {"mean_error", d.mean_error},
                         {"rms", d.rms}});
    std::stable_sort(differences.begin(), differences.end(),
                     [](const auto& x, const auto& y) { return rank(x) > rank(y); });
    output.text(differences.empty()
                    ? "weights: none to compare"
                    : "weights: " + std::to_string(changed) + " of " + plural(differences.size(), "tensor") +
                          (changed == 1 ? " differs" : " differ"));
    Table table{{{"tensor"}, {"type"}, {"largest difference", true}, {"mean", true}, {"mean / rms", true}}, {}};
    for (const auto& d : differences) {
      if (d.max_error == 0 || (!options.all && table.rows.size() == 10)) break;
      table.rows.push_back({d.name, std::string(info(d.type).name), number_text(d.max_error, 3),
                            number_text(d.mean_error, 3), number_text(relative(d), 3)});
    }
    if (table.rows.empty()) output.csv = std::move(table);
    else output.table(std::move(table));
  }
  output.body = {{"other", b.spec.text},
                 {"differ", differ},
                 {"structure", structure_json(structure.items)},
                 {"problems", structure.problems},
                 {"weights", weights}};
  emit(output, options.common, io);
  return options.exit_code && differ ? 1 : 0;
}

}  // namespace

Command diff_command() {
  return make_command("diff", "structure and weights of any two sources", declare, run_diff,
                      {.no_verdict = no_verdict});
}

}  // namespace ropewalk::tools
