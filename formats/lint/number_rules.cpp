// R20 - R23, R27, R29, R32, R33: factors, lengths, lists, bases.
#include <algorithm>
#include <array>
#include <cmath>

#include "formats/json_fields.h"
#include "formats/lint/linter.h"

namespace ropewalk::formats::linting {
namespace {

bool needs_factor(const RopeDict& dict) {
  return dict.type == "linear" || (dict.type == "dynamic" && !dict.find("alpha")) || dict.type == "yarn" ||
         dict.type == "llama3" || dict.type == "dynamic-yarn";
}
bool needs_original(const RopeDict& dict) { return dict.type == "yarn" || dict.type == "llama3"; }

/// The members of a rope dictionary that are numbers.
constexpr std::array kNumbers = {"original_max_position_embeddings",
                                 "beta_fast",
                                 "beta_slow",
                                 "attention_factor",
                                 "attn_factor",
                                 "low_freq_factor",
                                 "high_freq_factor",
                                 "mscale",
                                 "mscale_all_dim",
                                 "rope_theta",
                                 "partial_rotary_factor",
                                 "alpha",
                                 "extrapolation_factor"};

void quoted_numbers(Linter& lint, const RopeDict& dict) {
  for (const char* key : kNumbers)
    if (const Json* value = dict.find(key); value && !value->is_null() && !value->is_number()) {
      lint.add("R20", dict.at(key), std::string(key) + " is " + shown(*value) + ", a number was expected",
               value->is_string() ? "write it without quotes" : "write the number");
      lint.explain_all();
    }
  for (const char* key : {"low_freq_factor", "high_freq_factor"})
    if (dict.type == "llama3" && !dict.find(key)) {
      lint.add("R20", dict.pointer, std::string("llama3 without ") + key, std::string("add ") + key);
      lint.explain_all();
    }
}

/// Whatever multiplies cosines and sines: by 0 no token sees another's place, below 0 the sign of half the rope turns.
void attention_factor(Linter& lint, const RopeDict& dict) {
  if (dict.type != "yarn" && dict.type != "longrope" && dict.type != "su" && dict.type != "dynamic-yarn") return;
  const auto refuse = [&](const char* key, const std::string& what) {
    lint.add("R20", dict.at(key), what + ", a finite number above 0 was expected: it multiplies queries and keys",
             "take it out, or write what the model was trained with");
    lint.explain_all();
  };
  for (const char* key : {"attention_factor", "attn_factor"})
    if (const auto value = dict.number(key); value && !is_attention_factor(*value))
      refuse(key, std::string(key) + " is " + trimmed(*value));
  const auto s = dict.number("factor"), mscale = dict.number("mscale"), all = dict.number("mscale_all_dim");
  if (dict.type != "yarn" || !s || !(*s > 1 && *s <= 16384) || !mscale || !all || *mscale == 0 || *all == 0) return;
  const double ratio = (0.1 * *mscale * std::log(*s) + 1) / (0.1 * *all * std::log(*s) + 1);
  if (!is_attention_factor(ratio))
    refuse("mscale", "mscale " + trimmed(*mscale) + " and mscale_all_dim " + trimmed(*all) +
                         " make an attention factor of " +
                         trimmed(std::isfinite(ratio) ? std::round(ratio * 1e4) / 1e4 : ratio));
}

void factor(Linter& lint, const RopeDict& dict) {
  const Json* value = dict.find("factor");
  if (!value) {
    // phi3's own yarn, and whatever else has lists, is a longrope
    if (!needs_factor(dict) || dict.find("short_factor") || dict.find("long_factor")) return;
    lint.add("R20", dict.pointer, dict.type + " without a factor",
             "add \"factor\": the new context / the original one");
    lint.explain_all();
    return;
  }
  if (value->is_null()) return;  // transformers 5 takes the ratio of the contexts: E01 names who does not
  const std::optional<double> s = dict.number("factor");
  if (!s) {
    lint.add("R20", dict.at("factor"), "factor is " + shown(*value) + ", a number was expected",
             value->is_string() ? "write it without quotes, with a decimal point" : "write the number");
    lint.explain_all();
    return;
  }
  if (*s < 1) {
    const bool inverse = *s > 0;
    lint.add("R20", dict.at("factor"),
             "factor is " + trimmed(*s) + ": below 1 it shortens the context" +
                 (inverse ? "; some tools write 1/factor, here " + trimmed(1 / *s) : ""),
             inverse ? "write " + trimmed(1 / *s) + " if that is meant" : "write the new context / the original one");
    lint.explain_all();
    return;
  }
  if (*s > 16384) {
    lint.add("R20", dict.at("factor"), "factor is " + trimmed(*s) + ", which no context has been extended by",
             "write the new context / the original one");
    lint.explain_all();
    return;
  }
  if (value->is_number_integer()) {
    const std::vector<JsonEdit> edits = {{dict.at("factor"), *s}};
    std::vector<std::size_t> hurt;
    for (std::size_t i = 0; i < lint.engines.size(); ++i)
      if (Linter::fails(lint.readings[i]) && !Linter::fails(lint.read_changed(lint.engines[i], edits)))
        hurt.push_back(i);
    if (!hurt.empty()) {
      lint.add_for("R20", hurt, dict.at("factor"),
                   "factor is the integer " + value->dump() + ", with which " + lint.does(hurt, "stops", "stop") +
                       ": " + lint.readings[hurt.front()].error->text,
                   "write " + Json(*s).dump())
          .edits = edits;
      lint.explain(hurt, Aspect::load);
    }
  }
  if (*s == 1 && dict.type == "yarn")
    lint.add("R29", dict.at("factor"), "yarn with a factor of 1 is a plain rope",
             "take the dictionary out, or write the factor");
}

/// Lengths that well-known models were trained at, by what tells them apart.
struct Known {
  const char* model_type;
  double theta;
  int vocabulary, original;
  const char* model;
};
constexpr std::array kKnown = {Known{"qwen2", 1e6, 0, 32768, "Qwen2.5"}, Known{"qwen3", 1e6, 0, 32768, "Qwen3"},
                               Known{"llama", 5e5, 128256, 8192, "Llama 3"},
                               Known{"mistral", 1e4, 32000, 8192, "Mistral 7B v0.1"},
                               Known{"llama", 1e4, 32000, 0, "Llama 1 or 2"}};

const Known* known_model(const Linter& lint) {
  const std::optional<double> vocabulary = lint.number("vocab_size");
  double theta = lint.number("rope_theta").value_or(10000);
  if (const RopeDict* flat = lint.flat()) theta = flat->number("rope_theta").value_or(theta);
  for (const Known& one : kKnown)
    if (lint.model_type == one.model_type && theta == one.theta &&
        (one.vocabulary == 0 || (vocabulary && *vocabulary == one.vocabulary)))
      return &one;
  return nullptr;
}

void original(Linter& lint, const RopeDict& dict) {
  if (!dict.read) return;
  const auto top = lint.number("original_max_position_embeddings");
  const Json* value = dict.find("original_max_position_embeddings");
  if (!value || value->is_null()) {
    if (!needs_original(dict) || top) return;
    std::vector<std::size_t> hurt, guessed;
    const std::vector<JsonEdit> edits = {{dict.at("original_max_position_embeddings"), lint.context}};
    for (std::size_t i = 0; i < lint.engines.size(); ++i) {
      if (!Linter::fails(lint.readings[i])) guessed.push_back(i);
      else if (!Linter::fails(lint.read_changed(lint.engines[i], edits))) hurt.push_back(i);
    }
    std::string message = dict.type + " without original_max_position_embeddings: ";
    if (!hurt.empty())
      message += lint.does(hurt, "stops", "stop") + " (" + lint.readings[hurt.front()].error->text.substr(0, 120) + ")";
    if (!guessed.empty())
      message += (hurt.empty() ? "" : ", ") + lint.does(guessed, "takes", "take") + " max_position_embeddings, " +
                 std::to_string(lint.context);
    const std::string fix = "add the context the base model was trained with";
    if (hurt.empty()) lint.add("R21", Severity::warning, dict.pointer, message, fix);
    else lint.add_for("R21", hurt, dict.pointer, message, fix);
    lint.explain(hurt, Aspect::load);
    return;
  }
  const std::optional<double> length = dict.number("original_max_position_embeddings");
  if (!length) return;  // R20
  const std::string pointer = dict.at("original_max_position_embeddings");
  if (*length < 1 || *length != std::floor(*length) || *length > 2147483647) {
    lint.add("R21", pointer,
             "original_max_position_embeddings is " + trimmed(*length) + ", a number of tokens was expected",
             "write the context the base model was trained with");
    lint.explain_all();
    return;
  }
  if (lint.context > 0 && *length > lint.context)
    lint.add("R21", Severity::warning, pointer,
             "original_max_position_embeddings is " + trimmed(*length) + ", more than max_position_embeddings, " +
                 std::to_string(lint.context),
             "exchange them, or correct one");
  const Known* known = known_model(lint);
  if (!known || dict.type == "llama3" || dict.type == "longrope" || *length == known->original) return;
  if (known->original == 0 ? *length != 2048 && *length != 4096 && *length != 8192 : true)
    lint.add("R21", Severity::info, pointer,
             "the original context is " + trimmed(*length) + "; the file looks like " + known->model + ", trained at " +
                 (known->original ? std::to_string(known->original) : std::string("2048 or 4096")),
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
  const Known* known = known_model(lint);
  const auto original = dict.number("original_max_position_embeddings");
  const bool declared = original && std::abs(*original * *s - lint.context) < 1;
  const bool llama = known && known->original == 0 && lint.context > 4096;
  const bool other = known && known->original > 0 && lint.context > known->original;
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
  const std::string base = declared          ? trimmed(*original)
                           : known->original ? std::to_string(known->original)
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

void lists(Linter& lint, const RopeDict& dict) {
  for (const char* key : {"short_factor", "long_factor"}) {
    const Json* list = dict.find(key);
    if (!list) {
      if ((dict.type == "longrope" || dict.type == "su") && !list) {
        lint.add("R27", dict.pointer, dict.type + " without " + key,
                 std::string("add ") + key + ", one divisor a pair");
        lint.explain_all();
      }
      continue;
    }
    const bool numbers = list->is_array() && std::all_of(list->begin(), list->end(), [](const Json& x) {
                           return x.is_number() && std::isfinite(x.get<double>());
                         });
    if (!numbers) {
      lint.add("R27", dict.at(key), std::string(key) + " is " + shown(*list) + ", a list of numbers was expected",
               "copy the list from the model it is for");
      lint.explain_all();
      continue;
    }
    double share = 1;
    if (const auto top = lint.number("partial_rotary_factor")) share = *top;
    if (const auto own = dict.number("partial_rotary_factor")) share = *own;
    const int d = int(lint.head_dim() * share);
    if (d >= 2 && list->size() != std::size_t(d / 2)) {
      lint.add("R27", dict.at(key),
               std::string(key) + " has " + std::to_string(list->size()) + " entries for " + std::to_string(d / 2) +
                   " pairs of channels",
               "copy the list from the model it is for");
      lint.explain_all();
      continue;
    }
    double before = 0;
    bool falls = false, below = false, positive = true;
    for (const Json& x : *list) {
      const double n = x.get<double>();
      positive = positive && n > 0, below = below || n < 1, falls = falls || n < before * (1 - 1e-9);
      before = n;
    }
    if (!positive)
      lint.add("R27", dict.at(key), std::string(key) + " has an entry that is not above 0", "correct it"),
          lint.explain_all();
    else if (below)
      lint.add("R27", Severity::warning, dict.at(key),
               std::string(key) + " has an entry below 1, which speeds a pair up", "check the list");
    else if (falls)
      lint.add("R27", Severity::info, dict.at(key),
               std::string(key) + " falls somewhere: slower pairs are usually divided by more", "check the list");
  }
}

/// Llama 3.1's own scaling replaced by another one, over the length that scaling was for.
void scaled_twice(Linter& lint, const RopeDict& dict) {
  const Known* known = known_model(lint);
  if (!dict.read || !known || known->original != 8192 || std::string_view(known->model_type) != "llama") return;
  if (dict.type != "linear" && dict.type != "yarn" && dict.type != "dynamic") return;
  const auto original = dict.number("original_max_position_embeddings");
  const double length = original ? *original : lint.context;
  if (length <= 8192) return;
  lint.add("R32", dict.pointer,
           "Llama 3.1 and later have a llama3 scaling of their own, which this " + dict.type + " replaces: below " +
               trimmed(length) + " tokens the model no longer computes what it was trained with",
           "start from Llama 3's plain rope over 8192 tokens, or keep llama3 and raise its factor");
}

void theta(Linter& lint) {
  const auto check = [&](const Json* value, const std::string& pointer) {
    if (!value || value->is_null()) return;
    if (!value->is_number()) {
      if (pointer == lint.at("rope_theta")) {
        lint.add("R33", pointer, "rope_theta is " + shown(*value) + ", a number was expected",
                 "write the base as a number");
        lint.explain_all();
      }
      return;
    }
    const double n = value->get<double>();
    if (!(n > 1) || n > 1e20) {
      lint.add("R33", pointer, "rope_theta is " + trimmed(n) + ", a base such as 10000 or 1000000 was expected",
               "write the base the model was trained with");
      lint.explain_all();
    } else if (n > 1e12 || n < 100) {
      lint.add("R33", Severity::warning, pointer, "rope_theta is " + trimmed(n) + ", which is unusual",
               "check the base the model was trained with");
    }
  };
  check(lint.find("rope_theta"), lint.at("rope_theta"));
  for (const RopeDict& dict : lint.dicts) check(dict.find("rope_theta"), dict.at("rope_theta"));
}

}  // namespace

void number_rules(Linter& lint) {
  theta(lint);
  for (const RopeDict& dict : lint.dicts) {
    quoted_numbers(lint, dict);
    attention_factor(lint, dict);
    factor(lint, dict);
    original(lint, dict);
    ratio(lint, dict);
    extended_twice(lint, dict);
    lists(lint, dict);
    scaled_twice(lint, dict);
  }
}

}  // namespace ropewalk::formats::linting
