#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "formats/tokenizers/json_node.h"
#include "lib/vocabulary.h"

namespace ropewalk::formats {

/// What tokenizer.json and vocab.json with merges.txt share.

using PieceIds = std::unordered_map<std::string_view, std::int32_t>;  // by text, which lies in the pieces

/// {"text": id} to vocabulary.pieces. Ids may have holes, whose pieces are unused. Error(bad_input) with the place for
/// ids that stand twice, are no numbers, or claim far more than there are pieces.
void read_piece_ids(const JsonNode& node, Vocabulary& vocabulary);
/// Refers to the pieces' texts.
PieceIds ids_of_pieces(const Vocabulary& vocabulary);

using MergeFailure = std::function<void(const std::string& problem)>;  // throws, with the merge's place
/// "left right".
std::pair<std::string, std::string> split_merge(std::string_view text, const MergeFailure& fail);
/// The right one loses `prefix_bytes` at its front where the two are joined.
BpeModel::Merge merge_of(const std::pair<std::string, std::string>& texts, const PieceIds& ids,
                         std::size_t prefix_bytes, const MergeFailure& fail);

}  // namespace ropewalk::formats
