// ExLlamaV2 0.3.2 (exllamav2/config.py, rope.py, device.py) and ExLlamaV3 1.6.5 (exllamav3/model/config.py,
// util/rope.py, util/file.py, architecture/*.py): from source, not run.
#include <cmath>
#include <limits>

#include "formats/engines/rules.h"

namespace ropewalk::formats::engines {
namespace {

/// read(dict, type, keys, default): the first key that is there and not None; an int passes for a float, a whole float
/// for an int.
Value typed(const Walk& walk, std::initializer_list<const char*> keys, bool want_int, const Json& otherwise,
            bool wrong_type_as_missing = false) {
  for (const char* key : keys) {
    const Json* value = walk.raw(key);
    if (!value || value->is_null()) continue;
    const bool fits = want_int
                          ? value->is_number_integer() || value->is_boolean() ||
                                (value->is_number_float() && value->get<double>() == std::floor(value->get<double>()))
                          : is_number(*value);
    if (fits) return walk.get(key, nullptr);
    if (!wrong_type_as_missing)
      raise("TypeError", std::string("Value for ") + key + " is not of expected type", walk.pointer_to(key));
  }
  return walk.defaulted(otherwise);
}

/// read(dict, dict, key, None).
std::optional<Dict> dictionary(const Walk& walk, std::initializer_list<const char*> keys) {
  for (const char* key : keys) {
    const Json* value = walk.raw(key);
    if (!value || value->is_null()) continue;
    if (!value->is_object())
      raise("TypeError", std::string("Value for ") + key + " is not of expected type", walk.pointer_to(key));
    return Dict(*value, walk.pointer_to(key));
  }
  return std::nullopt;
}

Value head_dim(const Walk& walk) {
  if (const Json* given = walk.raw("head_dim"); given && !given->is_null() && truthy(*given))
    return typed(walk, {"head_dim"}, true, nullptr);
  const Family& family = family_of(walk.model_type());
  if (std::string_view(family.model_type) == "gemma3_text") return walk.defaulted(family.head_dim);
  return walk.defaulted(split_head_dim(walk));
}

void not_run(Walk& walk, const char* release) {
  walk.notice(walk.engine.title() + " was not run: its rules are from the source of " + release);
  if (!family_of(walk.model_type()).known)
    walk.notice("the rules of the llama architecture are used for model type '" + walk.model_type() + "'",
                walk.has("model_type") ? walk.pointer_to("model_type") : "");
}

std::string name_of(const Value* type) { return type && type->json.is_string() ? type->json.get<std::string>() : ""; }

// ExLlamaV2 -----------------------------------------------------------------------------------------------------------

class ExLlama2 {
 public:
  explicit ExLlama2(Walk& walk) : walk_(walk), draft_(walk) {}

  EngineRope build(EngineReading& reading) {
    const Value length = typed(
        walk_, {"max_sequence_length", "model_max_length", "max_position_embeddings", "max_seq_len", "n_positions"},
        true, 2048);
    max_length_ = walk_.options.context.value_or(tokens(length, ""));
    reading.context = max_length_;
    draft_.spec().context = max_length_;
    set_theta(draft_, typed(walk_, {"rope_theta"}, false, 10000.0));
    set_rotary_dim(draft_, head_dim(walk_), typed(walk_, {"partial_rotary_factor"}, false, 1.0));
    const std::optional<Dict> rope = dictionary(walk_, {"rope_scaling"});
    method(rope, length);
    take_flags();
    return draft_.finish();
  }

 private:
  const ExLlamaV2Flags& flags() const { return walk_.options.exllamav2; }
  Value told(const Json& value) const { return {value, "", "command line"}; }

  /// -ra raises the base whatever the method; -rs divides positions, which nothing but a plain or linear rope can say.
  void take_flags() {
    RopeSpec& spec = draft_.spec();
    if (flags().alpha) {
      if (!(*flags().alpha > 0)) not_followed("an alpha of " + Json(*flags().alpha).dump(), "");
      draft_.record("theta", told(*flags().alpha));
      spec.theta = ntk_base(spec.theta, *flags().alpha, spec.rotary_dim);
    }
    if (!flags().scale) return;
    if (!(*flags().scale > 0)) not_followed("a scale of " + Json(*flags().scale).dump(), "");
    if (!std::holds_alternative<RopeUnscaled>(spec.scaling) && !std::holds_alternative<RopeLinear>(spec.scaling))
      not_followed("-rs beside another method", "");
    draft_.record("factor", told(*flags().scale));
    spec.scaling = RopeLinear{*flags().scale};
    draft_.rope.position_divisor = *flags().scale;
  }

  void method(const std::optional<Dict>& rope, const Value& length) {
    if (flags().yarn) return forced_yarn(rope, length);
    if (!rope || rope->size() == 0) {
      draft_.record("method", walk_.defaulted("default"));
      return;
    }
    const Value* type = given(*rope, "type");
    const Value* modern = given(*rope, "rope_type");
    if (type && modern && truthy(type->json) && truthy(modern->json))
      raise("AssertionError", "rope_scaling key has both `type` and `rope_type` subkeys", rope->pointer);
    if (!type || !truthy(type->json)) type = modern;
    draft_.record("method", type ? *type : walk_.defaulted("default"));
    const std::string name = name_of(type);
    if (name == "linear") linear(*rope);
    else if (name == "su" || name == "longrope") su(*rope);
    else if (name == "yarn") yarn(*rope, length);
    else if (name == "llama3") draft_.spec().scaling = read_llama3(draft_, *rope);
    else if (!name.empty() && name != "default")
      walk_.notice(walk_.engine.title() + " does not know rope type '" + name.substr(0, 40) + "' and runs a plain rope",
                   type->pointer);
  }

  /// -ry: the factor is replaced; without yarn in the file the length of the file is the original context.
  void forced_yarn(const std::optional<Dict>& rope, const Value& length) {
    const Value* type = rope ? rope_type(*rope) : nullptr;
    Dict forced = rope && name_of(type) == "yarn" ? *rope : Dict();
    forced.set("factor", told(*flags().yarn));
    if (forced.size() == 1) forced.set("original_max_position_embeddings", length);
    draft_.record("method", told("yarn"));
    yarn(forced, length);
  }

  void require(bool there, const std::string& text, const std::string& pointer) {
    if (!there) raise("AssertionError", text, pointer);
  }
  void linear(const Dict& rope) {
    require(rope.contains("factor"), "'factor' missing from 'rope_scaling' config", rope.pointer);
    const double s = record_number(draft_, "factor", *rope.find("factor"),
                                   "unsupported operand type(s) for /=: 'Tensor' and '{type}'");
    draft_.spec().scaling = RopeLinear{s == 0 ? 1 : s};
    draft_.rope.position_divisor = s == 0 ? 1 : s;
  }
  void su(const Dict& rope) {
    require(rope.contains("long_factor"), "'long_factor' missing from 'rope_scaling' config ('su' mode)", rope.pointer);
    require(rope.contains("short_factor"), "'short_factor' missing from 'rope_scaling' config ('su' mode)",
            rope.pointer);
    require(walk_.has("original_max_position_embeddings"),
            "'original_max_position_embeddings' required for 'su' scaling", rope.pointer);
    RopeLongrope longrope;
    read_lists(draft_, rope, longrope);
    const Value original = walk_.get("original_max_position_embeddings", nullptr);
    longrope.original_context = tokens(original, "'>' not supported between instances of 'int' and '{type}'");
    draft_.record("original_context", original);
    const bool is_long = max_length_ > longrope.original_context;
    // 1 when short
    draft_.spec().attention_factor =
        longrope_attention_factor(double(max_length_) / longrope.original_context, longrope.original_context);
    (is_long ? longrope.short_factor : longrope.long_factor) = is_long ? longrope.long_factor : longrope.short_factor;
    walk_.notice(std::string("the ") + (is_long ? "long" : "short") + " list is used at every length, by max_seq_len",
                 rope.pointer);
    draft_.spec().scaling = std::move(longrope);
  }
  /// The correction range is taken over max_seq_len, not over the original context, which only switches the method on;
  /// 32/1, no attention_factor.
  void yarn(const Dict& rope, const Value& length) {
    const double s = record_number(draft_, "factor", item(rope, "factor"), "must be real number, not {type}");
    const Value& original = item(rope, "original_max_position_embeddings");
    draft_.record("original_context", walk_.options.context ? walk_.defaulted(max_length_) : length);
    walk_.used(original);
    if (max_length_ <= tokens(original, "'>' not supported between instances of 'int' and '{type}'")) {
      walk_.notice("yarn is off, since max_seq_len does not exceed the original context: a plain rope", rope.pointer);
      return;
    }
    if (s <= 0) raise("ValueError", "math domain error", item(rope, "factor").pointer);
    walk_.notice("yarn's correction range is that of " + std::to_string(max_length_) +
                     " tokens (max_seq_len) instead of the original context",
                 original.pointer);
    draft_.record("beta_fast", walk_.defaulted(32));
    draft_.record("beta_slow", walk_.defaulted(1));
    draft_.spec().attention_factor = 0.1 * std::log(s) + 1;
    draft_.spec().scaling = RopeYarn{s, max_length_};
  }

  Walk& walk_;
  Draft draft_;
  int max_length_ = 0;
};

// ExLlamaV3 -----------------------------------------------------------------------------------------------------------

class ExLlama3 {
 public:
  explicit ExLlama3(Walk& walk, const std::string& layer_type) : walk_(walk), draft_(walk) {
    draft_.rope.layer_type = layer_type;
  }

  /// read_rope_settings_default. `nothing`: of an empty dictionary, as gemma3's sliding layers.
  EngineRope build(double default_theta, bool nothing) {
    const std::optional<Dict> rope = nothing ? std::nullopt : dictionary(walk_, {"rope_scaling", "rope_parameters"});
    context_ = typed(walk_, {"max_position_embeddings"}, true, nullptr);
    draft_.spec().context = walk_.options.context.value_or(context_.json.is_null() ? 8192 : tokens(context_, ""));
    set_theta(draft_, nothing ? walk_.defaulted(default_theta) : theta(default_theta));
    partial_ = nothing ? walk_.defaulted(1.0) : partial();
    const Value rotary = nothing ? walk_.defaulted(nullptr) : typed(walk_, {"rotary_dim"}, true, nullptr);
    if (truthy(rotary.json)) set_rotary_dim(draft_, rotary, std::nullopt);
    else set_rotary_dim(draft_, head_dim(walk_), partial_);
    const Value* type = rope ? rope_type(*rope) : nullptr;
    draft_.record("method", type ? *type : walk_.defaulted("default"));
    const std::string name = name_of(type);
    if (!type || type->json.is_null() || name == "default" || name == "mrope") {
    } else if (name == "linear") draft_.spec().scaling = RopeLinear{number_or(*rope, "factor", 1)};
    else if (name == "llama3") llama3(*rope);
    else if (name == "yarn") yarn(*rope);
    else if (name == "longrope" || name == "su") longrope(*rope);
    else if (name == "proportional") proportional(*rope);
    else
      raise("ValueError", "Unknown rope_type: " + (type->json.is_string() ? name : python_repr(type->json)),
            type->pointer);
    return draft_.finish();
  }

 private:
  /// ["rope_theta", "rope_parameters->rope_theta"]: the top level first.
  Value theta(double otherwise) {
    const Value top = typed(walk_, {"rope_theta"}, false, nullptr, true);
    if (!top.json.is_null()) return top;
    const Value* inside = in_parameters("rope_theta");
    return inside && is_number(inside->json) ? *inside : walk_.defaulted(otherwise);
  }
  Value partial() {
    const Value top = typed(walk_, {"partial_rotary_factor"}, false, nullptr, true);
    if (!top.json.is_null()) return top;
    const Value* inside = in_parameters("partial_rotary_factor");
    return inside && is_number(inside->json) ? *inside : walk_.defaulted(1.0);
  }
  const Value* in_parameters(const char* key) {
    const Json* parameters = walk_.raw("rope_parameters");
    if (!parameters || !parameters->is_object()) return nullptr;
    parameters_ = Dict(*parameters, walk_.pointer_to("rope_parameters"));
    return parameters_.find(key);
  }
  double number_or(const Dict& rope, const char* key, double otherwise) {
    const Value* value = rope.find(key);
    return record_number(draft_, key, value ? *value : walk_.defaulted(otherwise),
                         "unsupported operand type(s) for /: 'Tensor' and '{type}'");
  }
  void llama3(const Dict& rope) {
    RopeLlama3 llama3{number_or(rope, "factor", 8), number_or(rope, "low_freq_factor", 1),
                      number_or(rope, "high_freq_factor", 4), 8192};
    const Value* original = rope.find("original_max_position_embeddings");
    llama3.original_context =
        tokens(original ? *original : walk_.defaulted(8192), "unsupported operand type(s) for /: '{type}' and 'float'");
    draft_.record("original_context", original ? *original : walk_.defaulted(8192));
    draft_.spec().scaling = llama3;
  }
  /// With an original context the factor is the ratio, as in transformers 4.51 to 4.55.
  void yarn(const Dict& rope) {
    if (context_.json.is_null()) raise("AssertionError", "YaRN scaling requires explicit max_position_embeddings");
    const int served = tokens(context_, "");
    const Value* original = given(rope, "original_max_position_embeddings");
    if (original && !is_number(original->json))
      raise("ValueError",
            "YaRN original_max_position_embeddings must be an integer, got " + python_repr(original->json),
            original->pointer);
    RopeYarn yarn{1, original ? tokens(*original, "") : served};
    draft_.record("original_context", original ? *original : context_);
    if (original) {
      yarn.factor = double(served) / yarn.original_context;
      draft_.derived("factor", "max_position_embeddings / original context");
      if (const Value* factor = rope.find("factor")) {
        if (!is_number(factor->json) || number(*factor, "") != yarn.factor)
          walk_.notice(
              walk_.engine.title() + " discards the factor " + python_repr(factor->json) +
                  " and takes max_position_embeddings / original_max_position_embeddings = " + Json(yarn.factor).dump(),
              factor->pointer);
        walk_.used(*factor);
      }
    } else {
      const Value* factor = rope.find("factor");
      yarn.factor = record_number(draft_, "factor", factor ? *factor : walk_.defaulted(nullptr), kCompared);
    }
    attention(rope, yarn.factor);
    yarn.beta_fast = beta(rope, "beta_fast", 32);
    yarn.beta_slow = beta(rope, "beta_slow", 1);
    if (const Value* truncate = rope.find("truncate")) {
      yarn.truncate = truthy(truncate->json);
      draft_.record("truncate", *truncate);
    }
    check_ramp(yarn, rope);
    draft_.spec().scaling = yarn;
  }
  /// mscale counts for DeepSeek's architectures only; llama_4_scaling_beta replaces the factor by 1.
  void attention(const Dict& rope, double s) {
    const Value* own = given(rope, "attention_factor");
    const Value* beta = rope.find("llama_4_scaling_beta");
    if (own) draft_.spec().attention_factor = record_number(draft_, "attention_factor", *own, kTimesFloat);
    else if (beta && truthy(beta->json)) {
      draft_.record("attention_factor", *beta);
      draft_.spec().attention_factor = 1;
    } else {
      draft_.derived("attention_factor", "0.1 ln(factor) + 1");
      draft_.spec().attention_factor = yarn_attention_factor(s);
    }
  }
  double beta(const Dict& rope, const char* key, int otherwise) {
    const Value* value = rope.find(key);
    return record_number(draft_, key, value ? *value : walk_.defaulted(otherwise),
                         "unsupported operand type(s) for *: '{type}' and 'int'");
  }
  void longrope(const Dict& rope) {
    RopeLongrope longrope;
    read_lists(draft_, rope, longrope);
    const Value* inside = rope.find("original_max_position_embeddings");
    const Value original = inside ? *inside : typed(walk_, {"original_max_position_embeddings"}, true, nullptr);
    longrope.original_context = tokens(original, "'>' not supported between instances of 'int' and '{type}'");
    draft_.record("original_context", original);
    const int served = tokens(context_, "'>' not supported between instances of '{type}' and 'int'");
    const bool is_long = draft_.spec().context > longrope.original_context;
    (is_long ? longrope.short_factor : longrope.long_factor) = is_long ? longrope.long_factor : longrope.short_factor;
    walk_.notice(
        std::string("the ") + (is_long ? "long" : "short") + " list is used at every length, by the context asked for",
        rope.pointer);
    draft_.spec().attention_factor =
        longrope_attention_factor(double(served) / longrope.original_context, longrope.original_context);
    draft_.spec().scaling = std::move(longrope);
  }
  void proportional(const Dict& rope) {
    const Value head = head_dim(walk_);
    const int whole = channels(number(head, kTimesFloat), head.pointer);
    const double share = number(partial_, kTimesFloat);
    if (!(share > 0 && share <= 1)) not_followed("a partial_rotary_factor of " + Json(share).dump(), partial_.pointer);
    draft_.spec().rotary_dim = 2 * int(share * whole / 2);
    draft_.spec().scaling = RopeProportional{number_or(rope, "factor", 1), whole};
  }

  Walk& walk_;
  Draft draft_;
  Dict parameters_;
  Value context_, partial_;
};

}  // namespace

void read_as_exllamav2(Walk& walk, EngineReading& reading) {
  not_run(walk, "0.3.2");
  const std::string type = walk.model_type();
  if (type == "gpt_oss" || type == "gemma3_text") {
    if (type == "gpt_oss")
      raise("AssertionError", "Unrecognized architecture of model type 'gpt_oss'", walk.pointer_to("model_type"));
    not_followed("the two rotary tables of gemma3 in exllamav2", walk.pointer_to("model_type"));
  }
  reading.ropes.push_back(ExLlama2(walk).build(reading));
}

void read_as_exllamav3(Walk& walk, EngineReading& reading) {
  not_run(walk, "1.6.5");
  const bool gemma3 = walk.model_type() == "gemma3_text";
  reading.ropes.push_back(ExLlama3(walk, gemma3 ? "full_attention" : "").build(gemma3 ? 1e6 : 10000.0, false));
  if (gemma3) reading.ropes.push_back(ExLlama3(walk, "sliding_attention").build(10000.0, true));
  reading.context = reading.ropes[0].spec.context;
}

}  // namespace ropewalk::formats::engines
