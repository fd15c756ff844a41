#pragma once

#include <optional>
#include <string>
#include <vector>

#include "lib/vocabulary.h"

namespace ropewalk::verify {

/// What an id stands for, whichever file said it: a piece, or the added token that covers it, which is control if it is
/// special and user-defined if not.
struct IdMeaning {
  std::string text;
  PieceType type = PieceType::unused;
};
std::vector<IdMeaning> id_meanings(const Vocabulary& vocabulary);
/// With pieces alone, which mean what the ids mean.
Vocabulary as_pieces(const Vocabulary& vocabulary);

/// GgufBpe::pre of a folder whose words are no pre-tokenizer's of llama.cpp.
inline constexpr const char* kUnknownPre = "unknown";

/// Two vocabularies as one kind of file has them, so that what remains different is a difference.
struct InOneForm {
  Vocabulary source, candidate;
  // whose scores are ranks of merges, which the other's need not equal: their order is what counts
  enum class Ranked { none, source, candidate } ranked = Ranked::none;
};
/// Where one is a GGUF's, the other as it would stand there: of the forms of llama.cpp's converter, the candidate's. Of a
/// tokenizer.model and a tokenizer.json, both as in a GGUF. Anything else as it is.
InOneForm in_one_form(const Vocabulary& source, const Vocabulary& candidate);

/// A folder's vocabulary as it would stand in a GGUF of n_vocab rows; nullopt for one that stands there as it is.
std::optional<Vocabulary> as_in_gguf(const Vocabulary& source, std::size_t n_vocab);

}  // namespace ropewalk::verify
