#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "formats/json.h"
#include "lib/lazy_tensor.h"

namespace ropewalk::formats {

/// One LoRA module of an adapter: delta = scale * B A on the weight of `target`.
struct LoraModule {
  std::string target;  // canonical tensor name of the weight: "model.layers.0.self_attn.q_proj.weight"
  TensorPtr a, b;      // [rank, in], [out, rank]
  std::uint64_t rank;
  double scale;  // lora_alpha / rank, or lora_alpha / sqrt(rank) with use_rslora; times the user's own scale
};

/// A PEFT adapter folder (adapter_config.json + adapter_model.safetensors), PEFT 0.21.2. Plain and rsLoRA; every other
/// kind and every config field that would change the mathematics is Error(unsupported) naming the field. Key spellings
/// met in the wild (with and without "base_model.model.", ".default.", "model.", "_orig_mod.", "module.") are accepted.
/// Every key is consumed exactly once; a key that fits nothing, a missing partner, NaN are Error(bad_input) naming the
/// key.
struct PeftAdapter {
  std::filesystem::path folder;
  std::filesystem::path weights;  // the file with the factors
  Json config;
  std::string config_text;  // of adapter_config.json, for the places in errors
  std::string base_model;   // base_model_name_or_path
  std::vector<LoraModule> modules;
};
bool is_peft_adapter(const std::filesystem::path& folder);
PeftAdapter read_peft_adapter(const std::filesystem::path& folder);

/// What was done to one weight, for the merge report.
struct MergedModule {
  std::string name, kind;  // kind: "lora" or "rslora"
  std::uint64_t rank;
  double scale;
};
/// base tensors with the adapter's deltas (one with_low_rank_delta per weight, however many adapters), then cast to
/// `merge_dtype` (each tensor's stored dtype if nullopt). `unmerged`: the deltas stay beside the weights instead, which
/// alone are cast (lib/unmerged.h): what the adapter computed while it was trained. Kinds of adapters that are no sum of
/// products have no such form: whoever reads one must refuse it here by name.
/// Checks every shape; a module without a base tensor is Error(bad_input) naming key, and the nearest name. Tensors not
/// targeted pass through untouched.
struct ScaledAdapter {
  const PeftAdapter* adapter;
  double scale = 1;
};
struct MergeResult {
  std::vector<TensorPtr> tensors;
  std::vector<MergedModule> modules;
};
MergeResult merge_adapters(const std::vector<TensorPtr>& base, const std::vector<ScaledAdapter>& adapters,
                           std::optional<DType> merge_dtype, bool saturate, bool unmerged = false);

}  // namespace ropewalk::formats
