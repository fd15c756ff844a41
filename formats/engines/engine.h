#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "formats/gguf.h"
#include "formats/json.h"
#include "lib/rope.h"

namespace ropewalk::formats {

// What would engine E at version V compute from this config.json? One function per engine and range of versions
// answers, each citing its source (files of this folder).
//
// Evidence. transformers, vLLM, SGLang and llama.cpp from 0.5 are checked against what those releases computed
// (tests/golden/rope: 109 config.json files, 28 builds).
// ExLlamaV2 0.3.2, ExLlamaV3 1.6.5 and llama.cpp of 2025-02 are written from their sources and were not run: their
// readings say so in a notice.

enum class Engine { transformers, vllm, sglang, llama_cpp, exllamav2, exllamav3 };

/// As the user writes it: "transformers", "vllm", "sglang", "llama.cpp", "exllamav2", "exllamav3".
const char* engine_name(Engine engine);

/// A stretch of versions that read a file alike.
struct EngineRange {
  Engine engine;
  std::vector<int> first;    // the first version of the range
  std::string_view label;    // "4.43", as --list-engines shows it
  std::string_view newest;   // newest version of the range that was run or read, "4.43.4"
  std::string_view summary;  // what distinguishes it, one line
};
/// All ranges, engine by engine, oldest first.
std::span<const EngineRange> engine_ranges();

/// One version of one engine. Numbers compare as lists: {4, 43} < {4, 43, 4} < {4, 44}.
struct EngineVersion {
  Engine engine = Engine::transformers;
  // {0, 6, 6, 1} for 0.6.6.post1; llama.cpp: {2025, 2} for the month 2025-02 or for a build of it, {3000, 0, 5} for
  // release 0.5
  std::vector<int> numbers;
  std::string text;  // "5.23.0", as written or as chosen
  // empty, or why this reading is not certain: "vllm 0.40 is newer than 0.33.0, the newest whose rules are known"
  std::string notice;
  bool at_least(std::initializer_list<int> version) const;
  const EngineRange& range() const;
  std::string title() const { return std::string(engine_name(engine)) + " " + text; }
};

/// "ENGINE[@VERSION]": "vllm", "transformers@4.51.3", "transformers@4.51", "llama.cpp@2025-02", "llama.cpp@b4700".
/// Without a version the newest known one. A version between two known ones has the rules of the range it falls in; one
/// newer than the newest known has its rules and a notice. Error(usage) for an unknown engine or a version before the
/// first known.
EngineVersion parse_engine(std::string_view text);
/// The newest known version.
EngineVersion newest(Engine engine);
/// The same of each engine, in the order of the enumeration.
std::vector<EngineVersion> newest_engines();

/// llama.cpp's command line (common/arg.cpp of 0.5). nullopt: not given, the file's value counts.
struct LlamaCppFlags {
  std::optional<std::string> scaling;          // --rope-scaling none|linear|yarn
  std::optional<double> factor;                // --rope-scale
  std::optional<double> theta;                 // --rope-freq-base
  std::optional<int> original_context;         // --yarn-orig-ctx
  std::optional<double> beta_fast, beta_slow;  // --yarn-beta-fast, --yarn-beta-slow
  std::optional<double> ext_factor;            // --yarn-ext-factor
  // --yarn-attn-factor; in 0.5 without effect where the extrapolation factor is not 0, that is with yarn
  std::optional<double> attn_factor;
  std::optional<double> attn_factor_key;  // --override-kv ARCH.rope.scaling.attn_factor=float:X
  bool any() const;
};
/// ExLlamaV2's scripts (exllamav2/model_init.py of 0.3.2).
struct ExLlamaV2Flags {
  std::optional<double> scale;  // -rs: positions are divided by it
  std::optional<double> alpha;  // -ra: NTK-aware base
  std::optional<double> yarn;   // -ry: yarn by this factor
  bool any() const { return scale || alpha || yarn; }
};

/// What the engine is told beside the file.
struct EngineOptions {
  std::optional<int> context;  // --max-model-len, --context-length, -c; nullopt: what the engine chooses by itself
  std::optional<int> tokenizer_limit;  // model_max_length of tokenizer_config.json: vLLM takes the smaller
  std::string converter_transformers =
      "4.57.6";  // the release beside llama.cpp's converter, which reads through it; 4.57.6 is the one it pins
  LlamaCppFlags llama_cpp = {};
  ExLlamaV2Flags exllamav2 = {};
  // VLLM_ALLOW_LONG_MAX_MODEL_LEN=1, SGLANG_ALLOW_OVERWRITE_LONGER_CONTEXT_LEN=1: `context` may exceed what the engine
  // derives from the file
  bool allow_longer_context = false;
};

/// The kind of an EngineError where it is not the engine that stops: it would go on, with numbers that are no rotation
/// (a factor of -1), or ropewalk has no rule for the file.
inline constexpr const char* kNotFollowed = "not followed";

/// What the engine raises, in its own words where they are known.
struct EngineError {
  std::string kind;  // Python's: "KeyError", "TypeError", "error" (struct.error), ...; or kNotFollowed
  std::string text;
  std::string pointer;  // the value it trips over, JSON pointer into config.json; empty: the file as a whole
};

/// A value that the engine reads differently from what one would expect, or does not read at all.
struct EngineNotice {
  std::string pointer;  // JSON pointer into config.json; empty: no single place
  std::string text;     // "vllm 0.33.0 does not read rope_scaling/attn_factor"
};

/// How the engine rounds. Tables for comparison only; ropewalk's own are in double.
enum class EngineArithmetic {
  torch,         // float32 tensors, Python scalars in double
  torch_double,  // the same, but a dynamic base computed in double
  ggml           // float32 throughout, the angle of pair i by i products
};

/// The rope of one kind of layer.
struct EngineRope {
  std::string layer_type;  // "" for all layers, else "full_attention", "sliding_attention", ...
  /// With provenance: source "config.json" and a JSON pointer, or "default of ENGINE VERSION". spec.attention_factor is
  /// always set.
  RopeSpec spec;
  /// The engine divides positions by this instead of the frequencies by it (spec says linear all the same). 1: it does
  /// not.
  double position_divisor = 1;
  EngineArithmetic arithmetic = EngineArithmetic::torch;
};

struct EngineReading {
  EngineVersion engine;
  std::vector<EngineRope> ropes;     // empty if `error`
  std::optional<EngineError> error;  // the engine fails where it reads the file or builds the rotary embedding
  std::optional<int> context;        // tokens it would serve: what it was asked for, or what it chooses
  // it fails where it works out that length (and so does not start), whatever the rope
  std::optional<EngineError> context_error;
  std::vector<EngineNotice> notices;
  bool starts() const { return !error && !context_error; }
};

/// `config`: the raw config.json (its text_config, if it has one, is taken for the model). Never throws for what the
/// file says: that is the engine's error.
EngineReading read_as(const EngineVersion& engine, const Json& config, const EngineOptions& options = {});

/// What llama.cpp makes of a GGUF, whatever wrote it. Any other engine reads config.json: its reading is an error of kind
/// kNotFollowed.
EngineReading read_as(const EngineVersion& engine, const GgufFile& file, const std::string& path,
                      const EngineOptions& options = {});

/// True if the rules were compared with the engines' output for this model type (llama, mistral, qwen2, qwen3, phi3,
/// gemma3_text, gpt_oss); others are read by llama's, and a notice says so.
bool compared_model_type(const Json& config);

/// The table as the engine's own float32 arithmetic has it: within 3 units in the last place of what it computes (1
/// with the same powf; see the golden's README).
struct EngineTable {
  std::vector<float> inv_freq;  // before position_divisor
  float attention_factor = 1;
};
EngineTable engine_table(const EngineRope& rope, int sequence_length);
/// Cosines and sines at a position of a sequence that long, attention factor included: what is multiplied with q and k.
struct EngineRotation {
  std::vector<float> cos, sin;
};
EngineRotation engine_rotation(const EngineRope& rope, int sequence_length, int position);

}  // namespace ropewalk::formats
