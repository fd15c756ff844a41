#include "formats/tokenizers/bpe_merges.h"

#include <algorithm>

#include "formats/tokenizers/token_limits.h"

namespace ropewalk::formats {
void read_piece_ids(const JsonNode& node, Vocabulary& vocabulary) {
  std::int64_t size = 0;
  for (const auto& [text, id] : node.require_object().json().items()) {
    if (!id.is_number_unsigned() || id.get<std::uint64_t>() > static_cast<std::uint64_t>(kMaxTokenId))
      node.at(text).integer(0, kMaxTokenId);
    if (text.size() > kMaxTokenBytes) node.at(text).unsupported("has more than 4096 bytes");
    size = std::max(size, id.get<std::int64_t>() + 1);
  }
  if (size > token_id_end(node.size()))
    node.fail("has " + std::to_string(node.size()) + " pieces and ids up to " + std::to_string(size - 1));
  vocabulary.pieces.assign(static_cast<std::size_t>(size), {"", 0, PieceType::unused});
  for (const auto& [text, id] : node.json().items()) {
    Piece& piece = vocabulary.pieces[id.get<std::size_t>()];
    if (piece.type != PieceType::unused) node.at(text).fail("has the id of '" + piece.text + "', " + id.dump());
    piece = {text, 0, PieceType::normal};
  }
}

PieceIds ids_of_pieces(const Vocabulary& vocabulary) {
  PieceIds ids;
  for (std::size_t id = 0; id < vocabulary.pieces.size(); ++id)
    if (vocabulary.pieces[id].type != PieceType::unused)
      ids.emplace(vocabulary.pieces[id].text, static_cast<std::int32_t>(id));
  return ids;
}

std::pair<std::string, std::string> split_merge(std::string_view text, const MergeFailure& fail) {
  const std::size_t space = text.find(' ');
  if (space == std::string_view::npos || text.find(' ', space + 1) != std::string_view::npos) {
    fail("is not two pieces with a space between them");
    return {};
  }
  return {std::string(text.substr(0, space)), std::string(text.substr(space + 1))};
}

BpeModel::Merge merge_of(const std::pair<std::string, std::string>& texts, const PieceIds& ids,
                         std::size_t prefix_bytes, const MergeFailure& fail) {
  const auto& [left, right] = texts;
  if (left.empty() || right.size() <= prefix_bytes) fail("merges an empty piece");
  const auto id = [&](const std::string& text) {
    const auto found = ids.find(text);
    if (found == ids.end()) fail("needs the piece '" + text + "', which is not in the vocabulary");
    return found->second;
  };
  return {id(left), id(right), id(left + right.substr(prefix_bytes))};
}

}  // namespace ropewalk::formats
