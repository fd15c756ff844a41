#include "formats/quantize/quantize.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <set>

#include "lib/codecs/encode.h"
#include "lib/convert.h"
#include "lib/error.h"
#include "lib/forwarding_tensor.h"
#include "lib/recipes.h"

namespace ropewalk::formats {
namespace {

/// The layer in "blk.N...", -1 without: what llama.cpp 0.5 orders tensors by.
int layer_of(std::string_view name) {
  int layer = -1;
  if (name.starts_with("blk.")) (void)std::from_chars(name.data() + 4, name.data() + name.size(), layer);
  return layer;
}

/// A tensor of the source that stays, under the name it gets.
struct Kept {
  std::string name;
  const GgufTensorPlan* source;
  int shard;
};

/// Numbers for the layers that stay, by their old ones.
std::map<int, int> renumbered(const std::set<int>& layers, const std::vector<int>& pruned) {
  for (const int layer : pruned)
    if (!layers.contains(layer))
      throw Error(ErrorKind::usage, {}, "--prune-layers names layer " + std::to_string(layer) + ", which is not there",
                  layers.empty() ? "leave it out: the file has no layers"
                                 : "the last layer is " + std::to_string(*layers.rbegin()));
  std::map<int, int> numbers;
  for (const int layer : layers)
    if (std::find(pruned.begin(), pruned.end(), layer) == pruned.end()) numbers.emplace(layer, int(numbers.size()));
  if (numbers.empty()) throw Error(ErrorKind::usage, {}, "--prune-layers names every layer", "keep at least one");
  return numbers;
}

/// Without pruned layers, in llama-quantize's order: by layer and name, or as the shards hold them.
std::vector<Kept> kept_tensors(const GgufPlan& source, const QuantizeOptions& options) {
  std::map<int, int> numbers;
  if (!options.prune_layers.empty()) {
    std::set<int> layers;
    for (const GgufTensorPlan& tensor : source.tensors) layers.insert(layer_of(tensor.name));
    layers.erase(-1);
    numbers = renumbered(layers, options.prune_layers);
  }
  std::vector<Kept> kept;
  for (std::size_t i = 0; i < source.tensors.size(); ++i) {
    std::string name = source.tensors[i].name;
    const int layer = layer_of(name);
    if (!numbers.empty() && layer >= 0) {
      const auto number = numbers.find(layer);
      if (number == numbers.end()) continue;
      name.replace(4, std::to_string(layer).size(), std::to_string(number->second));
    }
    kept.push_back({std::move(name), &source.tensors[i], options.shard_of.empty() ? 0 : options.shard_of[i]});
  }
  if (options.shard_of.empty())  // by the old names, as llama-quantize does: the new ones are in the same order
    std::sort(kept.begin(), kept.end(), [](const Kept& a, const Kept& b) {
      const int layer_a = layer_of(a.source->name), layer_b = layer_of(b.source->name);
      return layer_a != layer_b ? layer_a < layer_b : a.source->name < b.source->name;
    });
  return kept;
}

/// ggml writes no dimensions of 1 that vary slowest: a matrix of one row is a vector.
TensorPtr without_unit_dims(TensorPtr tensor) {
  TensorInfo info = tensor->info();
  while (info.shape.size() > 1 && info.shape.front() == 1) info.shape.erase(info.shape.begin());
  if (info.shape.size() == tensor->info().shape.size()) return tensor;
  return std::make_shared<RelabelledTensor>(std::move(info), std::move(tensor));
}

/// As ggml's gguf_set_val_*: a key that is there goes, and the new one follows all others.
void set_key(std::vector<GgufKey>& keys, GgufKey key) {
  std::erase_if(keys, [&](const GgufKey& old) { return old.name == key.name; });
  keys.push_back(std::move(key));
}

/// llama.cpp 0.5 keeps 127 bytes of a string that overrides a key.
GgufValue override_text(const std::string& text) { return gguf_string(text.substr(0, 127)); }

/// What llama.cpp 0.5 takes a file for that does not say: the type that most tensors have, of equals the first to reach
/// that number by layers and names, and the bit that says so.
std::uint32_t guessed_file_type(const GgufPlan& source) {
  constexpr std::uint32_t kGuessed = 1024, kNvfp4 = 39;
  std::map<DType, std::size_t> counts;
  DType most = DType::f32;
  for (const Kept& one : kept_tensors(source, {})) {
    ++counts[one.source->dtype];
    if (counts[one.source->dtype] > counts[most]) most = one.source->dtype;
  }
  if (most == DType::nvfp4) return kGuessed | kNvfp4;
  return kGuessed | static_cast<std::uint32_t>(file_type_from_name(info(most).name).value_or(FileType::f32));
}

std::vector<GgufKey> keys_of(const GgufFile& file, const GgufPlan& source, const QuantizeOptions& options) {
  std::vector<GgufKey> keys = file.keys;
  const auto stored = file.integer("general.file_type");
  const std::uint32_t type = !options.copy ? static_cast<std::uint32_t>(options.mix.type)
                             : stored      ? static_cast<std::uint32_t>(*stored)
                                           : guessed_file_type(source);
  set_key(keys, {"general.quantization_version", gguf_u32(2)});
  set_key(keys, {"general.file_type", gguf_u32(type)});
  for (const GgufKey& key : options.override_keys) set_key(keys, key);
  if (options.imatrix) {
    set_key(keys, {"quantize.imatrix.file", override_text(options.imatrix_file)});
    if (!options.imatrix->datasets.empty())
      set_key(keys, {"quantize.imatrix.dataset", override_text(options.imatrix->datasets.front())});
    set_key(keys, {"quantize.imatrix.entries_count", gguf_u32(std::uint32_t(options.imatrix->entries.size()))});
    if (options.imatrix->chunks > 0)
      set_key(keys, {"quantize.imatrix.chunks_count", gguf_u32(std::uint32_t(options.imatrix->chunks))});
  }
  return keys;
}

/// The importances of a tensor: nullptr if there are none for it.
const ImatrixEntry* importances_for(const Kept& kept, const QuantizeOptions& options) {
  if (!options.imatrix) return nullptr;
  const auto found = options.imatrix->entries.find(kept.source->name);
  if (found == options.imatrix->entries.end()) return nullptr;
  const TensorInfo& info = kept.source->tensor->info();
  const std::uint64_t experts = info.shape.size() > 2 ? info.shape[info.shape.size() - 3] : 1;
  const std::size_t wanted = info.columns() * experts;
  if (found->second.values.size() == wanted) return &found->second;
  if (kept.name == "token_embd.weight" || kept.name == "per_layer_token_embd.weight") return nullptr;
  throw Error(ErrorKind::bad_input, {.path = options.imatrix->path},
              "'" + kept.name + "' has " + std::to_string(found->second.values.size()) + " importances, its tensor " +
                  std::to_string(info.columns()) + " columns" +
                  (experts > 1 ? " and " + std::to_string(experts) + " experts" : ""),
              "collect the importance matrix with this model");
}

/// Refuses what llama-quantize refuses, and what cannot be encoded or decoded here.
void check_encoding(const QuantizedTensor& tensor, bool needs_importance, const std::string& path,
                    const QuantizeOptions& options) {
  const auto refuse = [&](const std::string& problem, const std::string& fix) {
    throw Error(ErrorKind::unsupported, {.path = path}, "tensor '" + tensor.name + "' " + problem, fix);
  };
  const std::string to(info(tensor.to).name), from(info(tensor.from).name);
  if (needs_importance && !tensor.weighted)
    refuse("is to become " + to + ", which needs importances, and there are none for it",
           options.imatrix ? "collect them for this tensor too, or choose another type"
                           : "give --imatrix, or choose another type");
  if (tensor.to == tensor.from) return;
  if (is_block_type(tensor.from) && !options.allow_requantize)
    refuse("is " + from + " already, and quantizing it to " + to + " loses more than quantizing the original",
           "start from an f16, bf16 or f32 GGUF, or give --allow-requantize");
  if (has_block_encoder(tensor.to) && importances_of(tensor.to) == Importances::required && !tensor.weighted)
    refuse("is to become " + to + ", which cannot be encoded without importances",
           "give --imatrix with an entry for it, or another type for it");
  if (!can_decode(tensor.from)) refuse("is " + from + ", which cannot be read", "start from another encoding");
  if (!can_encode(tensor.to) && !tensor.weighted)
    refuse("is to become " + to + ", which cannot be written yet", "choose another type");
}

}  // namespace

QuantizePlan quantize_plan(const GgufPlan& source, const std::string& path, const QuantizeOptions& options) {
  const std::vector<Kept> kept = kept_tensors(source, options);
  GgufFile described;  // its keys as they will be: those that --override-kv changes count for the mix too
  described.keys = source.keys;
  described.keys = keys_of(described, source, options);
  MixOptions mix = options.mix;
  mix.importance = options.imatrix != nullptr;
  std::vector<MixTensor> tensors;
  std::vector<MixedTensor> mixed;
  for (const Kept& one : kept) {
    tensors.push_back({one.name, one.source->tensor->info().shape, one.source->dtype});
    mixed.push_back({one.source->dtype, one.source->dtype});
  }
  if (!options.copy) mixed = mix_types(tensors, mix_model(described), mix);

  QuantizePlan out;
  out.plan.alignment = source.alignment;
  for (std::size_t i = 0; i < kept.size(); ++i) {
    const ImatrixEntry* importances = importances_for(kept[i], options);
    QuantizedTensor tensor{kept[i].name, kept[i].source->name, tensors[i].dtype, mixed[i].dtype, mixed[i].wanted};
    tensor.weighted = importances && tensor.to != tensor.from && has_block_encoder(tensor.to) &&
                      importances_of(tensor.to) != Importances::ignored;
    check_encoding(tensor, mixed[i].needs_importance, path, options);
    GgufTensorPlan plan = *kept[i].source;
    plan.name = kept[i].name;
    plan.tensor = without_unit_dims(plan.tensor);
    if (tensor.to != tensor.from) {
      // through the source's encoding, as if it had been written
      plan.tensor = cast(plan.tensor, tensor.from, options.saturate);
      plan.dtype = tensor.to;
      plan.out_of_range = options.saturate ? OutOfRange::clamp : OutOfRange::refuse;
    }
    if (tensor.weighted) {
      tensor.experts_unseen = importances->experts_unseen;
      plan.importances = std::make_shared<const std::vector<float>>(importances->values);
    }
    out.plan.tensors.push_back(std::move(plan));
    if (i > 0 && kept[i].shard != kept[i - 1].shard) out.split.first_tensors.push_back(i);
    out.tensors.push_back(std::move(tensor));
  }
  if (!options.prune_layers.empty()) {
    int layers = 0;
    for (const Kept& one : kept) layers = std::max(layers, layer_of(one.name) + 1);
    set_key(described.keys, {described.string("general.architecture").value_or("") + ".block_count",
                             gguf_u32(static_cast<std::uint32_t>(layers))});
  }
  out.plan.keys = std::move(described.keys);
  return out;
}

}  // namespace ropewalk::formats
