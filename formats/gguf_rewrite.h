#pragma once

#include <optional>
#include <string>
#include <vector>

#include "formats/gguf.h"
#include "formats/gguf_model.h"
#include "formats/gguf_rope.h"

namespace ropewalk::formats {

/// What changes in a GGUF. The rest, keys of other programs included, stays as it is and where it is; tensor bytes pass
/// through.
struct GgufChanges {
  std::vector<std::string> remove_keys;
  std::vector<GgufKey> set_keys;            // a key that is there keeps its place; others follow `after`, in this order
  std::string after;                        // key the new ones follow; not there (or empty): the end
  std::vector<std::string> remove_tensors;  // names that are not there are no error
  std::vector<GgufTensorPlan> first_tensors;  // put before all others; one of the same name is replaced
};
/// Tensors keep their order and encoding. split.* keys are dropped: layout_gguf writes its own.
GgufPlan rewrite_gguf(const GgufFile& file, const GgufChanges& changes);

/// The same model with another rope and context: the llama.rope.* keys but dimension_count, rope_freqs.weight and
/// llama.context_length are replaced by those under which llama.cpp 0.5 computes `spec`.
GgufExport rewrite_gguf_rope(const GgufFile& file, const ModelConfig& config, RopeEncoding encoding);

/// What a plan without a type of its own makes of tensors in blocks that adapters changed.
enum class ChangedBlocks {
  encode_again,  // the encoding they had; Error(unsupported) for blocks other than q8_0, which lose too much
  unrounded,     // the merged values, for whoever encodes the plan
};

/// A GGUF source written again: its keys, with the rope of source.checkpoint.config and the tokenizer of
/// source.tokenizer_folder if the source replaced them, and the tensors adapters changed in their place.
/// `type`: nullopt keeps every encoding ("keep"; `changed`); else matrices take that type as llama-quantize of llama.cpp
/// 0.5 does for f32, f16, bf16 and q8_0 (norms and vectors stay), merged values with one rounding, and general.file_type
/// says so; `saturate` as in GgufExportOptions.
GgufExport rewrite_gguf_source(const Source& source, std::optional<DType> type, RopeEncoding encoding,
                               bool saturate = false, ChangedBlocks changed = ChangedBlocks::encode_again);

}  // namespace ropewalk::formats
