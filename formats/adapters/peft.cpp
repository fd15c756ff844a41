#include "formats/adapters/peft.h"

#include "formats/adapters/kinds.h"
#include "formats/adapters/layer_replication.h"
#include "formats/safetensors.h"
#include "formats/torch/torch_file.h"
#include "lib/error.h"
#include "lib/file.h"

namespace ropewalk::formats {
namespace {

constexpr const char* kConfigName = "adapter_config.json";
constexpr const char* kWeightsName = "adapter_model.safetensors";
constexpr const char* kTorchName = "adapter_model.bin";

/// "LoRA", "rsLoRA", "DoRA", "rsLoRA and DoRA", and the names of the other kinds.
std::string kind_name(const PeftConfig& config) {
  const std::string rs = config.flag("use_rslora") ? "rsLoRA" : "", dora = config.flag("use_dora") ? "DoRA" : "";
  if (!rs.empty() && !dora.empty()) return rs + " and " + dora;
  if (!rs.empty() || !dora.empty()) return rs + dora;
  return std::string(config.kind->name);
}

/// The file with the adapter's tensors.
std::filesystem::path weights_in(const std::filesystem::path& folder) {
  if (is_there(folder / kWeightsName)) return folder / kWeightsName;
  if (is_there(folder / kTorchName)) return folder / kTorchName;
  throw Error(ErrorKind::bad_input, {.path = folder.string()},
              std::string("no ") + kWeightsName + " beside " + kConfigName,
              "the adapter is incomplete: fetch it again");
}

std::vector<TensorPtr> read_weights(const std::filesystem::path& file) {
  return file.extension() == ".bin" ? read_torch_file(file).tensors : read_safetensors(file).tensors;
}

}  // namespace

bool is_peft_adapter(const std::filesystem::path& folder) { return is_there(folder / kConfigName); }

PeftAdapter read_peft_adapter(const std::filesystem::path& folder) {
  return read_peft_adapter_for(folder, std::nullopt);
}

PeftAdapter read_peft_adapter_for(const std::filesystem::path& folder, std::optional<bool> fan_in_fan_out) {
  if (is_folder(folder)) require_readable_folder(folder);
  if (!is_peft_adapter(folder))
    throw Error(ErrorKind::bad_input, {.path = folder.string()},
                std::string("no ") + kConfigName + " here, expected the folder of a PEFT adapter",
                "name the folder that holds adapter_config.json and adapter_model.safetensors");
  PeftConfig config =
      read_peft_config((folder / kConfigName).string(), read_text_file(folder / kConfigName, JsonLimits{}.max_bytes));
  if (fan_in_fan_out)
    if (const AdapterField* field = find_field(*config.kind, "fan_in_fan_out"); field && field->use == FieldUse::read)
      config.json["fan_in_fan_out"] = *fan_in_fan_out;
  PeftAdapter adapter;
  adapter.folder = folder;
  adapter.weights = weights_in(folder);
  adapter.kind = kind_name(config);
  adapter.base_model = config.base_model;

  const std::vector<TensorPtr> stored = read_weights(adapter.weights);
  if (stored.empty())
    throw Error(ErrorKind::bad_input, {.path = adapter.weights.string()}, "the adapter holds no tensors",
                "save the adapter again");
  AdapterTensors tensors(stored, adapter.weights.string());
  AdapterReading reading{config, tensors, adapter.modules};
  read_saved_tensors(reading);
  config.kind->read(reading);
  tensors.refuse_leftovers(adapter.kind);
  adapter.layers = read_layer_replication(config);
  adapter.config = std::move(config.json);
  adapter.config_text = std::move(config.text);
  return adapter;
}

}  // namespace ropewalk::formats
