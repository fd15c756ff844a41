// A RopeSpec in names, numbers and words.
#include <cstdio>

#include "lib/rope.h"

namespace ropewalk {
namespace {

/// At most `digits` significant digits, without trailing zeros: 10000, 0.5, 1.2079.
std::string number(double value, int digits = 6) {
  char text[40];
  std::snprintf(text, sizeof text, "%.*g", digits, value);
  std::string out = text;
  if (out.find('e') != std::string::npos && value >= 1 && value < 1e15 && value == double(std::int64_t(value)))
    out = std::to_string(std::int64_t(value));
  return out;
}

struct NameOf {
  const char* operator()(const RopeUnscaled&) const { return "default"; }
  const char* operator()(const RopeLinear&) const { return "linear"; }
  const char* operator()(const RopeNtk&) const { return "ntk"; }
  const char* operator()(const RopeDynamic&) const { return "dynamic"; }
  const char* operator()(const RopeNtkByParts&) const { return "ntk-by-parts"; }
  const char* operator()(const RopeYarn&) const { return "yarn"; }
  const char* operator()(const RopeDynamicYarn&) const { return "dynamic-yarn"; }
  const char* operator()(const RopeLlama3&) const { return "llama3"; }
  const char* operator()(const RopeLongrope&) const { return "longrope"; }
  const char* operator()(const RopeProportional&) const { return "proportional"; }
};

struct OriginalOf {
  template <class T>
  std::optional<int> operator()(const T& scaling) const {
    if constexpr (requires { scaling.original_context; }) return scaling.original_context;
    return std::nullopt;
  }
};

struct FactorOf {
  template <class T>
  std::optional<double> operator()(const T& scaling) const {
    if constexpr (requires { scaling.factor; }) return scaling.factor;
    if constexpr (requires { scaling.alpha; }) return scaling.alpha;
    return std::nullopt;
  }
};

std::string scaled(const char* name, double factor) { return std::string(name) + " x" + number(factor); }
std::string scaled(const char* name, double factor, int original) {
  return scaled(name, factor) + " of " + std::to_string(original);
}
std::string betas(double fast, double slow) { return ", beta " + number(fast) + "/" + number(slow); }

/// The method before the parenthesis and what is special to it inside.
struct Words {
  std::string method, details;
};
struct WordsOf {
  Words operator()(const RopeUnscaled&) const { return {"plain", ""}; }
  Words operator()(const RopeLinear& s) const { return {scaled("linear", s.factor), ""}; }
  Words operator()(const RopeNtk& s) const { return {"NTK-aware, alpha " + number(s.alpha), ""}; }
  Words operator()(const RopeDynamic& s) const { return {scaled("dynamic NTK", s.factor, s.original_context), ""}; }
  Words operator()(const RopeNtkByParts& s) const { return {scaled("NTK-by-parts", s.factor, s.original_context), ""}; }
  Words operator()(const RopeYarn& s) const {
    return {scaled("YaRN", s.factor, s.original_context),
            betas(s.beta_fast, s.beta_slow) + (s.truncate ? "" : ", range not rounded") +
                (s.extrapolation_factor == 1 ? "" : ", extrapolation factor " + number(s.extrapolation_factor))};
  }
  Words operator()(const RopeDynamicYarn& s) const {
    return {"dynamic YaRN of " + std::to_string(s.original_context),
            betas(s.beta_fast, s.beta_slow) +
                (s.finetuned_context ? ", fine-tuned at " + std::to_string(*s.finetuned_context) : "")};
  }
  Words operator()(const RopeLlama3& s) const {
    return {scaled("llama3", s.factor, s.original_context),
            ", low and high frequency factors " + number(s.low_freq_factor) + " and " + number(s.high_freq_factor)};
  }
  Words operator()(const RopeLongrope& s) const { return {"LongRoPE of " + std::to_string(s.original_context), ""}; }
  Words operator()(const RopeProportional& s) const {
    return {s.factor == 1 ? std::string("proportional") : scaled("proportional", s.factor),
            ", head " + std::to_string(s.head_dim)};
  }
};

}  // namespace

const char* rope_method_name(const RopeSpec& spec) { return std::visit(NameOf{}, spec.scaling); }
std::optional<int> rope_original_context(const RopeSpec& spec) {
  return spec.original_context ? spec.original_context : std::visit(OriginalOf{}, spec.scaling);
}
std::optional<double> rope_factor(const RopeSpec& spec) { return std::visit(FactorOf{}, spec.scaling); }

std::string describe(const RopeSpec& spec) {
  const Words words = std::visit(WordsOf{}, spec.scaling);
  std::string text = words.method + " (theta " + number(spec.theta) + words.details;
  const bool grows = std::holds_alternative<RopeDynamicYarn>(spec.scaling);  // its attention factor is no single number
  if (spec.rotary_dim >= 2 && (!grows || spec.attention_factor)) {
    const double attention = rope_table(spec, spec.context > 0 ? spec.context : 1).attention_factor;
    if (attention != 1 || spec.attention_factor || std::holds_alternative<RopeYarn>(spec.scaling))
      text += ", attention factor " + number(attention, 5);
  }
  if (!spec.frequency_divisors.empty())
    text += ", " + std::to_string(spec.frequency_divisors.size()) + " frequency divisors";
  return text + ")";
}

}  // namespace ropewalk
