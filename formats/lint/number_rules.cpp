// R20, R27, R29, R33: factors, lists, bases.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "formats/engines/model_types.h"
#include "formats/lint/linter.h"

namespace ropewalk::formats::linting {
namespace {

bool needs_factor(const RopeDict& dict) {
  return dict.type == "linear" || (dict.type == "dynamic" && !dict.find("alpha")) || dict.type == "yarn" ||
         dict.type == "llama3" || dict.type == "dynamic-yarn";
}

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

/// A number nobody can use: where the dictionary is read, an error beside which nothing else is said. Where it is not,
/// a warning; an engine that reads it all the same stops in its own words (E01).
Finding& bad_number(Linter& lint, const RopeDict& dict, const std::string& pointer, std::string what, std::string fix) {
  if (dict.read) lint.explain_all();
  return lint.add("R20", dict.read ? Severity::error : Severity::warning, pointer, std::move(what), std::move(fix));
}

/// The number that stands in quotes, written without them; a factor with a decimal point, as older engines want it.
std::vector<JsonEdit> unquoted(const std::string& pointer, const Json& value, bool decimal) {
  if (!value.is_string()) return {};
  const Json number = Json::parse(value.get<std::string>(), nullptr, false);
  if (!number.is_number() || !std::isfinite(number.get<double>())) return {};
  return {{pointer, decimal ? Json(number.get<double>()) : number}};
}

void quoted_numbers(Linter& lint, const RopeDict& dict) {
  for (const char* key : kNumbers)
    if (const Json* value = dict.find(key); value && !value->is_null() && !value->is_number())
      bad_number(lint, dict, dict.at(key), std::string(key) + " is " + shown(*value) + ", a number was expected",
                 value->is_string() ? "write it without quotes" : "write the number")
          .edits = unquoted(dict.at(key), *value, false);
  for (const char* key : {"low_freq_factor", "high_freq_factor"})
    if (dict.type == "llama3" && !dict.find(key))
      bad_number(lint, dict, dict.pointer, std::string("llama3 without ") + key, std::string("add ") + key);
  for (const char* key : {"low_freq_factor", "high_freq_factor"})
    if (const auto share = dict.number(key); dict.type == "llama3" && share && !(*share > 0))
      bad_number(lint, dict, dict.at(key),
                 std::string(key) + " is " + trimmed(*share) + ", a number above 0 was expected",
                 "write what the model was trained with: 1 and 4 in Llama 3.1");
  // Hunyuan's multiplies the base
  if (const auto alpha = dict.number("alpha"); alpha && !(*alpha > 0 && *alpha <= 1e12))
    bad_number(
        lint, dict, dict.at("alpha"),
        "alpha is " + trimmed(*alpha) + ", a number above 0 was expected (1000 in Hunyuan): it multiplies the base",
        "write what the model was trained with");
  const auto low = dict.number("low_freq_factor"), high = dict.number("high_freq_factor");
  if (dict.type == "llama3" && low && high && *low > *high)  // equal in Llama 4 Scout: a step
    bad_number(lint, dict, dict.at("high_freq_factor"),
               "high_freq_factor is " + trimmed(*high) + " and low_freq_factor " + trimmed(*low) +
                   ": between them frequencies are blended, and the first cannot be below the second",
               "exchange them, or correct one");
}

/// The engines that stop at `mended`'s place, or would not stop with it mended, the `others` being mended already.
std::vector<std::size_t> stopped_by(const Linter& lint, const JsonEdit& mended, std::vector<JsonEdit> others = {}) {
  std::vector<std::size_t> hurt, failing;
  for (std::size_t i = 0; i < lint.engines.size(); ++i)
    if (const EngineReading reading = lint.read_changed(lint.engines[i], others); Linter::fails(reading))
      (reading.error->pointer == mended.pointer ? hurt : failing).push_back(i);
  others.push_back(mended);
  for (const std::size_t i : failing)
    if (!Linter::fails(lint.read_changed(lint.engines[i], others))) hurt.push_back(i);
  std::sort(hurt.begin(), hurt.end());
  return hurt;
}

/// Ends of YaRN's ramp, in rotations over the original context. Below 0, at 0 and where it overflows the logarithm of
/// some engines stops, and others have 32 and 1 built in: an error if one of those asked stops.
void betas(Linter& lint, const RopeDict& dict) {
  if (dict.type != "yarn") return;
  constexpr double kMost = 1e9;  // the fastest pair turns once in 6.3 tokens
  for (const auto& [key, usual, other, others] :
       {std::tuple{"beta_fast", 32.0, "beta_slow", 1.0}, std::tuple{"beta_slow", 1.0, "beta_fast", 32.0}})
    if (const auto beta = dict.number(key); beta && !(*beta > 0 && *beta <= kMost)) {
      const std::vector<std::size_t> hurt = stopped_by(lint, {dict.at(key), usual}, {{dict.at(other), others}});
      std::string what = std::string(key) + " is " + trimmed(*beta);
      if (*beta > kMost) what += hurt.empty() ? ", rotations that no pair makes" : ", too many for its logarithm";
      else what += ", a number of rotations above 0 was expected";
      if (*beta == 0) what += ": transformers takes 0 for the default, vllm and sglang divide by it";
      const bool fatal = dict.read && !hurt.empty();
      lint.add("R20", fatal ? Severity::error : Severity::warning, dict.at(key), what,
               "write 32 and 1, or what the model was trained with");
      if (fatal) lint.explain_all();
    }
}

/// Whatever multiplies cosines and sines: by 0 no token sees another's place, below 0 the sign of half the rope turns.
void attention_factor(Linter& lint, const RopeDict& dict) {
  if (dict.type != "yarn" && dict.type != "longrope" && dict.type != "su" && dict.type != "dynamic-yarn") return;
  const auto refuse = [&](const char* key, const std::string& what) {
    bad_number(lint, dict, dict.at(key),
               what + ", a finite number above 0 was expected: it multiplies queries and keys",
               "take it out, or write what the model was trained with");
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
    bad_number(lint, dict, dict.pointer, dict.type + " without a factor",
               "add \"factor\": the new context / the original one");
    return;
  }
  if (value->is_null()) return;  // transformers 5 takes the ratio of the contexts: E01 names who does not
  const std::optional<double> s = dict.number("factor");
  if (!s) {
    bad_number(lint, dict, dict.at("factor"), "factor is " + shown(*value) + ", a number was expected",
               value->is_string() ? "write it without quotes, with a decimal point" : "write the number")
        .edits = unquoted(dict.at("factor"), *value, true);
    return;
  }
  if (*s < 1) {
    const bool inverse = *s > 0;
    bad_number(lint, dict, dict.at("factor"),
               "factor is " + trimmed(*s) + ": below 1 it shortens the context" +
                   (inverse && std::isfinite(1 / *s) ? "; some tools write 1/factor, here " + trimmed(1 / *s) : ""),
               inverse ? "write " + trimmed(1 / *s) + " if that is meant" : "write the new context / the original one");
    return;
  }
  if (*s > 16384) {
    bad_number(lint, dict, dict.at("factor"), "factor is " + trimmed(*s) + ", which no context has been extended by",
               "write the new context / the original one");
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

/// An error where one of those asked stops at the lists or turns by them; to others they are keys nobody reads.
void bad_list(Linter& lint, const std::string& pointer, std::string what, std::string fix) {
  const auto reads = [&](const EngineReading& reading) {
    if (reading.error) return true;
    return std::any_of(reading.ropes.begin(), reading.ropes.end(), [](const EngineRope& rope) {
      return std::holds_alternative<RopeLongrope>(rope.spec.scaling) || !rope.spec.frequency_divisors.empty();
    });
  };
  const bool hurts = lint.options.engines.empty() || std::any_of(lint.readings.begin(), lint.readings.end(), reads);
  lint.add("R27", hurts ? Severity::error : Severity::warning, pointer, std::move(what), std::move(fix));
  if (hurts) lint.explain_all();
}

/// The entries of a list of the right length.
void entries(Linter& lint, const RopeDict& dict, const char* key, const Json& list) {
  double before = 0;
  bool falls = false, below = false, positive = true, fits = true;
  for (const Json& x : list) {
    const double n = x.get<double>();
    fits = fits && n <= std::numeric_limits<float>::max();
    positive = positive && n > 0, below = below || n < 1 - 1e-6, falls = falls || n < before * (1 - 1e-6);
    before = n;
  }
  if (!positive) bad_list(lint, dict.at(key), std::string(key) + " has an entry that is not above 0", "correct it");
  else if (!fits)
    bad_list(lint, dict.at(key), std::string(key) + " has an entry that float32 does not hold: its pair stands still",
             "correct it");
  else if (below)
    lint.add("R27", Severity::warning, dict.at(key), std::string(key) + " has an entry below 1, which speeds a pair up",
             "check the list");
  else if (falls)
    lint.add("R27", Severity::info, dict.at(key),
             std::string(key) + " falls somewhere: slower pairs are usually divided by more", "check the list");
}

void lists(Linter& lint, const RopeDict& dict) {
  for (const char* key : {"short_factor", "long_factor"}) {
    const Json* list = dict.find(key);
    if (!list) {
      if (dict.type == "longrope" || dict.type == "su")
        bad_list(lint, dict.pointer, dict.type + " without " + key, std::string("add ") + key + ", one divisor a pair");
      continue;
    }
    const bool numbers = list->is_array() && std::all_of(list->begin(), list->end(), [](const Json& x) {
                           return x.is_number() && std::isfinite(x.get<double>());
                         });
    double share = 1;
    if (const auto top = lint.number("partial_rotary_factor")) share = *top;
    if (const auto own = dict.number("partial_rotary_factor")) share = *own;
    const int d = int(lint.head_dim() * share);
    if (!numbers)
      bad_list(lint, dict.at(key), std::string(key) + " is " + shown(*list) + ", a list of numbers was expected",
               "copy the list from the model it is for");
    else if (d >= 2 && list->size() != std::size_t(d / 2))
      bad_list(lint, dict.at(key),
               std::string(key) + " has " + std::to_string(list->size()) + " entries for " + std::to_string(d / 2) +
                   " pairs of channels",
               "copy the list from the model it is for");
    else entries(lint, dict, key, *list);
  }
}

/// A base that is null. transformers 5 fills in what a dictionary lacks from the top level, and multiplies by what it
/// has: null in a dictionary, or at the top level where no dictionary has a base, stops it, vllm and sglang. llama.cpp's
/// converter and exllamav2 take 10000: an error if one of those asked stops.
void null_theta(Linter& lint) {
  const auto is_null = [](const Json* value) { return value && value->is_null(); };
  const auto say = [&](const std::string& pointer) {
    const std::vector<std::size_t> hurt = stopped_by(lint, {pointer, 10000.0});
    lint.add("R33", lint.compared && !hurt.empty() ? Severity::error : Severity::warning, pointer,
             "rope_theta is null, a number was expected: " +
                 (hurt.empty() ? "engines in Python stop" : lint.does(hurt, "stops", "stop")) +
                 " where they raise it to a power",
             "write the base the model was trained with, or take it out for the model's default");
    if (!hurt.empty()) lint.explain_all();
  };
  bool in_a_dictionary = false;
  for (const RopeDict& dict : lint.dicts) {
    if (!dict.read) continue;
    if (is_null(dict.find("rope_theta"))) return say(dict.at("rope_theta"));
    in_a_dictionary = in_a_dictionary || dict.find("rope_theta");
  }
  if (!in_a_dictionary && is_null(lint.find("rope_theta"))) say(lint.at("rope_theta"));
}

void theta(Linter& lint) {
  null_theta(lint);
  const auto check = [&](const Json* value, const std::string& pointer) {
    if (!value || value->is_null()) return;
    if (!value->is_number()) {
      if (pointer != lint.at("rope_theta")) return;  // R20's
      // one that a dictionary's hides from those asked stops none of them
      const bool hurts =
          lint.options.engines.empty() || value->is_boolean() || !stopped_by(lint, {pointer, 10000.0}).empty();
      lint.add("R33", hurts ? Severity::error : Severity::warning, pointer,
               "rope_theta is " + shown(*value) + ", a number was expected", "write the base as a number");
      if (hurts) lint.explain_all();
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

/// Code that is not transformers' own has a base of its own where the file is silent.
void guessed_base(Linter& lint) {
  if (lint.compared || lint.declared.empty() || engines::transformers_knows(lint.model_type)) return;
  const auto& from = lint.declared.front().spec.provenance;
  const bool guessed = std::any_of(from.begin(), from.end(), [](const RopeProvenance& one) {
    return one.field == "theta" && one.pointer.empty() && one.source.starts_with("default of");
  });
  if (guessed)
    lint.add("R33", Severity::info, lint.prefix,
             "there is no rope_theta, and the class's own code may have any: 10000 is a guess",
             "write the base the model was trained with");
}

/// Numbers of the top level that the rope of one class is made of.
void own_names(Linter& lint) {
  for (const char* key : {"rotary_pct", "rope_local_base_freq", "rotary_emb_base"}) {
    const Json* value = lint.find(key);
    if (!value || value->is_null()) continue;
    const std::string pointer = lint.at(key);
    const bool read =
        (lint.reference.error && lint.reference.error->pointer == pointer) ||
        std::any_of(lint.reference.ropes.begin(), lint.reference.ropes.end(), [&](const EngineRope& rope) {
          return std::any_of(rope.spec.provenance.begin(), rope.spec.provenance.end(),
                             [&](const RopeProvenance& from) { return from.pointer == pointer; });
        });
    const auto number = lint.number(key);
    const bool share = std::string_view(key) == "rotary_pct";
    if (number && (!share || (*number > 0 && *number <= 1))) continue;
    Finding& finding =
        lint.add("R20", read ? Severity::error : Severity::warning, pointer,
                 std::string(key) + " is " + (number ? trimmed(*number) : shown(*value)) +
                     (share ? ", the share of a head's channels that rotate was expected, above 0 and at most 1"
                            : ", a number was expected"),
                 value->is_string() ? "write it without quotes" : "write what the model was trained with");
    if (!number) finding.edits = unquoted(pointer, *value, false);
    if (read) lint.explain_all();
  }
}

}  // namespace

void number_rules(Linter& lint) {
  theta(lint);
  own_names(lint);
  guessed_base(lint);
  for (const RopeDict& dict : lint.dicts) {
    quoted_numbers(lint, dict);
    betas(lint, dict);
    attention_factor(lint, dict);
    factor(lint, dict);
    lists(lint, dict);
  }
}

}  // namespace ropewalk::formats::linting
