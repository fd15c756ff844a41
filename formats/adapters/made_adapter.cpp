#include "formats/adapters/made_adapter.h"

#include <algorithm>
#include <cmath>

#include "formats/adapters/adapter_tensors.h"
#include "formats/adapters/gguf_adapter.h"
#include "formats/adapters/kinds.h"
#include "lib/adapters/adapter_recipes.h"
#include "lib/error.h"
#include "lib/recipes.h"

namespace ropewalk::formats {
namespace {

[[noreturn]] void refuse(const PeftAdapter& adapter, const AdapterModule& module, const std::string& why,
                         const std::string& fix) {
  throw Error(ErrorKind::unsupported, {.path = adapter.weights.string()},
              "'" + module.factors.front()->name() + "' is of kind " + module.kind + ": " + why, fix);
}

std::string module_name(const std::string& target) { return target.substr(0, target.rfind('.')); }

/// The key as PEFT writes it, whatever spelling the file had.
std::string canonical_key(const LazyTensor& tensor) {
  const auto key = parse_adapter_key(tensor.name());
  return key && !key->module.empty() ? adapter_key(key->module, key->role) : tensor.name();
}

Json number(double value) {
  return value == std::floor(value) && std::abs(value) < 1e15 ? Json(std::int64_t(value)) : Json(value);
}

/// Multiplies a field, and the values of its pattern.
void multiply(Json& config, const std::string& field, const std::string& pattern, double factor) {
  config[field] = number(config.at(field).get<double>() * factor);
  if (config.contains(pattern) && config[pattern].is_object())
    for (auto& [key, value] : config[pattern].items()) value = number(value.get<double>() * factor);
}

}  // namespace

void add_adapter(FolderWriter& folder, const MadeAdapter& adapter) {
  const nlohmann::json sorted = adapter.config;  // keys in order, as PEFT writes them
  folder.add_text("adapter_config.json", sorted.dump(2, ' ', true));
  std::vector<FolderWriter::Stored> tensors;
  for (const TensorPtr& tensor : adapter.tensors) tensors.push_back({tensor, tensor});
  folder.add_safetensors("adapter_model.safetensors", tensors, OutOfRange::refuse);
}

MadeAdapter rerank_adapter(const PeftAdapter& adapter, std::uint64_t rank, DType dtype) {
  MadeAdapter made;
  for (const AdapterModule& module : adapter.modules) {
    const std::string name = module_name(module.target);
    const auto* change = std::get_if<LowRankChange>(&module.change);
    if (change && change->shared_a)
      refuse(adapter, module, "the width of its modules is the base's, which is not given", "merge it instead");
    if (change && !module.by_targets)
      refuse(adapter, module, "it changes a parameter that target_parameters names", "merge it instead");
    if (change) {
      const bool embedding = of_embedding(module);
      const std::string a = adapter_key(name, embedding ? "lora_embedding_B" : "lora_A.weight"),
                        b = adapter_key(name, embedding ? "lora_embedding_A" : "lora_B.weight");
      const BestOfRank best = best_of_rank({change->a, change->b, module.scale}, {a, b, rank, dtype});
      made.tensors.push_back(embedding ? renamed(transposed(best.a), a) : best.a);
      made.tensors.push_back(embedding ? renamed(transposed(best.b), b) : best.b);
      made.modules.push_back({module.target, "lora", best.norms});
    } else if (module.kind == "lora-bias") {  // the scale is 1 now
      made.tensors.push_back(renamed(scaled(module.factors.front(), module.scale), adapter_key(name, "lora_B.bias")));
      made.modules.push_back({module.target, "carried"});
    } else if (!module.by_targets) {
      for (const TensorPtr& tensor : module.factors) made.tensors.push_back(renamed(tensor, canonical_key(*tensor)));
      made.modules.push_back({module.target, "carried"});
    } else {
      refuse(adapter, module, "it is no product of two thin matrices by itself, so no rank is taken from it",
             "merge it into its base, and extract an adapter from the merged model: ropewalk adapter extract");
    }
  }
  made.config = adapter.config;
  if (made.config.value("peft_type", "") != "LORA") {  // AdaLoRA: what targets it is the same
    made.config = {{"peft_type", "LORA"}};
    for (const char* field : {"task_type", "base_model_name_or_path", "target_modules", "exclude_modules",
                              "layers_to_transform", "layers_pattern", "modules_to_save", "fan_in_fan_out", "bias"})
      if (adapter.config.contains(field)) made.config[field] = adapter.config.at(field);
  }
  made.config.update({{"r", rank},
                      {"lora_alpha", rank},
                      {"rank_pattern", Json::object()},
                      {"alpha_pattern", Json::object()},
                      {"use_rslora", false},
                      {"init_lora_weights", true},
                      {"inference_mode", true}});
  return made;
}

MadeAdapter rescale_adapter(const PeftAdapter& adapter, double factor) {
  MadeAdapter made;
  made.config = adapter.config;
  const std::string type = made.config.value("peft_type", "");
  const bool lycoris = type == "LOHA" || type == "LOKR";
  for (const AdapterModule& module : adapter.modules) {
    const auto* change = std::get_if<LowRankChange>(&module.change);
    const bool low_rank = (change && !change->shared_a) || std::holds_alternative<ExpertsChange>(module.change);
    if (!low_rank && !lycoris && !module.base_copy && module.kind != "lora-bias")
      refuse(adapter, module, "no alpha of its configuration scales it",
             "give the scale where it is used: BASE+" + adapter.folder.string() + ":SCALE");
    for (const TensorPtr& tensor : module.factors) made.tensors.push_back(renamed(tensor, canonical_key(*tensor)));
    made.modules.push_back({module.target, "carried"});
  }
  if (type == "ADALORA" && !(factor > 0 && made.config["lora_alpha"] > 0))
    throw Error(ErrorKind::unsupported, {.path = adapter.folder.string()},
                "AdaLoRA takes an alpha of 0 or less for none at all",
                "give a scale above 0, for an adapter with an alpha above 0");
  multiply(made.config, lycoris ? "alpha" : "lora_alpha", type == "ADALORA" ? "" : "alpha_pattern", factor);
  return made;
}

MadeAdapter peft_of_gguf(const PeftAdapter& adapter, const ModelConfig& config, double factor) {
  MadeAdapter made;
  const AdapterModule& first = adapter.modules.front();
  const double alpha = first.scale * double(first.rank) * factor;
  Json targets = Json::array(), ranks = Json::object(), alphas = Json::object();
  for (const AdapterModule& module : adapter.modules) {
    const std::string name = module_name(module.target);
    const auto& change = std::get<LowRankChange>(module.change);
    const bool embedding = of_embedding(module), rotary = change.b->info().pairs != RotaryPairs::none;
    const TensorPtr b = rotary ? rotary_rows(change.b, RotaryPairs::half_split, config) : change.b;
    const auto put = [&](const TensorPtr& tensor, const char* role) {
      made.tensors.push_back(cast(renamed(tensor, adapter_key(name, role)), is_float(module.factors.front()->dtype())
                                                                                ? module.factors.front()->dtype()
                                                                                : DType::f32));
    };
    put(embedding ? transposed(b) : change.a, embedding ? "lora_embedding_A" : "lora_A.weight");
    put(embedding ? transposed(change.a) : b, embedding ? "lora_embedding_B" : "lora_B.weight");
    made.modules.push_back({module.target, "lora"});
    targets.push_back(name);
    if (module.rank != first.rank) ranks[name] = module.rank;
    const double own = module.scale * double(module.rank) * factor;
    if (own != alpha) alphas[name] = number(own);
  }
  made.config = {
      {"peft_type", "LORA"},     {"task_type", "CAUSAL_LM"},    {"base_model_name_or_path", adapter.base_model},
      {"r", first.rank},         {"lora_alpha", number(alpha)}, {"rank_pattern", ranks},
      {"alpha_pattern", alphas}, {"target_modules", targets},   {"lora_dropout", 0.0},
      {"bias", "none"},          {"inference_mode", true}};
  return made;
}

}  // namespace ropewalk::formats
