#include "tools/measure.h"

#include "lib/error.h"
#include "tools/served_context.h"
#include "tools/units.h"
#include "tools/windows.h"
#include "verify/judge.h"

namespace ropewalk::tools {
namespace {

struct Candidate {
  const char* name;  // in JSON
  std::string text;
  const char* base;  // --qlora-base
};

formats::Source open_as(const std::string& text, SourceOptions modifiers, bool unmerged, const char* base,
                        const Io& io) {
  modifiers.unmerged = unmerged;
  modifiers.qlora_base = base;
  if (!unmerged) modifiers.blocks = DType::f16;  // what a merge writes of blocks
  // warnings were said when the source was opened to be merged
  return formats::open_source(formats::parse_source(source_text(text, modifiers)), open_options(modifiers),
                              io.hub_cache);
}

}  // namespace

void declare_measure(CommandLine& line, MeasureOptions& options) {
  line.group("Measuring");
  line.flag(
      "--measure", options.measure,
      "KL of the merge against the adapters unmerged on the NF4 base, which is what a QLoRA was trained as; alone "
      "or beside -o");
  line.context_option("-c,--context,--ctx-size", options.context, "N",
                      "context to measure at, tokens (default: the source's)");
  line.option("--windows", options.windows, 1, 1'000'000, "K",
              "windows of N tokens (default: 4096 tokens' worth, at least one)");
  declare_text(line, options.text);
  declare_device(line, options.device);
}

void check_measure(const MeasureOptions& options) {
  if (options.measure) {
    if (options.context) check_context(*options.context);
    return check_device(options.device);
  }
  if (options.context || options.windows || !options.text.files.empty() || options.text.tokens || options.device.device)
    throw Error(ErrorKind::usage, {},
                "-f, --tokens, -c, --windows and --device are about --measure, which is not given",
                "give --measure, or leave them out");
}

void measure_merge(const std::string& text, const SourceOptions& modifiers, const MeasureOptions& options,
                   const CommonOptions& common, const Io& io, Output& output) {
  SweepDevice device = choose_device(options.device);
  const Corpus corpus = read_corpus(options.text, io);
  const formats::Source plain = open_as(text, modifiers, true, "original", io);
  if (plain.adapters.empty())
    throw Error(ErrorKind::usage, {}, "'" + text + "' has no adapter, so there is no merge to measure",
                "give one: MODEL+ADAPTER or -a DIR");
  const bool quantized = plain.quantization || plain.gguf;
  std::optional<formats::Source> through_nf4;
  if (!quantized) through_nf4 = open_as(text, modifiers, true, "nf4", io);
  const formats::Source& trained = through_nf4 ? *through_nf4 : plain;
  const std::string base = plain.quantization ? plain.quantization->method : "the base as it is";
  const std::vector<Candidate> candidates =
      quantized ? std::vector<Candidate>{{"merged", "merged into " + base, "original"}}
                : std::vector<Candidate>{{"merged_original", "merged into the base as it is", "original"},
                                         {"merged_nf4", "merged into the base through NF4", "nf4"}};
  const int context = context_of(options.context, trained.checkpoint);
  const CutWindows cut = with_path(corpus.path, [&] {
    return cut_windows(corpus_ids(corpus, trained.checkpoint, true), context, options.windows,
                       leading_bos(trained.checkpoint, corpus));
  });
  const std::vector<verify::Window>& windows = cut.windows;
  if (const auto line = passed_over(cut, corpus)) {
    warn(*line, common, io);
    output.warnings.push_back(*line);
  }
  Table table{{{"checkpoint"},
               {"KL mean", true},
               {"KL 99.9 %", true},
               {"KL max", true},
               {"same top 1", true},
               {"perplexity", true}},
              {}};
  formats::Json rows = formats::Json::array();
  std::uint64_t tokens = 0;
  for (const Candidate& candidate : candidates) {
    const formats::Source merged = open_as(text, modifiers, false, candidate.base, io);
    Progress progress(io, common.quiet, "layers", static_cast<std::uint64_t>(trained.checkpoint.config.n_layers),
                      Progress::Unit::steps);
    const verify::PairResult pair =
        verify::compare(trained.checkpoint, merged.checkpoint, windows, sweep_options(common, device, progress, io));
    tell_sweep(device, common, io);
    const verify::LogitsReport report = verify::summarise_pair(pair, 0, context);
    const auto add = [&](const char* name, const std::string& shown, bool reference) {
      const double kl = reference ? 0 : report.kl_mean, p999 = reference ? 0 : report.kl_p999;
      const double most = reference ? 0 : report.kl_max, top1 = reference ? 1 : report.top1;
      const double perplexity = reference ? report.perplexity_source : report.perplexity_candidate;
      rows.push_back({{"name", name},
                      {"kl_mean", kl},
                      {"kl_p999", p999},
                      {"kl_max", most},
                      {"top1", top1},
                      {"perplexity", perplexity}});
      table.rows.push_back({shown, number_text(kl, 3), number_text(p999, 3), number_text(most, 3),
                            number_text(100 * top1, 4) + " %", number_text(perplexity, 6)});
    };
    if (rows.empty())
      add("unmerged", quantized ? "adapters unmerged on " + base : "adapters unmerged on the NF4 base (as trained)",
          true);
    add(candidate.name, candidate.text, false);
    tokens = static_cast<std::uint64_t>(windows.size()) * static_cast<std::uint64_t>(context);
  }
  output.body["measure"] = {{"corpus", corpus_json(corpus, tokens)},
                            {"context", context},
                            {"windows", windows.size()},
                            {"device", device_json(device)},
                            {"checkpoints", rows}};
  output.text("measured against the first line on " + corpus.path + ", " + plural(windows.size(), "window") + " of " +
              std::to_string(context) + " tokens" + on_device(device));
  output.table(table);
}

}  // namespace ropewalk::tools
