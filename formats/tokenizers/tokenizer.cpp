#include "formats/tokenizers/tokenizer.h"

#include <cmath>

#include "formats/tokenizers/implementations.h"
#include "lib/error.h"

namespace ropewalk::formats {

std::string text_of_id(const Vocabulary& vocabulary, std::int32_t id) {
  for (const AddedToken& token : vocabulary.added)
    if (token.id == id && !token.content.empty()) return token.content;
  const auto at = static_cast<std::size_t>(id);
  return at < vocabulary.pieces.size() ? vocabulary.pieces[at].text : "";
}

std::unique_ptr<Tokenizer> Tokenizer::create(const Vocabulary& vocabulary) {
  if (vocabulary.rules == TokenizerRules::tokenizers && vocabulary.pipeline) return make_pipeline_tokenizer(vocabulary);
  const bool llama_cpp = vocabulary.rules == TokenizerRules::llama_cpp;
  const bool bpe = llama_cpp && vocabulary.gguf_bpe.has_value();
  const bool plamo2 = llama_cpp && vocabulary.model == "plamo2";
  if (vocabulary.model != "spm" && vocabulary.model != "unigram" && !plamo2 && !bpe)
    throw Error(ErrorKind::unsupported, {},
                "a tokenizer of kind '" + vocabulary.model + "', only spm and unigram are known",
                "pass ids instead of text");
  if (vocabulary.pieces.empty())
    throw Error(ErrorKind::bad_input, {}, "the vocabulary has no pieces", "the tokenizer is corrupt: fetch it again");
  if (bpe) return make_llama_cpp_bpe_tokenizer(vocabulary);
  for (std::size_t id = 0; id < vocabulary.pieces.size(); ++id) {
    if (std::isnan(vocabulary.pieces[id].score))
      throw Error(ErrorKind::bad_input, {}, "the score of piece " + std::to_string(id) + " is not a number",
                  "the tokenizer is corrupt: fetch it again");
    if (!llama_cpp && vocabulary.pieces[id].text.empty())
      throw Error(ErrorKind::bad_input, {}, "piece " + std::to_string(id) + " has no text",
                  "the tokenizer is corrupt: fetch it again");
  }
  return llama_cpp ? make_llama_cpp_tokenizer(vocabulary) : make_sentencepiece_tokenizer(vocabulary);
}

}  // namespace ropewalk::formats
