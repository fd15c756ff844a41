#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "formats/json.h"
#include "lib/model_config.h"

namespace ropewalk::formats {

/// The geometry a rope reader needs beside the rope fields.
struct RopeGeometry {
  int head_dim = 0;
  int context = 0;  // max_position_embeddings
};

/// What transformers 5.23.0 computes from a llama or mistral config.json (rules: docs/rope-dialects.md), or the math of
/// the YaRN repository's own remote code if auto_map names it. Error(unsupported) for an unknown rope type,
/// Error(bad_input) for missing or ill-typed fields, with file:line:column.
RopeSpec read_hf_rope(const std::string& path, const std::string& text, const Json& config,
                      const RopeGeometry& geometry, std::vector<std::string>& warnings);

/// Who says the original context where the SPEC does.
inline constexpr const char* kSpecSays = "the new rope";

/// What a SPEC scales.
struct TrainedRope {
  int context = 0;        // tokens, the SPEC's original or the base's; 0: the SPEC scales nothing anew (native)
  std::string from = {};  // who says so
  double theta = 10000;
  std::optional<double> alpha = std::nullopt;  // of method ntk, which is written as a base that is raised by it
};

/// A SPEC of the command line: "METHOD[,key=value]..." with Hugging Face's key names ("original" for
/// original_max_position_embeddings, "to" for a target context), or a JSON object as it stands in a model card. Sizes
/// take suffixes: 64k is 65536. `base` is the checkpoint's own rope (L when the SPEC does not say: original_context.h).
/// Returns the Hugging Face dictionary (rope_type, factor, ...) and the context it serves. Error(usage) with the text
/// and what was expected.
/// "like=NAME" takes the published recipe of that name (rope_presets.h); ntk-by-parts is said as longrope lists; native
/// is the rope that `base` has, whatever code computes it now.
struct RopeRequest {
  Json rope_parameters;  // version-5 keys without rope_theta unless the SPEC gives one
  int context = 0;       // new max_position_embeddings
  RopeSpec spec;         // what was asked for, by its method's name even where rope_parameters say it by other means
  int served = 0;        // tokens under it: s times the original context of a dynamic rope, else `context`
  TrainedRope trained;
};
RopeRequest parse_rope_spec(std::string_view spec, const ModelConfig& base);

/// config.json with `request` written in: the dialect the file already uses is kept readable by both (rope_scaling with
/// "rope_type" and "type", rope_theta at top level;
/// rope_parameters too if the file had it), max_position_embeddings = the new context. See docs/rope-dialects.md for
/// why each key.
Json config_with_rope(const Json& config, const RopeRequest& request, const ModelConfig& base);

/// Keys of a config.json that SGLang, vLLM or older converters ask for the context before or beside
/// max_position_embeddings; where a file has one, it says the same.
inline constexpr std::array kContextKeys = {"max_sequence_length", "seq_length", "max_seq_len", "model_max_length"};

/// 4096, "64k" = 65536, "1M" = 1048576; nullopt if not a positive size.
std::optional<int> parse_context(std::string_view text);

}  // namespace ropewalk::formats
