// R40 - R49: what else bounds the context.
#include <algorithm>
#include <array>
#include <cmath>

#include "formats/lint/linter.h"
#include "formats/sliding_layers.h"

namespace ropewalk::formats::linting {
namespace {

std::vector<std::size_t> of_kinds(const Linter& lint, std::initializer_list<Engine> kinds) {
  std::vector<std::size_t> out;
  for (std::size_t i = 0; i < lint.engines.size(); ++i)
    if (std::find(kinds.begin(), kinds.end(), lint.engines[i].engine) != kinds.end()) out.push_back(i);
  return out;
}

/// The context is longer than what the base model was trained at, by a method or by -c.
bool extended(const Linter& lint) {
  return lint.scaled() || (lint.options.context && *lint.options.context > lint.context);
}

/// A window that is no number of tokens. By 5.23.0, run: text and truth values are refused where the class checks its
/// fields; 0 and below break the mask where every layer has it, and are without effect elsewhere.
bool window_itself(Linter& lint) {
  const Json* value = lint.find("sliding_window");
  if (!value || value->is_null() || value->is_array() || value->is_object()) return true;
  const std::string& type = lint.model_type;
  const bool everywhere =
      type == "mistral" || type == "mixtral" || type == "phi3" || type == "gpt_oss" || type.starts_with("gemma");
  const bool checked = everywhere || type == "qwen2" || type == "qwen3";
  const std::string pointer = lint.at("sliding_window"),
                    message = "sliding_window is " + shown(*value) + ", a number of tokens or null was expected";
  if (!value->is_number()) {
    const bool error = checked || value->is_string();
    lint.add("R40", error ? Severity::error : Severity::warning, pointer,
             message + (checked ? ": transformers raises StrictDataclassFieldValidationError" : ""),
             value->is_string() ? "write it without quotes, or null" : "write null");
    for (std::size_t i = 0; i < lint.engines.size(); ++i)
      if (lint.readings[i].error && lint.readings[i].error->pointer == pointer) lint.explain(i, Aspect::load);
    return false;
  }
  if (value->get<double>() >= 1) return true;
  const Json* use = lint.find("use_sliding_window");
  const bool hurts = everywhere || (checked && use && *use == true);
  lint.add("R40", hurts ? Severity::error : Severity::warning, pointer,
           message + (hurts ? ": the mask leaves nothing to see" : ""), "write null");
  return false;
}

void sliding_window(Linter& lint) {
  if (!window_itself(lint)) return;
  if (lint.wanted == 0 || !extended(lint)) return;
  // classes of which every layer may slide; others have no window, or layers that see everything by design
  constexpr std::array kClasses = {"mistral", "mixtral", "phi3", "qwen2", "qwen3"};
  if (std::find(kClasses.begin(), kClasses.end(), lint.model_type) == kClasses.end()) return;
  const std::string wanted = std::to_string(lint.wanted);
  const Json *use = lint.find("use_sliding_window"), *given = lint.find("sliding_window");
  if (use && *use == false && given && given->is_number() && *given < lint.wanted) {
    lint.add("R40", Severity::info, lint.at("sliding_window"),
             "sliding_window is " + shown(*given) + ", off while use_sliding_window is false; " + wanted +
                 " tokens are served",
             "leave use_sliding_window false, or raise sliding_window");
    return;
  }
  const int n_layers = stated_layers(lint.model);
  const std::optional<SlidingLayers> sliding = sliding_layers(lint.file.path, lint.model, n_layers);
  if (!sliding || sliding->count() < n_layers || sliding->window >= lint.wanted) return;
  const std::string size = std::to_string(sliding->window);
  const std::vector<std::size_t> hurt = of_kinds(lint, {Engine::transformers, Engine::vllm});
  if (hurt.empty()) return;
  Finding& finding =
      lint.add_for("R40", hurt, lint.at("sliding_window"),
                   "every layer sees " + size + " tokens back in " + lint.names(hurt) + ", of " + wanted + " served",
                   "write null, or " + wanted + " as Yarn-Mistral does");
  finding.length = lint.wanted;
  finding.flags.clear();  // which mend the rope, and leave the window
  for (const std::size_t engine : hurt)
    if (const std::string line = lint.flags_with(engine, "sliding_window", nullptr); !line.empty())
      finding.flags.push_back({lint.engines[engine].title(), line});
}

void tokenizer_limit(Linter& lint) {
  if (!lint.input.tokenizer_config || lint.wanted == 0) return;
  const LintFile& file = *lint.input.tokenizer_config;
  const auto limit = file.json.find("model_max_length");
  if (limit == file.json.end() || limit->is_null()) return;
  if (!limit->is_number()) {
    lint.add_in(file, "R41", Severity::warning, "/model_max_length",
                "model_max_length is " + shown(*limit) + ", a number was expected", "write the context as a number");
    return;
  }
  const double n = limit->get<double>();
  if (!file.not_finite.empty() || n >= lint.wanted) return;
  std::vector<std::size_t> hurt;
  EngineOptions options;
  options.tokenizer_limit = n >= 1 ? int(n) : 1;
  options.context = lint.wanted;
  for (std::size_t i = 0; i < lint.engines.size(); ++i) {
    if (lint.engines[i].engine != Engine::vllm) continue;
    const EngineReading limited = read_as(lint.engines[i], lint.file.json, options);
    if (!limited.error && limited.context_error) hurt.push_back(i);
  }
  Finding& finding = lint.add_in(file, "R41", Severity::warning, "/model_max_length",
                                 "model_max_length is " + trimmed(n) + ", below the " + std::to_string(lint.wanted) +
                                     " tokens of the model: transformers warns of longer texts" +
                                     (hurt.empty() ? ""
                                                   : ", " + lint.does(hurt, "takes", "take") + " the smaller and " +
                                                         (hurt.size() == 1 ? "refuses" : "refuse") + " more"),
                                 "write " + std::to_string(lint.wanted));
  for (const std::size_t i : hurt) {
    finding.engines.push_back(lint.engines[i].title());
    if (const std::string& line = lint.flags_of(i); !line.empty())
      finding.flags.push_back({lint.engines[i].title(), line});
  }
  finding.length = lint.wanted;
  finding.edits = {{"/model_max_length", lint.wanted}};
  if (!hurt.empty() && !lint.options.engines.empty()) finding.severity = Severity::error;
}

void generation_limit(Linter& lint) {
  if (!lint.input.generation_config || !extended(lint) || lint.wanted == 0) return;
  const LintFile& file = *lint.input.generation_config;
  const auto limit = file.json.find("max_length");
  if (limit == file.json.end() || !limit->is_number() || limit->get<double>() >= lint.wanted ||
      limit->get<double>() < 256)  // the library's own 20
    return;
  const double n = limit->get<double>();
  Finding& finding = lint.add_in(file, "R42", Severity::warning, "/max_length",
                                 "max_length is " + trimmed(n) + ": generate() of transformers stops there, of " +
                                     std::to_string(lint.wanted) + " tokens",
                                 "write " + std::to_string(lint.wanted) + ", or take it out");
  finding.length = lint.wanted;
  finding.edits = {{"/max_length", lint.wanted}};
}

/// Other names of the length, which SGLang, ExLlamaV2 and old converters prefer.
void other_lengths(Linter& lint) {
  for (const char* key : {"max_sequence_length", "seq_length", "max_seq_len", "model_max_length", "n_positions",
                          "max_seq_length", "seq_len"}) {
    const auto value = lint.number(key);
    if (!value || lint.context == 0 || *value == lint.context || *value == lint.wanted) continue;
    std::vector<std::size_t> hurt;
    for (std::size_t i = 0; i < lint.engines.size(); ++i)
      if (lint.readings[i].context && *lint.readings[i].context == *value && *value < lint.wanted) hurt.push_back(i);
    const std::string message =
        std::string(key) + " is " + trimmed(*value) + " beside max_position_embeddings " + std::to_string(lint.context);
    if (hurt.empty()) {
      lint.add("R42", Severity::info, lint.at(key), message, "make them equal, or take it out");
      continue;
    }
    Finding& finding =
        lint.add_for("R42", hurt, lint.at(key), message + ": " + lint.does(hurt, "serves", "serve") + " the first",
                     "write " + std::to_string(lint.wanted) + ", or take it out");
    finding.length = lint.wanted;
    finding.edits = {{lint.at(key), lint.wanted}};
    lint.explain(hurt, Aspect::context);
  }
}

void by_length(Linter& lint) {
  for (const RopeDict& dict : lint.dicts) {
    if (!dict.read) continue;
    if (dict.type == "dynamic" && !dict.find("alpha"))
      lint.add("R44", Severity::info, dict.at(dict.find("rope_type") ? "rope_type" : "type"),
               "a dynamic rope turns keys by another base as the text grows; those in the cache keep the old one, and "
               "static engines (vllm, sglang) use one base or none",
               "prefer yarn, or an NTK base written into rope_theta");
    if (dict.type == "longrope" || dict.type == "su") {
      const auto inside = dict.number("original_max_position_embeddings"),
                 top = lint.number("original_max_position_embeddings");
      const auto original = top ? top : inside;
      if (original && lint.wanted > *original)
        lint.add("R45", Severity::info, dict.at(dict.find("rope_type") ? "rope_type" : "type"),
                 "longrope changes its list at " + trimmed(*original) +
                     " tokens: transformers by the text's length (its cache is void from there on), vllm and llama.cpp "
                     "once, by the context they are started with",
                 "start with -c or --max-model-len at most " + trimmed(*original) + " for short texts");
    }
  }
}

std::string bytes(double n) {
  const auto in = [&](double unit, const char* name) { return trimmed(std::round(n / unit * 100) / 100) + name; };
  return n >= 1 << 30 ? in(1 << 30, " GiB") : n >= 1 << 20 ? in(1 << 20, " MiB") : in(1 << 10, " KiB");
}

void cache_bytes(Linter& lint) {
  if (!lint.options.context || lint.latent()) return;
  const auto layers = lint.number("num_hidden_layers"), heads = lint.number("num_attention_heads");
  const auto kv = lint.number("num_key_value_heads");
  const double per_layer = kv.value_or(heads.value_or(0)) * lint.head_dim() * 2;
  if (!layers || !(per_layer > 0) || !(*layers > 0)) return;
  const double values = per_layer * *layers * *lint.options.context;
  lint.add("R46", lint.at("max_position_embeddings"),
           "keys and values of " + std::to_string(*lint.options.context) + " tokens take " + bytes(values * 2) +
               " in f16, " + bytes(values * 34 / 32) + " in q8_0",
           "count it beside the weights");
}

void not_carried(Linter& lint) {
  if (const Json* chunks = lint.find("dual_chunk_attention_config"); chunks && chunks->is_object())
    lint.add("R47", lint.at("dual_chunk_attention_config"),
             "dual-chunk attention is no rope scaling: vllm alone has it, elsewhere long texts meet angles never seen",
             "serve it with vllm, or no longer than the base context");
  for (const char* key : {"use_logn_attn", "use_dynamic_ntk"})
    if (const Json* on = lint.find(key); on && *on == true)
      lint.add("R47", lint.at(key), std::string(key) + " lives in the model's remote code: other engines leave it out",
               "keep the context within what the base was trained at, or run the remote code");
  const bool its_own = lint.model_type.find("istral3") != std::string::npos || lint.model_type.starts_with("mistral4");
  for (const RopeDict& dict : lint.dicts) {
    const auto beta = dict.number("llama_4_scaling_beta");
    if (!beta || *beta == 0) continue;
    if (its_own)
      lint.add("R47", Severity::info, dict.at("llama_4_scaling_beta"),
               "llama_4_scaling_beta " + trimmed(*beta) +
                   " scales queries by position, beside the rope: nothing here compares what engines make of it",
               "use engines that name the model type, and keep the key where the dictionary is replaced");
    else
      lint.add(
          "R47", dict.at("llama_4_scaling_beta"),
          "llama_4_scaling_beta scales queries by position, which is not read for model type '" + lint.model_type + "'",
          "use the model type it belongs to (ministral3)");
  }
}

/// What latent attention and Mistral's own format have beside the frequencies, which is all that is compared.
void beside_the_rope(Linter& lint) {
  if (const Json* interleave = lint.find("rope_interleave"); interleave && *interleave == false && lint.latent())
    lint.add("R47", Severity::info, lint.at("rope_interleave"),
             "rope_interleave is false: transformers then pairs channel i with channel i + d/2; which pairs other "
             "engines turn is not compared here, and most have neighbours built in for latent attention",
             "compare logits with transformers' once (ropewalk verify)");
  if (const Json* scaling = lint.find("llama_4_scaling"); scaling && scaling->is_object())
    lint.add("R47", Severity::info, lint.at("llama_4_scaling"),
             "llama_4_scaling is the spelling of Mistral's params.json: readers of config.json look for "
             "llama_4_scaling_beta in the rope dictionary",
             "write llama_4_scaling_beta into rope_parameters");
}

/// Mistral's apply_scale, as vLLM and SGLang carry it into a rope dictionary.
void unapplied_scale(Linter& lint) {
  for (const RopeDict& dict : lint.dicts)
    if (const Json* apply = dict.find("apply_yarn_scaling"); apply && *apply == false)
      lint.add("R47", Severity::info, dict.at("apply_yarn_scaling"),
               "apply_yarn_scaling is false: vllm and sglang then leave YaRN's attention factor out of some models, "
               "transformers does not know the key; what they make of it is not compared here",
               "write attention_factor and attn_factor, which say the same to all");
}

void finetuned(Linter& lint) {
  const RopeDict* dict = lint.flat();
  if (!dict || dict->type != "yarn" || dict->find("finetuned")) return;
  for (std::size_t i = 0; i < lint.engines.size(); ++i)
    if (lint.engines[i].engine == Engine::llama_cpp && !lint.engines[i].at_least({2025, 12})) {
      lint.add("R48", dict->pointer,
               "convert_legacy_llama.py of " + lint.engines[i].title() + " raises KeyError: 'finetuned'",
               "add \"finetuned\": true, or use convert_hf_to_gguf.py");
      return;
    }
}

/// Tables that have a row a position, and masks of n x n.
void stored_tables(Linter& lint) {
  if (lint.wanted == 0) return;
  for (const LintInput::Stored& tensor : lint.input.tensors) {
    const auto ends = [&](std::initializer_list<std::string_view> tails) {
      return std::any_of(tails.begin(), tails.end(),
                         [&](std::string_view tail) { return tensor.name.ends_with(tail); });
    };
    std::uint64_t rows = 0;
    if (tensor.shape.size() == 2 && ends({"wpe.weight", "position_embeddings.weight", "embed_positions.weight"}))
      rows = tensor.shape[0];
    if (tensor.shape.size() == 4 && tensor.shape[2] == tensor.shape[3] && ends({".attention.bias", ".attn.bias"}))
      rows = tensor.shape[3];
    if (rows == 0 || rows >= std::uint64_t(lint.wanted)) continue;
    lint.add("R43", lint.at("max_position_embeddings"),
             "the weights hold " + tensor.name.substr(0, 80) + " for " + std::to_string(rows) + " positions, and " +
                 std::to_string(lint.wanted) + " are to be served",
             "leave mask buffers out of the file; a table of positions has to be trained for the length");
    return;  // one stands for its like in every layer
  }
}

void length_itself(Linter& lint) {
  const Json* length = lint.find("max_position_embeddings");
  if (!length) return;
  const std::string pointer = lint.at("max_position_embeddings");
  if (length->is_null()) {
    std::vector<std::size_t> hurt;
    for (std::size_t i = 0; i < lint.engines.size(); ++i)
      if (Linter::fails(lint.readings[i]) && lint.readings[i].error->pointer == pointer) hurt.push_back(i);
    if (hurt.empty() || (!lint.compared && lint.options.engines.empty())) return;
    Finding& finding = lint.add("R49", lint.compared ? Severity::error : Severity::warning, pointer,
                                "max_position_embeddings is null: " + lint.does(hurt, "does", "do") +
                                    " not load it: " + lint.readings[hurt.front()].error->kind + ": " +
                                    lint.readings[hurt.front()].error->text.substr(0, 200),
                                "write the context");
    for (const std::size_t i : hurt) finding.engines.push_back(lint.engines[i].title());
    lint.explain(hurt, Aspect::load);
    return;
  }
  if (!length->is_number() || !(length->get<double>() >= 1) || length->get<double>() > 2147483647) {
    lint.add("R49", Severity::error, pointer,
             "max_position_embeddings is " + shown(*length) + ", a number of tokens was expected", "write the context");
    lint.explain_all();
  } else if (!length->is_number_integer()) {
    std::vector<std::size_t> hurt;
    for (std::size_t i = 0; i < lint.engines.size(); ++i)
      if (Linter::fails(lint.readings[i]) && lint.readings[i].error->pointer == pointer) hurt.push_back(i);
    Finding& finding =
        lint.add("R49", pointer,
                 "max_position_embeddings is " + shown(*length) + ", no whole number: " +
                     (hurt.empty() ? "engines in C++ refuse it"
                                   : lint.does(hurt, "does", "do") + " not load it (" +
                                         lint.readings[hurt[0]].error->kind + "), and engines in C++ refuse it"),
                 "write " + trimmed(std::floor(length->get<double>())));
    finding.edits = {{pointer, std::int64_t(length->get<double>())}};
    for (const std::size_t i : hurt) finding.engines.push_back(lint.engines[i].title());
    lint.explain(hurt, Aspect::load);
  } else if (length->get<double>() > (1 << 24)) {
    lint.add(
        "R49", pointer,
        "max_position_embeddings is " + length->dump() + ": float32, in which positions are held, counts to 16777216",
        "write the context that was trained");
  }
}

}  // namespace

void context_rules(Linter& lint) {
  length_itself(lint);
  sliding_window(lint);
  tokenizer_limit(lint);
  generation_limit(lint);
  other_lengths(lint);
  by_length(lint);
  cache_bytes(lint);
  not_carried(lint);
  beside_the_rope(lint);
  unapplied_scale(lint);
  finetuned(lint);
  stored_tables(lint);
}

}  // namespace ropewalk::formats::linting
