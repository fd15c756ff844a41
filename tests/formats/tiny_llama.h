#pragma once

// A llama small enough to bend by hand: hidden 16, 2 heads of 8, 1 key-value head, ffn 24, 2 layers, vocabulary 32.

#include <algorithm>

#include "tests/formats/hf_test_support.h"

namespace ropewalk::formats {

inline Json tiny_config() {
  return {{"architectures", {"LlamaForCausalLM"}},
          {"model_type", "llama"},
          {"hidden_size", 16},
          {"intermediate_size", 24},
          {"num_hidden_layers", 2},
          {"num_attention_heads", 2},
          {"num_key_value_heads", 1},
          {"head_dim", 8},
          {"vocab_size", 32},
          {"max_position_embeddings", 64},
          {"rms_norm_eps", 1e-5},
          {"rope_theta", 10000.0},
          {"rope_scaling", nullptr},
          {"hidden_act", "silu"},
          {"tie_word_embeddings", false},
          {"attention_bias", false},
          {"mlp_bias", false},
          {"torch_dtype", "float32"}};
}

struct TinyOptions {
  int layers = 2;
  bool head = true, attention_bias = false;
};
inline std::vector<RawTensor> tiny_tensors(const TinyOptions& options = {}) {
  std::vector<RawTensor> all = {f32_tensor("model.embed_tokens.weight", {32, 16}, 0.1f)};
  for (int layer = 0; layer < options.layers; ++layer) {
    const std::string at = "model.layers." + std::to_string(layer) + ".";
    all.push_back(f32_tensor(at + "self_attn.q_proj.weight", {16, 16}));
    all.push_back(f32_tensor(at + "self_attn.k_proj.weight", {8, 16}));
    all.push_back(f32_tensor(at + "self_attn.v_proj.weight", {8, 16}));
    all.push_back(f32_tensor(at + "self_attn.o_proj.weight", {16, 16}));
    if (options.attention_bias)
      for (const auto& [name, size] :
           std::vector<std::pair<std::string, std::uint64_t>>{{"q", 16}, {"k", 8}, {"v", 8}, {"o", 16}})
        all.push_back(f32_tensor(at + "self_attn." + name + "_proj.bias", {size}));
    all.push_back(f32_tensor(at + "mlp.gate_proj.weight", {24, 16}));
    all.push_back(f32_tensor(at + "mlp.up_proj.weight", {24, 16}));
    all.push_back(f32_tensor(at + "mlp.down_proj.weight", {16, 24}));
    all.push_back(f32_tensor(at + "input_layernorm.weight", {16}, 1));
    all.push_back(f32_tensor(at + "post_attention_layernorm.weight", {16}, 1));
  }
  all.push_back(f32_tensor("model.norm.weight", {16}, 1));
  if (options.head) all.push_back(f32_tensor("lm_head.weight", {32, 16}, 0.7f));
  return all;
}
inline RawTensor& tensor_named(std::vector<RawTensor>& tensors, const std::string& name) {
  return *std::find_if(tensors.begin(), tensors.end(), [&](const RawTensor& t) { return t.name == name; });
}

inline void write_tiny(const fs::path& folder, const std::vector<RawTensor>& tensors = tiny_tensors(),
                       const Json& config = tiny_config()) {
  write_bytes(folder / "config.json", config.dump(2));
  write_bytes(folder / "model.safetensors", safetensors_bytes(tensors));
}

/// The tensors in two shards with an index: embedding and layer 0 in the first.
inline void write_tiny_sharded(const fs::path& folder, Json* index_out = nullptr) {
  const std::vector<RawTensor> all = tiny_tensors();
  Json index = {{"metadata", {{"total_size", 0}}}, {"weight_map", Json::object()}};
  std::vector<RawTensor> shards[2];
  for (const RawTensor& tensor : all) {
    const int shard =
        tensor.name.find("embed") == std::string::npos && tensor.name.find("layers.0") == std::string::npos;
    shards[shard].push_back(tensor);
    index["weight_map"][tensor.name] = "model-0000" + std::to_string(shard + 1) + "-of-00002.safetensors";
  }
  write_bytes(folder / "config.json", tiny_config().dump(2));
  for (int shard = 0; shard < 2; ++shard)
    write_bytes(folder / ("model-0000" + std::to_string(shard + 1) + "-of-00002.safetensors"),
                safetensors_bytes(shards[shard]));
  write_bytes(folder / "model.safetensors.index.json", index.dump(2));
  if (index_out) *index_out = index;
}

/// An adapter of rank 2 on q_proj and down_proj of layer 1.
inline void write_tiny_adapter(const fs::path& folder, const std::string& base) {
  write_bytes(folder / "adapter_config.json", Json({{"peft_type", "LORA"},
                                                    {"base_model_name_or_path", base},
                                                    {"r", 2},
                                                    {"lora_alpha", 4},
                                                    {"target_modules", {"q_proj", "down_proj"}}})
                                                  .dump(2));
  const std::string at = "base_model.model.model.layers.1.";
  write_bytes(folder / "adapter_model.safetensors",
              safetensors_bytes({f32_tensor(at + "mlp.down_proj.lora_A.weight", {2, 24}),
                                 f32_tensor(at + "mlp.down_proj.lora_B.weight", {16, 2}),
                                 f32_tensor(at + "self_attn.q_proj.lora_A.weight", {2, 16}),
                                 f32_tensor(at + "self_attn.q_proj.lora_B.weight", {16, 2})}));
}

}  // namespace ropewalk::formats
