// The numbers a new rope comes from, for people.
#include <algorithm>
#include <cmath>

#include "tools/extend.h"
#include "tools/units.h"

namespace ropewalk::tools {
namespace {

std::string num(double value) { return number_text(value, 7); }

std::string product(int original, double factor) {
  return std::to_string(original) + " x " + num(factor) + " = " + std::to_string(std::llround(original * factor)) +
         " tokens";
}

std::string attention(const RopeSpec& rope, double factor, double c) {
  const double own = factor <= 1 ? 1 : c * std::log(factor) + 1;
  std::string text = "attention factor A = " + num(c) + " ln " + num(factor) + " + 1 = " + num(own);
  if (rope.attention_factor && std::abs(*rope.attention_factor - own) > 1e-9)
    text = "attention factor A = " + num(*rope.attention_factor) + " as given (" + num(c) + " ln " + num(factor) +
           " + 1 is " + num(own) + ")";
  return text;
}

/// Which pairs turn how often, and between which of them the frequencies go over from one kind to the other.
std::string dims(const RopeSpec& rope, double fast, double slow, int original, bool truncate) {
  const auto turns = [&](double rotations) {
    const double pair = correction_dim(rotations, rope.rotary_dim, rope.theta, original);
    const std::string times = num(rotations) + (rotations == 1 ? " time" : " times");
    if (pair < 0) return "no pair turns " + times;
    if (pair > rope.rotary_dim / 2 - 1) return "every pair turns more than " + times;
    return "pair " + fixed_text(pair, 2) + " turns " + times;
  };
  const CorrectionRange ramp = correction_range(fast, slow, truncate, rope.rotary_dim, rope.theta, original);
  return "in " + std::to_string(original) + " tokens " + turns(fast) + " and " + turns(slow) +
         ": the ramp runs from pair " + num(ramp.low) + " to " + num(ramp.high);
}

struct LinesOf {
  std::vector<std::string>& out;
  const RopeSpec& before;
  const RopeSpec& rope;
  int context;

  void operator()(const RopeUnscaled&) const {
    if (before.theta != rope.theta)
      out.push_back("base of the frequencies " + num(before.theta) + " -> " + num(rope.theta));
  }
  void operator()(const RopeLinear& linear) const {
    out.push_back(product(int(std::lround(context / linear.factor)), linear.factor));
    out.push_back("all frequencies / " + num(linear.factor) + "; attention factor 1");
  }
  void operator()(const RopeNtk& ntk) const {
    out.push_back("base " + num(rope.theta) + " x " + num(ntk.alpha) + "^(d / (d - 2)), d = " +
                  std::to_string(rope.rotary_dim) + ", = " + num(ntk_base(rope.theta, ntk.alpha, rope.rotary_dim)));
  }
  void operator()(const RopeDynamic& dynamic) const {
    out.push_back(product(dynamic.original_context, dynamic.factor));
    out.push_back("up to " + std::to_string(dynamic.original_context) + " tokens plain; at T tokens the base is " +
                  num(rope.theta) + " (" + num(dynamic.factor) + " T / " + std::to_string(dynamic.original_context) +
                  " - " + num(dynamic.factor - 1) + ")^(d / (d - 2)), d = " + std::to_string(rope.rotary_dim));
  }
  void operator()(const RopeNtkByParts& parts) const {
    out.push_back(product(parts.original_context, parts.factor));
    out.push_back("plain to NTK-aware: " + dims(rope, 16, 2, parts.original_context, true));
    out.push_back("NTK-aware to linear: " + dims(rope, 1.25, 0.75, parts.original_context, true));
    out.push_back("attention factor 1");
  }
  void operator()(const RopeYarn& yarn) const {
    out.push_back(product(yarn.original_context, yarn.factor));
    // Yarn-Mistral's 0.07 stands nowhere but in its attention factor
    const bool mistral = rope.attention_factor && yarn.factor > 1 &&
                         std::abs(*rope.attention_factor - (0.07 * std::log(yarn.factor) + 1)) < 1e-9;
    out.push_back(attention(rope, yarn.factor, mistral ? 0.07 : 0.1));
    out.push_back(dims(rope, yarn.beta_fast, yarn.beta_slow, yarn.original_context, yarn.truncate));
    out.push_back("below the ramp as before, above it frequencies / " + num(yarn.factor));
  }
  void operator()(const RopeDynamicYarn& yarn) const {
    out.push_back("factor T / " + std::to_string(yarn.scale_context.value_or(yarn.original_context)) +
                  " for sequences of T tokens");
  }
  void operator()(const RopeLlama3& llama3) const {
    out.push_back(product(llama3.original_context, llama3.factor));
    out.push_back("wavelengths up to " + num(llama3.original_context / llama3.high_freq_factor) +
                  " tokens as before, from " + num(llama3.original_context / llama3.low_freq_factor) + " x " +
                  num(llama3.factor) + ", blended between; attention factor 1");
  }
  void operator()(const RopeLongrope& longrope) const {
    const auto [least, most] = std::minmax_element(longrope.long_factor.begin(), longrope.long_factor.end());
    if (!longrope.long_factor.empty())
      out.push_back("divisors " + num(*least) + " to " + num(*most) +
                    (longrope.short_factor == longrope.long_factor
                         ? " at every length"
                         : " past " + std::to_string(longrope.original_context) + " tokens"));
    out.push_back("attention factor A = " + num(rope_table(rope, context).attention_factor));
  }
  void operator()(const RopeProportional& proportional) const {
    out.push_back("all frequencies / " + num(proportional.factor));
  }
};

}  // namespace

std::string trained_text(const formats::TrainedRope& trained) {
  if (trained.context < 1 || trained.from == formats::kSpecSays) return "";
  return "\n  original context " + std::to_string(trained.context) + ": " + trained.from + "; original= says another";
}

Json trained_json(const formats::TrainedRope& trained) {
  if (trained.context < 1) return nullptr;
  return {{"tokens", trained.context}, {"from", trained.from}};
}

std::vector<std::string> rope_arithmetic(const RopeSpec& before, const RopeSpec& rope, int context) {
  std::vector<std::string> out;
  std::visit(LinesOf{out, before, rope, context}, rope.scaling);
  return out;
}

}  // namespace ropewalk::tools
