#include "formats/adapters/peft_targets.h"

#include <algorithm>
#include <optional>
#include <set>
#include <utility>

#include "formats/adapters/expert_parameters.h"
#include "formats/adapters/kinds.h"
#include "formats/adapters/python_pattern.h"
#include "formats/json_fields.h"
#include "formats/tied_head.h"
#include "lib/ascii_case.h"
#include "lib/error.h"

namespace ropewalk::formats {
namespace {

bool ends_with_part(const std::string& module, const std::string& name) {
  return module == name || module.ends_with("." + name);
}

}  // namespace

struct PeftTargets::State {
  std::string path, text;
  std::vector<std::string> names, excluded;
  std::optional<PythonPattern> pattern, exclusion;
  bool all_linear = false;
  std::optional<std::vector<std::int64_t>> layers;
  std::vector<PythonPattern> layer_patterns;

  Error::Where place(const char* field) const { return json_place(path, text, std::string("/") + field); }
  [[noreturn]] void refuse(const char* field, const Json& value, const char* expected,
                           const char* fix = "save the adapter again") const {
    throw Error(ErrorKind::bad_input, place(field),
                std::string("'") + field + "' is " + shown(value) + ", expected " + expected, fix);
  }
  std::vector<std::string> strings(const char* field, const Json& value) const {
    std::vector<std::string> out;
    for (const Json& item : value) {
      if (!item.is_string()) refuse(field, value, "text or a list of it");
      out.push_back(item);
    }
    return out;
  }

  /// `parameters`: there are target_parameters, beside which nothing means no modules.
  void read_targets(const Json& value, bool parameters) {
    if (value.is_null() && parameters) return;
    if (value.is_null()) names = {"q_proj", "v_proj"};
    else if (value.is_array()) names = strings("target_modules", value);
    else if (!value.is_string()) refuse("target_modules", value, "text or a list of it");
    else if (lower_case(value) == "all-linear") all_linear = true;
    else
      pattern.emplace(value.get<std::string>(), PythonPattern::Anchor::whole, place("target_modules"),
                      "target_modules");
  }
  void read_exclusions(const Json& value) {
    if (value.is_null() || value.empty()) return;
    if (value.is_array()) excluded = strings("exclude_modules", value);
    else if (!value.is_string()) refuse("exclude_modules", value, "text or a list of it");
    else if (!value.get<std::string>().empty())
      exclusion.emplace(value.get<std::string>(), PythonPattern::Anchor::whole, place("exclude_modules"),
                        "exclude_modules");
  }
  void read_layers(const Json& chosen, const Json& patterns) {
    constexpr const char* kBeside = "nothing beside a target_modules that is one text";
    constexpr const char* kList = "remove it, or list the modules in target_modules";
    if (pattern || all_linear) {
      if (!chosen.is_null()) refuse("layers_to_transform", chosen, kBeside, kList);
      if (!patterns.is_null()) refuse("layers_pattern", patterns, kBeside, kList);
    }
    const bool patterns_given = !patterns.is_null() && patterns != "" && patterns != Json::array();
    if (chosen.is_null() && patterns_given)
      refuse("layers_pattern", patterns, "layers_to_transform beside it, as PEFT 0.21.2 does",
             "say which layers, or remove it");
    if (chosen.is_null() || (chosen.is_array() && chosen.empty())) return;
    layers.emplace();
    for (const Json& layer : chosen.is_array() ? chosen : Json::array({chosen})) {
      if (!layer.is_number_integer()) refuse("layers_to_transform", chosen, "a number or a list of numbers");
      layers->push_back(layer);
    }
    std::vector<std::string> texts;
    if (patterns.is_string() && !patterns.get<std::string>().empty()) texts = {patterns};
    else if (patterns.is_array()) texts = strings("layers_pattern", patterns);
    else if (!patterns.is_null() && !patterns.is_string()) refuse("layers_pattern", patterns, "text or a list of it");
    if (texts.empty())
      layer_patterns.emplace_back(R"(.*?\.[^.]*\.(?P<idx>\d+)\.)", PythonPattern::Anchor::begin,
                                  place("layers_pattern"), "layers_pattern");
    for (const std::string& stem : texts)
      layer_patterns.emplace_back(R"((?:^|.*?\.))" + stem + R"(\.(?P<idx>\d+)\.)", PythonPattern::Anchor::begin,
                                  place("layers_pattern"), "layers_pattern");
  }

  bool in_layers(const std::string& module) const {
    for (const PythonPattern& one : layer_patterns)
      if (const auto layer = one.match(module))
        return !layer->empty() && layer->size() < 10 &&
               std::find(layers->begin(), layers->end(), std::stoll(*layer)) != layers->end();
    return false;
  }
};

PeftTargets::PeftTargets(const Json& config, const std::string& path, std::string_view text)
    : state_(std::make_unique<State>()) {
  state_->path = path, state_->text = text;
  const auto field = [&](const char* name) { return config.contains(name) ? config.at(name) : Json(nullptr); };
  const Json parameters = field("target_parameters");
  state_->read_targets(field("target_modules"), parameters.is_array() && !parameters.empty());
  state_->read_exclusions(field("exclude_modules"));
  state_->read_layers(field("layers_to_transform"), field("layers_pattern"));
}
PeftTargets::~PeftTargets() = default;
PeftTargets::PeftTargets(PeftTargets&&) noexcept = default;

bool PeftTargets::name(const std::string& module) const {
  const State& s = *state_;
  const auto ends = [&](const std::string& name) { return ends_with_part(module, name); };
  if (s.exclusion && s.exclusion->match(module)) return false;
  if (std::any_of(s.excluded.begin(), s.excluded.end(), ends)) return false;
  if (s.pattern) return s.pattern->match(module).has_value();
  if (s.all_linear) return !ends_with_part(module, "embed_tokens") && !ends_with_part(module, "lm_head");
  // by its whole path, in whatever layer
  if (std::find(s.names.begin(), s.names.end(), module) != s.names.end()) return true;
  return std::any_of(s.names.begin(), s.names.end(), ends) && (!s.layers || s.in_layers(module));
}

namespace {

/// Which field leaves a module out that `config` does not name.
std::string leaving_out(const std::string& module, Json config, const std::string& path) {
  const auto names_it = [&] { return PeftTargets(config, path).name(module); };
  config.erase("exclude_modules");
  if (names_it()) return "exclude_modules of adapter_config.json excludes";
  for (const char* field : {"layers_to_transform", "layers_pattern"}) config.erase(field);
  if (names_it()) return "layers_to_transform of adapter_config.json leaves out";
  return "target_modules of adapter_config.json does not name";
}

constexpr const char* kParameters = "target_parameters";

/// What modules_to_save names is saved whole, and PEFT leaves it out of what target_modules names.
bool is_saved_whole(const std::string& module, const Json& config) {
  const Json saved = config.value("modules_to_save", Json());
  return saved.is_array() && std::ranges::any_of(saved, [&](const Json& one) {
           return one.is_string() && module.ends_with(one.get<std::string>());
         });
}

/// AdaLoRA has taken every rank of it away: its rank_pattern has no true for it.
bool has_no_rank_left(const std::string& module, const Json& config) {
  const Json pattern = config.value("rank_pattern", Json());
  if (config.value("peft_type", Json()) != "ADALORA" || !pattern.is_object()) return false;
  for (const auto& [key, kept] : pattern.items())
    if ((key == module + ".lora_E" || key.ends_with("." + module + ".lora_E")) && kept.is_array())
      return std::find(kept.begin(), kept.end(), Json(true)) == kept.end();
  return false;
}

/// Modules that the configuration names and the file lacks: one line.
void warn_of_missing(const PeftAdapter& adapter, const std::string& field, const std::set<std::string>& named,
                     const std::set<std::string>& held, std::vector<std::string>& warnings) {
  std::vector<std::string> missing;
  std::set_difference(named.begin(), named.end(), held.begin(), held.end(), std::back_inserter(missing));
  if (missing.empty()) return;
  const std::string what = field == kParameters ? " parameter" : " module";
  std::string first = missing.front();
  if (first.ends_with(".weight")) first.erase(first.rfind('.'));
  warnings.push_back("adapter '" + adapter.folder.string() + "': its file lacks " + std::to_string(missing.size()) +
                     what + (missing.size() == 1 ? " '" : "s, the first '") + first + "' that its " + field +
                     " names: unchanged, as in PEFT 0.21.2");
}

}  // namespace

void refuse_classification_head(const PeftAdapter& adapter, const AdapterModule& module) {
  const Json task = adapter.config.is_object() ? adapter.config.value("task_type", Json()) : Json();
  if ((task != "SEQ_CLS" && task != "TOKEN_CLS") || !std::holds_alternative<ReplacementChange>(module.change)) return;
  throw Error(ErrorKind::bad_input, {.path = adapter.weights.string()},
              "key '" + module.factors.front()->name() + "' is '" + module.target +
                  "', a head that only a class for classification has (task_type " + shown(task) +
                  "), and the base's files hold none",
              "load the base in that class with transformers, save it, and merge into that folder");
}

void check_peft_targets(const PeftAdapter& adapter, const std::vector<TensorPtr>& base,
                        std::vector<std::string>& warnings) {
  if (adapter.config.empty()) return;  // a GGUF names no targets but by what it holds
  const std::string path = (adapter.folder / "adapter_config.json").string();
  const PeftTargets targets(adapter.config, path, adapter.config_text);
  const std::string tail = ".weight";
  const Json tying = adapter.config.value("ensure_weight_tying", Json());
  const bool ties = tying.is_boolean() && tying.get<bool>();
  const bool of_norms = std::ranges::any_of(adapter.modules, [](const AdapterModule& one) {
    return one.by_targets && std::holds_alternative<ReplacementChange>(one.change);
  });
  std::set<std::string> known, named, held;
  for (const TensorPtr& tensor : base) {
    known.insert(tensor->name());
    if (tensor->info().shape.size() != (of_norms ? 1 : 2) || !tensor->name().ends_with(tail)) continue;
    if (targets.name(tensor->name().substr(0, tensor->name().size() - tail.size()))) named.insert(tensor->name());
  }
  const Json of_parameters = adapter.config.value(kParameters, Json());
  const std::set<std::string> parameters = ExpertTensors(base).named_by(of_parameters);
  std::set<std::string> experts;
  for (const AdapterModule& module : adapter.modules) {
    const std::string& called = module.class_name.empty() ? module.target : module.class_name;
    if (std::holds_alternative<ExpertsChange>(module.change) || names_parameter(of_parameters, called)) {
      experts.insert(module.target);  // named, or it would have been read as a module
      continue;
    }
    if (!module.by_targets || module.target.ends_with(".bias")) continue;  // a bias goes with its weight
    held.insert(module.target);
    if (named.contains(module.target) || !known.contains(module.target)) continue;  // the merge refuses the unknown
    const std::string path_of_module = called.substr(0, called.size() - tail.size());
    if (!module.class_name.empty() && targets.name(path_of_module)) continue;
    if (ties && module.target == kHeadWeight) continue;  // named as the embedding it is tied to
    throw Error(
        ErrorKind::bad_input, {.path = adapter.weights.string()},
        "key '" + module.factors.front()->name() + "' is of a module that " +
            leaving_out(path_of_module, adapter.config, path) + (named.empty() ? " (it names none of this base)" : ""),
        "PEFT 0.21.2 would pass over it without a word: name the module there, or take the key out of the file");
  }
  std::erase_if(named, [&](const std::string& weight) {
    const std::string module = weight.substr(0, weight.size() - tail.size());
    return is_saved_whole(module, adapter.config) || has_no_rank_left(module, adapter.config);
  });
  warn_of_missing(adapter, "target_modules", named, held, warnings);
  warn_of_missing(adapter, kParameters, parameters, experts, warnings);
  if (of_parameters.is_array() && !of_parameters.empty() && parameters.empty() && experts.empty())
    warnings.push_back("adapter '" + adapter.folder.string() + "': its " + kParameters + " " + shown(of_parameters) +
                       " names no parameter of the base: nothing is changed by it, as in PEFT 0.21.2");

  // What modules_to_save names is a whole tensor of the file.
  const Json saved = adapter.config.value("modules_to_save", Json());
  if (!saved.is_array()) return;
  std::set<std::string> to_save, whole;
  for (const std::string& name : known)
    if (name.ends_with(tail) && std::ranges::any_of(saved, [&](const Json& one) {
          return one.is_string() && saves(one, name.substr(0, name.size() - tail.size()));
        }))
      to_save.insert(name);
  for (const AdapterModule& module : adapter.modules)
    if (!module.by_targets) whole.insert(module.target);
  warn_of_missing(adapter, "modules_to_save", to_save, whole, warnings);
}

}  // namespace ropewalk::formats
