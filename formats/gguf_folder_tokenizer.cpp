#include <algorithm>

#include "formats/gguf_folder.h"
#include "formats/gguf_token_lists.h"
#include "formats/tokenizers/llama_cpp_pre.h"
#include "formats/tokenizers/sentencepiece_writer.h"
#include "formats/tokenizers/tokenizer_json_writer.h"
#include "formats/utf8.h"
#include "lib/error.h"

namespace ropewalk::formats {
namespace {

constexpr float kAddedScore = -1000;  // the converter's, of tokens that came beside tokenizer.model
constexpr const char* kNameAnother = "name a folder with the model's own tokenizer: --tokenizer DIR";

void check_texts(const Vocabulary& vocabulary) {
  for (std::size_t id = 0; id < vocabulary.pieces.size(); ++id)
    if (const std::string& text = vocabulary.pieces[id].text; first_invalid_utf8(text) != text.size())
      throw Error(ErrorKind::unsupported, {}, "token " + std::to_string(id) + " is not UTF-8", kNameAnother);
  for (const ChatTemplate& one : vocabulary.chat_templates)
    if (first_invalid_utf8(one.text) != one.text.size() || first_invalid_utf8(one.name) != one.name.size())
      throw Error(ErrorKind::unsupported, {}, "its chat template is not UTF-8", kNameAnother);
}

/// Without the rows at the end that no token has.
Vocabulary without_fillers(Vocabulary vocabulary) {
  while (!vocabulary.pieces.empty() && is_filler(vocabulary.pieces.back(), vocabulary.pieces.size() - 1))
    vocabulary.pieces.pop_back();
  return vocabulary;
}

/// Tokens that the original had beside its tokenizer.model, where transformers looks for them.
Json added_tokens(const Vocabulary& vocabulary) {
  Json out = Json::object();
  for (std::size_t id = 0; id < vocabulary.pieces.size(); ++id) {
    const Piece& piece = vocabulary.pieces[id];
    const bool control = piece.type == PieceType::control;
    if (piece.score != kAddedScore || (!control && piece.type != PieceType::user_defined)) continue;
    const auto known = std::find_if(vocabulary.added.begin(), vocabulary.added.end(),
                                    [&](const AddedToken& token) { return static_cast<std::size_t>(token.id) == id; });
    const bool flags = known != vocabulary.added.end();
    out[std::to_string(id)] = {{"content", piece.text}, {"lstrip", flags && known->lstrip},
                               {"normalized", false},   {"rstrip", flags && known->rstrip},
                               {"single_word", false},  {"special", control}};
  }
  return out;
}

void put_chat_templates(Json& config, const Vocabulary& vocabulary) {
  if (vocabulary.chat_templates.empty()) return;
  if (vocabulary.chat_templates.size() == 1 && vocabulary.chat_template) {
    config["chat_template"] = *vocabulary.chat_template;
    return;
  }
  for (const ChatTemplate& one : vocabulary.chat_templates)
    config["chat_template"].push_back({{"name", one.name}, {"template", one.text}});
}

Json tokenizer_config(const Vocabulary& vocabulary, int context) {
  const bool bpe = vocabulary.gguf_bpe.has_value();
  Json out = Json::object();
  if (!bpe) {
    out["add_bos_token"] = vocabulary.add_bos.value_or(false);
    out["add_eos_token"] = vocabulary.add_eos.value_or(false);
    if (!vocabulary.add_dummy_prefix) out["add_prefix_space"] = false;
    if (Json added = added_tokens(vocabulary); !added.empty()) out["added_tokens_decoder"] = std::move(added);
  }
  // llama.cpp's defaults may name any piece; transformers would look for it in the text as a special token
  const auto name = [&](const char* key, const std::optional<std::int32_t>& id) {
    if (!id || vocabulary.pieces[static_cast<std::size_t>(*id)].type == PieceType::normal) return;
    out[key] = vocabulary.pieces[static_cast<std::size_t>(*id)].text;
  };
  name("bos_token", vocabulary.bos);
  put_chat_templates(out, vocabulary);
  out["clean_up_tokenization_spaces"] = bpe && find_llama_cpp_pre(vocabulary.gguf_bpe->pre)->clean_spaces;
  name("eos_token", vocabulary.eos);
  if (!bpe) out["legacy"] = true;  // a space before the text after a special token, as llama.cpp puts it
  out["model_max_length"] = context;
  name("pad_token", vocabulary.pad);
  out["tokenizer_class"] = vocabulary.model == "spm" ? "LlamaTokenizer" : "PreTrainedTokenizerFast";
  name("unk_token", vocabulary.unk);
  return out;
}

}  // namespace

std::map<std::string, std::string> tokenizer_files(const Vocabulary& from_gguf, int context) {
  const Vocabulary vocabulary = without_fillers(from_gguf);
  check_texts(vocabulary);
  for (const auto& id : {vocabulary.bos, vocabulary.eos, vocabulary.unk, vocabulary.pad})
    if (id && static_cast<std::size_t>(*id) >= vocabulary.pieces.size())
      throw Error(ErrorKind::unsupported, {}, "special token " + std::to_string(*id) + " has no text", kNameAnother);
  std::map<std::string, std::string> files;
  if (vocabulary.gguf_bpe) files["tokenizer.json"] = tokenizer_json(vocabulary);
  else if (vocabulary.model == "spm" || vocabulary.model == "unigram")
    files["tokenizer.model"] = sentencepiece_model(vocabulary);
  else
    throw Error(ErrorKind::unsupported, {}, "its tokenizer is of kind '" + vocabulary.model + "', which is in no file",
                kNameAnother);
  files["tokenizer_config.json"] = tokenizer_config(vocabulary, context).dump(2) + "\n";
  return files;
}

}  // namespace ropewalk::formats
