#pragma once

#include <map>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "formats/adapters/kinds.h"
#include "formats/adapters/peft.h"

namespace ropewalk::formats {

// Adapters of parameters (`target_parameters`; PEFT 0.21.2, lora.ParamWrapper): tensors [experts, d1, d2] that hold one
// matrix for each expert, mostly gate_up_proj and down_proj. Of a module with several of them the one that its class
// defines first is wrapped first: its keys have one ".base_layer" for each that is wrapped around it.
//
//   MODULE.lora_A.weight  [experts * rank, in]   the rows of an expert stand together
//   MODULE.lora_B.weight  [out, rank * experts]  the columns of an expert stand `experts` apart
//
// Which of d1 and d2 is `in` the shapes say. Where they are equal PEFT takes d2, but d1 for gpt-oss, whose class says that
// its matrices are [in, out], and d1 for all before 0.19. Here, of a base's tensor of all experts, it is d1 where biases
// stand beside it (gpt-oss has them), and of experts in tensors of their own what peft_version says; where neither says
// it, Error(unsupported).

/// Ends the kind of what changes many matrices in one tensor.
inline constexpr std::string_view kOfExperts = "-experts";

/// Takes the keys of what target_parameters names and leaves an AdapterModule with an ExpertsChange for each parameter, a
/// LowRankChange for a plain matrix.
void read_expert_parameters(AdapterReading& reading, const RankAndScale& numbers);

/// Whether target_parameters (a list, or Error was thrown for it; any other value: none) names a parameter.
bool names_parameter(const Json& target_parameters, const std::string& parameter);

/// Experts' parameters as the files of a base have them: whole, or each expert in its own tensors, of which gate_up_proj
/// is two (gate_proj and up_proj, or w1 and w3), below another name for `mlp` where the class that loads them has
/// another (Mixtral's block_sparse_moe).
class ExpertTensors {
 public:
  explicit ExpertTensors(const std::vector<TensorPtr>& base);

  /// `module`, whose change is an ExpertsChange, as changes of tensors of the base. If the base has none of them, one
  /// module of the parameter's name is left, for whoever looks for its tensor. Error(bad_input) naming key and tensor
  /// for shapes that do not fit, Error(unsupported) where nothing says which side of a square is which.
  std::vector<AdapterModule> changes(const AdapterModule& module, const PeftAdapter& adapter) const;
  /// "model.layers.0.mlp.experts.down_proj" of those that the base has and target_parameters names.
  std::set<std::string> named_by(const Json& target_parameters) const;

 private:
  /// The tensors that hold a parameter, by expert and part.
  struct Apart {
    std::uint64_t parts;  // of each expert
    std::map<std::pair<std::uint64_t, std::uint64_t>, TensorPtr> tensors;
  };
  std::map<std::string, Apart> apart_;  // by parameter
  std::map<std::string, TensorPtr> tensors_;
};

}  // namespace ropewalk::formats
