#include "tools/text_input.h"

#include <istream>
#include <iterator>
#include <limits>

#include "formats/tokenizer.h"
#include "lib/error.h"
#include "lib/file.h"
#include "lib/sha256.h"

namespace ropewalk::tools {
namespace {

constexpr std::uint64_t kMaxTextBytes = std::uint64_t{4} << 30;

std::vector<std::int32_t> parse_list(const std::string& path, const Json& list) {
  std::vector<std::int32_t> ids;
  for (const Json& id : list) {
    if (!id.is_number_integer() || id < 0 || id > std::numeric_limits<std::int32_t>::max())
      throw Error(ErrorKind::bad_input, {.path = path}, "'" + id.dump() + "' is not a token id",
                  "give a list of whole numbers, or a list of such lists");
    ids.push_back(id.get<std::int32_t>());
  }
  return ids;
}

}  // namespace

void declare_text(CommandLine& line, TextOptions& options, bool bundled) {
  line.group("Text");
  line.option("-f,--file", options.files, "TEXT",
              bundled ? "text to evaluate on, UTF-8; - is standard input. Default: a bundled public-domain text, named "
                        "in the output. Repeatable: each file is a document"
                      : "the text, UTF-8, from a file; - is standard input");
  line.option("--tokens", options.tokens, "IDS.json",
              "ids instead of text: a JSON list, or a list of lists (documents). Taken as they are, nothing is added");
}

std::string read_text(const std::string& path, const Io& io) {
  if (path == "-") return {std::istreambuf_iterator<char>(io.in), std::istreambuf_iterator<char>()};
  return read_text_file(path, kMaxTextBytes);
}

std::vector<std::vector<std::int32_t>> parse_ids(const std::string& path, const std::string& text) {
  const Json json = formats::parse_json(path, text, {.max_bytes = kMaxTextBytes, .max_depth = 3});
  if (!json.is_array() || json.empty())
    throw Error(ErrorKind::bad_input, {.path = path}, "expected a list of token ids",
                "give a JSON list of whole numbers, or a list of such lists");
  if (!json.front().is_array()) return {parse_list(path, json)};
  std::vector<std::vector<std::int32_t>> documents;
  for (const Json& document : json) {
    if (!document.is_array())
      throw Error(ErrorKind::bad_input, {.path = path}, "lists and numbers are mixed",
                  "give a list of whole numbers, or a list of such lists");
    documents.push_back(parse_list(path, document));
  }
  return documents;
}

Corpus read_corpus(const TextOptions& options, const Io& io) {
  if (options.tokens && !options.files.empty())
    throw Error(ErrorKind::usage, {}, "both -f and --tokens were given", "give one of them");
  Corpus corpus;
  if (options.tokens) {
    const std::string text = read_text(*options.tokens, io);
    corpus.path = *options.tokens;
    corpus.sha256 = sha256(text);
    corpus.ids = parse_ids(*options.tokens, text);
    return corpus;
  }
  if (options.files.empty()) {
    corpus.path = "war-and-peace-tail.txt (bundled)";
    corpus.documents.emplace_back(bundled_text());
  }
  for (const std::string& file : options.files) {
    corpus.path += (corpus.path.empty() ? "" : ", ") + file;
    corpus.documents.push_back(read_text(file, io));
  }
  Sha256 hash;
  for (const std::string& document : corpus.documents) hash.update(std::as_bytes(std::span(document)));
  corpus.sha256 = hash.finish();
  return corpus;
}

const Vocabulary& vocabulary_of(const Checkpoint& checkpoint) {
  if (!checkpoint.vocabulary)
    throw Error(ErrorKind::bad_input, {.path = checkpoint.label},
                "there is no tokenizer beside the weights, and text needs one",
                "put tokenizer.model into the folder, or give ids with --tokens");
  return *checkpoint.vocabulary;
}

std::vector<std::vector<std::int32_t>> corpus_ids(const Corpus& corpus, const Checkpoint& checkpoint) {
  if (corpus.given_ids()) return corpus.ids;
  const auto tokenizer = formats::Tokenizer::create(vocabulary_of(checkpoint));
  std::vector<std::vector<std::int32_t>> documents;
  for (const std::string& text : corpus.documents) documents.push_back(tokenizer->encode(text));
  return documents;
}

std::optional<std::int32_t> leading_bos(const Checkpoint& checkpoint) {
  if (!checkpoint.vocabulary) return std::nullopt;
  return checkpoint.vocabulary->add_bos.value_or(true) ? checkpoint.vocabulary->bos : std::nullopt;
}

std::optional<std::int32_t> leading_bos(const Checkpoint& checkpoint, const Corpus& corpus) {
  return corpus.given_ids() ? std::nullopt : leading_bos(checkpoint);
}

std::uint64_t count_ids(const std::vector<std::vector<std::int32_t>>& documents) {
  std::uint64_t n = 0;
  for (const auto& document : documents) n += document.size();
  return n;
}

Json corpus_json(const Corpus& corpus, std::uint64_t tokens) {
  return {{"path", corpus.path}, {"sha256", corpus.sha256}, {"tokens", tokens}};
}

}  // namespace ropewalk::tools
