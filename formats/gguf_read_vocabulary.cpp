#include <unordered_set>

#include "formats/gguf_model.h"
#include "formats/tokenizers/tokenizer.h"
#include "lib/error.h"

namespace ropewalk::formats {
namespace {

// llama.cpp 0.5, src/llama-vocab.cpp, vocabulary type SPM.

constexpr const char* kOtherFile = "llama.cpp 0.5 would refuse this file: write it again with a current converter";

[[noreturn]] void refuse(const std::string& path, const std::string& problem) {
  throw Error(ErrorKind::bad_input, {.path = path}, problem, kOtherFile);
}

/// Scores may be f32 or i32; more than one per token is allowed, fewer are not.
std::vector<float> read_scores(const GgufFile& file, const std::string& path, std::size_t n) {
  const GgufArray* array = file.array("tokenizer.ggml.scores");
  if (!array) return std::vector<float>(n, 0.0f);
  std::vector<float> scores = f32_elements(*array);
  if (array->element_type == GgufType::i32)
    for (std::int32_t score : i32_elements(*array)) scores.push_back(static_cast<float>(score));
  else if (array->element_type != GgufType::f32)
    refuse(path, std::string("tokenizer.ggml.scores has elements of type ") + gguf_type_name(array->element_type) +
                     ", expected f32");
  if (scores.size() < n)
    refuse(path, "tokenizer.ggml.scores has " + std::to_string(scores.size()) + " elements for " + std::to_string(n) +
                     " tokens");
  for (float score : scores)
    if (!(score == score)) refuse(path, "tokenizer.ggml.scores has a score that is not a number");
  return scores;
}

std::vector<PieceType> read_types(const GgufFile& file, const std::string& path, std::size_t n) {
  std::vector<PieceType> types(n, PieceType::normal);
  const GgufArray* array = file.array("tokenizer.ggml.token_type");
  if (!array) return types;
  if (array->element_type != GgufType::i32)
    refuse(path, std::string("tokenizer.ggml.token_type has elements of type ") + gguf_type_name(array->element_type) +
                     ", expected i32");
  const std::vector<std::int32_t> said = i32_elements(*array);
  if (said.size() < n)
    refuse(path, "tokenizer.ggml.token_type has " + std::to_string(said.size()) + " elements for " + std::to_string(n) +
                     " tokens");
  for (std::size_t id = 0; id < n;
       ++id)  // kinds the loader does not know are "undefined", which it shows and matches like unused ones
    types[id] = said[id] >= 1 && said[id] <= 6 ? static_cast<PieceType>(said[id]) : PieceType::unused;
  return types;
}

/// The id a key names; one past the vocabulary is ignored with the default kept, as the loader does.
std::optional<std::int32_t> special_id(const GgufFile& file, const char* key, std::size_t n,
                                       std::optional<std::int32_t> by_default) {
  if (by_default && static_cast<std::size_t>(*by_default) >= n) by_default = std::nullopt;
  const auto said = file.integer(key);
  return said && *said < n ? std::optional(static_cast<std::int32_t>(*said)) : by_default;
}

}  // namespace

std::optional<Vocabulary> read_gguf_vocabulary(const GgufFile& file, const std::string& path) {
  const auto model = file.string("tokenizer.ggml.model");
  if (!model || *model == "none" || *model == "no_vocab") return std::nullopt;
  if (*model != "llama")
    throw Error(ErrorKind::unsupported, {.path = path},
                "its tokenizer is of kind '" + *model + "', which is not read yet",
                "give token ids, or use a model with a SentencePiece tokenizer");
  const GgufArray* tokens = file.array("tokenizer.ggml.tokens");
  if (!tokens || tokens->element_type != GgufType::string)
    refuse(path, "tokenizer.ggml.tokens is missing or no array of strings");
  const std::size_t n = tokens->strings.size();

  Vocabulary out;
  out.rules = TokenizerRules::llama_cpp;
  const std::vector<float> scores = read_scores(file, path, n);
  const std::vector<PieceType> types = read_types(file, path, n);
  std::unordered_set<std::string_view> seen;
  out.pieces.reserve(n);
  for (std::size_t id = 0; id < n; ++id) {
    const std::string& text = tokens->strings[id];
    out.pieces.push_back({text.empty() ? "[EMPTY_" + std::to_string(id) + "]" : text, scores[id], types[id]});
    out.byte_fallback = out.byte_fallback || types[id] == PieceType::byte;
  }
  for (std::size_t id = 0; id < n; ++id)
    if (!seen.insert(out.pieces[id].text).second)
      refuse(path, "token " + std::to_string(id) + " stands twice in tokenizer.ggml.tokens");

  out.bos = special_id(file, "tokenizer.ggml.bos_token_id", n, 1);
  out.eos = special_id(file, "tokenizer.ggml.eos_token_id", n, 2);
  out.unk = special_id(file, "tokenizer.ggml.unknown_token_id", n, 0);
  out.pad = special_id(file, "tokenizer.ggml.padding_token_id", n, std::nullopt);
  out.add_bos = file.boolean("tokenizer.ggml.add_bos_token").value_or(true);
  out.add_eos = file.boolean("tokenizer.ggml.add_eos_token").value_or(false);
  out.add_dummy_prefix = file.boolean("tokenizer.ggml.add_space_prefix").value_or(true);
  out.chat_template = file.string("tokenizer.chat_template");
  if (out.chat_template) out.chat_templates.push_back({"default", *out.chat_template});
  constexpr std::string_view kNamed = "tokenizer.chat_template.";
  for (const GgufKey& key : file.keys)
    if (const auto* text = std::get_if<std::string>(&key.value.value); text && key.name.starts_with(kNamed))
      out.chat_templates.push_back({key.name.substr(kNamed.size()), *text});
  set_llama_cpp_attributes(out, file.string("general.name").value_or(""));
  return out;
}

}  // namespace ropewalk::formats
