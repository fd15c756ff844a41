#include "formats/hf_config.h"

#include "formats/json_fields.h"
#include "formats/quantized/quantized.h"
#include "formats/rope_config.h"

namespace ropewalk::formats {
namespace {

// Far above any model, and small enough that products of two of them fit in 63 bits.
constexpr std::int64_t kMaxWidth = std::int64_t{1} << 24;
constexpr std::int64_t kMaxHeads = std::int64_t{1} << 16;
constexpr std::int64_t kMaxVocabulary = std::int64_t{1} << 26;
constexpr std::int64_t kMaxContext = std::int64_t{1} << 30;

/// What a field that is not in the file means: LlamaConfig and MistralConfig of transformers 5.23.0.
struct Defaults {
  std::optional<int> n_kv_heads;  // nullopt: n_heads
  int context;
  std::optional<int> sliding_window;
  bool has_biases;  // attention_bias and mlp_bias exist
  bool has_window;  // sliding_window exists
};
constexpr Defaults kLlama{std::nullopt, 2048, std::nullopt, true, false};
constexpr Defaults kMistral{8, 131072, 4096, false, true};

const Defaults& check_architecture(const JsonFields& fields) {
  const auto type = fields.optional_string("model_type");
  if (!type)
    fields.fail_unset("model_type", "\"llama\" or \"mistral\"", "is this the config.json of a language model?");
  if (*type != "llama" && *type != "mistral")
    fields.fail(ErrorKind::unsupported, "model_type",
                "model_type is \"" + *type + "\", read so far are llama and mistral", "see 'ropewalk support'");
  if (const Json* names = fields.find_set("architectures")) {
    if (!names->is_array())
      fields.fail(ErrorKind::bad_input, "architectures", "'architectures' is " + shown(*names) + ", expected a list",
                  "correct the value in the file");
    for (const Json& name : *names)
      if (!name.is_string() || !name.get_ref<const std::string&>().ends_with("ForCausalLM"))
        fields.fail(ErrorKind::unsupported, "architectures",
                    "architecture " + shown(name) + ", expected a causal language model (...ForCausalLM)",
                    "ropewalk reads models with a language-model head");
  }
  const std::string act = fields.optional_string("hidden_act").value_or("silu");
  if (act != "silu" && act != "swish")
    fields.fail(ErrorKind::unsupported, "hidden_act", "hidden_act is \"" + act + "\", expected \"silu\"",
                "no published " + *type + " model uses another; check the file");
  return *type == "llama" ? kLlama : kMistral;
}

void read_heads(const JsonFields& fields, const Defaults& defaults, ModelConfig& config) {
  config.n_heads = int(fields.integer("num_attention_heads", 1, kMaxHeads));
  const auto kv_heads = fields.optional_integer("num_key_value_heads", 1, kMaxHeads);
  if (!kv_heads && defaults.n_kv_heads &&
      fields.find("num_key_value_heads"))  // LlamaConfig alone takes null, for n_heads
    fields.fail_unset("num_key_value_heads", "an integer", "write the number of key-value heads");
  config.n_kv_heads = kv_heads ? int(*kv_heads) : defaults.n_kv_heads.value_or(config.n_heads);
  if (config.n_heads % config.n_kv_heads != 0)
    fields.fail(ErrorKind::bad_input, "num_key_value_heads",
                std::to_string(config.n_heads) + " attention heads cannot share " + std::to_string(config.n_kv_heads) +
                    " key-value heads evenly",
                "expected num_attention_heads to be a multiple of num_key_value_heads; correct the file");
  const auto head_dim = fields.optional_integer("head_dim", 1, kMaxWidth);
  // transformers checks this for llama even where head_dim is given, and for mistral would round down in silence.
  if ((!head_dim || config.model_type == "llama") && config.d_model % config.n_heads != 0)
    fields.fail(ErrorKind::bad_input, "hidden_size",
                "hidden_size " + std::to_string(config.d_model) + " is not a multiple of num_attention_heads " +
                    std::to_string(config.n_heads),
                "correct the file");
  config.head_dim = head_dim ? int(*head_dim) : config.d_model / config.n_heads;
  if (config.head_dim % 2 != 0)
    fields.fail(
        ErrorKind::bad_input, head_dim ? "head_dim" : "hidden_size",
        "heads have " + std::to_string(config.head_dim) + " channels, expected an even number to rotate in pairs",
        "correct the file");
  if (std::int64_t(config.n_heads) * config.head_dim > kMaxWidth)
    fields.fail(ErrorKind::bad_input, head_dim ? "head_dim" : "num_attention_heads",
                std::to_string(config.n_heads) + " heads of " + std::to_string(config.head_dim) +
                    " channels, expected at most " + std::to_string(kMaxWidth) + " channels in all",
                "correct the file");
}

void read_window(const std::string& path, const JsonFields& fields, const Defaults& defaults, ModelConfig& config,
                 std::vector<std::string>& warnings) {
  if (!defaults.has_window) return;  // transformers ignores the field for llama
  if (!fields.find("sliding_window")) {
    config.sliding_window = defaults.sliding_window;
    if (config.sliding_window && config.context > *config.sliding_window)
      warnings.push_back(path +
                         " says nothing of sliding_window: transformers 5.23.0 then takes 4096 for mistral (null would "
                         "mean none)");
    return;
  }
  if (const auto window = fields.optional_integer("sliding_window", 1, kMaxContext))
    config.sliding_window = int(*window);
}

}  // namespace

ModelConfig read_hf_config(const std::string& path, const std::string& text, const Json& json,
                           std::vector<std::string>& warnings) {
  if (!json.is_object())
    throw Error(ErrorKind::bad_input, {.path = path, .line = 1, .column = 1},
                std::string("the file holds ") + json.type_name() + ", expected an object",
                "is this the config.json of a model?");
  const JsonFields fields(path, text, json);
  const Defaults& defaults = check_architecture(fields);
  check_quantization_method({path, text, json});
  ModelConfig config;
  config.model_type = *fields.optional_string("model_type");
  config.d_model = int(fields.integer("hidden_size", 1, kMaxWidth));
  config.n_layers = int(fields.integer("num_hidden_layers", 1, kMostLayers));
  config.d_ff = int(fields.integer("intermediate_size", 1, kMaxWidth));
  config.n_vocab = int(fields.integer("vocab_size", 1, kMaxVocabulary));
  read_heads(fields, defaults, config);
  if (const auto context = fields.optional_integer("max_position_embeddings", 1, kMaxContext)) {
    config.context = int(*context);
  } else {
    config.context = defaults.context;
    warnings.push_back(path + " has no max_position_embeddings: transformers 5.23.0 then takes " +
                       std::to_string(defaults.context) + " for " + config.model_type);
  }
  config.rms_eps = fields.optional_number("rms_norm_eps", 0, 1).value_or(1e-6);
  config.tied_head = fields.boolean("tie_word_embeddings", false);
  if (defaults.has_biases) {
    config.attention_bias = fields.boolean("attention_bias", false);
    config.mlp_bias = fields.boolean("mlp_bias", false);
  }
  read_window(path, fields, defaults, config, warnings);
  config.rotary_pairs = RotaryPairs::half_split;
  config.rope = read_hf_rope(path, text, json, {config.head_dim, config.context}, warnings);
  return config;
}

}  // namespace ropewalk::formats
