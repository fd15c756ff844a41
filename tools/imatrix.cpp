#include <algorithm>
#include <cmath>

#include "formats/tokenizers/tokenizer.h"
#include "lib/error.h"
#include "lib/plural.h"
#include "lib/sha256.h"
#include "tools/commands.h"
#include "tools/common_options.h"
#include "tools/describe.h"
#include "tools/imatrix_state.h"
#include "tools/output_plan.h"
#include "tools/progress.h"
#include "tools/served_context.h"
#include "tools/text_input.h"
#include "tools/units.h"
#include "verify/perplexity.h"

namespace ropewalk::tools {
namespace {

namespace fs = std::filesystem;

/// llama-imatrix 0.5's options that say what is collected and where it goes, and ours beside them. Not taken:
/// --show-statistics, -ub (--ubatch-size is), and what sets up its cache and devices (-ctk, -ctv, -fa, -ngl, ...): all
/// is in f32 on the host.
struct ImatrixOptions {
  std::vector<std::string> sources, in_files;
  std::optional<std::string> model, format;
  std::string output = "imatrix.gguf";
  std::optional<int> context;
  int chunks = -1, first_chunk = 0, output_every = 10, save_every = 0, batch = 2048, micro_batch = 512;
  bool process_output = false, no_ppl = false, ppl = false, parse_special = false;
  TextOptions text;
  SourceOptions modifiers;
  WriterOptions writer;
  CommonOptions common;

  std::int64_t chunk_size() const { return context.value_or(512); }
  bool has_text() const { return !text.files.empty() || text.tokens.has_value(); }
  bool dat() const { return format ? *format == "dat" : fs::path(output).extension() == ".dat"; }
};

void declare(CommandLine& line, ImatrixOptions& options) {
  line.positionals(options.sources, reads("SOURCE"), "the model", 0);
  line.option("-m,--model", options.model, reads("SOURCE"), "the same, as llama-imatrix has it");
  line.option("-o,--output,--output-file", options.output, writes("FILE"), "what to write (default imatrix.gguf)");
  line.option("--output-format", options.format, "F", "gguf or dat (default: dat if FILE ends in .dat, else gguf)");
  line.context_option("-c,--ctx-size,--context", options.context, "N",
                      "tokens of a chunk (default 512); each is a sequence of its own");
  line.option("--chunks", options.chunks, -1, 1 << 30, "N", "chunks at most (default -1: all)");
  line.option("--chunk,--from-chunk", options.first_chunk, 0, 1 << 30, "N", "leave the first N chunks out");
  line.flag("--process-output", options.process_output, "collect for output.weight too");
  line.flag("--no-ppl", options.no_ppl, "no perplexity: the head is not computed");
  line.flag("--ppl", options.ppl, "with perplexity, of each chunk's second half (default)");
  line.option("--in-file", options.in_files, reads("FILE[,FILE...]"),
              "add to what these hold; without -f they are put together; repeatable");
  line.option("--output-frequency", options.output_every, 1, 1 << 30, "N",
              "keep what there is in FILE.unfinished every N chunks (default 10): the same command goes on from there");
  line.option("--save-frequency", options.save_every, 0, 1 << 30, "N", "FILE.at_N beside it every N chunks");
  line.option("-b,--batch-size", options.batch, 1, 1 << 30, "N", "of llama-imatrix (default 2048), and");
  line.option("--ubatch-size", options.micro_batch, 1, 1 << 30, "N",
              "(default 512): the tool does not look at pieces of a batch below 16 tokens, and nor is done here");
  line.flag("--parse-special", options.parse_special, "special tokens in the text count as such");
  declare_text(line, options.text);
  declare_modifiers(line, options.modifiers);
  declare_writer(line, options.writer);
  declare_common(line, options.common);
  line.example("ropewalk imatrix model -f calibration.txt -o model.imatrix.gguf",
               "llama-imatrix's statistics, on the CPU in f32");
  line.example("ropewalk imatrix model+rope=yarn,factor=8 -f long.txt -c 16k -o model.imatrix.gguf",
               "of a model whose context is extended");
  line.example("ropewalk imatrix --in-file a.gguf,b.gguf -o both.gguf", "two matrices as one");
}

std::string source_of(const ImatrixOptions& options) {
  std::vector<std::string> all = options.sources;
  if (options.model) all.push_back(*options.model);
  if (all.size() > 1)
    throw Error(ErrorKind::usage, {}, "two models were given, '" + all[0] + "' and '" + all[1] + "'", "give one");
  return all.empty() ? "" : all.front();
}

void check_options(const ImatrixOptions& options, const std::string& source) {
  check_reports(options.common);
  if (options.format && *options.format != "gguf" && *options.format != "dat")
    throw Error(ErrorKind::usage, {}, "--output-format is '" + *options.format + "'", "give gguf or dat");
  if (options.ppl && options.no_ppl) throw Error(ErrorKind::usage, {}, "both --ppl and --no-ppl", "give one of them");
  check_context(static_cast<int>(options.chunk_size()));
  if (options.chunks == 0) throw Error(ErrorKind::usage, {}, "--chunks is 0", "give at least 1, or -1 for all");
  if (source.empty() && options.in_files.empty())
    throw Error(ErrorKind::usage, {}, "no SOURCE and no --in-file", "name the model, or matrices to put together");
  if (source.empty() && options.has_text())
    throw Error(ErrorKind::usage, {}, "a text, and no SOURCE to run it through", "name the model");
  refuse_output(options.common, options.output, "the output");  // the default name too
  check_file_target(options.output, options.common.overwrite);
}

formats::ImatrixCollection read_in_files(const ImatrixOptions& options) {
  formats::ImatrixCollection all;
  for (const std::string& list : options.in_files)
    for (const std::string& file : split_list(list))
      formats::add_imatrix(all, formats::read_imatrix_sums(file, options.chunk_size()), file);
  return all;
}

/// What is odd about the text's beginning is added to `warnings`.
std::vector<verify::CountedWindow> windows_of(const ImatrixOptions& options, const Checkpoint& model,
                                              const Corpus& corpus, std::vector<std::string>& warnings) {
  std::vector<std::vector<std::int32_t>> documents;
  if (options.parse_special && !corpus.given_ids()) documents = encoded(corpus, *tokenizer_of(model), true);
  else documents = corpus_ids(corpus, model);
  warnings = bos_warnings(model, corpus, documents, leading_bos(model, corpus));
  const int context = static_cast<int>(options.chunk_size());
  const verify::WindowPlan plan = with_path(corpus.path, [&] {
    return verify::plan_windows(documents, context, 0, verify::Protocol::llama_cpp, leading_bos(model, corpus));
  });
  const auto first = static_cast<std::size_t>(options.first_chunk);
  if (first >= plan.spans.size())
    throw Error(ErrorKind::bad_input, {.path = corpus.path},
                "the text has " + plural(plan.spans.size(), "chunk") + " of " +
                    plural(std::uint64_t(context), "token") + ", and --chunk leaves out " + std::to_string(first),
                "give a longer text or a smaller --chunk");
  std::size_t count = plan.spans.size() - first;
  if (options.chunks > 0) count = std::min(count, static_cast<std::size_t>(options.chunks));
  std::vector<verify::CountedWindow> windows;
  const verify::EngineBatches batches{static_cast<std::size_t>(context), static_cast<std::size_t>(options.batch),
                                      static_cast<std::size_t>(options.micro_batch)};
  for (verify::Window& ids : verify::window_ids(plan, documents, first, first + count)) {
    const std::size_t index = windows.size();
    windows.push_back({std::move(ids), verify::rows_left_out(batches, index, count)});
  }
  return windows;
}

/// All that what is collected hangs on, files of weights by size and time.
std::string run_hash(const ImatrixOptions& options, const formats::Source& source,
                     const std::vector<verify::CountedWindow>& windows, const formats::ImatrixCollection& before) {
  Sha256 hash;
  const auto add = [&](const std::string& text) {
    hash.update(std::as_bytes(std::span(text)));
    hash.update(std::as_bytes(std::span("\n", 1)));
  };
  const auto add_values = [&](const auto& values) { hash.update(std::as_bytes(std::span(values))); };
  add("2 " + source.spec.text + (options.process_output ? " output" : "") + (options.no_ppl ? "" : " ppl"));
  for (const TensorPtr& tensor : source.checkpoint.tensors)
    add(tensor->name() + " " + std::to_string(tensor->info().bytes()));
  std::vector<fs::path> files;
  if (source.hf) {
    files = source.hf->weight_files;
    add(source.hf->config_text);
  }
  for (const formats::PeftAdapter& adapter : source.adapters) {
    files.push_back(adapter.weights);
    add(adapter.config_text);
  }
  if (source.gguf)
    for (const auto& file : source.gguf->files) files.emplace_back(file->path());
  for (const fs::path& file : files)
    add(std::to_string(fs::file_size(file)) + " " +
        std::to_string(fs::last_write_time(file).time_since_epoch().count()));
  add_values(rope_table(source.checkpoint.config.rope, static_cast<int>(options.chunk_size())).inv_freq);
  for (const verify::CountedWindow& window : windows) {
    add_values(window.ids);
    for (const auto& range : window.left_out) add(std::to_string(range.from) + " " + std::to_string(range.to));
  }
  for (const auto& [name, entry] : before.entries) add(name), add_values(entry.sums), add_values(entry.counts);
  return hash.finish();
}

/// Where a sweep may end: every so many chunks, and no more than memory holds.
std::vector<std::size_t> sweep_ends(const ImatrixOptions& options, const ModelConfig& config, std::size_t done,
                                    const std::vector<verify::CountedWindow>& windows) {
  constexpr std::uint64_t kWindowBytes = std::uint64_t{2} << 30;
  std::vector<std::size_t> ends;
  while (done < windows.size()) {
    const auto next = [&](int every) { return (done / std::size_t(every) + 1) * std::size_t(every); };
    std::size_t end = std::min(windows.size(), next(options.output_every));
    if (options.save_every > 0) end = std::min(end, next(options.save_every));
    const std::vector<std::size_t> lengths(end - done, static_cast<std::size_t>(options.chunk_size()));
    done += verify::split_windows(config, lengths, kWindowBytes).front();
    ends.push_back(done);
  }
  return ends;
}

void add_losses(ImatrixState& state, const std::vector<std::vector<verify::TokenScore>>& scores, std::size_t context) {
  for (const std::vector<verify::TokenScore>& window : scores)
    for (std::size_t at = context / 2; at < window.size(); ++at) {
      state.nll += window[at].nll;
      state.nll_squares += window[at].nll * window[at].nll;
      state.scored += 1;
    }
}

/// --save-frequency's file after so many chunks.
fs::path part_path(const ImatrixOptions& options, std::size_t chunks) {
  return options.output + ".at_" + std::to_string(chunks);
}
bool is_part(const ImatrixOptions& options, std::size_t chunks) {
  return chunks > 0 && options.save_every > 0 && chunks % static_cast<std::size_t>(options.save_every) == 0;
}
/// Of the parts that are still to be written.
void check_parts(const ImatrixOptions& options, std::size_t done, std::size_t chunks) {
  for (std::size_t at = done + 1; at <= chunks; ++at)
    if (is_part(options, at)) {
      refuse_output(options.common, part_path(options, at), "--save-frequency");
      check_file_target(part_path(options, at), options.common.overwrite);
    }
}

void collect(const ImatrixOptions& options, const Checkpoint& model, const std::string& run,
             const std::vector<verify::CountedWindow>& windows, ImatrixState& state, const Io& io) {
  const std::vector<std::size_t> ends = sweep_ends(options, model.config, state.chunks, windows);
  const auto layers = static_cast<std::uint64_t>(model.config.n_layers);
  Progress progress(io, options.common.quiet, "layers", layers * ends.size(), Progress::Unit::steps);
  const WriteOptions write = write_options(options.common, options.writer);
  const auto format = options.dat() ? formats::ImatrixFormat::dat : formats::ImatrixFormat::gguf;
  const auto save_part = [&] {
    formats::write_imatrix(part_path(options, state.chunks), collection_of(state), options.chunk_size(), format, write);
  };
  // killed between the two writes below
  if (is_part(options, state.chunks) && !fs::exists(part_path(options, state.chunks))) save_part();
  for (std::size_t sweep = 0; sweep < ends.size(); ++sweep) {
    verify::CollectOptions how;
    how.sweep.threads = options.common.threads;
    how.sweep.progress = [&](int done) { progress.set(sweep * layers + static_cast<std::uint64_t>(done)); };
    how.output = options.process_output;
    how.scores = !options.no_ppl;
    const std::span part = std::span(windows).subspan(state.chunks, ends[sweep] - state.chunks);
    add_losses(state, verify::collect_input_squares(model, part, state.totals, how),
               static_cast<std::size_t>(options.chunk_size()));
    state.chunks = ends[sweep];
    const bool part_due = is_part(options, state.chunks);
    // first, so that a part is there only where a run can go on from it
    if (part_due || state.chunks < windows.size())
      save_unfinished(options.output, state, options.chunk_size(), run, write);
    if (part_due) save_part();
  }
}

/// Mean loss as a perplexity, with llama-imatrix's estimate of its error.
struct Perplexity {
  double value, error;
};
std::optional<Perplexity> perplexity_of(const ImatrixState& state) {
  if (state.scored < 2) return std::nullopt;
  const double mean = state.nll / state.scored, variance = state.nll_squares / state.scored - mean * mean,
               value = std::exp(mean);
  return Perplexity{value, value * std::sqrt(std::max(0.0, variance) / (state.scored - 1))};
}

Json entries_json(const formats::ImatrixCollection& collection) {
  Json entries = Json::array();
  for (const auto& [name, entry] : collection.entries)
    entries.push_back({{"name", name},
                       {"columns", entry.sums.size() / entry.counts.size()},
                       {"experts", entry.counts.size()},
                       {"experts_never_hit", std::ranges::count(entry.counts, 0)},
                       {"rows", *std::ranges::max_element(entry.counts)}});
  return entries;
}

void finish(const ImatrixOptions& options, const ImatrixState& state, const std::string& of, Output& output) {
  const formats::ImatrixCollection collection = collection_of(state);
  const bool dry_run = options.writer.dry_run;
  const std::optional<Perplexity> perplexity = perplexity_of(state);
  output.body["entries"] = entries_json(collection);
  output.body["output"] = options.output;
  output.body["format"] = options.dat() ? "dat" : "gguf";
  output.body["datasets"] = collection.datasets;
  output.body["perplexity"] = perplexity ? Json{{"value", perplexity->value},
                                                {"error", perplexity->error},
                                                {"tokens", static_cast<std::int64_t>(state.scored)}}
                                         : Json(nullptr);
  output.body["dry_run"] = dry_run;
  if (dry_run) {
    output.text("dry run: nothing written");
    return;
  }
  if (collection.entries.empty())
    throw Error(ErrorKind::bad_input, {}, "no piece of the text has 16 tokens: there is nothing to write",
                "give a larger -c or more chunks");
  formats::write_imatrix(options.output, collection, options.chunk_size(),
                         options.dat() ? formats::ImatrixFormat::dat : formats::ImatrixFormat::gguf,
                         write_options(options.common, options.writer));
  output.written.push_back(options.output);
  std::error_code ignored;
  if (!of.empty()) fs::remove(unfinished_path(options.output), ignored);
  std::string line = options.output + ": importances of " + plural(collection.entries.size(), "tensor") + of;
  if (perplexity)
    line += "; perplexity " + fixed_text(perplexity->value, 4) + " +/- " + fixed_text(perplexity->error, 4);
  output.text(std::move(line));
}

int run_imatrix(const ImatrixOptions& options, Io& io) {
  const std::string text = source_of(options);
  check_options(options, text);
  formats::ImatrixCollection before = read_in_files(options);
  Output output{.command = "imatrix"};
  output.body = {{"corpus", nullptr}, {"context", options.chunk_size()}, {"chunks", 0}, {"resumed", 0}, {"left_out", 0},
                 {"device", "cpu"}};
  if (!options.in_files.empty() && !options.has_text()) {  // as llama-imatrix does, with a model or without
    finish(options, begin_imatrix(std::move(before)), "", output);
    emit(output, options.common, io);
    return 0;
  }
  const Corpus corpus = read_corpus(options.text, io);
  const formats::Source source =
      open_source(text, to_encode(options.modifiers, !corpus.given_ids()), options.common, io);
  if (source.synthetic)
    throw Error(ErrorKind::usage, {}, "'" + text + "' has random weights: what they weigh says nothing of a model",
                "give a model");
  const Checkpoint& model = source.checkpoint;
  check_target(options.output, OutputKind::gguf, source, options.common);
  check_one_model(before, model);
  std::vector<std::string> odd;
  const std::vector<verify::CountedWindow> windows = windows_of(options, model, corpus, odd);
  output.source = source.spec.text;
  output.warnings = model.warnings;
  for (std::string& line : odd) {
    warn(line, options.common, io);
    output.warnings.push_back(std::move(line));
  }
  if (const auto line = past_served(model, static_cast<int>(options.chunk_size()), "'" + source.spec.text + "'")) {
    output.warnings.push_back(*line);
    warn(*line, options.common, io);
  }
  const std::string run = run_hash(options, source, windows, before);
  const std::vector<std::string>& files = options.text.files;
  before.datasets.insert(before.datasets.end(), files.begin(), files.end());
  if (files.empty()) before.datasets.push_back(corpus.path);
  ImatrixState state = begin_imatrix(std::move(before));
  std::size_t resumed = 0, left_out = 0;
  if (auto unfinished = read_unfinished(options.output, options.chunk_size(), run, options.common.overwrite)) {
    state = std::move(*unfinished);
    resumed = state.chunks;
    if (!options.common.quiet)
      io.err << "goes on from " << unfinished_path(options.output).string() << ": " << plural(resumed, "chunk")
             << " of " << windows.size() << " done\n";
  }
  check_parts(options, resumed, windows.size());
  for (const verify::CountedWindow& window : windows)
    for (const auto& range : window.left_out) left_out += range.to - range.from;
  if (!options.writer.dry_run) collect(options, model, run, windows, state, io);
  output.body["corpus"] = corpus_json(corpus, windows.size() * static_cast<std::size_t>(options.chunk_size()));
  output.body["chunks"] = windows.size();
  output.body["resumed"] = resumed;
  output.body["left_out"] = left_out;
  std::string of = " from " + plural(windows.size(), "chunk") + " of " +
                   plural(static_cast<std::uint64_t>(options.chunk_size()), "token") + " of " + corpus.path;
  if (left_out > 0) of += " (" + plural(left_out, "token") + " left out, as llama-imatrix does)";
  finish(options, state, of, output);
  emit(output, options.common, io);
  return 0;
}

}  // namespace

Command imatrix_command() {
  return make_command("imatrix", "importance matrix of a text, as llama-imatrix collects it", declare, run_imatrix);
}

}  // namespace ropewalk::tools
