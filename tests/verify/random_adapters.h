#pragma once

#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "lib/checkpoint.h"
#include "lib/unmerged.h"

namespace ropewalk::verify {

/// One or two random low-rank terms on every matrix whose name holds one of `modules`, of ranks 3 and 5 (so no sum of
/// them is a multiple of anything), beside the weight or added to it. Deltas are a tenth of the weight or so.
inline Checkpoint with_random_adapters(Checkpoint model, const std::vector<std::string>& modules, unsigned seed,
                                       bool unmerged, double scale = 1) {
  std::mt19937 random(seed);
  std::normal_distribution<double> normal;
  const auto factor = [&](const std::string& name, std::uint64_t rows, std::uint64_t columns, double size) {
    std::vector<float> values(rows * columns);
    for (float& x : values) x = float(size * normal(random));
    return memory_tensor(name, {rows, columns}, values);
  };
  for (TensorPtr& tensor : model.tensors) {
    if (tensor->info().shape.size() != 2) continue;
    bool wanted = false;
    for (const std::string& module : modules) wanted = wanted || tensor->name().find(module) != std::string::npos;
    if (!wanted) continue;
    std::vector<LowRankTerm> terms;
    for (const std::uint64_t rank : {3, 5}) {
      if (rank == 5 && random() % 2 == 0) continue;
      const TensorPtr a = factor(tensor->name() + ".A", rank, tensor->info().columns(),
                                 0.3 / std::sqrt(double(tensor->info().columns()))),
                      b = factor(tensor->name() + ".B", tensor->info().rows(), rank, 0.3);
      terms.push_back({a, b, (rank == 3 ? 2 : -0.7) * scale});
    }
    tensor = unmerged ? with_unmerged_delta(tensor, terms) : with_low_rank_delta(tensor, terms);
  }
  return model;
}
inline std::vector<std::string> all_modules() { return {"_proj.weight", "lm_head"}; }

}  // namespace ropewalk::verify
