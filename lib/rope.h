#pragma once

#include <optional>
#include <string>
#include <variant>
#include <vector>

namespace ropewalk {

// Scaling methods. Notation of reference: theta base, d rotary dims, L original context, s factor, f_i = theta^(-2i/d).

struct RopeUnscaled {};
/// Position interpolation: f_i / s. arXiv:2306.15595.
struct RopeLinear {
  double factor;
};
/// NTK-aware: theta' = theta * alpha^(d/(d-2)).
struct RopeNtk {
  double alpha;
};
/// Dynamic NTK as transformers computes it: theta' = theta * ((s*T/L) - (s-1))^(d/(d-2)) for a sequence of T > L
/// tokens, plain below.
struct RopeDynamic {
  double factor;
  int original_context;
};
/// NTK-by-parts v1 of the YaRN repository (LlamaPartNTK...), its published constants.
struct RopeNtkByParts {
  double factor;
  int original_context;
  double ntk_factor = 1, extrapolation_factor = 1;
};
/// YaRN: arXiv:2309.00071v2, ratio eq. 17, ramp eq. 18, blend eq. 20, attention factor eq. 22; the ramp over pair
/// indices between (rounded, if truncate) correction dims, as every implementation does it.
struct RopeYarn {
  double factor;                         // s
  int original_context;                  // L, tokens
  double beta_fast = 32, beta_slow = 1;  // rotations over L; beta and alpha in the paper
  bool truncate = true;                  // floor and ceil of the correction range
  double extrapolation_factor = 1;
};
/// YaRN whose s is T / L of the running sequence, at least 1 (finetuned: at least finetuned_context / L).
struct RopeDynamicYarn {
  int original_context;
  std::optional<int> finetuned_context = std::nullopt;
  // s = T / this instead, where modeling_llama_yarn.py divides by max_position_embeddings
  std::optional<int> scale_context = std::nullopt;
  double beta_fast = 32, beta_slow = 1;
};
/// Llama 3.1's three bands by wavelength.
struct RopeLlama3 {
  double factor;
  double low_freq_factor, high_freq_factor;
  int original_context;
};
/// LongRoPE: per-pair divisors, the long list for sequences of T > L. arXiv:2402.13753.
struct RopeLongrope {
  std::vector<double> short_factor, long_factor;  // [rotary_dim / 2]
  int original_context;
  // longest sequence that takes the short list, where an engine does not mean L (vLLM 0.10 and SGLang: one token more)
  std::optional<int> short_until = std::nullopt;
};
/// Gemma 4: f_i = theta^(-2i/head_dim) for the first rotary_dim/2 pairs, 0 for the rest of the head, all / factor.
struct RopeProportional {
  double factor;
  int head_dim;
};

using RopeScaling = std::variant<RopeUnscaled, RopeLinear, RopeNtk, RopeDynamic, RopeNtkByParts, RopeYarn,
                                 RopeDynamicYarn, RopeLlama3, RopeLongrope, RopeProportional>;

/// Where a field of a RopeSpec came from, for people: {"factor", "config.json", "/rope_scaling/factor"} or
/// {"beta_fast", "default of transformers 5.23.0", ""}.
struct RopeProvenance {
  std::string field, source, pointer;
};

/// How positions become angles, whatever engine or dialect said it. Whatever needs a frequency takes this and nothing
/// else.
struct RopeSpec {
  double theta = 10000.0;  // base of the frequencies
  int rotary_dim = 0;      // channels of a head that rotate; even, >= 2, <= head_dim
  RopeScaling scaling = RopeUnscaled{};
  /// Final multiplier of cos and sin; nullopt: the method's own (YaRN 0.1 ln(s) + 1, longrope sqrt(1 + ln(s)/ln(L)),
  /// else 1).
  std::optional<double> attention_factor = std::nullopt;
  /// Per-pair divisors applied to f_i before the method (GGUF's rope_freqs.weight), [rotary_dim / 2] or empty.
  std::vector<double> frequency_divisors = {};
  /// Context before scaling, tokens, where it is known and is not the method's: divisors that hold a scaling have none of
  /// their own. Nothing is computed from it.
  std::optional<int> original_context = std::nullopt;
  /// Longest context the checkpoint says it serves, tokens (longrope's ratio uses it).
  int context = 0;
  std::vector<RopeProvenance> provenance = {};
};

/// One frequency per rotated pair of channels.
struct RopeTable {
  std::vector<double> inv_freq;  // [rotary_dim / 2] (proportional: [head_dim / 2]), radians per token, pair 0 first
  double attention_factor = 1;   // multiplies both cos and sin
};

/// The rotation `spec` asks for in a sequence of sequence_length tokens: the only place where a spec becomes
/// frequencies.
/// All in double. Requires rotary_dim even and >= 2, factors > 0, lists of the right length (checked where specs are
/// read).
RopeTable rope_table(const RopeSpec& spec, int sequence_length);

/// Channels of a head that the rotation pairs, two for each frequency of the table: rotary_dim, but the whole head for
/// proportional rope, whose pairs beyond rotary_dim stand still.
int paired_channels(const RopeSpec& spec);

/// True if the table depends on sequence_length (dynamic kinds, longrope).
bool depends_on_length(const RopeSpec& spec);

/// The method's name in Hugging Face's spelling: "default", "linear", "ntk", "dynamic", "ntk-by-parts", "yarn",
/// "dynamic-yarn", "llama3", "longrope", "proportional".
const char* rope_method_name(const RopeSpec& spec);
/// Context before scaling, tokens: the spec's own if it is set, else the method's, where it has one.
std::optional<int> rope_original_context(const RopeSpec& spec);
/// s, where the method has one.
std::optional<double> rope_factor(const RopeSpec& spec);
/// In words, for people: "YaRN x8 of 256 (theta 10000, beta 32/1, attention factor 1.2079)".
std::string describe(const RopeSpec& spec);

/// theta' of NTK-aware scaling by `alpha` (reddit.com/r/LocalLLaMA/comments/14lz7j5; the YaRN repository's
/// find_newbase_ntk). With one pair (d = 2) the exponent is infinite and theta without effect: the pair turns by 1
/// radian per token whatever the base.
double ntk_base(double theta, double alpha, int rotary_dim);
/// The pair index whose wavelength fits `rotations` times into `original_context` tokens; real-valued (YaRN repository,
/// find_correction_dim; arXiv:2309.00071v2 eq. 17 solved for d).
double correction_dim(double rotations, int rotary_dim, double theta, int original_context);
/// Pair indices between which YaRN blends: the correction dims of both betas, whole where `truncate`, clamped. The upper
/// clamp is rotary_dim - 1 although only half as many pairs exist: transformers 5.23.0, vLLM 0.33, ggml of llama.cpp 0.5
/// and the YaRN repository all do so.
struct CorrectionRange {
  double low, high;  // below `low` the frequency is kept, above `high` it is interpolated
};
CorrectionRange correction_range(double beta_fast, double beta_slow, bool truncate, int rotary_dim, double theta,
                                 int original_context);
/// LongRoPE's own attention factor at s = context / original_context: 1 if s <= 1, else sqrt(1 + ln(s) / ln(L))
/// (arXiv:2402.13753; transformers 5.23.0).
double longrope_attention_factor(double factor, int original_context);
/// g(s, m) = 1 if s <= 1, else 0.1 m ln(s) + 1.
double yarn_attention_factor(double factor, double mscale = 1);

}  // namespace ropewalk
