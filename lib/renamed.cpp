#include <utility>

#include "lib/forwarding_tensor.h"
#include "lib/recipes.h"

namespace ropewalk {

TensorPtr renamed(TensorPtr parent, std::string name) {
  if (parent->name() == name) return parent;
  TensorInfo info = parent->info();
  info.name = std::move(name);
  return std::make_shared<RelabelledTensor>(std::move(info), std::move(parent));
}

TensorPtr labelled(TensorPtr parent, RotaryPairs pairs) {
  if (parent->info().pairs == pairs) return parent;
  TensorInfo info = parent->info();
  info.pairs = pairs;
  return std::make_shared<RelabelledTensor>(std::move(info), std::move(parent));
}

}  // namespace ropewalk
