#include "formats/adapters/peft.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "formats/adapters/peft_config.h"
#include "formats/safetensors.h"
#include "formats/tensor_inventory.h"
#include "lib/convert.h"
#include "lib/error.h"
#include "lib/file.h"
#include "lib/row_blocks.h"

namespace ropewalk::formats {
namespace {

constexpr const char* kConfigName = "adapter_config.json";
constexpr const char* kWeightsName = "adapter_model.safetensors";

/// Every element is a finite number, or Error(bad_input) naming the key. Through float: only a double beyond its range
/// would look infinite, and that is no LoRA factor either.
void check_finite(const LazyTensor& tensor, const std::string& path) {
  for_row_blocks(tensor, [&](std::uint64_t row, std::span<const float> values) {
    const std::size_t bad = first_not_finite(values);
    if (bad == values.size()) return true;
    throw Error(ErrorKind::bad_input, {.path = path},
                "'" + tensor.name() + "' holds " + (std::isnan(values[bad]) ? "NaN" : "an infinity") + " in row " +
                    std::to_string(row + bad / tensor.info().columns()) + ", expected finite numbers",
                "the training diverged or the file is damaged: take an earlier checkpoint of the adapter");
  });
}

struct Pair {
  TensorPtr a, b;
};

std::map<std::string, Pair> pair_up(const std::vector<TensorPtr>& tensors, const std::string& path) {
  std::map<std::string, Pair> pairs;  // ordered: reports and errors do not depend on the file's order
  for (const TensorPtr& tensor : tensors) {
    const auto factor = parse_lora_key(tensor->name());
    if (!factor)
      throw Error(
          ErrorKind::bad_input, {.path = path},
          "key '" + tensor->name() +
              "' is no LoRA factor of a linear layer, expected '<module>.lora_A.weight' or '<module>.lora_B.weight'",
          "save the adapter again without it: embeddings, biases, magnitudes of DoRA and modules_to_save are not "
          "merged "
          "yet");
    TensorPtr& place = factor->is_a ? pairs[factor->module].a : pairs[factor->module].b;
    if (place)
      throw Error(ErrorKind::bad_input, {.path = path},
                  "keys '" + place->name() + "' and '" + tensor->name() + "' both name " +
                      (factor->is_a ? "lora_A" : "lora_B") + " of '" + factor->module + "'",
                  "expected one; the file was put together from two adapters");
    place = tensor;
  }
  return pairs;
}

LoraModule make_module(const std::string& name, const Pair& pair, std::int64_t r, double scale,
                       const std::string& path) {
  const auto fail = [&](const std::string& problem, const std::string& fix) {
    throw Error(ErrorKind::bad_input, {.path = path}, problem, fix);
  };
  if (!pair.a || !pair.b) {
    const TensorPtr& present = pair.a ? pair.a : pair.b;
    fail(
        "'" + present->name() + "' has no partner: " + (pair.a ? "lora_B" : "lora_A") + " of '" + name + "' is missing",
        "the adapter is incomplete: fetch or save it again");
  }
  for (const TensorPtr& tensor : {pair.a, pair.b}) {
    if (tensor->info().shape.size() != 2)
      fail("'" + tensor->name() + "' has shape " + shape_text(tensor->info().shape) + ", expected two axes",
           "only adapters of linear layers are read");
    if (!is_float(tensor->dtype()))
      fail("'" + tensor->name() + "' holds " + std::string(info(tensor->dtype()).name) + ", expected floating point",
           "save the adapter again");
  }
  const std::uint64_t rank_a = pair.a->info().shape[0], rank_b = pair.b->info().shape[1];
  if (rank_a != rank_b)
    fail("'" + pair.a->name() + "' has rank " + std::to_string(rank_a) + ", '" + pair.b->name() + "' rank " +
             std::to_string(rank_b) + ", expected the same",
         "the factors belong to different adapters");
  if (rank_a != std::uint64_t(r))
    fail("'" + pair.a->name() + "' has rank " + std::to_string(rank_a) + ", expected " + std::to_string(r) +
             ", the r of " + kConfigName,
         "the scale depends on it: take configuration and weights of the same adapter");
  for (const TensorPtr& tensor : {pair.a, pair.b}) check_finite(*tensor, path);
  return {name + ".weight", pair.a, pair.b, rank_a, scale};
}

}  // namespace

bool is_peft_adapter(const std::filesystem::path& folder) { return is_there(folder / kConfigName); }

PeftAdapter read_peft_adapter(const std::filesystem::path& folder) {
  const std::string config_path = (folder / kConfigName).string();
  if (is_folder(folder)) require_readable_folder(folder);
  if (!is_peft_adapter(folder))
    throw Error(ErrorKind::bad_input, {.path = folder.string()},
                std::string("no ") + kConfigName + " here, expected the folder of a PEFT adapter",
                "name the folder that holds adapter_config.json and adapter_model.safetensors");
  PeftConfig config = read_peft_config(config_path, read_text_file(folder / kConfigName, JsonLimits{}.max_bytes));
  PeftAdapter adapter;
  adapter.folder = folder;
  adapter.config = std::move(config.json);
  adapter.config_text = std::move(config.text);
  adapter.base_model = std::move(config.base_model);

  adapter.weights = folder / kWeightsName;
  const std::filesystem::path& weights = adapter.weights;
  if (!is_there(weights)) {
    if (is_there(folder / "adapter_model.bin"))
      throw Error(ErrorKind::unsupported, {.path = (folder / "adapter_model.bin").string()},
                  "the adapter is a torch pickle, which is not read yet",
                  "load it with PEFT and save it again: save_pretrained(..., safe_serialization=True)");
    throw Error(ErrorKind::bad_input, {.path = folder.string()},
                std::string("no ") + kWeightsName + " beside " + kConfigName,
                "the adapter is incomplete: fetch it again");
  }
  const SafetensorsFile file = read_safetensors(weights);
  for (const auto& [name, pair] : pair_up(file.tensors, weights.string()))
    adapter.modules.push_back(make_module(name, pair, config.rank, config.scale, weights.string()));
  if (adapter.modules.empty())
    throw Error(ErrorKind::bad_input, {.path = weights.string()},
                "the adapter holds no tensors, expected pairs of lora_A and lora_B", "save the adapter again");
  return adapter;
}

}  // namespace ropewalk::formats
