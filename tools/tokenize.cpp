#include <algorithm>
#include <memory>

#include "formats/tokenizers/tokenizer.h"
#include "lib/error.h"
#include "tools/commands.h"
#include "tools/common_options.h"
#include "tools/text_input.h"
#include "tools/units.h"

namespace ropewalk::tools {
namespace {

struct TokenizeOptions {
  std::vector<std::string> sources;
  std::optional<std::string> prompt;
  TextOptions text;
  bool decode = false, count = false, special = false, bos = false;
  CommonOptions common;
};

void declare(CommandLine& line, TokenizeOptions& options) {
  line.positionals(options.sources, "SOURCE",
                   "whose tokenizer; with several, the first difference between them is shown", 1);
  line.option("-p,--prompt", options.prompt, "TEXT",
              "the text itself (with --decode: ids separated by spaces or commas)");
  line.flag("--decode", options.decode, "ids to text; ids come from -p or --tokens");
  line.flag("--count", options.count, "only the number of tokens");
  line.flag("--special", options.special, "special tokens written in the text become those tokens");
  line.flag("--bos", options.bos, "start with the BOS token if the tokenizer is configured to add one");
  declare_text(line, options.text, false);
  declare_no_modifiers(line);
  declare_common(line, options.common);
  line.example("ropewalk tokenize model -p 'Hello world'", "ids and pieces");
  line.example("ropewalk tokenize hf-folder out.gguf -f text.txt", "where two tokenizers part");
  line.example("ropewalk tokenize model --decode -p '1 15043 3186'", "ids to text");
}

struct Tokens {
  std::string source = {};
  std::vector<std::int32_t> ids = {};
  std::vector<std::string> pieces = {};
  std::string text = {};  // decoded
};

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
  if ((options.decode || options.text.tokens) && (options.bos || options.special))
    throw Error(ErrorKind::usage, {}, "--bos and --special are of text, and ids were given", "leave them out");
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

Tokens tokens_of(const std::string& text, const Corpus& corpus, const TokenizeOptions& options, const Io& io) {
  const formats::Source source = open_source(text, {}, options.common, io);
  const Vocabulary& vocabulary = vocabulary_of(source.checkpoint);
  const auto tokenizer = formats::Tokenizer::create(vocabulary);
  Tokens tokens{.source = text};
  check_given_ids(corpus, tokenizer->size(), text);
  if (corpus.given_ids()) tokens.ids = all_ids(corpus.ids);
  else if (const auto bos = options.bos ? leading_bos(source.checkpoint) : std::nullopt) tokens.ids.push_back(*bos);
  for (const std::string& document : corpus.documents) {
    const auto ids = tokenizer->encode(document, options.special);
    tokens.ids.insert(tokens.ids.end(), ids.begin(), ids.end());
  }
  if (!options.count)
    for (std::int32_t id : tokens.ids) tokens.pieces.push_back(tokenizer->piece(id));
  if (corpus.given_ids()) tokens.text = tokenizer->decode(tokens.ids);
  return tokens;
}

std::string listed(const Tokens& tokens) {
  std::string ids, pieces;
  for (std::int32_t id : tokens.ids) ids += (ids.empty() ? "" : " ") + std::to_string(id);
  for (const std::string& piece : tokens.pieces) pieces += (pieces.empty() ? "" : "|") + piece;
  std::replace(pieces.begin(), pieces.end(), '\n', ' ');
  return aligned({{"tokens", std::to_string(tokens.ids.size())}, {"ids", ids}, {"pieces", pieces}});
}

/// Where `b` first differs from `a`, or nullopt.
std::optional<std::size_t> first_difference(const Tokens& a, const Tokens& b) {
  const auto [at, other] = std::mismatch(a.ids.begin(), a.ids.end(), b.ids.begin(), b.ids.end());
  if (at == a.ids.end() && other == b.ids.end()) return std::nullopt;
  return static_cast<std::size_t>(at - a.ids.begin());
}

std::string around(const Tokens& tokens, std::size_t at) {
  std::string out;
  for (std::size_t i = at >= 3 ? at - 3 : 0; i < std::min(tokens.ids.size(), at + 4); ++i)
    out += (out.empty() ? "" : " ") + std::string(i == at ? ">" : "") + std::to_string(tokens.ids[i]) +
           (i < tokens.pieces.size() ? "(" + tokens.pieces[i] + ")" : "");
  return out.empty() ? "nothing" : out;
}

int run_tokenize(const TokenizeOptions& options, Io& io) {
  check_reports(options.common, !options.count);
  const Corpus corpus = input_of(options, io);
  std::vector<Tokens> all;
  for (const std::string& source : options.sources) all.push_back(tokens_of(source, corpus, options, io));
  const Tokens& first = all.front();

  Output output{.command = "tokenize", .source = first.source};
  output.body = {{"count", first.ids.size()},
                 {"ids", options.count ? Json(nullptr) : Json(first.ids)},
                 {"pieces", options.count ? Json(nullptr) : Json(first.pieces)},
                 {"text", corpus.given_ids() ? Json(first.text) : Json(nullptr)},
                 {"differences", nullptr}};
  if (options.count) output.text(std::to_string(first.ids.size()));
  else if (options.decode) output.text(first.text);
  else if (all.size() == 1) output.text(listed(first));

  output.csv = Table{{{"source"}, {"token", true}, {"id", true}, {"piece"}}, {}};
  for (const Tokens& tokens : all)
    for (std::size_t i = 0; i < tokens.pieces.size(); ++i)
      output.csv->rows.push_back({tokens.source, std::to_string(i), std::to_string(tokens.ids[i]), tokens.pieces[i]});

  if (all.size() > 1) output.body["differences"] = Json::array();
  for (std::size_t i = 1; i < all.size(); ++i) {
    const auto at = first_difference(first, all[i]);
    output.body["differences"].push_back(
        {{"source", all[i].source}, {"count", all[i].ids.size()}, {"at", at ? Json(*at) : Json(nullptr)}});
    if (!at) {
      output.text(all[i].source + ": the same " + plural(first.ids.size(), "id") + " as " + first.source);
    } else {
      output.text("first difference at token " + std::to_string(*at) + ":\n" +
                  aligned({{"  " + first.source, around(first, *at)}, {"  " + all[i].source, around(all[i], *at)}}));
    }
  }
  emit(output, options.common, io);
  return 0;
}

}  // namespace

Command tokenize_command() {
  return make_command("tokenize", "text to ids and back; where two tokenizers part", declare, run_tokenize);
}

}  // namespace ropewalk::tools
