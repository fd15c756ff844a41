// vLLM: vllm/model_executor/layers/rotary_embedding (one file up to 0.8, a folder since). SGLang:
// python/sglang/srt/layers/rotary_embedding. Releases in vllm.cpp and sglang.cpp.
#include "formats/engines/serving.h"

#include <cmath>
#include <limits>

namespace ropewalk::formats::engines {
namespace {

class Rotary {
 public:
  Rotary(Walk& walk, const ServingRules& rules, const HfConfig& config, const Dict* rope, const Value& theta,
         std::optional<int> max_length)
      : walk_(walk),
        rules_(rules),
        config_(config),
        rope_(rope),
        theta_(theta),
        max_length_(max_length),
        draft_(walk) {}

  EngineRope build(const std::string& layer_type) {
    draft_.rope.layer_type = layer_type;
    const Value* type = rope_ ? rope_type(*rope_) : nullptr;
    if (rope_ && !type) raise("KeyError", "'type'", rope_->pointer);
    draft_.record("method", type ? *type : walk_.defaulted("default"));
    const std::string name = !type                    ? "default"
                             : type->json.is_string() ? type->json.get<std::string>()
                                                      : python_repr(type->json);
    set_theta(draft_, theta_);
    draft_.spec().context = tokens(config_.context, "'<' not supported between instances of '{type}' and 'int'");
    dimension(name);
    if (name == "default") plain();
    else if (name == "linear") linear();
    else if (name == "dynamic") dynamic();
    else if (name == "ntk" && rules_.ntk) ntk();
    else if (name == "yarn") yarn(multi_head_latent());
    else if (name == "deepseek_yarn") yarn(true);
    else if (name == "longrope") longrope();
    else if (name == "llama3") draft_.spec().scaling = read_llama3(draft_, *rope_);
    else if (name == "proportional" && rules_.proportional != ServingRules::Proportional::unknown) proportional();
    else raise("ValueError", "Unknown RoPE scaling type " + name, type->pointer);
    return draft_.finish();
  }

 private:
  bool multi_head_latent() const { return !config_.family->known && walk_.has("qk_rope_head_dim"); }

  std::optional<Value> partial() const {
    using enum ServingRules::Partial;
    if (rules_.partial == dictionary && rope_)
      if (const Value* value = rope_->find("partial_rotary_factor")) return *value;
    if (rules_.partial == llama_top_level && (runs_llama_class(config_) || !config_.family->known) &&
        walk_.has("partial_rotary_factor"))
      return walk_.get("partial_rotary_factor", 1.0);
    return std::nullopt;
  }
  Value head_dim() const {
    if (multi_head_latent()) return walk_.get("qk_rope_head_dim", nullptr);
    if (const Json* given = walk_.raw("head_dim"); given && !given->is_null()) return walk_.get("head_dim", nullptr);
    return walk_.defaulted(config_.family->head_dim != 0 ? config_.family->head_dim : split_head_dim(walk_));
  }
  void dimension(const std::string& type) {
    if (type != "proportional") return set_rotary_dim(draft_, head_dim(), partial());
    set_rotary_dim(draft_, head_dim(), std::nullopt);
  }

  void plain() {
    if (rope_ && rope_->contains("mrope_section")) {
      walk_.used(*rope_->find("mrope_section"));
      walk_.notice("mrope_section splits the pairs among three streams of positions, which are equal in text",
                   rope_->find("mrope_section")->pointer);
    }
  }

  /// LinearScalingRotaryEmbedding takes a float or a list of factors.
  void linear() {
    const Value& factor = item(*rope_, "factor");
    if (factor.json.is_string())
      raise("TypeError", "arange() received an invalid combination of arguments - got (str, dtype=torch.dtype)",
            factor.pointer);
    if (factor.json.is_array() || factor.json.is_object()) not_followed("a list of linear factors", factor.pointer);
    if (!factor.json.is_number_float())
      raise("TypeError", "'" + python_type(factor.json) + "' object is not iterable", factor.pointer);
    const double s = record_number(draft_, "factor", factor, "");
    draft_.spec().scaling = RopeLinear{s};
    draft_.rope.position_divisor = s;
  }

  void dynamic() {
    if (const Value* alpha = rope_->find("alpha"); alpha && rules_.alpha) {
      draft_.spec().scaling = RopeNtk{
          record_number(draft_, "alpha", *alpha, "unsupported operand type(s) for ** or pow(): '{type}' and 'float'")};
      return;
    }
    if (!rope_->contains("factor") && rules_.alpha)
      raise("ValueError", "Dynamic rope scaling must contain either 'alpha' or 'factor' field", rope_->pointer);
    const double s = record_number(draft_, "factor", item(*rope_, "factor"),
                                   "unsupported operand type(s) for -: '{type}' and 'int'");
    draft_.record("original_context", config_.context);
    if (rules_.dynamic_is_plain) {
      walk_.notice("a dynamic rope is a plain one in " + walk_.engine.title() + ", at every length", rope_->pointer);
      return;
    }
    draft_.spec().scaling =
        RopeNtk{s * s - (s - 1)};  // the base for s * max_position_embeddings tokens, at every length
    walk_.notice("the base is that for " + python_repr(Json(s)) + " x max_position_embeddings tokens at every length",
                 rope_->pointer);
  }

  /// NTKScalingRotaryEmbedding: the base is multiplied whole and all frequencies divided by s^(2/d); with mixed_b each
  /// by exp(a (i + 1)^b) instead.
  void ntk() {
    const int d = draft_.spec().rotary_dim;
    const double s = record_number(draft_, "factor", item(*rope_, "factor"),
                                   "unsupported operand type(s) for *: 'float' and '{type}'");
    if (!(s > 0)) not_followed("a factor of " + Json(s).dump(), item(*rope_, "factor").pointer);
    if (const Value* mixed = given(*rope_, "mixed_b")) {
      const double b = record_number(draft_, "mixed_b", *mixed,
                                     "unsupported operand type(s) for ** or pow(): 'float' and '{type}'"),
                   a = std::log(s) / std::pow(d / 2.0, b);
      for (int pair = 0; pair < d / 2; ++pair)
        draft_.spec().frequency_divisors.push_back(std::exp(a * std::pow(pair + 1.0, b)));
      return;
    }
    draft_.spec().theta *= s;
    draft_.spec().scaling = RopeLinear{std::pow(s, 2.0 / d)};
  }

  double beta(const char* key, int otherwise) {
    const Value* value = rope_->find(key);
    return record_number(draft_, key, value ? *value : walk_.defaulted(otherwise),
                         "can't multiply sequence by non-int of type 'float'");
  }
  double number_or(const char* key, double otherwise) {
    const Value* value = rope_->find(key);
    return value ? record_number(draft_, key, *value, kTimesFloat) : otherwise;
  }

  /// `deepseek`: DeepseekScalingRotaryEmbedding, whose softmax scale is multiplied by g(s, mscale_all_dim)^2 besides.
  void yarn(bool deepseek) {
    const Value& original = item(*rope_, "original_max_position_embeddings");
    RopeYarn yarn{record_number(draft_, "factor", item(*rope_, "factor"), kCompared), 0};
    yarn.original_context = tokens(original, "unsupported operand type(s) for /: '{type}' and 'float'");
    draft_.record("original_context", original);
    if (rules_.extrapolation_factor) yarn.extrapolation_factor = number_or("extrapolation_factor", 1);
    attention(yarn.factor, deepseek);
    yarn.beta_fast = beta("beta_fast", 32);
    yarn.beta_slow = beta("beta_slow", 1);
    if (const Value* truncate = rope_->find("truncate"); truncate && rules_.truncate) {
      yarn.truncate = truthy(truncate->json);
      draft_.record("truncate", *truncate);
    }
    check_ramp(yarn, *rope_);
    draft_.spec().scaling = yarn;
  }
  void attention(double s, bool deepseek) {
    using enum ServingRules::Attention;
    if (rules_.attention == attention_factor && !deepseek) return set_attention_factor(draft_, *rope_, s);
    double a = yarn_attention_factor(s);
    const Value* mscale = given(*rope_, "mscale");
    const Value* all_dim = given(*rope_, "mscale_all_dim");
    if (deepseek ||
        (rules_.attention == attn_factor_mscale && mscale && all_dim && truthy(mscale->json) && truthy(all_dim->json)))
      a = yarn_attention_factor(s, number_or("mscale", 1)) / yarn_attention_factor(s, number_or("mscale_all_dim", 0));
    if (deepseek) notice_softmax_scale(walk_, config_, *rope_, s);
    draft_.derived("attention_factor", "0.1 ln(factor) + 1, times attn_factor");
    draft_.spec().attention_factor = a * number_or("attn_factor", 1);
  }

  /// short_mscale or long_mscale, the attention factor beside its list (Phi-3-small, Phi-3.5-MoE).
  std::optional<double> mscale(const char* key) {
    const Value* value = given(*rope_, key);
    if (!value) return std::nullopt;
    return record_number(draft_, "attention_factor", *value, kTimesFloat);
  }

  /// Phi3LongRoPEScaledRotaryEmbedding: factor and attention_factor are not read.
  void longrope() {
    RopeLongrope longrope;
    read_lists(draft_, *rope_, longrope);
    const Value& original = item(*rope_, "original_max_position_embeddings");
    longrope.original_context = tokens(original, "unsupported operand type(s) for /: 'int' and '{type}'");
    draft_.record("original_context", original);
    const double own =
        longrope_attention_factor(double(draft_.spec().context) / longrope.original_context, longrope.original_context);
    const std::optional<double> below = mscale("short_mscale"), above = mscale("long_mscale");
    if (!below && !above)
      draft_.derived("attention_factor", "sqrt(1 + ln(max_position_embeddings / original) / ln(original))");
    draft_.spec().attention_factor = above.value_or(own);
    if (!rules_.longrope_by_max_length) {  // any position > L, that is more than L + 1 tokens
      if (below.value_or(own) != above.value_or(own))
        not_followed("an attention factor for each of two lists", rope_->pointer);
      if (longrope.original_context < std::numeric_limits<int>::max())
        longrope.short_until = longrope.original_context + 1;
      walk_.notice(
          "the long list is used for all sequences of a batch in which one has a position above the original context",
          rope_->pointer);
    } else {
      const bool is_long = max_length_.value_or(draft_.spec().context) > longrope.original_context;
      (is_long ? longrope.short_factor : longrope.long_factor) = is_long ? longrope.long_factor : longrope.short_factor;
      if (!is_long) draft_.spec().attention_factor = below.value_or(own);
      walk_.notice(
          std::string("the ") + (is_long ? "long" : "short") + " list is used at every length, by the context served",
          rope_->pointer);
    }
    draft_.spec().scaling = std::move(longrope);
  }

  void proportional() {
    const int whole = draft_.spec().rotary_dim;
    const Value* factor = rope_->find("factor");
    const double s =
        factor ? record_number(draft_, "factor", *factor, "unsupported operand type(s) for /: 'Tensor' and '{type}'")
               : 1.0;
    if (const Value* share = rope_->find("partial_rotary_factor");
        share && rules_.proportional == ServingRules::Proportional::like_transformers) {
      const double proportion = record_number(draft_, "rotary_dim", *share, kTimesFloat);
      if (!(proportion > 0 && proportion <= 1))
        not_followed("a partial_rotary_factor of " + Json(proportion).dump(), share->pointer);
      draft_.spec().rotary_dim = 2 * int(proportion * whole / 2);
    }
    draft_.spec().scaling = RopeProportional{s, whole};
  }

  Walk& walk_;
  const ServingRules& rules_;
  const HfConfig& config_;
  const Dict* rope_;
  const Value& theta_;
  std::optional<int> max_length_;
  Draft draft_;
};

}  // namespace

EngineRope serving_rope(Walk& walk, const ServingRules& rules, const HfConfig& config, const std::string& layer_type,
                        const Dict* rope, const Value& theta, std::optional<int> max_length) {
  return Rotary(walk, rules, config, rope, theta, max_length).build(layer_type);
}

bool runs_llama_class(const HfConfig& config) {
  const std::string_view type = config.family->model_type;
  return type == "llama" || type == "mistral" || type == "phi3";
}

int multiplied(double context, const Value& factor) {
  if (factor.json.is_string()) {  // Python repeats the string
    std::string text;
    while (text.size() < 60 && !factor.json.get_ref<const std::string&>().empty())
      text += factor.json.get<std::string>().substr(0, 60);
    raise("ValueError", "invalid literal for int() with base 10: '" + text.substr(0, 60) + "...'", factor.pointer);
  }
  const double product = context * number(factor, "unsupported operand type(s) for *=: 'int' and '{type}'");
  if (!(product >= 0 && product <= std::numeric_limits<int>::max()))
    not_followed("a context of " + Json(product).dump() + " tokens", factor.pointer);
  return int(product);
}

}  // namespace ropewalk::formats::engines
