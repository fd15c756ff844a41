#pragma once

#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "lib/checkpoint.h"
#include "lib/recipes.h"

namespace ropewalk::verify {

/// A small decoder with everything that can go wrong: sizes that are no multiple of anything, shared key-value heads,
/// heads wider than the model, biases, half of a head rotated.
inline ModelConfig awkward_config() {
  ModelConfig c;
  c.model_type = "llama";
  c.n_layers = 3, c.d_model = 40, c.n_heads = 6, c.n_kv_heads = 2, c.head_dim = 12, c.d_ff = 52, c.n_vocab = 333,
  c.context = 8192;
  c.rms_eps = 1e-5;
  c.attention_bias = c.mlp_bias = true;
  c.rope.theta = 100;
  c.rope.rotary_dim = 8;
  return c;
}

/// Random weights of that shape: norms around 1, Q and K large enough that attention depends on position.
inline Checkpoint random_model(const ModelConfig& config, unsigned seed) {
  Checkpoint model;
  model.label = "random model", model.config = config;
  std::mt19937 random(seed);
  std::normal_distribution<double> normal;
  const auto add = [&](const std::string& name, std::vector<std::uint64_t> shape, double mean, double deviation) {
    std::uint64_t n = 1;
    for (const std::uint64_t d : shape) n *= d;
    std::vector<float> values(n);
    for (float& x : values) x = float(mean + deviation * normal(random));
    model.tensors.push_back(memory_tensor(name, std::move(shape), values));
  };
  const auto u = [](int n) { return static_cast<std::uint64_t>(n); };
  const auto linear = [&](const std::string& module, int out, int in, double gain, bool bias) {
    add(module + ".weight", {u(out), u(in)}, 0, gain / std::sqrt(double(in)));
    if (bias) add(module + ".bias", {u(out)}, 0, 0.1);
  };
  const int d_q = config.n_heads * config.head_dim, d_kv = config.n_kv_heads * config.head_dim;
  add("model.embed_tokens.weight", {u(config.n_vocab), u(config.d_model)}, 0, 1);
  for (int layer = 0; layer < config.n_layers; ++layer) {
    const std::string prefix = "model.layers." + std::to_string(layer) + ".";
    add(prefix + "input_layernorm.weight", {u(config.d_model)}, 1, 0.1);
    linear(prefix + "self_attn.q_proj", d_q, config.d_model, 1.5, config.attention_bias);
    linear(prefix + "self_attn.k_proj", d_kv, config.d_model, 1.5, config.attention_bias);
    linear(prefix + "self_attn.v_proj", d_kv, config.d_model, 1, config.attention_bias);
    linear(prefix + "self_attn.o_proj", config.d_model, d_q, 1, config.attention_bias);
    add(prefix + "post_attention_layernorm.weight", {u(config.d_model)}, 1, 0.1);
    linear(prefix + "mlp.gate_proj", config.d_ff, config.d_model, 1, config.mlp_bias);
    linear(prefix + "mlp.up_proj", config.d_ff, config.d_model, 1, config.mlp_bias);
    linear(prefix + "mlp.down_proj", config.d_model, config.d_ff, 1, config.mlp_bias);
  }
  add("model.norm.weight", {u(config.d_model)}, 1, 0.1);
  if (!config.tied_head)
    add("lm_head.weight", {u(config.n_vocab), u(config.d_model)}, 0, 2 / std::sqrt(double(config.d_model)));
  return model;
}

inline std::vector<std::int32_t> random_ids(std::size_t n, int n_vocab, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<std::int32_t> ids(n);
  for (std::int32_t& id : ids) id = static_cast<std::int32_t>(random() % static_cast<unsigned>(n_vocab));
  return ids;
}

}  // namespace ropewalk::verify
