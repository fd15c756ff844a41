#include "formats/tokenizers/llama_cpp_unigram.h"

#include <algorithm>
#include <limits>

#include "formats/tokenizers/characters.h"
#include "formats/tokenizers/unigram_lattice.h"
#include "formats/utf8.h"
#include "lib/error.h"

namespace ropewalk::formats {
namespace {

constexpr float kUnknownPenalty = 10.0f;
constexpr int kNoLimit = std::numeric_limits<int>::max();

/// The pieces that a text can match, the others without text.
std::vector<Piece> matched(std::span<const Piece> pieces) {
  std::vector<Piece> out(pieces.begin(), pieces.end());
  for (Piece& piece : out)
    if (piece.type != PieceType::normal && piece.type != PieceType::user_defined && piece.type != PieceType::unused)
      piece.text.clear();
  return out;
}

/// Bytes that the engine takes as one character, overlong forms and surrogates among them; 0 if there is none.
std::size_t engine_character(std::string_view text) {
  const auto first = static_cast<unsigned char>(text[0]);
  const std::size_t length = first < 0x80 ? 1 : first < 0xC0 || first >= 0xF8 ? 0 : utf8_length(text[0]);
  if (length > text.size()) return 0;
  const std::string_view rest = text.substr(0, length).substr(std::min<std::size_t>(length, 1));
  return std::all_of(rest.begin(), rest.end(), [](char c) { return (c & 0xC0) == 0x80; }) ? length : 0;
}

}  // namespace

LlamaCppUnigram::LlamaCppUnigram(const Vocabulary& vocabulary, std::span<const Piece> pieces,
                                 const LlamaCppSpecials& specials)
    : trie_(matched(pieces)),
      charsmap_(vocabulary.precompiled_charsmap),
      scores_(pieces.size()),
      unknown_(vocabulary.unk.value_or(-1)),
      add_space_prefix_(vocabulary.add_dummy_prefix),
      merge_spaces_(vocabulary.remove_extra_whitespaces) {
  float smallest = std::numeric_limits<float>::max();
  for (std::size_t id = 0; id < pieces.size(); ++id) {
    if (pieces[id].type == PieceType::normal) smallest = std::min(smallest, pieces[id].score);
    if (pieces[id].type == PieceType::user_defined) user_defined_.add(pieces[id].text, static_cast<std::int32_t>(id));
    scores_[id] = specials.of(static_cast<std::int32_t>(id)).user_defined ? 0.0 : pieces[id].score;
  }
  unknown_score_ = smallest - kUnknownPenalty;
}

LlamaCppUnigram::Step LlamaCppUnigram::step(std::string_view text) const {
  // The engine asks its trie how far it can walk, not whether it got to a token's end.
  if (const std::size_t length = user_defined_.longest_beginning(text); length > 0)
    return {length, text.substr(0, length)};
  if (const auto rule = charsmap_.longest(text, kNoLimit); rule.length > 0) return {rule.length, rule.replacement};
  if (const std::size_t length = engine_character(text); length > 0) return {length, text.substr(0, length)};
  return {1, "\xEF\xBF\xBD"};
}

std::string LlamaCppUnigram::normalize(std::string_view text) const {
  std::string out;
  out.reserve(text.size() + text.size() / 2);
  bool in_word = false, prefixed = false;
  while (!text.empty()) {
    const Step next = step(text);
    text.remove_prefix(next.length);
    for (char c : next.output) {
      if (c == ' ') {
        in_word = false;
        if (!merge_spaces_) out += kSpaceMark;
        continue;
      }
      if (!in_word && ((add_space_prefix_ && !prefixed) || merge_spaces_)) {
        out += kSpaceMark;
        prefixed = true;
      }
      in_word = true;
      out += c;
    }
  }
  return out;
}

void LlamaCppUnigram::encode(std::string_view text, std::vector<std::int32_t>& ids) const {
  const std::string normalized = normalize(text);
  const std::string_view all = normalized;
  UnigramLattice<double> lattice(all.size());
  for (std::size_t at = 0; at < all.size();) {
    const std::size_t length = std::min(utf8_length(all[at]), all.size() - at);
    bool has_single = false;
    trie_.for_each_prefix(all.substr(at), [&](std::size_t size, std::int32_t id) {
      lattice.offer(at, at + size, scores_[static_cast<std::size_t>(id)], id);
      has_single = has_single || size == length;
    });
    if (!has_single) lattice.offer(at, at + length, unknown_score_, unknown_);
    at += length;
  }
  const std::size_t first = ids.size();
  bool after_unknown = false;
  for (std::size_t end : lattice.ends()) {
    const std::int32_t id = lattice.id_of(end);
    if (id < 0)
      throw Error(ErrorKind::bad_input, {}, "the text has a character that is no token, and there is no unknown token",
                  "llama.cpp cannot encode this text either");
    if (!(after_unknown && id == unknown_)) ids.push_back(id);
    after_unknown = id == unknown_;
  }
  std::reverse(ids.begin() + static_cast<std::ptrdiff_t>(first), ids.end());
}

}  // namespace ropewalk::formats
