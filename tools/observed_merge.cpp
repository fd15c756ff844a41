#include "tools/observed_merge.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "lib/adapters/adapter_recipes.h"
#include "lib/number_text.h"
#include "lib/recipes.h"
#include "tools/units.h"

namespace ropewalk::tools {
namespace {

constexpr double kEaten = 0.9;           // of a delta's norm
constexpr std::uint64_t kMeasured = 16;  // one row in so many tells what a rounding takes

/// New rows of a vocabulary come from nothing.
TensorPtr before_merge(const TensorPtr& base, const TensorPtr& exact) {
  return base->info().shape.size() == 2 ? with_row_count(base, exact->info().rows()) : base;
}

/// |rounded - exact| / |delta| of all weights together.
double lost_of(const Observed& observed) {
  double delta = 0, rounding = 0;  // squares
  for (const auto& [name, tensor] : observed) {
    const MergeNorms norms = tensor->norms();
    delta += norms.delta_norm * norms.delta_norm;
    rounding += norms.delta_norm > 0 ? norms.rounding_norm * norms.rounding_norm : 0;
  }
  return delta > 0 ? std::sqrt(rounding / delta) : 0;
}

}  // namespace

MergeChanges observe_merge(formats::Source& source, bool saturate) {
  MergeChanges changes;
  for (std::size_t i = 0; i < source.base_tensors.size(); ++i) {
    const TensorPtr &base = source.base_tensors[i], &merged = source.exact_tensors[i];
    const DType dtype = source.checkpoint.tensors[i]->dtype();
    if (!merged && dtype == base->dtype()) continue;
    const TensorPtr exact = merged ? merged : base;
    auto tensor = std::make_shared<const ObservedMerge>(before_merge(base, exact), exact, dtype);
    (merged ? changes.merged : changes.recast)[base->name()] = tensor;
    source.checkpoint.tensors[i] = cast(tensor, dtype, saturate);
  }
  return changes;
}

Observed observe_targets(formats::Source& source, const std::vector<Target>& targets, bool saturate) {
  Observed observed;
  const auto plain = std::ranges::find_if(targets, [](const Target& one) { return !one.mix && !one.automatic; });
  for (std::size_t i = 0; i < source.base_tensors.size(); ++i) {
    const TensorPtr &base = source.base_tensors[i], exact = source.exact_tensors[i];
    if (!exact) continue;
    TensorPtr& tensor = source.checkpoint.tensors[i];
    const bool unrounded = tensor == exact;
    if (unrounded && (plain == targets.end() || (exact->has_raw() && !plain->keep))) continue;
    DType to = tensor->dtype();
    if (unrounded && plain->keep) to = base->dtype();
    else if (to == DType::f32 && plain != targets.end() && is_float(plain->dtype)) to = plain->dtype;
    if (!byte_size(to, exact->info().columns())) continue;
    auto one = std::make_shared<const ObservedMerge>(before_merge(base, exact), exact, to, kMeasured);
    observed[base->name()] = one;
    if (unrounded) source.exact_tensors[i] = tensor = one;
    else tensor = cast(one, tensor->dtype(), saturate);
  }
  return observed;
}

std::string eaten_by_rounding(const Observed& observed) {
  std::vector<std::string> eaten;
  std::string to;
  std::size_t changed = 0;
  for (const auto& [name, tensor] : observed) {
    if (!is_float(tensor->rounded_to()) || !(tensor->norms().delta_norm > 0)) continue;
    ++changed;
    if (!(tensor->norms().rounding_loss >= kEaten)) continue;
    eaten.push_back(name);
    to = info(tensor->rounded_to()).name;
  }
  if (eaten.empty()) return "";
  const std::string rounding = "rounding to " + to;
  if (const double lost = lost_of(observed); lost >= kEaten)
    return rounding +
           (lost > 1 + 1e-6 ? " is larger than" : " takes " + share_text(lost > 1 - 1e-6 ? 1 : lost) + " of") +
           " the adapters' delta: little or nothing of the adapters is left";
  return rounding + " takes " + share_text(kEaten) + " or more of the adapters' delta of " +
         std::to_string(eaten.size()) + " of " + plural(changed, "weight") + ", the first '" + eaten.front() + "'";
}

std::string encoded_again(const Observed& observed) {
  Observed again;
  for (const auto& [name, tensor] : observed)
    if (is_block_type(tensor->rounded_to())) again.emplace(name, tensor);
  if (again.empty()) return "";
  const double lost = lost_of(again);  // 0: nothing has been written
  return plural(again.size(), "weight") + " that adapters change " + (again.size() == 1 ? "is" : "are") +
         " encoded in " + std::string(info(again.begin()->second->rounded_to()).name) + " a second time" +
         (lost > 0 ? ", which takes " + share_text(lost) + " of the adapters' delta" : "") +
         ": --type f16 or f32 rounds the merged values once";
}

std::string share_text(double share) {
  const double percent = 100 * share;
  if (!std::isfinite(percent)) return "-";
  if (percent == 0 || (percent < 100 && percent >= 10 && percent < 99.5)) return number_text(percent, 2) + " %";
  if (percent >= 99.5 && percent < 100) return percent < 99.99 ? number_text(percent, 4) + " %" : "99.99 %";
  const int decimals = percent >= 10 ? 0 : std::min(12, 1 - static_cast<int>(std::floor(std::log10(percent))));
  char text[340];
  std::snprintf(text, sizeof text, "%.*f %%", decimals, percent);
  return text;
}

}  // namespace ropewalk::tools
