#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "formats/gguf.h"
#include "formats/gguf_rope.h"
#include "formats/source.h"
#include "lib/checkpoint.h"

namespace ropewalk::formats {

/// A GGUF of arch llama as llama.cpp 0.5 would run it: its keys' defaults, its rope rule (type none, linear, yarn; rope_freqs.weight), interleaved Q/K as stored,
/// no sliding window. Tensors get canonical names. Takes nothing from anywhere else. Error(unsupported) for another architecture.
Checkpoint read_gguf_model(const GgufFile& file, const std::string& path);

struct GgufExportOptions {
  DType type = DType::f16;               // f32, f16, bf16, q8_0
  std::optional<std::string> compat;     // "llama.cpp@0.5": write what convert_hf_to_gguf.py writes, byte for byte
  RopeEncoding rope_encoding = RopeEncoding::automatic;
  std::string model_name;                // --model-name; empty: the converter's heuristics from folder name and card
  Json metadata;                         // --metadata FILE's content, null if none
};

struct GgufExport {
  GgufPlan plan;
  std::vector<Loss> losses;
  std::vector<std::string> notes;        // why rope_freqs was written, which tensors fell back, ...
};
/// The GGUF of an HF source. Tensor order: as convert_hf_to_gguf.py (checkpoint order) for the types it writes.
/// compat mode equals the converter of llama.cpp 0.5 with transformers 5.23.0 key by key, faults included; the default mode writes keys under which llama.cpp computes
/// the source's rope, using rope_freqs.weight where keys cannot.
GgufExport export_gguf(const Source& source, const GgufExportOptions& options);

/// tokenizer.* keys in the converter's order, and the vocabulary back from them.
std::vector<GgufKey> gguf_tokenizer_keys(const Source& source);
std::optional<Vocabulary> read_gguf_vocabulary(const GgufFile& file, const std::string& path);

/// "blk.3.attn_q.weight" for "model.layers.3.self_attn.q_proj.weight", and back; nullopt if arch llama has no such tensor.
std::optional<std::string> gguf_tensor_name(std::string_view canonical);
std::optional<std::string> canonical_tensor_name(std::string_view gguf);

}  // namespace ropewalk::formats
