#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "formats/tokenizers/token_place.h"
#include "formats/tokenizers/tokenizer.h"
#include "tools/text_input.h"

namespace ropewalk::tools {

/// A corpus as one SOURCE has it.
struct TokenizedText {
  std::string source = {};
  std::unique_ptr<formats::Tokenizer> tokenizer = {};
  std::vector<std::int32_t> ids = {};  // of all documents, one after the other
  std::vector<std::size_t> document_begins = {};
};

/// Where the ids of two first part.
struct TokenDifference {
  std::optional<std::size_t> at;  // index of the token; nullopt: nowhere
  // The place in the text that the tokens before it stand for, if they spell it as it stands; normalizing changes it.
  struct Place : formats::TextPlace {
    std::string document = {};
  };
  std::optional<Place> place;
};
TokenDifference first_difference(const TokenizedText& a, const TokenizedText& b, const Corpus& corpus);

/// Ids and pieces of both around the place, the token that differs marked; or that all are equal.
std::string difference_text(const TokenDifference& difference, const TokenizedText& a, const TokenizedText& b);
/// {"source", "count", "at", "document", "byte", "line", "before", "after", "first", "other"}; the last two are lists of
/// {"token", "id", "piece"}; null where nothing differs.
Json difference_json(const TokenDifference& difference, const TokenizedText& a, const TokenizedText& b);

}  // namespace ropewalk::tools
