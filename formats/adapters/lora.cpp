#include <array>

#include "formats/adapters/expert_parameters.h"
#include "formats/adapters/kinds.h"
#include "formats/engines/model_types.h"
#include "lib/adapters/adapter_recipes.h"
#include "lib/ascii_case.h"
#include "lib/error.h"
#include "lib/recipes.h"

namespace ropewalk::formats {
namespace {

using Use = FieldUse;
using Type = FieldType;
constexpr std::array kFields = {
    AdapterField{"r", Type::any, Use::read},
    AdapterField{"lora_alpha", Type::any, Use::read},
    AdapterField{"rank_pattern", Type::object, Use::read},
    AdapterField{"alpha_pattern", Type::object, Use::read},
    AdapterField{"use_rslora", Type::boolean, Use::read},
    AdapterField{"lora_bias", Type::boolean, Use::read},
    AdapterField{"bias", Type::biases, Use::read},
    AdapterField{"fan_in_fan_out", Type::boolean, Use::read},
    AdapterField{"init_lora_weights", Type::any, Use::read},
    AdapterField{"use_dora", Type::boolean, Use::read},
    AdapterField{"trainable_token_indices", Type::list_or_object, Use::read},
    AdapterField{"ensure_weight_tying", Type::boolean, Use::read},
    AdapterField{"use_qalora", Type::boolean, Use::refused},
    AdapterField{"use_bdlora", Type::object, Use::refused},
    AdapterField{"layer_replication", Type::list, Use::read},
    AdapterField{"kasa_config", Type::object, Use::refused},
    AdapterField{"velora_config", Type::object, Use::refused},
    AdapterField{"arrow_config", Type::object, Use::refused},
    AdapterField{"alora_invocation_tokens", Type::list, Use::refused},
    AdapterField{"target_parameters", Type::list, Use::read},
    AdapterField{"monteclora_config", Type::object, Use::refused},
    AdapterField{"lora_dropout", Type::any, Use::none},
    // of PEFT before 0.3, passed over by later ones: whether eval() merged; parts of a fused layer with factors of another form
    AdapterField{kMergeWeights, Type::boolean, Use::none},
    AdapterField{"enable_lora", Type::list, Use::refused},
    AdapterField{"megatron_config", Type::any, Use::none},
    AdapterField{"megatron_core", Type::any, Use::none},
    AdapterField{"qalora_group_size", Type::any, Use::none},
    // of initialisations: they matter only with the init_lora_weights that names them
    AdapterField{"loftq_config", Type::any, Use::none},
    AdapterField{"eva_config", Type::any, Use::none},
    AdapterField{"corda_config", Type::any, Use::none},
    AdapterField{"lora_ga_config", Type::any, Use::none},
    AdapterField{"runtime_config", Type::any, Use::none},
};
/// What the initialisation took out of the base before training.
enum class Init { plain, pissa, olora };

/// As PEFT 0.21.2 compares (LoraLayer.update_layer): some words in any case, others letter by letter or by their beginning.
Init init_of(const PeftConfig& config) {
  const JsonFields fields = config.fields();
  const Json* init = fields.find_set("init_lora_weights");
  if (!init || init->is_boolean()) return Init::plain;
  const std::string name = fields.optional_string("init_lora_weights").value_or(""), any_case = lower_case(name);
  if (name == "pissa") return Init::pissa;
  if (any_case == "olora") return Init::olora;
  if (any_case == "gaussian" || any_case == "mica" || name == "eva" || name == "orthogonal" || name.empty())
    return Init::plain;
  if (name.starts_with("pissa_niter_") || name.starts_with("corda") || name == "loftq" || name == "lora_ga")
    fields.fail(ErrorKind::unsupported, "init_lora_weights",
                "'init_lora_weights' is " + shown(*init) +
                    ": the base was changed before training, by what cannot be computed from it again",
                "convert the adapter to plain LoRA with PEFT (path_initial_model_for_weight_conversion)");
  fields.fail(
      ErrorKind::bad_input, "init_lora_weights",
      "'init_lora_weights' is " + shown(*init) +
          ", expected true, false, \"gaussian\", \"eva\", \"orthogonal\", \"mica\", \"olora\" or \"pissa\": PEFT "
          "0.21.2 knows no such initialization (of these it reads only gaussian, olora and mica in any case)",
      "write the word as the adapter was trained with");
}

/// The two factors of a module, their shapes as one rank has them.
struct Pair {
  TensorPtr a, b;
};
Pair take_pair(AdapterTensors& tensors, const std::string& module, const char* role_a, const char* role_b,
               std::uint64_t rank) {
  const std::vector<TensorPtr> both = tensors.take_all(module, {role_a, role_b});
  const Pair pair{both[0], both[1]};
  for (const TensorPtr& tensor : both) require_axes(*tensor, 2, tensors.path());
  const std::uint64_t rank_a = pair.a->info().shape[0], rank_b = pair.b->info().shape[1];
  if (rank_a != rank_b)
    tensors.fail("'" + pair.a->name() + "' has rank " + std::to_string(rank_a) + ", '" + pair.b->name() + "' rank " +
                     std::to_string(rank_b) + ", expected the same",
                 "the factors belong to different adapters");
  if (rank_a != rank)
    tensors.fail("'" + pair.a->name() + "' has rank " + std::to_string(rank_a) + ", expected " + std::to_string(rank) +
                     ", the r of adapter_config.json",
                 "the scale depends on it: take configuration and weights of the same adapter");
  return pair;
}

/// lora_B.bias: it is scaled as B is, and added to the bias of the base.
void read_lora_bias(AdapterReading& reading, const std::string& module, const LazyTensor& partner, double scale) {
  if (!reading.config.flag("lora_bias")) return;
  const TensorPtr bias = reading.tensors.require(module, "lora_B.bias", partner);
  require_axes(*bias, 1, reading.tensors.path());
  DeltaChange change{[bias](TensorPtr weight, double s) { return with_delta(std::move(weight), bias, s); }};
  reading.modules.push_back({module + ".bias", "lora-bias", {bias}, 0, scale, std::move(change), false, false});
}

/// How a module changes its weight beyond a low-rank delta: first the base as its initialisation left it, then W + dW,
/// then, with DoRA, rows (of an embedding columns, as of a weight that stands transposed) at the lengths that were trained.
struct Variant {
  Init init;
  TensorPtr magnitudes;  // nullptr: no DoRA
  Axis axis;
};
RewriteChange rewritten(const LowRankChange& low_rank, const Variant& variant, std::uint64_t rank, double scale) {
  return {[=](TensorPtr weight) {
    const bool turned = stands_transposed(low_rank, *weight);
    const LowRankTerm term = turned ? LowRankTerm{transposed(low_rank.b), transposed(low_rank.a), scale}
                                    : LowRankTerm{low_rank.a, low_rank.b, scale};
    if (variant.init == Init::pissa) weight = without_largest_components(std::move(weight), rank);
    if (variant.init == Init::olora) weight = without_qr_part(std::move(weight), rank, scale);
    weight = with_low_rank_delta(std::move(weight), {term});
    if (!variant.magnitudes) return weight;
    return with_magnitudes(std::move(weight), variant.magnitudes, turned ? Axis::columns : variant.axis);
  }};
}

/// What the two factors of a module do to its weight.
void add_module(AdapterReading& reading, const std::string& module, const Pair& pair, const LowRankChange& low_rank,
                const RankAndScale& numbers, Axis axis) {
  const auto [rank, scale] = numbers.of(module);
  AdapterModule made{module + ".weight", numbers.rslora() ? "rslora" : "lora", {pair.a, pair.b}, rank, scale, low_rank};
  Variant variant{init_of(reading.config), nullptr, axis};
  if (reading.config.flag("use_dora")) {
    variant.magnitudes = reading.tensors.require(module, "lora_magnitude_vector", *pair.a);
    require_axes(*variant.magnitudes, 1, reading.tensors.path());
    made.kind = numbers.rslora() ? "rslora+dora" : "dora";
    made.factors.push_back(variant.magnitudes);
  }
  if (variant.init != Init::plain) made.kind = variant.init == Init::pissa ? "pissa" : "olora";
  if (variant.magnitudes || variant.init != Init::plain) made.change = rewritten(low_rank, variant, rank, scale);
  reading.modules.push_back(std::move(made));
}

void read_lora(AdapterReading& reading) {
  const PeftConfig& config = reading.config;
  const Init init = init_of(config);
  const RankAndScale numbers(config, "lora_alpha");
  const bool transposed_base = config.flag("fan_in_fan_out");
  if (init == Init::plain) read_expert_parameters(reading, numbers);  // PEFT 0.21.2 has no other for them
  for (const std::string& module : reading.tensors.modules({"lora_A.weight", "lora_B.weight"})) {
    const Pair pair = take_pair(reading.tensors, module, "lora_A.weight", "lora_B.weight", numbers.of(module).rank);
    add_module(reading, module, pair, {pair.a, pair.b, transposed_base}, numbers, Axis::rows);
    read_lora_bias(reading, module, *pair.b, numbers.of(module).scale);
  }
  // E + scale (B A)^T: an embedding stands as [vocabulary, width], its factors as [rank, vocabulary] and [width, rank]
  for (const std::string& module : reading.tensors.modules({"lora_embedding_A", "lora_embedding_B"})) {
    if (init != Init::plain)
      config.fields().fail(ErrorKind::unsupported, "init_lora_weights",
                           "'init_lora_weights' is " + shown(config.json.at("init_lora_weights")) +
                               " in an adapter of an embedding, which PEFT 0.21.2 does not initialise so",
                           "merge it with PEFT");
    const Pair pair =
        take_pair(reading.tensors, module, "lora_embedding_A", "lora_embedding_B", numbers.of(module).rank);
    add_module(reading, module, pair, {transposed(pair.b), transposed(pair.a)}, numbers, Axis::columns);
  }
}

}  // namespace

bool of_embedding(const AdapterModule& module) {
  const std::string& name = module.factors.front()->name();
  return name.find("lora_embedding_") != std::string::npos || name.starts_with("token_embd.");  // PEFT's, a GGUF's
}

bool stands_transposed(const LowRankChange& change, const LazyTensor& weight) {
  const std::vector<std::uint64_t>& shape = weight.info().shape;
  if (!change.transposed || shape.size() != 2) return false;
  const std::uint64_t in = change.a->info().columns(), out = change.b->info().rows();
  const bool plain = shape[0] == out && shape[1] == in, turned = shape[0] == in && shape[1] == out;
  return turned && (!plain || engines::is_conv1d(weight.name()));
}

extern const AdapterKind kLora;
constinit const AdapterKind kLora = {"LORA", "LoRA", kFields, read_lora,
                                     "rsLoRA, DoRA, PiSSA, OLoRA, target_parameters, layer_replication"};

}  // namespace ropewalk::formats
