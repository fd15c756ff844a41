#include <algorithm>
#include <memory>

#include "formats/tokenizers/tokenizer.h"
#include "lib/error.h"
#include "tools/commands.h"
#include "tools/common_options.h"
#include "tools/text_input.h"
#include "tools/token_difference.h"
#include "tools/units.h"

namespace ropewalk::tools {
namespace {

struct TokenizeOptions {
  std::vector<std::string> sources;
  std::optional<std::string> prompt;
  TextOptions text;
  bool decode = false, count = false, special = false, bos = false, exit_code = false;
  CommonOptions common;
};

void declare(CommandLine& line, TokenizeOptions& options) {
  line.positionals(
      options.sources, reads("SOURCE"),
      "whose tokenizer: a model, or a folder or GGUF that has nothing else; with several, the first difference between "
      "them is shown",
      1);
  line.option("-p,--prompt", options.prompt, "TEXT",
              "the text itself (with --decode: ids separated by spaces or commas)");
  line.flag("--decode", options.decode, "ids to text; ids come from -p or --tokens");
  line.flag("--count", options.count, "only the number of tokens");
  line.flag("--special", options.special,
            "special tokens written in the text become those tokens; from ids to text they are written");
  line.flag("--bos", options.bos, "start with the tokens that the tokenizer is configured to put before a text (BOS)");
  line.flag("--exit-code", options.exit_code, "with several SOURCEs: exit 1 if their ids differ");
  declare_text(line, options.text, false);
  declare_no_modifiers(line);
  declare_common(line, options.common);
  line.example("ropewalk tokenize model -p 'Hello world'", "ids and pieces");
  line.example("ropewalk tokenize hf-folder out.gguf -f text.txt", "where two tokenizers part");
  line.example("ropewalk tokenize model --decode -p '1 15043 3186'", "ids to text");
  line.example("ropewalk tokenize folder-of-a-tokenizer -f text.txt --count", "no weights are needed");
}

std::vector<std::int32_t> ids_of_words(std::string words) {
  std::replace(words.begin(), words.end(), ',', ' ');
  words.erase(std::remove_if(words.begin(), words.end(), [](char c) { return c == '[' || c == ']'; }), words.end());
  std::vector<std::int32_t> ids;
  for (const std::string& word : split_list(words, ' ')) {
    if (word.empty()) continue;
    try {
      std::size_t used = 0;
      ids.push_back(std::stoi(word, &used));
      if (used != word.size() || ids.back() < 0) throw std::invalid_argument(word);
    } catch (const std::exception&) {
      throw Error(ErrorKind::usage, {}, "'" + word + "' is not a token id",
                  "give whole numbers separated by spaces or commas");
    }
  }
  return ids;
}

std::vector<std::int32_t> all_ids(const std::vector<std::vector<std::int32_t>>& documents) {
  std::vector<std::int32_t> ids;
  for (const auto& document : documents) ids.insert(ids.end(), document.begin(), document.end());
  return ids;
}

/// What is to be tokenized: the prompt, or the corpus.
Corpus input_of(const TokenizeOptions& options, const Io& io) {
  const bool ids_given = options.decode || options.text.tokens;
  if (ids_given && options.sources.size() > 1)
    throw Error(ErrorKind::usage, {}, "ids were given, and ids mean what one tokenizer says",
                "give one SOURCE, or a text to compare them on");
  if (ids_given && options.bos)
    throw Error(ErrorKind::usage, {}, "--bos is of text, and ids were given", "leave it out");
  if (!options.prompt) {
    if (options.decode && !options.text.tokens)
      throw Error(ErrorKind::usage, {}, "--decode has no ids", "give them with -p '1 2 3' or --tokens IDS.json");
    if (!options.text.tokens && options.text.files.empty())
      throw Error(ErrorKind::usage, {}, "no text given", "give -p TEXT, -f FILE or --tokens IDS.json");
    return read_corpus(options.text, io);
  }
  if (options.text.tokens || !options.text.files.empty())
    throw Error(ErrorKind::usage, {}, "-p and a file were both given", "give one of them");
  if (!options.decode) return prompt_corpus(*options.prompt);
  return {.path = "prompt", .ids = {ids_of_words(*options.prompt)}, .names = {"prompt"}};
}

TokenizedText tokens_of(const std::string& text, const Corpus& corpus, const TokenizeOptions& options, const Io& io,
                        std::vector<std::string>& warnings) {
  const formats::Source source = open_tokenizer(text, options.common, io);
  warnings.insert(warnings.end(), source.checkpoint.warnings.begin(), source.checkpoint.warnings.end());
  TokenizedText tokens{.source = text, .tokenizer = tokenizer_of(source.checkpoint)};
  check_given_ids(corpus, tokens.tokenizer->size(), text);
  if (corpus.given_ids()) tokens.ids = all_ids(corpus.ids);
  else if (options.bos) tokens.ids = leading_ids(source.checkpoint, corpus);
  const auto before = tokens.ids.empty() || corpus.given_ids() ? std::nullopt : std::optional(tokens.ids.back());
  const auto documents = encoded(corpus, *tokens.tokenizer, options.special);
  for (const auto& document : documents) {
    tokens.document_begins.push_back(tokens.ids.size());
    tokens.ids.insert(tokens.ids.end(), document.begin(), document.end());
  }
  for (std::string& line : bos_warnings(source.checkpoint, corpus, documents, before)) {
    warn(line, options.common, io);
    warnings.push_back(std::move(line));
  }
  return tokens;
}

std::string listed(const TokenizedText& tokens) {
  std::string ids, pieces;
  for (std::int32_t id : tokens.ids) {
    ids += (ids.empty() ? "" : " ") + std::to_string(id);
    pieces += (pieces.empty() ? "" : "|") + tokens.tokenizer->piece(id);
  }
  std::replace(pieces.begin(), pieces.end(), '\n', ' ');
  return aligned({{"tokens", std::to_string(tokens.ids.size())}, {"ids", ids}, {"pieces", pieces}});
}

/// The number alone; of several SOURCEs a line each.
std::string counts_text(const std::vector<TokenizedText>& all) {
  if (all.size() == 1) return std::to_string(all.front().ids.size());
  std::vector<std::pair<std::string, std::string>> lines;
  for (const TokenizedText& tokens : all) lines.emplace_back(tokens.source, std::to_string(tokens.ids.size()));
  return aligned(lines);
}

std::vector<std::string> pieces_of(const TokenizedText& tokens) {
  std::vector<std::string> pieces;
  for (std::int32_t id : tokens.ids) pieces.push_back(tokens.tokenizer->piece(id));
  return pieces;
}

Table table_of(const std::vector<TokenizedText>& all) {
  Table table{{{"source"}, {"token", true}, {"id", true}, {"piece"}}, {}};
  for (const TokenizedText& tokens : all)
    for (std::size_t i = 0; i < tokens.ids.size(); ++i)
      table.rows.push_back(
          {tokens.source, std::to_string(i), std::to_string(tokens.ids[i]), tokens.tokenizer->piece(tokens.ids[i])});
  return table;
}

std::string no_verdict(const TokenizeOptions& options) {
  return !options.exit_code ? "tokenize without --exit-code" : "";
}

int run_tokenize(const TokenizeOptions& options, Io& io) {
  check_reports(options.common, {.table = !options.count});
  if (options.exit_code && options.sources.size() < 2)
    throw Error(ErrorKind::usage, {}, "--exit-code compares several SOURCEs, and one was given", "name a second one");
  const Corpus corpus = input_of(options, io);
  Output output{.command = "tokenize", .source = options.sources.front()};
  std::vector<TokenizedText> all;
  for (const std::string& source : options.sources)
    all.push_back(tokens_of(source, corpus, options, io, output.warnings));
  const TokenizedText& first = all.front();
  const std::string decoded = corpus.given_ids() ? first.tokenizer->decode(first.ids, options.special) : "";
  output.body = {{"count", first.ids.size()},
                 {"ids", options.count ? Json(nullptr) : Json(first.ids)},
                 {"pieces", options.count ? Json(nullptr) : Json(pieces_of(first))},
                 {"text", corpus.given_ids() ? Json(decoded) : Json(nullptr)},
                 {"differences", nullptr}};
  if (options.count) output.text(counts_text(all));
  else if (options.decode) output.text(decoded);
  else if (all.size() == 1) output.text(listed(first));
  if (!options.count) output.csv = table_of(all);

  if (all.size() > 1) output.body["differences"] = Json::array();
  bool differ = false;
  for (std::size_t i = 1; i < all.size(); ++i) {
    const TokenDifference difference = first_difference(first, all[i], corpus);
    output.body["differences"].push_back(difference_json(difference, first, all[i]));
    if (!options.count) output.text(difference_text(difference, first, all[i]));
    differ = differ || difference.at;
  }
  emit(output, options.common, io);
  return options.exit_code && differ ? 1 : 0;
}

}  // namespace

Command tokenize_command() {
  return make_command("tokenize", "text to ids and back; where two tokenizers part", declare, run_tokenize,
                      {.no_verdict = no_verdict});
}

}  // namespace ropewalk::tools
