#include "lib/adapters/combinations.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <string>
#include <utility>

#include "lib/adapters/thin_factors.h"
#include "lib/error.h"

namespace ropewalk {
namespace {

enum class Prune { none, smallest, random };
/// What a type does, and PEFT's name of it.
struct Recipe {
  const char* name;
  Combination type;
  Prune prune;
  bool ties;    // the majority's signs alone, their mean
  bool deltas;  // on whole deltas, the result cut to a rank; else on factors
};
constexpr std::array kRecipes = {
    Recipe{"linear", Combination::linear, Prune::none, false, false},
    Recipe{"cat", Combination::cat, Prune::none, false, false},
    Recipe{"svd", Combination::svd, Prune::none, false, true},
    Recipe{"ties", Combination::ties, Prune::smallest, true, false},
    Recipe{"ties_svd", Combination::ties_svd, Prune::smallest, true, true},
    Recipe{"dare_linear", Combination::dare_linear, Prune::random, false, false},
    Recipe{"dare_linear_svd", Combination::dare_linear_svd, Prune::random, false, true},
    Recipe{"dare_ties", Combination::dare_ties, Prune::random, true, false},
    Recipe{"dare_ties_svd", Combination::dare_ties_svd, Prune::random, true, true},
    Recipe{"magnitude_prune", Combination::magnitude_prune, Prune::smallest, false, false},
    Recipe{"magnitude_prune_svd", Combination::magnitude_prune_svd, Prune::smallest, false, true},
};
const Recipe& recipe_of(Combination type) { return *std::ranges::find(kRecipes, type, &Recipe::type); }

/// All but the `density` largest magnitudes are zero; of equal ones the first stay.
void keep_largest(WideMatrix& values, double density) {
  if (density >= 1) return;
  std::vector<std::size_t> order(static_cast<std::size_t>(values.size()));
  std::iota(order.begin(), order.end(), std::size_t{0});
  const auto kept = static_cast<std::size_t>(density * double(values.size()));
  const double* data = values.data();
  std::nth_element(order.begin(), order.begin() + std::ptrdiff_t(kept), order.end(), [&](std::size_t a, std::size_t b) {
    const double x = std::abs(data[a]), y = std::abs(data[b]);
    return x != y ? x > y : a < b;
  });
  for (std::size_t i = kept; i < order.size(); ++i) values.data()[order[i]] = 0;
}

void keep_some(WideMatrix& values, double density, std::uint64_t stream) {
  if (density >= 1) return;
  for (Eigen::Index i = 0; i < values.size(); ++i) {
    const double draw = double(mixed(stream + std::uint64_t(i) * 0x2545f4914f6cdd1d) >> 11) * 0x1p-53;
    double& x = values.data()[i];
    x = draw < density ? x / density : 0;
  }
}

/// Task tensors of one shape, pruned and added as `options` say.
WideMatrix added(std::vector<WideMatrix> tasks, const std::vector<double>& weights, const CombineOptions& options,
                 std::uint64_t stream) {
  const Recipe& recipe = recipe_of(options.type);
  for (std::size_t t = 0; t < tasks.size(); ++t) {
    if (recipe.prune == Prune::random) keep_some(tasks[t], *options.density, mixed(stream + t));
    if (recipe.prune == Prune::smallest) keep_largest(tasks[t], *options.density);
  }
  WideMatrix sum = WideMatrix::Zero(tasks.front().rows(), tasks.front().cols());
  const auto sign = [](double x) { return x > 0 ? 1.0 : x < 0 ? -1.0 : 0.0; };
  for (Eigen::Index i = 0; i < sum.size(); ++i) {
    double total = 0, votes = 0, kept = 0;
    for (const WideMatrix& task : tasks) votes += options.sign_by_count ? sign(task.data()[i]) : task.data()[i];
    for (std::size_t t = 0; t < tasks.size(); ++t) {
      const double x = tasks[t].data()[i];
      if (recipe.ties && sign(x) != (votes >= 0 ? 1.0 : -1.0)) continue;
      total += x * weights[t];
      kept += 1;
    }
    sum.data()[i] = recipe.ties ? total / std::max(kept, 1.0) : total;
  }
  return sum;
}

/// Values past the quantile of all of them, either sign, are cut there: torch.quantile, between neighbours linearly.
void clamp(ThinFactors& factors, double quantile) {
  std::vector<double> all(factors.b.data(), factors.b.data() + factors.b.size());
  all.insert(all.end(), factors.a.data(), factors.a.data() + factors.a.size());
  if (all.empty()) return;
  std::sort(all.begin(), all.end());
  const double at = quantile * double(all.size() - 1), below = std::floor(at);
  const double low = all[std::size_t(below)], high = all[std::min(std::size_t(below) + 1, all.size() - 1)];
  const double most = low + (at - below) * (high - low);
  for (WideMatrix* matrix : {&factors.a, &factors.b}) *matrix = matrix->cwiseMax(-most).cwiseMin(most);
}

ThinFactors concatenated(const std::vector<WeightedTerm>& terms) {
  Eigen::Index rank = 0, at = 0;
  for (const WeightedTerm& one : terms) rank += Eigen::Index(one.term.a->info().rows());
  ThinFactors all{WideMatrix(rank, Eigen::Index(terms.front().term.a->info().columns())),
                  WideMatrix(Eigen::Index(terms.front().term.b->info().rows()), rank)};
  for (const WeightedTerm& one : terms) {
    const auto own = Eigen::Index(one.term.a->info().rows());
    all.a.middleRows(at, own) = wide_matrix(*one.term.a) * (one.weight * one.term.scale);
    all.b.middleCols(at, own) = wide_matrix(*one.term.b);
    at += own;
  }
  return all;
}

ThinFactors combine(const std::vector<WeightedTerm>& terms, const CombineOptions& options, std::uint64_t stream) {
  if (options.type == Combination::cat) return concatenated(terms);
  if (recipe_of(options.type).deltas) {
    std::uint64_t rank = 0;
    for (const WeightedTerm& one : terms) rank = std::max(rank, one.term.a->info().rows());
    rank = options.rank.value_or(rank);
    ThinFactors out;
    if (options.type == Combination::svd) {
      out = cut(concatenated(terms), rank);
    } else {
      std::vector<WideMatrix> tasks;
      std::vector<double> weights;
      for (const WeightedTerm& one : terms) {
        tasks.push_back(wide_matrix(*one.term.b) * wide_matrix(*one.term.a) * one.term.scale);
        weights.push_back(one.weight);
      }
      out = cut(added(std::move(tasks), weights, options, stream), rank);
    }
    if (options.clamp) clamp(out, *options.clamp);
    return out;
  }
  std::vector<WideMatrix> a, b;
  std::vector<double> weights_a, weights_b;
  for (const WeightedTerm& one : terms) {
    const double weight = one.weight * one.term.scale, root = std::sqrt(std::abs(weight));
    weights_a.push_back(weight >= 0 ? root : -root);
    weights_b.push_back(root);
    a.push_back(wide_matrix(*one.term.a));
    b.push_back(wide_matrix(*one.term.b));
  }
  return {added(std::move(a), weights_a, options, mixed(stream)),
          added(std::move(b), weights_b, options, mixed(stream + 1))};
}

void check(const std::string& name, const std::vector<WeightedTerm>& terms, const CombineOptions& options) {
  const bool same_rank = !recipe_of(options.type).deltas && options.type != Combination::cat;
  const LowRankTerm& first = terms.front().term;
  for (const WeightedTerm& one : terms) {
    const std::vector<std::uint64_t>&a = one.term.a->info().shape, &b = one.term.b->info().shape;
    if (a.size() == 2 && b.size() == 2 && a[1] == first.a->info().shape[1] && b[0] == first.b->info().shape[0] &&
        (!same_rank || a[0] == first.a->info().shape[0]) && a[0] == b[1])
      continue;
    throw Error(ErrorKind::bad_input, {.path = std::string(one.term.a->file())},
                "'" + one.term.a->name() + "' " + shape_text(a) + " and '" + first.a->name() + "' " +
                    shape_text(first.a->info().shape) + " of '" + name +
                    "' cannot be added factor by factor: expected " +
                    (same_rank ? "one rank, as PEFT 0.21.2 does" : "one width"),
                "combine them with cat or svd");
  }
}

}  // namespace

std::optional<Combination> combination_from_name(std::string_view name) {
  for (const Recipe& recipe : kRecipes)
    if (name == recipe.name) return recipe.type;
  return std::nullopt;
}

std::vector<std::string> combination_names() {
  std::vector<std::string> names;
  for (const Recipe& recipe : kRecipes) names.emplace_back(recipe.name);
  return names;
}

LowRankTerm combined(const std::string& name, std::vector<WeightedTerm> terms, const CombineOptions& options) {
  if (recipe_of(options.type).prune != Prune::none && !options.density)
    throw Error(ErrorKind::usage, {}, "this combination prunes, and no density is given",
                "say which part of the values to keep, 0 to 1");
  check(name, terms, options);
  const std::uint64_t out = terms.front().term.b->info().rows(), in = terms.front().term.a->info().columns();
  std::uint64_t rank = 0, total = 0;
  for (const WeightedTerm& one : terms) {
    rank = std::max(rank, one.term.a->info().rows());
    total += one.term.a->info().rows();
  }
  if (options.type == Combination::cat) rank = total;
  if (recipe_of(options.type).deltas) {
    rank = std::min({options.rank.value_or(rank), out, in});
    if (options.type == Combination::svd) rank = std::min(rank, total);
  }
  std::uint64_t bytes = 2 * (out + in) * total;
  if (recipe_of(options.type).deltas && options.type != Combination::svd)
    bytes += (terms.size() + 2) * out * in + 3 * std::min(out, in) * std::min(out, in);
  std::uint64_t stream = mixed(options.seed);
  for (const char c : name) stream = mixed(stream ^ static_cast<unsigned char>(c));
  const std::string file(terms.front().term.a->file());
  FactorTensors factors = computed_factors(
      {name + ".lora_A", {rank, in}, DType::f64}, {name + ".lora_B", {out, rank}, DType::f64}, file, bytes * 8,
      [terms = std::move(terms), options, stream] { return combine(terms, options, stream); });
  return {std::move(factors.a), std::move(factors.b), 1.0};
}

}  // namespace ropewalk
