#include "formats/engines/rules.h"

#include "lib/number_text.h"

#include <cmath>
#include <numbers>

namespace ropewalk::formats::engines {

const Value& item(const Dict& rope, const std::string& key) {
  const Value* value = rope.find(key);
  if (!value) raise("KeyError", "'" + key + "'", rope.pointer);
  return *value;
}

const Value* given(const Dict& rope, const std::string& key) {
  const Value* value = rope.find(key);
  return value && !value->json.is_null() ? value : nullptr;
}

void record_method(Draft& draft, Walk& walk, const Dict& rope) {
  const Value* type = rope_type(rope);
  draft.record("method", type ? *type : walk.defaulted("default"));
}

double record_number(Draft& draft, const char* field, const Value& value, const std::string& type_error) {
  const double n = number(value, type_error);
  draft.record(field, value);
  return n;
}

void set_theta(Draft& draft, const Value& theta) {
  draft.spec().theta =
      record_number(draft, "theta", theta, "unsupported operand type(s) for ** or pow(): '{type}' and 'Tensor'");
}

void set_rotary_dim(Draft& draft, const Value& head_dim, const std::optional<Value>& partial) {
  const double dim = number(head_dim, kTimesFloat),
               share = partial ? number(*partial, "unsupported operand type(s) for *: 'int' and '{type}'") : 1.0;
  draft.spec().rotary_dim = channels(dim * share, partial ? partial->pointer : head_dim.pointer);
  draft.record("rotary_dim", partial ? *partial : head_dim);
}

void read_lists(Draft& draft, const Dict& rope, RopeLongrope& longrope) {
  for (const auto& [key, list] :
       {std::pair{"short_factor", &longrope.short_factor}, std::pair{"long_factor", &longrope.long_factor}}) {
    const Value& value = item(rope, key);
    if (!value.json.is_array())
      raise("TypeError", "new(): data must be a sequence (got " + python_type(value.json) + ")", value.pointer);
    for (const Json& entry : value.json) {
      if (!is_number(entry)) raise("TypeError", "must be real number, not " + python_type(entry), value.pointer);
      list->push_back(entry.is_boolean() ? double(entry.get<bool>()) : entry.get<double>());
    }
    draft.record(key, value);
  }
}

double longrope_attention_factor(double factor, int original_context) {
  if (factor > 1 && original_context == 1) raise("ZeroDivisionError", "float division by zero");
  return ropewalk::longrope_attention_factor(factor, original_context);
}

RopeLlama3 read_llama3(Draft& draft, const Dict& rope) {
  const auto read = [&](const char* key) {
    return record_number(draft, key, item(rope, key), "unsupported operand type(s) for /: 'int' and '{type}'");
  };
  RopeLlama3 llama3{read("factor"), read("low_freq_factor"), read("high_freq_factor"), 0};
  const Value& original = item(rope, "original_max_position_embeddings");
  if (original.json == 0)
    not_followed("an original context of 0 tokens, by which every pair is slowed", original.pointer);
  llama3.original_context = tokens(original, "unsupported operand type(s) for /: '{type}' and 'float'");
  draft.record("original_context", original);
  return llama3;
}

void read_betas_or_default(Draft& draft, Walk& walk, const Dict& rope, RopeYarn& yarn) {
  for (const auto& [key, beta, otherwise] :
       {std::tuple{"beta_fast", &yarn.beta_fast, 32}, std::tuple{"beta_slow", &yarn.beta_slow, 1}}) {
    const Value* value = rope.find(key);
    const Value used = value && truthy(value->json) ? *value : walk.defaulted(otherwise);
    *beta = record_number(draft, key, used, "can't multiply sequence by non-int of type 'float'");
    if (value) walk.used(*value);
  }
}

void check_ramp(const RopeYarn& yarn, const Dict& rope) {
  for (const auto& [key, beta] : {std::pair{"beta_fast", yarn.beta_fast}, std::pair{"beta_slow", yarn.beta_slow}}) {
    const Value* value = rope.find(key);
    const std::string pointer = value ? value->pointer : rope.pointer;
    if (beta == 0) raise("ZeroDivisionError", "float division by zero", pointer);
    const double wavelengths = yarn.original_context / (beta * 2 * std::numbers::pi);
    if (!(wavelengths > 0)) raise("ValueError", "math domain error", pointer);
    if (std::isfinite(wavelengths)) continue;
    if (yarn.truncate) raise("OverflowError", "cannot convert float infinity to integer", pointer);
    not_followed(std::string("a ") + key + " of " + Json(beta).dump() + " makes frequencies that are no numbers",
                 pointer);
  }
}

void notice_softmax_scale(Walk& walk, const HfConfig& config, const Dict& rope, double factor) {
  const Value* all_dim = given(rope, "mscale_all_dim");
  if (config.family->known || !walk.has("qk_rope_head_dim") || !all_dim || !is_number(all_dim->json)) return;
  const double g = yarn_attention_factor(factor, number(*all_dim, ""));
  if (g == 1) return;
  walk.used(*all_dim);
  walk.notice("latent attention multiplies the softmax scale by " + number_text(g * g, 6) +
                  " besides, the square of the attention factor for mscale_all_dim",
              all_dim->pointer);
}

void set_attention_factor(Draft& draft, const Dict& rope, double factor) {
  if (const Value* explicit_factor = given(rope, "attention_factor")) {
    draft.spec().attention_factor = record_number(draft, "attention_factor", *explicit_factor,
                                                  "can't multiply sequence by non-int of type 'Tensor'");
    return;
  }
  const Value* mscale = given(rope, "mscale");
  const Value* all_dim = given(rope, "mscale_all_dim");
  if (mscale && all_dim && truthy(mscale->json) && truthy(all_dim->json)) {
    const double over =
        record_number(draft, "attention_factor", *mscale, "can't multiply sequence by non-int of type 'float'");
    const double under =
        record_number(draft, "attention_factor", *all_dim, "can't multiply sequence by non-int of type 'float'");
    draft.spec().attention_factor = yarn_attention_factor(factor, over) / yarn_attention_factor(factor, under);
    return;
  }
  draft.spec().attention_factor = yarn_attention_factor(factor);
  draft.derived("attention_factor", "0.1 ln(factor) + 1");
}

}  // namespace ropewalk::formats::engines
