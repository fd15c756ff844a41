#pragma once

#include "formats/engines/hf_config.h"

// What convert_hf_to_gguf.py writes about the rope. Private to formats.

namespace ropewalk::formats::engines {

struct ConvertedKey {
  std::string name;  // without the architecture: "rope.scaling.factor"
  enum class Type { text, f32, u32 } type;
  Value value;
};

struct ConvertedRope {
  std::string arch;
  std::vector<ConvertedKey> keys;  // in the converter's order
  Value context;                   // context_length
  int rotary_dim = 0;              // dimension_count, or the width of a head
  Value rotary_dim_from;
  std::vector<float> freqs, factors_long, factors_short;  // tensors rope_freqs.weight, rope_factors_{long,short}.weight
  std::string freqs_pointer;                              // of the dictionary that these come from
  const Value* find(const std::string& name) const;
};

/// llama.cpp 0.5 (conversion/base.py, llama.py, phi.py, gemma.py) beside a release of transformers. Raises what it
/// raises.
ConvertedRope convert_0_5(Walk& walk, const HfVersion& beside);
/// "llama" for model type mistral, "deepseek2" for deepseek_v3, ...; the type itself where nothing else is known.
std::string llama_cpp_arch(const std::string& model_type);
/// The same keys and tensors of a GGUF that is there, with their names as pointers.
ConvertedRope rope_of_gguf(const GgufFile& file, const std::string& path);
/// What the loader makes of them.
void read_as_llama_cpp_gguf(Walk& walk, EngineReading& reading, const ConvertedRope& file);
/// llama.cpp of 2025-02, which reads the file itself (convert_hf_to_gguf.py; from source, not run).
ConvertedRope convert_2025_02(Walk& walk);

}  // namespace ropewalk::formats::engines
