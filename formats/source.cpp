#include "formats/source.h"

#include <algorithm>
#include <unordered_map>

#include "formats/adapters/adapter_origin.h"
#include "formats/adapters/combine.h"
#include "formats/adapters/gguf_adapter.h"
#include "formats/adapters/layer_replication.h"
#include "formats/adapters/peft_targets.h"
#include "formats/adapters/peft_warnings.h"
#include "formats/gguf_model.h"
#include "formats/hf_config.h"
#include "formats/hf_folder.h"
#include "formats/hub_cache.h"
#include "formats/named_model.h"
#include "formats/original_context.h"
#include "formats/rope_base.h"
#include "formats/rope_config.h"
#include "formats/source_tokenizer.h"
#include "formats/synthetic.h"
#include "formats/tensor_inventory.h"
#include "formats/tied_head.h"
#include "lib/error.h"
#include "lib/file.h"
#include "lib/quantized/four_bit_quantize.h"
#include "lib/recipes.h"
#include "lib/row_blocks.h"

namespace ropewalk::formats {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kMaxCardBytes = std::uint64_t{4} << 20;

/// The last part of a name as people compare models by: "Llama-2-7b-hf" of "meta-llama/Llama-2-7b-hf@main" and of
/// "../models/Llama-2-7b-hf/".
std::string model_part(const std::string& name) {
  const auto hub = parse_hub_name(name);
  return hub ? hub->name : last_part(name);
}

/// What a model opened by path is called: its folder's name, a GGUF's own.
std::string name_of(const fs::path& path) {
  std::error_code ignored;
  const fs::path whole = fs::absolute(path, ignored);
  return model_part((is_folder(path) || path.extension() == ".gguf" ? whole : whole.parent_path()).string());
}

struct Place {
  fs::path path;
  std::string words;  // "beside the adapter"
};

/// Where the base that an adapter names may be: beside the adapter, relative to it or to the working directory.
std::vector<Place> places_of_base(const PeftAdapter& adapter) {
  const std::string& name = adapter.base_model;
  if (fs::path(name).is_absolute()) return {{name, "at the path it names"}};
  const fs::path folder = whole_path(adapter.folder);
  return {{folder.parent_path() / name, "beside the adapter"},
          {folder.parent_path() / model_part(name), "beside the adapter"},
          {folder / name, "in the adapter's folder"},
          {name, "in the working directory"}};
}

/// The revision of its base that an adapter names; empty: none.
std::string revision_of_base(const PeftAdapter& adapter) {
  const bool named = adapter.config.contains("revision") && adapter.config["revision"].is_string();
  return named ? adapter.config["revision"].get<std::string>() : "";
}

/// In one of those places or in the Hub cache; nullopt: not here.
std::optional<Place> find_base(const PeftAdapter& adapter, const fs::path& hub_cache) {
  for (Place& place : places_of_base(adapter)) {
    if (!is_there(place.path) || is_adapter_alone(place.path)) continue;
    if (is_folder(place.path) && !is_there(place.path / "config.json")) continue;
    return Place{place.path.lexically_normal(), std::move(place.words)};
  }
  const std::string revision = revision_of_base(adapter);
  const auto hub = parse_hub_name(adapter.base_model + (revision.empty() ? "" : "@" + revision));
  if (!hub) return std::nullopt;
  auto path = find_in_hub_cache(hub_cache, *hub);
  if (!path) return std::nullopt;
  return Place{std::move(*path), "in the Hub cache, revision " + hub->revision};
}

/// A folder of this machine stands in for a repository of the Hub by its name alone.
void warn_of_namesake(const PeftAdapter& adapter, const Place& base, std::vector<std::string>& warnings) {
  if (!parse_hub_name(adapter.base_model) || repository_of(base.path)) return;
  const std::string revision = revision_of_base(adapter);
  const bool of_its_name = base.path.lexically_normal().string().ends_with(adapter.base_model);
  if (of_its_name && revision.empty()) return;
  warnings.push_back("adapter '" + adapter.folder.string() + "' was trained on '" + adapter.base_model + "'" +
                     (revision.empty() ? "" : ", revision " + revision) + ", and '" + base.path.string() + "' " +
                     base.words + " was taken for its name" + (revision.empty() ? "" : ": its revision is not known") +
                     "; another is taken if it is named: MODEL+" + adapter.folder.string());
}

Place resolve_base(const PeftAdapter& adapter, const fs::path& hub_cache) {
  const std::string place = (adapter.folder / "adapter_config.json").string();
  if (adapter.base_model.empty())
    throw Error(ErrorKind::bad_input, {.path = place},
                "base_model_name_or_path is empty, so the adapter's base is not known",
                "name the base: MODEL+" + adapter.folder.string());
  if (const auto found = find_base(adapter, hub_cache)) return *found;
  throw Error(ErrorKind::bad_input, {.path = place},
              "the base '" + adapter.base_model + "' was found neither beside the adapter (" +
                  places_of_base(adapter).front().path.string() + ") nor in the Hub cache",
              "name the base: MODEL+" + adapter.folder.string());
}

std::optional<fs::path> path_of(std::optional<Place> place) {
  return place ? std::optional(std::move(place->path)) : std::nullopt;
}

/// A new rope over a plain one that counts from another context than the file's, and was not told to.
void warn_of_original(const ModelConfig& before, const TrainedRope& trained, std::vector<std::string>& warnings) {
  const bool plain = std::holds_alternative<RopeUnscaled>(before.rope.scaling);
  if (!plain || trained.context < 1 || trained.context == before.context) return;
  if (trained.from != original_context(before, "the declared context").from) return;
  warnings.push_back("the new rope counts from " + std::to_string(trained.context) + " tokens: " + trained.from +
                     "; original= says another");
}

/// A folder of an architecture that is not read.
void open_named(Source& source, HfFiles files) {
  if (source.spec.rope)
    throw Error(ErrorKind::unsupported, {.path = files.config_path},
                "a model of type " + shown(files.hf.config["model_type"]) +
                    " is merged by the names of its tensors alone, and a new rope is given",
                "merge without it, then: ropewalk extend MERGED -o DIR --rope " + *source.spec.rope);
  source.named_only = true;
  std::vector<std::string>& warnings = source.checkpoint.warnings;
  source.quantization = dequantize(files.tensors, {files.config_path, files.hf.config_text, files.hf.config}, warnings);
  source.checkpoint.config = read_named_config(files, warnings);
  source.checkpoint.read_as = "transformers 5.23.0";
  source.base_tensors = std::move(files.tensors);
  source.tokenizer_folder = files.hf.folder;
  source.hf = std::move(files.hf);
}

/// `synthetic`: `path` is a configuration, and the weights are made up.
void open_hf(Source& source, const fs::path& path, bool synthetic, ModelUse use) {
  HfFiles files = synthetic ? read_synthetic_config(path) : read_hf_files(path);
  if (use == ModelUse::merging && !synthetic && !reads_architecture(files.hf.config))
    return open_named(source, std::move(files));
  std::vector<std::string> warnings;
  RopeBase base{files.hf.config, std::nullopt};
  if (source.spec.rope) base = rope_base(files.config_path, files.hf.config_text, files.hf.config, *source.spec.rope);
  ModelConfig config = read_hf_config(files.config_path, files.hf.config_text, base.config, warnings);
  if (base.warning) warnings.push_back(*base.warning);
  if (source.spec.rope) {
    const RopeRequest request = parse_rope_spec(*source.spec.rope, config);
    warn_of_original(config, request.trained, warnings);
    files.hf.config = config_with_rope(files.hf.config, request, config);
    // what the file contradicts itself in is told: the new rope takes its base, and its length, from one of the two
    std::vector<std::string> of_new;
    config = read_hf_config(files.config_path, "", files.hf.config, of_new);  // no text: places no longer hold
    for (std::string& one : of_new)
      if (std::find(warnings.begin(), warnings.end(), one) == warnings.end()) warnings.push_back(std::move(one));
    config.rope.original_context = rope_original_context(request.spec);
  }
  source.synthetic = synthetic;
  if (synthetic) {
    files.tensors = synthetic_tensors(config, synthetic_dtype(files.hf.config, files.config_path));
    warnings.push_back("synthetic: random weights of the shape in " + files.config_path +
                       ", for measuring time and memory; what they say means nothing");
  }
  const ConfigText text{files.config_path, files.hf.config_text, files.hf.config};
  if (!synthetic) source.quantization = dequantize(files.tensors, text, warnings);
  resolve_tied_head(files, config, warnings);
  source.base_tensors = check_inventory(files.tensors, config, path.string(), "config.json", warnings);
  source.checkpoint.config = std::move(config);
  source.checkpoint.read_as = "transformers 5.23.0";
  source.checkpoint.warnings = std::move(warnings);
  source.tokenizer_folder = files.hf.folder;
  source.hf = std::move(files.hf);
}

/// `spec` on a GGUF, through the Hugging Face dictionary that says the same.
void replace_gguf_rope(Source& source) {
  ModelConfig& config = source.checkpoint.config;
  const RopeRequest request = parse_rope_spec(*source.spec.rope, config);
  warn_of_original(config, request.trained, source.checkpoint.warnings);
  Json json = {{"model_type", config.model_type},
               {"max_position_embeddings", config.context},
               {"rope_theta", config.rope.theta},
               {"rope_scaling", nullptr}};
  if (config.rope.rotary_dim != config.head_dim)
    json["partial_rotary_factor"] = double(config.rope.rotary_dim) / config.head_dim;
  json = config_with_rope(json, request, config);
  if (!config.rope.frequency_divisors.empty())  // original= was given, or the request would have been refused
    source.checkpoint.warnings.push_back("the frequency divisors of rope_freqs.weight are part of the rope that '" +
                                         *source.spec.rope + "' replaces: they are left out");
  config.context = request.context;
  config.rope = read_hf_rope("+rope=" + *source.spec.rope, "", json, {config.head_dim, request.context},
                             source.checkpoint.warnings);
  config.rope.original_context = rope_original_context(request.spec);
}

void open_gguf(Source& source, const fs::path& path, TokenizerUse use) {
  source.gguf = read_gguf(path);
  if (source.gguf->string("general.type") == "adapter")
    throw Error(ErrorKind::usage, {.path = path.string()}, "is an adapter, and does not say of which model",
                "name its base: MODEL+" + path.string());
  if (use == TokenizerUse::described && source.gguf->tensors.empty()) {
    open_tokenizer_of_gguf(source, path, use);
    return;
  }
  source.checkpoint = read_gguf_model(*source.gguf, path.string(), use);
  source.base_tensors = source.checkpoint.tensors;
  if (source.spec.rope) replace_gguf_rope(source);
}

void open_base(Source& source, const fs::path& path, const OpenOptions& options) {
  const TokenizerUse use = options.tokenizer_use;
  const std::string name = path.filename().string();
  if (use == TokenizerUse::described && is_tokenizer_alone(path)) {
    open_tokenizer_of_folder(source, path);
    return;
  }
  if (is_folder(path) || name.ends_with(".safetensors") || name.ends_with(".index.json"))
    return open_hf(source, path, false, options.model_use);
  if (is_gguf(path)) return open_gguf(source, path, use);
  if (path.extension() == ".bin") return open_hf(source, path, false, options.model_use);
  if (is_tokenizer_file(name) || path.extension() == ".tiktoken")
    throw Error(ErrorKind::bad_input, {.path = path.string()}, "one of a tokenizer's files, and a SOURCE is a folder",
                "name the folder that holds it: " + (path.has_parent_path() ? path.parent_path().string() : "."));
  throw Error(ErrorKind::bad_input, {.path = path.string()},
              "not a model: expected a Hugging Face folder, a .safetensors or .bin file, an index or a .gguf",
              "check the path");
}

/// Changes of a rotary projection, made for rows in another order than the base's: low-rank ones get a B in that order,
/// what takes the tensor's place is put in it, and others see the weight as they were made for.
void match_layout(PeftAdapter& adapter, const Source& source) {
  const ModelConfig& config = source.checkpoint.config;
  const auto as_trained = [config](TensorPtr weight) {
    return rotary_rows(std::move(weight), RotaryPairs::half_split, config);
  };
  std::unordered_map<std::string_view, TensorPtr> rotary;
  for (const TensorPtr& tensor : source.base_tensors)
    if (tensor->info().pairs != RotaryPairs::none) rotary.emplace(tensor->name(), tensor);
  for (AdapterModule& module : adapter.modules) {
    const auto found = rotary.find(module.target);
    if (found == rotary.end()) continue;
    const TensorPtr& weight = found->second;
    const auto as_base = [config, order = weight->info().pairs](TensorPtr tensor) {
      return rotary_rows(std::move(tensor), order, config);
    };
    if (auto* low_rank = std::get_if<LowRankChange>(&module.change)) {
      if (low_rank->b->info().shape[0] == weight->info().rows()) low_rank->b = as_base(low_rank->b);
    } else if (weight->info().pairs == RotaryPairs::half_split) {
      continue;  // nothing else comes in another order
    } else if (auto* replaced = std::get_if<ReplacementChange>(&module.change)) {
      if (replaced->tensor->info().shape == weight->info().shape) replaced->tensor = as_base(replaced->tensor);
    } else if (auto* delta = std::get_if<DeltaChange>(&module.change)) {
      delta->add = [=, add = delta->add](TensorPtr tensor, double scale) {
        return as_base(add(as_trained(std::move(tensor)), scale));
      };
    } else {
      auto& change = std::get<RewriteChange>(module.change);
      change.rewrite = [=, rewrite = change.rewrite](TensorPtr tensor) {
        return as_base(rewrite(as_trained(std::move(tensor))));
      };
    }
  }
}

constexpr std::uint64_t kMostVocabulary = 1 << 24;  // rows; the largest in use have 262,144

bool all_zero(const LazyTensor& tensor) {
  return for_row_blocks(tensor, [](std::uint64_t, std::span<const float> values) {
    return std::ranges::all_of(values, [](float value) { return value == 0; });
  });
}

/// Why an adapter changes no weight at all; empty: it changes some, or that is seen only when it is merged.
std::string no_effect(const PeftAdapter& adapter, double scale) {
  const auto zero_scale = [&](const AdapterModule& module) {
    return (std::holds_alternative<LowRankChange>(module.change) ? module.scale : 1) * scale == 0;
  };
  const auto zero_factor = [](const AdapterModule& module) {
    const bool product =
        std::holds_alternative<LowRankChange>(module.change) || std::holds_alternative<ExpertsChange>(module.change);
    return product && (all_zero(*module.factors.back()) || all_zero(*module.factors.front()));
  };
  if (std::ranges::all_of(adapter.modules, zero_scale)) return "its scale is 0";
  if (std::ranges::all_of(adapter.modules, zero_factor))
    return "one factor of every module is zero, as before any training";
  return "";
}

/// What follows for the configuration: a head that is a tensor of its own now, more rows of the vocabulary.
void follow_embedding(Source& source, const MergeResult& merged) {
  ModelConfig& config = source.checkpoint.config;
  if (merged.untied) {
    config.tied_head = false;
    if (source.hf) source.hf->config["tie_word_embeddings"] = false;
  }
  const TensorPtr embedding = source.checkpoint.find(kEmbeddingWeight), head = source.checkpoint.find(kHeadWeight);
  if (source.named_only && !embedding) return;  // settle_targets lets nothing change what it may be
  if (!embedding || embedding->info().rows() == std::uint64_t(config.n_vocab)) {
    if (head && head->info().rows() != std::uint64_t(config.n_vocab))
      throw Error(ErrorKind::bad_input, {.path = std::string(head->file())},
                  "the head has " + std::to_string(head->info().rows()) + " rows with its adapters, the embedding " +
                      std::to_string(config.n_vocab) + ", expected the same",
                  "the adapter was trained on a model with another vocabulary: use that one");
    return;
  }
  const std::uint64_t rows = embedding->info().rows();
  if (rows > kMostVocabulary || (head && head->info().rows() != rows))
    throw Error(ErrorKind::bad_input, {.path = std::string(embedding->file())},
                "the embedding has " + std::to_string(rows) + " rows with its adapters, expected " +
                    (rows > kMostVocabulary ? "at most " + std::to_string(kMostVocabulary)
                                            : std::to_string(head->info().rows()) + " as the head"),
                "an adapter whose vocabulary grew has to bring both: save it again with save_embedding_layers=True");
  if (source.gguf && rows < std::uint64_t(config.n_vocab))
    throw Error(ErrorKind::unsupported, {.path = source.spec.model},
                "the adapter brings " + std::to_string(rows) + " rows of vocabulary, the GGUF has " +
                    std::to_string(config.n_vocab) + " with their tokens",
                "take the model's Hugging Face folder as the base");
  source.checkpoint.warnings.push_back("the vocabulary has " + std::to_string(rows) + " rows with the adapter, " +
                                       std::to_string(config.n_vocab) + " without");
  config.n_vocab = int(rows);
  if (source.hf) source.hf->config["vocab_size"] = rows;
}

/// What needs to know the class of a model.
[[noreturn]] void refuse_named(const Source& source, const std::string& what, const std::string& fix) {
  throw Error(ErrorKind::unsupported, {.path = source.spec.model},
              what + ", and which those are of a model of type \"" + source.checkpoint.config.model_type +
                  "\" only its class says",
              fix);
}

/// What bitsandbytes does to a model on loading it in 4 bit with transformers' defaults for a QLoRA: every linear layer of
/// the decoder, the head not.
void quantize_base(Source& source) {
  if (source.quantization || source.gguf)
    throw Error(ErrorKind::usage, {},
                "--qlora-base nf4 quantizes a base that is not quantized, and '" + source.spec.model + "' is " +
                    (source.quantization ? source.quantization->method : "a GGUF"),
                "leave it out: adapters are merged into what the base dequantizes to");
  if (source.named_only) refuse_named(source, "--qlora-base nf4 quantizes the linear layers", "leave it out");
  for (TensorPtr& tensor : source.base_tensors) {
    if (tensor->info().shape.size() != 2 || !tensor->name().starts_with("model.layers.") ||
        !tensor->name().ends_with("_proj.weight"))
      continue;
    source.nf4_base.insert(tensor->name());
    tensor = labelled(four_bit_round_trip(tensor, FourBitType::nf4, 64, true), tensor->info().pairs);
  }
  source.checkpoint.tensors = source.base_tensors;
}

/// What says that an adapter was trained on a base of 4 bits: the configuration a trainer left in its folder, the card
/// that PEFT wrote until 0.7, the name of the base. Empty: nothing does.
std::string says_four_bit(const PeftAdapter& adapter) {
  const fs::path config = adapter.folder / "config.json", card = adapter.folder / "README.md";
  try {
    if (is_there(config))
      if (const Json json = read_json(config); json.is_object() && json.contains("quantization_config"))
        if (const Json& own = json["quantization_config"]; own.is_object() && own.value("load_in_4bit", Json()) == true)
          return "config.json beside it (load_in_4bit)";
    if (is_there(card) && read_text_file(card, kMaxCardBytes).find("load_in_4bit: True") != std::string::npos)
      return "README.md beside it (load_in_4bit: True)";
  } catch (const Error&) {
    // files beside the adapter are not what was asked for
  }
  if (adapter.base_model.find("bnb-4bit") != std::string::npos) return "the name of its base, " + adapter.base_model;
  return "";
}

void advise_qlora(Source& source) {
  if (source.quantization || source.gguf) return;
  for (const PeftAdapter& adapter : source.adapters)
    if (const std::string where = says_four_bit(adapter); !where.empty())
      source.checkpoint.warnings.push_back(
          "adapter '" + adapter.folder.string() + "' was trained on a 4-bit base, says " + where +
          (source.named_only
               ? ": merged is the base as it is"
               : ": --qlora-base nf4 merges into what it was trained on, --qlora-base original into the base as it is; "
                 "'ropewalk merge SOURCE --measure' tells which comes nearer"));
}

/// A base as deep as its adapters were trained on.
void deepen(Source& source) {
  const auto deeper = std::ranges::find_if(source.adapters, [](const PeftAdapter& one) { return !one.layers.empty(); });
  if (deeper == source.adapters.end()) return;
  const std::string path = (deeper->folder / "adapter_config.json").string();
  for (const PeftAdapter& other : source.adapters)
    if (other.layers != deeper->layers)
      throw Error(ErrorKind::unsupported, {.path = path},
                  "'layer_replication' makes another model of the base than '" + other.folder.string() + "' is for",
                  "merge one of them, and the other into what comes out if it was trained on that");
  if (!source.hf)
    throw Error(ErrorKind::unsupported, {.path = path},
                "'layer_replication' makes a deeper model of the base, which is not done to a GGUF",
                "take the model's Hugging Face folder as the base");
  if (source.named_only) refuse_named(source, "'layer_replication' copies the layers", "merge it with PEFT");
  ModelConfig& config = source.checkpoint.config;
  const std::size_t before = std::size_t(config.n_layers), after = deeper->layers.size();
  source.base_tensors = with_layers(source.base_tensors, deeper->layers, path);
  config.n_layers = int(after);
  Json& json = source.hf->config;
  json["num_hidden_layers"] = after;
  if (json.contains("layer_types") && json["layer_types"].is_array() && json["layer_types"].size() == before) {
    Json types = Json::array();
    for (const std::uint64_t layer : deeper->layers) types.push_back(json["layer_types"][layer]);
    json["layer_types"] = std::move(types);
  }
  source.checkpoint.warnings.push_back("adapter '" + deeper->folder.string() + "' is of a model of " +
                                       std::to_string(after) + " layers made of the base's " + std::to_string(before) +
                                       " (layer_replication): copies become layers of their own; PEFT 0.21.2 merges "
                                       "what all copies learned into the one weight they share");
}

void apply_adapters(Source& source, const OpenOptions& options, const std::vector<double>& scales,
                    const std::string& base_name, const fs::path& hub_cache) {
  std::vector<ScaledAdapter> scaled;
  for (std::size_t i = 0; i < source.adapters.size(); ++i) {
    PeftAdapter& adapter = source.adapters[i];
    std::vector<std::string>& warnings = source.checkpoint.warnings;
    if (source.named_only) sides_of_class(adapter, source.checkpoint.config, *source.hf);
    if (!adapter.base_model.empty() && model_part(adapter.base_model) != base_name)
      warnings.push_back("adapter '" + adapter.folder.string() + "' names the base '" + adapter.base_model +
                         "', merged into '" + base_name + "'" +
                         (source.named_only ? ""
                                            : ": " + base_differences(path_of(find_base(adapter, hub_cache)),
                                                                      source.checkpoint.config)));
    if (!source.named_only)
      for (std::string& line : beside_adapter(adapter, source.checkpoint.config)) warnings.push_back(std::move(line));
    if (source.named_only) settle_targets(adapter, source.base_tensors, source.checkpoint.config, *source.hf);
    check_peft_targets(adapter, source.base_tensors, source.checkpoint.warnings);
    warn_of_peft_config(adapter, warnings);
    if (const std::string why = no_effect(adapter, scales[i]); !why.empty())
      source.checkpoint.warnings.push_back("adapter '" + adapter.folder.string() + "' changes nothing: " + why);
    match_layout(adapter, source);
    scaled.push_back({&adapter, scales[i]});
  }
  if (options.combine && scaled.empty())
    throw Error(ErrorKind::usage, {}, "--combine was given, and '" + source.spec.text + "' has no adapter",
                "name adapters: MODEL+ADAPTER:WEIGHT+ADAPTER:WEIGHT");
  std::optional<PeftAdapter> one;
  if (options.combine) {
    one = combine_adapters(scaled, *options.combine, source.checkpoint.warnings);
    scaled = {{&*one, 1}};
  }
  MergeResult merged = merge_adapters(source.base_tensors, scaled,
                                      {.dtype = options.merge_dtype,
                                       .blocks = options.blocks,
                                       .saturate = options.saturate,
                                       .unmerged = options.unmerged,
                                       .tied_head = source.checkpoint.config.tied_head});
  source.base_tensors = merged.base;
  source.exact_tensors = std::move(merged.exact);
  source.checkpoint.tensors = std::move(merged.tensors);
  for (std::string& note : merged.notes) source.checkpoint.warnings.push_back(std::move(note));
  follow_embedding(source, merged);
  source.merged_modules = std::move(merged.modules);
}

}  // namespace

Source open_source(const SourceSpec& spec, const OpenOptions& options, const fs::path& hub_cache) {
  Source source;
  source.spec = spec;
  const std::optional<fs::path> synthetic = synthetic_config(spec.model);
  fs::path base = synthetic ? *synthetic : path_or_hub(spec.model, "model", hub_cache);
  std::string base_name = synthetic ? spec.model : is_there(spec.model) ? name_of(base) : model_part(spec.model);
  std::vector<double> scales;
  std::vector<std::string> namesake;
  if (!synthetic && is_adapter_alone(base)) {
    source.adapters.push_back(read_peft_adapter(base));
    scales.push_back(1);
    const Place found = resolve_base(source.adapters.front(), hub_cache);
    warn_of_namesake(source.adapters.front(), found, namesake);
    base = found.path;
    base_name = model_part(source.adapters.front().base_model);
  }
  for (const SourceSpec::Adapter& adapter : spec.adapters) {
    source.adapters.push_back(read_adapter(path_or_hub(adapter.path, "adapter", hub_cache)));
    scales.push_back(adapter.scale);
  }
  if (synthetic) open_hf(source, base, true, ModelUse::running);
  else open_base(source, base, options);
  source.checkpoint.label = spec.text;
  for (std::string& line : namesake) source.checkpoint.warnings.push_back(std::move(line));
  deepen(source);
  if (options.nf4_base) quantize_base(source);
  else if (options.qlora_advice) advise_qlora(source);
  apply_adapters(source, options, scales, base_name, hub_cache);
  choose_tokenizer(source, options);
  return source;
}

}  // namespace ropewalk::formats
