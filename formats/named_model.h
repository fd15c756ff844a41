#pragma once

#include <string>
#include <vector>

#include "formats/adapters/peft.h"
#include "formats/hf_folder.h"
#include "lib/model_config.h"

// A Hugging Face folder of an architecture that is not read: its tensors have names and no roles. That is enough to merge
// an adapter: PEFT goes by the names of modules, and transformers 5.23.0 names a module as the files name its weight, but
// for conversions (conversion_mapping.py) of which none keeps a name and changes the values, except where a fused expert
// stands the other way round, which its sides tell (expert_parameters.h).

namespace ropewalk::formats {

/// True for a config.json of a class whose tensors' roles are known, for read_hf_config; and for one that names no class,
/// to be refused there.
bool reads_architecture(const Json& config);

/// What config.json says of such a model: model_type, tied_head and n_vocab, the rows of model.embed_tokens.weight, else
/// vocab_size; nothing else. Of a head that is tied and stored twice one is left, as read_hf_config's models have it.
/// Error(unsupported) for weights that are packed and a configuration that does not say how.
ModelConfig read_named_config(HfFiles& files, std::vector<std::string>& warnings);

/// PEFT 0.21.2 corrects a fan_in_fan_out that is not what the class of a layer is: so is the adapter read, where the class
/// is known. One trained on a quantized GPT-2, whose layers are linear then, says false.
void sides_of_class(PeftAdapter& adapter, const ModelConfig& config, const HfFolder& folder);

/// Before an adapter is merged into such a model: targets get the names that the files have. Known renamings of
/// transformers 5.23.0: `.mlp.` of what the files of Mixtral and its kin call `.block_sparse_moe.`; the parts of LLaVA,
/// Gemma 3 and Qwen-VL and their kin (`model.language_model.` and `language_model.model.`, or `model.`), either way round;
/// and the first part of a name, which files saved from the class without its head lack. A name counts only if the files
/// have it and no other of these. Of an embedding and a head that are saved alike, in files that have one for both, the head
/// is left out.
/// Error(bad_input) naming key, tensor and the nearest name where the base has none, Error(unsupported) for what only the
/// class tells: a tensor that is not floating point, an embedding or head that is or may be tied under names that are not
/// known, which side of a square matrix is which where it may be a Conv1D; and for a GGUF's
/// adapter, whose rows stand in llama's order.
void settle_targets(PeftAdapter& adapter, const std::vector<TensorPtr>& base, const ModelConfig& config,
                    const HfFolder& folder);

}  // namespace ropewalk::formats
