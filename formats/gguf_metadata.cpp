#include "formats/gguf_metadata.h"

#include <algorithm>
#include <array>

#include "formats/yaml_front_matter.h"
#include "lib/error.h"
#include "lib/file.h"

namespace ropewalk::formats {
namespace {

// Fields stand as JSON while they are collected: null is absent.
using Fields = Json;

constexpr std::uint64_t kMaxCardBytes = std::uint64_t{8} << 20;

/// Fields of one base model or dataset, in the order they are written.
constexpr std::array kReferenceFields = {"name", "author", "version", "organization", "description",
                                         "url",  "doi",    "uuid",    "repo_url"};

Json read_card(const std::filesystem::path& folder, std::vector<std::string>& notes) {
  const std::filesystem::path path = folder / "README.md";
  std::error_code error;
  if (folder.empty() || !std::filesystem::is_regular_file(path, error)) return Json::object();
  const std::optional<Json> card = parse_front_matter(read_text_file(path, kMaxCardBytes));
  if (!card) notes.push_back(path.string() + ": its front matter is not understood and left out of general.*");
  return card.value_or(Json::object());
}

const Json& at(const Json& object, const std::string& key) {
  static const Json absent;
  const auto found = object.is_object() ? object.find(key) : object.end();
  return object.is_object() && found != object.end() ? *found : absent;
}

void take(Fields& fields, const char* field, const Json& card, const char* card_key) {
  if (fields[field].is_null() && card.contains(card_key)) fields[field] = card[card_key];
}

void append(Fields& fields, const char* field, const Json& value) {
  if (value.is_null()) return;
  if (fields[field].is_null()) fields[field] = Json::array();
  if (value.is_string()) fields[field].push_back(value);
  if (value.is_array())
    for (const Json& item : value) fields[field].push_back(item);
}

bool is_url(const std::string& text) {
  return text.starts_with("http://") || text.starts_with("https://") || text.starts_with("ssh://");
}

/// "org/name" of a page on the Hub, or empty.
std::string hub_id(const std::string& url) {
  for (const char* prefix : {"https://huggingface.co/", "http://huggingface.co/"}) {
    if (!url.starts_with(prefix)) continue;
    const std::string id = url.substr(std::string_view(prefix).size());
    const std::size_t slash = id.find('/');
    if (slash != std::string::npos && slash > 0 && slash + 1 < id.size() &&
        id.find('/', slash + 1) == std::string::npos)
      return id;
  }
  return {};
}

/// A base model or dataset named by id, by address, or described in place.
Json reference(const Json& named, std::int64_t total_parameters) {
  if (named.is_object()) return named;
  Json out = Json::object();
  if (!named.is_string()) return out;
  const std::string text = named.get<std::string>();
  const bool address = is_url(text);
  if (address) out["repo_url"] = text;
  const std::string id = address ? hub_id(text) : text;
  if (id.empty()) return out;
  const ModelIdParts parts = model_id_parts(id, total_parameters);
  if (parts.full_name) out["name"] = title_of(*parts.full_name);
  if (parts.organization) out["organization"] = title_of(*parts.organization);
  if (parts.version) out["version"] = *parts.version;
  if (!address && parts.organization && parts.full_name)
    out["repo_url"] = "https://huggingface.co/" + *parts.organization + "/" + *parts.full_name;
  return out;
}

void take_references(Fields& fields, const char* field, const Json& card, std::initializer_list<const char*> names,
                     std::int64_t total_parameters) {
  const auto name = std::find_if(names.begin(), names.end(), [&](const char* n) { return card.contains(n); });
  if (name == names.end()) return;
  Json list = Json::array();
  append(fields, field, Json::array());
  const Json& value = card[*name];
  if (value.is_string()) list.push_back(value);
  if (value.is_array()) list = value;
  for (const Json& item : list) fields[field].push_back(reference(item, total_parameters));
}

void from_card(Fields& fields, const Json& card, std::int64_t total_parameters) {
  for (const std::string prefix : {"", "model_"}) {
    for (const char* field :
         {"name", "author", "version", "organization", "description", "finetune", "basename", "size_label"})
      take(fields, field, card, (prefix + field).c_str());
    for (const char* field : {"url", "doi", "uuid", "repo_url"})
      take(fields, (std::string("source.") + field).c_str(), card, (prefix + field).c_str());
  }
  take(fields, "author", card, "model_creator");
  take(fields, "basename", card, "model_type");
  take_references(fields, "base_models", card, {"base_model", "base_models", "base_model_sources"}, total_parameters);
  take_references(fields, "datasets", card, {"datasets", "dataset", "dataset_sources"}, total_parameters);
  take(fields, "license", card, "license");
  take(fields, "license.name", card, "license_name");
  take(fields, "license.link", card, "license_link");
  append(fields, "tags", at(card, "tags"));
  append(fields, "tags", at(card, "pipeline_tag"));
  append(fields, "languages", at(card, "languages"));
  append(fields, "languages", at(card, "language"));
}

void from_model_id(Fields& fields, std::string_view model_id, std::int64_t total_parameters) {
  const ModelIdParts parts = model_id_parts(model_id, total_parameters);
  const auto fill = [&](const char* field, const std::optional<std::string>& value) {
    if (value && fields[field].is_null()) fields[field] = *value;
  };
  if (parts.full_name) fill("name", title_of(*parts.full_name));
  if (parts.organization) fill("organization", title_of(*parts.organization));
  fill("basename", parts.basename);
  fill("finetune", parts.finetune);
  fill("version", parts.version);
  fill("size_label", parts.size_label);
}

constexpr std::array kSampling = {"sequence",        "top_k",         "top_p",        "min_p",
                                  "xtc_probability", "xtc_threshold", "temp",         "penalty_last_n",
                                  "penalty_repeat",  "mirostat",      "mirostat_tau", "mirostat_eta"};

void from_generation_config(Fields& fields, const Json& generation) {
  if (!generation.is_object()) return;
  for (const std::string name : kSampling) {
    const char* key = name == "temp" ? "temperature" : name.c_str();
    fields["sampling." + name] = at(generation, key);
  }
  if (!generation.contains("penalty_repeat")) fields["sampling.penalty_repeat"] = at(generation, "repetition_penalty");
}

void from_overrides(Fields& fields, const Json& overrides, bool strict) {
  const auto refuse_file = [](const std::string& problem) {
    throw Error(ErrorKind::bad_input, {},
                "the metadata file " + problem + ", expected an object of general.* keys that are written",
                "correct it: general.name, general.author, general.description, ...");
  };
  if (strict && !overrides.is_null() && !overrides.is_object())
    refuse_file(std::string("holds ") + overrides.type_name());
  if (!overrides.is_object()) return;
  for (const auto& [key, value] : overrides.items()) {
    if (strict && !(key.starts_with("general.") && key != "general.license" && fields.contains(key.substr(8))))
      refuse_file("has the key '" + key.substr(0, 80) + "'");
    if (!key.starts_with("general.")) continue;
    const std::string field = key.substr(8);
    if (field != "license" && fields.contains(field))
      fields[field] = value;  // as the converter: every field but the licence
  }
}

Fields empty_fields() {
  Fields fields = Json::object();
  for (const std::string name : kSampling) fields["sampling." + name] = nullptr;
  for (const char* name : {"name",         "author",       "version",      "organization", "finetune",
                           "basename",     "description",  "quantized_by", "size_label",   "license",
                           "license.name", "license.link", "url",          "doi",          "uuid",
                           "repo_url",     "source.url",   "source.doi",   "source.uuid",  "source.repo_url",
                           "base_models",  "datasets",     "tags",         "languages"})
    fields[name] = nullptr;
  return fields;
}

std::string text_of(const Json& value) {
  return value.is_string() ? value.get<std::string>() : value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

[[noreturn]] void refuse(const std::string& field, const Json& value, const char* expected) {
  throw Error(ErrorKind::bad_input, {},
              "general." + field + " is " + value.dump(-1, ' ', true, Json::error_handler_t::replace).substr(0, 80) +
                  ", expected " + expected,
              "correct the metadata file, the model card or generation_config.json");
}

class Keys {
 public:
  void text(const std::string& field, const Json& value) {
    if (value.is_null()) return;
    if (value.is_array() || value.is_object()) refuse(field, value, "text");
    if (const std::string words = text_of(value); !words.empty()) add(field, gguf_string(words));
  }
  void number(const std::string& field, const Json& value, bool integer) {
    if (value.is_null()) return;
    if (!value.is_number() || (integer && !value.is_number_integer()))
      refuse(field, value, integer ? "an integer" : "a number");
    add(field, integer ? gguf_i32(value.get<std::int32_t>()) : gguf_f32(static_cast<float>(value.get<double>())));
  }
  void count(const std::string& field, std::size_t n) { add(field, gguf_u32(static_cast<std::uint32_t>(n))); }
  void list(const std::string& field, const Json& value) {
    if (value.is_null()) return;
    if (!value.is_array()) refuse(field, value, "a list of texts");
    std::vector<std::string> words;
    for (const Json& item : value) words.push_back(text_of(item));
    if (!words.empty()) add(field, gguf_strings(std::move(words)));
  }
  void references(const std::string& field, const Json& value) {
    if (value.is_null()) return;
    if (!value.is_array()) refuse(field, value, "a list");
    count(field + ".count", value.size());
    for (std::size_t i = 0; i < value.size(); ++i)
      for (const char* name : kReferenceFields) text(field + "." + std::to_string(i) + "." + name, at(value[i], name));
  }
  std::vector<GgufKey> take() { return std::move(keys_); }

 private:
  void add(const std::string& field, GgufValue value) { keys_.push_back({"general." + field, std::move(value)}); }
  std::vector<GgufKey> keys_;
};

}  // namespace

std::vector<GgufKey> gguf_general_keys(const GeneralMetadata& input, std::vector<std::string>& notes) {
  Fields fields = empty_fields();
  from_card(fields, read_card(input.folder, notes), input.total_parameters);
  const Json& named = at(input.config, "_name_or_path");
  if (named.is_string()) {  // only if it is a model's name and not a path of someone's disk
    const std::string id = named.get<std::string>();
    if (std::count(id.begin(), id.end(), '/') <= 1) from_model_id(fields, id, input.total_parameters);
  }
  from_model_id(fields, input.folder_name, input.total_parameters);
  from_generation_config(fields, input.generation_config);
  from_overrides(fields, input.overrides, input.strict_overrides);
  if (!input.model_name.empty()) fields["name"] = input.model_name;
  if (fields["size_label"].is_null() && input.total_parameters > 0)
    fields["size_label"] = size_label(std::uint64_t(input.total_parameters));
  if (fields["license"].is_array()) {
    std::string all;
    for (const Json& item : fields["license"]) all += (all.empty() ? "" : ",") + text_of(item);
    fields["license"] = all;
  }

  Keys keys;
  for (const std::string name : kSampling) {
    const bool integer = name == "top_k" || name == "penalty_last_n" || name == "mirostat";
    if (name == "sequence") keys.text("sampling." + name, fields["sampling." + name]);
    else keys.number("sampling." + name, fields["sampling." + name], integer);
  }
  for (const char* name : {"name",         "author",       "version",      "organization", "finetune",
                           "basename",     "description",  "quantized_by", "size_label",   "license",
                           "license.name", "license.link", "url",          "doi",          "uuid",
                           "repo_url",     "source.url",   "source.doi",   "source.uuid",  "source.repo_url"})
    keys.text(name, fields[name]);
  keys.references("base_model", fields["base_models"]);
  keys.references("dataset", fields["datasets"]);
  keys.list("tags", fields["tags"]);
  keys.list("languages", fields["languages"]);
  return keys.take();
}

}  // namespace ropewalk::formats
