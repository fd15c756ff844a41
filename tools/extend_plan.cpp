// extend --plan: the methods at a context, side by side.
#include <algorithm>
#include <tuple>

#include "formats/original_context.h"
#include "formats/synthetic.h"
#include "lib/error.h"
#include "tools/describe.h"
#include "tools/extend.h"
#include "tools/plan_methods.h"
#include "tools/units.h"

namespace ropewalk::tools {
namespace {

/// The context before scaling, and who says so.
formats::OriginalContext original_of(const PlannedModel& model, std::optional<int> told) {
  if (told) return {*told, "--original"};
  return formats::original_context(model.config,
                                   model.hf_config.is_null() ? "llama.context_length" : "max_position_embeddings");
}

/// A heading, so that eight columns fit a terminal.
std::string short_name(const std::string& method) {
  for (const auto& [name, text] :
       {std::pair{"linear (PI)", "linear"}, std::pair{"NTK-aware", "NTK"}, std::pair{"dynamic NTK", "dynamic"},
        std::pair{"NTK-by-parts", "by parts"}, std::pair{"YaRN, like yarn-mistral", "like mistral"}})
    if (method == name) return text;
  return method;
}

/// A row for each engine: the tokens it would serve under each method, or that it runs another rope.
Table served_table(const std::vector<Planned>& all) {
  Table table{{{"serves"}}, {}};
  for (const Planned& row : all) table.columns.push_back({short_name(row.method), true});
  for (std::size_t engine = 0; engine < all.front().verdicts.size(); ++engine) {
    std::vector<std::string> cells = {all.front().verdicts[engine].reading.engine.title()};
    for (const Planned& row : all) {
      const formats::EngineVerdict& verdict = row.verdicts[engine];
      const std::string tokens = verdict.reading.context ? std::to_string(*verdict.reading.context) : "-";
      cells.push_back(verdict.right()                                                                 ? tokens
                      : verdict.difference.starts_with("serves")                                      ? tokens
                      : verdict.reading.error && verdict.reading.error->kind == formats::kNotFollowed ? "not known"
                      : verdict.reading.error || verdict.reading.context_error                        ? "error"
                                                                                                      : "other");
    }
    table.rows.push_back(std::move(cells));
  }
  return table;
}

void check_plan(const ExtendOptions& options) {
  if (!options.context)
    throw Error(ErrorKind::usage, {}, "--plan has no target context", "give it with -c, for example -c 64k");
  const char* unused = !options.output.empty()           ? "-o"
                       : options.link                    ? "--link"
                       : options.writer.dry_run          ? "--dry-run"
                       : options.writer.no_sync          ? "--no-sync"
                       : options.sliding_window          ? "--sliding-window"
                       : options.rope_encoding != "auto" ? "--rope-encoding"
                       : !options.allowed_losses.empty() ? "--allow-loss"
                                                         : nullptr;
  if (unused)
    throw Error(ErrorKind::usage, {}, "--plan writes nothing, and " + std::string(unused) + " is given",
                "leave one of them out");
  if (options.rope || options.like)
    throw Error(ErrorKind::usage, {}, "--plan compares all methods, and a rope is given", "leave one of them out");
}

/// What the model does without a change. A plain one may say more than it was trained at.
int own_length(const ModelConfig& config, const formats::OriginalContext& original) {
  const bool told_apart = std::holds_alternative<RopeUnscaled>(config.rope.scaling) && original.tokens < config.context;
  return told_apart ? original.tokens : std::max(original.tokens, config.context);
}
void check_target_context(const ModelConfig& config, const formats::OriginalContext& original, int context) {
  const int least = own_length(config, original);
  if (context >= least) return;
  throw Error(
      ErrorKind::usage, {},
      (least == config.context ? "the model serves " + std::to_string(least) + " tokens already"
                               : "the original context is " + std::to_string(least) + " (" + original.from + ")") +
          ", and -c is " + std::to_string(context),
      "plan for more");
}

/// A row for each method, as text and as JSON.
Table plan_table(const std::vector<Planned>& all, int context, Json& list) {
  Table table{{{"method"},
               {"factor", true},
               {"unseen", true},
               {"damage", true},
               {"attention", true},
               {"engines", true},
               {"--rope"}},
              {}};
  for (const Planned& row : all) {
    const RopeCoverage& coverage = row.coverage;
    table.rows.push_back(
        {row.method.starts_with("YaRN, ") ? row.method.substr(6) : row.method,
         row.factor == 0 ? "-" : number_text(row.factor, 6), fixed_text(coverage.unseen_angle_ratio, 2),
         number_text(100 * coverage.high_frequency_damage, 3) + " %", fixed_text(coverage.attention_factor, 4),
         std::to_string(row.readers()) + " of " + std::to_string(row.verdicts.size()), row.spec});
    list.push_back({{"method", row.method},
                    {"factor", row.factor == 0 ? Json(nullptr) : Json(row.factor)},
                    {"context", context},
                    {"unseen_angle_ratio", coverage.unseen_angle_ratio},
                    {"high_frequency_damage", coverage.high_frequency_damage},
                    {"attention_factor", coverage.attention_factor},
                    {"spec", row.spec},
                    {"engines", engines_json(row.verdicts)}});
  }
  return table;
}

/// Every layer has a window that hides something of the target, and extend asks what becomes of it.
bool window_hides(const PlannedModel& model, const ExtendOptions& options) {
  const std::optional<int> window = model.config.sliding_window;
  return window && *window < *options.context && !model.ropes;
}

std::string heading(const PlannedModel& model, const ExtendOptions& options, const formats::OriginalContext& original,
                    const KvCache& kv) {
  const ModelConfig& config = model.config;
  const std::string context = std::to_string(*options.context), from = std::to_string(original.tokens);
  std::string rope = model.layered() ? "a rope for each kind of layer" : describe(config.rope);
  std::string kinds;
  if (model.layered())
    for (const formats::WantedLayer& layer : model.ropes->layers)
      kinds += "\n  " + layer.layer_type + ": " + describe(layer.spec);
  std::string text = model.text + ": " + rope + "; from " + from + " to " + context + " tokens" + kinds +
                     "\noriginal context " + from + ": " + original.from +
                     (options.original ? "" : "; --original N says another") + "\nkeys and values of " + context +
                     " tokens: " + bytes_text(kv.f16) + " in f16, " + bytes_text(kv.q8_0) + " in q8_0";
  if (config.sliding_window && *config.sliding_window < *options.context && model.ropes)
    text += "\nlayers with a sliding window see the last " + std::to_string(*config.sliding_window) + " tokens only";
  else if (window_hides(model, options))
    text += "\na query sees the last " + std::to_string(*config.sliding_window) +
            " tokens only: extend asks for --sliding-window";
  return text;
}

/// The method to take: of those that more than half of the newest engines read (where engines were asked for, as many of
/// them as any method has; so too where none has half) the one that meets no angle it was not trained on, spares the
/// pairs that tell neighbours apart and has most readers, the later row of two alike. nullptr: nobody reads any.
const Planned* recommended(const std::vector<Planned>& all, const ExtendOptions& options) {
  long most = 0;
  for (const Planned& row : all)
    if (!row.spec.empty()) most = std::max(most, row.readers());
  const long half = long(all.front().verdicts.size()) / 2;
  const long least = options.engines.empty() && most > half ? half + 1 : most;
  const Planned* best = nullptr;
  std::tuple<bool, bool, long> merits;
  for (const Planned& row : all) {
    if (row.spec.empty() || most == 0 || row.readers() < least) continue;
    const std::tuple<bool, bool, long> mine = {row.coverage.unseen_angle_ratio <= 1.05,
                                               row.coverage.high_frequency_damage <= 0.05, row.readers()};
    if (!best || mine >= merits) best = &row, merits = mine;
  }
  return best;
}

/// What to do: in words, and as JSON (null: nothing is to be written).
struct Advice {
  std::string text;
  Json recommended;
};

/// The command for the recommended method, for the engines that were asked for and read it.
Advice advice(const std::vector<Planned>& all, const PlannedModel& model, const ExtendOptions& options,
              const formats::OriginalContext& original, bool gguf) {
  if (*options.context <= own_length(model.config, original))
    return {"as it is: the model serves " + std::to_string(*options.context) + " tokens without a change", nullptr};
  const Planned* best = recommended(all, options);
  if (!best) return {"no engine of these reads any of these methods over this file", nullptr};
  const bool bare = options.source.ends_with(".json") && !options.source.ends_with(".index.json");
  const bool weights = !bare && !formats::synthetic_config(options.source);
  std::string command = "ropewalk extend " + (weights ? options.source : "MODEL") +
                        (gguf ? " -o OUT.gguf" : " -o OUT") + " --rope " + best->spec;
  std::vector<std::string> others;
  const std::vector<formats::EngineVersion> asked = parse_engines(options.engines);
  for (std::size_t i = 0; i < best->verdicts.size(); ++i) {
    if (!best->verdicts[i].right()) others.push_back(best->verdicts[i].reading.engine.title());
    else if (i < asked.size()) command += " --engine " + options.engines[i];
  }
  if (window_hides(model, options)) command += " --sliding-window none";
  std::string text = "to write one: " + command;
  if (!weights) text += "\nMODEL: the folder of " + options.source + " and its weights";
  if (!others.empty())
    text += "\n" + listed(others) +
            (others.size() == 1 ? " does not run it: see its row" : " do not run it: see their rows");
  return {text, {{"method", best->method}, {"spec", best->spec}, {"command", command}, {"not_read_by", others}}};
}

}  // namespace

int run_extend_plan(const ExtendOptions& options, const Io& io) {
  check_plan(options);
  const PlannedModel model = open_planned_model(options, io);
  const formats::OriginalContext original = original_of(model, options.original);
  check_target_context(model.config, original, *options.context);
  const std::vector<Planned> all = plan_methods(model, options, original.tokens);
  const KvCache kv = kv_cache(model, *options.context);
  Json list = Json::array();
  Table table = plan_table(all, *options.context, list);
  const bool model_is_gguf = formats::parse_source(options.source).model.ends_with(".gguf");
  Advice what = advice(all, model, options, original, model_is_gguf);
  Output output{.command = "extend", .source = model.text, .warnings = model.warnings};
  output.body = {{"rope", rope_json(model.config.rope, model.config.context)},
                 {"layers", nullptr},
                 {"arithmetic", Json::array()},
                 {"engines", Json::array()},
                 {"context", *options.context},
                 {"original", {{"tokens", original.tokens}, {"from", original.from}}},
                 {"kv_cache", {{"f16", kv.f16}, {"q8_0", kv.q8_0}}},
                 {"written", Json::array()},
                 {"weights", nullptr},
                 {"output", nullptr},
                 {"losses", Json::array()},
                 {"notes", Json::array()},
                 {"plan", std::move(list)},
                 {"recommended", std::move(what.recommended)},
                 {"dry_run", true}};
  output.text(heading(model, options, original, kv));
  output.table(std::move(table));
  output.text(
      "unseen: the largest angle at the target over the largest one seen in training, of the pairs that never\n"
      "  completed a turn (1 or less is safe)\n"
      "damage: slow-down of the pairs that tell neighbours apart (0 % is best)\n"
      "attention: the factor of queries and keys\n"
      "engines: how many compute this rope from what extend would write, and serve the context");
  output.table(served_table(all));
  const auto runs_another = [](const Planned& row) {
    return std::any_of(row.verdicts.begin(), row.verdicts.end(), [](const formats::EngineVerdict& one) {
      return !one.right() && !one.reading.error && !one.reading.context_error && !one.difference.starts_with("serves");
    });
  };
  if (std::any_of(all.begin(), all.end(), runs_another)) output.text("other: it runs another rope");
  output.text(std::move(what.text));
  emit(output, options.common, io);
  return 0;
}

}  // namespace ropewalk::tools
