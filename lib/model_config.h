#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "lib/lazy_tensor.h"
#include "lib/rope.h"

namespace ropewalk {

/// What the forward pass needs to know of a decoder, whatever file said it. One name per dimension, everywhere.
struct ModelConfig {
  std::string model_type;  // Hugging Face's: "llama", "mistral"
  int n_layers = 0;
  int d_model = 0;  // hidden_size
  int n_heads = 0;
  int n_kv_heads = 0;
  int head_dim = 0;
  int d_ff = 0;     // intermediate_size
  int n_vocab = 0;  // rows of the embedding
  int context = 0;  // longest sequence the checkpoint is declared for, tokens
  double rms_eps = 1e-6;
  bool tied_head = false;  // no lm_head.weight: the embedding is the head
  bool attention_bias = false;
  bool mlp_bias = false;
  std::optional<int> sliding_window;                   // keys a query sees, itself included; nullopt: all
  RotaryPairs rotary_pairs = RotaryPairs::half_split;  // as Q and K are stored
  RopeSpec rope;

  /// Rows of q_proj, and of k_proj or v_proj.
  std::size_t d_q() const noexcept { return std::size_t(n_heads) * std::size_t(head_dim); }
  std::size_t d_kv() const noexcept { return std::size_t(n_kv_heads) * std::size_t(head_dim); }
};

}  // namespace ropewalk
