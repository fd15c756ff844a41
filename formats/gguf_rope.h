#pragma once

#include <array>
#include <optional>
#include <string>
#include <vector>

#include "formats/gguf.h"
#include "formats/json.h"
#include "lib/rope.h"

namespace ropewalk::formats {

// RoPE in a GGUF of arch llama, as llama.cpp 0.5 reads it (docs/rope-dialects.md has the rules and their sources):
//   llama.rope.freq_base                            theta; absent: 10000
//   llama.rope.scaling.type                         none | linear | yarn | longrope; absent: linear
//   llama.rope.scaling.factor                       s; absent or 0: llama.rope.scale_linear, else 1
//   llama.rope.scaling.original_context_length      L; absent or 0: llama.context_length
//   llama.rope.scaling.attn_factor                  multiplies the method's own attention factor; absent: 1
//   tensor rope_freqs.weight [head_dim / 2]         divisors of the frequencies, before the method. L beside them is read
//                                                   by nothing unless the type is yarn: the writer keeps it there
//   tensors rope_factors_{long,short}.weight        the same, chosen by context > L, where there is no
//     rope_freqs.weight
// The keys yarn_ext_factor, yarn_attn_factor, yarn_beta_fast, yarn_beta_slow, yarn_log_multiplier are not read for this
// arch: 1, none, 32, 1, none.

/// What a target cannot express. If it `changes_logits` and is not allowed, convert stops with exit 4.
struct Loss {
  std::string name;                 // "rope.dynamic", "rope.truncate", "sliding_window", ...
  std::string reason;               // one sentence
  std::optional<int> safe_context;  // largest context at which it changes nothing
  bool changes_logits = true;       // within the context written, or one the method is there to serve
};
/// Every name a Loss may have.
inline constexpr std::array kLossNames = {"rope.dynamic", "rope.dynamic-yarn",    "rope.longrope",
                                          "rope.beta",    "rope.truncate",        "rope.extrapolation_factor",
                                          "rope.range",   "rope.divisors",        "rope.ntk-by-parts",
                                          "rope.llama3",  "rope.proportional",    "sliding_window",
                                          "tokenizer",    "tokenizer.normalizer", "sampling",
                                          "quantization"};

enum class RopeEncoding { automatic, keys, freqs };

/// llama.cpp 0.5's rope from these keys and tensors, at the file's own context length: its rule (engines/engine.h) of the
/// whole file, as one rope.
/// Error(unsupported) for a scaling type at which the engine aborts and for heads wider than ropewalk's rules take,
/// Error(bad_input) for values it refuses (a partial rotary dimension, divisors of another length or not finite) and for
/// what no rotation comes of.
RopeSpec read_gguf_rope(const GgufFile& file, const std::string& path);

/// What llama.cpp 0.5 runs for rope.scaling.type, factor (not 0), original_context_length and attn_factor; theta,
/// rotary_dim and divisors stand in `spec`. Betas are 32 and 1 whatever the yarn_beta_* keys say. Where the range is
/// upside down (originals of a few tokens) ggml's ramp is a step after pair 0, and that of the Python implementations,
/// which RopeYarn means, keeps every pair: such a one becomes divisors.
void run_gguf_scaling(RopeSpec& spec, const std::string& type, double factor, int original_context, double attn_factor);

/// The rope part of a GGUF about to be written.
struct GgufRope {
  /// llama.rope.scaling.* and llama.rope.freq_base in convert_hf_to_gguf.py's order; they stand between
  /// attention.head_count_kv and attention.layer_norm_rms_epsilon.
  std::vector<GgufKey> keys;
  /// rope_freqs.weight, f32 [head_dim / 2], first of all tensors; empty: no such tensor.
  std::vector<float> frequency_divisors;
  std::vector<Loss> losses;
  std::vector<std::string> notes;  // why rope_freqs.weight is written, ...
};
inline constexpr const char* kGgufRopeFreqs = "rope_freqs.weight";

/// Keys under which llama.cpp 0.5 computes `spec`: the method's own where its loader reads them right, else type none,
/// rope_freqs.weight, attn_factor and, for people and tools, the original context. What neither can say is a named
/// loss: "rope.dynamic", "rope.dynamic-yarn", "rope.longrope" where the rope depends on the running sequence; with
/// RopeEncoding::keys also "rope.beta", "rope.truncate", "rope.extrapolation_factor", "rope.range", "rope.divisors" and
/// "rope." + the method's name. `context`: llama.context_length as written.
/// Error(unsupported) if only part of a head rotates, which the loader refuses for this arch.
GgufRope gguf_rope(const RopeSpec& spec, int head_dim, int context, RopeEncoding encoding);

/// The losses no keys and no divisors avoid: "rope.dynamic", "rope.dynamic-yarn", "rope.longrope".
std::vector<Loss> inherent_rope_losses(const RopeSpec& spec, int context);

/// What convert_hf_to_gguf.py of llama.cpp 0.5 beside transformers 5.23.0 writes for this config.json, faults included.
/// Error(unsupported) where it fails.
GgufRope gguf_rope_compat(const Json& config);

}  // namespace ropewalk::formats
