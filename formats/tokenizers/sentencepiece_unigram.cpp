#include "formats/tokenizers/sentencepiece_unigram.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "formats/tokenizers/unigram_lattice.h"
#include "formats/utf8.h"

namespace ropewalk::formats {
namespace {

constexpr float kUnknownPenalty = 10.0f, kUserDefinedScore = 0.1f;
constexpr float kLargestSum = 100000.0f;  // past it the library begins anew

/// The pieces that a text can match, the others without text.
std::vector<Piece> matched(std::span<const Piece> pieces) {
  std::vector<Piece> out(pieces.begin(), pieces.end());
  for (Piece& piece : out)
    if (piece.type != PieceType::normal && piece.type != PieceType::user_defined) piece.text.clear();
  return out;
}

}  // namespace

SentencepieceUnigram::SentencepieceUnigram(std::span<const Piece> pieces, std::int32_t unknown)
    : trie_(matched(pieces)), scores_(pieces.size()), unknown_(unknown) {
  float smallest = std::numeric_limits<float>::max();
  for (std::size_t id = 0; id < pieces.size(); ++id) {
    const Piece& piece = pieces[id];
    longest_ = std::max(longest_, piece.text.size());
    const bool user_defined = piece.type == PieceType::user_defined && !piece.text.empty();
    scores_[id] = user_defined ? kUserDefinedScore * static_cast<float>(piece.text.size() - 1) : piece.score;
    if (piece.type == PieceType::normal) smallest = std::min(smallest, piece.score);
  }
  unknown_score_ = smallest - kUnknownPenalty;
}

std::vector<SentencepieceUnigram::Part> SentencepieceUnigram::encode(std::string_view normalized) const {
  UnigramLattice<float> lattice(normalized.size());
  for (std::size_t at = 0; at < normalized.size();) {
    const std::size_t length = std::min(utf8_length(normalized[at]), normalized.size() - at);
    if (std::abs(lattice.sum_at(at)) > kLargestSum) lattice.rebase(at, longest_);
    bool has_single = false;
    trie_.for_each_prefix(normalized.substr(at), [&](std::size_t size, std::int32_t id) {
      lattice.offer(at, at + size, scores_[static_cast<std::size_t>(id)], id);
      has_single = has_single || size == length;
    });
    if (!has_single) lattice.offer(at, at + length, unknown_score_, unknown_);
    at += length;
  }
  std::vector<Part> parts;
  for (std::size_t end : lattice.ends())
    parts.push_back({normalized.substr(lattice.begin_of(end), end - lattice.begin_of(end)), lattice.id_of(end)});
  std::reverse(parts.begin(), parts.end());
  return parts;
}

}  // namespace ropewalk::formats
