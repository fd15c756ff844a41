#include "formats/adapters/expert_parameters.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>
#include <set>

#include "lib/adapters/adapter_recipes.h"
#include "lib/error.h"

namespace ropewalk::formats {
namespace {

constexpr std::string_view kWrapped = ".base_layer";

/// In the order in which the classes of transformers 5.23.0 define them.
constexpr std::array kDefined = {"gate_up_proj", "gate_up_proj_bias", "up_proj",
                                 "up_proj_bias", "down_proj",         "down_proj_bias"};

bool is_named(const std::string& parameter, const std::string& name) {
  return parameter == name || parameter.ends_with("." + name);
}

std::vector<std::string> target_parameters(const PeftConfig& config) {
  std::vector<std::string> names;
  if (const Json* list = config.fields().find_set("target_parameters"))
    for (const Json& name : *list) {
      if (!name.is_string() || name.get_ref<const std::string&>().empty())
        config.fields().fail(ErrorKind::bad_input, "target_parameters",
                             "'target_parameters' is " + shown(*list) + ", expected a list of names",
                             "correct the value in the file");
      names.push_back(name);
    }
  return names;
}

/// Which parameters of a module are named, in the order in which they are wrapped: inner ones first.
std::vector<std::string> parameters_of(const PeftConfig& config, const std::vector<std::string>& names,
                                       const std::string& module) {
  std::set<std::string> found;
  for (const std::string& name : names) {
    const std::size_t dot = name.rfind('.');
    // a parameter without its module is looked for where experts are
    const std::string in = dot == std::string::npos ? "experts" : name.substr(0, dot);
    if (is_named(module, in)) found.insert(name.substr(dot == std::string::npos ? 0 : dot + 1));
  }
  std::vector<std::string> ordered(found.begin(), found.end());
  if (ordered.size() < 2) return ordered;
  const auto place = [](const std::string& name) { return std::ranges::find(kDefined, name); };
  for (const std::string& name : ordered)
    if (place(name) == kDefined.end())
      config.fields().fail(ErrorKind::unsupported, "target_parameters",
                           "'target_parameters' names " + std::to_string(ordered.size()) + " parameters of '" + module +
                               "', and where '" + name + "' stands among them only its class says",
                           "merge it with PEFT, or train an adapter for each");
  std::ranges::sort(ordered, {}, place);
  return ordered;
}

/// As PEFT wraps: `depth` times ".base_layer" at the end of a module's path.
std::string wrapped(const std::string& module, std::size_t depth) {
  std::string out = module;
  while (depth-- > 0) out += kWrapped;
  return out;
}

AdapterModule read_parameter(AdapterReading& reading, const std::string& module, const std::string& parameter,
                             const RankAndScale& numbers) {
  AdapterTensors& tensors = reading.tensors;
  const auto [rank, scale] = numbers.of(parameter);
  const std::vector<TensorPtr> both = tensors.take_all(module, {"lora_A.weight", "lora_B.weight"});
  for (const TensorPtr& tensor : both) require_axes(*tensor, 2, tensors.path());
  const std::uint64_t rows = both[0]->info().shape[0], columns = both[1]->info().shape[1];
  if (rows == 0 || rows != columns || rows % rank != 0)
    tensors.fail("'" + both[0]->name() + "' " + shape_text(both[0]->info().shape) + " and '" + both[1]->name() + "' " +
                     shape_text(both[1]->info().shape) + " have rank " + std::to_string(rows) + " and " +
                     std::to_string(columns) + " of all experts together, expected one multiple of " +
                     std::to_string(rank) + ", the r of adapter_config.json",
                 "take configuration and weights of the same adapter");
  AdapterModule made{parameter, numbers.rslora() ? "rslora" : "lora", both, rank,
                     scale,     LowRankChange{both[0], both[1]}};
  if (rows == rank) {
    made.by_targets = false;
    return made;
  }
  made.kind += kOfExperts;
  made.change = ExpertsChange{both[0], both[1], rows / rank};
  return made;
}

/// Whether PEFT took the first axis of a matrix for its inputs, whatever its class said; nullopt: nothing says.
std::optional<bool> before_0_19(const Json& config) {
  const Json version = config.value("peft_version", Json());
  if (!version.is_string()) return std::nullopt;
  const std::string& text = version.get_ref<const std::string&>();
  int major = 0, minor = 0;
  const char* const end = text.data() + text.size();
  const auto [dot, bad] = std::from_chars(text.data(), end, major);
  if (bad != std::errc{} || dot == end || *dot != '.') return std::nullopt;
  if (std::from_chars(dot + 1, end, minor).ec != std::errc{}) return std::nullopt;
  return major == 0 && minor < 19;
}

/// The tensor of one expert: parameter, number, and which part of how many.
struct ExpertName {
  std::string parameter;
  std::uint64_t expert, part, parts;
};
std::vector<ExpertName> expert_names(std::string_view tensor) {
  constexpr std::string_view kExperts = ".experts.";
  const std::size_t at = tensor.find(kExperts);
  if (at == std::string_view::npos) return {};
  std::string module(tensor.substr(0, at + kExperts.size() - 1));
  std::uint64_t expert = 0;
  const char* const end = tensor.data() + tensor.size();
  const auto [rest, bad] = std::from_chars(tensor.data() + at + kExperts.size(), end, expert);
  if (bad != std::errc{} || rest == end || *rest != '.') return {};
  if (const std::size_t name = module.find(".block_sparse_moe."); name != std::string::npos)
    module.replace(name, std::string_view(".block_sparse_moe.").size(), ".mlp.");
  const std::string_view leaf(rest + 1, std::size_t(end - rest - 1));
  if (leaf == "gate_proj.weight" || leaf == "w1.weight") return {{module + ".gate_up_proj", expert, 0, 2}};
  if (leaf == "w3.weight") return {{module + ".gate_up_proj", expert, 1, 2}};
  if (leaf == "up_proj.weight")  // of classes without a gate it is alone
    return {{module + ".gate_up_proj", expert, 1, 2}, {module + ".up_proj", expert, 0, 1}};
  if (leaf == "down_proj.weight" || leaf == "w2.weight") return {{module + ".down_proj", expert, 0, 1}};
  return {};
}

/// How the factors of an expert stand to its matrix [d1, d2].
class Orientation {
 public:
  Orientation(const AdapterModule& module, const PeftAdapter& adapter) : module_(module), adapter_(adapter) {}

  /// True for [in, out]. `square`: what holds where the shapes fit both; nullopt: nothing says. `holder`: the tensor of
  /// the base, for messages.
  bool turned(std::uint64_t d1, std::uint64_t d2, std::optional<bool> square, const LazyTensor& holder) const {
    const ExpertsChange& change = std::get<ExpertsChange>(module_.change);
    const std::uint64_t in = change.a->info().columns(), out = change.b->info().rows();
    const bool plain = out == d1 && in == d2, other = out == d2 && in == d1;
    if (plain && other && !square)
      throw Error(ErrorKind::unsupported, {.path = adapter_.weights.string()},
                  "'" + change.a->name() + "' fits the square matrices of '" + holder.name() +
                      "' both ways round, and nothing here says which is meant",
                  "merge it with PEFT, which has the model's class");
    if (plain && other) return *square;
    if (plain || other) return other;
    fail("'" + change.a->name() + "' " + shape_text(change.a->info().shape) + " and '" + change.b->name() + "' " +
         shape_text(change.b->info().shape) + " do not fit matrices [" + std::to_string(d1) + ", " +
         std::to_string(d2) + "] of '" + holder.name() + "'");
  }
  [[noreturn]] void fail(const std::string& problem) const {
    throw Error(ErrorKind::bad_input, {.path = adapter_.weights.string()}, problem,
                "the adapter was trained on another base" +
                    (adapter_.base_model.empty() ? std::string() : ": it names '" + adapter_.base_model + "'"));
  }

 private:
  const AdapterModule& module_;
  const PeftAdapter& adapter_;
};

/// The factors of one expert as its matrix [d1, d2] stands.
LowRankTerm term_of(const ExpertsChange& change, std::uint64_t rank, std::uint64_t expert, bool turned, double scale) {
  const TensorPtr a = part_of(change.a, {expert * rank, rank}, {0, change.a->info().columns()}),
                  b = part_of(change.b, {0, change.b->info().rows()}, {expert, rank, change.experts});
  return turned ? LowRankTerm{transposed(b), transposed(a), scale} : LowRankTerm{a, b, scale};
}

}  // namespace

void read_expert_parameters(AdapterReading& reading, const RankAndScale& numbers) {
  const std::vector<std::string> names = target_parameters(reading.config);
  if (names.empty()) return;
  AdapterTensors& tensors = reading.tensors;
  const auto held = [&](const std::string& module) {
    return tensors.has(module, "lora_A.weight") || tensors.has(module, "lora_B.weight");
  };
  for (std::string module : tensors.modules({"lora_A.weight", "lora_B.weight"})) {
    while (module.ends_with(kWrapped)) module.erase(module.size() - kWrapped.size());
    if (!held(module)) continue;  // inner ones are taken with the outer
    const std::vector<std::string> parameters = parameters_of(reading.config, names, module);
    if (parameters.empty()) continue;
    std::size_t depth = 0;
    while (held(wrapped(module, depth))) ++depth;
    if (depth != parameters.size())
      tensors.fail("'" + module + "' has factors of " + std::to_string(depth) + " parameters, expected " +
                       std::to_string(parameters.size()) + " as target_parameters of adapter_config.json names",
                   "take configuration and weights of the same adapter");
    for (std::size_t i = 0; i < depth; ++i)
      reading.modules.push_back(
          read_parameter(reading, wrapped(module, depth - 1 - i), module + "." + parameters[i], numbers));
  }
}

ExpertTensors::ExpertTensors(const std::vector<TensorPtr>& base) {
  for (const TensorPtr& tensor : base) {
    tensors_.emplace(tensor->name(), tensor);
    for (const ExpertName& name : expert_names(tensor->name()))
      apart_.try_emplace(name.parameter, Apart{name.parts, {}})
          .first->second.tensors.emplace(std::pair(name.expert, name.part), tensor);
  }
}

bool names_parameter(const Json& target_parameters, const std::string& parameter) {
  return target_parameters.is_array() && std::ranges::any_of(target_parameters, [&](const Json& name) {
           return name.is_string() && is_named(parameter, name);
         });
}

std::set<std::string> ExpertTensors::named_by(const Json& target_parameters) const {
  std::set<std::string> found;
  const auto add = [&](const std::string& parameter) {
    if (names_parameter(target_parameters, parameter)) found.insert(parameter);
  };
  for (const auto& [parameter, parts] : apart_) add(parameter);
  for (const auto& [name, tensor] : tensors_) add(name);
  return found;
}

std::vector<AdapterModule> ExpertTensors::changes(const AdapterModule& module, const PeftAdapter& adapter) const {
  const ExpertsChange& change = std::get<ExpertsChange>(module.change);
  const Orientation orientation(module, adapter);
  const auto as = [&](const std::string& target, decltype(AdapterModule::change) what) {
    AdapterModule made = module;
    made.target = target;
    made.change = std::move(what);
    return made;
  };
  if (const auto whole = tensors_.find(module.target); whole != tensors_.end()) {
    const LazyTensor& weight = *whole->second;
    const std::vector<std::uint64_t>& shape = weight.info().shape;
    if (shape.size() != 3 || shape[0] != change.experts)
      orientation.fail("'" + change.a->name() + "' is of " + std::to_string(change.experts) + " experts, '" +
                       weight.name() + "' of the base has shape " + shape_text(shape));
    const bool biased = tensors_.contains(module.target + "_bias");
    const bool turned = orientation.turned(shape[1], shape[2], biased ? std::optional(true) : std::nullopt, weight);
    return {as(module.target, DeltaChange{[change, rank = module.rank, turned](TensorPtr tensor, double scale) {
                 std::vector<LowRankTerm> terms;
                 for (std::uint64_t expert = 0; expert < change.experts; ++expert)
                   terms.push_back(term_of(change, rank, expert, turned, scale));
                 return with_expert_deltas(std::move(tensor), std::move(terms));
               }})};
  }
  const auto apart = apart_.find(module.target);
  if (apart == apart_.end()) return {as(module.target, LowRankChange{change.a, change.b})};
  std::vector<AdapterModule> out;
  const auto& [parts, tensors] = apart->second;
  const LazyTensor& first = *tensors.begin()->second;
  if (tensors.size() != change.experts * parts || first.info().shape.size() != 2)
    orientation.fail("'" + change.a->name() + "' is of " + std::to_string(change.experts) + " experts, the base has " +
                     std::to_string(tensors.size()) + " tensors like '" + first.name() + "' " +
                     shape_text(first.info().shape) + " for them, " + std::to_string(parts) + " for each");
  const std::uint64_t height = first.info().shape[0], width = first.info().shape[1];
  const bool turned = orientation.turned(height * parts, width, before_0_19(adapter.config), first);
  for (const auto& [place, tensor] : tensors) {
    const auto [expert, part] = place;
    if (tensor->info().shape != first.info().shape || expert >= change.experts)
      orientation.fail("'" + tensor->name() + "' " + shape_text(tensor->info().shape) + " of the base is not like '" +
                       first.name() + "' " + shape_text(first.info().shape) + ", one of " +
                       std::to_string(change.experts) + " experts");
    const LowRankTerm term = term_of(change, module.rank, expert, turned, 1);
    const TensorPtr b = part_of(term.b, {part * height, height}, {0, module.rank});
    AdapterModule& made = out.emplace_back(as(tensor->name(), LowRankChange{term.a, b}));
    made.kind.erase(made.kind.size() - kOfExperts.size());  // a matrix like any other
  }
  return out;
}

}  // namespace ropewalk::formats
