#include "formats/gguf_folder.h"

#include <algorithm>
#include <array>
#include <charconv>

#include "formats/hf_config.h"
#include "formats/rope_config.h"
#include "formats/rope_dictionary.h"
#include "lib/error.h"
#include "lib/number_text.h"
#include "lib/plural.h"

namespace ropewalk::formats {
namespace {

/// A float's value as people wrote it: 1e-05, not 9.999999747378752e-06. The same float.
double as_written(double value) {
  const std::string text = round_trip_text(value);
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

Json id_json(const std::optional<std::int32_t>& id) { return id ? Json(*id) : Json(nullptr); }

/// config.json without the rope. Keys in transformers' order, which is the alphabet's.
Json plain_config(const Source& source) {
  const ModelConfig& config = source.checkpoint.config;
  const std::optional<Vocabulary>& vocabulary = source.checkpoint.vocabulary;
  // LlamaConfig wants hidden_size a multiple of the heads; MistralConfig, without a window, is the same model
  const bool llama = config.d_model % config.n_heads == 0;
  if (!llama && (config.attention_bias || config.mlp_bias))
    throw Error(ErrorKind::unsupported, {.path = source.checkpoint.label},
                "its " + std::to_string(config.n_heads) + " heads do not divide a width of " +
                    std::to_string(config.d_model) + ", and it has biases: transformers has no class for that",
                "keep it a GGUF: --type keep");
  Json out = {{"architectures", Json::array({llama ? "LlamaForCausalLM" : "MistralForCausalLM"})}};
  if (llama) out["attention_bias"] = config.attention_bias;
  out["attention_dropout"] = 0.0;
  out["bos_token_id"] = vocabulary ? id_json(vocabulary->bos) : Json(nullptr);
  out["eos_token_id"] = vocabulary ? id_json(vocabulary->eos) : Json(nullptr);
  out["head_dim"] = config.head_dim;
  out["hidden_act"] = "silu";
  out["hidden_size"] = config.d_model;
  out["intermediate_size"] = config.d_ff;
  out["max_position_embeddings"] = config.context;
  if (llama) out["mlp_bias"] = config.mlp_bias;
  out["model_type"] = llama ? "llama" : "mistral";
  out["num_attention_heads"] = config.n_heads;
  out["num_hidden_layers"] = config.n_layers;
  out["num_key_value_heads"] = config.n_kv_heads;
  out["pad_token_id"] = vocabulary ? id_json(vocabulary->pad) : Json(nullptr);
  out["rms_norm_eps"] = as_written(config.rms_eps);
  out["rope_scaling"] = nullptr;
  out["rope_theta"] = as_written(config.rope.theta);
  if (!llama) out["sliding_window"] = nullptr;
  out["tie_word_embeddings"] = config.tied_head;
  out["use_cache"] = true;
  out["vocab_size"] = config.n_vocab;
  return out;
}

/// The first guess at the rope's spelling; emit_rope keeps it if the engines compute from it what is wanted.
Json with_likely_rope(const Json& config, const ModelConfig& model, const RopeTarget& target) {
  constexpr int kLlama3Original = 8192;  // of every published Llama 3
  std::optional<Json> dictionary = rope_dictionary(target.spec);
  const std::vector<double>& divisors = target.spec.frequency_divisors;
  if (!dictionary && !divisors.empty())
    dictionary = Json{{"rope_type", "llama3"},
                      {"rope_theta", target.spec.theta},
                      {"factor", as_written(*std::max_element(divisors.begin(), divisors.end()))},
                      {"low_freq_factor", 1.0},
                      {"high_freq_factor", 4.0},
                      {"original_max_position_embeddings", target.spec.original_context.value_or(kLlama3Original)}};
  if (!dictionary) return config;
  const RopeRequest request{*dictionary, target.context, target.spec, target.context, {}};
  return config_with_rope(config, request, model);
}

struct Sampling {
  const char *key, *name;  // in the GGUF, in generation_config.json
};
constexpr std::array kSampling = {
    Sampling{"temp", "temperature"},
    Sampling{"top_k", "top_k"},
    Sampling{"top_p", "top_p"},
    Sampling{"min_p", "min_p"},
    Sampling{"penalty_repeat", "repetition_penalty"},
};
constexpr std::string_view kSamplingPrefix = "general.sampling.";

/// Ids from the vocabulary and general.sampling.*; keys of those that transformers has no name for go to `unsaid`.
std::string generation_config(const Source& source, std::vector<std::string>& unsaid) {
  Json out = Json::object();
  if (const std::optional<Vocabulary>& vocabulary = source.checkpoint.vocabulary) {
    if (vocabulary->bos) out["bos_token_id"] = *vocabulary->bos;
    std::vector<std::int64_t> ends;
    if (vocabulary->eos) ends.push_back(*vocabulary->eos);
    for (const char* key : {"tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"})
      if (const auto id = source.gguf->integer(key); id && *id < vocabulary->pieces.size())
        if (const auto end = static_cast<std::int64_t>(*id); std::find(ends.begin(), ends.end(), end) == ends.end())
          ends.push_back(end);
    if (ends.size() == 1) out["eos_token_id"] = ends.front();
    if (ends.size() > 1) out["eos_token_id"] = ends;
    if (vocabulary->pad) out["pad_token_id"] = *vocabulary->pad;
  }
  for (const GgufKey& key : source.gguf->keys) {
    if (!key.name.starts_with(kSamplingPrefix)) continue;
    const std::string name = key.name.substr(kSamplingPrefix.size());
    const auto known =
        std::find_if(kSampling.begin(), kSampling.end(), [&](const auto& row) { return row.key == name; });
    if (known == kSampling.end()) {
      unsaid.push_back(key.name);
      continue;
    }
    out["do_sample"] = true;
    if (std::holds_alternative<double>(key.value.value)) out[known->name] = as_written(*source.gguf->number(key.name));
    else out[known->name] = *source.gguf->integer(key.name);
  }
  return out.dump(2) + "\n";
}

void name_losses(const Source& source, const std::vector<std::string>& sampling, GgufFolder& out) {
  const auto lose = [&](const char* name, std::string reason) {
    out.losses.push_back({name, std::move(reason), std::nullopt, false});
  };
  lose("sliding_window",
       "a GGUF of architecture llama does not say whether its model had a sliding window: every token sees all before "
       "it, as in llama.cpp");
  const std::optional<Vocabulary>& vocabulary = source.checkpoint.vocabulary;
  if (vocabulary && source.tokenizer_folder.empty() && vocabulary->model != "unigram")
    lose("tokenizer.normalizer",
         "a GGUF does not say whether its tokenizer normalised text: text is taken as it stands, as in llama.cpp");
  if (!sampling.empty())
    lose("sampling", "transformers has no name for " + listed(sampling) + ": left out of generation_config.json");
  const auto blocks = std::count_if(source.base_tensors.begin(), source.base_tensors.end(),
                                    [](const TensorPtr& tensor) { return is_block_type(tensor->dtype()); });
  if (blocks > 0)
    lose("quantization",
         plural(static_cast<std::uint64_t>(blocks), "tensor") +
             " of the GGUF are quantized: written is what their blocks hold, not what they were made of");
}

}  // namespace

GgufFolder folder_of_gguf(const Source& source, const RopeTarget& rope, std::span<const EngineVersion> engines) {
  const ModelConfig& model = source.checkpoint.config;
  GgufFolder out;
  EmittedRope emitted = emit_rope(with_likely_rope(plain_config(source), model, rope), model, rope, engines);
  out.config = std::move(emitted.config);
  out.dialect = std::move(emitted.dialect);
  out.verdicts = std::move(emitted.verdicts);
  std::vector<std::string> warnings, sampling;
  read_hf_config(source.checkpoint.label, "", out.config, warnings);  // what cannot be read is not written
  out.files["generation_config.json"] = generation_config(source, sampling);
  name_losses(source, sampling, out);
  if (!source.checkpoint.vocabulary || !source.tokenizer_folder.empty()) return out;
  try {
    out.files.merge(tokenizer_files(*source.checkpoint.vocabulary, model.context));
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::unsupported) throw;
    out.losses.push_back({"tokenizer", error.problem() + "; " + error.fix(), std::nullopt, true});
  }
  return out;
}

}  // namespace ropewalk::formats
