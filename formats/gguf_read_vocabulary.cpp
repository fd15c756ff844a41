#include <unordered_map>

#include "formats/gguf_model.h"
#include "formats/tokenizers/llama_cpp_pre.h"
#include "formats/tokenizers/sentencepiece_normalizer.h"
#include "formats/tokenizers/tokenizer.h"
#include "lib/error.h"

namespace ropewalk::formats {
namespace {

// llama.cpp 0.5, src/llama-vocab.cpp, vocabulary types SPM, BPE, UGM and PLAMO2.

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

/// Where the file and its warnings are.
struct Reading {
  const GgufFile& file;
  const std::string& path;
  std::vector<std::string>* warnings;
};

/// The id a key names; one past the vocabulary is passed over with the default kept, as the loader does.
std::optional<std::int32_t> special_id(const Reading& in, const std::string& key, std::size_t n,
                                       std::optional<std::int32_t> by_default) {
  if (by_default && static_cast<std::size_t>(*by_default) >= n) by_default = std::nullopt;
  const auto said = in.file.integer(key);
  if (said && *said < n) return static_cast<std::int32_t>(*said);
  if (said && in.warnings)
    in.warnings->push_back(in.path + ": " + key + " is " + std::to_string(*said) + ", expected an id from 0 to " +
                           std::to_string(n - 1) + ": llama.cpp passes over it and has " +
                           (by_default ? std::to_string(*by_default) : "none"));
  return by_default;
}

/// Tokens with their scores and types, each text once.
void read_pieces(const GgufFile& file, const std::string& path, Vocabulary& out) {
  const GgufArray* tokens = file.array("tokenizer.ggml.tokens");
  if (!tokens || tokens->element_type != GgufType::string)
    refuse(path, "tokenizer.ggml.tokens is missing or no array of strings");
  const std::size_t n = tokens->strings.size();
  const std::vector<float> scores = read_scores(file, path, n);
  const std::vector<PieceType> types = read_types(file, path, n);
  std::unordered_map<std::string_view, std::size_t> seen;
  out.pieces.reserve(n);
  for (std::size_t id = 0; id < n; ++id) {
    const std::string& text = tokens->strings[id];
    out.pieces.push_back({text.empty() ? "[EMPTY_" + std::to_string(id) + "]" : text, scores[id], types[id]});
    out.byte_fallback = out.byte_fallback || types[id] == PieceType::byte;
  }
  for (std::size_t id = 0; id < n; ++id)
    if (const auto [first, is_new] = seen.emplace(out.pieces[id].text, id); !is_new)
      refuse(path, "tokenizer.ggml.tokens has '" + out.pieces[id].text + "' twice, as tokens " +
                       std::to_string(first->second) + " and " + std::to_string(id));
}

/// Ids and flags that llama.cpp assumes where the file says nothing.
struct Defaults {
  std::optional<std::int32_t> bos = std::nullopt, eos = std::nullopt, unk = std::nullopt, pad = std::nullopt;
  bool add_bos = false, add_eos = false, add_space_prefix = false;
};

void read_specials(const Reading& in, const Defaults& defaults, Vocabulary& out) {
  const std::size_t n = out.pieces.size();
  const GgufFile& file = in.file;
  out.bos = special_id(in, "tokenizer.ggml.bos_token_id", n, defaults.bos);
  out.eos = special_id(in, "tokenizer.ggml.eos_token_id", n, defaults.eos);
  out.unk = special_id(in, "tokenizer.ggml.unknown_token_id", n, defaults.unk);
  out.pad = special_id(in, "tokenizer.ggml.padding_token_id", n, defaults.pad);
  out.add_bos = file.boolean("tokenizer.ggml.add_bos_token").value_or(defaults.add_bos);
  out.add_eos = file.boolean("tokenizer.ggml.add_eos_token").value_or(defaults.add_eos);
  out.add_dummy_prefix = file.boolean("tokenizer.ggml.add_space_prefix").value_or(defaults.add_space_prefix);
}

/// "left right": at the first space that is not the first byte. Without one a merge joins nothing.
void read_merges(const GgufFile& file, const std::string& path, GgufBpe& bpe) {
  const GgufArray* merges = file.array("tokenizer.ggml.merges");
  if (!merges && bpe.pre == "kimi-k2") return;
  if (!merges || merges->element_type != GgufType::string)
    refuse(path, "tokenizer.ggml.merges is missing or no array of strings");
  bpe.merges.reserve(merges->strings.size());
  for (const std::string& merge : merges->strings)
    if (const std::size_t space = merge.find(' ', 1); space != std::string::npos)
      bpe.merges.emplace_back(merge.substr(0, space), merge.substr(space + 1));
}

void read_bpe(const Reading& in, const std::string& model, Vocabulary& out) {
  const auto& [file, path, warnings] = in;
  out.model = "bpe";
  GgufBpe& bpe = out.gguf_bpe.emplace();
  bpe.pre = model == "gemma4" ? model : file.string("tokenizer.ggml.pre").value_or("default");
  const LlamaCppPre* pre = find_llama_cpp_pre(bpe.pre);
  if (!pre)
    throw Error(ErrorKind::unsupported, {.path = path},
                "its pre-tokenizer '" + bpe.pre + "' is not one of llama.cpp 0.5",
                "give token ids, or correct tokenizer.ggml.pre");
  read_merges(file, path, bpe);
  for (std::size_t id = 0; id < out.pieces.size(); ++id)
    if (out.pieces[id].type == PieceType::byte && out.pieces[id].text.size() < 3)
      refuse(path, "byte token " + std::to_string(id) + " is '" + out.pieces[id].text + "', expected one like <0x0A>");
  Defaults defaults;
  if (model != "gemma4") defaults.eos = 11;
  if (model != "gemma4" && pre->has_default_bos) defaults.bos = 11;
  defaults.add_bos = pre->add_bos;
  read_specials(in, defaults, out);
  if (pre->newlines_whole) out.add_bos = true;  // Gemma 4's, whatever the file says
}

void read_unigram(const Reading& in, Vocabulary& out) {
  const auto& [file, path, warnings] = in;
  out.model = "unigram";
  read_specials(in, {.eos = 1, .unk = 2, .pad = 0, .add_eos = true}, out);
  out.remove_extra_whitespaces = file.boolean("tokenizer.ggml.remove_extra_whitespaces").value_or(false);
  const GgufArray* charsmap = file.array("tokenizer.ggml.precompiled_charsmap");
  if (!charsmap) return;
  if (charsmap->element_type != GgufType::u8 && charsmap->element_type != GgufType::i8)
    refuse(path, std::string("tokenizer.ggml.precompiled_charsmap has elements of type ") +
                     gguf_type_name(charsmap->element_type) + ", expected u8");
  out.precompiled_charsmap.assign(reinterpret_cast<const char*>(charsmap->packed.data()), charsmap->packed.size());
  try {
    if (Charsmap(out.precompiled_charsmap).empty()) refuse(path, "tokenizer.ggml.precompiled_charsmap is empty");
  } catch (const Error& error) {
    refuse(path, "tokenizer.ggml." + error.problem());
  }
}

void read_plamo2(const Reading& in, Vocabulary& out) {
  out.model = "plamo2";
  read_specials(in, {.bos = 1, .eos = 2, .unk = 0, .pad = 3}, out);
}

[[noreturn]] void refuse_kind(const std::string& path, const std::string& model) {
  const std::string what = model == "bert"         ? "WordPiece, which is for encoders"
                           : model == "rwkv"       ? "RWKV's, whose models are not read"
                           : model == "hybriddna"  ? "BPE with DNA's k-mers, whose models are not read"
                           : model == "whitespace" ? "white space alone, which is for embedding models"
                                                   : "";
  throw Error(
      ErrorKind::unsupported, {.path = path},
      "its tokenizer is of kind '" + model + "'" + (what.empty() ? ", none that llama.cpp 0.5 has" : " (" + what + ")"),
      "give token ids, or use a model with a tokenizer of kind llama, gpt2, gemma4, t5 or plamo2");
}

void read_chat_templates(const GgufFile& file, Vocabulary& out) {
  out.chat_template = file.string("tokenizer.chat_template");
  if (out.chat_template) out.chat_templates.push_back({"default", *out.chat_template});
  constexpr std::string_view kNamed = "tokenizer.chat_template.";
  for (const GgufKey& key : file.keys)
    if (const auto* text = std::get_if<std::string>(&key.value.value); text && key.name.starts_with(kNamed))
      out.chat_templates.push_back({key.name.substr(kNamed.size()), *text});
}

}  // namespace

std::optional<Vocabulary> read_gguf_vocabulary(const GgufFile& file, const std::string& path,
                                               std::vector<std::string>* warnings) {
  const auto model = file.string("tokenizer.ggml.model");
  if (!model || *model == "none" || *model == "no_vocab") return std::nullopt;
  const bool bpe = *model == "gpt2" || *model == "gemma4";
  if (*model != "llama" && *model != "t5" && *model != "plamo2" && !bpe) refuse_kind(path, *model);
  Vocabulary out;
  out.rules = TokenizerRules::llama_cpp;
  read_pieces(file, path, out);
  const Reading in{file, path, warnings};
  if (bpe) read_bpe(in, *model, out);
  else if (*model == "t5") read_unigram(in, out);
  else if (*model == "plamo2") read_plamo2(in, out);
  else read_specials(in, {.bos = 1, .eos = 2, .unk = 0, .add_bos = true, .add_space_prefix = true}, out);
  read_chat_templates(file, out);
  set_llama_cpp_attributes(out, file.string("general.name").value_or(""));
  return out;
}

}  // namespace ropewalk::formats
