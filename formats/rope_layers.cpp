#include "formats/rope_layers.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "formats/config_file.h"
#include "formats/rope_base.h"
#include "formats/rope_choice.h"
#include "formats/rope_dictionary.h"
#include "formats/rope_rewrite.h"
#include "lib/error.h"
#include "lib/plural.h"

namespace ropewalk::formats {
namespace {

constexpr const char* kWhole = "full_attention";
constexpr const char* kSliding = "sliding_attention";

/// The object of a SPEC that names kinds of layers; nullopt for any other SPEC.
std::optional<Json> by_kind(std::string_view spec) {
  const auto begin = spec.find_first_not_of(" \t\r\n");
  if (begin == std::string_view::npos || spec[begin] != '{') return std::nullopt;
  try {
    Json object = parse_json("", std::string(spec));
    const bool nested = std::any_of(object.begin(), object.end(), [](const Json& one) { return one.is_object(); });
    return nested ? std::optional(std::move(object)) : std::nullopt;
  } catch (const Error&) {
    return std::nullopt;  // parse_rope_spec says what is wrong with it
  }
}

std::vector<std::string> kinds_of(const WantedRope& ropes) {
  std::vector<std::string> kinds;
  for (const WantedLayer& layer : ropes.layers) kinds.push_back(layer.layer_type);
  return kinds;
}

WantedLayer* find_layer(WantedRope& ropes, std::string_view kind) {
  for (WantedLayer& layer : ropes.layers)
    if (layer.layer_type == kind) return &layer;
  return nullptr;
}

/// What parse_rope_spec makes of one kind's SPEC, as a rope, and the tokens it serves.
RopeTarget requested(std::string_view spec, const RopeSpec& before, const std::string& model_type) {
  RopeRequest request = parse_rope_spec(spec, rope_base_model(wanted_rope(before, before.context), model_type, 0));
  return {std::move(request.spec), request.served};
}

/// The dictionary of one kind, by the method's own name.
Json dictionary_of(const WantedLayer& layer, const std::string& kinds) {
  std::optional<Json> dictionary = rope_dictionary(layer.spec);
  if (!dictionary)
    throw Error(ErrorKind::unsupported, {},
                "no rope dictionary says " + describe(layer.spec) + ", wanted for " + layer.layer_type + " of " + kinds,
                "take a method that transformers names: linear, dynamic, yarn, llama3, longrope or proportional");
  return *dictionary;
}

/// The files that could say it.
class LayerCandidates {
 public:
  LayerCandidates(const Json& config, const WantedRope& wanted) : wanted_(wanted), bare_(config) {
    pointer_ = model_part(config).pointer;
    Json& model = part(bare_);
    for (const WantedLayer& layer : wanted.layers)
      dictionaries_[layer.layer_type] = dictionary_of(layer, listed(kinds_of(wanted)));
    for (const char* key : {"rope_scaling", "rope_parameters"}) {
      if (model.contains(key) && nested(model[key])) before_ = model[key];
      model.erase(key);
    }
  }

  std::vector<RopeCandidate> take() {
    for (const int context : contexts()) {
      const std::string how = context == wanted_.context ? "" : ", max_position_embeddings the original context";
      if (has_legacy_keys()) both(context, how);
      add(context, nullptr, parameters(), "transformers 5, per kind of layer" + how);
      if (has_legacy_keys()) legacy(context, how);
    }
    return std::move(all_);
  }

 private:
  Json& part(Json& config) const { return pointer_.empty() ? config : config[Json::json_pointer(pointer_)]; }
  /// Transformers 4 has the class, with two ropes.
  bool has_legacy_keys() {
    const Json& type = part(bare_).value("model_type", Json());
    return (type == "gemma3_text" || type == "gemma3" || type == "olmo3") && dictionaries_.contains(kWhole) &&
           dictionaries_.contains(kSliding);
  }
  bool nested(const Json& value) const {
    return value.is_object() && std::any_of(wanted_.layers.begin(), wanted_.layers.end(),
                                            [&](const WantedLayer& one) { return value.contains(one.layer_type); });
  }

  /// vLLM and SGLang multiply max_position_embeddings by the factor of a linear rope; a dynamic one takes it for its L.
  std::vector<int> contexts() const {
    std::vector<int> out = {wanted_.context};
    for (const WantedLayer& layer : wanted_.layers) {
      const std::optional<double> s = rope_factor(layer.spec);
      if (const auto* dynamic = std::get_if<RopeDynamic>(&layer.spec.scaling)) return {dynamic->original_context};
      if (s && *s > 1) out.push_back(int(std::lround(wanted_.context / *s)));
    }
    return out;
  }

  /// What the file says of kinds without a rope (null) and beside the kinds stays; truncate, which transformers 5 reads
  /// there and not inside them, follows the ropes.
  Json parameters() const {
    Json out = before_.is_object() ? before_ : Json::object();
    out.erase("truncate");
    for (const auto& item : dictionaries_.items()) {
      out[item.key()] = item.value();
      if (item.value().contains("truncate")) out["truncate"] = item.value().at("truncate");
    }
    return out;
  }

  /// Gemma 3 and Olmo 3 of transformers 4: rope_scaling and rope_theta are those of the full layers, the sliding ones
  /// have no scaling, and in Gemma 3 a base of their own.
  void legacy_keys(Json& model, const char* type_key) const {
    Json whole = dictionaries_[kWhole];
    model["rope_theta"] = whole["rope_theta"];
    if (model["model_type"] != "olmo3") model["rope_local_base_freq"] = dictionaries_[kSliding]["rope_theta"];
    if (whole["rope_type"] == "default") {
      model["rope_scaling"] = nullptr;
      return;
    }
    whole.erase("rope_theta");
    if (type_key) whole[type_key] = whole["rope_type"];
    model["rope_scaling"] = std::move(whole);
  }
  void legacy(int context, const std::string& how) {
    for (const char* also : {"type", static_cast<const char*>(nullptr)}) {
      Json config = bare_;
      legacy_keys(part(config), also);
      finish(std::move(config), context, std::string("transformers 4 and 5") + (also ? "" : ", rope_type alone") + how);
    }
  }
  void both(int context, const std::string& how) {
    Json config = bare_;
    legacy_keys(part(config), "type");
    part(config)["rope_parameters"] = parameters();
    finish(std::move(config), context, "transformers 4, and 5 per kind of layer" + how);
  }

  void add(int context, const Json& scaling, Json parameters, const std::string& dialect) {
    Json config = bare_;
    Json& model = part(config);
    if (!scaling.is_null()) model["rope_scaling"] = scaling;
    model["rope_parameters"] = std::move(parameters);
    finish(std::move(config), context, dialect);
  }
  void finish(Json config, int context, const std::string& dialect) {
    Json& model = part(config);
    model["max_position_embeddings"] = context;
    for (const char* key : kContextKeys)
      if (model.contains(key)) model[key] = context;
    all_.push_back({std::move(config), dialect});
  }

  const WantedRope& wanted_;
  std::string pointer_;
  Json bare_, before_, dictionaries_ = Json::object();
  std::vector<RopeCandidate> all_;
};

/// Lengths at which ropes that depend on it can part.
std::set<int> lengths(const WantedRope& wanted) {
  std::set<int> all = {wanted.context};
  for (const WantedLayer& layer : wanted.layers)
    if (const auto original = rope_original_context(layer.spec);
        depends_on_length(layer.spec) && original && *original < 1 << 30)
      all.insert({1, *original, *original + 1, 2 * *original});
  return all;
}

}  // namespace

std::optional<WantedRope> layer_ropes(const Json& config, std::string_view spec) {
  if (!config.is_object()) return std::nullopt;
  const std::optional<Json> renamed = with_longrope_for_su(config);
  const EngineReading reading = read_as(newest(Engine::transformers), renamed ? *renamed : config);
  if (reading.error || !reading.context) return std::nullopt;
  WantedRope ropes = wanted_rope(reading, *reading.context);
  const bool one = ropes.layers.size() == 1 && ropes.layers[0].layer_type.empty();
  if (!one) return ropes;
  if (!by_kind(spec)) return std::nullopt;
  const WantedLayer all = ropes.layers[0];
  ropes.layers.clear();
  const Json types = model_part(config).json->value("layer_types", Json::array());
  for (const Json& type : types)
    if (type.is_string() && !find_layer(ropes, type.get<std::string>()))
      ropes.layers.push_back({type.get<std::string>(), all.spec});
  return ropes.layers.empty() ? std::nullopt : std::optional(std::move(ropes));
}

WantedRope parse_layer_ropes(std::string_view spec, const WantedRope& base, const Json& config) {
  WantedRope wanted = base;
  const Json type = model_part(config).json->value("model_type", Json());
  const std::string model_type = type.is_string() ? type.get<std::string>() : "";
  std::optional<Json> kinds = by_kind(spec);
  const bool named = kinds.has_value();
  if (!named) kinds = Json{{kWhole, nullptr}};
  int context = 0;
  for (const auto& item : kinds->items()) {
    WantedLayer* layer = find_layer(wanted, item.key());
    if (!layer || (named && !item.value().is_object()))
      throw Error(ErrorKind::usage, {},
                  "rope '" + std::string(spec.substr(0, 120)) + "': " +
                      (layer ? "'" + item.key().substr(0, 40) + "' has no dictionary"
                             : "the model has no layers of kind '" + item.key().substr(0, 40) + "'"),
                  "it has " + listed(kinds_of(base)) + R"(: give {"KIND": {"rope_type": ...}, ...})");
    const RopeTarget target = requested(named ? std::string_view(item.value().dump()) : spec, layer->spec, model_type);
    layer->spec = target.spec;
    context = std::max(context, target.context);
  }
  wanted.context = context;
  for (WantedLayer& layer : wanted.layers) layer.spec.context = context;
  return wanted;
}

std::string first_difference(const WantedRope& wanted, const EngineReading& reading) {
  for (const std::optional<EngineError>* error : {&reading.error, &reading.context_error})
    if (*error) return (*error)->kind + ": " + (*error)->text.substr(0, 160);
  for (const int length : lengths(wanted)) {
    RopeDifference difference = compare_rope(wanted, reading, length);
    for (const WantedLayer& layer : wanted.layers)  // transformers has no limit of its own: the formula's is nominal
      if (const auto* dynamic = std::get_if<RopeDynamic>(&layer.spec.scaling);
          dynamic && reading.engine.engine == Engine::transformers && reading.context == dynamic->original_context)
        difference.context = false;
    if (!difference.none()) return describe_difference(wanted, reading, length);
  }
  return "";
}

EmittedRope emit_layer_ropes(const Json& config, const WantedRope& wanted, std::span<const EngineVersion> engines) {
  std::vector<RopeCandidate> candidates = LayerCandidates(config, wanted).take();
  const WantedReading what = {describe(wanted) + " at " + std::to_string(wanted.context) + " tokens",
                              [&](const EngineReading& reading) { return first_difference(wanted, reading); },
                              wanted.context, false};
  if (engines.empty()) {  // kinds of layers are transformers' own: what it does not read is written for nobody unasked
    const EngineVersion transformers = newest(Engine::transformers);
    std::vector<RopeCandidate> right;
    for (const RopeCandidate& one : candidates)
      if (what.difference(read_as(transformers, one.config)).empty()) right.push_back(one);
    if (right.empty()) return choose_rope(candidates, what, std::span(&transformers, 1));  // refuses, and says why
    candidates = std::move(right);
  }
  return choose_rope(candidates, what, engines);
}

std::string describe(const WantedRope& wanted) {
  std::vector<std::string> parts;
  for (const WantedLayer& layer : wanted.layers)
    parts.push_back((layer.layer_type.empty() ? "" : layer.layer_type + " ") + ropewalk::describe(layer.spec));
  return listed(parts);
}

}  // namespace ropewalk::formats
