#include "formats/gguf_rewrite.h"

#include <algorithm>
#include <map>

#include "formats/gguf_grown_vocabulary.h"
#include "lib/convert.h"
#include "lib/error.h"
#include "lib/plural.h"
#include "lib/recipes.h"

namespace ropewalk::formats {
namespace {

template <typename List>
bool holds(const List& list, const std::string& name) {
  return std::find(list.begin(), list.end(), name) != list.end();
}

std::vector<GgufKey> rewritten_keys(const GgufFile& file, const GgufChanges& changes) {
  std::vector<GgufKey> fresh;
  std::map<std::string, const GgufKey*> replaced;
  for (const GgufKey& key : changes.set_keys) {
    if (file.find(key.name) && !holds(changes.remove_keys, key.name)) replaced[key.name] = &key;
    else fresh.push_back(key);
  }
  std::vector<GgufKey> keys;
  bool placed = false;
  for (const GgufKey& key : file.keys) {
    if (!holds(changes.remove_keys, key.name) && !key.name.starts_with("split.")) {
      const auto found = replaced.find(key.name);
      keys.push_back(found == replaced.end() ? key : *found->second);
    }
    if (key.name == changes.after) {
      keys.insert(keys.end(), fresh.begin(), fresh.end());
      placed = true;
    }
  }
  if (!placed) keys.insert(keys.end(), fresh.begin(), fresh.end());
  return keys;
}

/// Which matrices llama-quantize of llama.cpp 0.5 gives the type asked for, in architecture llama.
bool takes_type(const GgufTensorPlan& tensor) {
  const std::vector<std::uint64_t>& shape = tensor.tensor->info().shape;
  // ggml drops the slowest dimensions of size 1
  const auto significant = std::find_if(shape.begin(), shape.end(), [](std::uint64_t n) { return n != 1; });
  return shape.end() - significant >= 2 && tensor.name.ends_with("weight") &&
         tensor.name.find("_norm.weight") == std::string::npos;
}

GgufChanges rope_changes(const GgufFile& file, const ModelConfig& config, RopeEncoding encoding, GgufExport& out) {
  GgufRope rope = with_path(file.files.front()->path(),
                            [&] { return gguf_rope(config.rope, config.head_dim, config.context, encoding); });
  GgufChanges changes;
  for (const GgufKey& key : file.keys)
    if (key.name.starts_with("llama.rope.") && key.name != "llama.rope.dimension_count")
      changes.remove_keys.push_back(key.name);
  changes.set_keys = std::move(rope.keys);
  changes.set_keys.push_back({"llama.context_length", gguf_u32(static_cast<std::uint32_t>(config.context))});
  changes.after =
      file.find("llama.attention.head_count_kv") ? "llama.attention.head_count_kv" : "llama.attention.head_count";
  changes.remove_tensors = {kGgufRopeFreqs, "rope_factors_long.weight", "rope_factors_short.weight"};
  if (!rope.frequency_divisors.empty())
    changes.first_tensors.push_back(
        {kGgufRopeFreqs, memory_tensor(kGgufRopeFreqs, {rope.frequency_divisors.size()}, rope.frequency_divisors),
         DType::f32});
  out.losses = std::move(rope.losses);
  out.notes = std::move(rope.notes);
  return changes;
}

/// The file's own encoding once more, for what adapters changed and nothing has rounded. Error(unsupported) for blocks that
/// a second rounding would harm more than q8_0's.
DType encoded_again(const LazyTensor& before) {
  if (is_block_type(before.dtype()) && before.dtype() != DType::q8_0)
    throw Error(ErrorKind::unsupported, {.path = std::string(before.file())},
                "'" + before.name() + "' is " + std::string(info(before.dtype()).name) +
                    ": merged, it would be quantized a second time, and worse than from the original",
                "give --type f16, bf16 or f32, or --dtype f16 for what adapters change alone, or merge into the model "
                "that was quantized");
  return before.dtype();
}

/// Puts the source's tensors, adapters applied, in the places of the file's.
void take_merged(GgufPlan& plan, const Source& source, ChangedBlocks changed) {
  std::map<std::string, std::size_t> by_name;
  for (std::size_t i = 0; i < plan.tensors.size(); ++i) by_name.emplace(plan.tensors[i].name, i);
  for (std::size_t i = 0; i < source.checkpoint.tensors.size(); ++i) {
    const TensorPtr& tensor = source.checkpoint.tensors[i];
    const auto name = gguf_tensor_name(tensor->name());
    const auto found = name ? by_name.find(*name) : by_name.end();
    const bool again = tensor == source.exact_tensors[i] && changed == ChangedBlocks::encode_again;
    const DType dtype = again ? encoded_again(*source.base_tensors[i]) : tensor->dtype();
    if (name && found == by_name.end() && tensor->name() == "lm_head.weight")  // no longer tied to the embedding
      plan.tensors.push_back({*name, tensor, dtype});
    if (found == by_name.end()) continue;
    GgufTensorPlan& place = plan.tensors[found->second];
    // what is out of its blocks stays out of them; all else keeps the file's encoding
    if (is_block_type(place.dtype) && !is_block_type(dtype)) place.dtype = dtype;
    place.tensor = tensor;
  }
}

/// Matrices take `type`, or f16 where it does not fit their rows. general.file_type says so.
void encode_as(GgufPlan& plan, DType type, bool saturate, std::vector<std::string>& notes) {
  std::size_t fallbacks = 0;
  for (GgufTensorPlan& tensor : plan.tensors) {
    if (!takes_type(tensor)) continue;
    tensor.out_of_range = saturate ? OutOfRange::clamp : OutOfRange::refuse;
    const bool fits = tensor.tensor->info().columns() % static_cast<std::uint64_t>(info(type).block_elements) == 0;
    tensor.dtype = fits ? type : DType::f16;
    fallbacks += fits ? 0 : 1;
  }
  if (fallbacks > 0)
    notes.push_back(plural(fallbacks, "tensor") +
                    (fallbacks == 1 ? " is f16: its rows are not whole " : " are f16: their rows are not whole ") +
                    std::string(info(type).name) + " blocks");
}

void check_encodings(const GgufPlan& plan, const std::string& path) {
  for (const GgufTensorPlan& tensor : plan.tensors) {
    if (tensor.dtype == tensor.tensor->dtype() && tensor.tensor->has_raw()) continue;
    if (can_encode(tensor.dtype) && can_decode(tensor.tensor->dtype())) continue;
    throw Error(ErrorKind::unsupported, {.path = path},
                "tensor '" + tensor.name + "' would have to be converted from " +
                    std::string(info(tensor.tensor->dtype()).name) + " to " + std::string(info(tensor.dtype).name) +
                    ", which cannot be done",
                "choose another type");
  }
}

/// The tokenizer that was chosen instead of the file's own, whole: no key of the old one stays beside it.
void replace_tokenizer(const Source& source, GgufChanges& changes, std::vector<std::string>& notes) {
  std::vector<GgufKey> keys = gguf_tokenizer_keys(source, false, notes);
  const auto is_set = [&](const std::string& name) {
    return std::any_of(keys.begin(), keys.end(), [&](const GgufKey& key) { return key.name == name; });
  };
  for (const GgufKey& key : source.gguf->keys)
    if (key.name.starts_with("tokenizer.") && !is_set(key.name)) changes.remove_keys.push_back(key.name);
  if (holds(changes.remove_keys, "tokenizer.chat_template"))
    notes.push_back("the GGUF's chat template is left out: the tokenizer from " + source.tokenizer_origin +
                    " has none");
  for (GgufKey& key : keys) changes.set_keys.push_back(std::move(key));
}

}  // namespace

GgufPlan rewrite_gguf(const GgufFile& file, const GgufChanges& changes) {
  GgufPlan plan;
  plan.alignment = file.alignment;
  plan.keys = rewritten_keys(file, changes);
  plan.tensors = changes.first_tensors;
  for (const TensorPtr& tensor : file.tensors) {
    const bool replaced = std::any_of(changes.first_tensors.begin(), changes.first_tensors.end(),
                                      [&](const GgufTensorPlan& t) { return t.name == tensor->name(); });
    if (!replaced && !holds(changes.remove_tensors, tensor->name()))
      plan.tensors.push_back({tensor->name(), tensor, tensor->dtype()});
  }
  return plan;
}

GgufExport rewrite_gguf_rope(const GgufFile& file, const ModelConfig& config, RopeEncoding encoding) {
  GgufExport out;
  const GgufChanges changes = rope_changes(file, config, encoding, out);
  out.plan = rewrite_gguf(file, changes);
  return out;
}

GgufExport rewrite_gguf_source(const Source& source, std::optional<DType> type, RopeEncoding encoding, bool saturate,
                               ChangedBlocks changed) {
  GgufExport out;
  GgufChanges changes;
  if (source.spec.rope) changes = rope_changes(*source.gguf, source.checkpoint.config, encoding, out);
  if (type) {
    const auto file_type = gguf_file_type(*type);
    if (!file_type)
      throw Error(ErrorKind::unsupported, {},
                  "GGUF type " + std::string(info(*type).name) + " is no type of a whole GGUF",
                  "choose f32, f16, bf16, q8_0 or a mix such as q4_k_m");
    changes.set_keys.push_back({"general.file_type", gguf_u32(*file_type)});
    changes.set_keys.push_back({"general.quantization_version", gguf_u32(2)});
  }
  for (GgufKey& key : grown_vocabulary_keys(source, out.notes)) changes.set_keys.push_back(std::move(key));
  if (!source.tokenizer_folder.empty()) replace_tokenizer(source, changes, out.notes);
  out.plan = rewrite_gguf(*source.gguf, changes);
  take_merged(out.plan, source, type ? ChangedBlocks::unrounded : changed);
  if (type) encode_as(out.plan, *type, saturate, out.notes);
  check_encodings(out.plan, source.checkpoint.label);
  return out;
}

}  // namespace ropewalk::formats
