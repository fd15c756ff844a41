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

/// A GGUF of arch llama as llama.cpp 0.5 would run it: its keys' defaults, its rope rule (type none, linear, yarn;
/// rope_freqs.weight), interleaved Q/K as stored, no sliding window. Tensors get canonical names. Takes nothing from
/// anywhere else. Error(unsupported) for another architecture, for mixtures of experts and fused QKV.
/// Error(bad_input) where the loader stops: missing or left-over tensors, wrong shapes, required keys. Whether a
/// tokenizer that is refused is a warning goes by `use`, whose `rewritten` is carried here.
/// Tensors of block types that no file holds (q8_1, q8_k) are listed as they are; reading their values is
/// Error(unsupported).
Checkpoint read_gguf_model(const GgufFile& file, const std::string& path, TokenizerUse use = TokenizerUse::carried);
/// Its configuration by the keys and, if it is there, rope_freqs.weight: no other tensor is looked at (n_vocab is the
/// tokenizer's, 0 without one; biases and a tied head are not known). Error(bad_input) if those divisors are cut off, or
/// may stand in a shard that is missing (read_gguf_header).
ModelConfig read_gguf_config(const GgufFile& file, const std::string& path);

struct GgufExportOptions {
  DType type = DType::f16;            // f32, f16, bf16, q8_0
  std::optional<std::string> compat;  // "llama.cpp@0.5": write what convert_hf_to_gguf.py writes, byte for byte
  RopeEncoding rope_encoding = RopeEncoding::automatic;
  std::string model_name;  // --model-name; empty: the converter's heuristics from folder name and card
  Json metadata;           // --metadata FILE's content, null if none
  bool saturate = false;   // values past the type's range are clamped, not refused
};

struct GgufExport {
  GgufPlan plan;
  std::vector<Loss> losses;
  std::vector<std::string> notes;  // why rope_freqs was written, which tensors fell back, ...
};
/// The GGUF of an HF source. Tensor order: as convert_hf_to_gguf.py (shards by name, tensors of a shard by name;
/// generated tensors first). Tensors of one dimension and norms are f32; the others `type`, or f16 where q8_0 does not
/// fit a row. Q and K are stored with interleaved rotary pairs. No output.weight for a tied head.
/// compat mode equals the converter of llama.cpp 0.5 with transformers 5.23.0 key by key, faults included. Its
/// losses are what was asked for: a caller names them and goes on. The default
/// mode differs from it in this only:
///  - rope keys are those under which llama.cpp computes the source's rope, with rope_freqs.weight where keys cannot
///    (gguf_rope.h);
///  - a value past the range of its type is an error (or clamped) instead of infinity, infinities and NaN where a block
///    would spread them too;
///  - a sliding window shorter than the context is the loss "sliding_window";
///  - a tokenizer.json in Llama 2's manner keeps its merges, as scores (the converter loses them; compat refuses);
///  - a unigram tokenizer.json in the manner of converted SentencePiece models is kind t5 (the converter refuses it, and so
///    does compat);
///  - a BPE tokenizer whose hash the converter does not know gets the pre-tokenizer that its steps ask for, in both modes;
///  - user-defined pieces of tokenizer.model keep their type (the converter calls them normal), add_space_prefix is
///    written where the model adds none, and
///    special ids are the tokenizer's own (the converter takes config.json's where no tokenizer.json lists the token),
///    written where llama.cpp's defaults are others;
///  - general.name of a snapshot in the Hub cache comes from the repository, not from the commit's hash.
/// Error(bad_input) without a tokenizer, Error(unsupported) for types it does not write, for a source that is not a
/// Hugging Face folder, and for a tokenizer.json that is neither BPE nor unigram or whose steps llama.cpp has no pre-tokenizer for.
GgufExport export_gguf(const Source& source, const GgufExportOptions& options);
/// The same for several types: plans share their tensors, so that one read feeds them all (gguf_write.h).
std::vector<GgufExport> export_ggufs(const Source& source, const std::vector<GgufExportOptions>& options);

/// What the converter's --outtype auto takes: bf16 or f16 by the first matrix stored in one of them, else f16.
DType gguf_auto_type(const Source& source);
/// general.file_type (enum llama_ftype) of a file whose matrices are of `type`; nullopt if there is none.
std::optional<std::uint32_t> gguf_file_type(DType type);

/// tokenizer.* keys in the converter's order, and the vocabulary back from them as llama.cpp 0.5 loads it (its defaults
/// for what is not said).
/// compat: as the converter, else with the differences listed above.
std::vector<GgufKey> gguf_tokenizer_keys(const Source& source, bool compat, std::vector<std::string>& notes);
/// nullopt if the file has none; Error(unsupported) for other kinds than llama, gpt2, gemma4, t5 and plamo2, and for
/// pre-tokenizers that llama.cpp 0.5 does not know, Error(bad_input) where it refuses the file. A special id that is no
/// token, which it passes over, is a warning.
std::optional<Vocabulary> read_gguf_vocabulary(const GgufFile& file, const std::string& path,
                                               std::vector<std::string>* warnings = nullptr);

/// "blk.3.attn_q.weight" for "model.layers.3.self_attn.q_proj.weight", and back; nullopt if arch llama has no such
/// tensor.
std::optional<std::string> gguf_tensor_name(std::string_view canonical);
std::optional<std::string> canonical_tensor_name(std::string_view gguf);

}  // namespace ropewalk::formats
