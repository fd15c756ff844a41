#include "formats/source_tokenizer.h"

#include <algorithm>
#include <cstring>
#include <set>
#include <span>

#include "formats/gguf_model.h"
#include "formats/hf_folder.h"
#include "formats/hub_cache.h"
#include "formats/synthetic.h"
#include "formats/tokenizers/tokenizer.h"
#include "lib/error.h"
#include "lib/file.h"

namespace ropewalk::formats {
namespace {

namespace fs = std::filesystem;

std::optional<Vocabulary> read_vocabulary(const fs::path& folder, TokenizerUse use,
                                          std::vector<std::string>& warnings) {
  return read_or_warn([&] { return read_hf_vocabulary(folder); }, use, warnings);
}

/// What is wrong with a vocabulary whose ids lie past the embedding; empty: nothing, or there is none.
std::string too_many_ids(const std::optional<Vocabulary>& vocabulary, const ModelConfig& config,
                         const std::string& tokenizer) {
  if (!vocabulary || config.n_vocab == 0 || id_count(*vocabulary) <= config.n_vocab) return "";
  return tokenizer + " has " + std::to_string(id_count(*vocabulary)) + " ids, the embedding " +
         std::to_string(config.n_vocab) + " rows";
}

void take_tokenizer(Source& source, std::optional<Vocabulary> vocabulary, const fs::path& folder, std::string origin) {
  source.checkpoint.vocabulary = std::move(vocabulary);
  source.tokenizer_folder = folder;
  source.tokenizer_origin = std::move(origin);
}

/// The text of each id; empty where none has it.
std::vector<std::string_view> texts_by_id(const Vocabulary& vocabulary) {
  std::vector<std::string_view> texts(static_cast<std::size_t>(id_count(vocabulary)));
  for (std::size_t id = 0; id < vocabulary.pieces.size(); ++id) texts[id] = vocabulary.pieces[id].text;
  for (const AddedToken& token : vocabulary.added) texts[static_cast<std::size_t>(token.id)] = token.content;
  return texts;
}

/// Whether `said` names nothing otherwise than `base`: special ids, chat templates, tokens that a text is searched for.
bool says_nothing_else(const Vocabulary& base, const Vocabulary& said) {
  const auto differs = [](const auto& own, const auto& other) { return other && own != other; };
  if (differs(base.bos, said.bos) || differs(base.eos, said.eos) || differs(base.unk, said.unk) ||
      differs(base.pad, said.pad))
    return false;
  if (!said.chat_templates.empty() &&
      !std::equal(base.chat_templates.begin(), base.chat_templates.end(), said.chat_templates.begin(),
                  said.chat_templates.end(),
                  [](const auto& a, const auto& b) { return a.name == b.name && a.text == b.text; }))
    return false;
  std::set<std::int32_t> whole;  // ids that no text is cut into otherwise
  for (std::size_t id = 0; id < base.pieces.size(); ++id)
    if (base.pieces[id].type != PieceType::normal) whole.insert(static_cast<std::int32_t>(id));
  for (const AddedToken& token : base.added) whole.insert(token.id);
  return std::all_of(said.added.begin(), said.added.end(), [&](const auto& token) { return whole.contains(token.id); });
}

/// A tokenizer.json beside an adapter, as transformers 5 saves it, that has the very tokens of the base's
/// tokenizer.model and says nothing else of them: the same tokenizer in the form that fewer outputs can hold.
bool repeats_base(const Source& source, const Vocabulary& adapter) {
  if (!adapter.pipeline || !source.hf || !has_tokenizer(source.hf->folder)) return false;
  std::vector<std::string> unsaid;  // warnings of the base's tokenizer are said when it is taken
  const std::optional<Vocabulary> base = read_vocabulary(source.hf->folder, TokenizerUse::carried, unsaid);
  return base && !base->pipeline && texts_by_id(*base) == texts_by_id(adapter) && says_nothing_else(*base, adapter);
}

/// The adapter's tokenizer if it has one and its ids fit: an adapter trained with added tokens brings its own.
bool take_adapter_tokenizer(Source& source, const OpenOptions& options) {
  const bool demanded = options.tokenizer == OpenOptions::TokenizerChoice::adapter;
  const TokenizerUse use = demanded ? options.tokenizer_use : TokenizerUse::carried;  // the base's is there
  auto& warnings = source.checkpoint.warnings;
  for (auto adapter = source.adapters.rbegin(); adapter != source.adapters.rend(); ++adapter) {
    if (!has_tokenizer(adapter->folder)) continue;
    auto vocabulary = read_vocabulary(adapter->folder, use, warnings);
    const std::string origin = "adapter " + adapter->folder.string();
    if (!demanded && !vocabulary) continue;  // whether its ids fit is not known
    if (const std::string problem = too_many_ids(vocabulary, source.checkpoint.config, "the tokenizer of " + origin);
        !problem.empty()) {
      if (demanded)
        throw Error(ErrorKind::bad_input, {.path = adapter->folder.string()}, problem, "use the base's tokenizer");
      warnings.push_back(problem + ": the base's tokenizer is used");
      continue;
    }
    if (!demanded && vocabulary && repeats_base(source, *vocabulary)) continue;
    take_tokenizer(source, std::move(vocabulary), adapter->folder, origin);
    return true;
  }
  return false;
}

void take_chosen(Source& source, const OpenOptions& options) {
  using Choice = OpenOptions::TokenizerChoice;
  auto& warnings = source.checkpoint.warnings;
  if (options.tokenizer == Choice::folder) {
    if (!has_tokenizer(options.tokenizer_folder))
      throw Error(ErrorKind::bad_input, {.path = options.tokenizer_folder.string()},
                  "no tokenizer here, expected tokenizer.model or tokenizer.json", "name the folder that holds it");
    auto vocabulary = read_vocabulary(options.tokenizer_folder, options.tokenizer_use, warnings);
    if (const std::string problem = too_many_ids(vocabulary, source.checkpoint.config, "the tokenizer");
        !problem.empty())
      throw Error(ErrorKind::bad_input, {.path = options.tokenizer_folder.string()}, problem,
                  "take the tokenizer the model was trained with");
    return take_tokenizer(source, std::move(vocabulary), options.tokenizer_folder,
                          "folder " + options.tokenizer_folder.string());
  }
  if (options.tokenizer != Choice::base && take_adapter_tokenizer(source, options)) return;
  if (options.tokenizer == Choice::adapter)
    throw Error(ErrorKind::bad_input, {.path = source.spec.text}, "no adapter of this source has a tokenizer",
                "use the base's tokenizer, or name a folder");
  if (source.gguf) {
    source.tokenizer_origin = source.checkpoint.vocabulary ? "base" : "none";
    return;
  }
  const bool present = has_tokenizer(source.hf->folder);
  take_tokenizer(source, read_vocabulary(source.hf->folder, options.tokenizer_use, warnings), source.hf->folder,
                 present ? "base" : "none");
  if (const std::string problem = too_many_ids(source.checkpoint.vocabulary, source.checkpoint.config, "the tokenizer");
      !problem.empty())
    warnings.push_back(
        problem +
        ": a GGUF leaves the ids past them out, as convert_hf_to_gguf.py does, and a text that holds one "
        "is refused, as transformers does");
}

/// The id that config.json names, the first of a list; nullopt if it is no row of the embedding.
std::optional<std::int32_t> id_of_config(const Source& source, const char* key) {
  const Json& config = source.hf->config;
  if (!config.is_object() || !config.contains(key)) return std::nullopt;
  const Json& said = config[key];
  const Json& id = said.is_array() && !said.empty() ? said.front() : said;
  if (!id.is_number_integer() || id < 0 || id >= source.checkpoint.config.n_vocab) return std::nullopt;
  return id.get<std::int32_t>();
}

/// The same of a GGUF's keys, which stand for config.json's.
std::optional<std::int32_t> id_of_gguf(const Source& source, const char* key) {
  const auto id = source.gguf->integer(std::string("tokenizer.ggml.") + key);
  if (!id || *id >= static_cast<std::uint64_t>(source.checkpoint.config.n_vocab)) return std::nullopt;
  return static_cast<std::int32_t>(*id);
}

/// What the tokenizer has no name for config.json may name: transformers' generate and the converter take it from there.
/// Nothing puts such a token around a text.
void take_names_of_config(Source& source) {
  if (!source.checkpoint.vocabulary) return;
  Vocabulary& vocabulary = *source.checkpoint.vocabulary;
  const auto said = [&](const char* key) { return source.hf ? id_of_config(source, key) : id_of_gguf(source, key); };
  if (!vocabulary.bos && (vocabulary.bos = said("bos_token_id"))) vocabulary.add_bos = false;
  if (!vocabulary.eos && (vocabulary.eos = said("eos_token_id"))) vocabulary.add_eos = false;
}

}  // namespace

bool only_warns(TokenizerUse use, ErrorKind kind) {
  if (kind == ErrorKind::bad_input) return use == TokenizerUse::described;
  return kind == ErrorKind::unsupported && (use == TokenizerUse::carried || use == TokenizerUse::described);
}

bool is_gguf(const fs::path& path) {
  if (path.extension() == ".gguf") return true;
  const auto file = File::open(path);
  char magic[4] = {};
  if (file->size() < sizeof magic) return false;
  file->read(0, std::as_writable_bytes(std::span(magic)));
  return std::memcmp(magic, "GGUF", 4) == 0;
}

bool is_tokenizer_alone(const fs::path& path) {
  std::error_code ignored;
  // a link to nothing is a model's file that is gone
  const bool has_config = fs::symlink_status(path / "config.json", ignored).type() != fs::file_type::not_found;
  return is_folder(path) && !has_config && !has_hf_weights(path) && !is_there(path / "adapter_config.json") &&
         has_tokenizer(path);
}

void choose_tokenizer(Source& source, const OpenOptions& options) {
  take_chosen(source, options);
  take_names_of_config(source);
  Checkpoint& model = source.checkpoint;
  if (model.config.n_vocab == 0 && model.vocabulary) model.config.n_vocab = int(id_count(*model.vocabulary));
}

void open_tokenizer_of_folder(Source& source, const fs::path& folder) {
  source.hf.emplace().folder = folder;
  source.checkpoint.read_as = "transformers 5.23.0";
}

void open_tokenizer_of_gguf(Source& source, const fs::path& path, TokenizerUse use) {
  source.checkpoint.warnings = source.gguf->warnings;
  source.checkpoint.read_as = "llama.cpp 0.5";
  source.checkpoint.vocabulary =
      read_or_warn([&] { return read_gguf_vocabulary(*source.gguf, path.string(), &source.checkpoint.warnings); }, use,
                   source.checkpoint.warnings);
}

std::optional<Source> open_tokenizer(const SourceSpec& spec, const fs::path& hub_cache) {
  if (!spec.adapters.empty() || spec.rope || synthetic_config(spec.model)) return std::nullopt;
  const fs::path path = path_or_hub(spec.model, "model", hub_cache);
  Source source;
  source.spec = spec;
  source.checkpoint.label = spec.text;
  if (is_folder(path)) {
    if (is_adapter_alone(path)) return std::nullopt;
    open_tokenizer_of_folder(source, path);
  } else if (is_gguf(path)) {
    source.gguf = read_gguf(path);
    open_tokenizer_of_gguf(source, path, TokenizerUse::encoding);
  } else {
    return std::nullopt;
  }
  OpenOptions options;
  options.tokenizer_use = TokenizerUse::encoding;
  choose_tokenizer(source, options);
  return source.checkpoint.vocabulary ? std::optional(std::move(source)) : std::nullopt;
}

}  // namespace ropewalk::formats
