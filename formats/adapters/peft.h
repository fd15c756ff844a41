#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "formats/json.h"
#include "lib/lazy_tensor.h"

namespace ropewalk::formats {

// What an adapter does to a tensor, by what may be done with it.

/// W + scale * B A. Sums of several are one pass over W, and they can be computed beside it (lib/unmerged.h).
struct LowRankChange {
  TensorPtr a, b;  // [rank, in], [out, rank]
  /// fan_in_fan_out: the base stores [in, out], as Conv1D does. Where the shape does not tell, the flag does.
  bool transposed = false;
  /// VeRA: a is one projection of all modules, as wide as the widest; a weight takes as many of its columns as it has.
  bool shared_a = false;
};
/// W + scale * D of any other form.
struct DeltaChange {
  std::function<TensorPtr(TensorPtr weight, double scale)> add;
};
/// No multiple of anything: a scale s of the user's takes the part s of the way, W + s (changed - W).
struct RewriteChange {
  std::function<TensorPtr(TensorPtr weight)> rewrite;
  bool as_trained = false;  // the same while the adapter is not merged: rows, biases
};
/// Another tensor in its place, which may have more rows.
struct ReplacementChange {
  TensorPtr tensor;
};

/// W + scale * B A for each of `experts` matrices in one parameter (expert_parameters.h); which tensors of a base hold it
/// is seen when it is merged.
struct ExpertsChange {
  TensorPtr a, b;  // [experts * rank, in], [out, rank * experts]
  std::uint64_t experts;
};

/// One change to one tensor of the base. Changes of an adapter to one tensor apply in the order they stand.
struct AdapterModule {
  std::string target;              // canonical tensor name, "model.layers.0.self_attn.q_proj.weight"; a parameter's
  std::string kind;                // "lora", "rslora", "dora", "lora-experts", ...; "saved", "rows", "bias"
  std::vector<TensorPtr> factors;  // of the file; the first names the module in messages
  std::uint64_t rank = 0;          // 0: it has none
  double scale = 1;                // of its configuration
  std::variant<LowRankChange, DeltaChange, RewriteChange, ReplacementChange, ExpertsChange> change;
  bool tied_too = false;        // in a model whose head is tied to the embedding, it changes both
  bool by_targets = true;       // target_modules names it; else modules_to_save, bias, trainable_token_indices
  bool if_there = false;        // a base without the target has nothing for it to change
  std::string class_name = {};  // what the target is in its class, where the base's files have another name for it
  bool base_copy = false;       // a replacement that PEFT saved beside an adapter of the same embedding or head
  std::vector<std::uint64_t> rows = {};  // that trainable_token_indices names, of kind "rows"
};

/// An adapter folder of PEFT 0.21.2 (adapter_config.json + adapter_model.safetensors). Kinds that are not read and
/// configuration fields that would change the mathematics are Error(unsupported) naming the field (kinds.h). Every key
/// is consumed exactly once (adapter_tensors.h); a key that fits nothing, a missing partner, NaN are Error(bad_input)
/// naming the key.
struct PeftAdapter {
  std::filesystem::path folder;   // or the GGUF (gguf_adapter.h)
  std::filesystem::path weights;  // the file with the factors
  std::string kind;               // "LoRA", "rsLoRA", "DoRA", "LoHa", ...
  Json config;                    // empty for a GGUF
  std::string config_text;        // of adapter_config.json, for the places in errors
  std::string base_model;         // base_model_name_or_path
  std::vector<AdapterModule> modules;
  std::vector<std::uint64_t> layers;  // of the base, if it is of a deeper model (layer_replication.h)
};
bool is_peft_adapter(const std::filesystem::path& folder);
PeftAdapter read_peft_adapter(const std::filesystem::path& folder);

struct ScaledAdapter {
  const PeftAdapter* adapter;
  double scale = 1;
};
struct MergeOptions {
  std::optional<DType> dtype = std::nullopt;   // nullopt: each tensor's stored dtype; of blocks none: unrounded
  std::optional<DType> blocks = std::nullopt;  // no blocks are wanted: `dtype` or else this, changed or not
  bool saturate = false;
  // Low-rank deltas stay beside the weights, which alone are cast (lib/unmerged.h): what the adapter computed while it was
  // trained. Kinds that are no sum of products have no such form: Error(unsupported) naming the kind.
  bool unmerged = false;
  bool tied_head = false;  // the base has no lm_head.weight: the embedding is the head
};
/// What was done to one weight, for the merge report.
struct MergedModule {
  std::string name, kind;
  std::uint64_t rank;
  double scale;  // the user's own included
};
struct MergeResult {
  std::vector<TensorPtr> base;     // as given; a head that is no longer tied is added at the end
  std::vector<TensorPtr> exact;    // for each: changed, before its rounding; nullptr where nothing changes it
  std::vector<TensorPtr> tensors;  // for each: rounded, or `exact` where it is not; what is not targeted: itself
  std::vector<MergedModule> modules;
  bool untied = false;             // embedding and head were one, and are two now
  std::vector<std::string> notes;  // where this is not what PEFT's merge_and_unload gives, and why; one line each
};
/// `base` with what the adapters change, one adapter after the other without rounding between, then one cast to
/// options.dtype. The user's scale multiplies deltas; of what is none it takes the part (RewriteChange).
/// Checks every shape; a module without a base tensor is Error(bad_input) naming key, and the nearest name.
MergeResult merge_adapters(const std::vector<TensorPtr>& base, const std::vector<ScaledAdapter>& adapters,
                           const MergeOptions& options = {});

}  // namespace ropewalk::formats
