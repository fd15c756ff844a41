#include <algorithm>
#include <map>

#include "formats/gguf_metadata.h"
#include "formats/gguf_model.h"
#include "formats/hub_cache.h"
#include "formats/safetensors.h"
#include "formats/synthetic.h"
#include "lib/error.h"
#include "lib/file.h"
#include "lib/plural.h"
#include "lib/recipes.h"

namespace ropewalk::formats {
namespace {

constexpr std::uint32_t kQuantizationVersion = 2;  // GGML_QNT_VERSION

/// A tensor to write, the same for every type.
struct Exported {
  std::string name;
  TensorPtr tensor;
  bool always_f32;
};

/// Names in the order in which the converter meets them: shards by name, tensors of a shard by name. Position by
/// canonical name.
std::map<std::string, std::size_t> converter_order(const std::vector<std::filesystem::path>& weight_files) {
  std::vector<std::filesystem::path> shards = weight_files;
  std::sort(shards.begin(), shards.end(), [](const auto& a, const auto& b) { return a.filename() < b.filename(); });
  std::map<std::string, std::size_t> order;
  for (const std::filesystem::path& shard : shards) {
    if (shard.extension() != ".safetensors") continue;
    std::vector<std::string> names;
    for (const TensorPtr& tensor : read_safetensors(shard).tensors) names.push_back(tensor->name());
    std::sort(names.begin(), names.end());
    for (std::string& name : names) order.emplace(std::move(name), order.size());
  }
  return order;
}

TensorPtr interleaved(const TensorPtr& tensor, const ModelConfig& config) {
  if (tensor->info().pairs != RotaryPairs::half_split) return tensor;
  return with_rotary_pairs(tensor, RotaryPairs::interleaved, config);
}

/// In llama.cpp 0.5's converter: vectors, norms and whatever is not a ".weight".
bool stays_f32(const std::string& name, const TensorInfo& info) {
  return info.shape.size() <= 1 || name.ends_with("_norm.weight") || !name.ends_with(".weight");
}

std::vector<Exported> exported_tensors(const Source& source, bool compat, std::vector<std::string>& notes) {
  const Checkpoint& checkpoint = source.checkpoint;
  const std::map<std::string, std::size_t> order = converter_order(source.hf->weight_files);
  std::vector<std::pair<std::size_t, Exported>> placed;
  const auto place = [&](const std::string& canonical, const TensorPtr& tensor) {
    const std::optional<std::string> name = gguf_tensor_name(canonical);
    if (!name) {
      notes.push_back("tensor '" + canonical + "' has no place in architecture llama and is left out");
      return;
    }
    const auto found = order.find(canonical);
    placed.emplace_back(found == order.end() ? order.size() + placed.size() : found->second,
                        Exported{*name, tensor, stays_f32(*name, tensor->info())});
  };
  for (const TensorPtr& tensor : checkpoint.tensors) place(tensor->name(), interleaved(tensor, checkpoint.config));
  // The converter keeps a stored head that equals the embedding it is tied to.
  if (compat && !checkpoint.find("lm_head.weight") && order.contains("lm_head.weight"))
    if (const TensorPtr embedding = checkpoint.find("model.embed_tokens.weight")) place("lm_head.weight", embedding);
  std::stable_sort(placed.begin(), placed.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<Exported> out;
  for (auto& entry : placed) out.push_back(std::move(entry.second));
  return out;
}

/// The name that general.name and its neighbours are found in.
std::string folder_name(const std::filesystem::path& folder, bool compat) {
  if (compat) {
    const std::filesystem::path name = folder.has_filename() ? folder.filename() : folder.parent_path().filename();
    return name == "." ? "" : name.string();
  }
  return repository_of(folder).value_or(whole_path(folder).filename().string());
}

/// llama.* keys, general.file_type among them, in the converter's order.
void put_architecture(std::vector<GgufKey>& keys, const ModelConfig& config, const GgufRope& rope, DType type) {
  const auto u32 = [&](const char* name, int value) {
    keys.push_back({name, gguf_u32(static_cast<std::uint32_t>(value))});
  };
  u32("llama.block_count", config.n_layers);
  u32("llama.context_length", config.context);
  u32("llama.embedding_length", config.d_model);
  u32("llama.feed_forward_length", config.d_ff);
  u32("llama.attention.head_count", config.n_heads);
  u32("llama.attention.head_count_kv", config.n_kv_heads);
  keys.insert(keys.end(), rope.keys.begin(), rope.keys.end());
  keys.push_back({"llama.attention.layer_norm_rms_epsilon", gguf_f32(static_cast<float>(config.rms_eps))});
  u32("llama.attention.key_length", config.head_dim);
  u32("llama.attention.value_length", config.head_dim);
  keys.push_back({"general.file_type", gguf_u32(*gguf_file_type(type))});
  u32("llama.vocab_size", config.n_vocab);
  u32("llama.rope.dimension_count", config.head_dim);
}

void check_options(const Source& source, const GgufExportOptions& options) {
  if (!source.hf)
    throw Error(ErrorKind::unsupported, {.path = source.checkpoint.label},
                "only a Hugging Face folder is exported to GGUF; this is one already", "rewrite it with --type keep");
  if (!gguf_file_type(options.type))
    throw Error(ErrorKind::unsupported, {},
                "GGUF type " + std::string(info(options.type).name) + " is no type of a whole GGUF",
                "choose f32, f16, bf16, q8_0 or a mix such as q4_k_m");
  if (options.compat && *options.compat != "llama.cpp@0.5")
    throw Error(ErrorKind::unsupported, {}, "--compat " + *options.compat + " is not known",
                "use --compat llama.cpp@0.5");
}

std::optional<Loss> sliding_window_loss(const ModelConfig& config) {
  if (!config.sliding_window || *config.sliding_window >= config.context) return std::nullopt;
  return Loss{"sliding_window",
              "llama.cpp's architecture llama attends to all earlier tokens, the model to the last " +
                  std::to_string(*config.sliding_window),
              *config.sliding_window, true};
}

/// What all types share.
struct Common {
  std::vector<GgufKey> general, tokenizer;
  std::vector<Exported> tensors;
  GgufRope rope;
  std::vector<Loss> losses;
  std::vector<std::string> notes;
};

Common prepare(const Source& source, const GgufExportOptions& options) {
  const ModelConfig& config = source.checkpoint.config;
  const bool compat = options.compat.has_value();
  Common common;
  common.rope = with_path(
      source.spec.rope ? "rope '" + *source.spec.rope + "'" : (source.hf->folder / "config.json").string(), [&] {
        return compat ? gguf_rope_compat(source.hf->config)
                      : gguf_rope(config.rope, config.head_dim, config.context, options.rope_encoding);
      });
  common.losses = common.rope.losses;
  common.notes = common.rope.notes;
  if (const auto loss = sliding_window_loss(config)) common.losses.push_back(*loss);
  if (compat)  // it writes what llama.cpp cannot do as little as anybody
    for (const Loss& loss : inherent_rope_losses(config.rope, config.context)) common.losses.push_back(loss);
  common.tensors = exported_tensors(source, compat, common.notes);
  if (!common.rope.frequency_divisors.empty())
    common.tensors.insert(
        common.tensors.begin(),
        Exported{kGgufRopeFreqs,
                 memory_tensor(kGgufRopeFreqs, {common.rope.frequency_divisors.size()}, common.rope.frequency_divisors),
                 true});

  GeneralMetadata general{.folder = source.hf->folder,
                          .folder_name = folder_name(source.hf->folder, compat),
                          .config = source.hf->config,
                          .generation_config = source.hf->generation_config,
                          .overrides = options.metadata,
                          .strict_overrides = !options.compat,
                          .model_name = options.model_name};
  for (const Exported& tensor : common.tensors)
    general.total_parameters += std::int64_t(tensor.tensor->info().elements());
  common.general = gguf_general_keys(general, common.notes);
  if (source.synthetic) {
    std::erase_if(common.general, [](const GgufKey& key) { return key.name == "general.description"; });
    common.general.push_back({"general.description", gguf_string(kSyntheticDescription)});
  }
  common.tokenizer = gguf_tokenizer_keys(source, compat, common.notes);
  return common;
}

GgufExport assemble(const Source& source, const Common& common, const GgufExportOptions& options) {
  const DType type = options.type;
  const OutOfRange out_of_range = options.compat     ? OutOfRange::ieee
                                  : options.saturate ? OutOfRange::clamp
                                                     : OutOfRange::refuse;
  GgufExport out;
  out.losses = common.losses;
  out.notes = common.notes;
  std::vector<GgufKey>& keys = out.plan.keys;
  keys = {{"general.architecture", gguf_string("llama")}, {"general.type", gguf_string("model")}};
  keys.insert(keys.end(), common.general.begin(), common.general.end());
  put_architecture(keys, source.checkpoint.config, common.rope, type);
  keys.push_back({"general.quantization_version", gguf_u32(kQuantizationVersion)});
  keys.insert(keys.end(), common.tokenizer.begin(), common.tokenizer.end());

  std::size_t fallbacks = 0;
  const auto block = static_cast<std::uint64_t>(info(type).block_elements);
  for (const Exported& tensor : common.tensors) {
    DType dtype = tensor.always_f32 ? DType::f32 : type;
    if (!tensor.always_f32 && tensor.tensor->info().columns() % block != 0) {
      dtype = DType::f16;
      ++fallbacks;
    }
    out.plan.tensors.push_back({tensor.name, tensor.tensor, dtype, out_of_range});
  }
  if (fallbacks > 0)
    out.notes.push_back(plural(fallbacks, "tensor") +
                        (fallbacks == 1 ? " is f16: its rows are not whole " : " are f16: their rows are not whole ") +
                        std::string(info(type).name) + " blocks of " + std::to_string(block));
  return out;
}

bool same_but_type(const GgufExportOptions& a, const GgufExportOptions& b) {
  return a.compat == b.compat && a.rope_encoding == b.rope_encoding && a.model_name == b.model_name &&
         a.metadata == b.metadata;
}

}  // namespace

std::optional<std::uint32_t> gguf_file_type(DType type) {
  switch (type) {
    case DType::f32: return 0;
    case DType::f16: return 1;
    case DType::q8_0: return 7;
    case DType::bf16: return 32;
    default: return std::nullopt;
  }
}

DType gguf_auto_type(const Source& source) {
  for (const TensorPtr& tensor : source.checkpoint.tensors)
    if (tensor->info().shape.size() >= 2 && (tensor->dtype() == DType::bf16 || tensor->dtype() == DType::f16))
      return tensor->dtype();
  return DType::f16;
}

std::vector<GgufExport> export_ggufs(const Source& source, const std::vector<GgufExportOptions>& options) {
  for (const GgufExportOptions& one : options) check_options(source, one);
  std::vector<GgufExport> out;
  std::optional<Common> common;
  for (std::size_t i = 0; i < options.size(); ++i) {
    if (i == 0 || !same_but_type(options[i], options[i - 1])) common = prepare(source, options[i]);
    out.push_back(assemble(source, *common, options[i]));
  }
  return out;
}

GgufExport export_gguf(const Source& source, const GgufExportOptions& options) {
  return std::move(export_ggufs(source, {options}).front());
}

}  // namespace ropewalk::formats
