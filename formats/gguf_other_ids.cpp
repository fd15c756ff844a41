#include "formats/gguf_other_ids.h"

#include <algorithm>
#include <optional>

#include "formats/tokenizers/llama_cpp_specials.h"
#include "formats/tokenizers/tokenizer.h"

namespace ropewalk::formats {
namespace {

using Ids = std::vector<std::int32_t>;

/// One id, a list of them, or what is no id: none.
Ids ids_of(const Json& file, const std::string& key, int n_vocab) {
  if (!file.is_object() || !file.contains(key)) return {};
  Ids out;
  for (const Json& id : file[key].is_array() ? file[key] : Json::array({file[key]}))
    if (id.is_number_integer() && id >= 0 && id < n_vocab) out.push_back(id.get<std::int32_t>());
  return out;
}

std::optional<std::int32_t> written_id(const std::vector<GgufKey>& keys, const std::string& name) {
  for (const GgufKey& key : keys)
    if (key.name == name) return static_cast<std::int32_t>(std::get<std::uint64_t>(key.value.value));
  return std::nullopt;
}

/// "2 '</s>', 5 '<x>'"
std::string shown(const Ids& ids, const Vocabulary& vocabulary) {
  std::string out;
  for (const std::int32_t id : ids)
    out += (out.empty() ? "" : ", ") + std::to_string(id) + " '" + text_of_id(vocabulary, id) + "'";
  return out;
}

struct Kind {
  const char *name, *key, *field;  // field: of config.json and generation_config.json
  std::optional<std::int32_t> own;
};

/// add(file, the ids it says)
template <class Add>
void each_config(const Source& source, const char* field, const Add& add) {
  const int n_vocab = source.checkpoint.config.n_vocab;
  add("config.json", ids_of(source.hf->config, field, n_vocab));
  add("generation_config.json", ids_of(source.hf->generation_config, field, n_vocab));
}

std::string other_ids(const Kind& kind, const std::vector<GgufKey>& keys, const Source& source, bool compat) {
  const Vocabulary& vocabulary = *source.checkpoint.vocabulary;
  const auto said = written_id(keys, std::string("tokenizer.ggml.") + kind.key);
  const auto written = said || compat ? said : kind.own;  // what llama.cpp assumes need not be written
  if (!written) return "";
  std::string others;
  const auto add = [&](const char* file, Ids ids) {
    const bool has_it = std::erase(ids, *written) > 0;
    // a text may end at several
    if (has_it) std::erase_if(ids, [&](std::int32_t id) { return llama_cpp_ends_text(text_of_id(vocabulary, id)); });
    if (!ids.empty()) others += "; " + std::string(file) + (has_it ? " also" : "") + " says " + shown(ids, vocabulary);
  };
  if (kind.own) add("the tokenizer", {*kind.own});
  each_config(source, kind.field, add);
  if (others.empty()) return "";
  return std::string(kind.name) + " is " + shown({*written}, vocabulary) + ", " +
         (written == kind.own ? "the tokenizer's own" : "config.json's, as llama.cpp's converter has it") + others;
}

}  // namespace

void note_other_ids(const std::vector<GgufKey>& keys, const Source& source, bool compat,
                    std::vector<std::string>& notes) {
  const Vocabulary& vocabulary = *source.checkpoint.vocabulary;
  for (const Kind& kind : {Kind{"bos", "bos_token_id", "bos_token_id", vocabulary.bos},
                           Kind{"eos", "eos_token_id", "eos_token_id", vocabulary.eos},
                           Kind{"unk", "unknown_token_id", "unk_token_id", vocabulary.unk},
                           Kind{"pad", "padding_token_id", "pad_token_id", vocabulary.pad}})
    if (std::string note = other_ids(kind, keys, source, compat); !note.empty()) notes.push_back(std::move(note));
}

std::vector<std::string> ids_of_another_tokenizer(const Source& source) {
  std::vector<std::string> lines;
  if (!source.hf || !source.checkpoint.vocabulary || source.tokenizer_folder == source.hf->folder) return lines;
  const Vocabulary& vocabulary = *source.checkpoint.vocabulary;
  const auto compare = [&](const char* field, const std::optional<std::int32_t>& own) {
    if (!own) return;
    std::string others;
    each_config(source, field, [&](const char* file, const Ids& ids) {
      if (ids.empty() || std::find(ids.begin(), ids.end(), *own) != ids.end()) return;
      others += (others.empty() ? "" : ", ") + std::string(file) + " says " + shown(ids, vocabulary);
    });
    if (!others.empty())
      lines.push_back(std::string(field) + " is " + shown({*own}, vocabulary) + " to the tokenizer from " +
                      source.tokenizer_origin + ", " + others +
                      ": left so, and transformers' generate() goes by them; correct them if the adapter was trained "
                      "with the tokenizer's");
  };
  compare("bos_token_id", vocabulary.bos);
  compare("eos_token_id", vocabulary.eos);
  compare("pad_token_id", vocabulary.pad);
  return lines;
}

}  // namespace ropewalk::formats
