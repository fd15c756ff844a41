#include <cmath>
#include <string>

#include "formats/engines/engine.h"
#include "lib/error.h"
#include "tests/fuzz/fuzz.h"

using namespace ropewalk;
using namespace ropewalk::formats;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const std::vector<EngineVersion> versions = [] {
    std::vector<EngineVersion> all;
    for (const EngineRange& range : engine_ranges())
      all.push_back(parse_engine(std::string(engine_name(range.engine)) + "@" + std::string(range.newest)));
    return all;
  }();
  Json config;
  try {
    config = parse_json("config.json", std::string(reinterpret_cast<const char*>(data), size), {.max_bytes = 1 << 20});
  } catch (const Error&) {
    return 0;
  }
  for (const EngineVersion& version : versions) {
    const EngineReading reading = read_as(version, config);
    require(reading.ropes.empty() == reading.error.has_value(), "a reading is ropes or an error");
    for (const EngineRope& rope : reading.ropes) {
      require(rope.spec.rotary_dim >= 2 && rope.spec.rotary_dim % 2 == 0 && rope.spec.attention_factor,
              "what rotates is pairs, by a factor that is known");
      if (rope.spec.rotary_dim > 1024) continue;
      const RopeTable table = rope_table(rope.spec, 5000);
      require(engine_table(rope, 5000).inv_freq.size() == table.inv_freq.size() && !table.inv_freq.empty(),
              "both arithmetics have the same pairs");
    }
  }
  return 0;
}

std::vector<std::string> fuzz_seeds() {
  const std::string sizes = R"("hidden_size": 64, "num_attention_heads": 4, "max_position_embeddings": 2048)";
  return {
      "{\"model_type\": \"llama\", " + sizes +
          R"(, "head_dim": 16, "rope_theta": 10000.0, "rope_scaling": {"type": "yarn", "rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 256,
 "attention_factor": 1.1, "attn_factor": 0.9, "mscale": 1.0, "mscale_all_dim": 0.7, "beta_fast": 64, "beta_slow": 2, "truncate": false}})",
      "{\"model_type\": \"mistral\", " + sizes +
          R"(, "max_sequence_length": 512, "rope_parameters": {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0,
 "high_freq_factor": 4.0, "original_max_position_embeddings": 128}})",
      "{\"model_type\": \"phi3\", " + sizes +
          R"(, "original_max_position_embeddings": 256, "partial_rotary_factor": 0.5, "rope_scaling": {"type": "longrope", "short_factor": [1, 1, 1, 1], "long_factor": [2, 2, 2, 2]}})",
      "{\"model_type\": \"gemma3_text\", " + sizes +
          R"(, "layer_types": ["full_attention", "sliding_attention"], "rope_parameters": {"full_attention": {"rope_type": "linear", "factor": 8.0,
 "rope_theta": 1e6}, "sliding_attention": {"rope_type": "default", "rope_theta": 1e4}}})",
      "{\"model_type\": \"qwen3\", " + sizes +
          R"(, "rope_scaling": {"rope_type": "dynamic", "factor": 2.0, "alpha": 4.0}})",
      "{\"text_config\": {\"model_type\": \"deepseek_v3\", " + sizes +
          R"(, "qk_rope_head_dim": 8, "rope_scaling": {"type": "yarn", "factor": 40, "original_max_position_embeddings": 128, "mscale_all_dim": 1.0}}})"};
}
