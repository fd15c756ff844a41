#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "formats/json.h"
#include "formats/adapters/peft.h"
#include "lib/lazy_tensor.h"

namespace ropewalk::formats {

/// Which modules of a base an adapter_config.json names, by the rules of PEFT 0.21.2 (check_target_module_exists):
/// `target_modules` is a list of paths or of their ends, a regular expression for the whole path, "all-linear" (in any
/// case: all matrices but embedding and head), or null (q_proj and v_proj, its choice for llama and mistral; beside
/// target_parameters none); with a
/// list, `layers_to_transform` and `layers_pattern` narrow it; `exclude_modules` is a list or an expression.
/// Expressions are Python's, read by PCRE2 with a limit on its work.
class PeftTargets {
 public:
  /// Error(bad_input) for a field of another type, for an expression that is none, and for what PEFT
  /// refuses: layers_to_transform or layers_pattern beside one text, layers_pattern without layers_to_transform. `text`: what was parsed, for the line of the field.
  PeftTargets(const Json& config, const std::string& path, std::string_view text = {});
  ~PeftTargets();
  PeftTargets(PeftTargets&&) noexcept;

  /// `module`: "model.layers.0.self_attn.q_proj". Error(bad_input) if an expression takes too much work.
  bool name(const std::string& module) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// Error(bad_input) if the module is the head of a class for classification, which the base is found not to have.
void refuse_classification_head(const PeftAdapter& adapter, const AdapterModule& module);

/// Compares what the configuration names with what the adapter's file holds. A module that is in the file but not named
/// is Error(bad_input) naming its key and the field that leaves it out: PEFT 0.21.2 passes over it without a word (or, where nothing of this base is
/// named, refuses the adapter), and a key of the file would go unused. One that is named but not in the file stays as
/// it is, with a line in `warnings`: PEFT gives it a delta of zero, and warns.
void check_peft_targets(const PeftAdapter& adapter, const std::vector<TensorPtr>& base,
                        std::vector<std::string>& warnings);

}  // namespace ropewalk::formats
