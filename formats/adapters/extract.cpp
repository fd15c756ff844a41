// An adapter out of two models: what one has learned beyond the other.

#include <algorithm>
#include <map>
#include <optional>
#include <set>

#include "formats/adapters/adapter_tensors.h"
#include "formats/adapters/class_modules.h"
#include "formats/adapters/gguf_adapter.h"
#include "formats/adapters/made_adapter.h"
#include "formats/config_file.h"
#include "formats/engines/model_types.h"
#include "formats/json_fields.h"
#include "formats/tied_head.h"
#include "lib/adapters/adapter_recipes.h"
#include "lib/error.h"
#include "lib/plural.h"
#include "lib/recipes.h"
#include "lib/rope.h"

namespace ropewalk::formats {
namespace {

constexpr const char* kOtherBase = "take the base that the model was tuned from";

/// One of the two models: its tensors by their names in its class, rotary rows half-split. A head that is one tensor with
/// the embedding stands under its own name too.
struct Side {
  const Source& source;
  ClassModules classes;
  std::map<std::string, TensorPtr> tensors;
  bool tied = false;

  /// A matrix of the embedding's shape beside the layers, which may be the head under a name that is not known.
  bool has_other_like(const std::string& embedding) const {
    return std::ranges::any_of(tensors, [&](const auto& one) {
      return one.second->info().shape == tensors.at(embedding)->info().shape && !in_numbered_layer(one.first) &&
             !ClassModules::is_embedding(one.first);
    });
  }

  explicit Side(const Source& of) : source(of), classes(of) {
    const std::string* embedding = nullptr;
    int embeddings = 0;
    bool head = false;
    for (TensorPtr tensor : source.checkpoint.tensors) {
      if (tensor->info().pairs != RotaryPairs::none)
        tensor = rotary_rows(std::move(tensor), RotaryPairs::half_split, source.checkpoint.config);
      const auto [place, first] = tensors.emplace(classes.class_name(tensor->name()), tensor);
      if (!first)
        throw Error(ErrorKind::bad_input, {.path = source.spec.text},
                    "'" + tensor->name() + "' and '" + place->second->name() + "' are one tensor of its class",
                    "the files were put together from two models");
      head |= ClassModules::is_head(place->first);
      if (tensor->info().shape.size() == 2 && ClassModules::is_input_embedding(place->first))
        embedding = &place->first, ++embeddings;
    }
    tied = !head && embeddings == 1 && classes.has_head() && !classes.untied() && !has_other_like(*embedding);
    if (tied) tensors.emplace(kHeadWeight, renamed(tensors.at(*embedding), kHeadWeight));
  }
};

bool is_vocabulary(const std::string& name) {
  return ClassModules::is_head(name) || ClassModules::is_input_embedding(name);
}

/// The same numbers, or bytes where a type is no number.
bool same(const LazyTensor& a, const LazyTensor& b) {
  const auto whole = [](const LazyTensor& one) { return !is_float(one.dtype()) && !is_block_type(one.dtype()); };
  return whole(a) || whole(b) ? same_bytes(a, b) : same_values(a, b);
}

class Extraction {
 public:
  Extraction(const Source& tuned, const Source& base, const ExtractOptions& options)
      : tuned_(tuned), base_(base), options_(options) {}

  MadeAdapter make() {
    check_classes();
    check_names(tuned_, base_);
    check_names(base_, tuned_);
    for (const auto& [name, tensor] : tuned_.tensors) {
      const auto before = base_.tensors.find(name);
      if (before != base_.tensors.end() && !same(*tensor, *before->second)) take(name, tensor, before->second);
    }
    if (made_.modules.empty() && !biases_ && !experts_)
      fail(ErrorKind::bad_input,
           "holds the weights of '" + base_.source.spec.text + "', so there is nothing to extract",
           "name the tuned model first, then its base");
    if (experts_) take_experts();
    if (targets_.empty())
      fail(ErrorKind::unsupported,
           "differs from '" + base_.source.spec.text + "' in " +
               plural(saved_.size() + std::size_t(biases_), "whole tensor") +
               " but in no linear layer, and PEFT 0.21.2 has no LoRA without one",
           "keep the tuned model as it is");
    if (biases_) save_biases();
    note_configuration();
    write_configuration();
    return std::move(made_);
  }

 private:
  [[noreturn]] void fail(ErrorKind kind, const std::string& problem, const std::string& fix) const {
    throw Error(kind, {.path = tuned_.source.spec.text}, problem, fix);
  }
  [[noreturn]] void refuse(const std::string& name, const std::string& why) const {
    fail(ErrorKind::unsupported, "'" + name + "' differs from that of the base, and " + why,
         "keep the tuned model as it is");
  }

  void check_classes() const {
    const std::string &tuned = tuned_.source.checkpoint.config.model_type,
                      &base = base_.source.checkpoint.config.model_type;
    const bool named = tuned_.source.named_only || base_.source.named_only;
    if (named && tuned != base)
      throw Error(ErrorKind::bad_input, {.path = base_.source.spec.text},
                  "is of type \"" + base + "\", expected \"" + tuned + "\" as '" + tuned_.source.spec.text + "' is",
                  kOtherBase);
  }

  void check_names(const Side& of, const Side& other) {
    for (const auto& [name, tensor] : of.tensors) {
      const auto found = other.tensors.find(name);
      if (found == other.tensors.end()) {
        if (!ClassModules::is_buffer(tensor->info()))
          throw Error(ErrorKind::bad_input, {.path = other.source.spec.text},
                      "has no '" + name + "', which '" + of.source.spec.text + "' has", kOtherBase);
        made_.notes.push_back("'" + name + "' is in '" + of.source.spec.text +
                              "' alone: a buffer that transformers computes, left out");
        continue;
      }
      const std::vector<std::uint64_t>&a = tensor->info().shape, &b = found->second->info().shape;
      const bool grown = is_vocabulary(name) && a.size() == 2 && b.size() == 2 && a[1] == b[1];
      if (a != b && !grown)
        throw Error(ErrorKind::bad_input, {.path = other.source.spec.text},
                    "'" + name + "' has shape " + shape_text(b) + ", expected " + shape_text(a) + " as '" +
                        of.source.spec.text + "' has",
                    kOtherBase);
    }
  }

  void take(const std::string& name, const TensorPtr& tensor, const TensorPtr& before) {
    const std::size_t axes = tensor->info().shape.size();
    const bool weight = name.ends_with(".weight");
    for (const TensorPtr& one : {tensor, before})
      if (!is_float(one->dtype()) && !is_block_type(one->dtype()))
        refuse(name, "it holds " + std::string(info(one->dtype()).name) + ", which no adapter changes");
    if (ClassModules::is_expert(name)) {
      if (!weight || axes != 2 || !base_.classes.experts_by_name())
        refuse(name, "it is of many experts, whose LoRA PEFT 0.21.2 takes by another name in each class");
      experts_ = true;  // all of them, as PEFT makes one parameter of them
      return;
    }
    if (axes == 2 && weight && (ClassModules::is_embedding(name) || ClassModules::is_head(name)))
      return take_vocabulary(name, tensor, before);
    if (axes == 2 && ClassModules::is_linear(name)) return take_linear(name, tensor, before);
    if (axes == 1 && name.ends_with(".bias")) {
      biases_ = true;  // all of them, as PEFT saves them
      return;
    }
    if (!weight) refuse(name, "it is no weight of a module: PEFT 0.21.2 saves modules");
    const auto rows = std::uint64_t(tuned_.source.checkpoint.config.n_vocab);
    if (axes == 2 && !in_numbered_layer(name) && (rows == 0 || tensor->info().rows() == rows))
      refuse(name, "whether another tensor of the model is tied to it only its class says");
    save(name);
  }

  BestOfRank best(const std::string& name, const TensorPtr& tensor, const TensorPtr& before, const char* a,
                  const char* b) {
    const std::string module = module_of(name);
    BestOfRank best = best_difference_of_rank(
        tensor, before, {adapter_key(module, a), adapter_key(module, b), options_.rank, options_.dtype});
    made_.modules.push_back({before->name(), "lora", best.norms});
    targets_.insert(module);
    return best;
  }
  void take_linear(const std::string& name, const TensorPtr& tensor, const TensorPtr& before) {
    if (base_.classes.conv1d() && engines::is_conv1d(name))
      return take_turned(name, tensor, before, "lora_A.weight", "lora_B.weight");
    const BestOfRank factors = best(name, tensor, before, "lora_A.weight", "lora_B.weight");
    made_.tensors.insert(made_.tensors.end(), {factors.a, factors.b});
  }
  /// Every expert's matrices: PEFT 0.21.2 finds them by the last parts of their names, and none may be left out.
  void take_experts() {
    std::set<std::string> ends, others;
    for (const auto& [name, tensor] : tuned_.tensors)
      (ClassModules::is_expert(name) ? ends : others).insert(last_part_of(module_of(name)));
    for (const auto& [name, tensor] : tuned_.tensors) {
      if (!ClassModules::is_expert(name)) continue;
      if (const std::string end = last_part_of(module_of(name)); others.contains(end))
        refuse(name, "modules beside the experts end in '" + end + "' too, which PEFT 0.21.2 takes for experts");
      take_linear(name, tensor, base_.tensors.at(name));
    }
  }
  /// Of a matrix whose rows are inputs: of Conv1D, or an embedding's, which are tokens.
  void take_turned(const std::string& name, const TensorPtr& tensor, const TensorPtr& before, const char* a,
                   const char* b) {
    const BestOfRank factors = best(name, tensor, before, b, a);
    for (const TensorPtr& factor : {factors.b, factors.a})
      made_.tensors.push_back(renamed(transposed(factor), factor->name()));
  }

  void take_vocabulary(const std::string& name, const TensorPtr& tensor, const TensorPtr& before) {
    if (options_.embeddings == ChangedEmbeddings::saved) return save(name);
    const bool head = ClassModules::is_head(name);
    if ((tuned_.tied || base_.tied) && is_vocabulary(name))
      fail(ErrorKind::unsupported,
           "'" + name + "' differs, and is one tensor with the " + (head ? "embedding" : "head") +
               ": PEFT 0.21.2 has no LoRA that changes both alike",
           "save them whole: --embeddings saved");
    if (tensor->info().shape != before->info().shape)
      fail(ErrorKind::unsupported,
           "'" + name + "' has other rows than the base's, and a LoRA changes only those that are there",
           "save them whole: --embeddings saved");
    if (!head) return take_turned(name, tensor, before, "lora_embedding_A", "lora_embedding_B");
    const BestOfRank factors = best(name, tensor, before, "lora_A.weight", "lora_B.weight");
    made_.tensors.insert(made_.tensors.end(), {factors.a, factors.b});
  }

  void put_whole(const std::string& name, const std::string& module, const std::string& role) {
    const TensorPtr& tensor = tuned_.tensors.at(name);
    const DType stored = is_float(tensor->dtype()) ? tensor->dtype() : DType::f32;
    made_.tensors.push_back(cast(renamed(tensor, adapter_key(module, role)), stored));
    made_.modules.push_back({base_.tensors.at(name)->name(), "saved"});
  }
  /// The module of that weight with all its tensors, as modules_to_save has it.
  void save(const std::string& name) {
    const std::string module = module_of(name);
    if (!saved_.insert(module).second) return;
    for (auto one = tuned_.tensors.lower_bound(module + "."); one != tuned_.tensors.end(); ++one) {
      if (!one->first.starts_with(module + ".")) break;
      if (module_of(one->first) == module) put_whole(one->first, module, one->first.substr(module.size() + 1));
    }
  }
  void save_biases() {
    for (const auto& [name, tensor] : tuned_.tensors) {
      const std::string module = module_of(name);
      if (!name.ends_with(".bias") || tensor->info().shape.size() != 1 || saved_.contains(module)) continue;
      put_whole(name, module, targets_.contains(module) ? "base_layer.bias" : "bias");
    }
  }

  void note_configuration() {
    if (tuned_.source.named_only) return note_named_configuration();
    const ModelConfig &tuned = tuned_.source.checkpoint.config, &base = base_.source.checkpoint.config;
    if (const std::string before = describe(base.rope), after = describe(tuned.rope); before != after)
      made_.notes.push_back("the tuned model's rope is " + after + ", the base's " + before +
                            ": an adapter has no rope, so give it with the base, BASE+ADAPTER+rope=SPEC");
    else if (tuned.context != base.context)
      made_.notes.push_back("the tuned model serves " + std::to_string(tuned.context) + " tokens, the base " +
                            std::to_string(base.context) + ": an adapter does not say so");
    note_vocabulary();
  }
  void note_vocabulary() {
    const int tuned = tuned_.source.checkpoint.config.n_vocab, base = base_.source.checkpoint.config.n_vocab;
    if (tuned != base)
      made_.notes.push_back("the tuned model has " + std::to_string(tuned) + " ids, the base " + std::to_string(base) +
                            ": PEFT loads such an adapter into a base resized before");
  }
  /// What a configuration says of rope and context, where its architecture is not read.
  void note_named_configuration() {
    const Json tuned = *model_part(tuned_.source.hf->config).json, base = *model_part(base_.source.hf->config).json;
    for (const char* field : {"rope_parameters", "rope_scaling", "rope_theta", "max_position_embeddings", "n_positions",
                              "sliding_window"}) {
      const Json after = tuned.value(field, Json()), before = base.value(field, Json());
      if (after != before)
        made_.notes.push_back("the tuned model's " + std::string(field) + " is " + shown(after) + ", the base's " +
                              shown(before) + ": an adapter has none, so the base needs it");
    }
    if (!base_.classes.compared())
      made_.notes.push_back("modules have the names of the files: those of type \"" +
                            base_.source.checkpoint.config.model_type +
                            "\" were not compared with its class, so see that PEFT finds them");
    note_vocabulary();
  }

  /// By the last part of their names where all modules of the base that end so are targets, else by their whole names.
  Json target_names() const {
    std::map<std::string, std::vector<std::string>> by_end;
    std::set<std::string> modules;  // and what holds them
    for (const auto& [name, tensor] : base_.tensors)
      for (std::string module = module_of(name);; module = module_of(module)) {
        modules.insert(module);
        if (module.find('.') == std::string::npos) break;
      }
    std::map<std::string, std::size_t> of_base;
    for (const std::string& module : modules) ++of_base[last_part_of(module)];
    for (const std::string& module : targets_) by_end[last_part_of(module)].push_back(module);
    Json names = Json::array();
    for (const auto& [last, ending] : by_end)
      if (ending.size() == of_base.at(last)) names.push_back(last);
      else
        for (const std::string& module : ending) names.push_back(module);
    return names;
  }

  void write_configuration() {
    made_.config = {{"peft_type", "LORA"},
                    {"task_type", base_.classes.causal() ? Json("CAUSAL_LM") : Json(nullptr)},
                    {"base_model_name_or_path", base_.source.spec.text},
                    {"r", options_.rank},
                    {"lora_alpha", options_.rank},
                    {"rank_pattern", Json::object()},
                    {"alpha_pattern", Json::object()},
                    {"target_modules", target_names()},
                    {"modules_to_save", saved_.empty() ? Json(nullptr) : Json(saved_)},
                    {"lora_dropout", 0.0},
                    {"bias", biases_ ? "all" : "none"},
                    {"fan_in_fan_out", base_.classes.conv1d()},
                    {"use_rslora", false},
                    {"use_dora", false},
                    {"init_lora_weights", true},
                    {"inference_mode", true}};
  }

  Side tuned_, base_;
  ExtractOptions options_;
  MadeAdapter made_;
  std::set<std::string> targets_, saved_;  // modules
  bool biases_ = false, experts_ = false;
};

}  // namespace

MadeAdapter extract_adapter(const Source& tuned, const Source& base, const ExtractOptions& options) {
  return Extraction(tuned, base, options).make();
}

}  // namespace ropewalk::formats
