#include <algorithm>
#include <cstdlib>
#include <cmath>

#include "formats/config_file.h"
#include "formats/engines/flags_private.h"
#include "formats/engines/hf_config.h"

namespace ropewalk::formats::engines {
namespace {

/// The attention factor that the method has by itself at its factor.
double own_attention(const RopeSpec& spec) {
  RopeSpec plain = spec;
  plain.attention_factor.reset();
  return rope_table(plain, 1).attention_factor;
}

/// Any rope that is the same at every length, as two equal lists of longrope: the last resort, long but exact.
std::optional<WantedRope> as_lists(const WantedRope& wanted) {
  if (wanted.layers.size() != 1) return std::nullopt;
  const RopeSpec& spec = wanted.layers[0].spec;
  if (depends_on_length(spec) ||
      (std::holds_alternative<RopeUnscaled>(spec.scaling) && spec.frequency_divisors.empty()))
    return std::nullopt;
  RopeSpec plain = spec;
  plain.scaling = RopeUnscaled{};
  plain.frequency_divisors.clear();
  const RopeTable before = rope_table(plain, 1), after = rope_table(spec, 1);
  if (before.inv_freq.size() != after.inv_freq.size()) return std::nullopt;
  RopeLongrope lists;
  for (std::size_t pair = 0; pair < before.inv_freq.size(); ++pair) {
    if (!(after.inv_freq[pair] > 0)) return std::nullopt;
    lists.long_factor.push_back(shortest(double(float(before.inv_freq[pair] / after.inv_freq[pair]))));
  }
  lists.short_factor = lists.long_factor;
  lists.original_context = wanted.context;
  plain.scaling = std::move(lists);
  plain.attention_factor = after.attention_factor;
  plain.context = wanted.context;
  return WantedRope{{{wanted.layers[0].layer_type, std::move(plain)}}, wanted.context};
}

/// The model's part of the file, and its rope dictionary as far as it has one.
struct FileRope {
  const Json* model;
  bool in_text_config;
  Json dict = Json::object();

  explicit FileRope(const Json& config) : model(model_part(config).json), in_text_config(model_part(config).nested()) {
    for (const char* key : {"rope_scaling", "rope_parameters"})
      if (dict.empty() && model->is_object() && model->contains(key) && model->at(key).is_object())
        dict = model->at(key);
  }
  const Json* find(const char* key) const {
    if (!model->is_object() || !model->contains(key) || model->at(key).is_null()) return nullptr;
    return &model->at(key);
  }
};

enum class Attention { none, attention_factor, attn_factor, both, mscale, beside_lists };

/// A rope dictionary in Hugging Face's keys; nullopt where it has no word for the method.
class Dictionary {
 public:
  Dictionary(const RopeSpec& spec, const FileRope& file, bool parameters) : spec_(spec), file_(file), v5_(parameters) {}

  std::optional<Json> write(const std::string& type_key, Attention attention) {
    if (!spec_.frequency_divisors.empty()) return std::nullopt;
    out_ = Json::object();
    type_key_ = type_key;
    if (!std::visit([this](const auto& scaling) { return method(scaling); }, spec_.scaling)) return std::nullopt;
    if (attention != Attention::none && !say(attention)) return std::nullopt;
    if (v5_) out_["rope_theta"] = theta();
    carry();
    return out_;
  }
  double theta() const {
    const auto* ntk = std::get_if<RopeNtk>(&spec_.scaling);
    return shortest(ntk ? ntk_base(spec_.theta, ntk->alpha, spec_.rotary_dim) : spec_.theta);
  }

 private:
  void name(const char* type) { out_[type_key_] = type; }
  void original(int context) { out_["original_max_position_embeddings"] = context; }
  bool method(const RopeUnscaled&) { return name("default"), true; }
  bool method(const RopeNtk&) { return name("default"), true; }
  bool method(const RopeLinear& s) {
    name("linear");
    out_["factor"] = shortest(s.factor);
    return true;
  }
  bool method(const RopeDynamic& s) {
    name("dynamic");
    out_["factor"] = shortest(s.factor);
    return true;
  }
  bool method(const RopeYarn& s) {
    name("yarn");
    out_["factor"] = shortest(s.factor);
    original(s.original_context);
    if (s.beta_fast != 32) out_["beta_fast"] = s.beta_fast;
    if (s.beta_slow != 1) out_["beta_slow"] = s.beta_slow;
    if (!s.truncate) out_["truncate"] = false;
    if (s.extrapolation_factor != 1) out_["extrapolation_factor"] = s.extrapolation_factor;
    return true;
  }
  bool method(const RopeLlama3& s) {
    name("llama3");
    out_["factor"] = shortest(s.factor);
    out_["low_freq_factor"] = s.low_freq_factor;
    out_["high_freq_factor"] = s.high_freq_factor;
    original(s.original_context);
    return true;
  }
  bool method(const RopeLongrope& s) {
    name("longrope");
    out_["short_factor"] = s.short_factor;
    out_["long_factor"] = s.long_factor;
    original(s.original_context);
    return true;
  }
  bool method(const RopeProportional& s) {
    name("proportional");
    if (s.factor != 1) out_["factor"] = shortest(s.factor);
    out_["partial_rotary_factor"] = double(spec_.rotary_dim) / s.head_dim;
    return true;
  }
  bool method(const RopeNtkByParts&) { return false; }
  bool method(const RopeDynamicYarn&) { return false; }

  bool say(Attention attention) {
    const double a = rope_table(spec_, 1).attention_factor;
    if (attention == Attention::mscale) {
      for (const char* key : {"mscale", "mscale_all_dim"})
        if (file_.dict.contains(key)) out_[key] = file_.dict[key];
      return file_.dict.contains("mscale") || file_.dict.contains("mscale_all_dim");
    }
    if (attention == Attention::beside_lists) {  // vLLM's and SGLang's longrope
      out_["short_mscale"] = out_["long_mscale"] = shortest(a);
      return std::holds_alternative<RopeLongrope>(spec_.scaling);
    }
    if (attention != Attention::attn_factor) out_["attention_factor"] = shortest(a);
    if (attention != Attention::attention_factor) out_["attn_factor"] = shortest(a / own_attention(spec_));
    return true;
  }

  /// What the file's dictionary says beside the scaling, which a whole new one would lose.
  void carry() {
    for (const char* key : {"mrope_section", "mrope_interleaved"})
      if (file_.dict.contains(key)) out_[key] = file_.dict[key];
    if (!v5_ || out_.contains("partial_rotary_factor")) return;
    if (file_.dict.contains("partial_rotary_factor"))
      out_["partial_rotary_factor"] = file_.dict["partial_rotary_factor"];
    else if (const Json* share = file_.find("partial_rotary_factor")) out_["partial_rotary_factor"] = *share;
  }

  const RopeSpec& spec_;
  const FileRope& file_;
  bool v5_;
  std::string type_key_;
  Json out_;
};

/// Keys that engines prefer to max_position_embeddings, or take the smallest of.
constexpr const char* kLengthKeys[] = {
    "n_positions",          "max_seq_len",         "seq_length",     "model_max_length",
    "max_target_positions", "max_sequence_length", "max_seq_length", "seq_len"};

class Overrides {
 public:
  Overrides(const EngineVersion& engine, const Json& config, const WantedRope& wanted)
      : engine_(engine), file_(config), wanted_(wanted), v5_(reads_rope_parameters(engine)) {}

  std::vector<FlagSet> all() {
    out_.push_back({});
    FlagSet asked;
    asked.context = context_flag();
    if (asked.context) out_.push_back(asked);
    for (const Json& lengths : length_variants()) {
      add(lengths);
      for (const Json& rope : rope_variants()) {
        Json both = rope;
        for (const auto& item : lengths.items()) both[item.key()] = item.value();
        add(both);
      }
    }
    return std::move(out_);
  }

 private:
  std::optional<int> context_flag() const {
    return engine_.engine == Engine::transformers ? std::nullopt : std::optional<int>(wanted_.context);
  }
  void add(const Json& overrides) {
    if (!overrides.empty() && file_.in_text_config && !reaches_text_config(engine_)) return;
    FlagSet flags;
    flags.overrides = overrides;
    flags.in_text_config = file_.in_text_config && !overrides.empty();
    flags.context = context_flag();
    if (!overrides.empty()) out_.push_back(flags);
    if (engine_.engine == Engine::transformers) return;
    flags.allow_longer_context = true;
    out_.push_back(flags);
  }

  /// {} and max_position_embeddings by every number that may be meant, with the other length keys set along.
  std::vector<Json> length_variants() const {
    std::vector<int> contexts = {wanted_.context};
    for (const WantedLayer& layer : wanted_.layers) {
      const std::optional<int> original = rope_original_context(layer.spec);
      const double factor = rope_factor(layer.spec).value_or(1);
      if (original) contexts.push_back(*original);
      if (original && factor * *original < 1e9) contexts.push_back(int(std::lround(factor * *original)));
      if (wanted_.context / factor >= 1) contexts.push_back(int(std::lround(wanted_.context / factor)));
    }
    std::vector<Json> variants = {Json::object()};
    std::vector<int> seen;
    const Json* stated = file_.find("max_position_embeddings");
    for (const int context : contexts) {
      if (std::find(seen.begin(), seen.end(), context) != seen.end()) continue;
      seen.push_back(context);
      Json plain = Json::object(), along = Json::object();
      if (!stated || *stated != context) plain["max_position_embeddings"] = context;
      along = plain;
      for (const char* key : kLengthKeys)
        if (const Json* other = file_.find(key); other && *other != context) along[key] = context;
      if (!plain.empty()) variants.push_back(plain);
      if (along != plain) variants.push_back(along);
    }
    return variants;
  }

  std::vector<Json> rope_variants() const {
    std::vector<Json> variants = rope_variants(wanted_);
    if (const std::optional<WantedRope> lists = as_lists(wanted_))
      for (Json& variant : rope_variants(*lists)) variants.push_back(std::move(variant));
    // a base for one length, where the engine has none that follows the sequence
    WantedRope still = wanted_;
    for (WantedLayer& layer : still.layers) hold_still(layer.spec, wanted_.context);
    if (std::any_of(wanted_.layers.begin(), wanted_.layers.end(),
                    [](const WantedLayer& layer) { return std::holds_alternative<RopeDynamic>(layer.spec.scaling); }))
      for (Json& variant : rope_variants(still)) variants.push_back(std::move(variant));
    return variants;
  }
  std::vector<Json> rope_variants(const WantedRope& wanted) const {
    std::vector<Json> variants;
    for (const char* type_key : {"rope_type", "type"}) {
      // before transformers 4.43 only `type` is known
      if ((std::string_view(type_key) == "type") == transformers_of(engine_).at_least({4, 43})) continue;
      for (const Attention attention : {Attention::none, Attention::attention_factor, Attention::attn_factor,
                                        Attention::both, Attention::mscale, Attention::beside_lists})
        if (std::optional<Json> dict = dictionary(wanted, type_key, attention))
          variants.push_back(in_place(wanted, *dict));
    }
    if (!v5_ && wanted.layers.size() == 1 && plain(wanted.layers[0].spec))
      variants.push_back(in_place(wanted, nullptr));
    return variants;
  }
  static bool plain(const RopeSpec& spec) {
    return spec.frequency_divisors.empty() &&
           (std::holds_alternative<RopeUnscaled>(spec.scaling) || std::holds_alternative<RopeNtk>(spec.scaling));
  }

  /// One dictionary, or one per kind of layer (transformers 5 alone).
  std::optional<Json> dictionary(const WantedRope& wanted, const char* type_key, Attention attention) const {
    if (wanted.layers.size() == 1) return Dictionary(wanted.layers[0].spec, file_, v5_).write(type_key, attention);
    if (!v5_) return std::nullopt;
    Json nested = Json::object();
    for (const WantedLayer& layer : wanted.layers) {
      const std::optional<Json> dict = Dictionary(layer.spec, file_, v5_).write(type_key, attention);
      if (!dict) return std::nullopt;
      nested[layer.layer_type] = *dict;
      // beside the kinds of layers, where transformers looks; others look inside
      if (engine_.engine == Engine::transformers && dict->contains("truncate"))
        nested["truncate"] = dict->at("truncate");
    }
    return nested;
  }

  /// Under the key that the engine reads, with the base and the top level's original context beside it where needed.
  Json in_place(const WantedRope& wanted, const Json& dict) const {
    Json out = Json::object();
    const RopeSpec& spec = wanted.layers.at(0).spec;
    const bool both_names = engine_.engine == Engine::vllm && engine_.at_least({0, 12}) && !v5_;
    if (v5_ || both_names) {
      out["rope_parameters"] = dict;
      // vLLM 0.12 knows the new name and takes the base from the top level
      if (both_names && !dict.is_null()) out["rope_parameters"]["rope_theta"] = Dictionary(spec, file_, v5_).theta();
      if (both_names && file_.find("rope_scaling")) out["rope_scaling"] = nullptr;
    } else {
      out["rope_scaling"] = dict;
    }
    const double theta = Dictionary(spec, file_, v5_).theta();
    const Json* stated = file_.find("rope_theta");
    if (!v5_ && (!stated || !stated->is_number() || stated->get<double>() != theta)) out["rope_theta"] = theta;
    const Json* original = file_.find("original_max_position_embeddings");
    if (const std::optional<int> meant = rope_original_context(spec); meant && original && *original != *meant)
      out["original_max_position_embeddings"] = *meant;
    return out;
  }

  const EngineVersion& engine_;
  const FileRope file_;
  const WantedRope& wanted_;
  const bool v5_;
  std::vector<FlagSet> out_;
};

}  // namespace

std::vector<FlagSet> candidates(const EngineVersion& engine, const FlagsSource& source, const WantedRope& wanted) {
  if (engine.engine == Engine::llama_cpp) return llama_cpp_candidates(engine, wanted);
  if (!takes_overrides(engine)) return exllama_candidates(engine, wanted);
  const auto* config = std::get_if<const Json*>(&source);
  if (!config || wanted.layers.empty()) return {FlagSet{}};
  return Overrides(engine, **config, wanted).all();
}

}  // namespace ropewalk::formats::engines
