#include "formats/adapters/class_modules.h"

#include <algorithm>
#include <array>

#include "formats/config_file.h"
#include "formats/engines/model_types.h"
#include "formats/tied_head.h"

namespace ropewalk::formats {
namespace {

/// base_model_prefix of classes of transformers 5.23.0 where it is not "model".
constexpr std::array kTransformer = {"bloom", "codegen",     "falcon",  "gpt-sw3", "gpt2",
                                     "gptj",  "gpt_bigcode", "gpt_neo", "mpt"};
std::string prefix_of(const std::string& type) {
  if (std::ranges::find(kTransformer, type) != kTransformer.end()) return "transformer.";
  if (type == "gpt_neox") return "gpt_neox.";
  if (type == "mamba" || type == "mamba2" || type == "falcon_mamba") return "backbone.";
  return "model.";
}

template <class Names>
bool one_of(const Names& names, const std::string& name) {
  return std::ranges::find(names, name) != names.end();
}

constexpr std::array kInputEmbeddings = {"embed_tokens", "wte", "word_embeddings", "embed_in", "embeddings"};
constexpr std::array kOtherEmbeddings = {"wpe", "embed_positions", "position_embeddings"};
/// Of layers, matrices whose modules are no linear ones: they choose experts, or look rows up.
constexpr std::array kNotLinear = {"gate", "router", "wg", "relative_attention_bias", "emb", "embedding"};

}  // namespace

std::string module_of(const std::string& tensor) { return tensor.substr(0, tensor.rfind('.')); }
std::string last_part_of(const std::string& module) { return module.substr(module.rfind('.') + 1); }

bool in_numbered_layer(std::string_view name) {
  for (std::size_t dot = name.find('.'); dot != std::string_view::npos; dot = name.find('.', dot + 1)) {
    const std::size_t end = name.find_first_not_of("0123456789", dot + 1);
    if (end != std::string_view::npos && end > dot + 1 && name[end] == '.') return true;
  }
  return false;
}

ClassModules::ClassModules(const Source& source) {
  if (!source.hf || !source.hf->config.is_object()) return;
  const Json& config = source.hf->config;
  type_ = source.checkpoint.config.model_type;
  conv1d_ = engines::has_conv1d(type_).value_or(false);
  nested_ = model_part(config).nested();
  for (const Json* part : {&config, model_part(config).json})
    if (const auto tied = part->find("tie_word_embeddings"); tied != part->end()) {
      untied_ = *tied == Json(false);
      break;
    }
  if (const Json all = config.value("architectures", Json()); all.is_array() && !all.empty() && all[0].is_string()) {
    const std::string name = all[0];
    causal_ = name.ends_with("ForCausalLM") || name.ends_with("LMHeadModel");
    has_head_ = causal_ || name.ends_with("ForConditionalGeneration");
  }
  const auto any_begins = [&](const std::string& part) {
    return std::ranges::any_of(source.checkpoint.tensors,
                               [&](const TensorPtr& tensor) { return tensor->name().starts_with(part); });
  };
  parts_ = any_begins("model.language_model.");
  if (!has_head_ || nested_ || any_begins(prefix_of(type_))) return;
  if (prefix_of(type_) != "model." || any_begins("layers.")) missing_prefix_ = prefix_of(type_);
}

std::string ClassModules::class_name(const std::string& tensor) const {
  std::string name = tensor;
  const auto of_language = [&](const char* part) { return name.starts_with(std::string("model.") + part); };
  for (const auto& [in_class, in_files] : kPrefixes) {
    if (!name.starts_with(in_files)) continue;
    const bool language = of_language("layers.") || of_language("embed_tokens.") || of_language("norm.");
    if (in_files == "model." && !(nested_ && !parts_ && language)) continue;  // it begins other names too
    if (in_files == "embed_out." && type_ != "gpt_neox") continue;            // whose Japanese kin keeps the name
    name.replace(0, in_files.size(), in_class);
    break;
  }
  if (const std::size_t at = name.find(kSparseMoe); at != std::string::npos && type_ == "mixtral")
    name.replace(at, kSparseMoe.size(), kMlp);
  return is_head(name) ? name : missing_prefix_ + name;
}

bool ClassModules::compared() const {
  constexpr std::array kCompared = {"bloom", "falcon", "gemma3",     "gemma3_text", "gpt2",     "gpt_neox",
                                    "llama", "llava",  "mistral",    "mixtral",     "olmoe",    "phi",
                                    "phi3",  "qwen2",  "qwen2_5_vl", "qwen3",       "qwen3_moe"};
  return one_of(kCompared, type_);
}
bool ClassModules::experts_by_name() const {
  constexpr std::array kKnown = {"mixtral", "olmoe", "qwen2_moe", "qwen3_moe"};
  return one_of(kKnown, type_);
}
bool ClassModules::is_input_embedding(const std::string& class_name) {
  return !in_numbered_layer(class_name) && one_of(kInputEmbeddings, last_part_of(module_of(class_name)));
}
bool ClassModules::is_embedding(const std::string& class_name) {
  return is_input_embedding(class_name) ||
         (!in_numbered_layer(class_name) && one_of(kOtherEmbeddings, last_part_of(module_of(class_name))));
}
bool ClassModules::is_head(const std::string& class_name) { return class_name == kHeadWeight; }
bool ClassModules::is_expert(const std::string& class_name) {
  return class_name.find(".experts.") != std::string::npos;
}

bool ClassModules::is_buffer(const TensorInfo& info) {
  const auto ends = [&](const char* with) { return info.name.ends_with(with); };
  const bool mask = (ends(".attn.bias") || ends(".attention.bias")) && info.shape.size() != 1;
  return mask || ends(".masked_bias") || ends(".rotary_emb.inv_freq") || ends(".position_ids");
}

bool ClassModules::is_linear(const std::string& class_name) {
  const std::string module = last_part_of(module_of(class_name));
  return class_name.ends_with(".weight") && in_numbered_layer(class_name) && !one_of(kNotLinear, module) &&
         !module.ends_with("norm");  // those of heads have two axes
}

}  // namespace ropewalk::formats
