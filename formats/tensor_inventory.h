#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lib/lazy_tensor.h"
#include "lib/model_config.h"

namespace ropewalk::formats {

struct ExpectedTensor {
  std::string name;                  // canonical
  std::vector<std::uint64_t> shape;  // outermost first
  RotaryPairs pairs = RotaryPairs::none;
};
/// Every tensor a llama or mistral decoder of this shape has, in transformers' order: embedding, layers, norm, head
/// (absent if tied).
std::vector<ExpectedTensor> expected_tensors(const ModelConfig& config);

inline constexpr std::string_view kLayerPrefix = "model.layers.";
/// N of "model.layers.N.rest"; nullopt if the name is not of that form or N is not a plain number.
std::optional<std::uint64_t> layer_of(std::string_view name);

/// Checks a checkpoint against its configuration and labels the rotary projections with config.rotary_pairs. Returns
/// the tensors in the order given.
/// Error(bad_input) naming tensor, found and expected shape for: missing tensors and layers, layers past n_layers,
/// wrong shapes, biases the configuration denies, a tensor inside a layer that this architecture does not have, two
/// tensors of one name; Error(unsupported) for a weight that is not floating point.
/// Known leftovers of old checkpoints (rotary_emb.inv_freq) are dropped, tensors outside the decoder are kept; both add
/// a line to `warnings`.
/// `config_place` is where the configuration was read, for messages.
std::vector<TensorPtr> check_inventory(const std::vector<TensorPtr>& tensors, const ModelConfig& config,
                                       const std::string& path, const std::string& config_place,
                                       std::vector<std::string>& warnings);

}  // namespace ropewalk::formats
