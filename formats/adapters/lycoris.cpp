// LoHa and LoKr: deltas that are Hadamard and Kronecker products of small ones.

#include <array>

#include "formats/adapters/kinds.h"
#include "lib/adapters/adapter_recipes.h"
#include "lib/error.h"

namespace ropewalk::formats {
namespace {

using Use = FieldUse;
using Type = FieldType;
constexpr std::array kFields = {
    AdapterField{"r", Type::any, Use::read},
    AdapterField{"alpha", Type::any, Use::read},
    AdapterField{"rank_pattern", Type::object, Use::read},
    AdapterField{"alpha_pattern", Type::object, Use::read},
    AdapterField{"init_weights", Type::any, Use::none},
    AdapterField{"rank_dropout", Type::any, Use::none},
    AdapterField{"module_dropout", Type::any, Use::none},
    AdapterField{"rank_dropout_scale", Type::any, Use::none},
    AdapterField{"use_effective_conv2d", Type::any, Use::none},  // of convolutions
    // which of its matrices LoKr splits: the file says so too
    AdapterField{"decompose_both", Type::any, Use::none},
    AdapterField{"decompose_factor", Type::any, Use::none},
};

/// The two factors have the rank that the scale is made with.
void require_rank(const AdapterReading& reading, const LazyTensor& a, const LazyTensor& b, std::uint64_t rank) {
  for (const LazyTensor* tensor : {&a, &b}) require_axes(*tensor, 2, reading.tensors.path());
  const std::uint64_t rank_a = a.info().shape[1], rank_b = b.info().shape[0];
  if (rank_a == rank && rank_b == rank) return;
  const LazyTensor& wrong = rank_a == rank ? b : a;
  reading.tensors.fail("'" + wrong.name() + "' has rank " + std::to_string(rank_a == rank ? rank_b : rank_a) +
                           ", expected " + std::to_string(rank) + ", the r of adapter_config.json",
                       "the scale depends on it: take configuration and weights of the same adapter");
}

void read_loha(AdapterReading& reading) {
  const RankAndScale numbers(reading.config, "alpha");
  AdapterTensors& tensors = reading.tensors;
  for (const std::string& module : tensors.modules({"hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"})) {
    const std::vector<TensorPtr> taken = tensors.take_all(module, {"hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"});
    const HadamardFactors factors{taken[0], taken[1], taken[2], taken[3]};
    const auto [rank, scale] = numbers.of(module);
    require_rank(reading, *factors.a1, *factors.b1, rank);
    require_rank(reading, *factors.a2, *factors.b2, rank);
    DeltaChange change{
        [factors](TensorPtr weight, double by) { return with_hadamard_delta(std::move(weight), factors, by); }};
    reading.modules.push_back({module + ".weight", "loha", taken, rank, scale, std::move(change)});
  }
}

/// lokr_w1 or lokr_w2: one matrix, or two of the rank.
KroneckerFactor take_factor(AdapterReading& reading, const std::string& module, const std::string& role,
                            std::uint64_t rank, std::vector<TensorPtr>& taken) {
  AdapterTensors& tensors = reading.tensors;
  KroneckerFactor factor;
  if ((factor.first = tensors.take(module, role))) {
    require_axes(*factor.first, 2, tensors.path());
    taken.push_back(factor.first);
    return factor;
  }
  factor.first = tensors.take(module, role + "_a");
  if (factor.first) factor.second = tensors.require(module, role + "_b", *factor.first);
  else if ((factor.second = tensors.take(module, role + "_b")))
    factor.first = tensors.require(module, role + "_a", *factor.second);
  if (!factor.first) {
    if (!taken.empty()) (void)tensors.require(module, role, *taken.front());
    return factor;
  }
  require_rank(reading, *factor.first, *factor.second, rank);
  taken.insert(taken.end(), {factor.first, factor.second});
  return factor;
}

void read_lokr(AdapterReading& reading) {
  const RankAndScale numbers(reading.config, "alpha");
  for (const std::string& module :
       reading.tensors.modules({"lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b"})) {
    std::vector<TensorPtr> taken;
    const auto [rank, scale] = numbers.of(module);
    const KroneckerFactor u = take_factor(reading, module, "lokr_w1", rank, taken);
    const KroneckerFactor v = take_factor(reading, module, "lokr_w2", rank, taken);
    if (!u.first) (void)reading.tensors.require(module, "lokr_w1", *taken.front());
    DeltaChange change{
        [u, v](TensorPtr weight, double by) { return with_kronecker_delta(std::move(weight), u, v, by); }};
    reading.modules.push_back({module + ".weight", "lokr", std::move(taken), rank, scale, std::move(change)});
  }
}

}  // namespace

constinit const AdapterKind kLoha = {"LOHA", "LoHa", kFields, read_loha};
constinit const AdapterKind kLokr = {"LOKR", "LoKr", kFields, read_lokr};

}  // namespace ropewalk::formats
