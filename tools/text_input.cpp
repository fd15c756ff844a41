#include "tools/text_input.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <istream>
#include <limits>

#include "formats/json_fields.h"
#include "formats/json_lines.h"
#include "formats/tokenizers/tokenizer.h"
#include "formats/utf8.h"
#include "formats/zstd.h"
#include "formats/tokenizers/tokenizer_file.h"
#include "lib/error.h"
#include "lib/file.h"
#include "lib/sha256.h"

namespace ropewalk::tools {
namespace {

constexpr std::uint64_t kMaxTextBytes = std::uint64_t{4} << 30;

/// To the end of what says nothing of its size.
std::string read_stream(const std::string& path, std::istream& in) {
  std::string text;
  for (std::size_t block = std::size_t{1} << 20; in;) {
    const std::size_t size = text.size();
    text.resize(size + block);
    in.read(text.data() + size, static_cast<std::streamsize>(block));
    text.resize(size + static_cast<std::size_t>(in.gcount()));
    if (text.size() > kMaxTextBytes)
      throw Error(ErrorKind::bad_input, {.path = path},
                  "has more than " + std::to_string(kMaxTextBytes) + " bytes, the most that are accepted here",
                  "check that this is the right text");
  }
  if (in.bad()) throw Error(ErrorKind::io, {.path = path}, "could not be read to its end", "check what writes into it");
  return text;
}

/// `what` the text stands in: "file" or "prompt".
void require_utf8(const std::string& name, std::string_view text, const std::string& what) {
  const std::size_t at = formats::first_invalid_utf8(text);
  if (at == text.size()) return;
  static constexpr char kHex[] = "0123456789abcdef";
  const auto byte = static_cast<unsigned char>(text[at]);
  const bool utf16 = text.starts_with("\xff\xfe") || text.starts_with("\xfe\xff");
  throw Error(ErrorKind::bad_input, {.path = name, .offset = at},
              std::string("not UTF-8: the byte 0x") + kHex[byte >> 4] + kHex[byte & 15] + " begins no character there" +
                  (utf16 ? " (the " + what + " looks like UTF-16)" : ""),
              what == "file" ? "check that this is a text, and save it as UTF-8" : "give the " + what + " in UTF-8");
}

constexpr const char* kIdsWanted = "give a JSON list of whole numbers, or a list of such lists";

/// `pointer`: of the list in the text.
std::vector<std::int32_t> parse_list(const std::string& path, const std::string& text, const Json& list,
                                     const std::string& pointer) {
  std::vector<std::int32_t> ids;
  for (const Json& id : list) {
    if (!id.is_number_integer() || id < 0 || id > std::numeric_limits<std::int32_t>::max())
      throw Error(ErrorKind::bad_input, formats::json_place(path, text, pointer + "/" + std::to_string(ids.size())),
                  formats::shown(id) + " is not a token id, expected a whole number of 0 or more", kIdsWanted);
    ids.push_back(id.get<std::int32_t>());
  }
  return ids;
}

std::string read_bytes(const std::string& path, const Io& io) {
  if (path == "-") return read_stream("standard input", io.in);
  std::error_code unknown;
  if (std::filesystem::is_fifo(path, unknown)) {  // -f <(command); nothing else that is no file has an end
    std::ifstream in(path, std::ios::binary);
    if (!in) throw Error(ErrorKind::io, {.path = path}, "the pipe cannot be opened", "check its permissions");
    return read_stream(path, in);
  }
  return read_text_file(path, kMaxTextBytes);
}

/// A .jsonl, compressed or not: each line is a document.
bool is_json_lines(std::string_view path) {
  if (path.ends_with(".zst")) path.remove_suffix(4);
  return path.ends_with(".jsonl") || path.ends_with(".ndjson");
}

/// Ids from a JSON list, or a list of lists; Error(bad_input) naming `path`.
std::vector<std::vector<std::int32_t>> parse_ids(const std::string& path, const std::string& text) {
  const Json json = formats::parse_json(path, text, {.max_bytes = kMaxTextBytes, .max_depth = 3});
  if (!json.is_array() || json.empty())
    throw Error(ErrorKind::bad_input, formats::json_place(path, text, ""),
                "the file holds " + std::string(json.is_array() ? "an empty list" : json.type_name()) +
                    ", expected a list of token ids",
                kIdsWanted);
  if (!json.front().is_array()) return {parse_list(path, text, json, "")};
  std::vector<std::vector<std::int32_t>> documents;
  for (const Json& document : json) {
    const std::string pointer = "/" + std::to_string(documents.size());
    if (!document.is_array())
      throw Error(ErrorKind::bad_input, formats::json_place(path, text, pointer),
                  formats::shown(document) + " stands among lists of token ids", kIdsWanted);
    documents.push_back(parse_list(path, text, document, pointer));
  }
  return documents;
}

/// The documents of one file to `corpus`.
void add_documents(const std::string& file, const std::string& field, Corpus& corpus, const Io& io) {
  std::string text = read_text(file, io);
  const std::string name = file == "-" ? "standard input" : file;
  if (!is_json_lines(file)) {
    require_utf8(name, text, "file");
    corpus.documents.push_back(std::move(text)), corpus.names.push_back(name);
    return;
  }
  const std::size_t before = corpus.documents.size();
  formats::for_each_json_line(file, text, [&](const Json& row, std::string_view line) {
    const Json* document = row.is_object() && row.contains(field) ? &row[field] : nullptr;
    if (!document || !document->is_string())
      throw Error(ErrorKind::bad_input,
                  formats::json_place(file, line, document ? "/" + formats::pointer_segment(field) : ""),
                  "'" + field + "' is " + (document ? formats::shown(*document) : "missing") +
                      ", expected the text of a document",
                  "name the field it stands in with --text-field");
    corpus.documents.push_back(document->get<std::string>());
    corpus.names.push_back(file + ", document " + std::to_string(corpus.documents.size() - before));
  });
  if (corpus.documents.size() == before)
    throw Error(ErrorKind::bad_input, {.path = file}, "has no documents", "give JSON Lines, a document on each");
}

}  // namespace

std::string read_text(const std::string& path, const Io& io) {
  std::string bytes = read_bytes(path, io);
  if (!path.ends_with(".zst")) return bytes;
  const auto text = formats::zstd_decompressed(std::as_bytes(std::span(bytes)), kMaxTextBytes, path);
  return {reinterpret_cast<const char*>(text.data()), text.size()};
}

void declare_text(CommandLine& line, TextOptions& options, bool bundled) {
  line.group("Text");
  line.option(
      "-f,--file", options.files, reads("TEXT"),
      bundled ? "text to evaluate on, UTF-8, .txt or .jsonl, plain or .zst; - is standard input. Default: a bundled "
                "public-domain text, named in the output. Repeatable: each file is a document, and each line of "
                "a .jsonl"
              : "the text, UTF-8, from a file; - is standard input");
  line.option("--text-field", options.field, "NAME", "where the document stands in a line of a .jsonl (default text)");
  line.option("--tokens", options.tokens, reads("IDS.json"),
              "ids instead of text: a JSON list, or a list of lists (documents). Taken as they are, nothing is added");
}

Corpus read_corpus(const TextOptions& options, const Io& io) {
  if (options.tokens && !options.files.empty())
    throw Error(ErrorKind::usage, {}, "both -f and --tokens were given", "give one of them");
  if (std::count(options.files.begin(), options.files.end(), "-") > 1)
    throw Error(ErrorKind::usage, {}, "-f - is given twice, and standard input is read once", "give it once");
  if (options.field && std::ranges::none_of(options.files, is_json_lines))
    throw Error(ErrorKind::usage, {}, "--text-field was given, and no -f is a .jsonl", "leave it out");
  Corpus corpus;
  if (options.tokens) {
    const std::string text = read_text(*options.tokens, io);
    corpus.path = *options.tokens;
    corpus.sha256 = sha256(text);
    corpus.ids = parse_ids(*options.tokens, text);
    for (std::size_t list = 0; list < corpus.ids.size(); ++list)
      corpus.names.push_back(*options.tokens +
                             (corpus.ids.size() > 1 ? ", list " + std::to_string(list + 1) : std::string()));
    return corpus;
  }
  if (options.files.empty()) {
    corpus.path = "war-and-peace-tail.txt (bundled)";
    corpus.documents.emplace_back(bundled_text());
    corpus.names.push_back(corpus.path);
    corpus.bundled = true;
  }
  for (const std::string& file : options.files) {
    corpus.path += (corpus.path.empty() ? "" : ", ") + file;
    add_documents(file, options.field.value_or("text"), corpus, io);
  }
  corpus.sha256 = text_hash(corpus);
  return corpus;
}

std::string text_hash(const Corpus& corpus) {
  if (corpus.given_ids()) return sha256(Json(corpus.ids).dump());
  Sha256 hash;
  for (const std::string& document : corpus.documents) hash.update(std::as_bytes(std::span(document)));
  return hash.finish();
}

Corpus prompt_corpus(const std::string& text) {
  require_utf8("prompt", text, "prompt");
  return {.path = "prompt", .documents = {text}, .names = {"prompt"}};
}

const Vocabulary& vocabulary_of(const Checkpoint& checkpoint, bool has_tokenizer_option) {
  if (!checkpoint.vocabulary)
    throw Error(ErrorKind::bad_input, {.path = checkpoint.label},
                "there is no tokenizer beside the weights, and text needs one",
                has_tokenizer_option
                    ? "name its folder with --tokenizer DIR, or give ids with --tokens"
                    : "put its tokenizer.json or tokenizer.model into the folder, or give ids with --tokens");
  return *checkpoint.vocabulary;
}

void check_given_ids(const Corpus& corpus, std::int64_t n_vocab, const std::string& whose) {
  for (std::size_t list = 0; list < corpus.ids.size(); ++list) {
    const auto& ids = corpus.ids[list];
    const auto outside = std::find_if(ids.begin(), ids.end(), [&](std::int32_t id) { return id >= n_vocab; });
    if (outside == ids.end()) continue;
    throw Error(ErrorKind::bad_input, {.path = corpus.names[list]},
                "id " + std::to_string(*outside) + ", number " + std::to_string(outside - ids.begin() + 1) + " of " +
                    std::to_string(ids.size()) + ", is outside the vocabulary of " + std::to_string(n_vocab) + " of '" +
                    whose + "'",
                "give ids of the tokenizer that belongs to the model");
  }
}

std::unique_ptr<formats::Tokenizer> tokenizer_of(const Checkpoint& checkpoint, bool has_tokenizer_option) {
  const Vocabulary& vocabulary = vocabulary_of(checkpoint, has_tokenizer_option);
  const std::filesystem::path file = formats::tokenizer_file(checkpoint.label);  // none if the label is no folder
  return with_path(file.empty() ? checkpoint.label : file.string(),
                   [&] { return formats::Tokenizer::create(vocabulary); });
}

std::vector<std::vector<std::int32_t>> encoded(const Corpus& corpus, const formats::Tokenizer& tokenizer,
                                               bool parse_special) {
  std::vector<std::vector<std::int32_t>> documents;
  for (std::size_t at = 0; at < corpus.documents.size(); ++at)
    documents.push_back(
        with_path(corpus.names[at], [&] { return tokenizer.encode(corpus.documents[at], parse_special); }));
  return documents;
}

std::vector<std::vector<std::int32_t>> corpus_ids(const Corpus& corpus, const Checkpoint& checkpoint,
                                                  bool has_tokenizer_option) {
  if (corpus.given_ids()) {
    check_given_ids(corpus, checkpoint.config.n_vocab, checkpoint.label);
    return corpus.ids;
  }
  return encoded(corpus, *tokenizer_of(checkpoint, has_tokenizer_option), false);
}

std::optional<std::int32_t> leading_bos(const Checkpoint& checkpoint) {
  if (!checkpoint.vocabulary) return std::nullopt;
  if (const auto& pipeline = checkpoint.vocabulary->pipeline; pipeline && pipeline->before.size() > 1)
    throw Error(ErrorKind::unsupported, {.path = checkpoint.label},
                "its tokenizer puts " + std::to_string(pipeline->before.size()) +
                    " tokens before a text, and windows of a text begin with one",
                "pass token ids, those tokens first, instead of text");
  return checkpoint.vocabulary->add_bos.value_or(true) ? checkpoint.vocabulary->bos : std::nullopt;
}

std::optional<std::int32_t> leading_bos(const Checkpoint& checkpoint, const Corpus& corpus) {
  return corpus.given_ids() ? std::nullopt : leading_bos(checkpoint);
}

std::vector<std::int32_t> leading_ids(const Checkpoint& checkpoint, const Corpus& corpus) {
  if (corpus.given_ids() || !checkpoint.vocabulary) return {};
  if (const auto& pipeline = checkpoint.vocabulary->pipeline; pipeline && pipeline->before.size() > 1)
    return pipeline->before;
  const auto bos = leading_bos(checkpoint);
  return bos ? std::vector<std::int32_t>{*bos} : std::vector<std::int32_t>{};
}

std::vector<std::string> bos_warnings(const Checkpoint& checkpoint, const Corpus& corpus,
                                      const std::vector<std::vector<std::int32_t>>& documents,
                                      std::optional<std::int32_t> bos) {
  std::vector<std::string> lines;
  if (!bos || corpus.given_ids() || !checkpoint.vocabulary) return lines;
  const Vocabulary& vocabulary = *checkpoint.vocabulary;
  const std::string spelled = formats::text_of_id(vocabulary, *bos);
  for (std::size_t at = 0; at < documents.size(); ++at) {
    const bool twice = !documents[at].empty() && documents[at].front() == *bos;
    if (!twice && (spelled.empty() || !corpus.documents[at].starts_with(spelled))) continue;
    lines.push_back(corpus.names[at] + " begins with '" + spelled + "'" +
                    (twice ? ", and the tokenizer of '" + checkpoint.label +
                                 "' puts one before every text: it has two, which models are not trained on"
                           : ", which is text here: the tokenizer of '" + checkpoint.label +
                                 "' puts the token itself before every text"));
  }
  return lines;
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
