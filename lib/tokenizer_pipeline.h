#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace ropewalk {

/// What a tokenizer.json describes (the tokenizers library, 0.23.3), as plain values: text is normalized, cut into
/// words, each word is turned into ids by the model, and decoders turn ids back into text. Sequences are flattened:
/// steps apply one after the other. Characters are UTF-8 strings.

/// Text to look for: as it stands, or a regular expression in Oniguruma's syntax.
struct TextPattern {
  std::string text;
  bool is_regex = false;
};

namespace normalizers {

struct UnicodeForm {  // NFC, NFD, NFKC, NFKD
  bool compose = false, compatible = false;
};
struct Lowercase {};
struct Strip {
  bool left = true, right = true;
};
struct StripAccents {};  // drops combining marks
struct Replace {
  TextPattern pattern;
  std::string content;
};
struct Prepend {  // to a text that is not empty
  std::string text;
};
struct ByteLevel {};  // each byte becomes a printable character
struct Nmt {};
struct Precompiled {  // SentencePiece's table, on clusters of characters
  std::string charsmap;
};
struct Bert {
  bool clean_text = true, chinese_chars = true, strip_accents = true, lowercase = true;
};
using Step =
    std::variant<UnicodeForm, Lowercase, Strip, StripAccents, Replace, Prepend, ByteLevel, Nmt, Precompiled, Bert>;

}  // namespace normalizers

namespace pre_tokenizers {

/// What becomes of the matches that split a text.
enum class SplitBehavior : std::uint8_t { removed, isolated, merged_with_previous, merged_with_next, contiguous };

struct ByteLevel {
  bool add_prefix_space = false, use_regex = true;
};
struct Split {
  TextPattern pattern;
  SplitBehavior behavior = SplitBehavior::isolated;
  bool invert = false;  // what lies between matches is the match
};
struct Digits {
  bool individual = false;
};
enum class PrependScheme : std::uint8_t { always, first, never };
struct Metaspace {
  std::string replacement;
  PrependScheme prepend = PrependScheme::always;
  bool split = true;
};
struct Whitespace {};       // \w+|[^\w\s]+
struct WhitespaceSplit {};  // at white space
struct Punctuation {
  SplitBehavior behavior = SplitBehavior::isolated;
};
struct Bert {};  // at white space, and punctuation alone
struct CharDelimiterSplit {
  std::string delimiter;
};
struct FixedLength {
  std::uint64_t length = 5;  // characters, at least 1
};
using Step = std::variant<ByteLevel, Split, Digits, Metaspace, Whitespace, WhitespaceSplit, Punctuation, Bert,
                          CharDelimiterSplit, FixedLength>;

}  // namespace pre_tokenizers

namespace decoders {

struct ByteLevel {};
struct ByteFallback {};  // "<0x0A>" becomes its byte
struct Fuse {};
struct Strip {
  std::string content;
  std::uint64_t start = 0, stop = 0;  // characters at most
};
struct Replace {
  TextPattern pattern;
  std::string content;
};
struct Metaspace {
  std::string replacement;
  bool drop_first = true;  // the first token's are dropped, not spaces
};
struct BpeSuffix {
  std::string suffix;
};
struct WordPiece {
  std::string prefix;
  bool cleanup = true;
};
struct Ctc {
  std::string pad, word_delimiter;
  bool cleanup = true;
};
using Step = std::variant<ByteLevel, ByteFallback, Fuse, Strip, Replace, Metaspace, BpeSuffix, WordPiece, Ctc>;

}  // namespace decoders

/// The model's pieces are Vocabulary::pieces; an id without a piece has type unused.
struct BpeModel {
  struct Merge {
    std::int32_t left, right, result;
  };
  std::vector<Merge> merges;    // by rank
  bool rank_by_result = false;  // tiktoken: merges that make the same piece are of equal rank, the leftmost first
  std::optional<std::string> unk_token, continuing_subword_prefix, end_of_word_suffix;
  bool fuse_unk = false, byte_fallback = false, ignore_merges = false;
};
struct WordLevelModel {
  std::string unk_token;
};
struct WordPieceModel {
  std::string unk_token, continuing_subword_prefix = "##";
  std::uint64_t max_input_chars_per_word = 100;
};
struct UnigramModel {
  std::vector<double> scores;  // [pieces]
  std::optional<std::int32_t> unk_id;
  bool byte_fallback = false;
};
using TokenizerModel = std::variant<BpeModel, WordLevelModel, WordPieceModel, UnigramModel>;

struct TokenizerPipeline {
  std::vector<normalizers::Step> normalizers;
  std::vector<pre_tokenizers::Step> pre_tokenizers;
  TokenizerModel model;
  std::vector<decoders::Step> decoders;     // none: tokens are joined by spaces
  bool has_decoder = false;                 // an empty sequence of decoders joins without spaces
  std::vector<std::int32_t> before, after;  // what the post-processor puts around one text
};

}  // namespace ropewalk
