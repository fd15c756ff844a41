// The SPEC of a command line: "yarn,factor=16,original=4096", "yarn,to=64k", or a model card's JSON object.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>

#include "formats/original_context.h"
#include "formats/rope_config.h"
#include "formats/rope_dictionary.h"
#include "formats/rope_fields.h"
#include "formats/rope_presets.h"
#include "lib/error.h"
#include "lib/nearest_word.h"

namespace ropewalk::formats {
namespace {

/// Engines hold theta in float32, and a GGUF stores it so: some way below its 3.4e38.
constexpr double kLargestTheta = 1e30;

constexpr const char* kOriginal = "original_max_position_embeddings";

struct Method {
  const char* name;
  std::vector<std::string> keys;  // beside rope_theta, to and the original context
};
const std::vector<Method>& methods() {
  static const std::vector<Method> all = {
      {"none", {}},
      {"linear", {"factor"}},
      {"ntk", {"alpha"}},
      {"dynamic", {"factor"}},
      {"ntk-by-parts", {"factor"}},
      {"yarn", {"factor", "attention_factor", "beta_fast", "beta_slow", "truncate", "mscale", "mscale_all_dim"}},
      {"llama3", {"factor", "low_freq_factor", "high_freq_factor"}},
      {"longrope", {"factor", "attention_factor", "short_factor", "long_factor"}},
      {"proportional", {"factor", "partial_rotary_factor"}},
      {"native", {}},
  };
  return all;
}
/// Carried in model cards without meaning to transformers 5.23.0; kept as they stand.
bool harmless(const std::string& key) {
  return key == "finetuned" || key == "attn_factor" || key == "extrapolation_factor";
}

class SpecParser {
 public:
  SpecParser(std::string_view spec, const ModelConfig& base) : text_(spec), base_(base) {}

  RopeRequest parse() {
    const auto begin = text_.find_first_not_of(" \t\r\n");
    if (begin == std::string::npos) fail("it is empty", "write METHOD[,key=value]..., such as yarn,factor=4");
    if (text_[begin] == '{') read_json();
    else read_words();
    RopeRequest request = method_->name == std::string("native") ? native() : finish();
    take_spec(request);
    return request;
  }

 private:
  [[noreturn]] void fail(const std::string& problem, const std::string& fix) const {
    throw Error(ErrorKind::usage, {}, "rope '" + text_.substr(0, 120) + "': " + problem, fix);
  }

  void set_method(std::string name) {
    if (name == "default") name = "none";
    std::vector<std::string> known;
    for (const Method& method : methods()) known.push_back(method.name);
    if (name == "dynamic-yarn") fail("no config.json that transformers 5.23.0 reads can say " + name, "use yarn");
    for (const Method& method : methods())
      if (name == method.name) method_ = &method;
    if (method_) return;
    const std::string near = nearest_word(name, known).value_or("");
    fail("there is no method '" + name.substr(0, 40) + "'" + (near.empty() ? "" : " (did you mean '" + near + "'?)"),
         "known are none, linear, ntk, dynamic, ntk-by-parts, yarn, llama3, longrope, proportional, native");
  }

  void check_key(const std::string& key) const {
    std::vector<std::string> known = method_->keys;
    if (method_->name == std::string("native")) known = {"to"};
    else known.insert(known.end(), {"rope_theta", "to", kOriginal, "original", "like"});
    if (std::find(known.begin(), known.end(), key) != known.end() || (json_ && harmless(key))) return;
    const std::string near = nearest_word(key, known).value_or("");
    std::string list;
    for (const std::string& one : known) list += (list.empty() ? "" : ", ") + one;
    fail(std::string(method_->name) + " has no key '" + key.substr(0, 60) + "'" +
             (near.empty() ? "" : " (did you mean '" + near + "'?)"),
         "it takes " + list);
  }

  void set(const std::string& written, Json value) {
    check_key(written);
    const std::string key = written == "original" ? kOriginal : written;
    if (values_.contains(key)) fail("'" + key + "' is given twice", "give it once");
    values_[key] = std::move(value);
  }

  void read_words() {
    std::size_t at = 0;
    for (bool first = true; at <= text_.size(); first = false) {
      const std::size_t comma = std::min(text_.find(',', at), text_.size());
      const std::string word = text_.substr(at, comma - at);
      at = comma + 1;
      if (first) {
        set_method(word);
        continue;
      }
      const std::size_t equals = word.find('=');
      if (equals == std::string::npos)
        fail("'" + word + "' is not key=value", "write METHOD[,key=value]..., such as yarn,factor=4");
      std::string key = word.substr(0, equals);
      if (key == "factor" && method_->name == std::string("ntk")) key = "alpha";
      set(key, value_of(key, word.substr(equals + 1)));
    }
  }

  Json value_of(const std::string& key, const std::string& text) const {
    if (key == "truncate") {
      if (text == "true" || text == "1") return true;
      if (text == "false" || text == "0") return false;
      fail("truncate is '" + text + "', true or false was expected", "correct it");
    }
    if (key == "to" || key == "original" || key == kOriginal) {
      const std::optional<int> size = parse_context(text);
      if (!size) fail(key + " is '" + text + "', a number of tokens such as 4096 or 64k was expected", "correct it");
      return *size;
    }
    if (key == "like") return text;
    if (key == "short_factor" || key == "long_factor")
      fail(key + " is a list", "give the whole rope dictionary as JSON");
    double number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(number))
      fail(key + " is '" + text + "', a number was expected", "correct it");
    return number;
  }

  void read_json() {
    json_ = true;
    Json object;
    try {
      object = parse_json("", text_);
    } catch (const Error& error) {
      fail("it is not JSON: " + error.problem(), "quote it for the shell, in single quotes");
    }
    const char* key = object.contains("rope_type") ? "rope_type" : "type";
    for (const auto& item : object.items())
      if (item.value().is_object())
        fail("the JSON object gives the rope of a layer type, '" + item.key().substr(0, 40) +
                 "', and in llama and mistral models all layers have the same",
             "give one dictionary for all layers");
    if (!object.contains(key) || !object.at(key).is_string())
      fail("the JSON object has no rope_type", "add \"rope_type\": \"yarn\" or another method");
    const Json& type = object.at(key);
    if (object.contains("type") && object.at("type") != type)
      fail("rope_type is " + type.dump().substr(0, 40) + " but type is " + object.at("type").dump().substr(0, 40),
           "leave one of them out");
    set_method(type.get<std::string>());
    if (method_->name == std::string("ntk"))
      fail("transformers 5.23.0 has no rope type ntk",
           "write ntk,alpha=" + (object.contains("factor") ? object.at("factor").dump() : std::string("N")) +
               ", which becomes a rope_theta");
    for (const auto& item : object.items()) {
      if (item.key() == "rope_type" || item.key() == "type") continue;
      const bool tokens = item.key() == kOriginal || item.key() == "original" || item.key() == "to";
      if (tokens &&
          !(item.value().is_number_integer() && item.value() > 0 && item.value() <= std::numeric_limits<int>::max()))
        fail(item.key() + " is " + item.value().dump().substr(0, 40) + ", a number of tokens was expected",
             "correct it");
      set(item.key(), item.value());
    }
  }

  std::optional<double> number(const char* key) const {
    if (!values_.contains(key) || values_.at(key).is_null()) return std::nullopt;
    if (!values_.at(key).is_number())
      fail(std::string(key) + " is " + values_.at(key).dump().substr(0, 40) + ", a number was expected", "correct it");
    return values_.at(key).get<double>();
  }

  bool plain_base() const {
    return std::holds_alternative<RopeUnscaled>(base_.rope.scaling) && base_.rope.frequency_divisors.empty();
  }

  /// L: as given; else the base's, if the base is plain or scaled by the same method. Another method over a scaled
  /// model must be asked for by saying L.
  OriginalContext original() const {
    if (const auto given = number(kOriginal)) return {int(*given), original_from_};
    const OriginalContext base = original_context(base_, "the declared context");
    if (plain_base()) return base;
    const std::optional<int> own = rope_original_context(base_.rope);
    const std::string method = method_->name;
    const bool divided =
        !base_.rope.frequency_divisors.empty();  // a table of the model's own, which no config.json can say
    if (own && !divided && (method == rope_method_name(base_.rope) || method == "none")) return {*own, base.from};
    fail("the model is already scaled (" + describe(base_.rope) + ")" +
             (divided ? ", by the divisors of rope_freqs.weight too" : "") +
             (own ? "" : ", and nothing says what its context was before"),
         std::string("to replace that scaling say the context before it, such as original=") +
             std::to_string(own.value_or(base_.context)));
  }

  RopeRequest finish() {
    const std::string method = method_->name;
    apply_preset();
    const OriginalContext trained = original();
    const int length = trained.tokens;
    RopeRequest request;
    request.trained = {length, trained.from, number("rope_theta").value_or(base_.rope.theta)};
    request.rope_parameters = Json::object();
    request.rope_parameters["rope_type"] = method == "none" || method == "ntk" ? "default" : method;
    if (const auto theta = number("rope_theta")) {
      if (!(*theta > 0 && *theta <= kLargestTheta))
        fail("rope_theta is " + values_.at("rope_theta").dump() + ", a number above 0 and at most 1e30 was expected",
             "published models have 1e4 to 1e8");
      request.rope_parameters["rope_theta"] = *theta;
    }
    const bool stays = plain_base() && !values_.contains(kOriginal);  // none, of a context that nobody names
    if (method == "none") request.context = int(number("to").value_or(stays ? base_.context : length));
    else if (method == "ntk") finish_ntk(request, length);
    else if (method == "proportional") finish_proportional(request);
    else if (method == "ntk-by-parts") finish_by_parts(request, length);
    else finish_scaled(request, method, length);
    return request;
  }

  /// s: factor, else to / L. At least 1.
  double factor(const char* key, int length) const {
    const std::optional<double> given = number(key), to = number("to");
    if (!given && !to)
      fail(std::string("neither ") + key + " nor to says how far to extend",
           std::string("add ") + key + "=4 or to=64k");
    const double s = given ? *given : *to / length;
    if (!(s >= 1 && s <= kMostFactor))
      fail(given   ? std::string(key) + " is " + values_.at(key).dump() + ", a number from 1 to 65536 was expected"
           : s < 1 ? "to is below the original context of " + std::to_string(length)
                   : "to is more than 65536 times the original context of " + std::to_string(length),
           "it is relative to the original context, " + std::to_string(length) + " tokens");
    if (given && to && std::string(key) == "factor" && proportional_context() && std::abs(s * length - *to) >= 1)
      fail("factor=" + values_.at("factor").dump() + " over " + std::to_string(length) + " tokens is " +
               Json(std::round(s * length)).dump() + ", and to says " + values_.at("to").dump(),
           "give one of the two");
    return s;
  }
  /// Methods whose context is the factor times the original context. (Llama 3.1 serves twice that.)
  bool proportional_context() const {
    const std::string method = method_->name;
    return method == "yarn" || method == "linear" || method == "dynamic" || method == "ntk-by-parts";
  }
  int served(double s, int length) const {
    const double context = number("to").value_or(std::round(s * length));
    if (!(context <= std::numeric_limits<int>::max()))
      fail("the context would be over 2147483647 tokens", "use a smaller factor");
    return int(context);
  }

  void finish_ntk(RopeRequest& request, int length) const {
    const double alpha = factor("alpha", length);
    const int d = base_.rope.rotary_dim;
    const double theta = request.trained.theta;
    if (d > 2) request.trained.alpha = alpha;
    request.rope_parameters["rope_theta"] = d > 2 ? theta * std::pow(alpha, double(d) / (d - 2)) : theta;
    request.context = served(alpha, length);
  }

  void finish_proportional(RopeRequest& request) const {
    for (const auto& item : values_.items())
      if (item.key() != "to" && item.key() != kOriginal) request.rope_parameters[item.key()] = item.value();
    request.context = int(number("to").value_or(base_.context));
  }

  /// No dictionary names the method; longrope lists say its frequencies.
  void finish_by_parts(RopeRequest& request, int length) {
    const double s = factor("factor", length);
    request.context = served(s, length);
    RopeSpec spec{number("rope_theta").value_or(base_.rope.theta), base_.rope.rotary_dim, RopeNtkByParts{s, length}};
    spec.context = request.context;
    carry(request, spec);
  }
  /// `spec` as longrope lists.
  void carry(RopeRequest& request, const RopeSpec& spec) {
    const std::optional<Json> lists = longrope_dictionary(spec, request.context, request.context);
    if (!lists) fail("no config.json that transformers 5.23.0 reads can say " + describe(spec), "take another method");
    request.rope_parameters = *lists;
    carried_ = spec;
  }

  /// The rope that the checkpoint has, said so that no code of its own is needed.
  RopeRequest native() {
    RopeRequest request;
    const auto* yarn = std::get_if<RopeYarn>(&base_.rope.scaling);
    const int own = yarn ? served(yarn->factor, yarn->original_context) : base_.context;
    request.context = int(number("to").value_or(own));
    if (std::optional<Json> parameters = rope_dictionary(base_.rope)) request.rope_parameters = *parameters;
    else carry(request, base_.rope);
    return request;
  }

  /// What a published recipe adds to the SPEC; what the SPEC says itself stands.
  void apply_preset() {
    if (!values_.contains("like")) return;
    const std::string name = values_.at("like").is_string() ? values_.at("like").get<std::string>() : "";
    values_.erase("like");
    std::vector<std::string> known;
    for (const RopePreset& preset : rope_presets()) known.push_back(std::string(preset.name));
    const RopePreset* preset = find_rope_preset(name);
    if (!preset) {
      std::string list;
      for (const std::string& one : known) list += (list.empty() ? "" : ", ") + one;
      const std::string near = nearest_word(name, known).value_or("");
      fail("there is no recipe '" + name.substr(0, 40) + "'" + (near.empty() ? "" : " (did you mean '" + near + "'?)"),
           "known are " + list);
    }
    if (preset->method != std::string_view(method_->name))
      fail(name + " is a recipe for " + std::string(preset->method) + ", not for " + method_->name,
           "write " + std::string(preset->method) + ", or leave like= out");
    magnitude_ = preset->magnitude;
    for (const auto& [key, value] : preset->numbers)
      if (!values_.contains(std::string(key))) values_[std::string(key)] = value;
    if (preset->original != 0 && !values_.contains(kOriginal)) {
      if (plain_base() && base_.context < preset->original)
        fail(name + " is for models trained at " + std::to_string(preset->original) + " tokens, and this one has " +
                 std::to_string(base_.context),
             "say the context before scaling, original=" + std::to_string(base_.context) + ", or take another recipe");
      values_[kOriginal] = preset->original;
      original_from_ = "the recipe " + name;
    }
    if (!preset->truncate && !values_.contains("truncate")) values_["truncate"] = false;
  }

  void finish_scaled(RopeRequest& request, const std::string& method, int length) {
    const bool ratio =
        method == "longrope" && !number("factor") && !number("to");  // then the model's own context is the target
    const double s = ratio ? double(base_.context) / length : factor("factor", length);
    if (!ratio) request.rope_parameters["factor"] = s;
    if (method != "linear" && method != "dynamic")
      request.rope_parameters[kOriginal] = length;  // those two do not know the key
    inherit();
    if (magnitude_ && !values_.contains("attention_factor") && !values_.contains("mscale"))
      values_["attention_factor"] = s <= 1 ? 1 : *magnitude_ * std::log(s) + 1;
    for (const auto& item : values_.items())
      if (item.key() != "to" && item.key() != "factor" && item.key() != kOriginal)
        request.rope_parameters[item.key()] = item.value();
    // transformers' dynamic takes max_position_embeddings as its original context, so that must stay
    request.context = method == "dynamic" ? length : served(s, length);
  }

  /// Going further by the same method keeps what else the base says about it (not its attention factor, which belongs
  /// to the old factor; but the rule it follows, if that is Yarn-Mistral's).
  void inherit() {
    const auto keep = [this](const char* key, Json value) {
      if (!values_.contains(key)) values_[key] = std::move(value);
    };
    if (method_->name == std::string("yarn")) {
      if (const auto* yarn = std::get_if<RopeYarn>(&base_.rope.scaling)) {
        if (yarn->beta_fast != 32) keep("beta_fast", yarn->beta_fast);
        if (yarn->beta_slow != 1) keep("beta_slow", yarn->beta_slow);
        if (!yarn->truncate) keep("truncate", false);
        if (base_.rope.attention_factor &&  // Yarn-Mistral's own rule goes on
            std::abs(*base_.rope.attention_factor - (0.07 * std::log(yarn->factor) + 1)) < 1e-9 && yarn->factor > 1)
          magnitude_ = 0.07;
      }
    }
    if (method_->name == std::string("llama3")) {
      const auto* llama3 = std::get_if<RopeLlama3>(&base_.rope.scaling);
      keep("low_freq_factor", llama3 ? llama3->low_freq_factor : 1.0);
      keep("high_freq_factor", llama3 ? llama3->high_freq_factor : 4.0);
    }
  }

  /// What the dictionary says by itself: a class may have a rope of its own where there is none (gpt_oss), or refuse it.
  /// The reader has the last word on values, so that nothing is written that it would refuse.
  void take_spec(RopeRequest& request) const {
    if (request.context < 1) fail("the context would be below 1", "correct it");
    const Json config = {{"rope_scaling", request.rope_parameters},
                         {"rope_theta", base_.rope.theta},
                         {"max_position_embeddings", request.context}};
    std::vector<std::string> warnings;
    try {
      request.spec =
          read_transformers_rope("config.json", "", config, {paired_channels(base_.rope), request.context}, warnings);
    } catch (const Error& error) {
      fail(error.problem(), error.fix());
    }
    if (carried_) request.spec = *carried_;
    request.served = request.context;
    if (const auto* dynamic = std::get_if<RopeDynamic>(&request.spec.scaling))
      request.served = int(
          std::min(std::round(dynamic->factor * dynamic->original_context), double(std::numeric_limits<int>::max())));
  }

  std::string text_;
  const ModelConfig& base_;
  const Method* method_ = nullptr;
  std::string original_from_ = kSpecSays;
  std::optional<double> magnitude_;  // c of a recipe's attention factor c ln s + 1
  std::optional<RopeSpec> carried_;  // what longrope lists stand for
  bool json_ = false;
  Json values_ = Json::object();
};

}  // namespace

RopeRequest parse_rope_spec(std::string_view spec, const ModelConfig& base) { return SpecParser(spec, base).parse(); }

std::optional<int> parse_context(std::string_view text) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || value < 1 || value > std::numeric_limits<int>::max()) return std::nullopt;
  const std::string_view suffix(end, std::size_t(text.data() + text.size() - end));
  if (suffix == "k" || suffix == "K") value *= 1024;
  else if (suffix == "m" || suffix == "M") value *= 1024 * 1024;
  else if (!suffix.empty()) return std::nullopt;
  if (value > std::numeric_limits<int>::max()) return std::nullopt;
  return int(value);
}

}  // namespace ropewalk::formats
