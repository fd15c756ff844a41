// R24 - R26, R28, R30: what YaRN has beside factor and original context.
#include <algorithm>
#include <cmath>

#include "formats/lint/linter.h"

namespace ropewalk::formats::linting {
namespace {

void betas(Linter& lint, const RopeDict& dict) {
  if (dict.type != "yarn") return;
  const double fast = dict.number("beta_fast").value_or(32), slow = dict.number("beta_slow").value_or(1);
  if (!(fast > 0 && slow > 0)) return;  // R20
  if (fast < slow)
    lint.add("R24", Severity::warning, dict.at("beta_fast"),
             "beta_fast, " + trimmed(fast) + ", is below beta_slow, " + trimmed(slow) + ": the ramp runs backwards",
             "exchange them");
  if (!dict.read || (fast == 32 && slow == 1)) return;
  std::vector<std::size_t> hurt;
  for (std::size_t i = 0; i < lint.engines.size(); ++i)
    if (!lint.explained(i, Aspect::frequencies) && lint.difference(lint.readings[i]).frequencies)
      for (const EngineRope& rope : lint.readings[i].ropes)
        if (const auto* yarn = std::get_if<RopeYarn>(&rope.spec.scaling);
            yarn && (yarn->beta_fast != fast || yarn->beta_slow != slow)) {
          hurt.push_back(i);
          break;
        }
  if (hurt.empty()) return;
  lint.add_for("R24", hurt, dict.at(dict.find("beta_fast") ? "beta_fast" : "beta_slow"),
               lint.does(hurt, "computes", "compute") + " with 32 and 1, not beta_fast " + trimmed(fast) +
                   " and beta_slow " + trimmed(slow),
               "for llama.cpp write rope_freqs.weight (ropewalk convert does where keys cannot say it)");
  lint.explain(hurt, Aspect::frequencies);
}

void attention(Linter& lint, const RopeDict& dict) {
  if (dict.type != "yarn" || !dict.read) return;
  const auto whole = dict.number("attention_factor"), part = dict.number("attn_factor"), s = dict.number("factor");
  if ((!whole && !part) || !s || !(*s >= 1)) return;
  for (const auto& given : {whole, part})
    if (given && !is_attention_factor(*given)) return;  // R20
  const double g = yarn_attention_factor(*s);
  if (whole && part && std::abs(*part * g - *whole) > 1e-4 * std::abs(*whole)) {
    lint.add("R25", dict.at("attn_factor"),
             "attn_factor times 0.1 ln(factor) + 1 is " + trimmed(*part * g) + ", attention_factor " + trimmed(*whole) +
                 ": engines that read one and those that read the other differ",
             "write attn_factor " + trimmed(*whole / g) + ", or take it out");
    for (std::size_t i = 0; i < lint.engines.size(); ++i) lint.explain(i, Aspect::attention);
    return;
  }
  const double meant = whole ? *whole : *part * g;
  std::vector<std::size_t> hurt;
  std::string each;
  for (std::size_t i = 0; i < lint.engines.size(); ++i) {
    if (lint.readings[i].ropes.empty()) continue;
    const double a = lint.readings[i].ropes.front().spec.attention_factor.value_or(1);
    if (std::abs(a - meant) <= 1e-4 * std::abs(meant)) continue;
    hurt.push_back(i);
    each += (each.empty() ? "" : ", ") + lint.engines[i].title() + " " + trimmed(std::round(1e4 * a) / 1e4);
  }
  for (std::size_t i = 0; i < lint.engines.size(); ++i) lint.explain(i, Aspect::attention);
  if (hurt.empty()) return;
  const char* key = whole ? "attention_factor" : "attn_factor";
  const char* missing = whole ? "attn_factor" : "attention_factor";
  std::vector<JsonEdit> edits;
  if (!(whole && part)) edits = {{dict.at(missing), whole ? *whole / g : meant, key}};
  lint.add_for("R25", hurt, dict.at(key),
               std::string(key) + " asks for an attention factor of " + trimmed(std::round(1e6 * meant) / 1e6) +
                   "; engines that do not read it compute " + each,
               edits.empty()
                   ? "nothing more can be written here: llama.cpp needs rope.scaling.attn_factor in the GGUF"
                   : std::string("write ") + missing + " " + trimmed(edits.front().value.get<double>()) + " beside it")
      .edits = edits;
}

void mscales(Linter& lint, const RopeDict& dict) {
  if (dict.type != "yarn" || !dict.read || lint.latent() || dict.find("attention_factor")) return;
  const auto mscale = dict.number("mscale"), all = dict.number("mscale_all_dim");
  if (!mscale || !all || *mscale == 0 || *mscale != *all) return;
  std::vector<std::size_t> hurt;
  for (std::size_t i = 0; i < lint.engines.size(); ++i)
    if (!lint.explained(i, Aspect::attention) && lint.difference(lint.readings[i]).attention) hurt.push_back(i);
  const std::string message =
      "mscale equals mscale_all_dim: transformers and vllm then scale attention by 1, without YaRN's 0.1 ln(factor) + "
      "1";
  const std::string fix = "take both out unless the model was trained so; write attention_factor to be plain";
  if (hurt.empty()) lint.add("R26", Severity::info, dict.at("mscale"), message, fix);
  else lint.add_for("R26", hurt, dict.at("mscale"), message + "; " + lint.does(hurt, "keeps", "keep") + " it", fix);
  lint.explain(hurt, Aspect::attention);
}

void truncated(Linter& lint, const RopeDict& dict) {
  const Json* truncate = dict.find("truncate");
  if (!dict.read || !truncate) return;
  if (!truncate->is_boolean() && !truncate->is_null()) {
    lint.add("R28", Severity::warning, dict.at("truncate"),
             "truncate is " + shown(*truncate) +
                 ", true or false was expected: engines in Python take any text for true, even \"false\"",
             "write true or false");
    return;
  }
  if (*truncate != false) return;
  std::vector<std::size_t> hurt;
  for (std::size_t i = 0; i < lint.engines.size(); ++i)
    if (!lint.explained(i, Aspect::frequencies) && lint.difference(lint.readings[i]).frequencies)
      for (const EngineRope& rope : lint.readings[i].ropes)
        if (const auto* yarn = std::get_if<RopeYarn>(&rope.spec.scaling); yarn && yarn->truncate) {
          hurt.push_back(i);
          break;
        }
  if (hurt.empty()) return;
  lint.add_for("R28", hurt, dict.at("truncate"),
               lint.does(hurt, "rounds", "round") + " YaRN's range to whole pairs all the same",
               "for llama.cpp write rope_freqs.weight where the architecture loads it");
  lint.explain(hurt, Aspect::frequencies);
}

void ramp(Linter& lint) {
  if (!lint.reference.error)
    for (const EngineRope& rope : lint.reference.ropes) {
      const auto* yarn = std::get_if<RopeYarn>(&rope.spec.scaling);
      if (!yarn || !(rope.spec.theta > 1)) continue;
      const int d = rope.spec.rotary_dim;
      const double first = std::floor(correction_dim(yarn->beta_fast, d, rope.spec.theta, yarn->original_context)),
                   last = std::ceil(correction_dim(yarn->beta_slow, d, rope.spec.theta, yarn->original_context));
      if (!std::isfinite(first) || !std::isfinite(last)) continue;
      const CorrectionRange range =
          correction_range(yarn->beta_fast, yarn->beta_slow, true, d, rope.spec.theta, yarn->original_context);
      const RopeDict* dict = lint.flat();
      const std::string pointer = dict ? dict->pointer : lint.dicts.empty() ? "" : lint.dicts.front().pointer;
      if (range.low >= range.high)
        lint.add("R30", pointer,
                 "YaRN's ramp is empty (from pair " + trimmed(first) + " to " + trimmed(last) +
                     "): pairs are kept or divided, none in between",
                 "check the betas and the original context");
      else if (last > d / 2.0 - 1)
        lint.add("R30", Severity::info, pointer,
                 "YaRN's ramp ends at pair " + trimmed(last) + " of " + std::to_string(d / 2) +
                     ": no pair is divided by the whole factor",
                 "check the original context: few models turn their slowest pair once within it");
    }
}

}  // namespace

void yarn_rules(Linter& lint) {
  for (const RopeDict& dict : lint.dicts) {
    betas(lint, dict);
    attention(lint, dict);
    mscales(lint, dict);
    truncated(lint, dict);
  }
  ramp(lint);
}

}  // namespace ropewalk::formats::linting
