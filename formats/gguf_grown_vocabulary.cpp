#include "formats/gguf_grown_vocabulary.h"

#include <algorithm>

#include "formats/gguf_token_lists.h"
#include "lib/error.h"
#include "lib/plural.h"

namespace ropewalk::formats {
namespace {

constexpr auto kNormal = static_cast<std::int32_t>(PieceType::normal),
               kUnused = static_cast<std::int32_t>(PieceType::unused);

void check_shared(const Source& source, const std::vector<std::string>& old, const GgufTokens& found) {
  for (std::size_t id = 0; id < old.size(); ++id)
    if (found.types[id] == kNormal && found.texts[id] != old[id])
      throw Error(ErrorKind::bad_input, {.path = source.tokenizer_folder.string()},
                  "token " + std::to_string(id) + " is '" + found.texts[id] + "', the GGUF's is '" + old[id] +
                      "': the new rows belong to another vocabulary",
                  "merge into the model that the adapter was trained on");
}

template <typename Value>
std::vector<Value> extended(std::vector<Value> old, const std::vector<Value>& found, std::size_t n) {
  old.resize(n);
  old.insert(old.end(), found.begin() + static_cast<std::ptrdiff_t>(n), found.end());
  return old;
}

}  // namespace

std::vector<GgufKey> grown_vocabulary_keys(const Source& source, std::vector<std::string>& notes) {
  const auto n_vocab = static_cast<std::size_t>(source.checkpoint.config.n_vocab);
  std::vector<GgufKey> keys;
  const auto embedding = std::find_if(source.gguf->tensors.begin(), source.gguf->tensors.end(),
                                      [](const TensorPtr& tensor) { return tensor->name() == "token_embd.weight"; });
  if (embedding == source.gguf->tensors.end() || (*embedding)->info().rows() == n_vocab) return keys;
  if (source.gguf->find("llama.vocab_size"))
    keys.push_back({"llama.vocab_size", gguf_u32(static_cast<std::uint32_t>(n_vocab))});
  const GgufArray* tokens = source.gguf->array("tokenizer.ggml.tokens");
  if (!tokens) return keys;
  const std::size_t n = tokens->strings.size();
  GgufTokens found(n_vocab);
  if (!source.tokenizer_folder.empty() && source.checkpoint.vocabulary) {
    std::vector<std::string> of_base;  // what is odd about the tokens that the GGUF has anyway
    found = gguf_tokens(*source.checkpoint.vocabulary, n_vocab, of_base);
    check_shared(source, tokens->strings, found);
  }
  const auto named = std::count_if(found.types.begin() + static_cast<std::ptrdiff_t>(n), found.types.end(),
                                   [](std::int32_t type) { return type != kUnused; });
  notes.push_back("the vocabulary has " + plural(n_vocab - n, "row") + " more, " + std::to_string(named) +
                  " of them with a token");
  if (!source.tokenizer_folder.empty()) return keys;  // its lists are written whole
  keys.push_back({"tokenizer.ggml.tokens", gguf_strings(extended(tokens->strings, found.texts, n))});
  if (const GgufArray* scores = source.gguf->array("tokenizer.ggml.scores"))
    keys.push_back({"tokenizer.ggml.scores", gguf_f32s(extended(f32_elements(*scores), found.scores, n))});
  if (const GgufArray* types = source.gguf->array("tokenizer.ggml.token_type"))
    keys.push_back({"tokenizer.ggml.token_type", gguf_i32s(extended(i32_elements(*types), found.types, n))});
  return keys;
}

}  // namespace ropewalk::formats
