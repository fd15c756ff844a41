#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "formats/source.h"
#include "formats/tokenizers/tokenizer.h"
#include "tools/command_line.h"
#include "tools/io.h"
#include "tools/render.h"

namespace ropewalk::tools {

/// War and Peace's last fifth (data/text), part of the binary: what -f means when it is absent.
std::string_view bundled_text();

struct TextOptions {
  std::vector<std::string> files;     // -f; a document each, or one for each line of a .jsonl; "-" is standard input
  std::optional<std::string> tokens;  // --tokens: a JSON list of ids, or a list of such lists
  std::optional<std::string> field;   // --text-field: of a line's object, where a document stands
};
/// The bytes of one file, pipe or standard input ("-"), read to its end; of a .zst what it holds. Error(bad_input) past
/// 4 GiB, compressed or not.
std::string read_text(const std::string& path, const Io& io);
/// `bundled`: without -f and --tokens the bundled text is meant.
void declare_text(CommandLine& line, TextOptions& options, bool bundled = true);

/// What a model is judged on: text, or ids as they are.
struct Corpus {
  std::string path = {};                            // as printed: file names, or "war-and-peace-tail.txt (bundled)"
  std::string sha256 = {};                          // of all bytes, documents one after the other
  std::vector<std::string> documents = {};          // text; empty if ids were given
  std::vector<std::vector<std::int32_t>> ids = {};  // given ids, as they are
  std::vector<std::string> names = {};              // of each document or list, for messages
  bool bundled = false;                             // the text nobody asked for by name
  bool given_ids() const noexcept { return !ids.empty(); }
};
/// Error(usage) if both were given, Error(bad_input) for what cannot be read and for text that is not UTF-8: replaced by
/// U+FFFD it would be another text, and tokenizers differ in how they replace it.
Corpus read_corpus(const TextOptions& options, const Io& io);
/// Of all documents' bytes, one after the other; of given ids as a JSON list of lists.
std::string text_hash(const Corpus& corpus);
/// A corpus of one text that the command line itself holds; the same Error(bad_input) if it is not UTF-8.
Corpus prompt_corpus(const std::string& text);

/// The checkpoint's tokenizer; an Error without a place gets the checkpoint's.
std::unique_ptr<formats::Tokenizer> tokenizer_of(const Checkpoint& checkpoint, bool has_tokenizer_option = false);
/// Ids of each document's text; an Error without a place gets the document's.
std::vector<std::vector<std::int32_t>> encoded(const Corpus& corpus, const formats::Tokenizer& tokenizer,
                                               bool parse_special);
/// The corpus in `checkpoint`'s own ids, without BOS; its given ids if it has them. Error(bad_input) if the checkpoint
/// has no tokenizer, or a given id is outside its vocabulary.
std::vector<std::vector<std::int32_t>> corpus_ids(const Corpus& corpus, const Checkpoint& checkpoint,
                                                  bool has_tokenizer_option = false);
/// Error(bad_input) for the first given id that is not below n_vocab: its file and place, and `whose` vocabulary.
void check_given_ids(const Corpus& corpus, std::int64_t n_vocab, const std::string& whose);
/// The vocabulary, or Error(bad_input) naming the source and what to do. `has_tokenizer_option`: the command has
/// --tokenizer DIR.
const Vocabulary& vocabulary_of(const Checkpoint& checkpoint, bool has_tokenizer_option = false);

/// The token that starts a sequence by the files' own word (add_bos_token, tokenizer.ggml.add_bos_token; SentencePiece
/// models that do not say: yes).
/// nullopt if there is none, or for given ids: those are taken as they are. Error(unsupported) if more than one token
/// starts a sequence (a template such as "[gMASK] <sop> $A"): windows of a text begin with one.
std::optional<std::int32_t> leading_bos(const Checkpoint& checkpoint);
std::optional<std::int32_t> leading_bos(const Checkpoint& checkpoint, const Corpus& corpus);
/// The same for one text as a whole, which may begin with several.
std::vector<std::int32_t> leading_ids(const Checkpoint& checkpoint, const Corpus& corpus);

/// A line for each document that begins with the spelled BOS where `bos` stands before every text, too: it has two if the
/// ids say so (`documents`, as they were encoded), else the spelled one is text. Empty for given ids.
std::vector<std::string> bos_warnings(const Checkpoint& checkpoint, const Corpus& corpus,
                                      const std::vector<std::vector<std::int32_t>>& documents,
                                      std::optional<std::int32_t> bos);

std::uint64_t count_ids(const std::vector<std::vector<std::int32_t>>& documents);
/// {"path", "sha256", "tokens"}
Json corpus_json(const Corpus& corpus, std::uint64_t tokens);

}  // namespace ropewalk::tools
