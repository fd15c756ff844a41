#include <algorithm>
#include <array>

#include "formats/gguf_model.h"
#include "formats/gguf_other_ids.h"
#include "formats/gguf_special_tokens.h"
#include "formats/gguf_token_lists.h"
#include "formats/tokenizers/llama_cpp_pre.h"
#include "formats/tokenizers/pre_tokenizer_names.h"
#include "lib/error.h"

namespace ropewalk::formats {
namespace {

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

/// Ids as the tokenizer has them, of which the converter sees those that a tokenizer.json lists and takes config.json's
/// for the others; ids and flags that only the tokenizer knows, where llama.cpp would assume others.
void put_unsaid(std::vector<GgufKey>& keys, const Vocabulary& vocabulary, std::size_t n_vocab) {
  const auto said = [&](const std::string& key) {
    return std::any_of(keys.begin(), keys.end(), [&](const GgufKey& k) { return k.name == key; });
  };
  const auto put = [&](const char* name, std::optional<std::int32_t> id, std::optional<std::int32_t> assumed) {
    const std::string key = std::string("tokenizer.ggml.") + name;
    if (id && (id != assumed || said(key)) && *id >= 0 && static_cast<std::size_t>(*id) < n_vocab)
      set(keys, key, gguf_u32(static_cast<std::uint32_t>(*id)));
  };
  using Assumed = std::optional<std::int32_t>;
  const bool unigram = vocabulary.model == "unigram";
  const bool bpe = vocabulary.pipeline.has_value() && !unigram && !llama_like(vocabulary);
  put("bos_token_id", vocabulary.bos, bpe ? Assumed(11) : unigram ? Assumed() : 1);
  put("eos_token_id", vocabulary.eos, bpe ? 11 : unigram ? 1 : 2);
  const auto* model = vocabulary.pipeline ? std::get_if<UnigramModel>(&vocabulary.pipeline->model) : nullptr;
  put("unknown_token_id", model ? model->unk_id : vocabulary.unk, bpe ? Assumed() : unigram ? 2 : 0);
  put("padding_token_id", vocabulary.pad, unigram ? Assumed(0) : Assumed());
  const auto put_flag = [&](const char* name, std::optional<bool> adds, bool assumed) {
    const std::string key = std::string("tokenizer.ggml.") + name;
    if (!said(key) && adds && *adds != assumed) keys.push_back({key, gguf_bool(*adds)});
  };
  if (unigram) {
    put_flag("add_bos_token", vocabulary.add_bos.value_or(false), false);
    put_flag("add_eos_token", vocabulary.add_eos.value_or(false), true);
    return;
  }
  if (!vocabulary.pipeline) return put_flag("add_bos_token", vocabulary.bos && vocabulary.add_bos.value_or(true), true);
  const auto pre = std::find_if(keys.begin(), keys.end(), [](const auto& k) { return k.name == "tokenizer.ggml.pre"; });
  const LlamaCppPre* known = find_llama_cpp_pre(std::get<std::string>(pre->value.value));
  put_flag("add_bos_token", vocabulary.add_bos, !bpe || (known && known->add_bos));
  put_flag("add_eos_token", vocabulary.add_eos, false);
}

/// What both kinds write from here on.
void put_rest(std::vector<GgufKey>& keys, const Source& source, const Vocabulary& vocabulary, bool compat,
              std::vector<std::string>& notes) {
  const auto n_vocab = static_cast<std::size_t>(source.checkpoint.config.n_vocab);
  static const Json none;
  const ModelConfigFile config =
      source.hf
          ? ModelConfigFile{source.hf->config, (source.hf->folder / "config.json").string(), source.hf->config_text}
          : ModelConfigFile{none, source.checkpoint.label, ""};
  put_special(keys, find_special_tokens(source.tokenizer_folder, config, n_vocab));
  if (n_vocab == 32016) {  // CodeLlama
    SpecialTokens more =
        find_special_tokens(source.tokenizer_folder, config, n_vocab, {"prefix", "suffix", "middle", "eot"});
    more.set_id("eot", 32010, n_vocab);
    put_special(keys, more);
  }
  if (n_vocab == 49152) set(keys, "tokenizer.ggml.add_bos_token", gguf_bool(false));  // Granite's small models
  if (!compat) put_unsaid(keys, vocabulary, n_vocab);
  if (source.hf) note_other_ids(keys, source, compat, notes);
}

void put_pieces(std::vector<GgufKey>& keys, const char* kind, GgufTokens tokens) {
  set(keys, "tokenizer.ggml.model", gguf_string(kind));
  set(keys, "tokenizer.ggml.pre", gguf_string("default"));
  set(keys, "tokenizer.ggml.tokens", gguf_strings(std::move(tokens.texts)));
  set(keys, "tokenizer.ggml.scores", gguf_f32s(tokens.scores));
  set(keys, "tokenizer.ggml.token_type", gguf_i32s(tokens.types));
}

void put_sentencepiece(std::vector<GgufKey>& keys, const Vocabulary& vocabulary, std::size_t n_vocab, bool compat,
                       std::vector<std::string>& notes) {
  if (!vocabulary.add_prefix_space && !compat && !vocabulary.add_dummy_prefix)
    set(keys, "tokenizer.ggml.add_space_prefix", gguf_bool(false));
  put_pieces(keys, "llama", sentencepiece_tokens(vocabulary, n_vocab, compat, notes));
}

/// As the converter writes T5's own; it takes a unigram model of any other architecture for BPE.
void put_unigram(std::vector<GgufKey>& keys, const Vocabulary& vocabulary, const std::string& label,
                 std::size_t n_vocab, bool compat, std::vector<std::string>& notes) {
  if (compat)
    throw Error(ErrorKind::unsupported, {.path = label},
                "llama.cpp's converter writes a unigram tokenizer.model as if it were BPE, and the ids come out wrong",
                "leave --compat away");
  if (vocabulary.byte_fallback)
    notes.emplace_back(
        "llama.cpp has no byte pieces for this kind of tokenizer: a character that is no piece becomes the unknown "
        "token");
  if (vocabulary.whitespace_as_suffix)
    throw Error(ErrorKind::unsupported, {.path = label},
                "its tokenizer.model says treat_whitespace_as_suffix, for which GGUF has no key",
                "name a folder with another tokenizer: --tokenizer DIR");
  put_pieces(keys, "t5", sentencepiece_tokens(vocabulary, n_vocab, false, notes));
  set(keys, "tokenizer.ggml.add_space_prefix", gguf_bool(vocabulary.add_dummy_prefix));
  set(keys, "tokenizer.ggml.remove_extra_whitespaces", gguf_bool(vocabulary.remove_extra_whitespaces));
  if (!vocabulary.precompiled_charsmap.empty())
    set(keys, "tokenizer.ggml.precompiled_charsmap", gguf_u8s(vocabulary.precompiled_charsmap));
}

/// The converter refuses such a tokenizer of a decoder: it looks for the hash of a BPE's.
void put_unigram_json(std::vector<GgufKey>& keys, const Vocabulary& vocabulary, const std::string& label,
                      std::size_t n_vocab, bool compat, std::vector<std::string>& notes) {
  if (compat)
    throw Error(ErrorKind::unsupported, {.path = label},
                "llama.cpp's converter does not write a unigram tokenizer.json",
                "leave --compat away, or add the model's tokenizer.model");
  const auto like = unigram_like(vocabulary, notes);
  if (!like)
    throw Error(
        ErrorKind::unsupported, {.path = label},
        "its unigram tokenizer.json has steps that llama.cpp's kind t5 has not (it has Precompiled, Strip, Replace "
        "of ' {2,}', WhitespaceSplit and Metaspace)",
        "add the model's SentencePiece tokenizer.model if it has one, or name a folder that does: "
        "--tokenizer DIR");
  put_pieces(keys, "t5", unigram_tokens(vocabulary, n_vocab, notes));
  set(keys, "tokenizer.ggml.add_space_prefix", gguf_bool(like->add_space_prefix));
  set(keys, "tokenizer.ggml.remove_extra_whitespaces", gguf_bool(like->remove_extra_whitespaces));
  if (!like->charsmap.empty()) set(keys, "tokenizer.ggml.precompiled_charsmap", gguf_u8s(like->charsmap));
}

/// tokenizer.ggml.pre of a GGUF that joins the same pieces in the same order, so that its tokens are the same but for
/// added ones.
std::optional<std::string> pre_tokenizer_of_gguf(const Source& source, const Vocabulary& vocabulary) {
  const GgufArray* merges = source.gguf ? source.gguf->array("tokenizer.ggml.merges") : nullptr;
  if (!merges || merges->strings != bpe_merges(vocabulary)) return std::nullopt;
  return source.gguf->string("tokenizer.ggml.pre");
}

/// tokenizer.ggml.pre; notes how it was found if not as the converter does.
std::string pre_tokenizer_of(const Source& source, const Vocabulary& vocabulary, std::vector<std::string>& notes) {
  const std::string& label = source.checkpoint.label;
  if (vocabulary.model != "bpe")
    throw Error(ErrorKind::unsupported, {.path = label},
                "its tokenizer is a tokenizer.json of kind " + vocabulary.model + ", which is not written to GGUF",
                "add the model's SentencePiece tokenizer.model if it has one, or name a folder that does: "
                "--tokenizer DIR");
  const std::string hash = pre_tokenizer_hash(vocabulary);
  if (const auto known = pre_tokenizer_by_hash(hash)) return *known;
  const auto name = pre_tokenizer_by_content(*vocabulary.pipeline);
  if (!name) {
    if (const auto of_base = pre_tokenizer_of_gguf(source, vocabulary)) return *of_base;
    throw Error(ErrorKind::unsupported, {.path = label},
                "its BPE pre-tokenizer is none that llama.cpp 0.5 knows (hash " + hash.substr(0, 16) + "...)",
                "name a folder with another tokenizer: --tokenizer DIR");
  }
  notes.push_back("tokenizer.ggml.pre is '" + *name +
                  "' by the tokenizer's own steps: llama.cpp's converter does not know this vocabulary");
  return *name;
}

/// The converter gives every piece of such a tokenizer one score, by which llama.cpp merges from the left.
void put_llama_like(std::vector<GgufKey>& keys, const Vocabulary& vocabulary, const std::string& label,
                    std::size_t n_vocab, bool compat, std::vector<std::string>& notes) {
  if (compat)
    throw Error(ErrorKind::unsupported, {.path = label},
                "llama.cpp's converter writes a tokenizer.json of this kind without its merges, and the ids come out "
                "wrong",
                "leave --compat away, or add the model's tokenizer.model");
  GgufTokens tokens = llama_like_tokens(vocabulary, n_vocab, notes);
  set(keys, "tokenizer.ggml.add_space_prefix", gguf_bool(llama_like(vocabulary)->add_space_prefix));
  set(keys, "tokenizer.ggml.model", gguf_string("llama"));
  set(keys, "tokenizer.ggml.pre", gguf_string("default"));
  set(keys, "tokenizer.ggml.tokens", gguf_strings(std::move(tokens.texts)));
  set(keys, "tokenizer.ggml.scores", gguf_f32s(tokens.scores));
  set(keys, "tokenizer.ggml.token_type", gguf_i32s(tokens.types));
}

void put_bpe(std::vector<GgufKey>& keys, const Source& source, const Vocabulary& vocabulary, std::size_t n_vocab,
             std::vector<std::string>& notes) {
  const std::string pre = pre_tokenizer_of(source, vocabulary, notes);
  if (!vocabulary.pipeline->normalizers.empty())
    notes.emplace_back(
        "the tokenizer normalises text, which llama.cpp does not do: text that is not normal already "
        "gets other ids");
  if (const LlamaCppPre* known = find_llama_cpp_pre(pre); known && ascii_case(*known))
    notes.push_back("llama.cpp's '" + pre +
                    "' tells capitals from small letters in ASCII alone: words with capitals or marks of other scripts "
                    "may get other ids");
  GgufTokens tokens = bpe_tokens(vocabulary, n_vocab, notes);
  set(keys, "tokenizer.ggml.model", gguf_string("gpt2"));
  set(keys, "tokenizer.ggml.pre", gguf_string(pre));
  set(keys, "tokenizer.ggml.tokens", gguf_strings(std::move(tokens.texts)));
  set(keys, "tokenizer.ggml.token_type", gguf_i32s(tokens.types));
  if (auto merges = bpe_merges(vocabulary); !merges.empty())
    set(keys, "tokenizer.ggml.merges", gguf_strings(std::move(merges)));
}

}  // namespace

std::vector<GgufKey> gguf_tokenizer_keys(const Source& source, bool compat, std::vector<std::string>& notes) {
  const std::optional<Vocabulary>& vocabulary = source.checkpoint.vocabulary;
  if (!vocabulary)
    throw Error(ErrorKind::bad_input, {.path = source.checkpoint.label},
                "no tokenizer.model or tokenizer.json was found beside the weights, and llama.cpp loads no model "
                "without its tokenizer",
                "put the model's tokenizer files into its folder, or name one that holds them: --tokenizer DIR");
  const auto n_vocab = static_cast<std::size_t>(source.checkpoint.config.n_vocab);
  std::vector<GgufKey> keys;
  if (vocabulary->add_prefix_space)
    set(keys, "tokenizer.ggml.add_space_prefix", gguf_bool(*vocabulary->add_prefix_space));
  if (llama_like(*vocabulary)) put_llama_like(keys, *vocabulary, source.checkpoint.label, n_vocab, compat, notes);
  else if (vocabulary->pipeline && vocabulary->model == "unigram")
    put_unigram_json(keys, *vocabulary, source.checkpoint.label, n_vocab, compat, notes);
  else if (vocabulary->pipeline) put_bpe(keys, source, *vocabulary, n_vocab, notes);
  else if (vocabulary->model == "unigram")
    put_unigram(keys, *vocabulary, source.checkpoint.label, n_vocab, compat, notes);
  else put_sentencepiece(keys, *vocabulary, n_vocab, compat, notes);
  put_rest(keys, source, *vocabulary, compat, notes);
  return keys;
}

}  // namespace ropewalk::formats
