#include "formats/quantize/auto_types.h"

#include <algorithm>
#include <array>
#include <map>
#include <optional>

#include "lib/codecs/encode.h"

namespace ropewalk::formats {
namespace {

constexpr std::array kCandidates = {DType::iq2_xxs, DType::iq2_s,  DType::q2_k,   DType::iq3_xxs, DType::q3_k,
                                    DType::iq3_s,   DType::iq4_xs, DType::iq4_nl, DType::q4_k,    DType::q5_0,
                                    DType::q5_k,    DType::q5_1,   DType::q6_k,   DType::q8_0};

double bits_of(DType dtype) { return 8.0 * double(info(dtype).block_bytes) / double(info(dtype).block_elements); }

/// Error a byte more saves, from one choice to a larger one.
double slope(const TypeChoice& from, const TypeChoice& to) {
  return (from.error - to.error) / double(to.bytes - from.bytes);
}

/// Indices of the choices that no mixture of two others beats, smallest first: errors fall, and ever more slowly.
std::vector<std::size_t> hull_of(const std::vector<TypeChoice>& choices) {
  std::vector<std::size_t> order(choices.size()), hull;
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::ranges::stable_sort(order, [&](std::size_t a, std::size_t b) {
    return choices[a].bytes != choices[b].bytes ? choices[a].bytes < choices[b].bytes
                                                : choices[a].error < choices[b].error;
  });
  for (const std::size_t next : order) {
    if (!hull.empty() && !(choices[next].error < choices[hull.back()].error)) continue;
    while (hull.size() > 1 &&
           slope(choices[hull[hull.size() - 2]], choices[hull.back()]) <= slope(choices[hull.back()], choices[next]))
      hull.pop_back();
    hull.push_back(next);
  }
  return hull;
}

/// A step up that one tensor could take.
struct Step {
  double saved;  // error a byte
  std::size_t tensor, choice;
};

}  // namespace

std::span<const DType> auto_candidates() { return kCandidates; }

double sensitivity(std::string_view name, bool tied_head) {
  if (name == "output.weight") return 8;
  if (name == "token_embd.weight") return tied_head ? 8 : 4;
  return name.starts_with("blk.0.") ? 2 : 1;
}

std::vector<OpenTensor> open_tensors(const GgufPlan& source, const std::string& path, const QuantizeOptions& options,
                                     std::span<const DType> candidates) {
  // What two types of the same blocks leave alike is not theirs to choose.
  QuantizeOptions one = options, other = options;
  one.copy = other.copy = false;
  one.mix.pure = other.mix.pure = true;
  one.mix.type = FileType::q8_0, other.mix.type = FileType::q4_0;
  const QuantizePlan a = quantize_plan(source, path, one), b = quantize_plan(source, path, other);
  const bool tied = std::ranges::none_of(a.tensors, [](const auto& tensor) { return tensor.name == "output.weight"; });
  std::vector<OpenTensor> open;
  for (std::size_t i = 0; i < a.tensors.size(); ++i) {
    if (a.tensors[i].to == b.tensors[i].to) continue;
    OpenTensor tensor{a.tensors[i].name, b.plan.tensors[i], {}, sensitivity(a.tensors[i].name, tied)};
    for (const DType dtype : candidates) {
      const bool fits = tensor.plan.tensor->info().columns() % std::uint64_t(info(dtype).block_elements) == 0;
      if (fits && has_block_encoder(dtype) &&
          (importances_of(dtype) != Importances::required || tensor.plan.importances))
        tensor.candidates.push_back(dtype);
    }
    std::ranges::stable_sort(tensor.candidates, {}, bits_of);
    if (!tensor.candidates.empty()) open.push_back(std::move(tensor));
  }
  return open;
}

std::uint64_t least_bytes(std::span<const std::vector<TypeChoice>> choices) {
  std::uint64_t bytes = 0;
  for (const std::vector<TypeChoice>& one : choices) bytes += std::ranges::min(one, {}, &TypeChoice::bytes).bytes;
  return bytes;
}

std::vector<std::size_t> choose_types(std::span<const std::vector<TypeChoice>> choices, std::uint64_t budget) {
  std::vector<std::size_t> chosen;
  std::vector<Step> steps;
  std::uint64_t left = budget - least_bytes(choices);
  for (std::size_t tensor = 0; tensor < choices.size(); ++tensor) {
    const std::vector<std::size_t> hull = hull_of(choices[tensor]);
    chosen.push_back(hull.front());
    for (std::size_t i = 1; i < hull.size(); ++i)
      steps.push_back({slope(choices[tensor][hull[i - 1]], choices[tensor][hull[i]]), tensor, hull[i]});
  }
  const auto more_bytes = [&](const Step& step) {
    return choices[step.tensor][step.choice].bytes - choices[step.tensor][chosen[step.tensor]].bytes;
  };
  const auto take = [&](const Step& step) {
    left -= more_bytes(step);
    chosen[step.tensor] = step.choice;
  };
  // A tensor's own steps stand in order: each saves less a byte than the one before it.
  std::ranges::stable_sort(steps, std::greater{}, &Step::saved);
  for (const Step& step : steps)
    if (more_bytes(step) <= left) take(step);
    else break;  // from here on any order may be best
  for (;;) {
    std::optional<Step> best;
    for (std::size_t tensor = 0; tensor < choices.size(); ++tensor)
      for (std::size_t i = 0; i < choices[tensor].size(); ++i) {
        const TypeChoice &now = choices[tensor][chosen[tensor]], &next = choices[tensor][i];
        if (next.bytes <= now.bytes || !(next.error < now.error) || next.bytes - now.bytes > left) continue;
        if (!best || slope(now, next) > best->saved) best = Step{slope(now, next), tensor, i};
      }
    if (!best) return chosen;
    take(*best);
  }
}

FileType file_type_of(std::span<const QuantizedTensor> tensors, std::span<const GgufTensorPlan> plans) {
  std::map<DType, std::uint64_t> bytes;
  for (std::size_t i = 0; i < tensors.size(); ++i)
    if (is_block_type(tensors[i].to))
      bytes[tensors[i].to] += byte_size(tensors[i].to, plans[i].tensor->info().elements()).value_or(0);
  FileType type = FileType::q8_0;
  std::uint64_t most = 0;
  for (const auto& [dtype, sum] : bytes) {
    const auto row = std::ranges::find(kFileTypes, dtype, &FileTypeInfo::base);
    if (sum > most && row != kFileTypes.end()) most = sum, type = row->type;
  }
  return type;
}

}  // namespace ropewalk::formats
