#include <algorithm>

#include "formats/tokenizers/tokenizer.h"
#include "lib/error.h"
#include "tools/commands.h"
#include "tools/describe_tokenizer.h"
#include "tools/common_options.h"
#include "tools/sweep_options.h"
#include "tools/text_input.h"
#include "tools/units.h"

namespace ropewalk::tools {
namespace {

struct GenerateOptions {
  std::string source;
  std::optional<std::string> prompt;
  int n_tokens = 64;
  bool ignore_eos = false;
  TextOptions text;
  SourceOptions modifiers;
  CommonOptions common;
};

void declare(CommandLine& line, GenerateOptions& options) {
  line.positional(options.source, reads("SOURCE"), "the model");
  line.option("-p,--prompt", options.prompt, "TEXT", "the prompt (or give it with -f FILE or --tokens IDS.json)");
  line.option("-n,--n-predict", options.n_tokens, 1, 1 << 24, "N", "tokens to generate (default 64)");
  line.flag("--ignore-eos", options.ignore_eos, "go on after the end-of-sequence token");
  declare_text(line, options.text, false);
  declare_modifiers(line, options.modifiers);
  declare_unmerged(line, options.modifiers);
  declare_common(line, options.common);
  line.example("ropewalk generate model -p 'Once upon a time' -n 100",
               "greedy: the likeliest token each time, the same text on every machine");
}

verify::Window prompt_of(const GenerateOptions& options, const Checkpoint& model, const Io& io) {
  Corpus corpus;
  if (options.prompt) {
    if (options.text.tokens || !options.text.files.empty())
      throw Error(ErrorKind::usage, {}, "-p and a file were both given", "give one of them");
    corpus = prompt_corpus(*options.prompt);
  } else {
    if (!options.text.tokens && options.text.files.empty())
      throw Error(ErrorKind::usage, {}, "no prompt given", "give -p TEXT, -f FILE or --tokens IDS.json");
    corpus = read_corpus(options.text, io);
  }
  const auto documents = corpus_ids(corpus, model);
  if (documents.size() != 1)
    throw Error(ErrorKind::usage, {},
                "one prompt is continued, and " + std::to_string(documents.size()) + " were given", "give one");
  verify::Window window = leading_ids(model, corpus);
  window.insert(window.end(), documents[0].begin(), documents[0].end());
  if (window.empty())
    throw Error(ErrorKind::bad_input, {.path = corpus.path}, "the prompt has no tokens", "give some text");
  return window;
}

/// What the new ids add to the decoded prompt: spaces at the seam come out as in one text.
std::string continuation(const formats::Tokenizer& tokenizer, const verify::Window& prompt,
                         const std::vector<std::int32_t>& ids) {
  verify::Window whole = prompt;
  whole.insert(whole.end(), ids.begin(), ids.end());
  const std::string before = tokenizer.decode(prompt), all = tokenizer.decode(whole);
  return all.starts_with(before) ? all.substr(before.size()) : tokenizer.decode(ids);
}

/// What positions past the trained or served context say means little; nothing else would tell.
std::optional<std::string> past_the_context(std::size_t prompt, int n_tokens, int context) {
  if (context < 1 || prompt + static_cast<std::size_t>(n_tokens) <= static_cast<std::size_t>(context))
    return std::nullopt;
  return "a prompt of " + plural(prompt, "token") + " and up to " + std::to_string(n_tokens) +
         " more go past the model's context of " + std::to_string(context) +
         ": what it says from there on means little (a longer context: SOURCE+rope=SPEC)";
}

int run_generate(const GenerateOptions& options, Io& io) {
  check_reports(options.common, {.table = false});
  const formats::Source source =
      open_source(options.source, to_encode(options.modifiers, !options.text.tokens), options.common, io);
  check_unmerged(options.modifiers, source);
  const Checkpoint& model = source.checkpoint;
  const verify::Window prompt = prompt_of(options, model, io);
  std::vector<std::string> warnings = model.warnings;
  warn_of_vocabulary(source, options.common, io, warnings);
  if (const auto warning = past_the_context(prompt.size(), options.n_tokens, model.config.context)) {
    warnings.push_back(*warning);
    warn(*warning, options.common, io);
  }
  const auto stop = options.ignore_eos || !model.vocabulary ? std::nullopt : model.vocabulary->eos;
  verify::SweepOptions sweep;
  sweep.threads = options.common.threads;
  const auto [ids, stopped] = verify::generate(model, prompt, options.n_tokens, stop, sweep);
  Output output{.command = "generate", .source = source.spec.text, .warnings = warnings};
  const std::string text =
      model.vocabulary ? continuation(*formats::Tokenizer::create(*model.vocabulary), prompt, ids) : "";
  output.body = {{"prompt_ids", prompt},
                 {"ids", ids},
                 {"text", model.vocabulary ? Json(text) : Json(nullptr)},
                 {"stopped", stopped},
                 {"unmerged", options.modifiers.unmerged}};
  if (model.vocabulary) {
    output.text(options.prompt.value_or("") + text);
  } else {
    std::string list;
    for (std::int32_t id : ids) list += (list.empty() ? "" : " ") + std::to_string(id);
    output.text(list);
  }
  emit(output, options.common, io);
  return 0;
}

}  // namespace

Command generate_command() {
  return make_command("generate", "greedy continuation of a prompt", declare, run_generate);
}

}  // namespace ropewalk::tools
