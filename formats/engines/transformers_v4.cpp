// transformers 4.43 to 4.57: modeling_rope_utils.py (4.43.4, 4.44.2, 4.45.2, 4.47.1, 4.49.0, 4.50.3, 4.51.3, 4.53.3,
// 4.55.4, 4.56.2, 4.57.6 were run; 4.48.3, 4.52.4 and 4.54.1 read).
#include "formats/engines/class_defaults.h"
#include "formats/engines/rules.h"

#include <cmath>

namespace ropewalk::formats::engines {
namespace {

class RotaryV4 {
 public:
  RotaryV4(Walk& walk, const HfConfig& config, const HfVersion& version, const Value& theta)
      : walk_(walk), config_(config), version_(version), theta_(theta), draft_(walk) {}

  EngineRope build() {
    refuse_missing_sections();
    const Value* type = config_.rope ? rope_type(*config_.rope) : nullptr;
    if (config_.rope && !type) raise("KeyError", "None", config_.rope->pointer);
    draft_.record("method", type ? *type : walk_.defaulted("default"));
    const std::string name =
        type ? (type->json.is_string() ? type->json.get<std::string>() : python_repr(type->json)) : "default";
    set_theta(draft_, theta_);
    draft_.spec().context = nominal_tokens(walk_, config_.context, kAboveTensor);
    if (name == "default") dimension(true);
    else if (name == "linear") linear();
    else if (name == "dynamic") dynamic();
    else if (name == "yarn") yarn();
    else if (name == "longrope") longrope();
    else if (name == "llama3") dimension(true), draft_.spec().scaling = read_llama3(draft_, *config_.rope);
    else raise("KeyError", type->json.is_string() ? "'" + name + "'" : name, type->pointer);
    return draft_.finish();
  }

 private:
  /// Qwen3VLTextRotaryEmbedding and its like ask rope_scaling for mrope_section, whether it is there or not.
  void refuse_missing_sections() const {
    const std::string type = walk_.model_type();
    for (const char* one : {"qwen3_vl", "qwen3_vl_text", "qwen3_vl_moe", "qwen3_vl_moe_text"})
      if (type == one && !config_.rope) raise("AttributeError", "'NoneType' object has no attribute 'get'");
  }
  const Dict& rope() const { return *config_.rope; }
  /// max_position_embeddings where a method computes with it.
  int whole_context() const { return tokens(config_.context, kAboveTensor); }

  /// `tolerant`: a head_dim of None is worked out, from 4.52 on and by the kinds that start from the plain table.
  void dimension(bool tolerant) {
    std::optional<Value> head = head_dim_attribute(walk_, config_, version_);
    const bool blind = !version_.at_least({4, 44}) && std::string_view(config_.family->model_type) ==
                                                          "llama";  // 4.43's Llama does not look at head_dim
    if (blind || !head || (tolerant && version_.at_least({4, 52}) && !truthy(head->json)))
      head = walk_.defaulted(split_head_dim(walk_));
    std::optional<Value> share;
    if (walk_.has("partial_rotary_factor")) share = walk_.get("partial_rotary_factor", 1.0);
    else if (const double own = class_rope(walk_.model_type()).share; own != 1) share = walk_.defaulted(own);
    set_rotary_dim(draft_, *head, share);
  }
  void linear() {
    const Value& factor = item(rope(), "factor");
    dimension(true);
    draft_.spec().scaling = RopeLinear{
        record_number(draft_, "factor", factor, "unsupported operand type(s) for /=: 'Tensor' and '{type}'")};
  }
  void dynamic() {
    dimension(false);
    const double s = record_number(draft_, "factor", item(rope(), "factor"),
                                   "unsupported operand type(s) for /: '{type}' and 'int'");
    draft_.record("original_context", config_.context);
    draft_.spec().scaling = RopeDynamic{s, whole_context()};
  }

  void yarn() {
    dimension(false);
    const Value& factor = item(rope(), "factor");
    RopeYarn yarn{1, 0};
    if (!version_.at_least({4, 51})) yarn_of_the_whole_context(factor, yarn);
    else if (!version_.at_least({4, 56})) yarn_by_ratio(factor, yarn);
    else yarn_by_factor(factor, yarn);
    read_betas_or_default(draft_, walk_, rope(), yarn);
    if (const Value* truncate = rope().find("truncate"); truncate && version_.at_least({4, 55})) {
      yarn.truncate = truthy(truncate->json);
      draft_.record("truncate", *truncate);
    }
    check_ramp(yarn, rope());
    notice_softmax_scale(walk_, config_, rope(), yarn.factor);
    draft_.spec().scaling = yarn;
  }
  /// 4.43 - 4.50: the original context of the dictionary is not read, and g(s) has no guard below 1.
  void yarn_of_the_whole_context(const Value& factor, RopeYarn& yarn) {
    yarn.original_context = logged_tokens(config_.context, kAboveTensor);
    draft_.record("original_context", config_.context);
    yarn.factor = record_number(draft_, "factor", factor, "must be real number, not {type}");
    if (const Value* own = given(rope(), "attention_factor")) {
      draft_.spec().attention_factor = record_number(draft_, "attention_factor", *own, kTimesFloat);
    } else {
      if (yarn.factor <= 0) raise("ValueError", "math domain error", factor.pointer);
      draft_.spec().attention_factor = 0.1 * std::log(yarn.factor) + 1;
      draft_.derived("attention_factor", "0.1 ln(factor) + 1");
    }
  }
  /// 4.51 - 4.55: with an original context in the dictionary the factor is the ratio, and the one that is given is
  /// discarded.
  void yarn_by_ratio(const Value& factor, RopeYarn& yarn) {
    if (const Value* original = rope().find("original_max_position_embeddings")) {
      yarn.original_context = tokens(*original, "unsupported operand type(s) for /: 'int' and '{type}'");
      draft_.record("original_context", *original);
      yarn.factor = double(whole_context()) / yarn.original_context;
      draft_.derived("factor", "max_position_embeddings / original context");
      if (!is_number(factor.json) || number(factor, "") != yarn.factor)
        walk_.notice(
            walk_.engine.title() + " discards the factor " + python_repr(factor.json) +
                " and takes max_position_embeddings / original_max_position_embeddings = " + Json(yarn.factor).dump(),
            factor.pointer);
      walk_.used(factor);
    } else {
      yarn.original_context = logged_tokens(config_.context, kAboveTensor);
      draft_.record("original_context", config_.context);
      yarn.factor = record_number(draft_, "factor", factor, kCompared);
    }
    set_attention_factor(draft_, rope(), yarn.factor);
  }
  /// 4.56, 4.57.
  void yarn_by_factor(const Value& factor, RopeYarn& yarn) {
    yarn.factor = record_number(draft_, "factor", factor, kCompared);
    if (const Value* original = rope().find("original_max_position_embeddings"); original && truthy(original->json)) {
      yarn.original_context = tokens(*original, "unsupported operand type(s) for /: 'int' and '{type}'");
      draft_.record("original_context", *original);
    } else {
      yarn.original_context = logged_tokens(config_.context, kAboveTensor);
      draft_.record("original_context", config_.context);
    }
    set_attention_factor(draft_, rope(), yarn.factor);
  }

  /// 4.45 - 4.47: the list by the factor, once and for all. 4.48 - 4.50: by length in phi3, always the short one
  /// elsewhere. From 4.51: by length.
  void longrope() {
    dimension(false);
    RopeLongrope longrope;
    read_lists(draft_, rope(), longrope);
    double s = 0;
    if (config_.original) {
      longrope.original_context = tokens(*config_.original, "unsupported operand type(s) for /: 'int' and '{type}'");
      draft_.record("original_context", *config_.original);
      s = double(nominal_tokens(walk_, config_.context, kAboveTensor)) / longrope.original_context;
      draft_.derived("factor", "max_position_embeddings / original context");
    } else {
      longrope.original_context = logged_tokens(config_.context, kAboveTensor);
      draft_.record("original_context", config_.context);
      const Value* factor = rope().find("factor");
      s = record_number(draft_, "factor", factor ? *factor : walk_.defaulted(nullptr), kCompared);
    }
    if (const Value* own = given(rope(), "attention_factor"))
      draft_.spec().attention_factor = record_number(draft_, "attention_factor", *own, kTimesFloat);
    else draft_.spec().attention_factor = longrope_attention_factor(s, longrope.original_context);
    if (!version_.at_least({4, 48})) {
      (s > 1 ? longrope.short_factor : longrope.long_factor) = s > 1 ? longrope.long_factor : longrope.short_factor;
      walk_.notice(walk_.engine.title() + " takes the " + (s > 1 ? "long" : "short") + " list at every length");
    } else if (!version_.at_least({4, 51}) && std::string_view(config_.family->model_type) != "phi3") {
      longrope.long_factor = longrope.short_factor;
      walk_.notice(walk_.engine.title() + " takes the short list at every length");
    }
    draft_.spec().scaling = std::move(longrope);
  }

  Walk& walk_;
  const HfConfig& config_;
  const HfVersion& version_;
  const Value& theta_;
  Draft draft_;
};

}  // namespace

EngineRope shared_rope_v4(Walk& walk, const HfConfig& config, const HfVersion& version, const Value& theta) {
  return RotaryV4(walk, config, version, theta).build();
}

}  // namespace ropewalk::formats::engines
