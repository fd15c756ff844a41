#include "formats/rope_presets.h"

namespace ropewalk::formats {

std::span<const RopePreset> rope_presets() {
  static const std::vector<RopePreset> all = {
      {.name = "yarn-llama",
       .method = "yarn",
       .numbers = {{"beta_fast", 32}, {"beta_slow", 1}},
       .origin = "Yarn-Llama-2-{7b,13b,70b}: modeling_llama_together_yarn.py of the YaRN repository; arXiv:2309.00071"},
      {.name = "yarn-mistral",
       .method = "yarn",
       .numbers = {{"beta_fast", 128}, {"beta_slow", 2}},
       .magnitude = 0.07,
       .origin = "Yarn-Mistral-7b-{64k,128k}: modeling_mistral_yarn.py of the YaRN repository"},
      {.name = "yarn-solar",
       .method = "yarn",
       .numbers = {{"beta_fast", 32}, {"beta_slow", 1}},
       .origin = "Yarn-Solar-10b-{32k,64k}: modeling_llama_together_yarn.py of the YaRN repository"},
      {.name = "qwen",
       .method = "yarn",
       .numbers = {},
       .original = 32768,
       .origin = "model cards of Qwen2.5 and Qwen3, \"Processing Long Texts\""},
      {.name = "gpt-oss",
       .method = "yarn",
       .numbers = {{"beta_fast", 32}, {"beta_slow", 1}},
       .truncate = false,
       .origin = "openai/gpt-oss-20b, config.json; gpt_oss/torch/model.py"},
      {.name = "airoboros-yarn",
       .method = "yarn",
       .numbers = {{"beta_fast", 32}, {"beta_slow", 1}},
       .origin = "airoboros-l2-13b-2.1-YaRN-64k, over Yarn-Llama-2-13b-64k"},
      {.name = "airoboros-pi",
       .method = "linear",
       .numbers = {},
       .origin = "airoboros-l2-13b-PI-16k (factor 4), airoboros-13b-gpt4-1.4.1-PI-8192, -33b-...-lxctx-PI-16384"},
      {.name = "airophin-pntk",
       .method = "ntk-by-parts",
       .numbers = {},
       .origin = "airophin-13b-pntk-16k: LlamaPartNTKScaledRotaryEmbedding of the YaRN repository"},
      {.name = "llama-3.1",
       .method = "llama3",
       .numbers = {{"low_freq_factor", 1}, {"high_freq_factor", 4}},
       .original = 8192,
       .origin = "meta-llama/Llama-3.1-8B, config.json"},
      {.name = "code-llama",
       .method = "none",
       .numbers = {{"rope_theta", 1e6}},
       .origin = "Code Llama, arXiv:2308.12950, section 2.4"},
  };
  return all;
}

const RopePreset* find_rope_preset(std::string_view name) {
  for (const RopePreset& preset : rope_presets())
    if (preset.name == name) return &preset;
  return nullptr;
}

}  // namespace ropewalk::formats
