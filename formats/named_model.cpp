#include "formats/named_model.h"

#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include "formats/adapters/adapter_tensors.h"
#include "formats/adapters/class_modules.h"
#include "formats/adapters/kinds.h"
#include "formats/adapters/peft_targets.h"
#include "formats/config_file.h"
#include "formats/engines/model_types.h"
#include "formats/json_fields.h"
#include "formats/tied_head.h"
#include "lib/adapters/best_of_rank.h"
#include "lib/error.h"
#include "lib/nearest_word.h"

namespace ropewalk::formats {
namespace {

constexpr std::int64_t kMostVocabulary = std::int64_t{1} << 26;

/// What libraries store beside packed weights.
constexpr std::array kPackedParts = {".weight_scale", ".weight_scale_inv", ".weight_packed",
                                     ".qweight",      ".qzeros",           ".absmax",
                                     ".SCB",          "_proj_blocks",      "_proj_scales"};

void refuse_packed(const HfFiles& files) {
  for (const TensorPtr& tensor : files.tensors)
    for (const std::string_view part : kPackedParts)
      if (tensor->name().ends_with(part))
        throw Error(ErrorKind::unsupported, {.path = std::string(tensor->file())},
                    "tensor '" + tensor->name() + "' belongs to a packed weight, and " + files.config_path +
                        " has no quantization_config that says how",
                    "use the unquantized checkpoint it was made from");
}

/// tie_word_embeddings; nullopt: the class decides.
std::optional<bool> says_tied(const JsonFields& fields) {
  return fields.find_set("tie_word_embeddings") ? std::optional(fields.boolean("tie_word_embeddings", false))
                                                : std::nullopt;
}

bool holds_models(const Json& config) {
  const auto holds = [&](const char* part) { return config.value(part, Json()).is_object(); };
  return model_part(config).nested() || holds("encoder") || holds("decoder");
}

class Settling {
 public:
  Settling(const PeftAdapter& adapter, const std::vector<TensorPtr>& base, const ModelConfig& config,
           const HfFolder& folder)
      : adapter_(adapter),
        config_(config),
        path_((folder.folder / "config.json").string()),
        nested_(holds_models(folder.config)),
        tied_(says_tied({path_, folder.config_text, folder.config})) {
    for (const TensorPtr& tensor : base) tensors_.emplace(tensor->name(), tensor);
    for (const AdapterModule& module : adapter.modules) {
      if (!std::holds_alternative<ReplacementChange>(module.change) || module.base_copy) continue;
      if (module.target == kHeadWeight) head_ = &module;
      else if (ClassModules::is_input_embedding(module.target)) embedding_ = &module, ++embeddings_;
    }
  }

  /// The head that an adapter saved beside the embedding it is one tensor with, in files that have it once; nullptr: none.
  const AdapterModule* double_head() const {
    const bool once =
        saves_both() && !config_.tied_head && name_in_files(kHeadWeight) == kHeadWeight && !has(kHeadWeight);
    return once && same_values(*head_->factors.front(), *embedding_->factors.front()) ? head_ : nullptr;
  }

  void settle(AdapterModule& module) {
    if (std::holds_alternative<ExpertsChange>(module.change)) return;  // whose tensors are seen when it is merged
    const std::string name = name_in_files(module.target);
    const auto found = tensors_.find(name);
    if (found == tensors_.end()) {
      const bool tied_head = module.target == kHeadWeight && config_.tied_head;  // is the embedding
      if (!module.if_there && !tied_head) refuse_missing(module);
      return;
    }
    const std::string class_name = module.target;
    if (name != module.target) {
      module.class_name = class_name;
      module.target = name;
    }
    const auto [before, first] = settled_.emplace(module.target, class_name);
    if (!first && before->second != class_name)
      refuse(ErrorKind::bad_input,
             "key '" + module.factors.front()->name() + "' changes '" + module.target + "', as keys of '" +
                 before->second + "' do",
             "two adapters were put together: merge one after the other");
    check_type(*found->second);
    check_tying(module, *found->second);
    if (!std::holds_alternative<ReplacementChange>(module.change)) check_sides(*found->second);
  }

 private:
  /// Embedding and head take the place of what is there, so whether the two were tied changes nothing.
  bool saves_both() const { return head_ && embeddings_ == 1; }
  bool has(const std::string& name) const { return tensors_.contains(name); }

  /// The one name among those that a renaming may have left it that the files have; none, or several: as it is.
  std::string name_in_files(const std::string& target) const {
    if (has(target)) return target;
    std::set<std::string> there;
    const auto offer = [&](std::size_t at, std::string_view part, std::string_view other) {
      std::string name = target;
      name.replace(at, part.size(), other);
      if (has(name)) there.insert(name);
    };
    if (const std::size_t at = target.find(kMlp); at != std::string::npos) offer(at, kMlp, kSparseMoe);
    for (const auto& [in_class, in_files] : kPrefixes) {
      if (target.starts_with(in_class)) offer(0, in_class, in_files);
      if (target.starts_with(in_files)) offer(0, in_files, in_class);
    }
    const std::string first = target.substr(0, target.find('.') + 1);
    const auto next = tensors_.lower_bound(first);  // the first name that may begin so
    if (next == tensors_.end() || !next->first.starts_with(first)) offer(0, first, "");
    return there.size() == 1 ? *there.begin() : target;
  }

  [[noreturn]] void refuse(ErrorKind kind, const std::string& problem, const std::string& fix) const {
    throw Error(kind, {.path = adapter_.weights.string()}, problem, fix);
  }

  [[noreturn]] void refuse_missing(const AdapterModule& module) const {
    refuse_classification_head(adapter_, module);
    std::vector<std::string> names;
    for (const auto& [name, tensor] : tensors_) names.push_back(name);
    const std::string near = nearest_word(module.target, names, module.target.size() / 4).value_or("");
    refuse(ErrorKind::bad_input,
           "key '" + module.factors.front()->name() + "' targets '" + module.target +
               "', which the base's files do not have" + (near.empty() ? "" : " (nearest: '" + near + "')"),
           "the adapter was trained on another base, or transformers loads these files under other names: merge it "
           "with PEFT");
  }

  void check_type(const LazyTensor& tensor) const {
    if (is_float(tensor.dtype())) return;
    throw Error(
        ErrorKind::unsupported, {.path = std::string(tensor.file())},
        "tensor '" + tensor.name() + "' holds " + std::string(info(tensor.dtype()).name) + ", expected floating point",
        "quantized weights without a quantization_config cannot be interpreted");
  }

  /// Embedding and head may be one tensor. Which the two are and whether they are tied has to be known.
  void check_tying(const AdapterModule& module, const LazyTensor& tensor) const {
    const auto key = parse_adapter_key(module.factors.front()->name());
    const bool of_rows = key && (key->role.starts_with("lora_embedding") || key->role.starts_with("token_adapter"));
    const std::vector<std::uint64_t>& shape = tensor.info().shape;
    const bool vocabulary = shape.size() == 2 && !in_numbered_layer(tensor.name()) &&
                            (config_.n_vocab == 0 || shape[0] == std::uint64_t(config_.n_vocab));
    const bool positions =
        ClassModules::is_embedding(tensor.name()) && !ClassModules::is_input_embedding(tensor.name());
    if ((!of_rows && !vocabulary) || positions) return;
    if (saves_both() && (&module == head_ || &module == embedding_)) return;
    const auto embedding = tensors_.find(kEmbeddingWeight), head = tensors_.find(kHeadWeight);
    const bool known = !nested_ && embedding != tensors_.end();
    const bool settled = known && (tied_ || head == tensors_.end() || !same_bytes(*embedding->second, *head->second));
    if (settled || (!nested_ && tied_ == false)) return;
    refuse(ErrorKind::unsupported,
           "'" + module.factors.front()->name() + "' changes '" + tensor.name() +
               "', and whether another tensor of the model is tied to it " + path_ + " does not say" +
               (known || nested_ ? "" : ", nor how the embedding is called"),
           known ? "write tie_word_embeddings there, true or false as its class has it"
                 : "merge it with PEFT, which has the model's class");
  }

  /// Where the class tells, fan_in_fan_out is what it says (sides_of_class).
  void check_sides(const LazyTensor& tensor) const {
    const std::vector<std::uint64_t>& shape = tensor.info().shape;
    if (shape.size() != 2 || !engines::is_conv1d(tensor.name())) return;
    const Json flag = adapter_.config.is_object() ? adapter_.config.value("fan_in_fan_out", Json()) : Json();
    const std::string of = "'" + tensor.name() + "' of a model of type \"" + config_.model_type + "\" ";
    const std::optional<bool> conv1d = nested_ ? std::nullopt : engines::has_conv1d(config_.model_type);
    if (conv1d == true && flag != true)  // a kind without the field
      refuse(ErrorKind::unsupported, of + "is a Conv1D, and no " + adapter_.kind + " of that is read",
             "merge it with PEFT, or train a LoRA");
    if (!conv1d && shape[0] == shape[1])
      refuse(ErrorKind::unsupported, of + "is square, and which side is its inputs only the class says",
             "merge it with PEFT, which has the model's class");
  }

  const PeftAdapter& adapter_;
  const ModelConfig& config_;
  const std::string path_;
  const bool nested_;  // other models stand in the configuration, whose classes and flags are their own
  const std::optional<bool> tied_;
  std::map<std::string, TensorPtr> tensors_;
  std::map<std::string, std::string> settled_;                  // by the files' name, the class's
  const AdapterModule *embedding_ = nullptr, *head_ = nullptr;  // that are saved whole
  int embeddings_ = 0;
};

}  // namespace

bool reads_architecture(const Json& config) {
  if (!config.is_object()) return true;
  const Json type = config.value("model_type", Json());
  return !type.is_string() || type == "llama" || type == "mistral";
}

ModelConfig read_named_config(HfFiles& files, std::vector<std::string>& warnings) {
  const JsonFields fields(files.config_path, files.hf.config_text, files.hf.config);
  refuse_packed(files);
  ModelConfig config;
  config.model_type = *fields.optional_string("model_type");
  const auto find = [&](const char* name) {
    const auto found =
        std::ranges::find_if(files.tensors, [&](const TensorPtr& tensor) { return tensor->name() == name; });
    return found == files.tensors.end() ? nullptr : *found;
  };
  const ModelPart part = model_part(files.hf.config);
  const TensorPtr embedding = find(kEmbeddingWeight);
  if (embedding && embedding->info().shape.size() == 2 && embedding->info().rows() <= std::uint64_t(kMostVocabulary))
    config.n_vocab = int(embedding->info().rows());
  else if (const Json rows = part.json->value("vocab_size", Json());
           rows.is_number_integer() && rows > 0 && rows <= kMostVocabulary)
    config.n_vocab = rows.get<int>();
  if (!embedding || part.nested()) return config;
  config.tied_head = says_tied(fields).value_or(!find(kHeadWeight));
  resolve_tied_head(files, config, warnings);
  return config;
}

void sides_of_class(PeftAdapter& adapter, const ModelConfig& config, const HfFolder& folder) {
  const std::optional<bool> conv1d = engines::has_conv1d(config.model_type);
  if (!conv1d || holds_models(folder.config) || adapter.config.empty()) return;  // empty: a GGUF
  const Json flag = adapter.config.value("fan_in_fan_out", Json());
  if ((flag == true) != *conv1d) adapter = read_peft_adapter_for(adapter.folder, conv1d);
}

void settle_targets(PeftAdapter& adapter, const std::vector<TensorPtr>& base, const ModelConfig& config,
                    const HfFolder& folder) {
  if (adapter.config.empty())
    throw Error(ErrorKind::unsupported, {.path = adapter.weights.string()},
                "a GGUF adapter is of a llama, and the base of type \"" + config.model_type + "\"",
                "take the adapter's PEFT folder");
  Settling settling(adapter, base, config, folder);
  const AdapterModule* const twice = settling.double_head();
  for (AdapterModule& module : adapter.modules)
    if (&module != twice) settling.settle(module);
  if (twice) adapter.modules.erase(adapter.modules.begin() + (twice - adapter.modules.data()));
}

}  // namespace ropewalk::formats
