#include <algorithm>
#include <array>

#include "formats/gguf_model.h"
#include "formats/gguf_special_tokens.h"
#include "formats/tokenizers/characters.h"
#include "lib/error.h"
#include "lib/plural.h"

namespace ropewalk::formats {
namespace {

bool looks_special(std::string_view text) {
  for (const char* known : {"<pad>", "<mask>", "<2mass>", "[@BOS@]"})
    if (text == known) return true;
  constexpr std::string_view kWideBar = "\xEF\xBD\x9C";  // U+FF5C
  const auto framed = [&](const std::string& begin, const std::string& end) {
    return text.starts_with(begin) && text.ends_with(end);
  };
  return framed("<|", "|>") || framed("<" + std::string(kWideBar), std::string(kWideBar) + ">") ||
         framed("<unused", ">");
}

std::string with_spaces(std::string text) {
  replace_all(text, kSpaceMark, " ");
  return text;
}

struct Tokens {
  std::vector<std::string> texts;
  std::vector<float> scores;
  std::vector<std::int32_t> types;

  explicit Tokens(std::size_t n)
      : texts(n), scores(n, -10000.0f), types(n, static_cast<std::int32_t>(PieceType::unused)) {
    for (std::size_t id = 0; id < n; ++id) texts[id] = "[PAD" + std::to_string(id) + "]";
  }
  void put(std::size_t id, std::string text, float score, PieceType type) {
    texts[id] = std::move(text);
    scores[id] = score;
    types[id] = static_cast<std::int32_t>(type);
  }
};

/// tokens, scores and types of n_vocab ids: the model's pieces, what is added on top of them, and fillers.
Tokens token_lists(const Vocabulary& vocabulary, std::size_t n_vocab, bool compat, std::vector<std::string>& notes) {
  Tokens out(n_vocab);
  for (std::size_t id = 0; id < std::min(vocabulary.pieces.size(), n_vocab); ++id) {
    const Piece& piece = vocabulary.pieces[id];
    if (piece.type != PieceType::user_defined) out.put(id, piece.text, piece.score, piece.type);
    else if (compat) out.put(id, piece.text, piece.score, PieceType::normal);
    else
      // llama.cpp matches these in the text as it stands
      out.put(id, with_spaces(piece.text), piece.score, PieceType::user_defined);
  }
  std::size_t past = vocabulary.pieces.size() > n_vocab ? vocabulary.pieces.size() - n_vocab : 0;
  for (const AddedToken& token : vocabulary.added) {
    const auto id = static_cast<std::size_t>(token.id);
    if (token.id < 0 || id >= n_vocab) {
      ++past;
    } else if (!token.in_decoder) {
      out.put(id, token.content, -1000.0f, PieceType::user_defined);
    } else if (token.special || looks_special(token.content)) {
      out.put(id, token.content, -1000.0f, PieceType::control);
    } else {
      out.put(id, with_spaces(token.content), -1000.0f, PieceType::user_defined);
    }
  }
  if (past > 0)
    notes.push_back(plural(past, "token") + " past the embedding's " + std::to_string(n_vocab) +
                    (past == 1 ? " rows is left out" : " rows are left out"));
  if (vocabulary.normalizer_name != "identity" && !vocabulary.precompiled_charsmap.empty())
    notes.push_back("the tokenizer normalises text by '" + vocabulary.normalizer_name +
                    "', which llama.cpp does not do for this kind: unusual characters get other ids");
  return out;
}

struct IdKey {
  const char* kind;
  const char* key;
};
// Kinds without a key in gguf-py (cls, prefix, ...) are not written.
constexpr std::array kIdKeys = {IdKey{"bos", "bos_token_id"},     IdKey{"eos", "eos_token_id"},
                                IdKey{"unk", "unknown_token_id"}, IdKey{"sep", "seperator_token_id"},
                                IdKey{"pad", "padding_token_id"}, IdKey{"mask", "mask_token_id"},
                                IdKey{"eot", "eot_token_id"},     IdKey{"eom", "eom_token_id"}};

/// Keys written twice keep their place and take the new value.
void set(std::vector<GgufKey>& keys, const std::string& name, GgufValue value) {
  const auto found = std::find_if(keys.begin(), keys.end(), [&](const GgufKey& key) { return key.name == name; });
  if (found == keys.end()) keys.push_back({name, std::move(value)});
  else found->value = std::move(value);
}

void put_chat_template(std::vector<GgufKey>& keys, const Json& chat) {
  if (chat.is_string() && !chat.get_ref<const std::string&>().empty())
    set(keys, "tokenizer.chat_template", gguf_string(chat.get<std::string>()));
  if (!chat.is_array()) return;
  std::vector<std::string> names;
  Json unnamed;
  for (const Json& choice : chat) {
    if (!choice.is_object() || !choice.value("template", Json()).is_string()) continue;
    std::string name = choice.value("name", Json()).is_string() ? choice["name"].get<std::string>() : "";
    for (char& c : name)
      if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'))) c = '_';
    const std::string text = choice["template"].get<std::string>();
    if (name == "default") {
      unnamed = text;
    } else if (!name.empty()) {
      if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
      if (!text.empty()) set(keys, "tokenizer.chat_template." + name, gguf_string(text));
    }
  }
  if (!names.empty()) set(keys, "tokenizer.chat_templates", gguf_strings(names));
  if (unnamed.is_string() && !unnamed.get_ref<const std::string&>().empty())
    set(keys, "tokenizer.chat_template", gguf_string(unnamed.get<std::string>()));
}

void put_special(std::vector<GgufKey>& keys, const SpecialTokens& special) {
  for (const auto& [kind, id] : special.ids)
    for (const IdKey& row : kIdKeys)
      if (kind == row.kind) set(keys, std::string("tokenizer.ggml.") + row.key, gguf_u32(id));
  for (const auto& [kind, add] : special.add)
    if (kind == "bos" || kind == "eos" || kind == "sep")
      set(keys, "tokenizer.ggml.add_" + kind + "_token", gguf_bool(add));
  put_chat_template(keys, special.chat_template);
}

/// Ids and flags that only tokenizer.model knows, where llama.cpp would assume others.
void put_unsaid(std::vector<GgufKey>& keys, const Vocabulary& vocabulary, std::size_t n_vocab) {
  const auto put = [&](const char* name, std::optional<std::int32_t> id, std::optional<std::int32_t> assumed) {
    const std::string key = std::string("tokenizer.ggml.") + name;
    const bool said = std::any_of(keys.begin(), keys.end(), [&](const GgufKey& k) { return k.name == key; });
    if (!said && id && id != assumed && *id >= 0 && static_cast<std::size_t>(*id) < n_vocab)
      keys.push_back({key, gguf_u32(static_cast<std::uint32_t>(*id))});
  };
  put("bos_token_id", vocabulary.bos, 1);
  put("eos_token_id", vocabulary.eos, 2);
  put("unknown_token_id", vocabulary.unk, 0);
  put("padding_token_id", vocabulary.pad, std::nullopt);
}

}  // namespace

std::vector<GgufKey> gguf_tokenizer_keys(const Source& source, bool compat, std::vector<std::string>& notes) {
  const std::optional<Vocabulary>& vocabulary = source.checkpoint.vocabulary;
  if (!vocabulary)
    throw Error(ErrorKind::bad_input, {.path = source.checkpoint.label},
                "no tokenizer.model was found beside the weights, and llama.cpp loads no model without its tokenizer",
                "put the model's tokenizer files into its folder, or name one that holds them: --tokenizer DIR");
  if (vocabulary->pipeline)
    throw Error(
        ErrorKind::unsupported, {.path = source.checkpoint.label},
        "its tokenizer is a tokenizer.json of kind " + vocabulary->model + ", which is not written to GGUF yet",
        "add the model's SentencePiece tokenizer.model if it has one, or name a folder that does: --tokenizer DIR");
  const auto n_vocab = static_cast<std::size_t>(source.checkpoint.config.n_vocab);
  const ModelConfigFile config{source.hf->config, (source.hf->folder / "config.json").string(), source.hf->config_text};
  std::vector<GgufKey> keys;

  if (vocabulary->add_prefix_space)
    set(keys, "tokenizer.ggml.add_space_prefix", gguf_bool(*vocabulary->add_prefix_space));
  else if (!compat && !vocabulary->add_dummy_prefix) set(keys, "tokenizer.ggml.add_space_prefix", gguf_bool(false));
  Tokens tokens = token_lists(*vocabulary, n_vocab, compat, notes);
  set(keys, "tokenizer.ggml.model", gguf_string("llama"));
  set(keys, "tokenizer.ggml.pre", gguf_string("default"));
  set(keys, "tokenizer.ggml.tokens", gguf_strings(std::move(tokens.texts)));
  set(keys, "tokenizer.ggml.scores", gguf_f32s(tokens.scores));
  set(keys, "tokenizer.ggml.token_type", gguf_i32s(tokens.types));
  put_special(keys, find_special_tokens(source.tokenizer_folder, config, n_vocab));
  if (n_vocab == 32016) {  // CodeLlama
    SpecialTokens more =
        find_special_tokens(source.tokenizer_folder, config, n_vocab, {"prefix", "suffix", "middle", "eot"});
    more.set_id("eot", 32010, n_vocab);
    put_special(keys, more);
  }
  if (n_vocab == 49152) set(keys, "tokenizer.ggml.add_bos_token", gguf_bool(false));  // Granite's small models
  if (!compat) put_unsaid(keys, *vocabulary, n_vocab);
  return keys;
}

}  // namespace ropewalk::formats
