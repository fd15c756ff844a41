#include "formats/adapters/layer_replication.h"

#include <map>

#include "formats/hf_config.h"
#include "formats/tensor_inventory.h"
#include "lib/error.h"
#include "lib/recipes.h"

namespace ropewalk::formats {
namespace {

/// ".mlp.up_proj.weight" of "model.layers.7.mlp.up_proj.weight".
std::string within_layer(const std::string& name) { return name.substr(name.find('.', kLayerPrefix.size())); }

}  // namespace

std::vector<std::uint64_t> read_layer_replication(const PeftConfig& config) {
  std::vector<std::uint64_t> layers;
  const Json* list = config.fields().find_set("layer_replication");
  if (!list) return layers;
  const auto is_layer = [](const Json& value) {
    return value.is_number_integer() && value >= 0 && value <= kMostLayers;
  };
  for (const Json& range : *list) {
    const bool whole = range.is_array() && range.size() == 2 && is_layer(range[0]) && is_layer(range[1]);
    if (!whole || range[0] >= range[1] ||
        layers.size() + range[1].get<std::size_t>() - range[0].get<std::size_t>() > std::size_t{kMostLayers})
      config.fields().fail(ErrorKind::bad_input, "layer_replication",
                           "'layer_replication' is " + shown(*list) +
                               ", expected a list of [first layer, the one after the last], " +
                               std::to_string(kMostLayers) + " in all at most",
                           "correct the value in the file");
    for (auto layer = range[0].get<std::uint64_t>(); layer < range[1].get<std::uint64_t>(); ++layer)
      layers.push_back(layer);
  }
  return layers;
}

std::vector<TensorPtr> with_layers(const std::vector<TensorPtr>& base, const std::vector<std::uint64_t>& layers,
                                   const std::string& adapter) {
  std::map<std::uint64_t, std::vector<TensorPtr>> by_layer;
  for (const TensorPtr& tensor : base)
    if (const auto layer = layer_of(tensor->name())) by_layer[*layer].push_back(tensor);
  std::vector<TensorPtr> out;
  bool placed = false;
  for (const TensorPtr& tensor : base) {
    if (!layer_of(tensor->name())) {
      out.push_back(tensor);
      continue;
    }
    if (placed) continue;
    placed = true;
    for (std::size_t i = 0; i < layers.size(); ++i) {
      const auto found = by_layer.find(layers[i]);
      if (found == by_layer.end())
        throw Error(ErrorKind::bad_input, {.path = adapter},
                    "'layer_replication' takes layer " + std::to_string(layers[i]) + " of the base, which has " +
                        std::to_string(by_layer.size()) + " layers",
                    "the adapter was trained on another base");
      for (const TensorPtr& own : found->second)
        out.push_back(renamed(own, std::string(kLayerPrefix) + std::to_string(i) + within_layer(own->name())));
    }
  }
  return out;
}

}  // namespace ropewalk::formats
