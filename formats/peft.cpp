#include "formats/peft.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <set>

#include "formats/json_fields.h"
#include "formats/safetensors.h"
#include "formats/tensor_inventory.h"
#include "lib/error.h"

namespace ropewalk::formats {
namespace {

constexpr const char* kConfigName = "adapter_config.json";
constexpr const char* kWeightsName = "adapter_model.safetensors";

/// Fields of LoraConfig (PEFT 0.21.2) that a merge of plain LoRA does not need: bookkeeping, training-time switches, and the choice of targets,
/// which the tensors in the file state better. fan_in_fan_out is ignored by PEFT too where the module is a Linear, as all of llama's are;
/// the sub-configurations of initialisations matter only with the init_lora_weights that names them.
constexpr std::array kNoEffect = {
    "peft_type", "peft_version", "task_type", "inference_mode", "base_model_name_or_path", "revision", "auto_mapping", "lora_dropout", "lora_alpha", "r",
    "use_rslora", "init_lora_weights", "target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "fan_in_fan_out", "megatron_config",
    "megatron_core", "qalora_group_size", "loftq_config", "eva_config", "corda_config", "lora_ga_config", "ensure_weight_tying", "runtime_config"};
/// init_lora_weights that leave the base as it was.
constexpr std::array kPlainInits = {"gaussian", "eva", "orthogonal", "mica"};

bool is_off(const Json& value) {
  return value.is_null() || value == false || value == "none" || ((value.is_object() || value.is_array()) && value.empty());
}

void check_config(const JsonFields& fields, const Json& config) {
  const auto type = fields.optional_string("peft_type");
  if (!type) fields.fail(ErrorKind::bad_input, "peft_type", "'peft_type' is missing, expected \"LORA\"", "is this the adapter_config.json of a PEFT adapter?");
  if (*type != "LORA")
    fields.fail(ErrorKind::unsupported, "peft_type", "peft_type is \"" + *type + "\", expected \"LORA\"", "adapters of this kind are not merged by ropewalk");
  for (const auto& [key, value] : config.items()) {
    if (std::find(kNoEffect.begin(), kNoEffect.end(), key) != kNoEffect.end() || is_off(value)) continue;
    fields.fail(ErrorKind::unsupported, key, "'" + key + "' is " + shown(value) + ", which changes the merge and is not read yet",
                "only plain LoRA and rsLoRA adapters can be merged");
  }
  if (const Json* init = fields.find_set("init_lora_weights"); init && !init->is_boolean()) {
    const std::string name = fields.optional_string("init_lora_weights").value_or("");
    if (std::find(kPlainInits.begin(), kPlainInits.end(), name) == kPlainInits.end())
      fields.fail(ErrorKind::unsupported, "init_lora_weights", "'init_lora_weights' is \"" + name + "\": the base was changed before training",
                  "convert the adapter to plain LoRA with PEFT (path_initial_model_for_weight_conversion)");
  }
}

/// One tensor of the file, by what its key says.
struct Factor {
  std::string module;  // canonical module path
  bool is_a;
};

void drop_prefix(std::string& path, std::string_view prefix) {
  if (path.starts_with(prefix)) path.erase(0, prefix.size());
}

/// Module path and role of a key in any spelling met in the wild; nullopt if it is no LoRA factor of a Linear.
std::optional<Factor> parse_key(std::string key) {
  for (std::size_t at = key.find("_orig_mod."); at != std::string::npos; at = key.find("_orig_mod.")) key.erase(at, 10);  // torch.compile, at any depth
  drop_prefix(key, "module.");  // DataParallel
  drop_prefix(key, "base_model.model.");
  drop_prefix(key, "module.");
  constexpr std::string_view kTails[] = {".lora_A.weight", ".lora_A.default.weight", ".lora_B.weight", ".lora_B.default.weight"};
  for (const std::string_view tail : kTails) {
    if (!key.ends_with(tail)) continue;
    key.erase(key.size() - tail.size());
    drop_prefix(key, "base_model.model.");
    if (key.starts_with("model.model.")) key.erase(0, 6);
    if (key.starts_with("layers.")) key.insert(0, "model.");
    if (key.empty()) return std::nullopt;
    return Factor{key, tail.starts_with(".lora_A")};
  }
  return std::nullopt;
}

/// Every element is a finite number, or Error(bad_input) naming the key.
void check_finite(const LazyTensor& tensor, const std::string& path) {
  const std::uint64_t columns = std::max<std::uint64_t>(tensor.info().columns(), 1);
  const std::uint64_t step = std::max<std::uint64_t>(1, (std::uint64_t{1} << 18) / columns);
  std::vector<double> block;
  for (std::uint64_t row = 0; row < tensor.info().rows(); row += step) {
    const RowRange range{row, std::min(row + step, tensor.info().rows())};
    block.resize(range.size() * tensor.info().columns());
    tensor.read_f64(range, block);
    for (std::size_t i = 0; i < block.size(); ++i)
      if (!std::isfinite(block[i]))
        throw Error(ErrorKind::bad_input, {.path = path},
                    "'" + tensor.name() + "' holds " + (std::isnan(block[i]) ? "NaN" : "an infinity") + " in row " + std::to_string(row + i / columns) + ", expected finite numbers",
                    "the training diverged or the file is damaged: take an earlier checkpoint of the adapter");
  }
}

struct Pair {
  TensorPtr a, b;
};

std::map<std::string, Pair> pair_up(const std::vector<TensorPtr>& tensors, const std::string& path) {
  std::map<std::string, Pair> pairs;  // ordered: reports and errors do not depend on the file's order
  for (const TensorPtr& tensor : tensors) {
    const auto factor = parse_key(tensor->name());
    if (!factor)
      throw Error(ErrorKind::bad_input, {.path = path}, "key '" + tensor->name() + "' fits nothing, expected '<module>.lora_A.weight' or '<module>.lora_B.weight'",
                  "only adapters of linear layers without further tensors are read; every key must be used");
    TensorPtr& place = factor->is_a ? pairs[factor->module].a : pairs[factor->module].b;
    if (place)
      throw Error(ErrorKind::bad_input, {.path = path}, "keys '" + place->name() + "' and '" + tensor->name() + "' both name " + (factor->is_a ? "lora_A" : "lora_B") + " of '" + factor->module + "'",
                  "expected one; the file was put together from two adapters");
    place = tensor;
  }
  return pairs;
}

LoraModule make_module(const std::string& name, const Pair& pair, std::int64_t r, double scale, const std::string& path) {
  const auto fail = [&](const std::string& problem, const std::string& fix) { throw Error(ErrorKind::bad_input, {.path = path}, problem, fix); };
  if (!pair.a || !pair.b) {
    const TensorPtr& present = pair.a ? pair.a : pair.b;
    fail("'" + present->name() + "' has no partner: " + (pair.a ? "lora_B" : "lora_A") + " of '" + name + "' is missing", "the adapter is incomplete: fetch or save it again");
  }
  for (const TensorPtr& tensor : {pair.a, pair.b}) {
    if (tensor->info().shape.size() != 2)
      fail("'" + tensor->name() + "' has shape " + shape_text(tensor->info().shape) + ", expected two axes", "only adapters of linear layers are read");
    if (!is_float(tensor->dtype())) fail("'" + tensor->name() + "' holds " + std::string(info(tensor->dtype()).name) + ", expected floating point", "save the adapter again");
  }
  const std::uint64_t rank_a = pair.a->info().shape[0], rank_b = pair.b->info().shape[1];
  if (rank_a != rank_b)
    fail("'" + pair.a->name() + "' has rank " + std::to_string(rank_a) + ", '" + pair.b->name() + "' rank " + std::to_string(rank_b) + ", expected the same",
         "the factors belong to different adapters");
  if (rank_a != std::uint64_t(r))
    fail("'" + pair.a->name() + "' has rank " + std::to_string(rank_a) + ", expected " + std::to_string(r) + ", the r of " + kConfigName,
         "the scale depends on it: take configuration and weights of the same adapter");
  for (const TensorPtr& tensor : {pair.a, pair.b}) check_finite(*tensor, path);
  return {name + ".weight", pair.a, pair.b, rank_a, scale};
}

}  // namespace

bool is_peft_adapter(const std::filesystem::path& folder) {
  std::error_code ignored;
  return std::filesystem::is_regular_file(folder / kConfigName, ignored);
}

PeftAdapter read_peft_adapter(const std::filesystem::path& folder) {
  const std::string config_path = (folder / kConfigName).string();
  if (!is_peft_adapter(folder))
    throw Error(ErrorKind::bad_input, {.path = folder.string()}, std::string("no ") + kConfigName + " here, expected the folder of a PEFT adapter",
                "name the folder that holds adapter_config.json and adapter_model.safetensors");
  const std::string text = read_text_file(folder / kConfigName, JsonLimits{}.max_bytes);
  PeftAdapter adapter;
  adapter.folder = folder;
  adapter.config = parse_json(config_path, text);
  if (!adapter.config.is_object())
    throw Error(ErrorKind::bad_input, {.path = config_path, .line = 1, .column = 1}, std::string("the file holds ") + adapter.config.type_name() + ", expected an object", "save the adapter again");
  const JsonFields fields(config_path, text, adapter.config);
  check_config(fields, adapter.config);
  adapter.base_model = fields.optional_string("base_model_name_or_path").value_or("");
  const std::int64_t r = fields.integer("r", 1, 1 << 20);
  if (!fields.find_set("lora_alpha")) fields.fail(ErrorKind::bad_input, "lora_alpha", "'lora_alpha' is missing, expected a number", "the scale depends on it: save the adapter again");
  const double alpha = *fields.optional_number("lora_alpha", -1e9, 1e9);
  const double scale = fields.boolean("use_rslora", false) ? alpha / std::sqrt(double(r)) : alpha / double(r);

  const std::filesystem::path weights = folder / kWeightsName;
  std::error_code ignored;
  if (!std::filesystem::exists(weights, ignored)) {
    if (std::filesystem::exists(folder / "adapter_model.bin", ignored))
      throw Error(ErrorKind::unsupported, {.path = (folder / "adapter_model.bin").string()}, "the adapter is a torch pickle, which is not read yet",
                  "load it with PEFT and save it again: save_pretrained(..., safe_serialization=True)");
    throw Error(ErrorKind::bad_input, {.path = folder.string()}, std::string("no ") + kWeightsName + " beside " + kConfigName, "the adapter is incomplete: fetch it again");
  }
  const SafetensorsFile file = read_safetensors(weights);
  for (const auto& [name, pair] : pair_up(file.tensors, weights.string())) adapter.modules.push_back(make_module(name, pair, r, scale, weights.string()));
  if (adapter.modules.empty()) throw Error(ErrorKind::bad_input, {.path = weights.string()}, "the adapter holds no tensors, expected pairs of lora_A and lora_B", "save the adapter again");
  return adapter;
}

}  // namespace ropewalk::formats
