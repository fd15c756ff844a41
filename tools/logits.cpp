#include "formats/safetensors.h"
#include "lib/error.h"
#include "lib/executor.h"
#include "lib/recipes.h"
#include "tools/commands.h"
#include "tools/common_options.h"
#include "tools/describe.h"
#include "tools/output_plan.h"
#include "tools/served_context.h"
#include "tools/sweep_options.h"
#include "tools/text_input.h"
#include "tools/units.h"

namespace ropewalk::tools {
namespace {

struct LogitsOptions {
  std::string source, output;
  int last = 0;
  std::optional<int> context;
  TextOptions text;
  SourceOptions modifiers;
  DeviceChoice device;
  WriterOptions writer;
  CommonOptions common;
};

void declare(CommandLine& line, LogitsOptions& options) {
  line.positional(options.source, reads("SOURCE"), "the model");
  line.option(
      "-o,--output", options.output, writes("F.safetensors"),
      "where to write (a safetensors file with input_ids, logits [N, vocab] in f32 and nll [tokens - 1] in f64)");
  line.option("--last", options.last, 1, 1 << 30, "N", "logits of the last N positions only (default: all)");
  line.context_option("-c,--context,--ctx-size", options.context, "N",
                      "the first N tokens of the text (default: all of it, and of the bundled text what the model "
                      "serves). A text longer than the model serves needs it");
  declare_text(line, options.text);
  declare_modifiers(line, options.modifiers);
  declare_unmerged(line, options.modifiers);
  declare_device(line, options.device);
  declare_writer(line, options.writer);
  declare_common(line, options.common);
  line.example("ropewalk logits model -f text.txt -c 2048 --last 16 -o logits.safetensors",
               "to compare with another engine");
}

template <class T>
TensorPtr tensor_of(const char* name, std::vector<std::uint64_t> shape, DType dtype, const std::vector<T>& values) {
  const auto bytes = std::as_bytes(std::span(values));
  return memory_tensor({name, std::move(shape), dtype}, {bytes.begin(), bytes.end()});
}

/// Tokens to take of a text of `size`: -c, else all of it as far as the model serves them. A text of one's own that is
/// longer is an error, the bundled one is there to be cut.
std::size_t length_of(const LogitsOptions& options, const Checkpoint& model, const Corpus& corpus, std::size_t size) {
  if (options.context || corpus.bundled) return static_cast<std::size_t>(context_of(options.context, model));
  const int served = model.config.context;
  if (served > 0 && size > static_cast<std::size_t>(served))
    throw Error(
        ErrorKind::bad_input, {.path = corpus.path},
        "the text has " + plural(size, "token") + ", and '" + model.label + "' serves " + std::to_string(served),
        "give -c " + std::to_string(served) + " for the first of them, or a larger -c to go past what it serves");
  return size;
}

verify::Window window_of(const LogitsOptions& options, const Checkpoint& model, const Corpus& corpus,
                         const std::vector<std::vector<std::int32_t>>& documents) {
  if (documents.size() != 1)
    throw Error(ErrorKind::usage, {}, "logits are of one text, and " + std::to_string(documents.size()) + " were given",
                "give one");
  verify::Window window = leading_ids(model, corpus);
  window.insert(window.end(), documents[0].begin(), documents[0].end());
  const std::size_t length = length_of(options, model, corpus, window.size());
  if (window.size() < length)
    throw Error(ErrorKind::bad_input, {.path = corpus.path},
                "the text has " + plural(window.size(), "token") + ", a context of " + std::to_string(length) +
                    " needs as many",
                "give a longer text or a smaller -c");
  window.resize(length);
  if (window.size() < 2)
    throw Error(ErrorKind::bad_input, {.path = corpus.path},
                "the text has " + plural(window.size(), "token") + ", at least 2 are needed", "give a longer text");
  if (options.last > 0 && static_cast<std::size_t>(options.last) > window.size())
    throw Error(ErrorKind::usage, {},
                "--last is " + std::to_string(options.last) + ", and the text has " + plural(window.size(), "token"),
                "give a smaller --last");
  return window;
}

/// "the first 512 of 369213 tokens" of a text, or how many there are.
std::string extent_text(std::size_t taken, const Corpus& corpus, std::uint64_t tokens) {
  const std::string whole = plural(tokens, "token") + " of " + corpus.path;
  return taken < tokens ? "the first " + std::to_string(taken) + " of " + whole : whole;
}

void check_options(const LogitsOptions& options) {
  if (options.output.empty()) throw Error(ErrorKind::usage, {}, "no output given", "name it with -o FILE.safetensors");
  check_output_name(options.output, OutputKind::safetensors);
  if (options.context) check_context(*options.context);
  if (options.context && options.last > *options.context)
    throw Error(ErrorKind::usage, {},
                "--last is " + std::to_string(options.last) + ", and -c " + std::to_string(*options.context),
                "give a smaller --last");
  check_target(options.output, OutputKind::safetensors, {}, options.common);
  // made and removed again: whatever stands against writing there is known before the work
  if (!options.writer.dry_run)
    const PendingFile probe(options.output, 1, write_options(options.common, options.writer));
}

int run_logits(const LogitsOptions& options, Io& io) {
  check_reports(options.common, {.table = false});
  check_options(options);
  SweepDevice device = choose_device(options.device);
  const Corpus corpus = read_corpus(options.text, io);
  const formats::Source source =
      open_source(options.source, to_encode(options.modifiers, !corpus.given_ids()), options.common, io);
  check_unmerged(options.modifiers, source);
  const Checkpoint& model = source.checkpoint;
  const auto documents = corpus_ids(corpus, model);
  const verify::Window window = window_of(options, model, corpus, documents);
  const std::uint64_t rows = options.last > 0 ? static_cast<std::uint64_t>(options.last) : window.size(),
                      n_vocab = static_cast<std::uint64_t>(model.config.n_vocab);
  check_target(options.output, OutputKind::safetensors, source, options.common);
  std::vector<std::string> warnings = model.warnings;
  const auto before = leading_ids(model, corpus);
  for (std::string& line :
       bos_warnings(model, corpus, documents, before.empty() ? std::nullopt : std::optional(before.back()))) {
    warn(line, options.common, io);
    warnings.push_back(std::move(line));
  }
  if (const auto line = past_served(model, static_cast<int>(window.size()), "'" + source.spec.text + "'")) {
    warnings.push_back(*line);
    warn(*line, options.common, io);
  }
  announce({.targets = {{options.output, rows * n_vocab * 4 + window.size() * 16}},
            .what = "1 file",
            .read_bytes = total_bytes(model.tensors)},
           options.common, io);

  Output output{.command = "logits", .source = source.spec.text, .warnings = warnings};
  output.body = {{"corpus", corpus_json(corpus, window.size())},
                 {"context", window.size()},
                 {"rows", rows},
                 {"vocabulary", n_vocab},
                 {"nll", nullptr},
                 {"device", nullptr},
                 {"unmerged", options.modifiers.unmerged},
                 {"output", options.output},
                 {"dry_run", options.writer.dry_run}};
  if (!options.writer.dry_run) {
    Progress progress(io, options.common.quiet, "layers", static_cast<std::uint64_t>(model.config.n_layers),
                      Progress::Unit::steps);
    verify::LogitsResult result =
        verify::logits(model, window, options.last, sweep_options(options.common, device, progress, io));
    tell_sweep(device, options.common, io);
    output.body["device"] = device_json(device);
    const std::vector<double>& nll = result.nll;
    const std::vector<std::int64_t> ids(window.begin(), window.end());
    const auto layout = formats::plan_safetensors({tensor_of("input_ids", {ids.size()}, DType::i64, ids),
                                                   memory_tensor("logits", {rows, n_vocab}, std::move(result.logits)),
                                                   tensor_of("nll", {nll.size()}, DType::f64, nll)},
                                                  {});
    PendingFile file(options.output, layout.file_bytes, write_options(options.common, options.writer));
    file.write(0, std::as_bytes(std::span(layout.header)));
    std::vector<StreamItem> items;
    for (const auto& [tensor, offset] : layout.places) items.push_back({tensor, {{tensor->dtype(), &file, offset}}});
    stream(items, {.threads = options.common.threads, .progress = {}});
    file.finish();
    double sum = 0;
    for (double value : nll) sum += value;
    output.body["nll"] = sum / static_cast<double>(nll.size());
    output.text(options.output + ": logits of " + plural(rows, "position") + ", mean NLL " +
                number_text(sum / static_cast<double>(nll.size()), 6) + " over " + plural(nll.size(), "token") + "; " +
                extent_text(window.size(), corpus, documents[0].size() + leading_ids(model, corpus).size()) +
                unmerged_text(options.modifiers));
  } else {
    output.text("dry run: nothing written");
  }
  emit(output, options.common, io);
  return 0;
}

}  // namespace

Command logits_command() {
  return make_command("logits", "logits and losses of a text, as safetensors", declare, run_logits);
}

}  // namespace ropewalk::tools
