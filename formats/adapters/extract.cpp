// An adapter out of two models: what one has learned beyond the other.

#include <algorithm>
#include <map>
#include <set>

#include "formats/adapters/adapter_tensors.h"
#include "formats/adapters/gguf_adapter.h"
#include "formats/adapters/made_adapter.h"
#include "lib/adapters/adapter_recipes.h"
#include "lib/error.h"
#include "lib/plural.h"
#include "lib/recipes.h"
#include "lib/rope.h"

namespace ropewalk::formats {
namespace {

constexpr const char* kEmbedding = "model.embed_tokens.weight";
constexpr const char* kHead = "lm_head.weight";

[[noreturn]] void fail(ErrorKind kind, const Source& tuned, const std::string& problem, const std::string& fix) {
  throw Error(kind, {.path = tuned.spec.text}, problem, fix);
}

std::string module_name(const std::string& target) { return target.substr(0, target.rfind('.')); }
std::string leaf(const std::string& module) { return module.substr(module.rfind('.') + 1); }
bool is_vocabulary(const std::string& name) { return name == kEmbedding || name == kHead; }

using Tensors = std::map<std::string, TensorPtr>;

/// By name, rotary rows half-split; a tied head is the embedding under its own name too.
Tensors tensors_of(const Source& source) {
  Tensors all;
  for (TensorPtr tensor : source.checkpoint.tensors) {
    if (tensor->info().pairs != RotaryPairs::none)
      tensor = rotary_rows(std::move(tensor), RotaryPairs::half_split, source.checkpoint.config);
    const std::string name = tensor->name();
    all.emplace(name, std::move(tensor));
  }
  if (source.checkpoint.config.tied_head && all.contains(kEmbedding)) all.emplace(kHead, all.at(kEmbedding));
  return all;
}

void check_names(const Source& tuned, const Tensors& tuned_tensors, const Source& base, const Tensors& base_tensors) {
  const auto check = [&](const Source& of, const Tensors& all, const Source& other, const Tensors& others) {
    for (const auto& [name, tensor] : all) {
      const auto found = others.find(name);
      if (found == others.end())
        throw Error(ErrorKind::bad_input, {.path = other.spec.text},
                    "has no '" + name + "', which '" + of.spec.text + "' has",
                    "take the base that the model was tuned from");
      const std::vector<std::uint64_t>&a = tensor->info().shape, &b = found->second->info().shape;
      const bool grown = is_vocabulary(name) && a.size() == 2 && b.size() == 2 && a[1] == b[1];
      if (a != b && !grown)
        throw Error(ErrorKind::bad_input, {.path = other.spec.text},
                    "'" + name + "' has shape " + shape_text(b) + ", expected " + shape_text(a) + " as '" +
                        of.spec.text + "' has",
                    "take the base that the model was tuned from");
    }
  };
  check(tuned, tuned_tensors, base, base_tensors);
  check(base, base_tensors, tuned, tuned_tensors);
}

class Extraction {
 public:
  Extraction(const Source& tuned, const Source& base, const ExtractOptions& options)
      : tuned_(tuned),
        base_(base),
        options_(options),
        tuned_tensors_(tensors_of(tuned)),
        base_tensors_(tensors_of(base)) {}

  MadeAdapter make() {
    check_names(tuned_, tuned_tensors_, base_, base_tensors_);
    for (const auto& [name, tensor] : tuned_tensors_) {
      const TensorPtr& before = base_tensors_.at(name);
      if (!same_values(*tensor, *before)) take(name, tensor, before);
    }
    if (made_.modules.empty())
      fail(ErrorKind::bad_input, tuned_,
           "holds the weights of '" + base_.spec.text + "', so there is nothing to extract",
           "name the tuned model first, then its base");
    if (targets_.empty())
      fail(ErrorKind::unsupported, tuned_,
           "differs from '" + base_.spec.text + "' in " + plural(saved_.size(), "whole tensor") +
               " but in no linear layer, and PEFT 0.21.2 has no LoRA without one",
           "keep the tuned model as it is");
    note_configuration();
    write_configuration();
    return std::move(made_);
  }

 private:
  void take(const std::string& name, const TensorPtr& tensor, const TensorPtr& before) {
    const bool matrix = tensor->info().shape.size() == 2;
    if (matrix && is_vocabulary(name)) return take_vocabulary(name, tensor, before);
    if (matrix) return take_product(name, tensor, before, "lora_A.weight", "lora_B.weight");
    if (!name.ends_with(".weight"))
      fail(ErrorKind::unsupported, tuned_,
           "'" + name + "' differs from that of the base: PEFT 0.21.2 saves biases of all layers or of none",
           "keep the tuned model as it is");
    save(name, tensor);
  }

  void take_product(const std::string& name, const TensorPtr& tensor, const TensorPtr& before, const char* role_a,
                    const char* role_b) {
    const std::string module = module_name(name);
    const FactorTypes types{adapter_key(module, role_a), adapter_key(module, role_b), options_.rank, options_.dtype};
    const BestOfRank best = best_difference_of_rank(tensor, before, types);
    made_.tensors.insert(made_.tensors.end(), {best.a, best.b});
    made_.modules.push_back({name, "lora", best.norms});
    targets_.insert(module);
  }

  void take_vocabulary(const std::string& name, const TensorPtr& tensor, const TensorPtr& before) {
    if (options_.embeddings == ChangedEmbeddings::saved) return save(name, tensor);
    if (tuned_.checkpoint.config.tied_head || base_.checkpoint.config.tied_head)
      fail(ErrorKind::unsupported, tuned_,
           "'" + name + "' differs, and is one tensor with the " + (name == kHead ? "embedding" : "head") +
               ": PEFT 0.21.2 has no LoRA that changes both alike",
           "save them whole: --embeddings saved");
    if (tensor->info().shape != before->info().shape)
      fail(ErrorKind::unsupported, tuned_,
           "'" + name + "' has other rows than the base's, and a LoRA changes only those that are there",
           "save them whole: --embeddings saved");
    if (name == kHead) return take_product(name, tensor, before, "lora_A.weight", "lora_B.weight");
    const std::size_t first = made_.tensors.size();
    take_product(name, tensor, before, "lora_embedding_B", "lora_embedding_A");
    for (std::size_t i = first; i < made_.tensors.size(); ++i) {  // the file has an embedding's the other way round
      const std::string key = made_.tensors[i]->name();
      made_.tensors[i] = renamed(transposed(made_.tensors[i]), key);
    }
  }

  void save(const std::string& name, const TensorPtr& tensor) {
    const std::string module = module_name(name);
    const DType stored = is_float(tensor->dtype()) ? tensor->dtype() : DType::f32;
    made_.tensors.push_back(cast(renamed(tensor, adapter_key(module, "weight")), stored));
    made_.modules.push_back({name, "saved"});
    saved_.push_back(module);
  }

  void note_configuration() {
    const ModelConfig &tuned = tuned_.checkpoint.config, &base = base_.checkpoint.config;
    if (const std::string before = describe(base.rope), after = describe(tuned.rope); before != after)
      made_.notes.push_back("the tuned model's rope is " + after + ", the base's " + before +
                            ": an adapter has no rope, so give it with the base, BASE+ADAPTER+rope=SPEC");
    else if (tuned.context != base.context)
      made_.notes.push_back("the tuned model serves " + std::to_string(tuned.context) + " tokens, the base " +
                            std::to_string(base.context) + ": an adapter does not say so");
    if (tuned.n_vocab != base.n_vocab)
      made_.notes.push_back("the tuned model has " + std::to_string(tuned.n_vocab) + " ids, the base " +
                            std::to_string(base.n_vocab) + ": PEFT loads such an adapter into a base resized before");
  }

  /// By the last part of their names where all such layers of the base are targets, else by their whole names.
  Json target_names() const {
    std::map<std::string, std::vector<std::string>> by_leaf;
    std::map<std::string, std::size_t> of_base;
    for (const auto& [name, tensor] : base_tensors_)
      if (tensor->info().shape.size() == 2) ++of_base[leaf(module_name(name))];
    for (const std::string& module : targets_) by_leaf[leaf(module)].push_back(module);
    Json names = Json::array();
    for (const auto& [last, modules] : by_leaf)
      if (modules.size() == of_base.at(last)) names.push_back(last);
      else
        for (const std::string& module : modules) names.push_back(module);
    return names;
  }

  void write_configuration() {
    made_.config = {{"peft_type", "LORA"},
                    {"task_type", "CAUSAL_LM"},
                    {"base_model_name_or_path", base_.spec.text},
                    {"r", options_.rank},
                    {"lora_alpha", options_.rank},
                    {"rank_pattern", Json::object()},
                    {"alpha_pattern", Json::object()},
                    {"target_modules", target_names()},
                    {"modules_to_save", saved_.empty() ? Json(nullptr) : Json(saved_)},
                    {"lora_dropout", 0.0},
                    {"bias", "none"},
                    {"fan_in_fan_out", false},
                    {"use_rslora", false},
                    {"use_dora", false},
                    {"init_lora_weights", true},
                    {"inference_mode", true}};
  }

  const Source &tuned_, &base_;
  ExtractOptions options_;
  Tensors tuned_tensors_, base_tensors_;
  MadeAdapter made_;
  std::set<std::string> targets_;
  std::vector<std::string> saved_;
};

}  // namespace

MadeAdapter extract_adapter(const Source& tuned, const Source& base, const ExtractOptions& options) {
  return Extraction(tuned, base, options).make();
}

}  // namespace ropewalk::formats
