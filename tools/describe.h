#pragma once

#include <map>
#include <string>
#include <vector>

#include "formats/source.h"
#include "tools/render.h"

namespace ropewalk::tools {

// What a checkpoint is, in words and in JSON: shared by inspect, verify, diff and the model cards.

/// {method, theta, factor, original_context, attention_factor, rotary_dim, beta_fast, beta_slow, ...}; absent is null.
Json rope_json(const RopeSpec& rope, int context);
/// "39 f16, 9 f32" by tensors.
std::map<DType, std::uint64_t> tensors_by_dtype(const std::vector<TensorPtr>& tensors);
/// The encoding most of the weights' elements are in.
DType dominant_dtype(const std::vector<TensorPtr>& tensors);
std::uint64_t total_bytes(const std::vector<TensorPtr>& tensors);
std::uint64_t total_elements(const std::vector<TensorPtr>& tensors);
/// "8 heads, 4 of keys and values, ..."
std::string geometry_text(const ModelConfig& config);
/// "folder other (2000 ids for 2048 rows of the embedding)": where the tokenizer comes from, the numbers where they
/// differ.
std::string tokenizer_text(const formats::Source& source);
/// An adapter, applied with `scale` times its own (1 on its own): "LoRA of 28 modules, rank 16, alpha 32, scale 2, made for
/// 'base'", and {path, kind, base, modules, others, ranks, alpha, scale}.
std::string adapter_text(const formats::PeftAdapter& adapter, double scale);
Json adapter_json(const formats::PeftAdapter& adapter, double scale);
/// The factor the source applies its i-th adapter with, beside the adapter's own.
double adapter_scale(const formats::Source& source, std::size_t i);
/// The name files are called after: the folder's, the file's stem (shard numbers and type removed) or the last part of
/// org/name.
std::string model_name(const formats::Source& source);
/// The file that says what a source is, for reports that point at one: the GGUF itself, a folder's configuration.
std::string described_by(const formats::Source& source);

}  // namespace ropewalk::tools
