// S1 - S3, R34: what can be said from the frequencies alone, whatever they are called.
#include <algorithm>
#include <cmath>
#include <numbers>

#include "formats/lint/linter.h"
#include "formats/unseen_angle.h"

namespace ropewalk::formats::linting {
namespace {

/// The context a rope was trained at before it was extended: the method's own, else max_position_embeddings.
int trained_context(const Linter& lint, const RopeSpec& spec) {
  if (const std::optional<int> original = rope_original_context(spec)) return *original;
  if (const RopeDict* dict = lint.flat())
    if (const auto original = dict->number("original_max_position_embeddings");
        original && *original >= 1 && *original <= 2147483647)
      return int(*original);
  return lint.context;
}

std::string rounded(double value) { return trimmed(std::round(value * 100) / 100); }

/// Angles that position `wanted` reaches and training over `trained` tokens did not, over pairs that never turned once.
void unseen_angles(Linter& lint, const RopeSpec& spec, const std::string& pointer) {
  const int trained = trained_context(lint, spec);
  const bool trained_there = std::holds_alternative<RopeLlama3>(spec.scaling) ||
                             std::holds_alternative<RopeLongrope>(spec.scaling) ||
                             std::holds_alternative<RopeProportional>(spec.scaling);
  if (trained <= 0 || lint.wanted <= trained || spec.rotary_dim > 4096) return;
  if (trained_there && lint.wanted <= lint.context) return;  // the length it was trained for
  const std::optional<std::string> unseen = unseen_angle(spec, lint.wanted, trained);
  if (!unseen) return;
  lint.add("S1", pointer, *unseen,
           "raise the factor to " + rounded(double(lint.wanted) / trained) +
               ", or use a method that divides slow pairs (yarn)");
}

/// Pairs that turn often within the original context are what short texts live by.
void fast_pairs(Linter& lint, const RopeSpec& spec, const std::string& pointer) {
  const int trained = trained_context(lint, spec);
  if (trained <= 0 || spec.rotary_dim > 4096) return;
  if (!std::holds_alternative<RopeLinear>(spec.scaling) && !std::holds_alternative<RopeNtk>(spec.scaling)) return;
  RopeSpec plain = spec;
  plain.scaling = RopeUnscaled{};
  const std::vector<double> now = rope_table(spec, 1).inv_freq, before = rope_table(plain, 1).inv_freq;
  double worst = 0;
  for (std::size_t i = 0; i < std::min(now.size(), before.size()); ++i)
    if (trained * before[i] >= 32 * 2 * std::numbers::pi) worst = std::max(worst, 1 - now[i] / before[i]);
  if (worst < 0.25) return;
  lint.add("S2", pointer,
           "pairs that turn 32 times or more in " + std::to_string(trained) + " tokens are slowed by up to " +
               trimmed(std::round(worst * 100)) + " %: short texts suffer until the model is tuned for it",
           "yarn leaves them as they are");
}

void attention_factor(Linter& lint, const RopeSpec& spec, const std::string& pointer) {
  const auto* yarn = std::get_if<RopeYarn>(&spec.scaling);
  if (!yarn || !spec.attention_factor || lint.latent()) return;
  const double usual = yarn_attention_factor(yarn->factor);
  if (std::abs(*spec.attention_factor - usual) <= 0.01 * usual) return;
  lint.add("S3", pointer,
           "the attention factor is " + trimmed(std::round(*spec.attention_factor * 1e4) / 1e4) +
               ", 0.1 ln(factor) + 1 would be " + trimmed(std::round(usual * 1e4) / 1e4),
           "right if the model was trained so");
}

}  // namespace

void refused_rope(Linter& lint) {
  if (!lint.refused || lint.has_error()) return;
  // of a class without a rule nothing is said to be wrong
  if (!lint.compared && lint.refused->problem().starts_with("not followed")) return;
  const Severity severity = lint.options.engines.empty() ? Severity::error : Severity::warning;
  lint.add("R34", severity, lint.refused->where().pointer.value_or(""), lint.refused->problem(), lint.refused->fix());
}

void meaning_rules(Linter& lint) {
  if (lint.declared.size() != 1) return;
  const RopeSpec& spec = lint.declared.front().spec;
  const RopeDict* dict = lint.flat();
  const std::string pointer = dict ? dict->pointer : lint.at("max_position_embeddings");
  bool contradiction = true;  // what the file says is not known
  for (std::size_t i = 0; i < lint.engines.size(); ++i)
    contradiction = contradiction && lint.explained(i, Aspect::frequencies) && lint.explained(i, Aspect::context);
  if (contradiction) return;
  unseen_angles(lint, spec, pointer);
  fast_pairs(lint, spec, pointer);
  // of remote code R08 says it, of mscale R26
  if (!lint.remote && !(dict && dict->find("mscale"))) attention_factor(lint, spec, pointer);
}

}  // namespace ropewalk::formats::linting
