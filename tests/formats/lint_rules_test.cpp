// Every rule of the table: where it must speak and where it must not. What engines do stands in tests/golden/rope (the
// case is named) or in the issue named; nothing expected here was computed by the rules themselves.
#include <set>

#include "tests/formats/lint_support.h"

namespace ropewalk::formats::lint_test {
namespace {

struct Case {
  std::string rule, config;
  std::optional<Severity> severity;  // nullopt: the rule must be silent
  std::string pointer = {};
  std::vector<std::string> engines = {};  // asked; empty: the newest of each
  std::optional<int> context = std::nullopt;
  std::string tokenizer_config = {}, generation_config = {};
  std::vector<std::string> hurt = {};  // engines that the finding names; empty: not compared
};

constexpr Severity E = Severity::error, W = Severity::warning, I = Severity::info;
const std::optional<Severity> kSilent = std::nullopt;

const std::string kQwen = R"({"model_type": "qwen2", "hidden_size": 3584, "num_attention_heads": 28,
  "max_position_embeddings": 32768, "rope_theta": 1000000.0})";
const std::string kMistral = R"({"model_type": "mistral", "hidden_size": 4096, "num_attention_heads": 32,
  "max_position_embeddings": 32768, "sliding_window": 4096})";
const std::string kYarn16 =
    R"({"max_position_embeddings": 65536, "rope_scaling": {"rope_type": "yarn", "factor": 16.0, "original_max_position_embeddings": 4096}})";
const std::string kYarn4 =
    R"({"max_position_embeddings": 16384, "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 4096}})";

/// `yarn`'s dictionary with more in it.
std::string yarn4(const std::string& more) {
  Json patch = Json::parse(kYarn4);
  patch["rope_scaling"].merge_patch(Json::parse(more));
  return llama(patch.dump());
}
std::string longrope(std::size_t entries, double first = 1) {
  Json list = Json::array();
  for (std::size_t i = 0; i < entries; ++i) list.push_back(i == 0 ? first : 1.0 + double(i));
  Json patch = {{"max_position_embeddings", 131072},
                {"original_max_position_embeddings", 4096},
                {"rope_scaling", {{"type", "longrope"}, {"short_factor", list}, {"long_factor", list}}}};
  return llama(patch.dump(), R"({"model_type": "phi3", "hidden_size": 3072})");  // 96 channels, 48 pairs
}

std::string llama3(double low, double high) {
  const Json dict = {{"rope_type", "llama3"},
                     {"factor", 8.0},
                     {"original_max_position_embeddings", 8192},
                     {"low_freq_factor", low},
                     {"high_freq_factor", high}};
  return llama(Json{{"max_position_embeddings", 65536}, {"rope_scaling", dict}}.dump());
}
const std::string kHunyuan = R"({"model_type": "hunyuan_v1_dense"})", kNeox = R"({"model_type": "gpt_neox"})";

std::vector<Case> cases() {
  const std::string gemma =
      R"({"model_type": "gemma3_text", "head_dim": 128, "num_hidden_layers": 2, "layer_types": ["full_attention", "sliding_attention"]})";
  return {
      // golden bad-no-type: transformers 5 and vllm run a plain rope
      {"R01", golden_config("bad-no-type"), E, "/rope_scaling"},
      {"R01", golden_config("bad-not-a-dict"), E, "/rope_scaling"},
      {"R01", llama(R"({"rope_parameters": {"rope_theta": 10000.0}})"), kSilent},
      // golden bad-conflict: ValueError in vllm-0.33.0
      {"R02", golden_config("bad-conflict"), E, "/rope_scaling/type"},
      {"R02", yarn4(R"({"type": "yarn"})"), kSilent},
      {"R02", llama(R"({"rope_scaling": {"type": "mrope", "rope_type": "default", "mrope_section": [16, 24, 24]}})"),
       kSilent},
      // llama.cpp of 2025-02 and transformers up to 4.42 read `type`
      {"R03",
       golden_config("linear4-rope-type"),
       E,
       "/rope_scaling/rope_type",
       {"transformers@4.42.4"},
       {},
       {},
       {},
       {"transformers 4.42.4"}},
      {"R03", golden_config("linear4-rope-type"), kSilent},
      {"R03", golden_config("linear4-type"), kSilent, "", {"transformers@4.42.4"}},
      // golden bad-unknown-type: an error in transformers, vllm and sglang
      {"R04", golden_config("bad-unknown-type"), E, "/rope_scaling/rope_type"},
      {"R04", llama(R"({"rope_scaling": {"rope_type": "yran", "factor": 2.0}})"), E, "/rope_scaling/rope_type"},
      {"R04", golden_config("llama3-31-8b"), kSilent},
      // golden v5-both-dialects: rope_scaling wins in transformers 5
      {"R05", golden_config("v5-both-dialects"), W, "/rope_scaling"},
      {"R05", golden_config("v5-yarn"), kSilent},
      {"R05",
       llama(
           R"({"rope_scaling": {"type": "linear", "factor": 4}, "rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0}})"),
       kSilent},
      // golden v5-scaling-loses-theta: transformers, vllm and sglang compute with 10000 (unsloth#7028); llama.cpp beside
      // transformers 4.57.6 reads rope_parameters
      {"R06",
       golden_config("v5-scaling-loses-theta"),
       W,
       "/rope_parameters/rope_theta",
       {},
       {},
       {},
       {},
       {"transformers 5.23.0", "vllm 0.33.0", "sglang 0.5.23", "exllamav2 0.3.2"}},
      {"R06", golden_config("v5-scaling-loses-theta"), E, "/rope_parameters/rope_theta", {"transformers"}},
      // golden v5-default in 4.57.6: theta 10000
      {"R06",
       golden_config("v5-default"),
       E,
       "/rope_parameters/rope_theta",
       {"transformers@4.57.6"},
       {},
       {},
       {},
       {"transformers 4.57.6"}},
      {"R06", golden_config("v5-default"), kSilent, "", {"transformers", "vllm", "sglang", "llama.cpp"}},
      {"R06", golden_config("plain-llama2-no-theta"), kSilent},
      // GPTNeoXConfig of transformers 5.23.0 reads its base under this name
      {"R06", llama(R"({"rope_theta": null, "rotary_emb_base": 25000})", R"({"model_type": "gpt_neox"})"), kSilent},
      // a class that may find it somewhere else: never an error
      {"R06",
       llama(R"({"rope_theta": null, "rope_parameters": {"rope_type": "default", "rope_theta": 1e7}})",
             R"({"model_type": "qwen3_next"})"),
       W,
       "/rope_parameters/rope_theta",
       {"transformers@4.57.6"}},
      {"E04", llama("{}", R"({"model_type": "mixtral"})"), E, "/max_position_embeddings", {"vllm"}, 8192},
      // its AutoConfig knows no such class (model_types.json): no guess by Llama's rules
      {"E01", llama("{}", R"({"model_type": "glm_moe_dsa"})"), E, "/model_type", {"transformers@4.57.6"}},
      {"E01", llama("{}", R"({"model_type": "glm_moe_dsa"})"), kSilent, "", {"transformers"}},
      // no layer_types: the classes' own names
      {"R10", llama(R"({"rope_parameters": {"full_attentionX": {"rope_type": "linear", "factor": 2.0}}})"), E,
       "/rope_parameters/full_attentionX"},
      {"R10",
       llama(R"({"rope_parameters": {"main": {"rope_type": "linear", "factor": 2.0}}})",
             R"({"model_type": "frobnicator"})"),
       kSilent},
      // golden v4-theta-twice, v5-theta-conflict
      {"R07", golden_config("v4-theta-twice"), E, "/rope_scaling/rope_theta"},
      {"R07", golden_config("v5-theta-conflict"), E, "/rope_parameters/rope_theta"},
      {"R07", golden_config("yarn-everywhere"), kSilent},
      // NousResearch/Yarn-Mistral-7b-64k: betas 128/2 and 0.07 in the code alone (reference of the YaRN repository)
      {"R08",
       llama(
           R"({"auto_map": {"AutoModelForCausalLM": "modeling_mistral_yarn.MistralForCausalLM"}, "sliding_window": 65536,
         "rope_scaling": {"factor": 8.0, "finetuned": true, "original_max_position_embeddings": 8192, "type": "yarn"}})",
           kMistral),
       E, "/auto_map"},
      {"R08",
       llama(
           R"({"auto_map": {"AutoModelForCausalLM": "modeling_own.Own"}, "rope_scaling": {"rope_type": "linear", "factor": 2.0}})"),
       I, "/auto_map"},
      // modeling_llama_together_yarn computes what transformers 5 does
      {"R08",
       llama(
           R"({"auto_map": {"AutoModelForCausalLM": "modeling_llama_together_yarn.LlamaForCausalLM"}, "max_position_embeddings": 65536,
         "rope_scaling": {"factor": 16.0, "original_max_position_embeddings": 4096, "type": "yarn", "finetuned": true}})"),
       kSilent,
       "",
       {"transformers", "vllm", "sglang", "llama.cpp"}},
      {"R08", golden_config("plain-llama2"), kSilent},
      {"R09", golden_config("yarn-original-conflict"), E, "/rope_scaling/original_max_position_embeddings"},
      {"R09", golden_config("yarn-original-top-level"), kSilent},
      // transformers 5.23: truncate beside the kinds of layers
      {"R10",
       llama(
           R"({"rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 1e6}, "sliding_attenton": {"rope_type": "default", "rope_theta": 1e4}}})",
           gemma),
       E, "/rope_parameters/sliding_attenton"},
      {"R10",
       llama(
           R"({"rope_parameters": {"full_attention": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1024, "rope_theta": 1e6, "truncate": false},
         "sliding_attention": {"rope_type": "default", "rope_theta": 1e4}}})",
           gemma),
       W, "/rope_parameters/full_attention/truncate"},
      {"R10", llama(R"({"rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 1e6}}})"), E,
       "/rope_parameters"},
      // a class that builds one rope runs a plain one, whatever layer_types says; null is a kind without a rope
      {"R10", llama(R"({"rope_parameters": {"full_attention": {"rope_type": "yarn", "factor": 16.0}},
                 "layer_types": ["full_attention"], "num_hidden_layers": 1})"),
       E, "/rope_parameters"},
      {"R10", R"({"model_type": "llama", "hidden_size": 4096, "num_attention_heads": 32, "rope_parameters":
                  {"full_attention": null}})",
       E, "/rope_parameters"},
      {"R10", golden_config("v5-gemma3-nested"), kSilent},
      {"R11", yarn4(R"({"atention_factor": 1.2})"), W, "/rope_scaling/atention_factor"},
      {"R11", yarn4(R"({"facter": 4.0})"), W, "/rope_scaling/facter"},  // beside the factor
      {"R11", golden_config("yarn-everywhere"), kSilent},
      {"R12", R"({"model_type": "llama", "time_step_limit": [0.0, Infinity]})", I, ""},
      {"R12", R"({"model_type": "llama", "name": "NaN, or Infinity"})", kSilent},
      // transformers 5.23.0 on these: ValueError in validate_layer_type, TypeError of the field, AttributeError ('get')
      {"R13", llama(R"({"layer_types": ["full_attention", "full_attention"]})"), E, "/layer_types"},
      {"R13", llama(R"({"layer_types": "full_attention"})", R"({"model_type": "qwen3"})"), E, "/layer_types"},
      {"R13", llama(R"({"rope_parameters": {"full_attention": 5}})", gemma), E, "/rope_parameters/full_attention"},
      {"R13", llama(R"({"num_hidden_layers": 3})", gemma), E, "/layer_types"},
      {"R13", llama("{}", gemma), kSilent},
      {"R13", llama(R"({"layer_types": null})"), kSilent},
      // AutoConfig of transformers 5.23.0 on these: ValueError, Unrecognized model; ValueError, does not recognize (both)
      {"R14", llama(R"({"model_type": null})"), E, ""},
      {"R14", llama(R"({"model_type": 5})"), E, "/model_type"},
      {"R14", llama(R"({"model_type": "frobnicator"})"), W, "/model_type"},
      {"R14", llama(R"({"model_type": "frobnicator", "auto_map": {"AutoConfig": "configuration_frob.Frob"}})"),
       kSilent},
      {"R14", llama(R"({"model_type": "olmo2"})"), kSilent},
      {"R14", R"({"model_type": "llava", "text_config": {"hidden_size": 4096, "num_attention_heads": 32}})", kSilent},
      // golden linear-string, yarn-string, linear-no-factor, linear-half
      {"R20", golden_config("linear-string"), E, "/rope_scaling/factor"},
      {"R20", golden_config("yarn-string"), E, "/rope_scaling/factor"},
      {"R20", golden_config("linear-no-factor"), E, "/rope_scaling"},
      {"R20", golden_config("linear-half"), E, "/rope_scaling/factor"},
      {"R20", golden_config("llama3-missing-high"), E, "/rope_scaling"},
      {"R20", R"({"model_type": "llama", "rope_scaling": {"type": "linear", "factor": NaN}})", E, ""},
      // golden linear4-int: TypeError in every vllm and sglang, fine in transformers since 4.43
      {"R20",
       golden_config("linear4-int"),
       W,
       "/rope_scaling/factor",
       {},
       {},
       {},
       {},
       {"vllm 0.33.0", "sglang 0.5.23"}},
      {"R20", llama3(-1, 4), E, "/rope_scaling/low_freq_factor"},
      {"R20", llama3(0, 4), E, "/rope_scaling/low_freq_factor"},
      {"R20", llama3(1, 4), kSilent},
      {"R20", llama3(4, 4), kSilent},  // Llama 4 Scout's step
      {"R20", llama(R"({"rope_scaling": {"type": "dynamic", "alpha": -5.0}})", kHunyuan), E, "/rope_scaling/alpha"},
      {"R20", llama(R"({"rope_scaling": {"type": "dynamic", "alpha": 1e308}})", kHunyuan), E, "/rope_scaling/alpha"},
      {"R20", llama(R"({"rope_scaling": {"type": "dynamic", "alpha": 1000.0}})", kHunyuan), kSilent},
      {"R20", llama(R"({"rotary_pct": "0.25"})", kNeox), E, "/rotary_pct"},
      {"R20", llama(R"({"rotary_pct": 2.0})", kNeox), E, "/rotary_pct"},
      {"R20", llama(R"({"rotary_pct": 0.25})", kNeox), kSilent},
      {"R20", llama(R"({"rotary_pct": 2.0})"), W, "/rotary_pct"},  // no key of llama's
      {"R20", llama(R"({"rope_local_base_freq": "10000"})", R"({"model_type": "gemma3_text"})"), E,
       "/rope_local_base_freq"},
      {"R20", llama(R"({"rope_local_base_freq": 10000.0})", R"({"model_type": "gemma3_text"})"), kSilent},
      {"R20", golden_config("linear4-int"), E, "/rope_scaling/factor", {"vllm@0.8.5"}},
      {"R20", golden_config("linear4-int"), kSilent, "", {"transformers"}},
      {"R20", golden_config("yarn-beta-int"), kSilent},
      // golden yarn-phi3: transformers and sglang read it as longrope
      {"R20", golden_config("yarn-phi3"), kSilent},
      {"E01", golden_config("bad-not-a-dict"), kSilent},  // R01 says it
      // golden longrope-attention-factor: the same 1.190 in vllm-0.33.0 and sglang-0.5.23
      {"E03",
       golden_config("longrope-attention-factor"),
       E,
       "/rope_scaling",
       {"vllm", "sglang"},
       {},
       {},
       {},
       {"vllm 0.33.0", "sglang 0.5.23"}},
      // golden yarn-no-original: KeyError in vllm 0.12 and llama.cpp's converter, M in transformers 5
      {"R21", golden_config("yarn-no-original"), W, "/rope_scaling"},
      {"R21", golden_config("yarn-no-original"), E, "/rope_scaling", {"vllm@0.12.0"}, {}, {}, {}, {"vllm 0.12.0"}},
      {"R21", yarn4(R"({"original_max_position_embeddings": 0})"), E, "/rope_scaling/original_max_position_embeddings"},
      {"R21", yarn4(R"({"original_max_position_embeddings": 40960})"), W,
       "/rope_scaling/original_max_position_embeddings"},
      // Qwen3 was trained at 32768 (model card)
      {"R21",
       llama(R"({"model_type": "qwen3", "head_dim": 128, "max_position_embeddings": 163840, "rope_theta": 1000000.0,
         "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 40960}})"),
       I, "/rope_scaling/original_max_position_embeddings"},
      {"R21", golden_config("yarn-qwen3-recipe"), kSilent},
      // golden yarn-qwen25-recipe: vllm-0.33.0 and sglang-0.5.23 serve 32768 (sglang#2943)
      {"R22", golden_config("yarn-qwen25-recipe"), W, "/max_position_embeddings"},
      {"R22", golden_config("yarn-qwen25-recipe-extended"), kSilent},
      {"R22", golden_config("yarn-qwen25-recipe"), I, "/max_position_embeddings", {"vllm@0.24.0"}},
      // golden linear4-extended: vllm and sglang serve 65536 of a model extended to 16384
      {"R23",
       llama(
           R"({"vocab_size": 32000, "max_position_embeddings": 16384, "rope_scaling": {"type": "linear", "factor": 4.0}})"),
       W,
       "/max_position_embeddings",
       {},
       {},
       {},
       {},
       {"vllm 0.33.0", "sglang 0.5.23"}},
      {"R23", llama(R"({"vocab_size": 32000, "rope_scaling": {"type": "linear", "factor": 4.0}})"), kSilent},
      // golden yarn-beta-128-2: llama.cpp computes 32/1; yarn-beta-swapped, yarn-beta-zero
      {"R24",
       golden_config("yarn-beta-128-2"),
       W,
       "/rope_scaling/beta_fast",
       {},
       {},
       {},
       {},
       {"llama.cpp 0.5.0", "exllamav2 0.3.2"}},
      {"R24", golden_config("yarn-beta-128-2"), kSilent, "", {"transformers", "vllm", "sglang"}},
      {"R24", golden_config("yarn-beta-swapped"), W, "/rope_scaling/beta_fast"},
      {"R20", golden_config("yarn-beta-zero"), E, "/rope_scaling/beta_slow"},
      {"R24", golden_config("yarn-everywhere"), kSilent},
      // golden yarn-attention-factor: sglang and llama.cpp keep 1.277; yarn-attn-factor; R1-0528-Qwen3-8B (DeepSeek-R1#684)
      {"R25",
       golden_config("yarn-attention-factor"),
       W,
       "/rope_scaling/attention_factor",
       {},
       {},
       {},
       {},
       {"sglang 0.5.23", "llama.cpp 0.5.0", "exllamav2 0.3.2"}},
      {"R25", golden_config("yarn-r1-qwen3-attn-factor"), W, "/rope_scaling/attn_factor"},
      {"R25",
       golden_config("yarn-attn-factor"),
       E,
       "/rope_scaling/attn_factor",
       {"vllm@0.33.0"},
       {},
       {},
       {},
       {"vllm 0.33.0"}},
      {"R25", golden_config("yarn-attn-factor"), kSilent, "", {"vllm@0.24.0", "sglang"}},
      {"R25", golden_config("yarn-both-attn"), kSilent, "", {"transformers", "vllm", "sglang"}},
      {"R25", yarn4(R"({"attention_factor": 1.0, "attn_factor": 1.0})"), W, "/rope_scaling/attn_factor"},
      // golden yarn-mscale-equal: 1 in transformers, 1.139 in llama.cpp (exllamav3#259)
      {"R26", golden_config("yarn-mscale-equal"), W, "/rope_scaling/mscale"},
      {"R26", golden_config("yarn-mscale-ratio"), kSilent},
      // golden longrope-wrong-length: an error in transformers, vllm and sglang
      {"R27", golden_config("longrope-wrong-length"), E, "/rope_scaling/short_factor"},
      {"R27", longrope(48, -1), E, "/rope_scaling/short_factor"},
      // Llama 4 Scout has 1 and 1 (golden of published files)
      {"R20", llama(R"({"rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 4.0,
         "high_freq_factor": 1.0, "original_max_position_embeddings": 4096}})"),
       E, "/rope_scaling/high_freq_factor"},
      {"R27", longrope(48, 1e308), E, "/rope_scaling/short_factor"},
      {"R27", longrope(48), kSilent},
      // golden yarn-truncate-false: llama.cpp rounds
      {"R28", golden_config("yarn-truncate-false"), W, "/rope_scaling/truncate"},
      {"R28", golden_config("yarn-truncate-false"), kSilent, "", {"transformers", "vllm", "sglang"}},
      {"R28", golden_config("yarn-truncate-false"), E, "/rope_scaling/truncate", {"llama.cpp"}},
      {"R29", golden_config("yarn-factor-1"), W, "/rope_scaling/factor"},
      {"R29", golden_config("yarn-factor-3"), kSilent},
      // Kimi-K2's betas 1 and 1
      {"R30", yarn4(R"({"beta_fast": 1.0, "beta_slow": 1.0})"), kSilent},  // floor and ceil are a pair apart
      {"R30", yarn4(R"({"beta_fast": 4000.0, "beta_slow": 3000.0})"), W, "/rope_scaling"},
      // hi = 35 of 32 pairs: d 64, theta 1e4, original 131072 (keras-hub#2981)
      {"R30", llama(R"({"hidden_size": 2048, "max_position_embeddings": 524288,
         "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 131072}})"),
       I, "/rope_scaling"},
      {"R30", golden_config("yarn-llama2-7b-64k"), kSilent},
      {"R31", llama(R"({"partial_rotary_factor": 1.5})"), E, "/partial_rotary_factor"},
      {"R31", llama(R"({"partial_rotary_factor": 1e-9})"), E, "/partial_rotary_factor"},  // none of 128 channels
      {"R31", llama(R"({"partial_rotary_factor": 0.5})"), kSilent},
      // LlamaConfig has 4096 and 32 of its own, whatever the weights are
      {"R31", llama(R"({"hidden_size": null})"), W, ""},
      {"R31", llama(R"({"hidden_size": null, "head_dim": 128})"), kSilent},
      {"R31", llama(R"({"hidden_size": 4000})"), E, "/hidden_size"},  // 125 channels
      // golden plain-llama-head-dim in 4.43.4: 128 channels of 96
      {"R31", golden_config("plain-llama-head-dim"), E, "/head_dim", {"transformers@4.43.4"}},
      {"R31", golden_config("plain-llama-head-dim"), kSilent, "", {"transformers@4.45.2"}},
      {"R31", golden_config("plain-llama2"), kSilent},
      // unsloth#7028
      {"R32",
       llama(
           R"({"vocab_size": 128256, "rope_theta": 500000.0, "max_position_embeddings": 131072, "rope_scaling": {"rope_type": "linear", "factor": 2.0}})"),
       W, "/rope_scaling"},
      {"R32", golden_config("llama3-31-8b"), kSilent},
      {"R33", llama(R"({"rope_theta": 1e308})"), E, "/rope_theta"},
      {"R33", llama(R"({"rope_theta": "10000"})"), E, "/rope_theta"},
      {"R33", llama(R"({"rope_theta": 1000000})"), kSilent},
      // Yarn-Mistral sets sliding_window to the new context
      {"R40",
       llama(R"({"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 8192}})",
             kMistral),
       W, "/sliding_window"},
      {"R40",
       llama(
           R"({"sliding_window": 32768, "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 8192}})",
           kMistral),
       kSilent},
      {"R40", llama("{}", kMistral), kSilent},
      {"R40",
       llama(
           R"({"use_sliding_window": false, "sliding_window": 32768, "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}})",
           kQwen),
       I, "/sliding_window"},
      {"R41", llama(kYarn16), W, "/model_max_length", {}, {}, R"({"model_max_length": 4096})"},
      {"R41", llama(kYarn16), kSilent, "", {}, {}, R"({"model_max_length": 1000000000000000019884624838656})"},
      {"R42", llama(kYarn16), W, "/max_length", {}, {}, {}, R"({"max_length": 4096})"},
      {"R42", llama(kYarn16), kSilent, "", {}, {}, {}, R"({"max_length": 65536})"},
      {"R42", llama(R"({"max_sequence_length": 2048})"), W, "/max_sequence_length"},
      {"R44", golden_config("dynamic4-type"), I, "/rope_scaling/type"},
      {"R44", golden_config("linear4-type"), kSilent},
      {"R45", golden_config("longrope-phi3"), I, "/rope_scaling/type"},
      {"R45", golden_config("longrope-phi3"), kSilent, "", {}, 4096},
      {"R46", llama("{}"), I, "/max_position_embeddings", {}, 4096},
      {"R46", llama("{}"), kSilent},
      {"R47", llama(R"({"dual_chunk_attention_config": {"chunk_size": 262144}})", kQwen), W,
       "/dual_chunk_attention_config"},
      {"R47", llama(R"({"use_logn_attn": false})"), kSilent},
      {"R48", yarn4("{}"), I, "/rope_scaling", {"llama.cpp@2025-02"}},
      {"R48", yarn4(R"({"finetuned": true})"), kSilent, "", {"llama.cpp@2025-02"}},
      {"R49", llama(R"({"max_position_embeddings": 4096.0})"), W, "/max_position_embeddings"},
      {"R49", llama(R"({"max_position_embeddings": 33554432})"), W, "/max_position_embeddings"},
      {"R49", llama(R"({"max_position_embeddings": "4096"})"), E, "/max_position_embeddings"},
      {"R49", llama("{}"), kSilent},
      // NTK-aware alpha 16 on Llama 2: 2.11; no scaling: 16; PI and YaRN: 1 (rope.md, S1)
      {"S1", llama("{}"), W, "/max_position_embeddings", {}, 65536},
      {"S1", llama(R"({"rope_scaling": {"type": "dynamic", "alpha": 16.0, "factor": 1.0}})"), W, "", {"vllm"}, 65536},
      {"S1", llama(kYarn16), kSilent, "", {}, 65536},
      {"S1", llama(kYarn16), W, "/rope_scaling", {}, 131072},
      {"S1", golden_config("llama3-31-8b"), kSilent},
      {"S2", golden_config("linear4-type"), I, "/rope_scaling"},
      {"S2", llama(kYarn16), kSilent},
      {"S3", golden_config("yarn-attention-factor"), I, "/rope_scaling"},
      {"S3", llama(kYarn16), kSilent},
      // golden longrope-phi3-su: an error in transformers, vllm and sglang of today
      {"E01", golden_config("longrope-phi3-su"), W},
      {"E01", golden_config("longrope-phi3-su"), E, "", {"sglang"}},
      {"E01", golden_config("yarn-everywhere"), kSilent, "", {"transformers", "vllm", "sglang", "llama.cpp"}},
      // golden dynamic4-type: a plain rope in vllm-0.33.0
      {"E02", golden_config("dynamic4-type"), E, "/rope_scaling", {"vllm"}, {}, {}, {}, {"vllm 0.33.0"}},
      {"E02", golden_config("yarn-everywhere"), kSilent, "", {"transformers", "vllm", "sglang", "llama.cpp"}},
      // golden yarn-qwen25-recipe: a no-op in transformers 4.51 to 4.55 (transformers#38224)
      {"E02", golden_config("yarn-qwen25-recipe"), E, "/rope_scaling", {"transformers@4.51.3"}},
      // golden longrope-attention-factor: 1.25 in transformers, 1.190 in vllm and sglang
      {"E03",
       golden_config("longrope-attention-factor"),
       E,
       "/rope_scaling",
       {"sglang"},
       {},
       {},
       {},
       {"sglang 0.5.23"}},
      {"E03", golden_config("longrope-phi3"), kSilent, "", {"sglang"}},
      // golden longrope-phi3: vllm-0.33.0 serves 4096 by itself; yarn-qwen25-recipe: ValueError beyond 32768
      {"E04", golden_config("longrope-phi3"), W, "/max_position_embeddings", {}, {}, {}, {}, {"vllm 0.33.0"}},
      {"E04", golden_config("plain-llama2"), E, "/max_position_embeddings", {"vllm"}, 8192},
      {"E04", golden_config("plain-llama2"), kSilent, "", {"vllm"}, 4096},
  };
}

TEST(LintRules, EachSpeaksWhereItMustAndNowhereElse) {
  for (const Case& one : cases()) {
    const std::vector<Finding> findings =
        lint(input_of({one.config, one.tokenizer_config, one.generation_config}), asked(one.engines, one.context));
    SCOPED_TRACE(one.rule + " on " + one.config + "\n" + in_words(findings));
    const Finding* found = find(findings, one.rule);
    // of several places the one expected
    for (const Finding& finding : findings)
      if (one.severity && finding.rule == one.rule && finding.pointer == one.pointer) found = &finding;
    if (!one.severity) {
      EXPECT_EQ(found, nullptr);
      continue;
    }
    EXPECT_NE(found, nullptr);
    if (!found) continue;
    EXPECT_EQ(severity_name(found->severity), std::string(severity_name(*one.severity)));
    if (!one.pointer.empty()) {
      EXPECT_EQ(found->pointer, one.pointer);
    }
    if (!one.hurt.empty()) {
      EXPECT_EQ(found->engines, one.hurt);
    }
    EXPECT_GE(found->line, 1);
    EXPECT_GE(found->column, 1);
    EXPECT_FALSE(found->fix.empty());
  }
}

/// Rules with cases elsewhere: R00 and R43 in lint_files_test, R34 in lint_refusal_test, G01 and on in lint_gguf_test.
TEST(LintRules, NoneIsWithoutCases) {
  std::set<std::string> speaks, silent;
  for (const Case& one : cases()) (one.severity ? speaks : silent).insert(one.rule);
  for (const LintRule& rule : lint_rules()) {
    if (rule.id == "R00" || rule.id == "R34" || rule.id == "R43" || rule.id.starts_with("G")) continue;
    EXPECT_TRUE(speaks.contains(std::string(rule.id))) << rule.id << " has no case in which it speaks";
    EXPECT_TRUE(silent.contains(std::string(rule.id))) << rule.id << " has no case in which it is silent";
  }
  std::set<std::string_view> ids, names;
  for (const LintRule& rule : lint_rules()) {
    EXPECT_TRUE(ids.insert(rule.id).second && names.insert(rule.name).second) << rule.id;
    EXPECT_TRUE(rule.why.ends_with('.')) << rule.id;
  }
}

}  // namespace
}  // namespace ropewalk::formats::lint_test
