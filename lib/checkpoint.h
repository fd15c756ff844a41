#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lib/lazy_tensor.h"
#include "lib/model_config.h"
#include "lib/vocabulary.h"

namespace ropewalk {

/// A model as an ordered list of lazy tensors under canonical (transformers) names, layout as stored. What the forward
/// pass consumes.
struct Checkpoint {
  std::string label;  // as the user wrote it, for tables
  ModelConfig config;
  std::vector<TensorPtr> tensors;        // in file order
  std::optional<Vocabulary> vocabulary;  // nullopt: none beside the weights
  std::string read_as;                   // whose rules were used: "transformers 5.23.0", "llama.cpp 0.5"
  std::vector<std::string> warnings;     // one line each, for stderr and JSON

  /// nullptr if there is none of that name.
  TensorPtr find(std::string_view name) const;
};

}  // namespace ropewalk
