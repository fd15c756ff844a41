#include "formats/gguf_special_tokens.h"

#include <algorithm>

#include "lib/error.h"
#include "lib/file.h"

namespace ropewalk::formats {
namespace {

constexpr std::uint64_t kMaxTokenizerBytes = std::uint64_t{64} << 20;

Json read_if_there(const std::filesystem::path& path) {
  if (!is_there(path)) return nullptr;
  return read_json(path, {.max_bytes = kMaxTokenizerBytes});
}

const Json& at(const Json& object, const char* key) {
  static const Json absent;
  if (!object.is_object()) return absent;
  const auto found = object.find(key);
  return found == object.end() ? absent : *found;
}

bool is_set(const Json& value) {
  return !value.is_null() && !(value.is_string() && value.get_ref<const std::string&>().empty());
}

/// The text of a template's item if it is a special token, else null.
const Json& special_of(const Json& item) { return at(at(item, "SpecialToken"), "id"); }
bool is_sequence(const Json& item, const char* id) { return at(at(item, "Sequence"), "id") == id; }

template <typename Value>
void set(std::vector<std::pair<std::string, Value>>& list, const std::string& kind, Value value, bool keep = false) {
  const auto found = std::find_if(list.begin(), list.end(), [&](const auto& entry) { return entry.first == kind; });
  if (found == list.end()) list.emplace_back(kind, value);
  else if (!keep) found->second = value;
}

class Finder {
 public:
  Finder(const std::filesystem::path& folder, std::size_t n_vocab, std::vector<std::string> kinds)
      : folder_(folder),
        n_vocab_(n_vocab),
        kinds_(std::move(kinds)),
        tokenizer_(read_if_there(folder / "tokenizer.json")),
        config_(read_if_there(folder / "tokenizer_config.json")) {}

  SpecialTokens find(const ModelConfigFile& model_config) {
    if (is_set(tokenizer_)) from_template();
    if (is_set(config_)) from_tokenizer_config();
    for (const std::string& kind : kinds_) {
      const std::string key = kind + "_token_id";
      const bool nested = at(model_config.json, key.c_str()).is_null();
      const Json& parent = nested ? at(model_config.json, "text_config") : model_config.json;
      take_id(kind, at(parent, key.c_str()), model_config, (nested ? "/text_config/" : "/") + key);
    }
    return std::move(out_);
  }

 private:
  void take_id(const std::string& kind, const Json& id, const ModelConfigFile& file, const std::string& pointer) {
    if (!id.is_number_integer()) return;
    if (id < 0)
      throw Error(ErrorKind::bad_input, json_place(file.path, file.text, pointer),
                  "'" + pointer.substr(1) + "' is " + id.dump() + ", expected 0 or more",
                  "correct the value in the file");
    out_.set_id(kind, id.get<std::int64_t>(), n_vocab_);
  }

  /// Whether the post-processor puts a token before, after or between texts. Reads simple templates only, as the
  /// converter.
  void from_template() {
    bos_ = at(config_, "bos_token");
    cls_ = at(config_, "cls_token");
    eos_ = at(config_, "eos_token");
    sep_ = at(config_, "sep_token");
    if (!is_set(bos_) && is_set(cls_) && is_set(config_)) config_["bos_token"] = bos_ = cls_;
    if (!is_set(eos_) && is_set(sep_) && is_set(config_)) config_["eos_token"] = eos_ = sep_;
    const Json& processor = at(tokenizer_, "post_processor");
    if (!processor.is_object()) return;
    const Json& several = at(processor, "processors");
    if (several.is_array())
      for (const Json& one : several) from_processor(one);
    else from_processor(processor);
  }

  /// The text of a processor's [text, id] pair.
  static Json first_of(const Json& processor, const char* key, const Json& otherwise) {
    const Json& pair = at(processor, key);
    return pair.is_array() && !pair.empty() ? pair.front() : otherwise;
  }

  void from_processor(const Json& processor) {
    const Json& type = at(processor, "type");
    if (type == "ByteLevel") {
      set(out_.add, "bos", false, true);
      set(out_.add, "eos", false, true);
    } else if (type == "RobertaProcessing") {
      for (const char* kind : {"bos", "eos", "sep"}) set(out_.add, kind, true);
      if (!is_set(cls_) && is_set(config_)) config_["cls_token"] = cls_ = first_of(processor, "cls", bos_);
      if (!is_set(sep_) && is_set(config_)) config_["sep_token"] = sep_ = first_of(processor, "sep", eos_);
    } else if (type == "TemplateProcessing") {
      from_single(at(processor, "single"));
      from_pair(at(processor, "pair"));
    }
  }

  void from_single(const Json& items) {
    first_ = last_ = nullptr;
    if (!items.is_array() || items.size() < 2) return;
    first_ = special_of(items.front());
    if (is_set(first_)) {
      if (!is_set(config_)) {
        bos_ = first_;
      } else if (first_ != bos_ && first_ != cls_) {
        if (!is_set(bos_)) config_["bos_token"] = bos_ = first_;
        if (!is_set(cls_)) config_["cls_token"] = cls_ = first_;
      }
      set(out_.add, "bos", first_ == bos_ || first_ == cls_);
    }
    last_ = special_of(items.back());
    if (is_set(last_)) {
      if (!is_set(config_)) {
        eos_ = last_;
      } else if (last_ != eos_) {
        for (const char* kind : {"eot", "eom"}) {
          if (std::find(kinds_.begin(), kinds_.end(), kind) != kinds_.end()) continue;
          kinds_.emplace_back(kind);
          config_[std::string(kind) + "_token"] = eos_;
          break;
        }
        config_["eos_token"] = eos_ = last_;
      }
      set(out_.add, "eos", last_ == eos_);
    }
  }

  /// A [sep] [eos] B: is there a separator.
  void from_pair(const Json& items) {
    if (!items.is_array() || items.empty()) return;
    std::size_t begin = is_set(first_) && special_of(items.front()) == first_ ? 1 : 0;
    std::size_t end = items.size() - (is_set(last_) && special_of(items.back()) == last_ ? 1 : 0);
    if (begin >= end || !is_sequence(items[begin], "A") || !is_sequence(items[end - 1], "B")) return;
    ++begin;
    --end;
    if (begin >= end) return;
    bool add_sep = false;
    const Json& middle = special_of(items[begin]);
    if (is_set(middle) && (middle == sep_ || middle == eos_) && !is_set(last_)) add_sep = true;
    if (end - begin == 2) {
      const Json& second = special_of(items[begin + 1]);
      if (is_set(second) && (second == sep_ || second == eos_)) add_sep = true;
    }
    set(out_.add, "sep", add_sep);
    if (add_sep && !is_set(sep_) && is_set(config_)) config_["sep_token"] = eos_;
  }

  void from_tokenizer_config() {
    out_.chat_template = chat_template();
    for (const std::string& kind : kinds_) {
      if (const Json& add = at(config_, ("add_" + kind + "_token").c_str()); add.is_boolean())
        set(out_.add, kind, add.get<bool>(), true);
      const Json& entry = at(config_, (kind + "_token").c_str());
      const Json& text = entry.is_object() ? at(entry, "content") : entry;
      const Json& added = at(tokenizer_, "added_tokens");
      if (!text.is_string() || !added.is_array()) continue;
      const auto found =
          std::find_if(added.begin(), added.end(), [&](const Json& token) { return at(token, "content") == text; });
      if (found == added.end()) continue;
      const std::filesystem::path path = folder_ / "tokenizer.json";
      const Json& id = at(*found, "id");
      // its text is needed only for where a bad id stands
      const std::string said = id.is_number_integer() && id < 0 ? read_text_file(path, kMaxTokenizerBytes) : "";
      take_id(kind, id, {tokenizer_, path.string(), said},
              "/added_tokens/" + std::to_string(found - added.begin()) + "/id");
    }
  }

  Json chat_template() const {
    if (config_.contains("chat_template")) {
      const Json& said = config_["chat_template"];
      return said.is_string() || said.is_array() ? said : Json(nullptr);
    }
    std::error_code ignored;
    const std::filesystem::path jinja = folder_ / "chat_template.jinja";
    if (std::filesystem::is_regular_file(jinja, ignored)) {
      Json main = read_text_file(jinja, kMaxTokenizerBytes);
      std::vector<std::filesystem::path> more;
      for (const auto& entry : std::filesystem::directory_iterator(folder_ / "additional_chat_templates", ignored))
        if (entry.path().extension() == ".jinja") more.push_back(entry.path());
      if (more.empty()) return main;
      std::sort(more.begin(), more.end());  // the converter takes the folder's order, which no file system promises
      Json list = Json::array({{{"name", "default"}, {"template", std::move(main)}}});
      for (const auto& path : more)
        list.push_back({{"name", path.stem().string()}, {"template", read_text_file(path, kMaxTokenizerBytes)}});
      return list;
    }
    const Json old = read_if_there(folder_ / "chat_template.json");
    const Json& said = at(old, "chat_template");
    return said.is_string() || said.is_array() ? said : Json(nullptr);
  }

  std::filesystem::path folder_;
  std::size_t n_vocab_;
  std::vector<std::string> kinds_;
  Json tokenizer_, config_;
  Json bos_, eos_, cls_, sep_, first_, last_;
  SpecialTokens out_;
};

}  // namespace

void SpecialTokens::set_id(const std::string& kind, std::int64_t id, std::size_t n_vocab) {
  if (static_cast<std::uint64_t>(id) < n_vocab) set(ids, kind, static_cast<std::uint32_t>(id), true);
}

SpecialTokens find_special_tokens(const std::filesystem::path& folder, const ModelConfigFile& config,
                                  std::size_t n_vocab, const std::vector<std::string>& kinds) {
  return Finder(folder, n_vocab, kinds).find(config);
}

}  // namespace ropewalk::formats
