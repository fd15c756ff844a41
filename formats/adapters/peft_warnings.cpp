#include "formats/adapters/peft_warnings.h"

#include <optional>
#include <set>

#include "formats/adapters/kinds.h"
#include "formats/adapters/peft_config.h"
#include "formats/json_fields.h"
#include "lib/ascii_case.h"

namespace ropewalk::formats {
namespace {

/// One line for all modules that two keys of alpha_pattern give two numbers.
std::optional<std::string> of_rival_keys(const PeftAdapter& adapter, const PeftConfig& config) {
  const AdapterField* field = find_field(*config.kind, "alpha_pattern");
  if (!field || field->use != FieldUse::read) return std::nullopt;
  const PatternNumbers alphas(config, PatternNumbers::Of::alphas);
  std::optional<std::string> line;
  std::set<std::string> seen;
  for (const AdapterModule& module : adapter.modules) {
    if (module.rank == 0) continue;
    std::string path = module.class_name.empty() ? module.target : module.class_name;
    if (path.ends_with(".weight")) path.erase(path.rfind('.'));
    const auto rivals = alphas.rivals(path);
    if (!rivals || !seen.insert(path).second || line) continue;
    const auto& [taken, other] = *rivals;
    line = "alpha_pattern gives '" + path + "' " + trimmed(taken.second) + " by \"" + taken.first + "\" and " +
           trimmed(other.second) + " by \"" + other.first + "\"";
  }
  if (line && seen.size() > 1)
    *line += ", and " + std::to_string(seen.size() - 1) + " more module" + (seen.size() == 2 ? "" : "s") + " likewise";
  if (line)
    *line +=
        ": the first key is taken, as in PEFT 0.21.2, which sorts them when it saves: they may have been trained in "
        "another order";
  return line;
}

}  // namespace

void warn_of_peft_config(const PeftAdapter& adapter, std::vector<std::string>& warnings) {
  if (!adapter.config.is_object() || !adapter.config.contains("peft_type")) return;  // a GGUF has none
  const auto warn = [&](const std::string& line) {
    warnings.push_back("adapter '" + adapter.folder.string() + "': " + line);
  };
  const std::string type = adapter.config.at("peft_type");
  PeftConfig config;
  config.json = adapter.config;
  config.path = (adapter.folder / "adapter_config.json").string();
  config.text = adapter.config_text;
  config.kind = find_kind(type);
  if (!config.kind) return;

  if (const Json bias = config.json.value("bias", Json()); bias.is_string()) {
    const std::string& word = bias.get_ref<const std::string&>();
    if (word.ends_with("_only") && word != "lora_only" && word != lower_case(type) + "_only")
      warn("its bias is " + shown(bias) +
           ", which PEFT 0.21.2 takes as every word that ends in _only: the biases of "
           "its own modules");
  }
  if (config.flag(kMergeWeights) && find_field(*config.kind, kMergeWeights))
    warn(std::string("its ") + kMergeWeights + " is of PEFT before 0.3 and changes nothing, as in PEFT 0.21.2");
  if (const auto line = of_rival_keys(adapter, config)) warn(*line);
}

}  // namespace ropewalk::formats
