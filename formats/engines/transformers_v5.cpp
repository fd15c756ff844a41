// transformers 5.x: modeling_rope_utils.py (5.0.0 and 5.23.0 were run), rope_parameters flat or nested by layer type.
#include "formats/engines/class_defaults.h"
#include "formats/engines/rules.h"

namespace ropewalk::formats::engines {
namespace {

class RotaryV5 {
 public:
  RotaryV5(Walk& walk, const HfConfig& config, const HfVersion& version, const std::string& layer_type,
           const Dict& rope)
      : walk_(walk), config_(config), version_(version), layer_type_(layer_type), rope_(rope), draft_(walk) {}

  EngineRope build() {
    draft_.rope.layer_type = layer_type_;
    const Value& type = item(rope_, "rope_type");
    draft_.record("method", type);
    if (!type.json.is_string()) raise("KeyError", python_repr(type.json), type.pointer);
    const std::string name = type.json.get<std::string>();
    set_theta(draft_, item(rope_, "rope_theta"));
    draft_.spec().context = nominal_tokens(walk_, config_.context, kAboveTensor);
    if (name == "default") plain();
    else if (name == "linear") linear();
    else if (name == "dynamic") dynamic();
    else if (name == "yarn") yarn();
    else if (name == "longrope") longrope();
    else if (name == "llama3") dimension(true), draft_.spec().scaling = read_llama3(draft_, rope_);
    else if (name == "proportional" && version_.at_least({5, 1})) proportional();
    else raise("KeyError", "'" + name + "'", type.pointer);
    return draft_.finish();
  }

 private:
  /// `tolerant`: head_dim None is worked out (default, linear, llama3, proportional); the others multiply it.
  Value head_dim(bool tolerant) const {
    if (mistral4())
      return walk_.defaulted(walk_.positive_int("qk_nope_head_dim") + walk_.positive_int("qk_rope_head_dim"));
    if (layer_type_ == "full_attention" && widens_full_layers(walk_.model_type()))
      return walk_.get("global_head_dim", 512);
    const std::optional<Value> attribute = head_dim_attribute(walk_, config_, version_);
    if (!attribute || (tolerant && !truthy(attribute->json))) return walk_.defaulted(split_head_dim(walk_));
    return *attribute;
  }
  /// Mistral4Config (asked in 5.23.0): a head is the part that rotates and the part that does not, and the share of the
  /// first stands in rope_parameters or is put there.
  bool mistral4() const {
    return walk_.engine.engine == Engine::transformers && walk_.model_type() == "mistral4" &&
           walk_.has("qk_nope_head_dim") && walk_.has("qk_rope_head_dim");
  }
  std::optional<Value> partial() const {
    const Value* value = rope_.find("partial_rotary_factor");
    if (!value && mistral4())
      return walk_.defaulted(double(walk_.positive_int("qk_rope_head_dim")) /
                             (walk_.positive_int("qk_nope_head_dim") + walk_.positive_int("qk_rope_head_dim")));
    return value ? std::optional<Value>(*value) : std::nullopt;
  }
  void dimension(bool tolerant) { set_rotary_dim(draft_, head_dim(tolerant), partial()); }

  /// Each model's own compute_default_rope_parameters: most ignore partial_rotary_factor, phi3 does not.
  void plain() {
    const bool honours =
        std::string_view(config_.family->model_type) == "phi3" || (!config_.family->known && !mistral4());
    set_rotary_dim(draft_, head_dim(true), honours ? partial() : std::nullopt);
    if (!honours && partial())
      walk_.notice(
          "the plain rope of " + walk_.engine.title() + " rotates the whole head, whatever partial_rotary_factor says",
          partial()->pointer);
  }
  void linear() {
    dimension(true);
    draft_.spec().scaling = RopeLinear{record_number(draft_, "factor", item(rope_, "factor"),
                                                     "unsupported operand type(s) for /=: 'Tensor' and '{type}'")};
  }
  void dynamic() {
    dimension(false);
    if (const Value* alpha = rope_.find("alpha");
        alpha && truthy(alpha->json) && has_static_alpha(walk_.model_type())) {
      draft_.spec().scaling = RopeNtk{
          record_number(draft_, "alpha", *alpha, "unsupported operand type(s) for ** or pow(): '{type}' and 'float'")};
      return;
    }
    const double s =
        record_number(draft_, "factor", item(rope_, "factor"), "unsupported operand type(s) for /: '{type}' and 'int'");
    draft_.record("original_context", config_.context);
    draft_.spec().scaling = RopeDynamic{s, tokens(config_.context, kAboveTensor)};
    if (!version_.at_least({5, 1}))
      walk_.notice("after a prompt beyond the original context the rotation stays as it was then, in shorter ones too");
  }
  /// Its logarithm is taken; of yarn's the ratio to max_position_embeddings is looked at before (validate_yarn).
  int original() {
    const Value& value = item(rope_, "original_max_position_embeddings");
    draft_.record("original_context", value);
    if (item(rope_, "rope_type").json == "yarn" && value.json == 0)
      raise("ZeroDivisionError", value.json.is_number_float() ? "float division by zero" : "division by zero",
            value.pointer);
    return logged_tokens(value, "unsupported operand type(s) for /: 'int' and '{type}'");
  }
  /// A null factor is the ratio of the contexts.
  double factor_or_ratio(const Value* factor, int original_context) {
    if (factor && !factor->json.is_null()) return record_number(draft_, "factor", *factor, kCompared);
    draft_.derived("factor", "max_position_embeddings / original context");
    if (factor) walk_.used(*factor);
    return double(tokens(config_.context, kAboveTensor)) / original_context;
  }
  void yarn() {
    if (!layer_type_.empty() && !version_.at_least({5, 1}))
      raise("KeyError", "'original_max_position_embeddings'", rope_.pointer);
    dimension(false);
    const Value& factor = item(rope_, "factor");
    const int original_context = original();
    RopeYarn yarn{factor_or_ratio(&factor, original_context), original_context};
    set_attention_factor(draft_, rope_, yarn.factor);
    read_betas_or_default(draft_, walk_, rope_, yarn);
    // read beside the layer types, not inside them
    const Dict& outer = layer_type_.empty() || !config_.rope ? rope_ : *config_.rope;
    if (const Value* truncate = outer.find("truncate")) {
      yarn.truncate = truthy(truncate->json);
      draft_.record("truncate", *truncate);
    }
    check_ramp(yarn, rope_);
    notice_softmax_scale(walk_, config_, rope_, yarn.factor);
    draft_.spec().scaling = yarn;
  }
  void longrope() {
    dimension(false);
    RopeLongrope longrope;
    longrope.original_context = original();
    read_lists(draft_, rope_, longrope);
    const double s = factor_or_ratio(rope_.find("factor"), longrope.original_context);
    if (const Value* own = given(rope_, "attention_factor"))
      draft_.spec().attention_factor = record_number(draft_, "attention_factor", *own, kTimesFloat);
    else draft_.spec().attention_factor = longrope_attention_factor(s, longrope.original_context);
    draft_.spec().scaling = std::move(longrope);
  }
  void proportional() {
    const Value head = head_dim(true);
    const int whole = channels(number(head, kTimesFloat), head.pointer);
    const std::optional<Value> share = partial();
    const double proportion = share ? number(*share, kTimesFloat) : 1.0;
    if (!(proportion > 0 && proportion <= 1))
      not_followed("a partial_rotary_factor of " + Json(proportion).dump(), share->pointer);
    draft_.spec().rotary_dim = 2 * int(proportion * whole / 2);
    draft_.record("rotary_dim", share ? *share : head);
    const Value* factor = rope_.find("factor");
    draft_.spec().scaling = RopeProportional{
        factor ? record_number(draft_, "factor", *factor, "unsupported operand type(s) for /=: 'Tensor' and '{type}'")
               : 1.0,
        whole};
  }

  Walk& walk_;
  const HfConfig& config_;
  const HfVersion& version_;
  const std::string& layer_type_;
  const Dict& rope_;
  Draft draft_;
};

}  // namespace

EngineRope shared_rope_v5(Walk& walk, const HfConfig& config, const HfVersion& version, const std::string& layer_type,
                          const Dict& rope) {
  return RotaryV5(walk, config, version, layer_type, rope).build();
}

}  // namespace ropewalk::formats::engines
