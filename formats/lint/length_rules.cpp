// R21 - R23, R32: the original context, and the lengths made of it.
#include <algorithm>
#include <cmath>

#include "formats/known_models.h"
#include "formats/lint/linter.h"

namespace ropewalk::formats::linting {
namespace {

bool needs_original(const RopeDict& dict) { return dict.type == "yarn" || dict.type == "llama3"; }

const KnownModel* known_model(const Linter& lint) {
  double theta = lint.number("rope_theta").value_or(10000);
  if (const RopeDict* flat = lint.flat()) theta = flat->number("rope_theta").value_or(theta);
  return formats::known_model(lint.model_type, theta, lint.number("vocab_size"));
}

void original(Linter& lint, const RopeDict& dict) {
  if (!dict.read) return;
  const auto top = lint.number("original_max_position_embeddings");
  const Json* value = dict.find("original_max_position_embeddings");
  if (!value || value->is_null()) {
    if (!needs_original(dict) || top) return;
    std::vector<std::size_t> hurt, guessed;
    // any length shows who stops for want of one
    const std::vector<JsonEdit> edits = {{dict.at("original_max_position_embeddings"), std::max(lint.context, 1024)}};
    for (std::size_t i = 0; i < lint.engines.size(); ++i) {
      if (!Linter::fails(lint.readings[i])) guessed.push_back(i);
      else if (!Linter::fails(lint.read_changed(lint.engines[i], edits))) hurt.push_back(i);
    }
    std::string message = dict.type + " without original_max_position_embeddings: ";
    if (!hurt.empty())
      message += lint.does(hurt, "stops", "stop") + " (" + lint.readings[hurt.front()].error->text.substr(0, 120) + ")";
    if (!guessed.empty())
      message += (hurt.empty() ? "" : ", ") + lint.does(guessed, "takes", "take") + " max_position_embeddings, " +
                 (lint.context > 0 ? std::to_string(lint.context) : "which the file lacks: the model class's own");
    const std::string fix = "add the context the base model was trained with";
    Finding& finding = hurt.empty() ? lint.add("R21", Severity::warning, dict.pointer, message, fix)
                                    : lint.add_for("R21", hurt, dict.pointer, message, fix);
    finding.doubts_original = finding.severity != Severity::info;
    lint.explain(hurt, Aspect::load);
    return;
  }
  const std::optional<double> length = dict.number("original_max_position_embeddings");
  if (!length) return;  // R20
  const std::string pointer = dict.at("original_max_position_embeddings");
  if (*length < 1 || *length != std::floor(*length) || *length > 2147483647) {
    lint.add("R21", pointer,
             "original_max_position_embeddings is " + trimmed(*length) + ", a number of tokens was expected",
             "write the context the base model was trained with")
        .doubts_original = true;
    lint.explain_all();
    return;
  }
  if (lint.context > 0 && *length > lint.context)
    lint.add("R21", Severity::warning, pointer,
             "original_max_position_embeddings is " + trimmed(*length) + ", more than max_position_embeddings, " +
                 std::to_string(lint.context),
             "exchange them, or correct one")
        .doubts_original = true;
  const KnownModel* known = known_model(lint);
  if (!known || dict.type == "llama3" || dict.type == "longrope" || *length == known->trained) return;
  if (known->trained == 0 ? *length != 2048 && *length != 4096 && *length != 8192 : true)
    lint.add("R21", Severity::info, pointer,
             "the original context is " + trimmed(*length) + "; the file looks like " + known->name + ", trained at " +
                 (known->trained ? std::to_string(known->trained) : std::string("2048 or 4096")),
             "check what the base model was trained with: with YaRN it sets which pairs are scaled");
}

/// What an engine serves when it is told nothing.
std::string served(const Linter& lint) {
  std::string out;
  for (std::size_t i = 0; i < lint.engines.size(); ++i) {
    const EngineReading& reading = lint.readings[i];
    if (!reading.starts() || !reading.context) continue;
    out += (out.empty() ? "" : ", ") + lint.engines[i].title() + " " + std::to_string(*reading.context);
  }
  return out;
}

void ratio(Linter& lint, const RopeDict& dict) {
  const auto s = dict.number("factor"), original = dict.number("original_max_position_embeddings");
  if (!dict.read || dict.type != "yarn" || !s || !original || !(*original >= 1 && *original <= 2147483647) ||
      lint.context == 0 || !(*s >= 1 && *s <= 16384))
    return;
  const double product = *s * *original;
  if (std::abs(product - lint.context) <= 0.01 * product) return;  // rounded factors
  std::vector<std::size_t> hurt;
  for (std::size_t i = 0; i < lint.engines.size(); ++i)
    if (lint.readings[i].starts() && lint.readings[i].context && *lint.readings[i].context < product) hurt.push_back(i);
  std::string message =
      "factor x original is " + trimmed(product) + " and max_position_embeddings " + std::to_string(lint.context);
  const std::string serves = served(lint);
  if (!serves.empty()) message += "; by default these serve: " + serves;
  message += " (transformers 4.51 to 4.55 and exllamav3 take the ratio " +
             trimmed(std::round(1e4 * lint.context / *original) / 1e4) + " for the factor)";
  const std::string fix =
      product > lint.context
          ? "set max_position_embeddings to " + trimmed(std::floor(product)) + ", or tell each engine the length"
          : "correct the factor, the original context or max_position_embeddings";
  if (hurt.empty()) lint.add("R22", Severity::info, lint.at("max_position_embeddings"), message, fix);
  else lint.add_for("R22", hurt, lint.at("max_position_embeddings"), message, fix, Severity::warning);
  lint.explain(hurt, Aspect::context);
}

/// linear and dynamic take max_position_embeddings for the original context: vllm and sglang multiply it, and dynamic
/// only starts beyond it.
void extended_twice(Linter& lint, const RopeDict& dict) {
  if (!dict.read || (dict.type != "linear" && dict.type != "dynamic")) return;
  const auto s = dict.number("factor");
  if (!s || !(*s > 1 && *s <= 16384) || lint.context == 0) return;
  const KnownModel* known = known_model(lint);
  const auto original = dict.number("original_max_position_embeddings");
  const bool declared = original && std::abs(*original * *s - lint.context) < 1;
  const bool llama = known && known->trained == 0 && lint.context > 4096;
  const bool other = known && known->trained > 0 && lint.context > known->trained;
  if (!declared && !llama && !other) return;
  std::vector<std::size_t> hurt;
  for (std::size_t i = 0; i < lint.engines.size(); ++i) {
    const EngineReading& reading = lint.readings[i];
    const bool doubles = reading.starts() && reading.context && *reading.context > lint.context;
    const bool never = dict.type == "dynamic" && !reading.ropes.empty() &&
                       std::holds_alternative<RopeDynamic>(reading.ropes.front().spec.scaling);
    if (doubles || never) hurt.push_back(i);
  }
  if (hurt.empty()) return;
  const std::string base = declared         ? trimmed(*original)
                           : known->trained ? std::to_string(known->trained)
                                            : "2048 or 4096";
  lint.add_for("R23", hurt, lint.at("max_position_embeddings"),
               "max_position_embeddings is " + std::to_string(lint.context) + " and looks extended already (from " +
                   base + "): " +
                   (dict.type == "dynamic" ? lint.does(hurt, "scales", "scale") + " only beyond it, or " +
                                                 (hurt.size() == 1 ? "serves " : "serve ")
                                           : lint.does(hurt, "serves", "serve") + " ") +
                   trimmed(std::floor(*s * lint.context)),
               "write the original context: with " + dict.type + " engines multiply it themselves", Severity::warning);
  lint.explain(hurt, Aspect::context);
}

/// Llama 3.1's own scaling replaced by another one, over the length that scaling was for.
void scaled_twice(Linter& lint, const RopeDict& dict) {
  const KnownModel* known = known_model(lint);
  if (!dict.read || !known || known->trained != 8192 || std::string_view(known->model_type) != "llama") return;
  if (dict.type != "linear" && dict.type != "yarn" && dict.type != "dynamic") return;
  const auto original = dict.number("original_max_position_embeddings");
  const double length = original ? *original : lint.context;
  if (length <= 8192) return;
  lint.add("R32", dict.pointer,
           "Llama 3.1 and later have a llama3 scaling of their own, which this " + dict.type + " replaces: below " +
               trimmed(length) + " tokens the model no longer computes what it was trained with",
           "start from Llama 3's plain rope over 8192 tokens, or keep llama3 and raise its factor");
}

}  // namespace

void length_rules(Linter& lint) {
  for (const RopeDict& dict : lint.dicts) {
    original(lint, dict);
    ratio(lint, dict);
    extended_twice(lint, dict);
    scaled_twice(lint, dict);
  }
}

}  // namespace ropewalk::formats::linting
