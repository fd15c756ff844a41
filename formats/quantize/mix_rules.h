#pragma once

#include <array>
#include <cstdint>

#include "formats/quantize/file_type.h"

namespace ropewalk::formats {

// The rules of llama.cpp 0.5's mixes as data (src/llama-quant.cpp, llama_tensor_get_type_impl). For a tensor's role the
// first row whose file types and conditions hold gives the encoding; without one it is the file type's base.

enum class TensorRole : std::uint8_t {
  output,     // output.weight, and the embedding where there is none
  embedding,  // token_embd.weight and per_layer_token_embd.weight beside an output.weight
  attn_v,     // attn_v, attn_qkv, attn_kv_b
  attn_k,
  attn_q,
  attn_output,
  ffn_down,
  ffn_gate,
  ffn_up,
  other,
};

/// Conditions of a row; all that are set must hold. i: number of the tensor among those of its role, or its layer where
/// there are experts; n: as many as there are of attn_v, else the number of layers.
enum MixWhen : std::uint16_t {
  kAlways = 0,
  kGqa4 = 1 << 0,        // at least 4 query heads share a K/V head
  kWideValues = 1 << 1,  // the same, or at least 4 experts
  kExperts8 = 1 << 2,    // exactly 8 experts, as Mixtral has
  kNotExperts8 = 1 << 3,
  kImportance = 1 << 4,  // an importance matrix is at hand
  kNoImportance = 1 << 5,
  kFirst2 = 1 << 6,          // i < 2
  kFirst4 = 1 << 7,          // i < 4
  kFirstEighth = 1 << 8,     // i < n / 8
  kFirstSixteenth = 1 << 9,  // i < n / 16
  kMoreBits = 1 << 10,       // the first and the last eighth, and every third between
  kMiddle = 1 << 11,         // neither the first nor the last eighth
  kFalcon = 1 << 12,         // architecture falcon
  kNotFalcon = 1 << 13,
};

/// A set of file types.
constexpr std::uint64_t types(auto... type) { return ((std::uint64_t{1} << static_cast<int>(type)) | ...); }

struct MixRule {
  TensorRole role;
  std::uint64_t types;
  unsigned when;
  DType dtype;
};

/// Types below three bits a weight: attention's values and the first layers are kept larger, nothing else.
inline constexpr std::uint64_t kVeryLow =
    types(FileType::iq1_s, FileType::iq1_m, FileType::iq2_xxs, FileType::iq2_xs, FileType::iq2_s, FileType::iq2_m);

inline constexpr std::array kMixRules = [] {
  using enum FileType;
  using R = TensorRole;
  constexpr std::uint64_t kLower = types(iq1_s, iq1_m, iq2_xxs, iq2_xs), kUpper = types(iq2_s, iq2_m);
  return std::array{
      MixRule{R::embedding, kLower, kAlways, DType::q2_k},
      MixRule{R::embedding, kUpper | types(iq3_xxs), kAlways, DType::iq3_s},
      MixRule{R::embedding, types(tq1_0, tq2_0, q2_0), kAlways, DType::q4_k},

      MixRule{R::attn_v, kVeryLow, kWideValues, DType::q4_k},
      MixRule{R::attn_v, kUpper, kAlways, DType::iq3_s},
      MixRule{R::attn_v, kLower, kAlways, DType::q2_k},
      MixRule{R::attn_v, types(q2_k, q2_k_s, iq3_xxs, iq3_xs, iq3_s), kGqa4, DType::q4_k},
      MixRule{R::attn_v, types(q2_k), kAlways, DType::q3_k},
      MixRule{R::attn_v, types(iq3_xxs), kNoImportance, DType::iq3_s},
      MixRule{R::attn_v, types(q3_k_m), kFirst2, DType::q5_k},
      MixRule{R::attn_v, types(q3_k_m, iq3_m), kAlways, DType::q4_k},
      MixRule{R::attn_v, types(q3_k_l), kAlways, DType::q5_k},
      MixRule{R::attn_v, types(iq4_nl, iq4_xs), kGqa4, DType::q5_k},
      MixRule{R::attn_v, types(q4_k_m, q5_k_m), kMoreBits, DType::q6_k},
      MixRule{R::attn_v, types(q4_k_s), kFirst4, DType::q5_k},

      MixRule{R::attn_k, kVeryLow, kExperts8, DType::q4_k},
      MixRule{R::attn_k, ~kVeryLow, kExperts8, DType::q8_0},
      MixRule{R::attn_k, types(iq3_xs), kAlways, DType::iq3_xxs},
      MixRule{R::attn_k, types(iq3_xxs), kAlways, DType::iq2_s},

      MixRule{R::attn_q, types(iq3_xs), kAlways, DType::iq3_xxs},
      MixRule{R::attn_q, types(iq3_xxs), kAlways, DType::iq2_s},

      MixRule{R::attn_output, kVeryLow, kExperts8, DType::q5_k},
      MixRule{R::attn_output, types(iq1_s, iq1_m), kAlways, DType::iq2_xxs},
      MixRule{R::attn_output, kUpper, kAlways, DType::iq3_s},
      MixRule{R::attn_output,
              types(q2_k, iq3_xs, iq3_xxs, q3_k_s, q3_k_m, iq4_nl, q4_k_s, q4_k_m, iq3_s, iq3_m, iq4_xs),
              kExperts8 | kNotFalcon, DType::q5_k},
      MixRule{R::attn_output, types(q3_k_l), kFalcon, DType::q4_k},
      MixRule{R::attn_output, types(q2_k), kNotExperts8 | kNotFalcon, DType::q3_k},
      MixRule{R::attn_output, types(iq3_xxs), kNotExperts8 | kNotFalcon, DType::iq3_s},
      MixRule{R::attn_output, types(q3_k_m, iq3_m), kNotExperts8 | kNotFalcon, DType::q4_k},
      MixRule{R::attn_output, types(q3_k_l), kNotExperts8 | kNotFalcon, DType::q5_k},

      MixRule{R::ffn_down, kUpper, kFirstEighth, DType::iq3_s},
      MixRule{R::ffn_down, kLower, kFirstEighth, DType::q2_k},
      MixRule{R::ffn_down, types(q2_k), kAlways, DType::q3_k},
      MixRule{R::ffn_down, types(q2_k_s), kFirstEighth, DType::q4_k},
      MixRule{R::ffn_down, types(iq3_xxs), kNoImportance | kFirstEighth, DType::q4_k},
      MixRule{R::ffn_down, types(iq3_xxs), kNoImportance, DType::q3_k},
      MixRule{R::ffn_down, types(q3_k_m), kFirstSixteenth, DType::q5_k},
      MixRule{R::ffn_down, types(q3_k_m), kNotFalcon, DType::q4_k},
      MixRule{R::ffn_down, types(q3_k_m), kMoreBits, DType::q4_k},
      MixRule{R::ffn_down, types(iq3_m), kFirstEighth, DType::q4_k},
      MixRule{R::ffn_down, types(iq3_m), kExperts8 | kMoreBits, DType::q4_k},
      MixRule{R::ffn_down, types(q3_k_l), kFalcon, DType::q4_k},
      MixRule{R::ffn_down, types(q3_k_l), kAlways, DType::q5_k},
      MixRule{R::ffn_down, types(q4_k_m), kFalcon | kFirstSixteenth, DType::q6_k},
      MixRule{R::ffn_down, types(q4_k_m), kFalcon | kMoreBits, DType::q5_k},
      MixRule{R::ffn_down, types(q4_k_m), kNotFalcon | kMoreBits, DType::q6_k},
      MixRule{R::ffn_down, types(iq4_nl, iq4_xs), kNoImportance | kFirstEighth, DType::q5_k},
      MixRule{R::ffn_down, types(q5_k_m), kMoreBits, DType::q6_k},
      MixRule{R::ffn_down, types(q4_k_s), kNotFalcon | kFirstEighth, DType::q5_k},
      MixRule{R::ffn_down, types(q4_0), kImportance | kFirstEighth, DType::q4_1},
      MixRule{R::ffn_down, types(q5_0), kImportance | kFirstEighth, DType::q5_1},

      MixRule{R::ffn_gate, types(iq3_xs), kMiddle, DType::iq3_xxs},
      MixRule{R::ffn_up, types(iq3_xs), kMiddle, DType::iq3_xxs},
  };
}();

/// Names of tensors that stay as they are, by a part of the name (src/llama-quant.cpp, tensor_allows_quantization).
inline constexpr std::array kKeptTensors = {
    "_norm.weight", "ffn_gate_inp.weight", "ffn_gate_tid2eid.weight", "altup", "laurel", "per_layer_model_proj",
    // small convolutions of Mamba and Kimi, MiniMax's indexer
    "ssm_conv1d", "shortconv.conv.weight", "indexer.k_proj.weight", "indexer.q_proj.weight",
    // RWKV's small matrices
    "time_mix_first.weight", "time_mix_w0.weight", "time_mix_w1.weight", "time_mix_w2.weight", "time_mix_v0.weight",
    "time_mix_v1.weight", "time_mix_v2.weight", "time_mix_a0.weight", "time_mix_a1.weight", "time_mix_a2.weight",
    "time_mix_g1.weight", "time_mix_g2.weight", "time_mix_decay_w1.weight", "time_mix_decay_w2.weight",
    "time_mix_lerp_fused.weight",
    // T5's relative positions; parts that see and hear
    "attn_rel_b.weight", ".position_embd", "sam.pos_embd", "sam.neck.", "sam.net_", ".rel_pos", ".patch_embd",
    ".patch_merger", "a.rvq.codebook", "mm.a.code_embd"};
/// The same, of architecture glm5-next alone.
inline constexpr std::array kKeptTensorsOfGlm5Next = {"hc_",
                                                      "indexer.attn_q_b",
                                                      "indexer.attn_k",
                                                      "indexer.proj",
                                                      "indexer_compressor_gate",
                                                      "indexer_compressor_ape",
                                                      "ssm_f_a.weight",
                                                      "ssm_f_b.weight",
                                                      "ssm_g_a.weight",
                                                      "ssm_g_b.weight",
                                                      "ssm_beta.weight",
                                                      "attn_kv_a_mqa.weight",
                                                      "attn_k_b.weight",
                                                      "attn_v_b.weight"};

/// What a row that is no whole number of blocks gets instead; one that does not fit either becomes F16.
struct MixFallback {
  DType wanted, instead;
};
inline constexpr std::array kMixFallbacks = {
    MixFallback{DType::iq1_s, DType::iq4_nl},   MixFallback{DType::iq1_m, DType::iq4_nl},
    MixFallback{DType::iq2_xxs, DType::iq4_nl}, MixFallback{DType::iq2_xs, DType::iq4_nl},
    MixFallback{DType::iq2_s, DType::iq4_nl},   MixFallback{DType::iq3_xxs, DType::iq4_nl},
    MixFallback{DType::iq3_s, DType::iq4_nl},   MixFallback{DType::iq4_xs, DType::iq4_nl},
    MixFallback{DType::q2_0, DType::q4_0},      MixFallback{DType::q2_k, DType::q4_0},
    MixFallback{DType::q3_k, DType::q4_0},      MixFallback{DType::tq1_0, DType::q4_0},
    MixFallback{DType::tq2_0, DType::q4_0},     MixFallback{DType::q4_k, DType::q5_0},
    MixFallback{DType::q5_k, DType::q5_1},      MixFallback{DType::q6_k, DType::q8_0},
};

}  // namespace ropewalk::formats
