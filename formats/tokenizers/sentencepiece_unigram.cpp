#include "formats/tokenizers/sentencepiece_unigram.h"

#include <limits>

namespace ropewalk::formats {
namespace {

constexpr float kUnknownPenalty = 10.0f, kUserDefinedScore = 0.1f;

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

}  // namespace ropewalk::formats
