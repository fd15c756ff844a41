#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "formats/adapters/peft_config.h"
#include "lib/lazy_tensor.h"

namespace ropewalk::formats {

// `layer_replication`: an adapter of a deeper model, whose layers are those of the base, some of them several times. Its
// keys name the layers of the deeper model. PEFT 0.21.2 lets copies share one weight: computing with them is right, but its
// merge adds what all of them learned to that one. Here copies become layers of their own.

/// Which layer of the base each layer of the adapter's model is: {0, 1, 2, 1, 2} of [[0, 3], [1, 3]]. Empty: as they are.
/// Error(bad_input) for what is no list of ranges.
std::vector<std::uint64_t> read_layer_replication(const PeftConfig& config);

/// The tensors of the deeper model: each layer those of layer `layers[i]` under its own names, in the place of the first
/// layer's; the rest as they are. Error(bad_input), naming `adapter`, for a layer that the base does not have.
std::vector<TensorPtr> with_layers(const std::vector<TensorPtr>& base, const std::vector<std::uint64_t>& layers,
                                   const std::string& adapter);

}  // namespace ropewalk::formats
