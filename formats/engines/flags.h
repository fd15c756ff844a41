#pragma once

#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "formats/engines/engine.h"

namespace ropewalk::formats {

// Which command-line flags make an engine run a checkpoint with the rope it should have? Candidates are generated, each
// is fed back through the engine's own rule (read_as), and the one with the fewest words that gives the wanted
// frequencies, attention factor and context is the answer. docs/rope-engines.md has the sources of how each engine
// applies its flags.

/// The rope of one kind of layer, as it should be. layer_type is "" where all layers have the same.
struct WantedLayer {
  std::string layer_type;
  RopeSpec spec;
};
struct WantedRope {
  std::vector<WantedLayer> layers;
  int context = 0;  // tokens to be served
};
/// One rope for all layers.
WantedRope wanted_rope(const RopeSpec& spec, int context);
/// What a reading says is wanted: transformers' own of a file that means what it says.
WantedRope wanted_rope(const EngineReading& reading, int context);

/// The checkpoint: config.json as it stands, or a GGUF (llama.cpp alone reads one; every other engine refuses).
struct FlagsGguf {
  const GgufFile* file;
  std::string path;
};
using FlagsSource = std::variant<const Json*, FlagsGguf>;

/// What stands on the command line, apart from its spelling.
struct FlagSet {
  std::optional<int> context;       // -c, --max-model-len, --context-length, -l, -cs
  Json overrides = Json::object();  // keys of the model's config.json, replaced whole; llama.cpp: of the GGUF
  bool in_text_config = false;      // the overrides belong into text_config
  LlamaCppFlags llama_cpp = {};
  ExLlamaV2Flags exllamav2 = {};
  bool allow_longer_context = false;  // an environment variable: the last resort
  bool remote_code = false;           // transformers has no such class: the code that auto_map names is run
  bool empty() const;
};

struct EngineFlags {
  EngineVersion engine;
  bool possible = false;
  bool followed = true;  // false: ropewalk has no rule for this file in that engine, and `reason` says so
  /// "-c 65536 --rope-scaling yarn ...", "--hf-overrides '{...}' --max-model-len 65536", for transformers the Python
  /// expression "AutoConfig.from_pretrained(MODEL, ...)". Quoted for a POSIX shell. Empty: the file is right as it is.
  std::string line;
  FlagSet flags;
  /// Why none can, or, where possible, what the file alone gets wrong ("" if nothing): a sentence without a full stop.
  std::string reason;
  std::vector<std::string> notes;  // what to know beside: "the long list at every length", ...
};

/// `options`: what is told to the engine anyway (tokenizer limit, converter's transformers).
EngineFlags engine_flags(const EngineVersion& engine, const FlagsSource& source, const WantedRope& wanted,
                         const EngineOptions& options = {});

/// The flags with one more key of the model's config.json replaced (sliding_window by null); nullopt where the engine's
/// command line replaces none, or none inside a text_config.
std::optional<FlagSet> also_override(const EngineVersion& engine, const Json& config, FlagSet flags,
                                     const std::string& key, const Json& value);

/// The engine's reading of the source with these flags applied as that engine applies them.
EngineReading read_with_flags(const EngineVersion& engine, const FlagsSource& source, const FlagSet& flags,
                              const EngineOptions& options = {});

/// The flags in the engine's spelling. `arch`: llama.cpp's, for --override-kv.
std::string flags_line(const EngineVersion& engine, const FlagSet& flags, const std::string& arch = "llama");

/// How far a reading is from what is wanted; equal: frequencies within 3 float32 units in the last place, attention
/// factor too, and the context.
struct RopeDifference {
  int pairs = 0;           // pairs whose frequency differs
  int first_pair = -1;     // the first of them, -1: none, or other reasons
  double worst_ratio = 1;  // largest ratio of a differing pair's frequencies, >= 1
  bool shape = false;      // another number of pairs or kinds of layers
  bool attention = false;
  bool context = false;
  bool same_rotation() const { return pairs == 0 && !shape && !attention; }
  bool none() const { return same_rotation() && !context; }
};
/// In a sequence of that many tokens. A reading with an error has another shape.
RopeDifference compare_rope(const WantedRope& wanted, const EngineReading& reading, int sequence_length);
/// The same in words, "" if there is none: "33 of 64 pairs differ from pair 17 on, by up to 3.40x; attention factor
/// 1.2773 instead of 1.1941; serves 32768 tokens instead of 131072".
std::string describe_difference(const WantedRope& wanted, const EngineReading& reading, int sequence_length);
RopeDifference compare_rope(const RopeSpec& a, const RopeSpec& b, int sequence_length);

}  // namespace ropewalk::formats
