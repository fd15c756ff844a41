#include "formats/rope_meaning.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "formats/config_file.h"
#include "formats/engines/python.h"
#include "formats/json_fields.h"
#include "formats/rope_base.h"
#include "formats/rope_config.h"
#include "formats/rope_fields.h"
#include "lib/error.h"

namespace ropewalk::formats {
namespace {

using engines::kMostChannels;

/// One reading of what a file means.
class MeaningReader {
 public:
  MeaningReader(const std::string& path, const std::string& text, const Json& config)
      : path_(path),
        text_(text),
        config_(config),
        part_(model_part(config)),
        reading_(read_as(newest(Engine::transformers), config)) {}

  RopeMeaning read() {
    refuse_truth_values();
    meaning_.remote_code = yarn_remote_code(config_);
    meaning_.by = meaning_.remote_code ? "the remote code " + *meaning_.remote_code : reading_.engine.title();
    const Json type = part_.json->value("model_type", Json());
    const bool own = !part_.nested() && (type == "llama" || type == "mistral") &&
                     (reading_.ropes.size() <= 1 || meaning_.remote_code);
    const std::optional<RopeGeometry> shape = own ? geometry() : std::nullopt;
    if (shape) meaning_.rope = wanted_rope(read_hf_rope(path_, text_, config_, *shape, meaning_.warnings), 0);
    else take_reading();
    for (const WantedLayer& layer : meaning_.rope.layers) judge(layer.spec);
    return finish();
  }

  std::optional<RopeMeaning> lenient() {
    if (reading_.error) return std::nullopt;
    meaning_.by = reading_.engine.title();
    take_reading();
    return finish();
  }

 private:
  [[noreturn]] void fail(const std::string& pointer, const std::string& problem, const std::string& fix) const {
    throw Error(ErrorKind::bad_input, json_place(path_, text_, pointer), problem, fix);
  }

  /// Python takes true for 1 where a file has a slip.
  void refuse_truth_values() const {
    const auto check = [&](const Json& object, const std::string& pointer, std::initializer_list<const char*> keys) {
      for (const char* key : keys)
        if (object.contains(key) && object.at(key).is_boolean())
          fail(pointer + "/" + key, std::string(key) + " is " + object.at(key).dump() + ", a number was expected",
               "write it as a number");
    };
    const auto check_dictionary = [&](const Json& rope, const std::string& pointer) {
      check(rope, pointer,
            {"factor", "rope_theta", "original_max_position_embeddings", "beta_fast", "beta_slow", "attention_factor",
             "mscale", "mscale_all_dim", "low_freq_factor", "high_freq_factor", "partial_rotary_factor"});
    };
    const Json& model = *part_.json;
    check(model, part_.pointer,
          {"rope_theta", "rope_local_base_freq", "max_position_embeddings", "original_max_position_embeddings",
           "head_dim", "hidden_size", "num_attention_heads", "partial_rotary_factor"});
    for (const std::string key : {"rope_scaling", "rope_parameters"}) {
      if (!model.contains(key) || !model.at(key).is_object()) continue;
      check_dictionary(model.at(key), part_.pointer + "/" + key);
      for (const auto& item : model.at(key).items())
        if (item.value().is_object())
          check_dictionary(item.value(), part_.pointer + "/" + key + "/" + pointer_segment(item.key()));
    }
  }

  /// The engine's; where it has none, what fails says where.
  std::optional<RopeGeometry> geometry() const {
    const auto whole = [&](const char* key) {
      const Json value = config_.value(key, Json());
      return value.is_number_integer() && value > 0 && value < 1 << 20 ? value.get<int>() : 0;
    };
    RopeGeometry out;
    if (!config_.value("head_dim", Json()).is_null()) out.head_dim = whole("head_dim");
    else if (whole("num_attention_heads") > 0) out.head_dim = whole("hidden_size") / whole("num_attention_heads");
    const Json context = config_.value("max_position_embeddings", Json());
    if (out.head_dim < 2 || out.head_dim > kMostChannels || out.head_dim % 2 != 0 || !context.is_number_integer() ||
        context < 1 || context > 2147483647)
      return std::nullopt;
    out.context = context.get<int>();
    return out;
  }

  void take_reading() {
    if (const auto& error = reading_.error)
      fail(error->pointer,
           error->kind == kNotFollowed
               ? "not followed: " + error->text.substr(0, 300)
               : reading_.engine.title() + " raises " + error->kind + ": " + error->text.substr(0, 300),
           std::string(error->kind == kNotFollowed ? "" : "correct the file; ") +
               "--engine shows what others make of it");
    for (const EngineNotice& notice : reading_.notices)
      if (notice.pointer.ends_with("/model_type") || notice.pointer.ends_with("/max_position_embeddings"))
        meaning_.warnings.push_back(notice.text);
    meaning_.rope = wanted_rope(reading_, 0);
  }

  RopeMeaning finish() {
    if (!meaning_.remote_code) find_base();
    for (WantedLayer& layer : meaning_.rope.layers)
      if (!layer.spec.attention_factor) layer.spec.attention_factor = rope_table(layer.spec, 1).attention_factor;
    meaning_.rope.context = context_made_for(meaning_.rope, !extended_already());
    return std::move(meaning_);
  }

  /// A context is stretched by 1 or more, and by no more than a SPEC may ask for; frequencies are numbers in float32.
  void judge(const RopeSpec& spec) {
    if (const auto fault = rope_fault(spec)) fail(pointer_of(spec, fault->field), fault->problem, fault->fix);
    const double s = rope_factor(spec).value_or(1);
    const bool told = std::any_of(meaning_.warnings.begin(), meaning_.warnings.end(),
                                  [](const std::string& one) { return one.find("below 1") != std::string::npos; });
    if (s < 1 && !told)
      meaning_.warnings.push_back("the rope factor is " + trimmed(s) + ", below 1: the context shrinks");
  }

  /// A base that stands where transformers does not look, if it is the only one and its own is a default.
  void find_base() {
    if (meaning_.rope.layers.size() != 1) return;
    RopeSpec& spec = meaning_.rope.layers.front().spec;
    const auto from = std::find_if(spec.provenance.begin(), spec.provenance.end(),
                                   [](const RopeProvenance& one) { return one.field == "theta"; });
    if (from == spec.provenance.end() || !from->pointer.empty()) return;
    const Json& model = *part_.json;
    std::set<double> bases;
    std::string pointer;
    const auto look = [&](const Json& object, const std::string& place) {
      const auto theta = object.find("rope_theta");
      if (theta == object.end() || !theta->is_number() || !std::isfinite(theta->get<double>())) return;
      bases.insert(theta->get<double>());
      pointer = place + "/rope_theta";
    };
    look(model, part_.pointer);
    for (const char* key : {"rope_scaling", "rope_parameters"})
      if (model.contains(key) && model.at(key).is_object()) look(model.at(key), part_.pointer + "/" + key);
    if (bases.size() != 1 || !(*bases.begin() > 1) || *bases.begin() == spec.theta) return;
    meaning_.warnings.push_back(pointer.substr(1) + " is " + trimmed(*bases.begin()) + ", where " +
                                reading_.engine.title() + " does not find it and takes " + trimmed(spec.theta) + ": " +
                                trimmed(*bases.begin()) + " is meant");
    spec.theta = *bases.begin();
    *from = {"theta", "config.json", pointer};
  }

  /// A dynamic rope that names an original context, or alpha, has been extended already.
  bool extended_already() const {
    for (const char* dictionary : {"rope_scaling", "rope_parameters"})
      for (const char* key : {"alpha", "original_max_position_embeddings"})
        if (part_.json->contains(dictionary) && part_.json->at(dictionary).is_object() &&
            part_.json->at(dictionary).contains(key))
          return true;
    return false;
  }

  const std::string &path_, &text_;
  const Json& config_;
  ModelPart part_;
  EngineReading reading_;
  RopeMeaning meaning_;
};

}  // namespace

int context_made_for(const WantedRope& rope, bool dynamic_extends) {
  double longest = 1;
  for (const WantedLayer& layer : rope.layers) {
    longest = std::max(longest, double(layer.spec.context));
    const double s = rope_factor(layer.spec).value_or(1);
    const auto* yarn = std::get_if<RopeYarn>(&layer.spec.scaling);
    const auto* dynamic = std::get_if<RopeDynamic>(&layer.spec.scaling);
    double scaled = 0;
    if (yarn) scaled = s * yarn->original_context;
    if (dynamic && dynamic_extends) scaled = s * dynamic->original_context;
    if (s >= 1 && s <= kMostFactor && scaled < 1 << 30) longest = std::max(longest, std::round(scaled));
  }
  return int(longest);
}

RopeMeaning read_rope_meaning(const std::string& path, const std::string& text, const Json& config) {
  const std::optional<Json> renamed = with_longrope_for_su(config);
  RopeMeaning meaning = MeaningReader(path, text, renamed ? *renamed : config).read();
  if (renamed) meaning.warnings.push_back("rope type su is longrope's name of old: longrope is meant");
  return meaning;
}

std::optional<RopeMeaning> lenient_rope_meaning(const Json& config) {
  static const std::string none;
  return MeaningReader(none, none, config).lenient();
}

}  // namespace ropewalk::formats
