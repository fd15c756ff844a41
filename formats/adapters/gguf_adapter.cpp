#include "formats/adapters/gguf_adapter.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>

#include "formats/adapters/adapter_tensors.h"
#include "formats/gguf_metadata.h"
#include "formats/gguf_model.h"
#include "formats/tied_head.h"
#include "lib/adapters/adapter_recipes.h"
#include "lib/adapters/best_of_rank.h"
#include "lib/convert.h"
#include "lib/error.h"
#include "lib/file.h"
#include "lib/number_text.h"
#include "lib/plural.h"
#include "lib/recipes.h"

namespace ropewalk::formats {
namespace {

namespace fs = std::filesystem;

constexpr const char* kAlpha = "adapter.lora.alpha";

bool is_rotary(const std::string& target) {
  return target.ends_with(".q_proj.weight") || target.ends_with(".k_proj.weight");
}

[[noreturn]] void refuse(ErrorKind kind, const std::string& path, const std::string& problem, const std::string& fix) {
  throw Error(kind, {.path = path}, problem, fix);
}

void check_keys(const GgufFile& file, const std::string& path) {
  const std::string type = file.string("general.type").value_or("");
  if (type != "adapter")
    refuse(ErrorKind::bad_input, path, "general.type is '" + type + "', expected 'adapter'",
           "it is a model: name it before the '+'");
  const std::string arch = file.string("general.architecture").value_or("");
  if (arch != "llama")
    refuse(ErrorKind::unsupported, path, "the adapter is of architecture '" + arch + "', and only llama is read",
           "merge it with the program that runs that architecture");
  const std::string kind = file.string("adapter.type").value_or("");
  if (kind != "lora")
    refuse(ErrorKind::unsupported, path, "adapter.type is '" + kind + "', and only 'lora' is read",
           "llama.cpp 0.5 applies no other kind either");
  if (file.find("adapter.alora.invocation_tokens"))
    refuse(ErrorKind::unsupported, path,
           "the adapter applies only after its invocation tokens (aLoRA): it is no change of weights",
           "serve it beside the model");
}

struct Pair {
  TensorPtr a, b;
};

/// The change that a pair of the file is, of the tensor `target`.
AdapterModule module_of(const std::string& target, const Pair& pair, double alpha, const std::string& path) {
  const TensorPtr present = pair.a ? pair.a : pair.b;
  if (!pair.a || !pair.b)
    refuse(ErrorKind::bad_input, path,
           "'" + present->name() + "' has no partner: lora_" + (pair.a ? "b" : "a") + " of '" + target + "' is missing",
           "the adapter is incomplete: convert it again");
  for (const TensorPtr& tensor : {pair.a, pair.b}) {
    require_axes(*tensor, 2, path);
    if (!can_decode(tensor->dtype()))
      refuse(ErrorKind::unsupported, path,
             "'" + tensor->name() + "' is " + std::string(info(tensor->dtype()).name) + ", which is not read",
             "convert the adapter to f16");
    require_finite(*tensor, path);
  }
  const bool embedding = target == kEmbeddingWeight;
  const std::uint64_t rank = pair.b->info().shape[1], other = pair.a->info().shape[embedding ? 1 : 0];
  if (rank == 0 || rank != other)
    refuse(ErrorKind::bad_input, path,
           "'" + pair.a->name() + "' " + shape_text(pair.a->info().shape) + " and '" + pair.b->name() + "' " +
               shape_text(pair.b->info().shape) + " do not have one rank",
           "the factors belong to different adapters");
  LowRankChange change{pair.a, pair.b};
  if (embedding) change = {transposed(pair.b), pair.a};
  else if (is_rotary(target)) change.b = labelled(pair.b, RotaryPairs::interleaved);
  return {target, "lora", {pair.a, pair.b}, rank, alpha == 0 ? 1 : alpha / double(rank), std::move(change)};
}

/// "blk.0.attn_q.weight" and 'a' of "blk.0.attn_q.weight.lora_a".
struct FactorName {
  std::string target;
  bool is_a;
};
FactorName taken_apart(const std::string& name, const std::string& path) {
  constexpr std::string_view kA = ".lora_a", kB = ".lora_b";
  if (name.ends_with("_norm.weight"))
    refuse(
        ErrorKind::unsupported, path,
        "'" + name + "' is a whole norm, which llama.cpp 0.5 leaves unused: what the adapter is meant to do is unclear",
        "merge the adapter that it was converted from");
  const bool is_a = name.ends_with(kA);
  if (!is_a && !name.ends_with(kB))
    refuse(ErrorKind::bad_input, path, "tensor '" + name + "' is neither a lora_a nor a lora_b",
           "every tensor must be used: convert the adapter again");
  const std::string of = name.substr(0, name.size() - kA.size());
  const auto target = canonical_tensor_name(of);
  if (!target)
    refuse(ErrorKind::bad_input, path, "'" + name + "' is of '" + of + "', which architecture llama does not have",
           "the adapter was made for another model");
  return {*target, is_a};
}

/// The alpha that llama.cpp divides by the rank, and what is left for each B.
struct Scales {
  float alpha = 1;
  std::vector<double> folds;  // by module
};
Scales scales_of(const PeftAdapter& adapter, const std::vector<const AdapterModule*>& modules, double factor) {
  Scales out;
  const Json said = adapter.config.value("lora_alpha", Json());
  const double alpha =
      factor * (said.is_number() ? said.get<double>() : modules.front()->scale * double(modules.front()->rank));
  if (float(alpha) != 0 && std::isfinite(float(alpha))) out.alpha = float(alpha);  // 0 means "no alpha" to llama.cpp
  for (const AdapterModule* module : modules) {
    const double rank = double(module->rank), scale = factor * module->scale;
    out.folds.push_back(scale == double(out.alpha) / rank ? 1 : scale * rank / double(out.alpha));
  }
  return out;
}

/// In the order of the converter, which is that of PEFT's file: by key.
std::vector<const AdapterModule*> ordered(const PeftAdapter& adapter) {
  std::vector<const AdapterModule*> modules;
  for (const AdapterModule& module : adapter.modules)
    if (!module.base_copy) modules.push_back(&module);
  std::ranges::stable_sort(modules, {}, [](const AdapterModule* module) { return module->factors.front()->name(); });
  return modules;
}

void check_expressible(const PeftAdapter& adapter, const AdapterModule& module, const ModelConfig& config) {
  const std::string key = module.factors.front()->name();
  const auto* change = std::get_if<LowRankChange>(&module.change);
  if (!change || change->shared_a)
    refuse(ErrorKind::unsupported, adapter.weights.string(),
           "'" + key + "' is of kind " + module.kind + ", and a GGUF adapter holds products of two thin matrices alone",
           "merge it instead: ropewalk convert BASE+" + adapter.folder.string() + " -o FILE.gguf");
  if (!gguf_tensor_name(module.target))
    refuse(ErrorKind::unsupported, adapter.weights.string(),
           "'" + key + "' targets '" + module.target + "', which architecture llama does not have",
           "convert an adapter of a llama or mistral");
  if (module.target == kHeadWeight && config.tied_head)
    refuse(ErrorKind::unsupported, adapter.weights.string(),
           "'" + key + "' changes a head that the base has tied to its embedding: its GGUF has no tensor for it",
           "merge it instead: ropewalk convert BASE+" + adapter.folder.string() + " -o FILE.gguf");
}

/// What PEFT saved below its own change, which no GGUF adapter holds: as the base has it, or it would be lost.
std::string leave_out(const PeftAdapter& adapter, const AdapterModule& copy, const ModelConfig& config,
                      const std::vector<TensorPtr>& base) {
  const LazyTensor& saved = *copy.factors.front();
  const std::string name = config.tied_head ? kEmbeddingWeight : copy.target;
  const auto found = std::ranges::find_if(base, [&](const TensorPtr& tensor) { return tensor->name() == name; });
  const bool weights = found != base.end(), blocks = weights && is_block_type((*found)->dtype());
  const std::vector<std::uint64_t> shape =
      weights ? (*found)->info().shape
              : std::vector<std::uint64_t>{std::uint64_t(config.n_vocab), std::uint64_t(config.d_model)};
  const bool compared = weights && !blocks;
  if (saved.info().shape != shape ||
      (compared && !same_values(*cast(copy.factors.front(), (*found)->dtype()), **found)))
    refuse(ErrorKind::unsupported, adapter.weights.string(),
           "'" + saved.name() + "' " + shape_text(saved.info().shape) + " is another tensor than '" + copy.target +
               "' " + shape_text(shape) + " of the base, and a GGUF adapter has no place for it",
           "merge it instead: ropewalk convert BASE+" + adapter.folder.string() + " -o FILE.gguf");
  return "'" + saved.name() + "' is what lies below the adapter's own change, " +
         (compared ? "as the base has it" : "of the base's shape, and its values were not compared") + ": left out";
}

/// In the converter's order. `tensors`: lora_a and lora_b in turn.
std::vector<GgufKey> keys_of(const PeftAdapter& adapter, const std::vector<GgufTensorPlan>& tensors, float alpha,
                             const GgufAdapterOptions& options, std::vector<std::string>& notes) {
  GeneralMetadata general{.folder = adapter.folder,
                          .folder_name = last_part(adapter.folder),
                          .config = options.base_config,
                          .generation_config = {},
                          .overrides = {},
                          .model_name = options.name};
  // as the converter counts: of an embedding, whose factors are exchanged, the rank instead of the rows
  for (std::size_t i = 0; i < tensors.size(); i += 2)
    general.total_parameters -=
        std::int64_t(tensors[i + 1].tensor->info().rows() * tensors[i].tensor->info().columns());
  std::vector<GgufKey> keys = {{"general.architecture", gguf_string("llama")},
                               {"general.type", gguf_string("adapter")},
                               {"adapter.type", gguf_string("lora")}};
  for (GgufKey& key : gguf_general_keys(general, notes)) keys.push_back(std::move(key));
  keys.push_back({kAlpha, gguf_f32(alpha)});
  keys.push_back({"general.quantization_version", gguf_u32(2)});
  return keys;
}

}  // namespace

TensorPtr rotary_rows(TensorPtr tensor, RotaryPairs order, const ModelConfig& config) {
  if (tensor->info().pairs == RotaryPairs::none) tensor = labelled(std::move(tensor), RotaryPairs::half_split);
  return with_rotary_pairs(std::move(tensor), order, config);
}

bool is_gguf_adapter(const fs::path& path) {
  if (path_kind(path) != PathKind::file) return false;
  const auto file = File::open(path);
  char magic[4] = {};
  if (file->size() < sizeof magic) return false;
  file->read(0, std::as_writable_bytes(std::span(magic)));
  return std::memcmp(magic, "GGUF", 4) == 0 && read_gguf_header(path).string("general.type") == "adapter";
}

PeftAdapter read_gguf_adapter(const fs::path& path) {
  const GgufFile file = read_gguf(path);
  const std::string place = path.string();
  check_keys(file, place);
  const double alpha = file.number(kAlpha).value_or(0);
  if (!std::isfinite(alpha))
    refuse(ErrorKind::bad_input, place, std::string(kAlpha) + " is not finite", "convert the adapter again");
  std::map<std::string, Pair> pairs;
  for (const TensorPtr& tensor : file.tensors) {
    const FactorName name = taken_apart(tensor->name(), place);
    Pair& pair = pairs[name.target];
    (name.is_a ? pair.a : pair.b) = tensor;  // names are unique
  }
  if (pairs.empty()) refuse(ErrorKind::bad_input, place, "the adapter holds no tensors", "convert it again");
  PeftAdapter adapter;
  adapter.folder = adapter.weights = path;
  adapter.kind = "LoRA";
  adapter.config = Json::object();
  for (const auto& [target, pair] : pairs) adapter.modules.push_back(module_of(target, pair, alpha, place));
  return adapter;
}

PeftAdapter read_adapter(const fs::path& path) {
  return is_gguf_adapter(path) ? read_gguf_adapter(path) : read_peft_adapter(path);
}

GgufPlan plan_gguf_adapter(const PeftAdapter& adapter, const ModelConfig& config, const GgufAdapterOptions& options,
                           std::vector<std::string>& notes) {
  if (!adapter.layers.empty())
    refuse(ErrorKind::unsupported, (adapter.folder / "adapter_config.json").string(),
           "'layer_replication' makes a deeper model of the base, whose layers a GGUF adapter cannot name",
           "merge it instead: ropewalk convert BASE+" + adapter.folder.string() + " -o FILE.gguf");
  const std::vector<const AdapterModule*> modules = ordered(adapter);
  for (const AdapterModule& module : adapter.modules)
    if (module.base_copy) notes.push_back(leave_out(adapter, module, config, options.base));
  for (const AdapterModule* module : modules) check_expressible(adapter, *module, config);
  const Scales scales = scales_of(adapter, modules, options.scale);
  GgufPlan plan;
  const auto put = [&](const std::string& name, TensorPtr tensor) {
    const auto block = std::uint64_t(info(options.type).block_elements);
    const DType dtype = tensor->info().columns() % block == 0 ? options.type : DType::f16;
    plan.tensors.push_back({name, std::move(tensor), dtype, OutOfRange::refuse});
  };
  std::size_t folded = 0;
  for (std::size_t i = 0; i < modules.size(); ++i) {
    const auto& change = std::get<LowRankChange>(modules[i]->change);
    const std::string name = *gguf_tensor_name(modules[i]->target);
    const double fold = scales.folds[i];
    folded += fold != 1;
    TensorPtr a = change.a, b = change.b;
    if (modules[i]->target == kEmbeddingWeight)
      std::swap(a, b), b = transposed(b);  // [vocabulary, rank], [width, rank]
    else if (is_rotary(modules[i]->target)) b = rotary_rows(b, RotaryPairs::interleaved, config);
    put(name + ".lora_a", std::move(a));
    put(name + ".lora_b", scaled(std::move(b), fold));
  }
  plan.keys = keys_of(adapter, plan.tensors, scales.alpha, options, notes);
  if (folded > 0)
    notes.push_back("B of " + plural(folded, "module") + " holds its scale: a GGUF adapter has one alpha (" +
                    number_text(scales.alpha, 6) + "), divided by the rank of each");
  return plan;
}

}  // namespace ropewalk::formats
