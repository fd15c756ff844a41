#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <set>

#include "formats/hf_writer.h"
#include "lib/error.h"
#include "lib/file.h"
#include "lib/number_text.h"
#include "tools/commands.h"
#include "tools/describe_tokenizer.h"
#include "tools/common_options.h"
#include "tools/describe.h"
#include "tools/losses.h"
#include "tools/measure.h"
#include "tools/model_card.h"
#include "tools/new_rope.h"
#include "tools/observed_merge.h"
#include "tools/output_plan.h"
#include "tools/units.h"

namespace ropewalk::tools {
namespace {

struct MergeOptions {
  std::string source, output;
  std::optional<std::uint64_t> max_shard_bytes;
  NewRopeOptions rope;
  MeasureOptions measure;
  SourceOptions modifiers;
  WriterOptions writer;
  CommonOptions common;
};

void declare(CommandLine& line, MergeOptions& options) {
  line.positional(options.source, reads("SOURCE"), "MODEL+ADAPTER, or an adapter folder whose base is found");
  line.option("-o,--output,--outdir", options.output, writes("DIR"), "the new Hugging Face folder");
  line.bytes_option("--max-shard-size,--split-max-size", options.max_shard_bytes, "SIZE",
                    "largest weight file (default 5GB)");
  declare_modifiers(line, options.modifiers);
  declare_engines(line, options.rope.engines);
  declare_sliding_window(line, options.rope.sliding_window);
  declare_allowed_losses(line, options.rope.allowed_losses);
  declare_merge(line, options.modifiers);
  declare_measure(line, options.measure);
  declare_writer(line, options.writer);
  declare_common(line, options.common);
  line.example("ropewalk merge base+adapter -o merged",
               "delta in double, one rounding to the base's dtype, and a report of what was done");
  line.example("ropewalk merge adapter -o merged --dtype bf16",
               "the base named by the adapter; tells how much of the delta bf16 ate");
  line.example("ropewalk merge base+qlora --measure -f text.txt",
               "KL of merging into the base as it is, and into its NF4, against what was trained");
}

Json modules_json(const formats::Source& source, const Observed& observed) {
  Json list = Json::array();
  for (const formats::MergedModule& module : source.merged_modules) {
    const auto found = observed.find(module.name);
    const MergeNorms norms = found == observed.end() ? MergeNorms{} : found->second->norms();
    list.push_back({{"name", module.name},
                    {"kind", module.kind},
                    {"rank", module.rank > 0 ? Json(module.rank) : Json(nullptr)},
                    {"scale", module.scale},
                    {"delta_norm", norms.delta_norm},
                    {"weight_norm", norms.weight_norm},
                    {"rounding_loss", norms.rounding_loss}});
  }
  return list;
}

/// One row per kind of projection: the numbers of all layers together.
/// `plain`: shares as numbers, for a .csv.
Table module_table(const Observed& observed, bool plain = false) {
  struct Sums {
    std::uint64_t n = 0;
    double delta = 0, weight = 0, rounding = 0;  // of squares
  };
  const auto shown = [](double value, int digits) {  // norms of clamped giants overflow
    return std::isfinite(value) ? number_text(value, digits) : std::string("-");
  };
  std::map<std::string, Sums> by_kind;
  for (const auto& [name, tensor] : observed) {
    const MergeNorms norms = tensor->norms();
    std::string kind = name.substr(0, name.rfind(".weight"));
    Sums& sums = by_kind[kind.substr(kind.rfind('.') + 1)];
    ++sums.n;
    sums.delta += norms.delta_norm * norms.delta_norm;
    sums.weight += norms.weight_norm * norms.weight_norm;
    sums.rounding += std::pow(norms.rounding_loss * norms.delta_norm, 2);
  }
  Table table{{{"module"}, {"weights", true}, {"delta / weight", true}, {"lost to rounding", true}}, {}};
  for (const auto& [kind, sums] : by_kind) {
    table.rows.push_back(
        {kind, std::to_string(sums.n), shown(std::sqrt(sums.delta / sums.weight), 3),
         plain ? shown(std::sqrt(sums.rounding / sums.delta), 6) : share_text(std::sqrt(sums.rounding / sums.delta))});
  }
  return table;
}

/// "model.norm and 3 more"
std::string first_of(const std::vector<std::string>& names) {
  return names.front() + (names.size() > 1 ? " and " + std::to_string(names.size() - 1) + " more" : "");
}

/// Weights whose deltas look wrong: of nothing, larger than what they are added to, or that leave nothing of it.
std::vector<std::string> odd_norms(const formats::Source& source, const Observed& observed) {
  constexpr double kNothing =
      1e-7;  // of a weight: what magnitudes, rounded to float32, make of one they were taken from
  std::set<std::string> deltas, weights;
  for (const formats::MergedModule& module : source.merged_modules) {
    if (module.rank > 0) deltas.insert(module.name);  // not whole tensors, rows and biases, which may be anything
    if (!module.name.ends_with(".bias")) weights.insert(module.name);  // those may have no gradient
  }
  std::vector<std::string> zero, large, vanished, lines;
  double most = 0, most_of_zero = 0;
  for (const std::string& name : weights) {
    const auto found = observed.find(name);
    if (found == observed.end()) continue;
    const MergeNorms norms = found->second->norms();
    if (norms.delta_norm <= kNothing * norms.weight_norm) {
      zero.push_back(name);
      most_of_zero = std::max(most_of_zero, norms.delta_norm);
    } else if (norms.delta_norm == norms.weight_norm && norms.rounding_norm == 0) vanished.push_back(name);
    if (deltas.contains(name) && norms.weight_norm > 0 && norms.delta_norm > norms.weight_norm) {
      large.push_back(name);
      most = std::max(most, norms.delta_norm / norms.weight_norm);
    }
  }
  const bool said = std::ranges::any_of(source.checkpoint.warnings, [](const std::string& line) {
    return line.find("' changes nothing: ") != std::string::npos;
  });
  if (!zero.empty() && !(said && zero.size() == weights.size()))
    lines.push_back("the adapters' delta is " +
                    std::string(most_of_zero > 0 ? "less than 1e-7 of the weight" : "zero") + " for " + first_of(zero) +
                    ": never trained?");
  if (!vanished.empty())
    lines.push_back("the adapters' delta is exactly as large as the weight, for " + first_of(vanished) +
                    ": are magnitudes or factors zero?");
  if (!large.empty())
    lines.push_back("the adapters' delta is larger than the weight itself, up to " + number_text(most, 2) +
                    " times, for " + first_of(large) + ": deltas are hundredths of it as a rule; is the scale right?");
  return lines;
}

/// Of those that adapters are for, how many they change: a delta of nothing in the base's own type leaves the base.
std::size_t count_changed(const formats::Source& source, const Observed& observed, bool dry_run) {
  if (dry_run) return observed.size();
  return std::size_t(std::ranges::count_if(source.base_tensors, [&](const TensorPtr& base) {
    const auto found = observed.find(base->name());
    if (found == observed.end()) return false;
    const ObservedMerge& merged = *found->second;
    return merged.norms().delta_norm > 0 || merged.rounded_to() != base->dtype() ||
           merged.info().shape != base->info().shape;
  }));
}

void check(const MergeOptions& options, const formats::Source& source) {
  check_output_name(options.output, OutputKind::folder);
  if (source.hf && source.adapters.empty() && !options.modifiers.dtype && !source.spec.rope && !source.quantization &&
      source.nf4_base.empty())
    throw Error(ErrorKind::usage, {}, "'" + source.spec.text + "' has no adapter to merge",
                "give one: MODEL+ADAPTER or -a DIR");
  refuse_without_rope(options.rope, source);
  if (!options.rope.allowed_losses.empty() && !source.spec.rope && source.hf)
    throw Error(ErrorKind::usage, {}, "--allow-loss is about a new rope, and no rope is given", "leave it out");
  check_target(options.output, OutputKind::folder, source, options.common);
}

/// Whether what is drawn with the seed is in the result.
bool draws(const CombineOptions& options) {
  return options.type == Combination::dare_linear || options.type == Combination::dare_linear_svd ||
         options.type == Combination::dare_ties || options.type == Combination::dare_ties_svd;
}

std::string combination_name(Combination type) {
  for (const std::string& name : combination_names())
    if (combination_from_name(name) == type) return name;
  return "";
}

/// {type, density, rank, sign, clamp, seed}: how adapters were made one.
Json combination_json(const SourceOptions& modifiers) {
  const auto combine = open_options(modifiers).combine;
  if (!combine) return nullptr;
  const auto known = [](const auto& value) { return value ? Json(*value) : Json(nullptr); };
  return {{"type", combination_name(combine->type)},
          {"density", known(combine->density)},
          {"rank", known(combine->rank)},
          {"sign", combine->sign_by_count ? "frequency" : "total"},
          {"clamp", known(combine->clamp)},
          {"seed", draws(*combine) ? Json(combine->seed) : Json(nullptr)}};
}

/// "ties, density 0.5"
std::string combination_text(const SourceOptions& modifiers) {
  const auto combine = open_options(modifiers).combine;
  if (!combine) return "";
  std::string text = combination_name(combine->type);
  if (combine->density) text += ", density " + number_text(*combine->density, 6);
  if (combine->rank) text += ", rank " + std::to_string(*combine->rank);
  if (combine->sign_by_count) text += ", sign by frequency";
  if (combine->clamp) text += ", clamp " + number_text(*combine->clamp, 6);
  if (draws(*combine)) text += ", seed " + std::to_string(combine->seed);
  return text;
}

/// The folder's files; what the pass over the weights has to say goes to `warnings`.
std::vector<std::string> write_merged(const formats::Source& source, const std::optional<FolderPlan>& rope,
                                      const MergeOptions& options, const Io& io, std::vector<std::string>& warnings) {
  formats::HfWriteOptions write;
  write.write = write_options(options.common, options.writer);
  if (options.max_shard_bytes) write.max_shard_bytes = *options.max_shard_bytes;
  write.card = model_card(source, last_part(options.output), "merged", "", combination_text(options.modifiers));
  if (rope) write.changes = rope->changes;
  formats::HfOutput folder(source, rope ? rope->config : source.hf->config, options.output, write);
  StreamPlan pass;
  folder.append_items(pass);
  for (std::string& warning : stream_pass(pass, "merging", options.common, io)) warnings.push_back(std::move(warning));
  folder.seal();
  return folder.finish().files;
}

/// |rounded - W| / |W|: what a cast alone costs.
double cost_of_cast(const ObservedMerge& tensor) {
  const MergeNorms norms = tensor.norms();
  return norms.weight_norm > 0 ? norms.rounding_norm / norms.weight_norm : 0;
}

/// The new rope, if there is one: what changes beside the weights, and what engines make of it.
void add_rope(Output& output, const std::optional<FolderPlan>& rope) {
  if (!rope) return;
  for (const std::string& note : rope->notes) output.text(note);
  for (const formats::Loss& loss : rope->losses) output.text(loss_line(loss));
  if (!rope->verdicts.empty()) show_verdicts(output, rope->verdicts);
}

Json recast_json(const Observed& recast) {
  Json list = Json::array();
  for (const auto& [name, tensor] : recast)
    list.push_back({{"name", name}, {"from", info(tensor->dtype()).name}, {"rounding_loss", cost_of_cast(*tensor)}});
  return list;
}

/// "11 more rounded to f16 (off by at most 0.00021 of their size, model.norm.weight), "
std::string recast_text(const Observed& recast, const std::string& dtype) {
  if (recast.empty()) return "";
  const auto worst = std::max_element(recast.begin(), recast.end(), [](const auto& a, const auto& b) {
    return cost_of_cast(*a.second) < cost_of_cast(*b.second);
  });
  const double cost = cost_of_cast(*worst->second);
  return std::to_string(recast.size()) + " more rounded to " + dtype +
         (cost > 0 ? " (off by at most " + number_text(cost, 2) + " of their size, " + worst->first + ")"
                   : " (exactly)") +
         ", ";
}

/// "all 28 linear layers through NF4, "
std::string nf4_text(const formats::Source& source, std::size_t unmerged) {
  if (source.nf4_base.empty()) return "";
  return plural(source.nf4_base.size(), "linear layer") + " through NF4 and back first" +
         (unmerged > 0 ? " (" + std::to_string(unmerged) + " of them without an adapter)" : std::string()) + ", ";
}

/// Weights that the base's files hold packed, and that nothing else changes.
std::size_t dequantized_alone(const formats::Source& source, const MergeChanges& changes) {
  if (!source.quantization) return 0;
  return static_cast<std::size_t>(std::ranges::count_if(source.base_tensors, [&](const TensorPtr& tensor) {
    return !tensor->has_raw() && !changes.merged.contains(tensor->name()) && !changes.recast.contains(tensor->name());
  }));
}

/// "24 dequantized from bitsandbytes nf4, "
std::string dequantized_text(const formats::Source& source, std::size_t alone) {
  if (!source.quantization) return "";
  return std::to_string(alone) + " more dequantized from " + source.quantization->method + ", ";
}

std::string base_place(const formats::Source& source) {
  return source.hf ? source.hf->folder.string() : source.gguf->files.front()->path();
}

std::string qlora_base(const formats::Source& source) {
  return source.quantization ? "dequantized" : source.nf4_base.empty() ? "original" : "nf4";
}

Json adapters_json(const formats::Source& source) {
  Json list = Json::array();
  for (std::size_t i = 0; i < source.adapters.size(); ++i)
    list.push_back(adapter_json(source.adapters[i], adapter_scale(source, i)));
  return list;
}

Output describe_merge(const formats::Source& source, const MergeChanges& changes, const std::optional<FolderPlan>& rope,
                      const std::vector<std::string>& files, const MergeOptions& options) {
  const Observed& observed = changes.merged;
  const bool dry_run = options.writer.dry_run;
  const std::size_t recast = changes.recast.size(), changed = count_changed(source, observed, dry_run);
  std::size_t requantized = 0;  // through NF4, and changed by nothing else
  for (const std::string& name : source.nf4_base)
    requantized += observed.contains(name) || changes.recast.contains(name) ? 0 : 1;
  const std::size_t dequantized = dequantized_alone(source, changes);
  const std::size_t untouched = source.checkpoint.tensors.size() - changed - recast - requantized - dequantized;
  const std::string dtype(info(dominant_dtype(source.checkpoint.tensors)).name);
  Output output{.command = "merge", .source = source.spec.text};
  output.body = {{"tensors_changed", changed},
                 {"tensors_recast", recast},
                 {"tensors_dequantized", dequantized},
                 {"tensors_untouched", untouched},
                 {"base", base_place(source)},
                 {"base_quantization", source.quantization ? Json(source.quantization->method) : Json(nullptr)},
                 {"qlora_base", qlora_base(source)},
                 {"adapters", adapters_json(source)},
                 {"combination", combination_json(options.modifiers)},
                 {"dtype", dtype},
                 {"recast", dry_run ? Json::array() : recast_json(changes.recast)},
                 {"modules", dry_run ? Json::array() : modules_json(source, observed)},
                 {"tokenizer", source.tokenizer_origin},
                 {"output", options.output},
                 {"written", files},
                 {"engines", engines_json(rope ? rope->verdicts : std::vector<formats::EngineVerdict>{})},
                 {"notes", rope ? rope->notes : std::vector<std::string>{}},
                 {"losses", losses_json(rope ? rope->losses : std::vector<formats::Loss>{})},
                 {"dry_run", dry_run}};
  if (dry_run) {
    output.text("dry run: nothing written; " + std::to_string(changed) + " weights would change" +
                (recast ? ", " + std::to_string(recast) + " more be rounded to " + dtype : ""));
    add_rope(output, rope);
    return output;
  }
  output.text(options.output + ": " + std::to_string(changed) + " weights merged, " +
              recast_text(changes.recast, dtype) + nf4_text(source, requantized) +
              dequantized_text(source, dequantized) + std::to_string(untouched) + " tensors untouched, " + dtype +
              ", tokenizer from " + tokenizer_text(source));
  if (source.adapters.size() > source.spec.adapters.size())  // an adapter's folder alone was given
    output.text("base: " + base_place(source));
  add_rope(output, rope);
  if (!observed.empty()) output.table(module_table(observed)), output.csv = module_table(observed, true);
  return output;
}

/// The body of a run that only measures.
Json nothing_merged() {
  const Json none = Json::array();
  return {{"tensors_changed", 0},   {"tensors_recast", 0},  {"tensors_dequantized", 0},
          {"tensors_untouched", 0}, {"dtype", nullptr},     {"recast", none},
          {"modules", none},        {"tokenizer", nullptr}, {"output", nullptr},
          {"written", none},        {"engines", none},      {"notes", none},
          {"losses", none},         {"base", nullptr},      {"base_quantization", nullptr},
          {"qlora_base", nullptr},  {"adapters", none},     {"combination", nullptr},
          {"dry_run", false}};
}

int run_merge(const MergeOptions& options, Io& io) {
  check_reports(options.common);
  check_measure(options.measure);
  if (options.output.empty() && options.measure.measure) {
    Output output{.command = "merge", .source = source_text(options.source, options.modifiers)};
    output.body = nothing_merged();
    measure_merge(options.source, to_encode(options.modifiers, !options.measure.text.tokens), options.measure,
                  options.common, io, output);
    emit(output, options.common, io);
    return 0;
  }
  if (options.output.empty())
    throw Error(ErrorKind::usage, {}, "no output given", "name the folder to write with -o DIR");
  parse_engines(options.rope.engines);  // their names, before anything is read
  check_sliding_window(options.rope.sliding_window);
  check_allowed_losses(options.rope.allowed_losses);
  SourceOptions modifiers = to_encode(options.modifiers, options.measure.measure && !options.measure.text.tokens);
  modifiers.blocks = DType::f16;
  if (!options.measure.measure) modifiers.model_use = formats::ModelUse::merging;
  formats::Source source = open_source(options.source, modifiers, options.common, io);
  check(options, source);
  std::optional<FolderPlan> rope;
  const std::optional<NewRope> wanted = new_rope(source);
  if (source.gguf) rope = plan_gguf_folder(source, wanted, options.rope);
  else if (wanted) rope = plan_folder(source, *wanted, options.rope);
  std::vector<std::string> files, warnings = source.checkpoint.warnings;
  warn_of_vocabulary(source, options.common, io, warnings);
  warn_of_config_ids(source, options.common, io, warnings);

  const MergeChanges changes = observe_merge(source, options.modifiers.saturate);
  announce({.targets = {{options.output, total_bytes(source.checkpoint.tensors)}},
            .what = "1 folder",
            .read_bytes = total_bytes(source.base_tensors)},
           options.common, io);
  if (!options.writer.dry_run) files = write_merged(source, rope, options, io, warnings);
  if (const std::string line = eaten_by_rounding(changes.merged); !line.empty()) {
    warnings.push_back(line);
    warn(line, options.common, io);
  }

  if (!options.writer.dry_run)
    for (const std::string& line : odd_norms(source, changes.merged)) {
      warnings.push_back(line);
      warn(line, options.common, io);
    }

  Output output = describe_merge(source, changes, rope, files, options);
  output.warnings = std::move(warnings);
  if (options.measure.measure)
    measure_merge(options.source, options.modifiers, options.measure, options.common, io, output);
  if (!options.writer.dry_run) output.written = {options.output};
  emit(output, options.common, io);
  return 0;
}

}  // namespace

Command merge_command() {
  return make_command("merge", "base + adapters to a Hugging Face folder, with a report", declare, run_merge);
}

}  // namespace ropewalk::tools
