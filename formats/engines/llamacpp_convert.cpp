#include "formats/engines/llamacpp_convert.h"

#include <cmath>

#include "formats/engines/rules.h"

namespace ropewalk::formats::engines {
namespace {

using Type = ConvertedKey::Type;

/// struct.pack("f") and struct.pack("I") of gguf-py.
void add(ConvertedRope& out, const char* name, Type type, const Value& value) {
  if (type == Type::f32 && !is_number(value.json)) raise("error", "required argument is not a float", value.pointer);
  if (type == Type::u32 && !(value.json.is_number_integer() || value.json.is_boolean()))
    raise("error", "required argument is not an integer", value.pointer);
  if (type == Type::u32 && (number(value, "") < 0 || number(value, "") > 4294967295.0))
    raise("error", "'I' format requires 0 <= number <= 4294967295", value.pointer);
  out.keys.push_back({name, type, value});
}

/// Converts each step in float32, as torch does it on single numbers; pow is rounded from double.
std::vector<float> llama3_divisors(int dim, double base, double factor, double low, double high, double original) {
  std::vector<float> divisors;
  for (int channel = 0; channel < dim; channel += 2) {
    const float frequency = 1.0f / float(std::pow(base, double(float(channel) / float(dim))));
    const float wavelength = float(2 * M_PI) / frequency;
    if (wavelength < float(original / high)) divisors.push_back(1);
    else if (wavelength > float(original / low)) divisors.push_back(float(factor));
    else {
      const float smooth = (float(original) / wavelength - float(low)) / float(high - low);
      divisors.push_back(1.0f / ((1.0f - smooth) / float(factor) + smooth));
    }
  }
  return divisors;
}

double number_or(Walk& walk, const Dict& rope, const char* key, double otherwise) {
  const Value* value = rope.find(key);
  if (!value) return otherwise;
  walk.used(*value);
  return number(*value, "unsupported operand type(s) for /: '{type}' and 'float'");
}

/// sqrt(1 + ln s / ln L) or g(s), by the type's name (conversion/phi.py, Phi3MiniModel.generate_extra_tensors).
void phi3_factors(ConvertedRope& out, const Dict& rope, const std::string& type_key, double context, int original) {
  const Value* longs = given(rope, "long_factor");
  const Value* shorts = given(rope, "short_factor");
  if (!longs || !truthy(longs->json)) return;
  const Value* type = rope.find(type_key);
  const std::string name = type && type->json.is_string() ? type->json.get<std::string>() : "";
  if (name.empty()) raise("KeyError", "'Missing the required key rope_scaling.type'", rope.pointer);
  const double s = context / original;
  double attention = 1;
  if (name == "su" || name == "longrope") attention = longrope_attention_factor(s, original);
  else if (name == "yarn") attention = yarn_attention_factor(s);
  else raise("NotImplementedError", "The rope scaling type " + name + " is not supported yet", type->pointer);
  add(out, "rope.scaling.attn_factor", Type::f32, {attention, "", "by the converter, of " + name});
  if (!shorts)
    raise("KeyError", "'Missing the required key rope_scaling.long_factor or rope_scaling_short_factor'", rope.pointer);
  const auto length = [](const Value& list) { return list.json.is_array() ? list.json.size() : 0; };
  const Json half = out.rotary_dim / 2.0;
  if (length(*longs) != length(*shorts) || double(length(*longs)) != out.rotary_dim / 2.0)
    raise("ValueError",
          "The length of rope long and short factors must be " + half.dump() + ". long_factors = " +
              std::to_string(length(*longs)) + ", short_factors = " + std::to_string(length(*shorts)) + ".",
          longs->pointer);
  for (const auto& [list, target] : {std::pair{longs, &out.factors_long}, std::pair{shorts, &out.factors_short}})
    for (const Json& entry : list->json)
      target->push_back(float(number({entry, list->pointer}, "must be real number, not {type}")));
  out.freqs_pointer = rope.pointer;
}

// llama.cpp 0.5 -------------------------------------------------------------------------------------------------------

class Converter05 {
 public:
  Converter05(Walk& walk, const HfVersion& beside) : walk_(walk), beside_(beside) {}

  ConvertedRope convert() {
    load();
    out_.arch = llama_cpp_arch(walk_.model_type());
    out_.context = context_;
    mirror();
    dimension();
    if (out_.arch == "phi3") phi3();
    else common();
    return std::move(out_);
  }

 private:
  /// AutoConfig(...).to_dict(), or the file itself where that raises.
  void load() {
    context_ = walk_.get("max_position_embeddings", nullptr);
    if (walk_.has("rope_theta")) theta_ = walk_.get("rope_theta", nullptr);
    if (walk_.has("original_max_position_embeddings"))
      original_ = walk_.get("original_max_position_embeddings", nullptr);
    if (walk_.has("head_dim")) head_dim_ = walk_.get("head_dim", nullptr);
    if (!family_of(walk_.model_type()).known &&
        walk_.has("qk_rope_head_dim"))  // latent attention: the part that rotates
      head_dim_ = walk_.get("qk_rope_head_dim", nullptr);
    try {
      HfConfig config = load_hf_config(walk_, beside_, true);
      context_ = config.context;
      original_ = config.original;
      head_dim_ = head_dim_attribute(walk_, config, beside_);
      if (config.v5) {
        theta_.reset();
        rope_ = config.rope ? *config.rope : Dict();
        for (auto& [layer, rope] : config.layers) layers_.push_back({layer, rope ? *rope : Dict()});
      } else {
        theta_ = config.theta;
        local_theta_ = local_theta();
        if (walk_.has("rope_parameters")) take_file_dictionary("rope_parameters");
        else if (config.rope) rope_ = *config.rope;
      }
    } catch (const Raised& raised) {
      if (raised.error.kind == kNotFollowed) throw;
      walk_.notice("transformers " + shown(beside_) + " refuses the file (" + raised.error.kind + ": " +
                       raised.error.text.substr(0, 160) + "), and the converter reads it itself",
                   raised.error.pointer);
      local_theta_ = local_theta();
      take_file_dictionary(walk_.has("rope_parameters") ? "rope_parameters" : "rope_scaling");
    }
  }
  static std::string shown(const HfVersion& version) {
    std::string text;
    for (int number : version.numbers) text += (text.empty() ? "" : ".") + std::to_string(number);
    return text;
  }
  std::optional<Value> local_theta() const {
    for (const char* key :
         {"local_rope_theta", "rope_local_theta", "rope_theta_local", "swa_rope_theta", "rope_local_base_freq"})
      if (walk_.has(key)) return walk_.get(key, nullptr);
    if (std::string_view(family_of(walk_.model_type()).model_type) == "gemma3_text") return walk_.defaulted(10000.0);
    return std::nullopt;
  }
  void take_file_dictionary(const char* key) {
    const Json* dict = walk_.raw(key);
    if (!dict || !truthy(*dict)) return;
    if (dict->is_array() || dict->is_string())
      raise("TypeError", "'" + python_type(*dict) + "' object does not support item assignment", walk_.pointer_to(key));
    if (!dict->is_object())
      raise("TypeError", "argument of type '" + python_type(*dict) + "' is not iterable", walk_.pointer_to(key));
    rope_ = Dict(*dict, walk_.pointer_to(key));
    for (const char* layer : {"full_attention", "sliding_attention"})
      if (const Value* nested = rope_.find(layer); nested && nested->json.is_object())
        layers_.push_back({layer, Dict(nested->json, nested->pointer)});
  }

  const Dict* layer(const std::string& name) const {
    for (const auto& [key, rope] : layers_)
      if (key == name) return &rope;
    return nullptr;
  }
  /// The dictionary of the full layers, or the only one.
  const Dict& full() const { return layer("full_attention") ? *layer("full_attention") : rope_; }

  /// "Ensure global params are mirrored in rope_parameters".
  void mirror() {
    if (layer("full_attention") || layer("sliding_attention")) return;
    if (local_theta_) {
      Dict local;
      local.set("rope_theta", *local_theta_);
      layers_.push_back({"sliding_attention", local});
    }
    if (theta_ && !theta_->json.is_null()) rope_.set_default("rope_theta", *theta_);
    if (const Value* type = rope_.find("type"); type && !type->json.is_null()) rope_.set_default("rope_type", *type);
    if (walk_.has("partial_rotary_factor"))
      rope_.set_default("partial_rotary_factor", walk_.get("partial_rotary_factor", nullptr));
    if (original_ && !original_->json.is_null()) rope_.set_default("original_max_position_embeddings", *original_);
  }

  void dimension() {
    const bool given_width = head_dim_ && !head_dim_->json.is_null();
    out_.rotary_dim_from = given_width ? *head_dim_ : walk_.defaulted(split_head_dim(walk_));
    const double width = number(out_.rotary_dim_from, kTimesFloat);
    out_.rotary_dim = channels(width, out_.rotary_dim_from.pointer);
  }

  void common() {
    const Dict& rope = full();
    if (const Value* type = given(rope, "rope_type")) {
      const std::string name = type->json.is_string() ? type->json.get<std::string>() : "";
      const Value* factor = given(rope, "factor");
      if (name == "linear" && factor) {
        add(out_, "rope.scaling.type", Type::text, {"linear", type->pointer});
        add(out_, "rope.scaling.factor", Type::f32, *factor);
      } else if (name == "yarn" && factor) {
        yarn(rope, *type, *factor);
      } else if (name == "su" || name == "longrope") {
        add(out_, "rope.scaling.type", Type::text, {"longrope", type->pointer});
      } else if (!type->json.is_string()) {
        raise("AttributeError", "'" + python_type(type->json) + "' object has no attribute 'lower'", type->pointer);
      } else if (name == "llama3") {
        if (out_.arch == "llama" || out_.arch == "llama4") llama3(rope);
      } else if (name != "dynamic" && name != "default") {
        walk_.notice("the converter warns of an unknown RoPE type and writes no scaling", type->pointer);
      }
    }
    if (const Value* theta = given(rope, "rope_theta")) add(out_, "rope.freq_base", Type::f32, *theta);
    if (const Dict* sliding = layer("sliding_attention"))
      if (const Value* theta = given(*sliding, "rope_theta")) add(out_, "rope.freq_base_swa", Type::f32, *theta);
  }
  void yarn(const Dict& rope, const Value& type, const Value& factor) {
    add(out_, "rope.scaling.type", Type::text, {"yarn", type.pointer});
    add(out_, "rope.scaling.factor", Type::f32, factor);
    add(out_, "rope.scaling.original_context_length", Type::u32, item(rope, "original_max_position_embeddings"));
    const auto copy = [&](const char* key, const char* name) {
      if (const Value* value = given(rope, key)) add(out_, name, Type::f32, *value);
    };
    copy("extrapolation_factor", "rope.scaling.yarn_ext_factor");
    copy(rope.contains("attention_factor") ? "attention_factor" : "attn_factor", "rope.scaling.yarn_attn_factor");
    copy("beta_fast", "rope.scaling.yarn_beta_fast");
    copy("beta_slow", "rope.scaling.yarn_beta_slow");
    if (out_.arch == "deepseek2" || out_.arch == "mistral3") copy("mscale_all_dim", "rope.scaling.yarn_log_multiplier");
  }
  void llama3(const Dict& rope) {
    out_.freqs = llama3_divisors(out_.rotary_dim, number_or(walk_, rope, "rope_theta", 10000),
                                 number_or(walk_, rope, "factor", 8), number_or(walk_, rope, "low_freq_factor", 1),
                                 number_or(walk_, rope, "high_freq_factor", 4),
                                 number_or(walk_, rope, "original_max_position_embeddings", 8192));
    out_.freqs_pointer = rope.pointer;
  }

  void phi3() {
    const Value& original = item(rope_, "original_max_position_embeddings");
    const Value* partial = rope_.find("partial_rotary_factor");
    const int width = walk_.positive_int("hidden_size"), heads = walk_.positive_int("num_attention_heads");
    out_.rotary_dim =
        channels((partial ? number(*partial, "unsupported operand type(s) for *: '{type}' and 'int'") : 1.0) * width,
                 rope_.pointer) /
        heads;
    out_.rotary_dim_from = partial ? *partial : walk_.defaulted(split_head_dim(walk_));
    phi3_factors(out_, rope_, "rope_type", number(context_, "unsupported operand type(s) for /: '{type}' and 'int'"),
                 tokens(original, "unsupported operand type(s) for /: 'int' and '{type}'"));
    add(out_, "rope.scaling.original_context_length", Type::u32, original);
    add(out_, "rope.freq_base", Type::f32, item(full(), "rope_theta"));
  }

  Walk& walk_;
  const HfVersion& beside_;
  ConvertedRope out_;
  Dict rope_;                                         // self.rope_parameters
  std::vector<std::pair<std::string, Dict>> layers_;  // its nested members
  Value context_;
  std::optional<Value> theta_, local_theta_, original_, head_dim_;
};

}  // namespace

std::string llama_cpp_arch(const std::string& model_type) {
  if (model_type == "llama" || model_type == "mistral" || model_type == "mixtral") return "llama";
  if (model_type == "llama4_text") return "llama4";
  if (model_type == "gemma3_text") return "gemma3";
  if (model_type == "gpt_oss") return "gpt-oss";
  if (model_type == "deepseek_v2" || model_type == "deepseek_v3" || model_type == "deepseek_v32" ||
      model_type == "kimi_k2")
    return "deepseek2";
  if (model_type == "ministral3" || model_type == "mistral3") return "mistral3";
  return model_type;
}

const Value* ConvertedRope::find(const std::string& name) const {
  for (const ConvertedKey& key : keys)
    if (key.name == name) return &key.value;
  return nullptr;
}

ConvertedRope convert_0_5(Walk& walk, const HfVersion& beside) { return Converter05(walk, beside).convert(); }

// llama.cpp of February 2025 ------------------------------------------------------------------------------------------

namespace {

bool type_is(const Dict& rope, const char* key, const char* name) {
  return rope.contains(key) && rope.find(key)->json == name;
}

/// rope_scaling, empty where there is none.
Dict scaling_2025_02(const Walk& walk) {
  const Json* scaling = walk.raw("rope_scaling");
  if (!scaling || scaling->is_null()) return Dict();
  const std::string pointer = walk.pointer_to("rope_scaling");
  if (!scaling->is_object())
    raise("TypeError", "argument of type '" + python_type(*scaling) + "' is not iterable", pointer);
  return Dict(*scaling, pointer);
}

/// Phi3MiniModel: lists beside the original context, and the share that rotates.
void phi3_2025_02(Walk& walk, const Dict& rope, ConvertedRope& out) {
  if (!walk.has("original_max_position_embeddings"))
    raise("KeyError", "\"could not find any of: ['original_max_position_embeddings']\"");
  const Value original = walk.get("original_max_position_embeddings", nullptr);
  const double share =
      walk.has("partial_rotary_factor")
          ? number(walk.get("partial_rotary_factor", 1.0), "unsupported operand type(s) for *: '{type}' and 'int'")
          : 1.0;
  out.rotary_dim = channels(share * walk.positive_int("hidden_size"), walk.pointer_to("partial_rotary_factor")) /
                   walk.positive_int("num_attention_heads");
  phi3_factors(out, rope, "type", number(out.context, "unsupported operand type(s) for /: '{type}' and 'int'"),
               tokens(original, "unsupported operand type(s) for /: 'int' and '{type}'"));
  add(out, "rope.scaling.original_context_length", Type::u32, original);
}

/// yarn of qwen2, linear of the others: by `type` alone.
void method_2025_02(const Dict& rope, ConvertedRope& out) {
  const char* method = out.arch == "qwen2" ? "yarn" : "linear";
  if (!rope.contains("factor") || !type_is(rope, "type", method)) return;
  add(out, "rope.scaling.type", Type::text, {method, rope.find("type")->pointer});
  add(out, "rope.scaling.factor", Type::f32, *rope.find("factor"));
  if (out.arch == "qwen2")
    add(out, "rope.scaling.original_context_length", Type::u32, item(rope, "original_max_position_embeddings"));
}

/// LlamaModel.generate_extra_tensors: rope_freqs.weight of a llama3 rope.
void llama3_2025_02(Walk& walk, const Dict& rope, ConvertedRope& out) {
  const double base = walk.has("rope_theta") ? number(walk.get("rope_theta", nullptr), kTimesFloat) : 10000;
  const double original = walk.has("original_max_position_embeddings")
                              ? number(walk.get("original_max_position_embeddings", nullptr), kTimesFloat)
                              : 8192;  // the top level's, not the dictionary's
  out.freqs = llama3_divisors(out.rotary_dim, base, number_or(walk, rope, "factor", 8),
                              number_or(walk, rope, "low_freq_factor", 1), number_or(walk, rope, "high_freq_factor", 4),
                              original);
  out.freqs_pointer = rope.pointer;
}

}  // namespace

ConvertedRope convert_2025_02(Walk& walk) {
  ConvertedRope out;
  const std::string model_type = walk.model_type();
  if (model_type == "qwen3" || model_type == "gemma3_text" || model_type == "gpt_oss")
    raise("NotImplementedError", "Architecture of model type '" + model_type + "' not supported!",
          walk.pointer_to("model_type"));
  out.arch = llama_cpp_arch(model_type);
  out.context = walk.get("max_position_embeddings", nullptr);
  const Json* head = walk.raw("head_dim");
  out.rotary_dim_from = head && !head->is_null() ? walk.get("head_dim", nullptr) : walk.defaulted(split_head_dim(walk));
  out.rotary_dim = channels(number(out.rotary_dim_from, kTimesFloat), out.rotary_dim_from.pointer);
  const Dict rope = scaling_2025_02(walk);
  if (out.arch == "phi3") phi3_2025_02(walk, rope, out);
  else method_2025_02(rope, out);
  if (const Json* theta = walk.raw("rope_theta"); theta && !theta->is_null())
    add(out, "rope.freq_base", Type::f32, walk.get("rope_theta", nullptr));
  if (out.arch == "llama" && type_is(rope, "rope_type", "llama3")) llama3_2025_02(walk, rope, out);
  return out;
}

}  // namespace ropewalk::formats::engines
