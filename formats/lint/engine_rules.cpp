// E01 - E04: what the engines' own rules say (formats/engines), where no other rule has named the cause.
#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "formats/lint/linter.h"

namespace ropewalk::formats::linting {
namespace {

/// Engines that say the same, in order.
template <class Key>
using Groups = std::vector<std::pair<Key, std::vector<std::size_t>>>;
template <class Key>
void put(Groups<Key>& groups, const Key& key, std::size_t engine) {
  for (auto& [known, engines] : groups)
    if (known == key) return engines.push_back(engine);
  groups.push_back({key, {engine}});
}

/// Of model types whose rules were not compared, what an engine computes is a guess: only said of engines that were
/// named, and never more than a warning.
bool guesses(const Linter& lint) { return !lint.compared && lint.options.engines.empty(); }
Severity most(const Linter& lint) { return lint.compared ? Severity::error : Severity::warning; }

std::string by_which_rules(const Linter& lint) {
  return lint.compared ? "" : " (by the rules of llama: model type '" + lint.model_type + "' was not compared)";
}

/// The int that a class wants where the file has 128.0 or "128".
std::optional<Json> whole_number_of(const Linter& lint, const std::string& pointer) {
  const Json::json_pointer at(pointer);
  if (pointer.empty() || !lint.file.json.contains(at) || pointer.find("/rope_") != std::string::npos)
    return std::nullopt;
  return whole_number_meant(lint.file.json.at(at));
}

void load(Linter& lint) {
  struct Failure {
    std::string kind, text, pointer;
    bool operator==(const Failure&) const = default;
  };
  Groups<Failure> groups;
  for (std::size_t i = 0; i < lint.engines.size(); ++i) {
    const EngineReading& reading = lint.readings[i];
    if (!Linter::fails(reading) || lint.explained(i, Aspect::load)) continue;
    put(groups, Failure{reading.error->kind, reading.error->text, reading.error->pointer}, i);
  }
  // by the release's own list of classes, not by Llama's rules
  const auto has_no_class = [&](const Failure& failure) { return failure.pointer.ends_with("/model_type"); };
  // each stops in its own words, and none is left
  const bool all = std::all_of(lint.readings.begin(), lint.readings.end(), Linter::fails);
  for (const auto& [failure, hurt] : groups) {
    const std::optional<Json> meant = whole_number_of(lint, failure.pointer);
    const bool certain = has_no_class(failure);
    Finding& finding = lint.add_for("E01", hurt, failure.pointer,
                                    lint.does(hurt, "does", "do") + " not load it: " + failure.kind + ": " +
                                        failure.text.substr(0, 200) + (certain ? "" : by_which_rules(lint)),
                                    meant     ? "write " + meant->dump()
                                    : certain ? "take a release that has the class"
                                              : rewrite_advice(lint, hurt, failure.pointer),
                                    most(lint));
    if (meant) finding.edits = {{failure.pointer, *meant}};
    if (certain && !lint.options.engines.empty()) finding.severity = Severity::error;
    else if (all) finding.severity = most(lint);
  }
}

std::string place(const Linter& lint, const EngineRope* rope) {
  for (const RopeDict& dict : lint.dicts)
    if (dict.read && (!rope || dict.layer.empty() || dict.layer == rope->layer_type)) return dict.pointer;
  return lint.model.contains("rope_theta") ? lint.at("rope_theta") : "";
}

void computed(Linter& lint) {
  if (lint.declared.empty()) return;
  Groups<std::string> groups;
  Groups<std::pair<std::string, std::string>> factors;  // the engine's attention factor and its place
  std::map<std::string, Difference> differences;
  const auto in_words = [&](const EngineRope& rope) {
    const bool width = rope.spec.rotary_dim != lint.declared.front().spec.rotary_dim;
    return describe(rope.spec) + (width ? " of " + std::to_string(rope.spec.rotary_dim) + " channels" : "");
  };
  double declared_factor = 1;
  for (std::size_t i = 0; i < lint.engines.size(); ++i) {
    const Difference difference = lint.difference(lint.readings[i]);
    const bool frequencies = difference.frequencies && !lint.explained(i, Aspect::frequencies);
    const bool attention = difference.attention && !lint.explained(i, Aspect::attention);
    if (frequencies) {
      // of several kinds of layers, the one that differs
      const std::string kind = lint.declared.size() > 1 ? " in " + difference.kind : "";
      const std::string rope = in_words(*difference.rope) + kind;
      put(groups, rope, i);
      differences[rope] = difference;
    } else if (attention && !difference.frequencies) {
      put(factors,
          std::pair(trimmed(std::round(1e6 * difference.attention_factor) / 1e6), place(lint, difference.rope)), i);
      declared_factor = difference.declared_attention_factor;
    }
  }
  for (const auto& [factor, hurt] : factors)
    lint.add_for("E03", hurt, factor.second,
                 lint.does(hurt, "scales", "scale") + " attention by " + factor.first + ", " + lint.declared_by +
                     " by " + trimmed(std::round(1e6 * declared_factor) / 1e6) + by_which_rules(lint),
                 "see ropewalk rope " + source_of(lint) + " --engine " +
                     std::string(engine_name(lint.engines[hurt.front()].engine)),
                 most(lint));
  for (const auto& [rope, hurt] : groups) {
    const Difference& difference = differences[rope];
    std::string off = std::isfinite(difference.ratio)
                          ? "off by " + trimmed(std::round(100 * difference.ratio) / 100) + " times"
                          : "turns in one and not in the other";
    std::string meant = describe(lint.declared.front().spec);
    for (const EngineRope& one : lint.declared)
      if (one.layer_type == difference.kind) meant = describe(one.spec);
    lint.add_for("E02", hurt, place(lint, difference.rope),
                 lint.does(hurt, "computes", "compute") + " " + rope + ", " + lint.declared_by + " " + meant +
                     ": pair " + std::to_string(difference.pair) + " " + off + by_which_rules(lint),
                 rewrite_advice(lint, hurt, place(lint, difference.rope)), most(lint));
  }
}

void serves(Linter& lint) {
  Groups<int> shorter;
  Groups<std::string> refuses;
  for (std::size_t i = 0; i < lint.engines.size(); ++i) {
    if (Linter::fails(lint.readings[i]) || lint.explained(i, Aspect::context)) continue;
    EngineReading reading = lint.readings[i];
    if (lint.options.context) {
      EngineOptions options;
      options.context = lint.options.context;
      reading = read_as(lint.engines[i], lint.file.json, options);
    }
    if (reading.context_error && reading.context_error->kind != kNotFollowed)
      put(refuses, reading.context_error->kind + ": " + reading.context_error->text.substr(0, 200), i);
    // longrope: E04 would repeat what R45 says
    else if (!lint.options.context && reading.context && lint.context > 0 && *reading.context < lint.context)
      put(shorter, *reading.context, i);
  }
  for (const auto& [text, hurt] : refuses)
    lint.add_for("E04", hurt, lint.at("max_position_embeddings"),
                 lint.does(hurt, "refuses", "refuse") + " " +
                     (lint.options.context ? "a context of " + std::to_string(*lint.options.context) : "the length") +
                     ": " + text,
                 "raise max_position_embeddings, or override it on the engine's command line");
  for (const auto& [length, hurt] : shorter)
    lint.add_for("E04", hurt, lint.at("max_position_embeddings"),
                 lint.does(hurt, "serves", "serve") + " " + std::to_string(length) + " of max_position_embeddings " +
                     std::to_string(lint.context) + " unless told otherwise",
                 "give the length on its command line", Severity::warning);
}

}  // namespace

void engine_rules(Linter& lint) {
  if (!guesses(lint)) load(lint), computed(lint);
  serves(lint);
}

}  // namespace ropewalk::formats::linting
