#include "formats/rope_base.h"

#include <algorithm>
#include <array>
#include <set>

#include "formats/config_file.h"
#include "formats/json_fields.h"
#include "formats/rope_fields.h"
#include "formats/rope_meaning.h"
#include "formats/rope_presets.h"
#include "lib/error.h"

namespace ropewalk::formats {
namespace {

constexpr const char* kOriginal = "original_max_position_embeddings";
constexpr std::array kDictionaries = {"rope_scaling", "rope_parameters"};

/// What a SPEC says, as far as that can be told without a model; parse_rope_spec says what is wrong with it.
struct Words {
  std::string method;
  std::set<std::string> keys;
  bool replaces() const { return method != "native"; }
};

Words words_of(const std::string& spec) {
  Words out;
  const auto add = [&](std::string key) { out.keys.insert(key == "original" ? kOriginal : std::move(key)); };
  if (const auto first = spec.find_first_not_of(" \t\r\n"); first != std::string::npos && spec[first] == '{') {
    const Json object = Json::parse(spec, nullptr, false);
    if (object.is_object())
      for (const auto& item : object.items()) add(item.key());
    return out;
  }
  std::size_t at = std::min(spec.find(','), spec.size());
  out.method = spec.substr(0, at);
  while (at < spec.size()) {
    const std::size_t end = std::min(spec.find(',', at + 1), spec.size());
    const std::string word = spec.substr(at + 1, end - at - 1);
    add(word.substr(0, word.find('=')));
    if (word.starts_with("like="))
      if (const RopePreset* preset = find_rope_preset(word.substr(5)); preset && preset->original != 0) add(kOriginal);
    at = end;
  }
  return out;
}

/// The one dictionary of that name; nullptr if there is none, or one for each kind of layer.
const Json* dictionary(const Json& model, const char* key) {
  const auto found = model.find(key);
  if (found == model.end() || !found->is_object() || found->empty()) return nullptr;
  const bool nested = std::any_of(found->begin(), found->end(), [](const Json& one) { return one.is_object(); });
  return nested ? nullptr : &*found;
}

/// A number that stands in several places.
void numbers(const ModelPart& part, const char* key, RopeContradiction::Field field,
             std::vector<RopeContradiction>& out) {
  std::vector<std::pair<std::string, Json>> places;
  const auto look = [&](const Json& object, const std::string& where) {
    const auto found = object.find(key);
    if (found == object.end() || !found->is_number()) return;
    const bool known = std::any_of(places.begin(), places.end(), [&](const auto& one) {
      return one.second.template get<double>() == found->get<double>();
    });
    if (!known) places.emplace_back(where, *found);
  };
  look(*part.json, "");
  for (const char* name : kDictionaries)
    if (const Json* one = dictionary(*part.json, name)) look(*one, std::string("/") + name);
  if (places.size() < 2) return;
  RopeContradiction found{field, part.pointer + places.back().first + "/" + key, std::string(key) + " is ", {}};
  for (const auto& [where, value] : places) {
    if (!found.values.empty()) found.text += " and ";
    found.text += value.dump() + (where.empty() ? " at the top level" : " in " + where.substr(1));
    found.values.push_back(value.dump());
  }
  out.push_back(std::move(found));
}

/// The method and what belongs to it; not the two that are looked up elsewhere, too.
Json method_of(const Json& dictionary) {
  Json out = spelling_apart(dictionary);
  out.erase(kOriginal);
  return out;
}

void methods(const ModelPart& part, std::vector<RopeContradiction>& out) {
  for (const char* name : kDictionaries) {
    const Json* one = dictionary(*part.json, name);
    if (!one || !one->contains("type") || !one->contains("rope_type")) continue;
    const Json &type = one->at("type"), &modern = one->at("rope_type");
    if (type == modern || is_renamed_type(modern, type)) continue;
    out.push_back({RopeContradiction::Field::method,
                   part.pointer + "/" + name + "/type",
                   "type is " + shown(type) + " and rope_type " + shown(modern),
                   {}});
  }
  const Json *scaling = dictionary(*part.json, kDictionaries[0]),
             *parameters = dictionary(*part.json, kDictionaries[1]);
  if (scaling && parameters && method_of(*scaling) != method_of(*parameters))
    out.push_back({RopeContradiction::Field::method,
                   part.pointer + "/rope_parameters",
                   "rope_scaling and rope_parameters say different ropes",
                   {}});
}

/// The number that stands at one place alone or alike at all; empty otherwise.
std::string sole_original(const Json& config) {
  const ModelPart part = model_part(config);
  std::set<std::string> all;
  for (const char* name : {"", "rope_scaling", "rope_parameters"}) {
    const Json* object = *name ? dictionary(*part.json, name) : part.json;
    if (object && object->contains(kOriginal) && object->at(kOriginal).is_number())
      all.insert(object->at(kOriginal).dump());
  }
  return all.size() == 1 ? *all.begin() : "";
}

/// What a SPEC has to say so that nothing is taken from there; empty: it says it.
std::string open_words(const RopeContradiction& one, const Words& said, const Json& config) {
  using Field = RopeContradiction::Field;
  if (one.field == Field::method) {
    if (said.replaces() && said.keys.contains(kOriginal)) return "";
    const std::string sole = sole_original(config);
    return sole.empty() ? "original=L, the context before scaling" : "original=" + sole;
  }
  const char* key = one.field == Field::theta ? "rope_theta" : kOriginal;
  if (said.keys.contains(key)) return "";
  std::string choices;
  for (const std::string& value : one.values)
    choices +=
        (choices.empty() ? "" : " or ") + std::string(one.field == Field::theta ? "rope_theta=" : "original=") + value;
  return choices;
}

void refuse_open(const std::string& path, const std::string& text, const Json& config, const Words& said) {
  std::string pointer, problem, words;
  bool original = false;
  for (const RopeContradiction& one : rope_contradictions(config)) {
    const std::string wanted = open_words(one, said, config);
    if (wanted.empty()) continue;
    if (problem.empty()) pointer = one.pointer;
    problem += (problem.empty() ? "" : ", ") + one.text;
    const bool again = original && one.field != RopeContradiction::Field::theta;  // the method's word is that one, too
    if (!again) words += (words.empty() ? "" : ", and ") + wanted;
    original = original || one.field != RopeContradiction::Field::theta;
  }
  if (problem.empty()) return;
  throw Error(ErrorKind::bad_input, json_place(path, text, pointer), problem + ": which is meant is not said",
              said.replaces() ? "add to the new rope " + words + ", or correct the file (ropewalk lint)"
                              : "correct the file (ropewalk lint), or instead of native say the rope by its method, "
                                "with " +
                                    words);
}

/// `config` without its dictionaries: plain, with the base and the share of the head that they say.
Json without_dictionaries(const Json& config) {
  Json out = config;
  const ModelPart part = model_part(config);
  Json& model = part.pointer.empty() ? out : out[Json::json_pointer(part.pointer)];
  for (const char* name : kDictionaries) {
    if (!model.contains(name)) continue;
    if (const Json* one = dictionary(*part.json, name))  // of `config`: members of `model` move
      for (const char* key : {"rope_theta", "partial_rotary_factor"})
        if (one->contains(key) && !model.contains(key)) model[key] = Json(one->at(key));
    model.erase(name);
  }
  return out;
}

}  // namespace

std::vector<RopeContradiction> rope_contradictions(const Json& config) {
  std::vector<RopeContradiction> out;
  const ModelPart part = model_part(config);
  if (!part.json->is_object() || yarn_remote_code(config)) return out;
  methods(part, out);
  numbers(part, "rope_theta", RopeContradiction::Field::theta, out);
  numbers(part, kOriginal, RopeContradiction::Field::original_context, out);
  return out;
}

std::optional<Json> with_longrope_for_su(const Json& config) {
  const ModelPart part = model_part(config);
  if (!part.json->is_object() || part.json->value("model_type", Json()) == "phi3") return std::nullopt;
  for (const char* name : kDictionaries) {
    const Json* one = dictionary(*part.json, name);
    const char* key = one && one->contains("rope_type") ? "rope_type" : "type";
    if (!one || one->value(key, Json()) != "su") continue;
    Json out = config;
    Json& model = part.pointer.empty() ? out : out[Json::json_pointer(part.pointer)];
    model[name][key] = "longrope";
    return out;
  }
  return std::nullopt;
}

RopeBase rope_base(const std::string& path, const std::string& text, const Json& config, std::string_view spec) {
  if (!config.is_object()) return {config, std::nullopt};  // what reads it says so
  const Words said = words_of(std::string(spec));
  refuse_open(path, text, config, said);
  if (std::optional<Json> renamed = with_longrope_for_su(config))
    return {std::move(*renamed), "rope type su is read as longrope, its name since transformers 4.43"};
  try {
    read_rope_meaning(path, text, config);
    return {config, std::nullopt};
  } catch (const Error& error) {
    Json bare = without_dictionaries(config);
    if (bare == config) throw;
    try {
      read_rope_meaning(path, text, bare);
    } catch (const Error&) {
      throw error;  // not the dictionary's fault
    }
    if (said.replaces() && said.keys.contains(kOriginal))
      return {std::move(bare), "the file's own rope is not read (" + error.problem() + "): the new one replaces it"};
    throw Error(error.kind(), error.where(), error.problem(),
                error.fix() +
                    "; a rope that names its method and the context before scaling replaces it: "
                    "yarn,factor=4,original=4096");
  }
}

}  // namespace ropewalk::formats
