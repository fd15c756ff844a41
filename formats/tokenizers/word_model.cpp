#include "formats/tokenizers/word_model.h"

#include <utility>

#include "lib/error.h"
#include "lib/tokenizer_pipeline.h"

namespace ropewalk::formats {

std::unique_ptr<WordModel> make_word_model(const Vocabulary& vocabulary, const PieceIndex& index, bool bytes) {
  const TokenizerModel& model = vocabulary.pipeline->model;
  if (std::holds_alternative<BpeModel>(model)) return make_bpe_model(vocabulary, index, bytes);
  if (std::holds_alternative<WordPieceModel>(model)) return make_word_piece_model(vocabulary, index);
  if (std::holds_alternative<WordLevelModel>(model)) return make_word_level_model(vocabulary, index);
  return make_unigram_model(vocabulary, index);
}

void no_unknown_token(std::string_view token) {
  throw Error(ErrorKind::bad_input, {},
              "the text has a word the tokenizer does not know, and its unknown token '" + std::string(token) +
                  "' is not in the vocabulary",
              "the tokenizer is incomplete: fetch it again");
}

}  // namespace ropewalk::formats
