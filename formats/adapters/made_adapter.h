#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "formats/adapters/peft.h"
#include "formats/folder_writer.h"
#include "formats/source.h"
#include "lib/adapters/best_of_rank.h"

namespace ropewalk::formats {

/// What became of one tensor of the base in an adapter that was made.
struct MadeModule {
  std::string target;  // "model.layers.0.self_attn.q_proj.weight"
  std::string kind;    // "lora"; "saved": whole, in modules_to_save; "carried": as it was in the adapter
  // of "lora", once its factors have been streamed; nullptr where nothing was approximated
  std::shared_ptr<const std::optional<CutNorms>> norms = nullptr;
};
/// An adapter as PEFT 0.21.2 saves one: its tensors named as keys, of the type they are written in.
struct MadeAdapter {
  Json config;
  std::vector<TensorPtr> tensors;
  std::vector<MadeModule> modules;
  std::vector<std::string> notes;
};
/// adapter_config.json and adapter_model.safetensors.
void add_adapter(FolderWriter& folder, const MadeAdapter& adapter);

enum class ChangedEmbeddings { saved, lora };
struct ExtractOptions {
  std::uint64_t rank = 0;
  DType dtype = DType::f32;
  ChangedEmbeddings embeddings = ChangedEmbeddings::saved;
};
/// A LoRA of `rank` whose merge into `base` comes nearest to `tuned`: of each linear layer that differs the best
/// approximation of that rank, with scale 1; modules of changed norms, embeddings and heads whole, and all biases if one
/// differs; embeddings and heads as LoRA too if asked. Tensors are compared by their names in the class (class_modules.h), in
/// half-split order; of an architecture that is not read the names are all there is. Error(bad_input) where the models are of
/// different shape or type, do not differ at all or not in a linear layer, Error(unsupported) naming the tensor that no
/// adapter expresses: a parameter that is no module's, experts that PEFT does not find by name, a LoRA of a head that is tied
/// to its embedding. Differences of rope and context are notes: an adapter has none.
MadeAdapter extract_adapter(const Source& tuned, const Source& base, const ExtractOptions& options);

/// Each product as the best of that rank, with scale 1; whole tensors, rows and biases as they are. Error(unsupported)
/// naming the key of what is no product by itself (DoRA, LoHa, VeRA, ...).
MadeAdapter rerank_adapter(const PeftAdapter& adapter, std::uint64_t rank, DType dtype);

/// The same with its scale times `factor`: its alphas are multiplied, the tensors are as they were. Error(unsupported)
/// naming the key of what alpha does not scale (whole tensors, rows, DoRA, IA3, ...).
MadeAdapter rescale_adapter(const PeftAdapter& adapter, double factor);

/// A folder of what stands in a GGUF (gguf_adapter.h), for a base of that configuration; `factor`: the user's scale.
MadeAdapter peft_of_gguf(const PeftAdapter& adapter, const ModelConfig& config, double factor);

}  // namespace ropewalk::formats
