// Kinds that scale: IA3 rows, columns and biases; VeRA and AdaLoRA the factors of a product. LN tuning replaces norms.

#include <algorithm>
#include <array>

#include "formats/adapters/kinds.h"
#include "formats/adapters/python_pattern.h"
#include "formats/json_fields.h"
#include "lib/adapters/adapter_recipes.h"
#include "lib/error.h"

namespace ropewalk::formats {
namespace {

using Use = FieldUse;
using Type = FieldType;

constexpr std::array kIa3Fields = {
    // which modules scale their input: the shape of ia3_l says so, unless it is [1, 1]
    AdapterField{"feedforward_modules", Type::any, Use::read},
    AdapterField{"fan_in_fan_out", Type::boolean, Use::read},
    AdapterField{"init_ia3_weights", Type::any, Use::none},
};

/// As PEFT 0.21.2 asks feedforward_modules: a text is a whole expression, others are ends of paths.
bool is_feedforward(const PeftConfig& config, const std::string& module) {
  constexpr const char* kField = "feedforward_modules";
  const Json* named = config.fields().find_set(kField);
  if (!named) return false;
  if (named->is_string())
    return PythonPattern(*named, PythonPattern::Anchor::whole,
                         json_place(config.path, config.text, "/feedforward_modules"), kField)
        .match(module)
        .has_value();
  return named->is_array() && std::ranges::any_of(*named, [&](const Json& end) {
           return end.is_string() && module.ends_with(end.get_ref<const std::string&>());
         });
}

/// [out, 1] scales outputs, and so the bias; [1, in] scales inputs (feedforward_modules).
void read_ia3(AdapterReading& reading) {
  const bool transposed_base = reading.config.flag("fan_in_fan_out");
  for (const std::string& module : reading.tensors.modules({"ia3_l"})) {
    const TensorPtr l = reading.tensors.take(module, "ia3_l");
    require_axes(*l, 2, reading.tensors.path());
    bool inputs = l->info().shape[0] == 1, outputs = l->info().shape[1] == 1;
    if (!inputs && !outputs)
      reading.tensors.fail(
          "'" + l->name() + "' has shape " + shape_text(l->info().shape) + ", expected [outputs, 1] or [1, inputs]",
          "save the adapter again");
    if (inputs && outputs) inputs = is_feedforward(reading.config, module);
    const bool rows = (outputs && !inputs) != transposed_base;
    const auto scaled = [l](Axis axis) {
      return RewriteChange{[l, axis](TensorPtr weight) { return with_factors(std::move(weight), l, axis); }};
    };
    reading.modules.push_back({module + ".weight", "ia3", {l}, 0, 1, scaled(rows ? Axis::rows : Axis::columns)});
    if (outputs && !inputs) {
      AdapterModule bias{module + ".bias", "ia3", {l}, 0, 1, scaled(Axis::columns)};
      bias.by_targets = false;
      bias.if_there = true;
      reading.modules.push_back(std::move(bias));
    }
  }
}

constexpr std::array kVeraFields = {
    AdapterField{"r", Type::any, Use::read},
    AdapterField{"bias", Type::biases, Use::read},
    AdapterField{"fan_in_fan_out", Type::boolean, Use::read},
    AdapterField{"projection_prng_key", Type::any, Use::none},
    AdapterField{"save_projection", Type::boolean, Use::read},
    AdapterField{"vera_dropout", Type::any, Use::none},
    AdapterField{"d_initial", Type::any, Use::none},
    AdapterField{"init_weights", Type::any, Use::none},
};

/// dW = (lambda_b o B) (lambda_d o A), A and B the upper left parts of projections that all modules share.
void read_vera(AdapterReading& reading) {
  const PeftConfig& config = reading.config;
  AdapterTensors& tensors = reading.tensors;
  const std::uint64_t rank = std::uint64_t(config.fields().integer("r", 1, 1 << 20));
  const std::vector<TensorPtr> projections = tensors.take_all("", {"vera_A", "vera_B"});
  if (projections.empty())
    config.fields().fail(ErrorKind::unsupported, "save_projection",
                         "the adapter was saved without its projections vera_A and vera_B (save_projection is " +
                             std::string(config.flag("save_projection") ? "true" : "false") +
                             "): they are random numbers of torch's own generator",
                         "load it with PEFT and save it again with save_projection=True");
  const TensorPtr &a = projections[0], &b = projections[1];
  require_axes(*a, 2, tensors.path());
  require_axes(*b, 2, tensors.path());
  if (a->info().shape[0] != rank || b->info().shape[1] != rank)
    tensors.fail("'" + a->name() + "' " + shape_text(a->info().shape) + " and '" + b->name() + "' " +
                     shape_text(b->info().shape) + " do not have rank " + std::to_string(rank) +
                     ", the r of adapter_config.json",
                 "take configuration and weights of the same adapter");
  bool first = true;
  for (const std::string& module : tensors.modules({"vera_lambda_b", "vera_lambda_d"})) {
    const std::vector<TensorPtr> lambdas = tensors.take_all(module, {"vera_lambda_b", "vera_lambda_d"});
    const TensorPtr &lambda_b = lambdas[0], &lambda_d = lambdas[1];
    for (const TensorPtr& lambda : {lambda_b, lambda_d}) require_axes(*lambda, 1, tensors.path());
    const std::uint64_t out = lambda_b->info().elements();
    if (out > b->info().shape[0])
      tensors.fail("'" + lambda_b->name() + "' has shape " + shape_text(lambda_b->info().shape) +
                       ", expected at most the " + std::to_string(b->info().shape[0]) + " rows of '" + b->name() + "'",
                   "take projections and vectors of the same adapter");
    std::vector<TensorPtr> factors = {lambda_b, lambda_d};
    if (first) factors.insert(factors.end(), {a, b});  // of all modules: each key is in one place
    first = false;
    // the width is the weight's: A is cut when the module is applied
    const TensorPtr left = with_factors(upper_left(b, out, rank), lambda_b, Axis::rows);
    reading.modules.push_back(
        {module + ".weight", "vera", std::move(factors), rank, 1,
         LowRankChange{with_factors(a, lambda_d, Axis::rows), left, config.flag("fan_in_fan_out"), true}});
  }
}

constexpr std::array kAdaLoraFields = {
    AdapterField{"init_r", Type::any, Use::read},
    AdapterField{"lora_alpha", Type::any, Use::read},
    AdapterField{"rank_pattern", Type::object, Use::read},
    AdapterField{"fan_in_fan_out", Type::boolean, Use::read},
    AdapterField{"bias", Type::biases, Use::read},
    AdapterField{"r", Type::any, Use::none},  // of LoRA, whose fields it has; init_r counts
    AdapterField{"target_r", Type::any, Use::none},
    AdapterField{"tinit", Type::any, Use::none},
    AdapterField{"tfinal", Type::any, Use::none},
    AdapterField{"deltaT", Type::any, Use::none},
    AdapterField{"beta1", Type::any, Use::none},
    AdapterField{"beta2", Type::any, Use::none},
    AdapterField{"orth_reg_weight", Type::any, Use::none},
    AdapterField{"total_step", Type::any, Use::none},
    AdapterField{"lora_dropout", Type::any, Use::none},
    AdapterField{"init_lora_weights", Type::any, Use::none},  // plain, whatever it says
    AdapterField{"alpha_pattern", Type::any, Use::none},      // AdaLoRA reads neither this nor use_rslora
    AdapterField{"use_rslora", Type::any, Use::none},
    AdapterField{"megatron_config", Type::any, Use::none},
    AdapterField{"megatron_core", Type::any, Use::none},
    AdapterField{"qalora_group_size", Type::any, Use::none},
    AdapterField{"loftq_config", Type::any, Use::none},
    AdapterField{"eva_config", Type::any, Use::none},
    AdapterField{"corda_config", Type::any, Use::none},
    AdapterField{"lora_ga_config", Type::any, Use::none},
    AdapterField{"runtime_config", Type::any, Use::none},
};

/// dW = B (E o A) * lora_alpha / (init_r + 1e-5), E one number for each rank: singular values. Ranks that training took
/// away are not in the file, but the divisor stays (PEFT 0.21.2, resize_modules_by_rank_pattern).
void read_adalora(AdapterReading& reading) {
  const PeftConfig& config = reading.config;
  AdapterTensors& tensors = reading.tensors;
  const double init_r = double(config.fields().integer("init_r", 1, 1 << 20));
  if (!config.fields().find_set("lora_alpha"))
    config.fields().fail_unset("lora_alpha", "a number", "the scale depends on it: save the adapter again");
  const double alpha = *config.fields().optional_number("lora_alpha", -1e9, 1e9);
  const double scale = (alpha > 0 ? alpha : init_r) / (init_r + 1e-5);
  for (const std::string& module : tensors.modules({"lora_A", "lora_B", "lora_E"})) {
    const std::vector<TensorPtr> factors = tensors.take_all(module, {"lora_A", "lora_B", "lora_E"});
    const TensorPtr &a = factors[0], &b = factors[1], &e = factors[2];
    for (const TensorPtr& tensor : factors) require_axes(*tensor, 2, tensors.path());
    const std::uint64_t rank = a->info().shape[0];
    if (b->info().shape[1] != rank || e->info().elements() != rank || double(rank) > init_r)
      tensors.fail("'" + a->name() + "' " + shape_text(a->info().shape) + ", '" + b->name() + "' " +
                       shape_text(b->info().shape) + " and '" + e->name() + "' " + shape_text(e->info().shape) +
                       " do not have one rank of at most " + std::to_string(int(init_r)) +
                       ", the init_r of adapter_config.json",
                   "take configuration and weights of the same adapter");
    if (rank == 0) continue;  // training took all of it away
    reading.modules.push_back({module + ".weight",
                               "adalora",
                               {a, b, e},
                               rank,
                               scale,
                               LowRankChange{with_factors(a, e, Axis::rows), b, config.flag("fan_in_fan_out")}});
  }
}

constexpr std::array kLnFields = {AdapterField{"fan_in_fan_out", Type::boolean, Use::none}};

void read_ln_tuning(AdapterReading& reading) {
  for (const char* role : {"ln_tuning_layers.weight", "ln_tuning_layers.bias"})
    for (const std::string& module : reading.tensors.modules({role})) {
      const TensorPtr tensor = reading.tensors.take(module, role);
      const std::string tail = std::string(role).substr(std::string_view("ln_tuning_layers").size());
      reading.modules.push_back({module + tail, "ln_tuning", {tensor}, 0, 1, ReplacementChange{tensor}});
    }
}

}  // namespace

constinit const AdapterKind kIa3 = {"IA3", "IA3", kIa3Fields, read_ia3};
constinit const AdapterKind kVera = {"VERA", "VeRA", kVeraFields, read_vera};
constinit const AdapterKind kAdaLora = {"ADALORA", "AdaLoRA", kAdaLoraFields, read_adalora};
constinit const AdapterKind kLnTuning = {"LN_TUNING", "LN tuning", kLnFields, read_ln_tuning};

}  // namespace ropewalk::formats
