#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "formats/adapters/peft.h"
#include "formats/gguf.h"
#include "lib/model_config.h"

namespace ropewalk::formats {

// A LoRA adapter as a GGUF (llama.cpp 0.5: convert_lora_to_gguf.py writes it, llama-adapter.cpp reads it):
//   general.type "adapter" | general.architecture of the base | adapter.type "lora" | adapter.lora.alpha f32
//   NAME.lora_a [rank, in] and NAME.lora_b [out, rank], NAME as of the base's tensor: "blk.0.attn_q.weight"
//   token_embd.weight.lora_a [vocabulary, rank] and .lora_b [width, rank]: the delta is lora_a lora_b^T
// W + (alpha / rank) B A, rank of each pair; alpha 0 or absent: W + B A. Rows of B of attn_q and attn_k stand in
// interleaved rotary pairs, as the base's do. Norms, which the converter writes too, llama.cpp leaves unused.

/// A GGUF file whose general.type is "adapter". False for anything else that can be read.
bool is_gguf_adapter(const std::filesystem::path& path);
/// All changes are low-rank; B of rotary projections says that its rows are interleaved. Error(unsupported) for another
/// architecture than llama, an adapter.type that is not "lora", invocation tokens (aLoRA) and norms; Error(bad_input)
/// naming the tensor for one without its partner, of another shape, or not finite.
PeftAdapter read_gguf_adapter(const std::filesystem::path& path);
/// An adapter by what stands at `path`: a folder of PEFT or such a GGUF.
PeftAdapter read_adapter(const std::filesystem::path& path);

struct GgufAdapterOptions {
  DType type = DType::f32;  // f32, f16, bf16, q8_0 (f16 where rows are no whole blocks)
  std::string name = {};  // general.name; empty: it and its neighbours are found in the folder's, as the converter does
  Json base_config = nullptr;        // config.json of the base, which may name the model; null if there is none
  double scale = 1;                  // of the user's
  std::vector<TensorPtr> base = {};  // its tensors, to hold copies of them against; none: it has no weights
};
/// What convert_lora_to_gguf.py writes, byte for byte, of an adapter it understands; where one alpha cannot say the scales
/// of all modules (rsLoRA, alpha_pattern, AdaLoRA), each B holds its part, with one rounding.
/// `config`: of the base. Error(unsupported) naming what is no product of two thin matrices, a head that the base has tied
/// to its embedding, and a copy of the base's tensor that is another: PEFT saves one below an adapter of an embedding or
/// head, with the rows of a vocabulary that grew. `notes`: what was folded, what was left out.
GgufPlan plan_gguf_adapter(const PeftAdapter& adapter, const ModelConfig& config, const GgufAdapterOptions& options,
                           std::vector<std::string>& notes);

/// Rows of a rotary projection, or of the B of its delta, in the order asked for; what says no order is half-split.
TensorPtr rotary_rows(TensorPtr tensor, RotaryPairs order, const ModelConfig& config);

}  // namespace ropewalk::formats
