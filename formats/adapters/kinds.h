#pragma once

#include <filesystem>
#include <optional>
#include <span>
#include <string_view>

#include "formats/adapters/adapter_tensors.h"
#include "formats/adapters/peft.h"
#include "formats/adapters/peft_config.h"

namespace ropewalk::formats {

/// What a field of adapter_config.json has to be.
enum class FieldType { any, boolean, list, object, list_or_object, biases };
enum class FieldUse {
  none,     // bookkeeping, training, or the choice of targets (peft_targets.h): nothing a merge needs
  read,     // by the kind's reader
  refused,  // changes the merge and is not read: any value that switches it on is Error(unsupported)
};
struct AdapterField {
  std::string_view name;
  FieldType type;
  FieldUse use;
};

/// What a reader of one kind works with: it takes its keys and leaves one AdapterModule for each tensor they change.
struct AdapterReading {
  const PeftConfig& config;
  AdapterTensors& tensors;
  std::vector<AdapterModule>& modules;
};

/// One kind of adapter that PEFT 0.21.2 writes, and a merge into the weights exists for.
struct AdapterKind {
  std::string_view peft_type;            // "LORA"
  std::string_view name;                 // "LoRA"
  std::span<const AdapterField> fields;  // beside those that all kinds have
  void (*read)(AdapterReading& reading);
  std::string_view variants = {};  // what its configuration makes of it beyond the plain one, for people
};
/// All of them.
std::span<const AdapterKind* const> adapter_kinds();
/// nullptr if it is not read.
const AdapterKind* find_kind(std::string_view peft_type);
/// Why an adapter of this type cannot be merged into weights; empty if the type is not known at all.
std::string_view why_not_merged(std::string_view peft_type);
/// nullptr for a field that neither all kinds nor this one has.
const AdapterField* find_field(const AdapterKind& kind, std::string_view name);

/// True if the factors are of a weight that the base stores as [in, out]: the flag says so, and the shape allows it. Where
/// both fit, a square, transformers' names of such layers decide (Conv1D, of GPT-2 and its kin): PEFT ignores the flag
/// for others.
bool stands_transposed(const LowRankChange& change, const LazyTensor& weight);

/// A low-rank change of an embedding: the file has its factors the other way round, A as [rank, rows], B as [columns, rank].
bool of_embedding(const AdapterModule& module);

/// read_peft_adapter() with the fan_in_fan_out that the base's class says, whatever the configuration does; nullopt: nothing.
PeftAdapter read_peft_adapter_for(const std::filesystem::path& folder, std::optional<bool> fan_in_fan_out);

// The readers, one file each.
extern const AdapterKind kLora, kLoha, kLokr, kIa3, kVera, kAdaLora, kLnTuning, kOft, kBoft, kHra;

/// Whole tensors and rows, which adapters of any kind may carry: modules_to_save, embeddings saved because they grew or
/// are targets, biases (`bias`), rows of trainable_token_indices.
void read_saved_tensors(AdapterReading& reading);
/// True if an entry of modules_to_save is the module or one above it. PEFT compares the ends of paths, letter by letter:
/// "norm" is "input_layernorm" too.
bool saves(const std::string& name, const std::string& module);

}  // namespace ropewalk::formats
