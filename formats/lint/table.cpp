// The rules' own words; docs/lint.md is made of them.
#include <algorithm>
#include <array>

#include "formats/lint/lint.h"

namespace ropewalk::formats {
namespace {

constexpr Severity kInfo = Severity::info, kWarning = Severity::warning, kError = Severity::error;

// clang-format off: a table of texts
constexpr std::array kRules = {
    LintRule{
        "R00", "unreadable", kError, false, "a file of the folder is not JSON",
        "A file that no parser reads, or in which a key stands twice. Python's parser takes the last of two equal "
        "keys without a word, others the first or none. NaN and Infinity are taken as Python takes them (R12, R20).",
        ""},
    LintRule{"R01", "no-rope-type", kError, false, "a rope dictionary without rope_type or type",
             "transformers 4.43 to 4.57 raise KeyError, transformers 5 takes the rope for a plain one without a word, "
             "vllm 0.12 raises ValueError. A rope_scaling that is no dictionary at all fails everywhere.",
             "transformers#39847"},
    LintRule{
        "R02", "conflicting-types", kError, false, "type and rope_type name different methods",
        "In transformers 4.43 to 4.57 type wins in most classes (not in Mistral, Gemma 3 and Olmo 3), in 5 rope_type "
        "does; vllm from 0.21 raises ValueError, exllamav2 "
        "AssertionError. su beside longrope and mrope beside default are old names of the same.",
        "vllm#28542"},
    LintRule{
        "R03", "one-spelling", kError, true, "an engine reads only the other spelling of the type",
        "transformers up to 4.42 and llama.cpp's converter of 2025-02 read type alone: with rope_type the scaling is "
        "dropped or the file refused. Both together are right for every other engine but exllamav2 0.3.2, which "
        "refuses a file with both.",
        "llama.cpp#13322, llama.cpp#18013"},
    LintRule{
        "R04", "unknown-type", kError, false, "a rope type that no engine knows",
        "transformers raises KeyError, vllm and sglang ValueError; llama.cpp's converter writes no scaling and says "
        "so in a warning at most. What only one engine does not know is found by E01 and E02.",
        "TGI#1320"},
    LintRule{"R05", "both-dialects", kWarning, false, "rope_scaling and rope_parameters differ",
             "transformers 5 replaces rope_parameters by rope_scaling whole, base included. llama.cpp's converter lets "
             "rope_parameters win beside transformers 4 and rope_scaling beside 5, exllamav3 reads rope_scaling.",
             "transformers#39847, unsloth#7028"},
    LintRule{
        "R06", "theta-not-found", kError, true, "an engine does not find rope_theta and takes its default",
        "transformers 5 moved rope_theta into rope_parameters. Tools of 4.x then use 10000 in silence, and a "
        "rope_scaling that is added to a file of version 5 without rope_theta resets it: perplexity went from 10 to "
        "11,316 at position 7,800. Written in both places the base is found by everyone.",
        "unsloth#7028, vllm#42624, vllm#44158, MarinFold#184, sglang#14745, DeepSpeed#8341"},
    LintRule{
        "R07", "two-thetas", kError, false, "rope_theta differs between the top level and the rope dictionary",
        "transformers 5, vllm and sglang of today read the dictionary's, transformers 4, vllm 0.12 and ExLlama the "
        "top level's. Whichever is right, some engine computes every frequency wrong.",
        "mergekit#325"},
    LintRule{
        "R08", "remote-code", kError, true, "the model's own code computes another rope than its config.json says",
        "auto_map names Python files that only transformers runs, and only with trust_remote_code. "
        "NousResearch/Yarn-Mistral-7b-* were trained with betas 128 and 2 and an attention factor of 0.07 ln(s) + 1, "
        "which stand in modeling_mistral_yarn.py alone: read as a generic YaRN 33 of 64 frequencies are wrong (by up "
        "to "
        "3.4 times) and attention is 14 % too sharp. For code that is not recognised this is information only.",
        "vllm#2945, vllm#1264, exllamav2#641"},
    LintRule{
        "R09", "two-originals", kError, false, "the original context differs between the top level and the dictionary",
        "transformers 5 and vllm take the top level's, transformers 4.51 to 4.57, sglang's qwen3 and llama.cpp the "
        "dictionary's. YaRN's ramp moves with it.",
        ""},
    LintRule{
        "R10", "nested-rope", kError, false, "a rope per kind of layer that nothing reads, or only in part",
        "Classes that build a rope for each kind of layer (Gemma 3) take the dictionaries named in layer_types; others "
        "are never looked at. To most classes the outer dictionary is the rope, and it has no type: llama, mistral and "
        "phi3 run a plain one in silence, qwen and gpt_oss stop. truncate is read beside the kinds "
        "of layers, not inside them (transformers 5.23), and is then ignored.",
        "transformers#42189"},
    LintRule{"R11", "misspelt-key", kWarning, false, "a key of a rope dictionary that looks like a known one",
             "transformers only warns of unrecognised keys, others say nothing. The value is without effect.",
             "transformers#42189, DeepSeek-R1#684"},
    LintRule{
        "R12", "not-finite", kInfo, false, "NaN or Infinity outside the rope",
        "Python writes and reads them; the JSON of RFC 8259 does not have them, and readers in other languages refuse "
        "the whole file.",
        ""},
    LintRule{
        "R13", "layer-types", kError, false, "layer_types, or the rope of one kind of layer, is not what it has to be",
        "layer_types names a kind for each of num_hidden_layers layers, and rope_parameters has a dictionary, or null, "
        "for a kind. transformers from 5.4, and vllm and sglang with it, refuse any other file, llama and mistral "
        "included, whose layers are all alike.",
        ""},
    LintRule{
        "R14", "model-type", kError, false, "model_type is missing, no text, or of no class that transformers has",
        "AutoConfig looks the class up by it and raises ValueError; vllm, sglang and llama.cpp's converter read "
        "through "
        "AutoConfig. A type of the model's own needs an auto_map that names its code: without one this is a warning, "
        "since engines may know the architecture all the same.",
        ""},
    LintRule{
        "R20", "bad-number", kError, true, "a number of the rope is missing, quoted, below 1 or of the wrong kind",
        "A factor in quotes, below 1 or missing fails or turns positions the wrong way in every engine. An integer "
        "factor of a linear rope is a TypeError in every vllm and sglang ('int' object is not iterable), and a "
        "ValueError in transformers up to 4.42; write 4.0. An attention factor is finite and above 0, also where "
        "mscale makes it. Betas are rotations above 0: transformers takes 0 for the default, vllm, sglang and "
        "exllamav3 "
        "divide by it, and below 0 there is no logarithm.",
        "vllm#1264, llama3#299, llama3#319"},
    LintRule{"R21", "original-context", kError, true,
             "the original context is missing, no length, or not the base model's",
             "Without it transformers, vllm 0.21 and later and sglang from 0.5.4 take max_position_embeddings, which "
             "is often the extended length already (the ramp then moves: Qwen's worst frequency is off 2.2 times at "
             "131072); llama.cpp's converter and older engines raise KeyError. Qwen3 was trained at 32768 although its "
             "max_position_embeddings is 40960.",
             "exllamav2#642, transformers#38224, vllm#4930"},
    LintRule{"R22", "factor-and-lengths", kWarning, true, "factor x original is not max_position_embeddings",
             "What is served by default then depends on the engine: vllm up to 0.28 original x factor, vllm from 0.29, "
             "sglang and llama.cpp max_position_embeddings. transformers 4.51 to 4.55 and exllamav3 take the ratio of "
             "the lengths for the factor: with Qwen2.5's recipe s is 1, with Qwen3's 1.25. Model cards that leave "
             "max_position_embeddings alone mean it so; the length must then be given when the engine is started.",
             "transformers#38224, transformers#40320, sglang#2943, vllm#16757"},
    LintRule{"R23", "extended-twice", kWarning, true, "linear or dynamic with max_position_embeddings extended already",
             "For these methods max_position_embeddings is the original context: vllm and sglang multiply it by the "
             "factor, and transformers' dynamic starts scaling only beyond it.",
             "vllm#2565, vllm#3676, vllm#10537"},
    LintRule{
        "R24", "betas", kWarning, true, "betas that run backwards, or that an engine does not read",
        "llama.cpp's loader reads yarn_beta_* for grok and mistral3 alone and runs 32 and 1 elsewhere, whatever the "
        "GGUF says; exllamav2 has 32 and 1 built in.",
        "llama.cpp#17945"},
    LintRule{
        "R25", "attention-factor", kWarning, true, "attention_factor and attn_factor: each is read by some engines",
        "transformers and vllm from 0.31 read attention_factor, the whole multiplier; sglang and vllm up to 0.28 "
        "attn_factor, a multiplier of 0.1 ln(s) + 1. Copied from one to the other it is squared (1.485 became 2.206, "
        "GSM8K lost 20 points). Both together, attn_factor = attention_factor / (0.1 ln(s) + 1), are right everywhere "
        "but in llama.cpp, where only a GGUF's rope.scaling.attn_factor works.",
        "vllm#46280, vllm#48351, sglang#33558, DeepSeek-R1#684, llama.cpp#17644, llama.cpp#17945"},
    LintRule{
        "R26", "equal-mscales", kWarning, true, "mscale = mscale_all_dim without latent attention",
        "The ratio of the two is 1: transformers from 4.51, vllm from 0.31 and sglang from 0.5.18 drop YaRN's "
        "attention factor, others keep it. DeepSeek's latent attention makes up for it in the softmax scale, plain "
        "attention does not.",
        "exllamav3#259, transformers#47435, llama.cpp#22612"},
    LintRule{"R27", "longrope-lists", kError, false, "short_factor or long_factor does not fit the head",
             "One divisor a pair: rotary channels / 2 of them, above 0. Lists that fall or go below 1 are possible and "
             "rare.",
             "llama.cpp#8262"},
    LintRule{
        "R28", "truncate", kWarning, true, "truncate: false, which an engine cannot say",
        "The YaRN range is then not rounded to whole pairs (gpt-oss). transformers reads it from 4.55, vllm from 0.12, "
        "sglang from 0.5.4; llama.cpp and exllamav2 round: 9 of 32 frequencies differ, by up to 1.76 times.",
        "vllm#27722, vllm#28244, sglang#14270, keras-hub#2981"},
    LintRule{"R29", "factor-of-one", kWarning, false, "yarn that scales nothing",
             "A factor of 1 leaves every frequency as it is. transformers 4.51 to 4.55 get there by themselves when "
             "max_position_embeddings is the original context.",
             "transformers#38224"},
    LintRule{
        "R30", "ramp", kWarning, false, "YaRN's ramp is empty, or ends past the last pair",
        "Between the betas' pairs frequencies are blended. An empty ramp is a step, in which engines differ (0.001 is "
        "added in Python, ggml takes the larger of 0.001 and the width); past the last pair no frequency is divided by "
        "the whole factor.",
        "keras-hub#2981"},
    LintRule{
        "R31", "rotated-channels", kError, true, "an impossible share or number of rotated channels",
        "Channels rotate in pairs, partial_rotary_factor is in (0, 1]. transformers up to 4.43 and others ignore "
        "head_dim and rotate hidden_size / num_attention_heads channels. Heads and channels are whole numbers above 0; "
        "where there is no head_dim the division must come out (transformers refuses llama otherwise).",
        ""},
    LintRule{"R32", "scaled-twice", kWarning, false, "a second scaling over a base that has its own",
             "Llama 3.1 and later are extended by llama3 from 8192 tokens. A linear or yarn in its place over 131072 "
             "undoes that: composing needs the product, not the replacement.",
             "unsloth#7028, LongLoRA#113, unsloth-zoo#1073"},
    LintRule{
        "R33", "theta", kError, false, "rope_theta is no base",
        "A number above 1 is needed: 1 turns all pairs alike, and beyond float32 all but the first stand still. null "
        "stops transformers, vllm and sglang where no other place has the base.",
        ""},
    LintRule{"R34", "unreadable-rope", kError, false, "nobody can say which rope the file means",
             "ropewalk rope refuses the file with these words, and so does every command that turns by its rope. Said "
             "where no other rule finds an error.",
             ""},
    LintRule{
        "R40", "sliding-window", kError, true, "every layer sees less than the context that is served",
        "A window of 4096 left in an extended Mistral hides everything further back from each layer, whatever the "
        "rope. "
        "Yarn-Mistral sets it to the new context. Models that mix sliding and full layers are not meant. A window in "
        "quotes is refused by every class of transformers that checks its fields, and one below 1 leaves the mask "
        "nothing to see.",
        ""},
    LintRule{"R41", "tokenizer-limit", kWarning, false, "tokenizer_config.json allows less than the model",
             "vllm serves the smaller of the two (but for yarn up to 0.28), transformers warns of every longer text.",
             "vllm#16757"},
    LintRule{"R42", "other-lengths", kWarning, true, "other names of the length say something else",
             "SGLang takes the first of max_sequence_length, seq_length, max_seq_len and model_max_length, ExLlamaV2 "
             "max_sequence_length, vllm the smallest of all. generate() stops at generation_config's max_length.",
             "sglang#2943, vllm#2565"},
    LintRule{
        "R43", "stored-tables", kInfo, false, "the weights hold a table or mask of fewer positions",
        "Learned position tables (GPT-2) end where they end; causal masks stored as buffers (GPT-NeoX, GPT-J) are cut "
        "to size by old code, which then fails or sees too little.",
        ""},
    LintRule{
        "R44", "dynamic", kInfo, false, "a dynamic rope, whose base moves with the text",
        "Cached keys were turned by the base of their time; transformers 5.0 never went back after a long prompt; vllm "
        "and sglang used one base for all lengths, and vllm from 0.21 does nothing at all.",
        "transformers#25104, transformers#24653, transformers#46624, vllm#5093, vllm#3488, vllm#55910"},
    LintRule{
        "R45", "longrope-crossing", kInfo, false, "longrope changes its list within the context served",
        "transformers chooses by the text's length and drops its cache at the crossing, vllm from 0.12 and llama.cpp "
        "once by the context they are started with, sglang by batch. The same prompt gets other logits.",
        "llama.cpp#8995, llama.cpp#24875, llama.cpp#6849, llama.cpp#7225, onnxruntime-genai#1161, mlc#3375"},
    LintRule{"R46", "cache-size", kInfo, false, "bytes of keys and values at the context asked for",
             "2 x layers x heads of keys x channels a token. Shown with -c.", ""},
    LintRule{"R47", "not-carried", kWarning, false, "attention changes beside the rope that most engines leave out",
             "Dual-chunk attention (Qwen2.5-1M), log-n scaling (Qwen 1) and position-dependent query scaling "
             "(llama_4_scaling_beta) are no rope scaling and are not converted with it. In ministral3, which reads "
             "llama_4_scaling_beta, it is a note; so are the pairs of latent attention (rope_interleave), "
             "and llama_4_scaling and apply_yarn_scaling, which come from Mistral's params.json.",
             ""},
    LintRule{"R48", "finetuned", kInfo, false, "no `finetuned` for llama.cpp's legacy converter",
             "examples/convert_legacy_llama.py of 2025-02 reads it without a default.", "llama.cpp#10698"},
    LintRule{"R49", "context-length", kWarning, false,
             "max_position_embeddings is no whole number, or more than float32 counts",
             "Positions are float32 in every engine's table: above 16777216 neighbours are equal. null is no length: "
             "transformers, vllm, sglang and llama.cpp's converter stop at it.",
             ""},
    LintRule{
        "S1", "unseen-angles", kWarning, false, "slow pairs are turned further than training took them",
        "A pair that turns less than once within the original context was only ever seen at part of the circle. At "
        "the context served it is turned by u times as much: 1 for PI and YaRN, 2.11 for NTK-aware alpha 16 on "
        "Llama 2, 16 without scaling. The collapse beyond the trained length comes from there.",
        "arXiv:2309.00071"},
    LintRule{"S2", "fast-pairs", kInfo, false, "fast pairs are slowed, which short texts pay for",
             "Position interpolation divides every frequency. YaRN leaves pairs that turn 32 times and more alone.",
             "arXiv:2309.00071"},
    LintRule{"S3", "unusual-attention-factor", kInfo, false, "an attention factor other than 0.1 ln(s) + 1",
             "Right where the model was trained so (Yarn-Mistral: 0.07 ln(s) + 1), a slip elsewhere.",
             "DeepSeek-R1#684"},
    LintRule{"E01", "does-not-load", kError, true, "an engine raises where it reads the file",
             "By the rules of docs/rope-engines.md, which were compared with what 28 builds did.", ""},
    LintRule{
        "E02", "other-frequencies", kError, true, "an engine computes another rope than the file means",
        "Meant is what the newest transformers computes, or the model's own code where that is known. The pair that is "
        "furthest off is named.",
        ""},
    LintRule{"E03", "other-attention-factor", kError, true, "an engine multiplies cosines and sines by another factor",
             "Logits change by its square, at every length.", ""},
    LintRule{
        "E04", "shorter-context", kError, true, "an engine serves less than is declared or asked for",
        "With -c: an engine that refuses the length. Without: one that serves less than max_position_embeddings unless "
        "it is told the length.",
        "vllm#16757, sglang#2943"},
    LintRule{"G01", "gguf-unread-key", kWarning, false, "a rope key that the architecture's loader does not read",
             "yarn_ext_factor, yarn_attn_factor and yarn_beta_* are read for grok alone (betas: mistral3 too), "
             "yarn_log_multiplier for deepseek2, deepseek32 and mistral3. rope.scaling.attn_factor is read for all.",
             "llama.cpp#17644, llama.cpp#17945, llama.cpp#18006"},
    LintRule{"G02", "gguf-factor-and-type", kWarning, false, "a factor without a type, or a type without a factor",
             "An absent rope.scaling.type means linear in llama.cpp, an absent factor 1.", ""},
    LintRule{"G03", "gguf-original", kWarning, false, "no original_context_length",
             "llama.cpp takes context_length: right if that was left at the base model's length, and then no more is "
             "served.",
             ""},
    LintRule{"G04", "gguf-lengths", kWarning, false, "factor x original_context_length is not context_length",
             "context_length is what llama.cpp serves with -c 0, and what it warns beyond.", ""},
    LintRule{"G05", "gguf-unknown-type", kError, false, "a rope.scaling.type at which llama.cpp stops",
             "none, linear, yarn and longrope are known; anything else fails an assertion.", ""},
    LintRule{"G06", "gguf-scaled-twice", kWarning, false, "rope_freqs.weight and a scaling besides",
             "The divisors come first and the method scales what is left: right only if both are meant.", ""},
    LintRule{"G07", "gguf-unknown-tensor", kError, false, "rope_freqs.weight in an architecture that does not load it",
             "llama.cpp counts the tensors it asked for and refuses a file with more.", ""},
    LintRule{"G08", "gguf-base", kError, false, "rope.freq_base is missing or no base", "Absent it is 10000.",
             "MarinFold#184"},
    LintRule{"G09", "gguf-bad-number", kError, false, "a rope key that is not finite, not positive or below 1",
             "The factor is the new context by the original one; attn_factor multiplies queries and keys.", ""},
    LintRule{"G10", "gguf-longrope-lists", kError, false, "one of the two longrope tensors is missing",
             "rope_factors_long.weight is used beyond the original context, rope_factors_short.weight within.",
             "llama.cpp#8262"},
    LintRule{"G11", "gguf-old-key", kWarning, false, "rope.scale_linear beside rope.scaling.factor",
             "The old name is read only where the new one is absent.", ""},
};
// clang-format on

}  // namespace

std::span<const LintRule> lint_rules() { return kRules; }

const LintRule* find_lint_rule(std::string_view id_or_name) {
  const auto found = std::find_if(kRules.begin(), kRules.end(), [&](const LintRule& rule) {
    return rule.id == id_or_name || rule.name == id_or_name;
  });
  return found == kRules.end() ? nullptr : &*found;
}

}  // namespace ropewalk::formats
