// R05 - R09: which of two places counts.
#include <algorithm>
#include <cmath>

#include "formats/lint/linter.h"
#include "formats/rope_fields.h"

namespace ropewalk::formats::linting {
namespace {

bool dialects_differ(const Linter& lint) {
  const Json* scaling = lint.find("rope_scaling");
  const Json* parameters = lint.find("rope_parameters");
  if (!scaling || !parameters || !scaling->is_object() || !parameters->is_object() || scaling->empty() ||
      parameters->empty() || spelling_apart(*scaling) == spelling_apart(*parameters))
    return false;
  const bool nested =
      std::any_of(parameters->begin(), parameters->end(), [](const Json& inner) { return inner.is_object(); });
  return !(nested && lint.model_type.starts_with("gemma3"));  // the class merges them
}

/// Both dictionaries name a method: not one that scales, and one that holds the base alone (unsloth's files).
bool methods_compete(const Linter& lint) {
  if (!dialects_differ(lint)) return false;
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    const Json dict = spelling_apart(*lint.find(key));
    const Json type = dict.value("rope_type", Json("default"));
    if (type == "default" && dict.size() <= 1) return false;
  }
  return true;
}

void both_dialects(Linter& lint) {
  if (!dialects_differ(lint)) return;
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
  const bool settled = !methods_compete(lint);  // a base written into one of two dictionaries would choose between them
  if (!settled) edits.clear();
  lint.add_for("R06", hurt, all.front().pointer,
               "in " + lint.names(hurt) + " no rope_theta is found and the base is " + trimmed(instead) + ", not " +
                   trimmed(theta),
               !settled        ? "settle R05 first: it decides which dictionary needs the base"
               : edits.empty() ? "write rope_theta under that name"
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
               "rewrite it as a native config: ropewalk extend " + source_of(lint) + " -o NEW --rope native");
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
               "write the context the base model was trained with in both places")
          .doubts_original = true;
}

}  // namespace

void place_rules(Linter& lint) {
  both_dialects(lint);
  remote_code(lint);
  bases(lint);
  originals(lint);
}

}  // namespace ropewalk::formats::linting
