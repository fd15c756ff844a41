#include "formats/rope_emit.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <set>

#include "formats/rope_choice.h"
#include "formats/rope_config.h"
#include "formats/rope_dictionary.h"
#include "lib/number_text.h"

namespace ropewalk::formats {
namespace {

constexpr const char* kOriginal = "original_max_position_embeddings";

// Comparison ----------------------------------------------------------------------------------------------------------

/// Units in the last place between two positive floats, 2^31 where one is no frequency.
std::int64_t ulps(float a, float b) {
  if (a == b) return 0;
  if (!(a > 0 && b > 0) || std::isinf(a) || std::isinf(b)) return std::int64_t{1} << 31;
  return std::abs(std::int64_t{std::bit_cast<std::int32_t>(a)} - std::int64_t{std::bit_cast<std::int32_t>(b)});
}

/// The frequencies an engine turns by, divisors of positions included.
std::vector<float> effective(const EngineRope& rope, int length) {
  std::vector<float> table = engine_table(rope, length).inv_freq;
  if (rope.position_divisor != 1)
    for (float& f : table) f = float(double(f) / rope.position_divisor);
  return table;
}

/// Against the engine's own float32 arithmetic of the wanted rope, where compare_rope (engines/flags.h) has both sides
/// in double: what is written must survive that engine's rounding too. 3 units in the last place, as the engines agree
/// on a formula; llama.cpp multiplies angles up pair by pair in float32, each product rounded: 2^-24 for each of up to
/// 256 pairs.
bool same_frequency(const EngineRope& rope, float got, float want) {
  if (std::max(std::abs(got), std::abs(want)) < 1e-20f)
    return true;  // both stand still: 1e-11 radians after 10^9 tokens
  if (rope.arithmetic == EngineArithmetic::ggml) return std::abs(got - want) <= std::abs(want) * 0x1p-16f;
  return ulps(got, want) <= 3;
}

std::string table_difference(const RopeTarget& target, const EngineRope& rope, int length) {
  EngineRope wanted;
  wanted.spec = target.spec;
  if (rope.arithmetic == EngineArithmetic::torch_double) wanted.arithmetic = rope.arithmetic;
  const EngineTable want = engine_table(wanted, length);
  const std::vector<float> got = effective(rope, length);
  const std::string at = depends_on_length(target.spec) || depends_on_length(rope.spec)
                             ? " in a sequence of " + std::to_string(length) + " tokens"
                             : "";
  if (got.size() != want.inv_freq.size())
    return std::to_string(2 * got.size()) + " channels of a head rotate, " + std::to_string(2 * want.inv_freq.size()) +
           " are wanted";
  const float attention = engine_table(rope, length).attention_factor;
  std::size_t first = got.size(), differ = 0;
  for (std::size_t pair = got.size(); pair-- > 0;)
    if (!same_frequency(rope, got[pair], want.inv_freq[pair])) first = pair, ++differ;
  if (differ > 0)
    return std::to_string(differ) + " of " + std::to_string(got.size()) + " frequencies differ" + at + ", first pair " +
           std::to_string(first) + ": " + number_text(double(got[first]), 6) + ", " +
           number_text(double(want.inv_freq[first]), 6) + " is wanted";
  if (ulps(attention, want.attention_factor) > 1)
    return "attention factor " + number_text(double(attention), 6) + at + ", " +
           number_text(double(want.attention_factor), 6) + " is wanted";
  return "";
}

/// Lengths at which ropes that depend on it can part.
std::set<int> lengths(const RopeTarget& target, const EngineRope& rope) {
  if (!depends_on_length(target.spec) && !depends_on_length(rope.spec)) return {target.context};
  std::set<int> all = {1, target.context};
  for (const RopeSpec* spec : {&target.spec, &rope.spec})
    if (const std::optional<int> original = rope_original_context(*spec); original && *original < 1 << 30)
      for (int length : {*original, *original + 1, 2 * *original}) all.insert(length);
  return all;
}

}  // namespace

std::string first_difference(const RopeTarget& target, const EngineReading& reading) {
  for (const std::optional<EngineError>* error : {&reading.error, &reading.context_error})
    if (*error) return (*error)->kind + ": " + (*error)->text.substr(0, 160);
  for (const EngineRope& rope : reading.ropes)
    for (const int length : lengths(target, rope))
      if (const std::string difference = table_difference(target, rope, length); !difference.empty()) return difference;
  const auto* dynamic = std::get_if<RopeDynamic>(&target.spec.scaling);
  if (dynamic && reading.engine.engine == Engine::transformers && reading.context == dynamic->original_context)
    return "";
  if (reading.context != target.context)
    return "serves " + (reading.context ? std::to_string(*reading.context) : std::string("no stated number of")) +
           " tokens, " + std::to_string(target.context) + " are wanted";
  return "";
}

namespace {

// Candidates ----------------------------------------------------------------------------------------------------------

class Candidates {
 public:
  Candidates(const Json& preferred, const ModelConfig& model, const RopeTarget& target)
      : model_(model), target_(target), bare_(preferred) {
    all_.push_back({preferred, "transformers 4 and 5"});
    bare_.erase(kOriginal);
  }

  std::vector<RopeCandidate> take() {
    const auto* dynamic = std::get_if<RopeDynamic>(&target_.spec.scaling);
    const std::optional<int> original = rope_original_context(target_.spec);
    const int context = dynamic ? dynamic->original_context : target_.context;
    const std::optional<Json> dictionary = rope_dictionary(target_.spec);
    all_.front().named = dictionary.has_value();
    if (dictionary) {
      variants(*dictionary, context, "");
      // vLLM and SGLang multiply max_position_embeddings by the factor of a linear rope
      if (const std::optional<double> s = rope_factor(target_.spec); s && !dynamic && *s > 1)
        variants(*dictionary, int(std::lround(target_.context / *s)), ", max_position_embeddings the original context");
    }
    const std::size_t named = all_.size();
    for (const int length : {target_.context, original.value_or(0)})
      if (const std::optional<Json> lists = longrope_dictionary(target_.spec, target_.context, length))
        variants(*lists, target_.context, ", as longrope lists");
    for (std::size_t i = named; i < all_.size(); ++i)
      all_[i].named = std::holds_alternative<RopeLongrope>(target_.spec.scaling);
    if (model_.model_type == "mistral" && !bare_.contains("head_dim")) {  // transformers 4.52 to 4.57 need it
      const std::size_t count = all_.size();
      for (std::size_t i = 0; i < count; ++i) {
        all_.push_back({all_[i].config, all_[i].dialect + ", head_dim written", all_[i].named});
        all_.back().config["head_dim"] = model_.head_dim;
      }
    }
    return std::move(all_);
  }

 private:
  void variants(const Json& parameters, int context, const std::string& how) {
    const bool attention = parameters.contains("attention_factor") && parameters["rope_type"] == "yarn";
    for (const bool attention_factor : {true, false})
      for (const bool attn_factor : {true, false}) {
        if (!attention && !(attention_factor && attn_factor)) continue;
        if (attention && !attention_factor && !attn_factor) continue;
        Json dictionary = parameters;
        if (attention && attn_factor)
          dictionary["attn_factor"] =
              parameters["attention_factor"].get<double>() / yarn_attention_factor(parameters["factor"].get<double>());
        if (!attention_factor) dictionary.erase("attention_factor");
        const std::string keys = !attention || (attention_factor && attn_factor) ? ""
                                 : attention_factor                              ? ", attention_factor alone"
                                                                                 : ", attn_factor alone";
        dialects(dictionary, context, how + keys);
      }
  }

  /// Both spellings of the type (as config_with_rope writes it), each alone, and the dictionary of transformers 5.
  void dialects(const Json& parameters, int context, const std::string& how) {
    if (model_.model_type == "phi3" && parameters["rope_type"] == "longrope") three_keys(parameters, context, how);
    if (parameters["rope_type"] == "default") {
      add(nullptr, Json{{"rope_type", "default"}, {"rope_theta", parameters["rope_theta"]}}, context, parameters,
          "transformers 5" + how);
      add(nullptr, nullptr, context, parameters, "transformers 4" + how);
      return;
    }
    Json both = {{"rope_type", parameters["rope_type"]}, {"type", parameters["rope_type"]}};
    for (const auto& item : parameters.items())
      if (item.key() != "rope_type" && item.key() != "rope_theta") both[item.key()] = item.value();
    Json type = both, rope_type = both;
    type.erase("rope_type");
    rope_type.erase("type");
    add(both, nullptr, context, parameters, "transformers 4 and 5" + how);
    add(both, parameters, context, parameters, "transformers 4 and 5, both dictionaries" + how);
    add(nullptr, parameters, context, parameters, "transformers 5" + how);
    add(rope_type, nullptr, context, parameters, "transformers 4 from 4.43" + how);
    add(type, nullptr, context, parameters, "transformers 4 up to 4.42" + how);
  }

  /// What phi3 of transformers 4 takes and nothing else, "su" up to 4.42; the original context is at the top level, and
  /// the attention factor follows from the two contexts.
  void three_keys(const Json& parameters, int context, const std::string& how) {
    for (const char* type : {"longrope", "su"})
      add({{"type", type}, {"short_factor", parameters["short_factor"]}, {"long_factor", parameters["long_factor"]}},
          nullptr, context, parameters, std::string("phi3 of transformers 4, type ") + type + how);
  }

  void add(Json scaling, Json rope_parameters, int context, const Json& parameters, std::string dialect) {
    Json config = bare_;
    config["rope_theta"] = parameters["rope_theta"];
    for (auto& [key, value] : {std::pair("rope_scaling", &scaling), std::pair("rope_parameters", &rope_parameters)}) {
      if (value->is_null()) config.erase(key);
      else config[key] = std::move(*value);
    }
    config["max_position_embeddings"] = context;
    for (const char* key : kContextKeys)
      if (config.contains(key)) config[key] = context;
    all_.push_back({config, dialect});
    if (!parameters.contains(kOriginal)) return;
    config[kOriginal] = parameters[kOriginal];  // where transformers 4 looks for that of longrope
    all_.push_back({std::move(config), dialect + ", the original context at the top level too"});
  }

  const ModelConfig& model_;
  const RopeTarget& target_;
  Json bare_;  // every key of it that has to do with the rope is set or removed
  std::vector<RopeCandidate> all_;
};

}  // namespace

EmittedRope emit_rope(const Json& preferred, const ModelConfig& model, const RopeTarget& target,
                      std::span<const EngineVersion> engines) {
  const auto difference = [&](const EngineReading& reading) { return first_difference(target, reading); };
  const bool converts = model.model_type == "llama" || model.model_type == "mistral";
  return choose_rope(Candidates(preferred, model, target).take(),
                     {describe(target.spec) + " at " + std::to_string(target.context) + " tokens", difference,
                      target.context, converts},
                     engines);
}

std::vector<std::string> engines_that_run(const ModelConfig& model, const RopeTarget& target) {
  constexpr int kHeads = 4;  // any number: only the width of a head counts
  const Json config = {{"model_type", model.model_type},
                       {"head_dim", model.head_dim},
                       {"hidden_size", kHeads * model.head_dim},
                       {"num_attention_heads", kHeads},
                       {"max_position_embeddings", target.context}};
  std::vector<std::string> out;
  for (const EngineVersion& engine : newest_engines()) try {
      emit_rope(config, model, target, std::span(&engine, 1));
      out.push_back(engine.title());
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::unsupported) throw;  // else no candidate is right for it
    }
  return out;
}

}  // namespace ropewalk::formats
