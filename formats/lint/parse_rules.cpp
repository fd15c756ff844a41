// R01 - R04, R10 - R14: how the dictionaries are spelt.
#include <algorithm>
#include <array>
#include <cmath>

#include "formats/config_file.h"
#include "formats/engines/class_defaults.h"
#include "formats/engines/model_types.h"
#include "formats/lint/linter.h"
#include "formats/rope_fields.h"
#include "lib/ascii_case.h"
#include "lib/nearest_word.h"

namespace ropewalk::formats::linting {
namespace {

/// Every type that some engine knows, and those of the YaRN repository's remote code.
const std::vector<std::string> kTypes = {"default",      "linear",       "dynamic", "yarn",
                                         "longrope",     "su",           "llama3",  "proportional",
                                         "mrope",        "ntk",          "xdrope",  "deepseek_yarn",
                                         "dynamic-yarn", "ntk-by-parts", "mllama4", "openpangu",
                                         "fope",         "axial",        "none",    "deepseek_llama_scaling"};

const std::vector<std::string> kKeys = {"type",
                                        "rope_type",
                                        "factor",
                                        "original_max_position_embeddings",
                                        "rope_theta",
                                        "partial_rotary_factor",
                                        "attention_factor",
                                        "attn_factor",
                                        "beta_fast",
                                        "beta_slow",
                                        "mscale",
                                        "mscale_all_dim",
                                        "truncate",
                                        "extrapolation_factor",
                                        "finetuned",
                                        "low_freq_factor",
                                        "high_freq_factor",
                                        "short_factor",
                                        "long_factor",
                                        "short_mscale",
                                        "long_mscale",
                                        "alpha",
                                        "mixed_b",
                                        "mrope_section",
                                        "mrope_interleaved",
                                        "llama_4_scaling_beta",
                                        "apply_yarn_scaling"};

/// Keys that only mean something if the rope is scaled.
constexpr std::array kScalingKeys = {"factor",           "beta_fast",       "beta_slow",
                                     "attention_factor", "short_factor",    "long_factor",
                                     "attn_factor",      "low_freq_factor", "alpha"};

void types(Linter& lint, const RopeDict& dict) {
  const Json* modern = dict.find("rope_type");
  const Json* legacy = dict.find("type");
  if (!modern && !legacy) {
    for (const char* key : kScalingKeys)
      if (dict.find(key)) {
        lint.add("R01", dict.pointer, dict.outer + " has " + key + " but neither rope_type nor type: it scales nothing",
                 "say which method it is: \"rope_type\": \"yarn\", \"linear\", ...");
        lint.explain_all();
        return;
      }
    return;
  }
  if (modern && legacy && modern->is_string() && legacy->is_string() && *modern != *legacy &&
      !is_renamed_type(*modern, *legacy)) {
    lint.add("R02", dict.at("type"),
             "type is " + shown(*legacy) + " and rope_type " + shown(*modern) +
                 ": transformers 5 runs the second, transformers 4 the first in most classes, vllm refuses the file",
             "keep the one that is meant, in both or in rope_type alone");
    lint.explain_all();
    return;
  }
  for (const auto& [key, value] : {std::pair{"rope_type", modern}, std::pair{"type", legacy}}) {
    if (!value || (value == legacy && modern)) continue;
    if (!value->is_string()) {
      lint.add("R04", dict.at(key), std::string(key) + " is " + shown(*value) + ", the name of a method was expected",
               "write one of yarn, linear, dynamic, llama3, longrope, default");
      continue;
    }
    const std::string name = value->get<std::string>();
    if (std::find(kTypes.begin(), kTypes.end(), name) != kTypes.end()) continue;
    const std::optional<std::string> near = nearest_word(lower_case(name), kTypes);
    // a model class of its own may have types of its own
    lint.add("R04", lint.compared ? Severity::error : Severity::info, dict.at(key),
             "no engine knows rope type " + shown(*value) + (near ? "; is it '" + *near + "'?" : ""),
             "write one of yarn, linear, dynamic, llama3, longrope, default");
    for (std::size_t i = 0; i < lint.engines.size(); ++i) lint.explain(i, Aspect::load);
  }
}

/// Gemma 3's classes take rope_type alone: with type the full layers are not scaled in transformers 5, and up to 4.57 the
/// file is refused. Which was meant nobody can say, so there is no edit.
bool says_type_alone(const Linter& lint, const RopeDict& dict) {
  const Json* parameters = lint.find("rope_parameters");
  return engines::takes_gemma3_names(lint.model_type) && dict.outer == "rope_scaling" && !dict.find("rope_type") &&
         dict.find("type") && dict.type != "default" && (!parameters || parameters->is_null());
}

/// R03 of Gemma 3's classes.
void type_alone(Linter& lint, const RopeDict& dict) {
  if (!says_type_alone(lint, dict)) return;
  lint.add("R03", Severity::warning, dict.at("type"),
           "transformers 5, and engines that read through it, take rope_type alone in this class: with type they run a "
           "plain rope, and transformers 4 stops with KeyError",
           "write \"rope_type\": \"" + (dict.type == "su" ? "longrope" : dict.type) +
               "\" in its place, or take the dictionary out");
}

/// R03: an engine that reads the file right once the other spelling stands beside the one there is.
void one_spelling(Linter& lint, const RopeDict& dict) {
  if (dict.type.empty() || !dict.read || lint.declared.empty() || says_type_alone(lint, dict)) return;
  const bool has_modern = dict.find("rope_type"), has_legacy = dict.find("type");
  if (has_modern == has_legacy) return;
  const char* missing = has_modern ? "type" : "rope_type";
  const char* there = has_modern ? "rope_type" : "type";
  const std::vector<JsonEdit> edits = {{dict.at(missing), *dict.find(there), there}};
  // transformers up to 4.42 accepts no key but the two it reads
  Json renamed = edited(lint.file.json, edits);
  renamed[Json::json_pointer(dict.pointer)].erase(there);
  bool adding = true;
  std::vector<std::size_t> hurt;
  for (std::size_t i = 0; i < lint.engines.size(); ++i) {
    const EngineReading& now = lint.readings[i];
    if (!Linter::fails(now) && !lint.difference(now).frequencies) continue;
    const EngineReading then = lint.read_changed(lint.engines[i], edits),
                        renamed_alone = read_as(lint.engines[i], renamed);
    const bool beside = !then.error && !lint.difference(then).frequencies;
    if (!beside && (renamed_alone.error || lint.difference(renamed_alone).frequencies)) continue;
    hurt.push_back(i);
    adding = adding && beside;
  }
  if (hurt.empty()) return;
  lint.add_for("R03", hurt, dict.at(there),
               lint.does(hurt, "reads", "read") + " " + missing + ", not " + there +
                   ": without it the scaling is lost there",
               std::string(adding ? "add \"" : "write \"") + missing + "\": " + dict.find(there)->dump() +
                   (adding ? " beside it" : " in its place for this engine"))
      .edits = adding ? edits : std::vector<JsonEdit>{};
  lint.explain(hurt, Aspect::load), lint.explain(hurt, Aspect::frequencies), lint.explain(hurt, Aspect::attention);
}

void misspelt_keys(Linter& lint, const RopeDict& dict) {
  for (const auto& item : dict.json->items()) {
    if (is_rope_key(item.key()) || item.value().is_object()) continue;
    const std::optional<std::string> near = nearest_word(item.key(), kKeys, 3);
    if (!near || item.key().size() < 4) continue;
    const bool both = dict.json->contains(*near);
    lint.add("R11", dict.pointer + "/" + pointer_segment(item.key()),
             "no engine reads " + shown(item.key()) +
                 (both ? ", which stands beside " + *near : "; is it " + *near + "?"),
             both ? "take it out" : "rename it, or take it out")
        .doubts_original = true;
  }
}

/// R14. A part of a larger file may leave its type to that.
void model_type(Linter& lint) {
  const auto given = lint.model.find("model_type");
  if (given == lint.model.end() && !lint.prefix.empty()) return;
  if (given == lint.model.end() || !given->is_string()) {
    const bool absent = given == lint.model.end();
    lint.add(
        "R14", absent ? lint.prefix : lint.at("model_type"),
        absent ? std::string("there is no model_type: transformers, and engines that read through it, do not know the "
                             "class and stop")
               : "model_type is " + shown(*given) + ", the name of a class was expected: transformers stops",
        "write the type of the model, such as llama");
    lint.explain_all();
    return;
  }
  const std::string type = given->get<std::string>();
  if (engines::transformers_knows(type) || lint.file.json.contains("auto_map")) return;
  const std::optional<std::string> near = nearest_word(type, engines::transformers_model_types(), 2);
  lint.add("R14", Severity::warning, lint.at("model_type"),
           newest(Engine::transformers).title() + " has no class " + shown(*given) +
               ", and no auto_map names its code" + (near ? "; is it '" + *near + "'?" : "") +
               ". What else is said here is a guess: the file is read as a Llama's",
           "write the type of a known class, or keep the auto_map and the files it names");
}

/// R13. Classes that were not compared may have layers beside those counted: a warning.
void layer_types(Linter& lint) {
  const Severity severity = lint.compared ? Severity::error : Severity::warning;
  const auto refuse = [&](const std::string& pointer, const std::string& what, const std::string& fix) {
    lint.add("R13", severity, pointer, what, fix);
    if (lint.compared) lint.explain_all();
  };
  const auto types = lint.model.find("layer_types"), layers = lint.model.find("num_hidden_layers");
  const bool named = types != lint.model.end() && !types->is_null();
  if (named && !types->is_array())
    return refuse(lint.at("layer_types"), "layer_types is " + shown(*types) + ", a list of kinds was expected",
                  "write one entry for each layer");
  if (named && layers != lint.model.end() && layers->is_number_integer() && *layers != types->size())
    refuse(lint.at("layer_types"),
           "layer_types has " + std::to_string(types->size()) + (types->size() == 1 ? " entry" : " entries") +
               " and num_hidden_layers is " + layers->dump(),
           "write one entry for each layer");
  std::set<std::string> kinds = {"full_attention", "sliding_attention"};
  if (named)
    for (const Json& type : *types)
      if (type.is_string()) kinds.insert(type.get<std::string>());
  for (const char* key : {"rope_scaling", "rope_parameters"})
    if (const auto outer = lint.model.find(key); outer != lint.model.end() && outer->is_object())
      for (const auto& item : outer->items())
        if (kinds.contains(item.key()) && !item.value().is_object() && !item.value().is_null())
          refuse(lint.at(key) + "/" + pointer_segment(item.key()),
                 "the rope of '" + item.key().substr(0, 60) + "' is " + shown(item.value()) +
                     ", a dictionary or null was expected",
                 "write the dictionary, or null for layers without a rope");
}

/// R10: a rope for each kind of layer in a class that builds one for all. Of those compared Gemma 3 alone builds several.
bool kinds_of_a_class_that_takes_none(Linter& lint) {
  if (!lint.compared || lint.model_type.starts_with("gemma")) return false;
  const Json* types = lint.find("layer_types");
  std::set<std::string> kinds = {"full_attention", "sliding_attention"};
  if (types && types->is_array())
    for (const Json& type : *types)
      if (type.is_string()) kinds.insert(type.get<std::string>());
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    const auto outer = lint.model.find(key);
    if (outer == lint.model.end() || !outer->is_object()) continue;
    const auto kind = std::find_if(outer->items().begin(), outer->items().end(), [&](const auto& item) {
      return kinds.contains(item.key()) && (item.value().is_object() || item.value().is_null());
    });
    if (kind == outer->items().end()) continue;
    std::vector<std::size_t> plain, others, stop;
    for (std::size_t i = 0; i < lint.engines.size(); ++i) {
      const EngineReading& reading = lint.readings[i];
      const bool one = reading.ropes.size() == 1 && std::holds_alternative<RopeUnscaled>(reading.ropes[0].spec.scaling);
      if (!reading.error) (one ? plain : others).push_back(i);
      else if (Linter::fails(reading)) stop.push_back(i);
    }
    std::string message =
        "the rope is nested by kind of layer, which the class of model type '" + lint.model_type + "' does not take";
    if (!stop.empty()) message += ": " + lint.does(stop, "does", "do") + " not load it";
    if (!plain.empty())
      message += (stop.empty() ? ": " : ", ") + lint.does(plain, "runs", "run") + " a plain rope without a word";
    if (!others.empty())
      message += (stop.empty() && plain.empty() ? ": " : ", ") + lint.does(others, "runs", "run") +
                 " that of one kind in all layers";
    lint.add("R10", Severity::error, lint.at(key), message, "write one dictionary for all layers");
    lint.explain_all();
    return true;
  }
  return false;
}

void nested(Linter& lint) {
  std::vector<std::string> labels;
  const Json* types = lint.find("layer_types");
  if (types && types->is_array())
    for (const Json& type : *types)
      if (type.is_string()) labels.push_back(type.get<std::string>());
  const bool any = std::any_of(lint.dicts.begin(), lint.dicts.end(),
                               [](const RopeDict& dict) { return dict.read && !dict.layer.empty(); });
  if (!any) return;
  // where the file has no kinds of layers, the classes' own names
  const bool named = !labels.empty();
  if (!named) labels = {"full_attention", "sliding_attention"};
  for (const RopeDict& dict : lint.dicts) {
    if (!dict.read || dict.layer.empty() || std::find(labels.begin(), labels.end(), dict.layer) != labels.end())
      continue;
    const std::optional<std::string> near = nearest_word(dict.layer, labels, 4);
    if (!named && !near) continue;  // a class may have kinds of its own
    lint.add("R10", near ? Severity::error : Severity::warning, dict.pointer,
             std::string("no layer ") + (named ? "of layer_types " : "") + "is '" + dict.layer.substr(0, 60) +
                 "': nothing reads this dictionary" + (near ? "; is it '" + *near + "'?" : ""),
             named ? "name it as layer_types does, or take it out" : "name it so, or take it out");
  }
  if (!named) return;
  for (const RopeDict& dict : lint.dicts)
    if (dict.read && !dict.layer.empty())
      if (const Json* truncate = dict.find("truncate"); truncate && *truncate == false)
        lint.add("R10", Severity::warning, dict.at("truncate"),
                 "transformers reads truncate beside the kinds of layers, not inside them: false is ignored here",
                 "move it out of '" + dict.layer.substr(0, 60) + "'");
}

void not_finite(Linter& lint) {
  std::size_t elsewhere = 0;
  std::set<std::size_t> lists;
  for (const std::size_t offset : lint.file.not_finite) {
    if (in_rope(lint.file.text, lint.file.json, offset)) {
      lint.no_number(offset);
      lint.explain_all();
      const std::string what = not_finite_value(lint.file.text, offset);
      const bool entry = what.starts_with("an entry");
      const std::size_t list = entry ? lint.file.text.find_last_of("[{", offset) : std::string::npos;
      if (entry && !lists.insert(list).second) continue;  // the first of a list speaks for all
      Finding& finding = lint.add("R20", Severity::error, "", what + ", a number was expected", "write the number");
      const TextPosition place = position_of(lint.file.text, offset);
      finding.line = place.line, finding.column = place.column;
    } else {
      ++elsewhere;
    }
  }
  if (elsewhere > 0)
    lint.add("R12", "",
             "the file holds NaN or Infinity, which Python's parser takes and JSON does not have: other parsers refuse "
             "the file",
             "write null or a large number, if the model's code takes that");
}

}  // namespace

bool is_rope_key(const std::string& key) { return std::find(kKeys.begin(), kKeys.end(), key) != kKeys.end(); }

void parse_rules(Linter& lint) {
  not_finite(lint);
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    const auto value = lint.model.find(key);
    if (value == lint.model.end() || value->is_null() || value->is_object()) continue;
    lint.add("R01", lint.at(key), std::string(key) + " is " + shown(*value) + ", a dictionary or null was expected",
             "write the dictionary, or null for a plain rope");
    lint.explain_all();
  }
  model_type(lint);
  layer_types(lint);
  for (const RopeDict& dict : lint.dicts) {
    types(lint, dict);
    misspelt_keys(lint, dict);
  }
  place_rules(lint);  // a base that is not found explains what the other spelling would not mend
  if (kinds_of_a_class_that_takes_none(lint)) return;
  for (const RopeDict& dict : lint.dicts) {
    type_alone(lint, dict);
    one_spelling(lint, dict);
  }
  nested(lint);
}

}  // namespace ropewalk::formats::linting
