// R01 - R12: how the dictionaries are spelt, and which of two places counts.
#include <algorithm>
#include <array>
#include <cmath>

#include "formats/json_fields.h"
#include "formats/lint/linter.h"
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

bool renamed(const std::string& modern, const std::string& legacy) {
  return (modern == "longrope" && legacy == "su") || (modern == "default" && legacy == "mrope");
}

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
      !renamed(modern->get<std::string>(), legacy->get<std::string>())) {
    lint.add("R02", dict.at("type"),
             "type is " + shown(*legacy) + " and rope_type " + shown(*modern) +
                 ": transformers 5 runs the second, transformers 4 the first, vllm refuses the file",
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
    const std::optional<std::string> near = nearest_word(name, kTypes);
    // a model class of its own may have types of its own
    lint.add("R04", lint.compared ? Severity::error : Severity::info, dict.at(key),
             "no engine knows rope type " + shown(*value) + (near ? "; is it '" + *near + "'?" : ""),
             "write one of yarn, linear, dynamic, llama3, longrope, default");
    for (std::size_t i = 0; i < lint.engines.size(); ++i) lint.explain(i, Aspect::load);
  }
}

/// R03: an engine that reads the file right once the other spelling stands beside the one there is.
void one_spelling(Linter& lint, const RopeDict& dict) {
  if (dict.type.empty() || !dict.read || lint.declared.empty()) return;
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
    if (std::find(kKeys.begin(), kKeys.end(), item.key()) != kKeys.end() || item.value().is_object()) continue;
    const std::optional<std::string> near = nearest_word(item.key(), kKeys, 3);
    if (!near || item.key().size() < 4 || dict.json->contains(*near)) continue;
    lint.add("R11", dict.pointer + "/" + pointer_segment(item.key()),
             "no engine reads " + shown(item.key()) + "; is it " + *near + "?", "rename it, or take it out");
  }
}

/// The same dictionary whatever its spelling.
Json comparable(const Json& dict) {
  nlohmann::json sorted = dict;  // without regard to order
  if (sorted.is_object()) {
    if (!sorted.contains("rope_type") && sorted.contains("type")) sorted["rope_type"] = sorted["type"];
    sorted.erase("type");
    sorted.erase("rope_theta");
    for (auto& item : sorted.items())
      if (item.value().is_number_integer()) item.value() = item.value().get<double>();
  }
  return Json(sorted);
}

void both_dialects(Linter& lint) {
  const Json* scaling = lint.find("rope_scaling");
  const Json* parameters = lint.find("rope_parameters");
  if (!scaling || !parameters || !scaling->is_object() || !parameters->is_object() || scaling->empty() ||
      parameters->empty() || comparable(*scaling) == comparable(*parameters))
    return;
  const bool nested =
      std::any_of(parameters->begin(), parameters->end(), [](const Json& inner) { return inner.is_object(); });
  if (nested && lint.model_type.starts_with("gemma3")) return;  // the class merges them
  lint.add("R05", lint.at("rope_scaling"),
           "rope_scaling and rope_parameters differ: transformers 5 reads rope_scaling alone, llama.cpp's converter "
           "beside transformers 4 rope_parameters",
           "keep one, or make them equal");
}

struct Theta {
  std::string pointer;
  double value;
};
/// Every place a base may stand in.
std::vector<Theta> thetas(const Linter& lint) {
  std::vector<Theta> all;
  const auto take = [&](const Json& object, const std::string& pointer) {
    for (const char* key : {"rope_theta", "rotary_emb_base"})
      if (const auto value = object.find(key); value != object.end() && value->is_number())
        all.push_back({pointer + "/" + key, value->get<double>()});
  };
  take(lint.model, lint.prefix);
  for (const char* key : {"rope_scaling", "rope_parameters"})
    if (const auto dict = lint.model.find(key); dict != lint.model.end() && dict->is_object())
      take(*dict, lint.at(key));
  return all;
}

void bases(Linter& lint) {
  const std::vector<Theta> all = thetas(lint);
  const RopeDict* flat = lint.flat();
  if (all.empty() || (!flat && !lint.dicts.empty())) return;  // nested ones have a base per kind of layer
  for (const Theta& one : all)
    if (one.value != all.front().value) {
      lint.add("R07", one.pointer,
               "rope_theta is " + trimmed(one.value) + " here and " + trimmed(all.front().value) + " at " +
                   all.front().pointer.substr(1) + ": engines differ in which they read",
               "write the base the model was trained with in both places");
      for (std::size_t i = 0; i < lint.engines.size(); ++i) lint.explain(i, Aspect::frequencies);
      return;
    }
  const double theta = all.front().value;
  std::vector<std::size_t> hurt;
  double instead = 0;
  for (std::size_t i = 0; i < lint.engines.size(); ++i) {
    if (lint.readings[i].ropes.size() != 1) continue;
    const RopeSpec& spec = lint.readings[i].ropes.front().spec;
    const bool defaulted = std::any_of(spec.provenance.begin(), spec.provenance.end(), [](const RopeProvenance& from) {
      return from.field == "theta" && from.pointer.empty();
    });
    if (!defaulted || spec.theta == theta) continue;
    hurt.push_back(i);
    instead = spec.theta;
  }
  if (hurt.empty()) return;
  const Json& written = lint.file.json.at(Json::json_pointer(all.front().pointer));
  std::vector<JsonEdit> edits;
  if (flat && !flat->find("rope_theta")) edits.push_back({flat->at("rope_theta"), written});
  if (!lint.model.contains("rope_theta")) edits.push_back({lint.at("rope_theta"), written, "max_position_embeddings"});
  lint.add_for("R06", hurt, all.front().pointer,
               "in " + lint.names(hurt) + " no rope_theta is found and the base is " + trimmed(instead) + ", not " +
                   trimmed(theta),
               edits.empty() ? "write rope_theta under that name"
                             : "write rope_theta at the top level and in the rope dictionary")
      .edits = edits;
  lint.explain(hurt, Aspect::frequencies);
}

/// R08: remote code. Known code has a rope of its own, which no engine that does not run it computes.
void remote_code(Linter& lint) {
  const Json* map = lint.find("auto_map");
  if (!map || !map->is_object() || map->empty()) return;
  const std::string pointer = lint.file.json.contains("auto_map") ? "/auto_map" : lint.at("auto_map");
  if (!lint.remote) {
    if (lint.compared && lint.scaled())
      lint.add("R08", Severity::info, pointer,
               "auto_map names remote code, and transformers has model type '" + lint.model_type +
                   "' itself: which rope is run depends on trust_remote_code",
               "compare both once; engines other than transformers never run the code");
    return;
  }
  if (lint.declared_by != *lint.remote + ".py") return;
  std::vector<std::size_t> hurt;
  std::vector<std::pair<std::string, std::vector<std::size_t>>> groups;  // engines that compute the same
  for (std::size_t i = 0; i < lint.engines.size(); ++i) {
    const Difference difference = lint.difference(lint.readings[i]);
    std::string instead;
    if (Linter::fails(lint.readings[i])) instead = "does not load it";
    else if (difference.frequencies)
      instead = describe(difference.rope->spec) + ", pair " + std::to_string(difference.pair) + " off " +
                trimmed(std::round(100 * difference.ratio) / 100) + " times";
    else if (difference.attention) instead = describe(difference.rope->spec);
    else continue;
    hurt.push_back(i);
    const auto known =
        std::find_if(groups.begin(), groups.end(), [&](const auto& one) { return one.first == instead; });
    if (known != groups.end()) known->second.push_back(i);
    else groups.push_back({instead, {i}});
  }
  if (hurt.empty()) return;
  const RopeSpec& spec = lint.declared.front().spec;
  std::string message =
      "the model was trained with " + lint.declared_by + ", which computes " + describe(spec) + "; without that code";
  for (const auto& [instead, which] : groups)
    message += (&instead == &groups.front().first ? " " : "; ") + lint.names(which) + ": " + instead;
  lint.add_for("R08", hurt, pointer, message,
               "rewrite it as a native config: ropewalk extend has the code's constants");
  lint.explain(hurt, Aspect::frequencies), lint.explain(hurt, Aspect::attention), lint.explain(hurt, Aspect::load);
}

void originals(Linter& lint) {
  const auto top = lint.number("original_max_position_embeddings");
  if (!top) return;
  for (const RopeDict& dict : lint.dicts)
    if (const auto inside = dict.number("original_max_position_embeddings"); inside && *inside != *top)
      lint.add("R09", dict.at("original_max_position_embeddings"),
               "the original context is " + trimmed(*inside) + " here and " + trimmed(*top) +
                   " at the top level: transformers 5 and vllm take the top level's, llama.cpp and transformers 4.51 "
                   "to 4.57 this one",
               "write the context the base model was trained with in both places");
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
  if (labels.empty()) {
    const bool own = lint.model_type.starts_with("gemma");  // the class has them by itself
    if (lint.compared && !own)
      lint.add("R10", lint.dicts.front().pointer,
               "the rope is nested by kind of layer and there is no layer_types: transformers takes the outer "
               "dictionary for the rope and runs a plain one",
               "add layer_types, one entry for each layer");
    return;
  }
  for (const RopeDict& dict : lint.dicts) {
    if (!dict.read || dict.layer.empty() || std::find(labels.begin(), labels.end(), dict.layer) != labels.end())
      continue;
    const std::optional<std::string> near = nearest_word(dict.layer, labels, 4);
    lint.add("R10", near ? Severity::error : Severity::warning, dict.pointer,
             "no layer of layer_types is '" + dict.layer.substr(0, 60) + "': nothing reads this dictionary" +
                 (near ? "; is it '" + *near + "'?" : ""),
             "name it as layer_types does, or take it out");
  }
  for (const RopeDict& dict : lint.dicts)
    if (dict.read && !dict.layer.empty())
      if (const Json* truncate = dict.find("truncate"); truncate && *truncate == false)
        lint.add("R10", Severity::warning, dict.at("truncate"),
                 "transformers reads truncate beside the kinds of layers, not inside them: false is ignored here",
                 "move it out of '" + dict.layer.substr(0, 60) + "'");
}

/// "factor is -Infinity", as the file has it: LintFile::text has other numbers there.
std::string not_finite_value(const std::string& text, std::size_t offset) {
  const char first = text[offset];
  const char* value = first == '-' ? "-Infinity" : first == '0' ? "NaN" : "Infinity";
  const std::size_t colon = offset == 0 ? std::string::npos : text.find_last_not_of(" \t\r\n", offset - 1);
  if (colon == std::string::npos || text[colon] != ':') return std::string("an entry is ") + value;
  const std::size_t end = text.rfind('"', colon), begin = end == 0 ? end : text.rfind('"', end - 1);
  return text.substr(begin + 1, std::min<std::size_t>(end - begin - 1, 60)) + " is " + value;
}

void not_finite(Linter& lint) {
  std::size_t elsewhere = 0;
  for (const std::size_t offset : lint.file.not_finite) {
    bool in_rope = false;
    for (const char* key : {"rope_scaling", "rope_parameters", "rope_theta", "max_position_embeddings",
                            "partial_rotary_factor", "original_max_position_embeddings", "sliding_window", "head_dim",
                            "hidden_size", "num_attention_heads", "rope_local_base_freq"}) {
      const std::optional<std::size_t> at = locate_offset(lint.file.text, lint.at(key));
      if (!at || offset < *at) continue;
      const Json* value = lint.find(key);
      // an object ends where its text does: dumped without blanks it is no longer than in the file
      if (value && (offset == *at || (value->is_object() && offset < *at + value->dump(8).size()))) in_rope = true;
    }
    if (in_rope) {
      Finding& finding =
          lint.add("R20", Severity::error, "", not_finite_value(lint.file.text, offset) + ", a number was expected",
                   "write the number");
      const std::string_view before = std::string_view(lint.file.text).substr(0, offset);
      finding.line = 1 + int(std::count(before.begin(), before.end(), '\n'));
      finding.column = int(offset - (before.rfind('\n') + 1)) + 1;
      lint.no_number(offset);
      lint.explain_all();
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

void parse_rules(Linter& lint) {
  not_finite(lint);
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    const auto value = lint.model.find(key);
    if (value == lint.model.end() || value->is_null() || value->is_object()) continue;
    lint.add("R01", lint.at(key), std::string(key) + " is " + shown(*value) + ", a dictionary or null was expected",
             "write the dictionary, or null for a plain rope");
    lint.explain_all();
  }
  for (const RopeDict& dict : lint.dicts) {
    types(lint, dict);
    misspelt_keys(lint, dict);
  }
  both_dialects(lint);
  remote_code(lint);
  bases(lint);
  for (const RopeDict& dict : lint.dicts) one_spelling(lint, dict);
  originals(lint);
  nested(lint);
}

}  // namespace ropewalk::formats::linting
