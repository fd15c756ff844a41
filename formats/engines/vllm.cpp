// vLLM. Run: 0.6.6.post1, 0.8.5.post1, 0.10.2, 0.12.0, 0.24.0, 0.33.0; read at their boundaries: 0.20.2, 0.28.0,
// 0.31.0. Files: vllm/transformers_utils/config.py (patch_rope_*), vllm/config/model.py (_get_and_verify_max_len;
// vllm/config.py before 0.10), vllm/model_executor/models/{llama,qwen2,qwen3,gemma3,gpt_oss}.py.
#include <algorithm>
#include <limits>

#include "formats/engines/serving.h"

namespace ropewalk::formats::engines {
namespace {

ServingRules rules_of(const EngineVersion& version) {
  using enum ServingRules::Partial;
  ServingRules rules;
  rules.transformers = transformers_of(version);
  rules.partial = version.at_least({0, 21}) ? dictionary : version.at_least({0, 8}) ? llama_top_level : none;
  rules.alpha = rules.ntk = version.at_least({0, 10});
  rules.truncate = rules.longrope_by_max_length = version.at_least({0, 12});
  rules.dynamic_is_plain = version.at_least({0, 21});
  if (version.at_least({0, 21})) rules.proportional = ServingRules::Proportional::like_transformers;
  if (version.at_least({0, 29})) {
    rules.attention = ServingRules::Attention::attention_factor;
    rules.extrapolation_factor = false;
  }
  return rules;
}

/// A dictionary as get_rope receives it, and its base.
struct Layer {
  std::string type;
  std::optional<Dict> rope;
  Value theta;
};

class Vllm {
 public:
  Vllm(Walk& walk, EngineReading& reading)
      : walk_(walk), reading_(reading), version_(walk.engine), rules_(rules_of(walk.engine)) {}

  void read() {
    config_ = load_hf_config(walk_, rules_.transformers);
    if (!config_.family->known && !follows_own_names(walk_))
      walk_.notice("model type '" + walk_.model_type() + "' was not compared with vllm: Llama's rules are used",
                   walk_.has("model_type") ? walk_.pointer_to("model_type") : "");
    collect_layers();
    for (Layer& layer : layers_)
      if (layer.rope) patch(*layer.rope);
    try {
      reading_.context = served();
    } catch (const Raised& raised) {
      reading_.context_error = raised.error;
    }
    const std::optional<int> length = walk_.options.context ? walk_.options.context : reading_.context;
    for (Layer& layer : layers_) {
      // in the model's layers, after the length is settled
      if (layer.rope && !config_.v5 && runs_llama_class(config_)) take_top_level_original(*layer.rope);
      reading_.ropes.push_back(
          serving_rope(walk_, rules_, config_, layer.type, layer.rope ? &*layer.rope : nullptr, layer.theta, length));
    }
  }

 private:
  bool gemma3() const { return std::string_view(config_.family->model_type) == "gemma3_text"; }

  void collect_layers() {
    if (config_.v5) {
      for (const auto& [type, rope] : config_.layers)
        if (rope) layers_.push_back({type, rope, *rope->find("rope_theta")});
      if (config_.layers.empty()) layers_.push_back({"", config_.rope, *config_.rope->find("rope_theta")});
      return;
    }
    std::optional<Dict> rope = config_.rope;
    if (!rope && version_.at_least({0, 12}))  // its theta stays that of the top level, or 10000
      if (const Json* parameters = walk_.raw("rope_parameters");
          parameters && parameters->is_object() && !parameters->empty())
        rope = Dict(*parameters, walk_.pointer_to("rope_parameters"));
    if (gemma3()) {
      layers_.push_back({"full_attention", rope, config_.theta});
      layers_.push_back({"sliding_attention", std::nullopt, walk_.get("rope_local_base_freq", 10000.0)});
    } else {
      layers_.push_back({"", rope, config_.theta});
    }
  }

  /// patch_rope_scaling_dict, later patch_rope_parameters_dict.
  void patch(Dict& rope) {
    const Value* modern = rope.find("rope_type");
    const Value* legacy = rope.find("type");
    if (modern && legacy && modern->json != legacy->json) {
      const bool renamed = (modern->json == "longrope" && legacy->json == "su") ||
                           (modern->json == "default" && legacy->json == "mrope");
      if (!renamed)
        raise("ValueError",
              "Found conflicts between 'rope_type=" + python_str(modern->json) + "' (modern field) and 'type=" +
                  python_str(legacy->json) + "' (legacy field). You should only specify one of them.",
              legacy->pointer);
    }
    if (!modern && legacy) rope.set("rope_type", *legacy);
    const Value* type = rope.find("rope_type");
    if (!type)
      raise("ValueError",
            std::string(version_.at_least({0, 12}) ? "rope_parameters" : "rope_scaling") +
                " should have a 'rope_type' key",
            rope.pointer);
    if (type->json == "su") rope.set("rope_type", {"longrope", type->pointer});
    if (type->json == "mrope") {
      if (!rope.contains("mrope_section")) raise("AssertionError", "", rope.pointer);
      rope.set("rope_type", {"default", type->pointer});
    }
    if (version_.at_least({0, 12})) take_top_level_original(rope);
  }

  void take_top_level_original(Dict& rope) {
    if (config_.original && truthy(config_.original->json) &&
        (walk_.has("original_max_position_embeddings") || runs_llama_class(config_)))
      rope.set("original_max_position_embeddings", *config_.original);
  }

  /// _get_and_verify_max_len: the smallest of the length keys, the tokenizer's limit, then the factor of the rope.
  int served() {
    double derived = std::numeric_limits<double>::infinity();
    for (const char* key : {"max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "model_max_length",
                            "max_target_positions", "max_sequence_length", "max_seq_length", "seq_len"}) {
      const Value value =
          std::string_view(key) == "max_position_embeddings" ? config_.context : walk_.get(key, nullptr);
      if (!value.json.is_null())
        derived = std::min(derived, number(value, "'<' not supported between instances of '{type}' and 'int'"));
    }
    if (walk_.options.tokenizer_limit) derived = std::min(derived, double(*walk_.options.tokenizer_limit));
    if (derived == std::numeric_limits<double>::infinity()) derived = 2048;
    bool longrope = false;
    if (!gemma3())
      for (const Layer& layer : layers_)
        if (layer.rope) {
          const std::string type = layer.rope->find("rope_type")->json.is_string()
                                       ? layer.rope->find("rope_type")->json.get<std::string>()
                                       : "";
          longrope = longrope || type == "longrope";
          derived = scaled(derived, type, *layer.rope);
        }
    if (walk_.options.context) {
      if (*walk_.options.context > derived && !walk_.options.allow_longer_context)
        raise("ValueError", "User-specified max_model_len (" + std::to_string(*walk_.options.context) +
                                ") is greater than the derived max_model_len (" + Json(derived).dump() + ")");
      return *walk_.options.context;
    }
    if (longrope && version_.at_least({0, 12}) && config_.original)
      return tokens(*config_.original,
                    "int() argument must be a string, a bytes-like object or a real number, not '{type}'");
    if (!(derived >= 0 && derived <= std::numeric_limits<int>::max()))
      not_followed("a context of " + Json(derived).dump() + " tokens", "");
    return int(derived);
  }
  double scaled(double derived, const std::string& type, const Dict& rope) {
    if (type == "longrope" || type == "llama3") return derived;
    if (type == "yarn") {
      if (version_.at_least({0, 29})) return derived;  // the factor is in max_position_embeddings already
      const Value& original = item(rope, "original_max_position_embeddings");
      derived = number(original, "unsupported operand type(s) for *=: '{type}' and 'float'");
      walk_.used(original);
    }
    const Value* factor = rope.find("factor");
    if (!factor || (version_.at_least({0, 21}) && factor->json.is_null())) return derived;
    return multiplied(derived, *factor);
  }

  Walk& walk_;
  EngineReading& reading_;
  const EngineVersion& version_;
  const ServingRules rules_;
  HfConfig config_;
  std::vector<Layer> layers_;
};

}  // namespace

void read_as_vllm(Walk& walk, EngineReading& reading) { Vllm(walk, reading).read(); }

}  // namespace ropewalk::formats::engines
