// tokenizer.model from strangers: read, and if it reads, used.
#include <cstdlib>
#include <string_view>

#include "formats/tokenizer.h"
#include "lib/error.h"

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
  using namespace ropewalk;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  try {
    Vocabulary vocabulary = formats::parse_sentencepiece_model("fuzz", bytes);
    for (const auto rules : {TokenizerRules::sentencepiece, TokenizerRules::llama_cpp}) {
      vocabulary.rules = rules;
      const auto tokenizer = formats::Tokenizer::create(vocabulary);
      if (tokenizer->size() != static_cast<std::int32_t>(vocabulary.pieces.size())) std::abort();
      try {
        const auto ids = tokenizer->encode(bytes.substr(0, 512), true);
        for (std::int32_t id : ids)
          if (id < 0 || id >= tokenizer->size()) std::abort();
        tokenizer->decode(ids);
      } catch (const Error&) {
        if (rules == TokenizerRules::sentencepiece) std::abort();  // every text has ids there
      }
    }
  } catch (const Error&) {
  }
  return 0;
}
