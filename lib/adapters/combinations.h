#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lib/recipes.h"

namespace ropewalk {

/// How low-rank deltas of several adapters become one: the combination types of PEFT 0.21.2's add_weighted_adapter, with its
/// results where it is deterministic. Those that end in svd work on whole deltas s B A and cut the result to a rank; the
/// others on the factors A and B by themselves, so that products of one adapter's B with another's A appear.
enum class Combination {
  linear,  // sum of sqrt(|w s|) A and of sqrt(|w s|) B, the sign of w s on A
  cat,     // the weighted sum itself
  svd,     // the weighted sum, cut
  ties,    // arXiv:2306.01708v2: pruned by magnitude, values of the minority sign left out, mean of the rest
  ties_svd,
  dare_linear,  // arXiv:2311.03099v3: values dropped at random, the rest scaled up; then linear or ties
  dare_linear_svd,
  dare_ties,
  dare_ties_svd,
  magnitude_prune,  // pruned by magnitude, then linear
  magnitude_prune_svd,
};
/// By PEFT's names; nullopt for any other.
std::optional<Combination> combination_from_name(std::string_view name);
/// All names, for messages.
std::vector<std::string> combination_names();

struct CombineOptions {
  Combination type = Combination::cat;
  std::optional<std::uint64_t> rank = std::nullopt;  // of svd kinds; the largest of the adapters' if nullopt
  std::optional<double> density = std::nullopt;      // kept part, [0, 1]; needed by all but linear, cat and svd
  bool sign_by_count = false;  // ties: the majority is counted (PEFT's "frequency"), not summed ("total")
  std::optional<double> clamp = std::nullopt;  // svd kinds: factors cut at this quantile of their values
  // of dare: a generator of our own, so the same on every machine, and not torch's
  std::uint64_t seed = 0;
};

/// One delta: the factors of all of it, its scale and its weight.
struct WeightedTerm {
  LowRankTerm term;  // scale: of the adapter's configuration
  double weight;
};
/// `terms` of one tensor as one term of scale 1, whose factors are computed, in double, when they are prepared. Error(usage)
/// if the type needs a density that is not given; Error(bad_input) for factors whose shapes differ where they are added.
/// `name`: of the tensor, for messages and dare's draws.
LowRankTerm combined(const std::string& name, std::vector<WeightedTerm> terms, const CombineOptions& options);

}  // namespace ropewalk
