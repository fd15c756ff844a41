#include <algorithm>
#include <array>
#include <map>
#include <set>

#include "formats/json.h"
#include "formats/tokenizers/bpe_merges.h"
#include "formats/tokenizers/token_limits.h"
#include "formats/tokenizers/tiktoken.h"
#include "formats/tokenizers/tokenizer.h"
#include "formats/tokenizers/tokenizer_file.h"
#include "formats/tokenizers/tokenizer_json.h"
#include "formats/tokenizers/vocab_merges.h"
#include "formats/utf8.h"
#include "lib/error.h"
#include "lib/file.h"

namespace ropewalk::formats {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kMaxTemplateBytes = 4u << 20;
constexpr std::string_view kIsCorrupt = "fetch the file again or repair it";

/// A JSON object of the folder, with its text, so that errors can say where.
class ConfigFile {
 public:
  explicit ConfigFile(const fs::path& path) : path_(path.string()) {
    if (!is_there(path)) return;
    text_ = read_text_file(path, JsonLimits{}.max_bytes);
    json_ = parse_json(path_, text_);
    if (!json_.is_object()) fail("", "is no object");
  }
  bool exists() const { return !json_.is_null(); }
  const Json& json() const { return json_; }
  /// nullptr if absent or null.
  const Json* find(const char* key) const {
    if (!exists()) return nullptr;
    const auto found = json_.find(key);
    return found == json_.end() || found->is_null() ? nullptr : &*found;
  }
  std::optional<bool> boolean(const char* key) const {
    const Json* value = find(key);
    if (!value) return std::nullopt;
    if (!value->is_boolean())
      fail(std::string("/") + key, "is " + value->dump().substr(0, 40) + ", expected true or false");
    return value->get<bool>();
  }
  [[noreturn]] void fail(const std::string& pointer, const std::string& problem) const {
    throw Error(ErrorKind::bad_input, json_place(path_, text_, pointer),
                (pointer.empty() ? std::string("the file") : "'" + pointer.substr(1) + "'") + " " + problem,
                std::string(kIsCorrupt));
  }

 private:
  std::string path_, text_;
  Json json_;
};

/// A token as a string, or as an object with "content"; nullopt if the file does not name it or names the empty string.
std::optional<std::string> token_content(const ConfigFile& file, const char* key) {
  const Json* value = file.find(key);
  if (!value) return std::nullopt;
  const Json* content = value;
  if (value->is_object()) {
    const auto found = value->find("content");
    content = found == value->end() ? nullptr : &*found;
  }
  if (!content || !content->is_string())
    file.fail(std::string("/") + key, "is neither a string nor an object with a string 'content'");
  const auto text = content->get<std::string>();
  return text.empty() ? std::nullopt : std::optional(text);
}

bool flag(const ConfigFile& file, const Json& token, const std::string& pointer, const char* key) {
  const auto found = token.find(key);
  if (found == token.end() || found->is_null()) return false;
  if (!found->is_boolean()) file.fail(pointer + "/" + key, "is not true or false");
  return found->get<bool>();
}

/// One past the largest id that a file with `listed` added tokens may give one.
std::int64_t id_end(const Vocabulary& vocabulary, std::size_t listed) {
  return token_id_end(vocabulary.pieces.size() + listed);
}

std::int32_t checked_id(const ConfigFile& file, const std::string& pointer, std::int64_t id, std::int64_t end) {
  if (id < 0 || id >= end)
    file.fail(pointer, "has id " + std::to_string(id) + ", expected 0 to " + std::to_string(end - 1));
  return static_cast<std::int32_t>(id);
}

/// Texts that special_tokens_map.json or tokenizer_config.json name as special, for added_tokens.json, which has no
/// flags.
std::set<std::string> special_contents(const ConfigFile& map, const ConfigFile& config) {
  std::set<std::string> out;
  const auto take = [&out](const Json& value) {
    if (value.is_string()) out.insert(value.get<std::string>());
    if (value.is_object() && value.contains("content") && value["content"].is_string())
      out.insert(value["content"].get<std::string>());
  };
  for (const ConfigFile* file : {&map, &config}) {
    for (const char* key : {"bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"})
      if (const Json* value = file->find(key)) take(*value);
    for (const char* key : {"additional_special_tokens", "extra_special_tokens"})
      if (const Json* list = file->find(key))
        for (const Json& value : *list) take(value);
  }
  return out;
}

void read_added_json(const ConfigFile& file, const std::set<std::string>& special, const Vocabulary& vocabulary,
                     std::map<std::int32_t, AddedToken>& added) {
  if (!file.exists()) return;
  const std::int64_t end = id_end(vocabulary, file.json().size());
  for (const auto& [content, id] : file.json().items()) {
    const std::string pointer = "/" + pointer_segment(content);
    if (!id.is_number_integer()) file.fail(pointer, "is " + id.dump().substr(0, 40) + ", expected an id");
    AddedToken token{.id = checked_id(file, pointer, id.get<std::int64_t>(), end), .content = content};
    token.special = special.contains(content);
    token.normalized = !token.special;
    if (!added.emplace(token.id, token).second)
      file.fail(pointer, "has the id of another token, " + std::to_string(token.id));
  }
}

void read_decoder(const ConfigFile& file, const Vocabulary& vocabulary, std::map<std::int32_t, AddedToken>& added) {
  const Json* decoder = file.find("added_tokens_decoder");
  if (!decoder) return;
  if (!decoder->is_object()) file.fail("/added_tokens_decoder", "is no object");
  const std::int64_t end = id_end(vocabulary, decoder->size());
  for (const auto& [key, value] : decoder->items()) {
    const std::string pointer = "/added_tokens_decoder/" + pointer_segment(key);
    if (key.empty() || key.size() > 8 || key.find_first_not_of("0123456789") != std::string::npos)
      file.fail(pointer, "is keyed by no id");
    if (!value.is_object() || !value.contains("content") || !value["content"].is_string())
      file.fail(pointer, "has no string 'content'");
    AddedToken token{.id = checked_id(file, pointer, std::stoll(key), end),
                     .content = value["content"].get<std::string>()};
    token.special = flag(file, value, pointer, "special");
    token.lstrip = flag(file, value, pointer, "lstrip");
    token.rstrip = flag(file, value, pointer, "rstrip");
    token.single_word = flag(file, value, pointer, "single_word");
    token.normalized = flag(file, value, pointer, "normalized");
    token.in_decoder = true;
    added[token.id] = token;
  }
}

std::optional<std::int32_t> find_token(const Vocabulary& vocabulary, const std::string& content) {
  for (const AddedToken& token : vocabulary.added)
    if (token.content == content) return token.id;
  for (std::size_t id = 0; id < vocabulary.pieces.size(); ++id)
    if (vocabulary.pieces[id].text == content) return static_cast<std::int32_t>(id);
  return std::nullopt;
}

constexpr std::string_view kEndOfText = "<|endoftext|>";

/// Whether the class names kEndOfText so where no file has the key: GPT-2's and Qwen 2's classes in transformers.
bool is_class_default(std::string_view tokenizer_class, std::string_view key) {
  if (key == "eos_token" || key == "unk_token")
    return tokenizer_class.starts_with("GPT2Tokenizer") || tokenizer_class.starts_with("Qwen2Tokenizer");
  return tokenizer_class.starts_with(key == "bos_token" ? "GPT2Tokenizer" : "Qwen2Tokenizer");
}

/// tokenizer_class, empty if it is not said.
std::string class_name(const ConfigFile& config) {
  const Json* name = config.find("tokenizer_class");
  return name && name->is_string() ? name->get<std::string>() : std::string();
}

/// Without added_tokens_decoder, special_tokens_map.json goes before tokenizer_config.json, as in transformers.
void name_special_tokens(const ConfigFile& config, const ConfigFile& map, Vocabulary& vocabulary) {
  const bool map_first = !config.find("added_tokens_decoder");
  const auto set = [&](const char* key, std::optional<std::int32_t>& id) {
    auto content = token_content(map_first ? map : config, key);
    if (!content) content = token_content(map_first ? config : map, key);
    if (content) id = find_token(vocabulary, *content);
    const bool said = (config.exists() && config.json().contains(key)) || (map.exists() && map.json().contains(key));
    if (!said && vocabulary.pipeline && is_class_default(class_name(config), key))
      id = find_token(vocabulary, std::string(kEndOfText));
  };
  set("bos_token", vocabulary.bos);
  set("eos_token", vocabulary.eos);
  set("unk_token", vocabulary.unk);
  set("pad_token", vocabulary.pad);
}

std::string read_template(const fs::path& path) {
  std::string text = read_text_file(path, kMaxTemplateBytes);
  if (const std::size_t bad = first_invalid_utf8(text); bad != text.size())
    throw Error(ErrorKind::bad_input, {.path = path.string(), .offset = bad}, "the chat template is not UTF-8",
                std::string(kIsCorrupt));
  return text;
}

void read_config_templates(const ConfigFile& config, Vocabulary& vocabulary) {
  const Json* value = config.find("chat_template");
  if (!value) return;
  if (value->is_string()) {
    vocabulary.chat_templates.push_back({"default", value->get<std::string>()});
    return;
  }
  if (!value->is_array()) config.fail("/chat_template", "is neither a string nor a list");
  for (std::size_t at = 0; at < value->size(); ++at) {
    const Json& item = (*value)[at];
    if (!item.is_object() || !item.contains("name") || !item["name"].is_string() || !item.contains("template") ||
        !item["template"].is_string())
      config.fail("/chat_template/" + std::to_string(at), "has no strings 'name' and 'template'");
    vocabulary.chat_templates.push_back({item["name"].get<std::string>(), item["template"].get<std::string>()});
  }
}

/// Files of their own go before tokenizer_config.json's entry, as in transformers.
void read_chat_templates(const fs::path& folder, const ConfigFile& config, Vocabulary& vocabulary) {
  if (is_there(folder / "chat_template.jinja"))
    vocabulary.chat_templates.push_back({"default", read_template(folder / "chat_template.jinja")});
  if (is_folder(folder / "additional_chat_templates")) {
    std::vector<fs::path> files;
    require_readable_folder(folder / "additional_chat_templates");
    for (const auto& entry : fs::directory_iterator(folder / "additional_chat_templates"))
      if (entry.path().extension() == ".jinja" && is_there(entry.path())) files.push_back(entry.path());
    std::sort(files.begin(), files.end());
    for (const fs::path& file : files) vocabulary.chat_templates.push_back({file.stem().string(), read_template(file)});
  }
  if (vocabulary.chat_templates.empty()) read_config_templates(config, vocabulary);
  for (const ChatTemplate& item : vocabulary.chat_templates)
    if (item.name == "default" || vocabulary.chat_templates.size() == 1) vocabulary.chat_template = item.text;
}

std::string list_of(const std::vector<std::string>& names) {
  std::string out;
  for (const std::string& name : names) out += (out.empty() ? "" : ", ") + name;
  return out;
}

/// The folder has no tokenizer.model: nothing at all, or a kind not read yet.
std::optional<Vocabulary> without_model(const fs::path& folder) {
  std::vector<std::string> others;
  for (const char* name : {"vocab.json", "merges.txt", "tekken.json", "vocab.txt"})
    if (is_there(folder / name)) others.emplace_back(name);
  if (others.empty()) return std::nullopt;
  throw Error(ErrorKind::unsupported, {.path = folder.string()},
              "no tokenizer.json or tokenizer.model, only " + list_of(others) + ", which is not enough",
              "add the model's tokenizer.json, " +
                  std::string(is_there(folder / "vocab.json")   ? "the merges.txt of its vocab.json, "
                              : is_there(folder / "merges.txt") ? "the vocab.json of its merges.txt, "
                                                                : "") +
                  "or pass token ids");
}

/// What stands around a text, as transformers 5.23.0 has it. A tokenizer.json's post-processor alone says it, beside a
/// tokenizer.model too: add_bos_token and add_eos_token count for nothing then. Two classes go by no file: GPT-NeoX's
/// puts nothing there, Code Llama's its BOS. Without a tokenizer.json one flag makes both the flags' word (absent is no).
void take_processor(const fs::path& folder, const ConfigFile& config, Vocabulary& vocabulary) {
  const fs::path json = folder / "tokenizer.json";
  const bool by_file = is_there(json);
  if (!by_file && !vocabulary.pipeline) return;
  AroundText around;
  if (vocabulary.pipeline) around = {vocabulary.pipeline->before, vocabulary.pipeline->after};
  else try {
      around = read_around_text(json, id_count(vocabulary));
    } catch (const Error&) {
      return;  // beside a tokenizer.model that is read it is the flags' word again, as for llama.cpp's converter
    }
  const auto only = [](bool adds, std::optional<std::int32_t> id) {
    return adds && id ? std::vector{*id} : std::vector<std::int32_t>();
  };
  const std::string tokenizer_class = class_name(config);
  const bool never = tokenizer_class.starts_with("GPTNeoXTokenizer"),
             always = tokenizer_class.starts_with("CodeLlamaTokenizer");
  if (by_file && (never || always)) {
    around.before = only(always, vocabulary.bos);
    around.after.clear();
  } else if (!by_file && (vocabulary.add_bos || vocabulary.add_eos)) {
    around.before = only(vocabulary.add_bos.value_or(false), vocabulary.bos);
    around.after = only(vocabulary.add_eos.value_or(false), vocabulary.eos);
  }
  if (!around.before.empty()) vocabulary.bos = around.before.front();
  vocabulary.add_bos = !around.before.empty();
  vocabulary.add_eos = !around.after.empty();
  if (!vocabulary.pipeline) return;
  vocabulary.pipeline->before = std::move(around.before);
  vocabulary.pipeline->after = std::move(around.after);
}

std::optional<Vocabulary> read_pieces(const fs::path& folder, const ConfigFile& config) {
  const fs::path file = tokenizer_file(folder);
  if (file.empty()) return without_model(folder);
  if (file.filename() == "tokenizer.json") return read_tokenizer_json(file);
  if (file.filename() == "vocab.json")
    return read_vocab_merges(folder, class_name(config), config.boolean("add_prefix_space").value_or(false));
  if (find_tiktoken(folder) != file) return read_sentencepiece_model(file);
  return read_tiktoken(file, !config.find("added_tokens_decoder") && !is_there(folder / "added_tokens.json"));
}

/// A special token as a file names it: with its flags if it is an object.
std::optional<AddedToken> named_token(const ConfigFile& file, const Json& value, const std::string& pointer) {
  AddedToken token;
  token.special = token.in_decoder = true;
  const Json* content = &value;
  if (value.is_object()) {
    const auto found = value.find("content");
    if (found == value.end()) return std::nullopt;
    content = &*found;
    token.lstrip = flag(file, value, pointer, "lstrip");
    token.rstrip = flag(file, value, pointer, "rstrip");
    token.single_word = flag(file, value, pointer, "single_word");
    token.normalized = flag(file, value, pointer, "normalized");
  }
  if (!content->is_string() || content->get_ref<const std::string&>().empty()) return std::nullopt;
  token.content = content->get<std::string>();
  return token;
}

/// Adds tokens that tokenizer.json does not list: under the id of the piece with their text, else the next one.
class TokenAdder {
 public:
  explicit TokenAdder(Vocabulary& vocabulary)
      : vocabulary_(vocabulary), pieces_(ids_of_pieces(vocabulary)), next_(static_cast<std::int64_t>(pieces_.size())) {
    for (const AddedToken& token : vocabulary_.added) {
      known_.insert(token.content);
      next_ = std::max(next_, std::int64_t{token.id} + 1);
    }
  }
  ~TokenAdder() {
    std::sort(vocabulary_.added.begin(), vocabulary_.added.end(),
              [](const AddedToken& a, const AddedToken& b) { return a.id < b.id; });
  }
  TokenAdder(const TokenAdder&) = delete;
  TokenAdder& operator=(const TokenAdder&) = delete;

  void add(AddedToken token) {
    if (token.content.empty() || token.content.size() > kMaxTokenBytes || !known_.insert(token.content).second) return;
    if (const auto piece = pieces_.find(token.content); piece != pieces_.end()) {
      token.id = piece->second;
      vocabulary_.pieces[static_cast<std::size_t>(token.id)].type =
          token.special ? PieceType::control : PieceType::user_defined;
    } else {
      token.id = static_cast<std::int32_t>(next_++);
    }
    vocabulary_.added.push_back(std::move(token));
  }

 private:
  Vocabulary& vocabulary_;
  PieceIds pieces_;
  std::set<std::string> known_;
  std::int64_t next_;
};

/// What transformers adds to the tokens of a tokenizer.json: those of added_tokens_decoder, then whatever is named as
/// special.
void add_named_tokens(const ConfigFile& config, const ConfigFile& map, Vocabulary& vocabulary) {
  TokenAdder adder(vocabulary);
  std::map<std::int32_t, AddedToken> listed;
  read_decoder(config, vocabulary, listed);
  for (auto& [id, token] : listed) adder.add(std::move(token));
  const bool map_first = !config.find("added_tokens_decoder");
  const std::array<const ConfigFile*, 2> files = {map_first ? &map : &config, map_first ? &config : &map};
  for (const char* key : {"bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"})
    for (const ConfigFile* file : files) {
      const Json* value = file->find(key);
      auto token = value ? named_token(*file, *value, std::string("/") + key) : std::nullopt;
      if (!token) continue;
      adder.add(std::move(*token));
      break;
    }
  for (const char* key : {"additional_special_tokens", "extra_special_tokens"})
    for (const ConfigFile* file : files) {
      const Json* list = file->find(key);
      if (!list || !list->is_structured()) continue;
      for (const auto& [name, value] : list->items())
        if (auto token = named_token(*file, value, std::string("/") + key + "/" + pointer_segment(name)))
          adder.add(std::move(*token));
    }
}

/// GPT-2's and Qwen 2's classes have an end-of-text token of their own, special whether a file names it or not.
void add_class_token(const ConfigFile& config, Vocabulary& vocabulary) {
  const std::string text = class_name(config);
  if (!text.starts_with("GPT2Tokenizer") && !text.starts_with("Qwen2Tokenizer")) return;
  AddedToken token;
  token.content = kEndOfText;
  token.special = token.in_decoder = true;
  TokenAdder(vocabulary).add(token);
}

}  // namespace

fs::path tokenizer_file(const fs::path& folder) {
  const auto tiktoken = find_tiktoken(folder);                  // tokenizer.model may be of that form
  for (const char* name : {"tokenizer.model", "spiece.model"})  // T5's name for it is the second
    if (is_there(folder / name) && tiktoken != folder / name) return folder / name;
  if (is_there(folder / "tokenizer.json")) return folder / "tokenizer.json";
  if (tiktoken) return *tiktoken;
  return is_there(folder / "vocab.json") && is_there(folder / "merges.txt") ? folder / "vocab.json" : fs::path();
}

std::optional<Vocabulary> read_hf_vocabulary(const fs::path& folder) {
  const ConfigFile config(folder / "tokenizer_config.json");
  std::optional<Vocabulary> pieces = read_pieces(folder, config);
  if (!pieces) return std::nullopt;
  Vocabulary& vocabulary = *pieces;
  const ConfigFile map(folder / "special_tokens_map.json"), added_json(folder / "added_tokens.json");
  const bool lists_its_own = vocabulary.pipeline && is_there(folder / "tokenizer.json");
  if (!lists_its_own) {
    std::map<std::int32_t, AddedToken> added;
    read_added_json(added_json, special_contents(map, config), vocabulary, added);
    read_decoder(config, vocabulary, added);
    for (const auto& [id, token] : added) vocabulary.added.push_back(token);
  } else {
    add_named_tokens(config, map, vocabulary);
  }
  if (vocabulary.pipeline) add_class_token(config, vocabulary);
  name_special_tokens(config, map, vocabulary);
  vocabulary.add_bos = config.boolean("add_bos_token");
  vocabulary.add_eos = config.boolean("add_eos_token");
  vocabulary.legacy = config.boolean("legacy");
  // the only class that has the switch; transformers 4 took its absence for true
  if (!vocabulary.legacy && class_name(config).starts_with("LlamaTokenizer")) vocabulary.legacy = false;
  vocabulary.add_prefix_space = config.boolean("add_prefix_space");
  take_processor(folder, config, vocabulary);
  read_chat_templates(folder, config, vocabulary);
  return pieces;
}

}  // namespace ropewalk::formats
