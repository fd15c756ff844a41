#include "formats/tokenizers/sentencepiece_normalizer.h"

#include <algorithm>

#include "formats/tokenizers/characters.h"
#include "formats/utf8.h"
#include "lib/error.h"
#include "lib/plural.h"

namespace ropewalk::formats {
namespace {

// the library's buffers: longer matches beyond them are not seen
constexpr int kMaxUserDefinedMatches = 64, kMaxRuleMatches = 32;

constexpr std::uint32_t label(std::uint32_t unit) { return unit & 0x800000FFu; }
constexpr bool has_leaf(std::uint32_t unit) { return (unit >> 8 & 1) != 0; }
constexpr std::uint32_t value(std::uint32_t unit) { return unit & 0x7FFFFFFFu; }
constexpr std::uint32_t offset(std::uint32_t unit) { return (unit >> 10) << ((unit & 0x200u) >> 6); }
constexpr bool is_leaf(std::uint32_t unit) { return label(unit) > 0xFF; }

[[noreturn]] void refuse(const std::string& problem) {
  throw Error(ErrorKind::bad_input, {}, "precompiled_charsmap: " + problem, "the tokenizer is corrupt: fetch it again");
}

std::uint32_t load_u32(std::string_view bytes, std::size_t at) {
  std::uint32_t word = 0;
  for (std::size_t byte = 0; byte < 4; ++byte)
    word |= std::uint32_t{static_cast<unsigned char>(bytes[at + byte])} << (8 * byte);
  return word;
}

}  // namespace

Charsmap::Charsmap(std::string_view blob) {
  if (blob.empty()) return;
  if (blob.size() <= 4) refuse("its size is cut short");
  const std::uint32_t trie_bytes = load_u32(blob, 0);
  if (trie_bytes >= blob.size() - 4)
    refuse("its trie needs " + plural(trie_bytes, "byte") + ", " + are_left(blob.size() - 4));
  if (trie_bytes < 1024 || trie_bytes % 1024 != 0)
    refuse("its trie has " + std::to_string(trie_bytes) + " bytes, expected a multiple of 1024");
  if (blob.back() != '\0') refuse("its replacements do not end with a NUL");
  replacements_ = blob.substr(4 + trie_bytes);
  units_.resize(trie_bytes / 4);
  for (std::size_t unit = 0; unit < units_.size(); ++unit) units_[unit] = load_u32(blob, 4 + unit * 4);
  // Every index longest() can form is below size: it is some unit's place xor its offset, xor one byte.
  for (std::size_t place = 0; place < units_.size(); ++place) {
    const std::uint32_t unit = units_[place];
    if (place == 0 && (label(unit) != 0 || has_leaf(unit) || offset(unit) == 0)) refuse("its root is malformed");
    if (is_leaf(unit)) {
      if (value(unit) >= replacements_.size())
        refuse("unit " + std::to_string(place) + " points past the replacements");
      continue;
    }
    if (((place ^ offset(unit)) | 0xFF) >= units_.size())
      refuse("unit " + std::to_string(place) + " points past the trie");
    if (has_leaf(unit) && !is_leaf(units_[place ^ offset(unit)]))
      refuse("unit " + std::to_string(place) + " has no leaf where it says");
  }
}

Charsmap::Rule Charsmap::longest(std::string_view text, int max_matches) const {
  Rule rule;
  if (units_.empty()) return rule;
  std::size_t place = offset(units_[0]);
  int matches = 0;
  for (std::size_t length = 1; length <= text.size() && matches < max_matches; ++length) {
    const auto byte = static_cast<unsigned char>(text[length - 1]);
    place ^= byte;
    const std::uint32_t unit = units_[place];
    if (label(unit) != byte) break;
    place ^= offset(unit);
    if (!has_leaf(unit)) continue;
    ++matches;
    rule = {length, std::string_view(replacements_.data() + value(units_[place]))};
  }
  return rule;
}

bool Charsmap::may_match(char first, char second) const {
  if (units_.empty()) return false;
  const auto a = static_cast<unsigned char>(first), b = static_cast<unsigned char>(second);
  const std::size_t place = offset(units_[0]) ^ a;
  const std::uint32_t unit = units_[place];
  return label(unit) == a && (has_leaf(unit) || label(units_[place ^ offset(unit) ^ b]) == b);
}

bool Charsmap::is_utf8() const {
  if (first_invalid_utf8(replacements_) != replacements_.size()) return false;
  return std::none_of(units_.begin(), units_.end(), [this](std::uint32_t unit) {
    return is_leaf(unit) && (replacements_[value(unit)] & 0xC0) == 0x80;
  });
}

SentencepieceNormalizer::SentencepieceNormalizer(const Vocabulary& vocabulary, const PrefixMatcher& user_defined)
    : user_defined_(&user_defined),
      charsmap_(vocabulary.precompiled_charsmap),
      add_dummy_prefix_(vocabulary.add_dummy_prefix),
      remove_extra_whitespaces_(vocabulary.remove_extra_whitespaces),
      whitespace_as_suffix_(vocabulary.whitespace_as_suffix),
      space_(vocabulary.escape_whitespaces ? kSpaceMark : std::string_view(" ")) {
  for (std::size_t first = 0; first < plain_.size(); ++first)
    for (std::size_t second = 0; second < plain_.size(); ++second)
      plain_[first][second] = first != ' ' && !charsmap_.may_match(static_cast<char>(first), static_cast<char>(second));
}

std::size_t SentencepieceNormalizer::plain_prefix(std::string_view text) const {
  std::size_t size = 0;
  for (; size + 1 < text.size(); ++size) {
    const auto first = static_cast<unsigned char>(text[size]), second = static_cast<unsigned char>(text[size + 1]);
    if (first >= 128 || second >= 128 || !plain_[first][second] || user_defined_->may_start(text[size])) break;
  }
  return size;
}

SentencepieceNormalizer::Step SentencepieceNormalizer::step(std::string_view text) const {
  if (user_defined_->may_start(text[0]))
    if (const auto match = user_defined_->longest(text, kMaxUserDefinedMatches))
      return {match->length, text.substr(0, match->length)};
  if (const auto rule = charsmap_.longest(text, kMaxRuleMatches); rule.length > 0)
    return {rule.length, rule.replacement};
  if (const std::size_t length = valid_utf8_prefix(text); length > 0) return {length, text.substr(0, length)};
  return {1, "\xEF\xBF\xBD"};
}

std::string SentencepieceNormalizer::normalize(std::string_view text, bool dummy_prefix) const {
  std::string out;
  while (remove_extra_whitespaces_ && !text.empty()) {
    const Step next = step(text);
    if (next.output != " ") break;
    text.remove_prefix(next.length);
  }
  if (text.empty()) return out;
  out.reserve(text.size() + text.size() / 2);
  const bool adds_space = add_dummy_prefix_ && dummy_prefix;
  if (adds_space && !whitespace_as_suffix_) out += space_;
  bool after_space = remove_extra_whitespaces_;
  while (!text.empty()) {
    if (const std::size_t plain = plain_prefix(text); plain > 0) {
      out += text.substr(0, plain);
      text.remove_prefix(plain);
      after_space = false;
      continue;
    }
    Step next = step(text);
    text.remove_prefix(next.length);
    if (after_space) next.output.remove_prefix(std::min(next.output.find_first_not_of(' '), next.output.size()));
    for (char c : next.output) {
      if (c == ' ') {
        out += space_;
      } else {
        out += c;
      }
    }
    if (!next.output.empty()) after_space = remove_extra_whitespaces_ && next.output.back() == ' ';
  }
  while (remove_extra_whitespaces_ && std::string_view(out).ends_with(space_)) out.resize(out.size() - space_.size());
  if (adds_space && whitespace_as_suffix_) out += space_;
  return out;
}

}  // namespace ropewalk::formats
