#include <cmath>
#include <map>
#include <unordered_map>

#include "formats/adapters/peft.h"
#include "formats/tensor_inventory.h"
#include "lib/error.h"
#include "lib/nearest_word.h"
#include "lib/number_text.h"
#include "lib/recipes.h"
#include "lib/unmerged.h"

namespace ropewalk::formats {
namespace {

/// Whether the module fits the weight it names; Error(bad_input) naming keys and shapes.
void check_fit(const LoraModule& module, const LazyTensor& weight, const PeftAdapter& adapter) {
  const auto fail = [&](const TensorPtr& factor, const char* axis, std::uint64_t found, std::uint64_t expected) {
    throw Error(ErrorKind::bad_input, {.path = adapter.weights.string()},
                "'" + factor->name() + "' has shape " + shape_text(factor->info().shape) + ": " +
                    std::to_string(found) + " " + axis + ", expected " + std::to_string(expected) + " as '" +
                    weight.name() + "' " + shape_text(weight.info().shape) + " of the base has",
                "the adapter was trained on another base" +
                    (adapter.base_model.empty() ? std::string() : ": it names '" + adapter.base_model + "'"));
  };
  if (weight.info().shape.size() != 2)
    throw Error(ErrorKind::bad_input, {.path = adapter.weights.string()},
                "'" + module.a->name() + "' targets '" + weight.name() + "' of shape " +
                    shape_text(weight.info().shape) + ", expected a matrix",
                "the adapter was trained on another architecture");
  if (module.a->info().shape[1] != weight.info().shape[1])
    fail(module.a, "inputs", module.a->info().shape[1], weight.info().shape[1]);
  if (module.b->info().shape[0] != weight.info().shape[0])
    fail(module.b, "outputs", module.b->info().shape[0], weight.info().shape[0]);
}

std::string number(double value) { return number_text(value, 6); }

[[noreturn]] void fail_no_target(const LoraModule& module, const PeftAdapter& adapter,
                                 const std::vector<TensorPtr>& base) {
  std::vector<std::string> names;
  for (const TensorPtr& tensor : base) names.push_back(tensor->name());
  const std::string near = nearest_word(module.target, names, module.target.size() / 4).value_or("");
  throw Error(ErrorKind::bad_input, {.path = adapter.weights.string()},
              "key '" + module.a->name() + "' targets '" + module.target + "', which the base does not have",
              near.empty() ? "the adapter was trained on another base"
                           : "nearest in the base: '" + near + "'; was the adapter trained on another base?");
}

}  // namespace

MergeResult merge_adapters(const std::vector<TensorPtr>& base, const std::vector<ScaledAdapter>& adapters,
                           std::optional<DType> merge_dtype, bool saturate, bool unmerged) {
  std::unordered_map<std::string_view, std::size_t> index;
  for (std::size_t i = 0; i < base.size(); ++i) index.emplace(base[i]->name(), i);
  std::map<std::size_t, std::vector<LowRankTerm>> terms;
  MergeResult result;
  for (const ScaledAdapter& scaled : adapters) {
    const PeftAdapter& adapter = *scaled.adapter;
    const bool rslora = adapter.config.value("use_rslora", false);
    for (const LoraModule& module : adapter.modules) {
      const auto found = index.find(module.target);
      if (found == index.end()) fail_no_target(module, adapter, base);
      const TensorPtr& weight = base[found->second];
      check_fit(module, *weight, adapter);
      const double scale = module.scale * scaled.scale;
      if (!std::isfinite(scale))
        throw Error(ErrorKind::bad_input, {.path = adapter.folder.string()},
                    "its scale is past the largest number: " + number(scaled.scale) + " times " + number(module.scale) +
                        " of its configuration",
                    "give a smaller scale");
      terms[found->second].push_back({module.a, module.b, scale});
      result.modules.push_back({module.target, rslora ? "rslora" : "lora", module.rank, scale});
    }
  }
  for (std::size_t i = 0; i < base.size(); ++i) {
    const TensorPtr& weight = base[i];
    const auto own = terms.find(i);
    const bool merged = own != terms.end() && !unmerged;
    const bool wanted = merge_dtype && (is_float(weight->dtype()) || merged);
    const DType dtype = wanted ? *merge_dtype : weight->dtype();
    if (merged && is_block_type(dtype) && dtype != DType::q8_0)
      throw Error(ErrorKind::unsupported, {.path = std::string(weight->file())},
                  "'" + weight->name() + "' is " + std::string(info(dtype).name) +
                      ": merged, it would be quantized a second time, and worse than from the original",
                  "give --dtype f16 (or --unmerged, to compute), or merge into the model that was quantized");
    if (merged) {
      result.tensors.push_back(cast(with_low_rank_delta(weight, own->second), dtype, saturate));
      continue;
    }
    TensorPtr tensor = dtype == weight->dtype() ? weight : cast(weight, dtype, saturate);
    if (own != terms.end()) tensor = with_unmerged_delta(std::move(tensor), own->second);
    result.tensors.push_back(std::move(tensor));
  }
  return result;
}

}  // namespace ropewalk::formats
