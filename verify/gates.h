#pragma once

#include <cmath>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lib/dtype.h"
#include "verify/judge.h"

namespace ropewalk::verify {

/// What a bound can be set on; LogitsReport's figures.
enum class Figure : std::uint8_t { kl_mean, kl_median, kl_p999, kl_max, kl_growth, top1, ppl_ratio, nll_difference };
struct FigureInfo {
  Figure figure;
  std::string_view name;
  bool ranged;     // has a value on any range of positions; the others describe the whole only
  bool mean;       // of positions: without a range it is held against the worst bucket too
  bool of_losses;  // needs a next token: a window's last position has none
};
inline constexpr FigureInfo kFigures[] = {
    {Figure::kl_mean, "kl_mean", true, true, false},       {Figure::kl_median, "kl_median", false, false, false},
    {Figure::kl_p999, "kl_p999", false, false, false},     {Figure::kl_max, "kl_max", true, false, false},
    {Figure::kl_growth, "kl_growth", false, false, false}, {Figure::top1, "top1", true, true, false},
    {Figure::ppl_ratio, "ppl_ratio", true, true, true},    {Figure::nll_difference, "nll_difference", true, true, true},
};
constexpr const FigureInfo& figure_info(Figure figure) { return kFigures[static_cast<std::size_t>(figure)]; }

enum class Bound : std::uint8_t { max, min };
/// "max" or "min", as reports and options spell it.
constexpr std::string_view name(Bound bound) { return bound == Bound::max ? "max" : "min"; }
/// False, either way, for what is no finite number: damage has no figure.
inline bool holds(Bound bound, double value, double limit) {
  return std::isfinite(value) && (bound == Bound::max ? value <= limit : value >= limit);
}

/// [from, to); no `to`: up to the end.
struct Positions {
  int from = 0;
  std::optional<int> to = {};
};

/// A bound on a figure, asked for or by default.
struct GateRequest {
  Figure figure;
  Bound bound;
  double limit;
  std::optional<Positions> positions = {};  // nullopt: all, and the worst bucket of a mean
  // by default: left out, instead of failing, where there is nothing to measure or the text is too short for any to pass
  bool if_measured = false;
};

/// Bounds for a candidate whose coarsest weights are f32 (or f64), f16, bf16 or blocks of so many bits a weight, each judged
/// only where it can be. Where they come from: docs/protocols.md.
std::vector<GateRequest> default_gates(DType encoding);

/// A bound and what it was held against.
struct Gate {
  std::string name;                    // a figure's, or what another level compares: "rope", "weights"
  std::optional<Positions> positions;  // nullopt: all
  double value = 0;                    // NaN where there is nothing to measure
  Bound bound = Bound::max;
  double limit = 0;
  bool pass = false;
  // The end of the figure's 95 % interval that is held to the limit (verify/confidence.h); nullopt: a figure that is not of
  // a sample, or a bucket's.
  std::optional<double> confident = {};
  double fewest = 0;                 // fewest_positions() (verify/confidence.h)
  std::uint64_t positions_held = 0;  // beside it: those there were

  bool unproven = false;  // withhold()

  bool too_few() const { return confident && double(positions_held) < fewest; }
  /// The value is within the limit, and this text is too short, or repeats itself too much, to tell that it would stay
  /// there.
  bool inconclusive() const { return !pass && (unproven || confident) && holds(bound, value, limit); }
};
/// A gate on what has no positions: tensors, ropes, tokenizers.
Gate gate_on(std::string_view name, double value, Bound bound, double limit);

/// A gate compares the end of the figure's 95 % interval that is nearer to the limit, so what this text cannot tell
/// fails too, as inconclusive. Mean gates without a range are applied to the whole and to the worst bucket (there the value counts,
/// since a bucket of few tokens could tell of none; top1 with three standard deviations of a share of so few). A range that holds no position, or a range on a figure of the whole, has
/// nothing to measure and fails. A default that no text so short could pass is left out and goes to report.left_out; a mean's
/// worst bucket is held all the same. Sets report.parts_at: where a bound on how far the distributions lie apart (kl_mean and
/// kl_max from above, top1 from below) fails. A loss that is worse in some bucket says nothing of where they part:
/// chance alone moves it either way.
std::vector<Gate> apply_gates(const std::vector<GateRequest>& requests, LogitsReport& report);
/// On a text that proves too little (verify/text_evidence.h): every gate that passes becomes inconclusive.
void withhold(std::vector<Gate>& gates);
/// At least one gate ran and all passed.
bool all_pass(const std::vector<Gate>& gates);

}  // namespace ropewalk::verify
