#include "lib/checkpoint.h"

namespace ropewalk {

TensorPtr Checkpoint::find(std::string_view name) const {
  for (const TensorPtr& tensor : tensors)
    if (tensor->name() == name) return tensor;
  return nullptr;
}

}  // namespace ropewalk
