#include "formats/tokenizers/tiktoken.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <span>
#include <vector>

#include "formats/base64.h"
#include "formats/tokenizers/bpe_merges.h"
#include "formats/tokenizers/byte_level.h"
#include "formats/tokenizers/token_limits.h"
#include "formats/tokenizers/published_words.h"
#include "lib/error.h"
#include "lib/file.h"

namespace ropewalk::formats {
namespace {

namespace fs = std::filesystem;
namespace pre = pre_tokenizers;

constexpr std::uint64_t kMaxFileBytes = std::uint64_t{64} << 20;  // o200k_base takes 3.6 MB
constexpr std::size_t kMaxBytes = 256;                            // of a token; published ones have up to 128

// As the publishers have them, in the syntax of a tokenizer.json. The newest tiktoken spells kGpt2 and kLlama3Words
// otherwise, to the same effect but for white space at the end of a text (see cl100k's).
constexpr std::string_view kGpt2 = R"('(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
constexpr std::string_view kCl100k =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s+\z|\s*[\r\n]+|\s+(?!\S)|\s+)";

struct Special {
  std::string_view text;
  std::int32_t id;
};
struct Family {
  std::size_t n_tokens;
  std::string_view words;
  bool composes = false;  // NFC first
  std::vector<Special> special = {};
  std::optional<std::int32_t> bos = {}, eos = {};
};

/// Special tokens are those that all releases share: Llama 3.1 renamed some of 3.0's.
const std::vector<Family>& families() {
  static const std::vector<Family> kFamilies = {
      {50256, kGpt2, false, {{"<|endoftext|>", 50256}}, {}, 50256},
      {50280, kGpt2, false, {{"<|endoftext|>", 50256}}, {}, 50256},
      {100256,
       kCl100k,
       false,
       {{"<|endoftext|>", 100257},
        {"<|fim_prefix|>", 100258},
        {"<|fim_middle|>", 100259},
        {"<|fim_suffix|>", 100260},
        {"<|endofprompt|>", 100276}},
       {},
       100257},
      {128000,
       kLlama3Words,
       false,
       {{"<|begin_of_text|>", 128000},
        {"<|end_of_text|>", 128001},
        {"<|start_header_id|>", 128006},
        {"<|end_header_id|>", 128007},
        {"<|eot_id|>", 128009}},
       128000,
       128001},
      {151329, kLlama3Words, false, {{"<|endoftext|>", 151329}, {"[gMASK]", 151331}, {"<sop>", 151333}}, {}, 151329},
      {151643,
       kQwen2Words,
       true,
       {{"<|endoftext|>", 151643}, {"<|im_start|>", 151644}, {"<|im_end|>", 151645}},
       {},
       151643},
      {199998, kGpt4oWords, false, {{"<|endoftext|>", 199999}, {"<|endofprompt|>", 200018}}, {}, 199999},
      {200000, kGpt4oWords, false, {{"<|begin_of_text|>", 200000}, {"<|end_of_text|>", 200001}}, 200000, 200001},
  };
  return kFamilies;
}

/// The lines of the file, so that errors can name them.
class Lines {
 public:
  Lines(const std::string& path, std::string_view text) : path_(path), rest_(text) {}
  bool next(std::string_view& line) {
    if (rest_.empty()) return false;
    const std::size_t end = std::min(rest_.find('\n'), rest_.size());
    line = rest_.substr(0, end);
    rest_.remove_prefix(std::min(end + 1, rest_.size()));
    if (line.ends_with('\r')) line.remove_suffix(1);
    ++number_;
    return true;
  }
  [[noreturn]] void fail(const std::string& problem) const {
    throw Error(ErrorKind::bad_input, {.path = path_, .line = number_, .column = 1}, problem,
                "fetch the file again or repair it");
  }

 private:
  const std::string& path_;
  std::string_view rest_;
  int number_ = 0;
};

struct Token {
  std::string bytes;
  std::int32_t rank = 0;
};

Token token_of(std::string_view line, const Lines& lines) {
  const std::size_t space = line.find(' ');
  const auto bytes = space == std::string_view::npos ? std::nullopt : base64_bytes(line.substr(0, space));
  Token token;
  const char* end = line.data() + line.size();
  if (!bytes || bytes->empty() ||
      std::from_chars(line.data() + space + 1, end, token.rank) != std::from_chars_result{end, std::errc()})
    lines.fail("the line is no token in base64 with its rank");
  if (bytes->size() > kMaxBytes) lines.fail("a token of more than " + std::to_string(kMaxBytes) + " bytes");
  token.bytes = *bytes;
  return token;
}

/// Pieces by rank, spelled in GPT-2's alphabet. Returns how many there are.
std::size_t read_pieces(const std::string& path, std::string_view text, Vocabulary& vocabulary) {
  Lines lines(path, text);
  const auto n_lines = static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n')) + 1;
  const std::int64_t end = token_id_end(n_lines);
  std::size_t n_tokens = 0;
  for (std::string_view line; lines.next(line);) {
    if (line.empty()) continue;
    const Token token = token_of(line, lines);
    if (token.rank < 0 || token.rank >= end)
      lines.fail("rank " + std::to_string(token.rank) + ", expected 0 to " + std::to_string(end - 1));
    const auto rank = static_cast<std::size_t>(token.rank);
    if (rank >= vocabulary.pieces.size()) vocabulary.pieces.resize(rank + 1, {"", 0, PieceType::unused});
    Piece& piece = vocabulary.pieces[rank];
    if (piece.type != PieceType::unused) lines.fail("rank " + std::to_string(rank) + " stands twice");
    piece.type = PieceType::normal;
    append_byte_characters(piece.text, token.bytes);
    ++n_tokens;
  }
  return n_tokens;
}

/// Every pair of tokens that is a token, by its rank.
BpeModel merges_of(const std::string& path, const Vocabulary& vocabulary) {
  const PieceIds ids = ids_of_pieces(vocabulary);
  const auto refuse = [&path](const std::string& problem) {
    throw Error(ErrorKind::bad_input, {.path = path}, problem, "fetch the file again or repair it");
  };
  BpeModel model;
  model.ignore_merges = model.rank_by_result = true;
  for (std::uint16_t character : kByteCharacters) {
    std::string spelled;
    append_utf8(spelled, character);
    if (!ids.contains(spelled)) refuse("not every byte is a token");
  }
  for (std::size_t rank = 0; rank < vocabulary.pieces.size(); ++rank) {
    const std::string_view text = vocabulary.pieces[rank].text;
    if (text.empty()) continue;
    if (ids.at(text) != static_cast<std::int32_t>(rank))
      refuse("tokens " + std::to_string(ids.at(text)) + " and " + std::to_string(rank) + " are the same");
    for (std::size_t at = first_character(text).length; at < text.size();
         at += first_character(text.substr(at)).length) {
      const auto left = ids.find(text.substr(0, at)), right = ids.find(text.substr(at));
      if (left != ids.end() && right != ids.end())
        model.merges.push_back({left->second, right->second, static_cast<std::int32_t>(rank)});
    }
  }
  return model;
}

std::string head_of(const fs::path& path) {
  const auto file = File::open(path);
  std::string head(std::min<std::uint64_t>(file->size(), 512), '\0');
  file->read(0, std::as_writable_bytes(std::span(head)));
  return head;
}

}  // namespace

bool looks_like_tiktoken(std::string_view text) {
  std::string_view line = text.substr(0, std::min(text.find('\n'), text.size()));
  if (line.ends_with('\r')) line.remove_suffix(1);
  const std::size_t space = line.find(' ');
  if (space == std::string_view::npos || line.size() == text.size()) return false;
  const std::string_view rank = line.substr(space + 1);
  const auto bytes = base64_bytes(line.substr(0, space));
  return bytes && !bytes->empty() && !rank.empty() && rank.find_first_not_of("0123456789") == std::string_view::npos;
}

std::optional<fs::path> find_tiktoken(const fs::path& folder) {
  for (const char* name : {"tokenizer.model", "tiktoken.model"})
    if (is_there(folder / name) && looks_like_tiktoken(head_of(folder / name))) return folder / name;
  if (!is_folder(folder)) return std::nullopt;
  std::vector<fs::path> found;
  for (const auto& entry : fs::directory_iterator(folder))
    if (entry.path().extension() == ".tiktoken" && is_there(entry.path())) found.push_back(entry.path());
  return found.size() == 1 ? std::optional(found.front()) : std::nullopt;
}

Vocabulary parse_tiktoken(const std::string& path, std::string_view text, bool own_special_tokens) {
  Vocabulary vocabulary;
  vocabulary.rules = TokenizerRules::tokenizers;
  vocabulary.model = "bpe";
  const std::size_t n_tokens = read_pieces(path, text, vocabulary);
  const auto family = std::find_if(families().begin(), families().end(),
                                   [n_tokens](const Family& one) { return one.n_tokens == n_tokens; });
  TokenizerPipeline& pipeline = vocabulary.pipeline.emplace();
  pipeline.model = merges_of(path, vocabulary);
  if (family == families().end())
    throw Error(ErrorKind::unsupported, {.path = path},
                "a tiktoken vocabulary of " + std::to_string(n_tokens) +
                    " tokens, and how text is cut into words is not known for it",
                "add the model's tokenizer.json, or pass token ids");
  if (family->composes) pipeline.normalizers.emplace_back(normalizers::UnicodeForm{true, false});
  auto& split = std::get<pre::Split>(pipeline.pre_tokenizers.emplace_back(std::in_place_type<pre::Split>));
  split.pattern = {std::string(family->words), true};
  pipeline.pre_tokenizers.emplace_back(pre::ByteLevel{false, false});
  pipeline.decoders.emplace_back(decoders::ByteLevel{});
  pipeline.has_decoder = true;
  if (!own_special_tokens) return vocabulary;
  for (const Special& special : family->special)
    vocabulary.added.push_back(
        {.id = special.id, .content = std::string(special.text), .special = true, .in_decoder = true});
  vocabulary.bos = family->bos;
  vocabulary.eos = family->eos;
  if (family->bos) pipeline.before = {*family->bos};
  return vocabulary;
}

Vocabulary read_tiktoken(const fs::path& path, bool own_special_tokens) {
  return parse_tiktoken(path.string(), read_text_file(path, kMaxFileBytes), own_special_tokens);
}

}  // namespace ropewalk::formats
