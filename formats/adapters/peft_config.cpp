#include "formats/adapters/peft_config.h"

#include <algorithm>
#include <cmath>

#include "formats/adapters/kinds.h"
#include "lib/error.h"

namespace ropewalk::formats {
namespace {

bool is_off(const Json& value) {
  return value.is_null() || value == false || value == "none" || value == 0 ||
         ((value.is_object() || value.is_array()) && value.empty());
}

/// What the value should have been; nullptr if it is of its type.
const char* expected_instead(const Json& value, FieldType type) {
  switch (type) {
    case FieldType::any: return nullptr;
    case FieldType::boolean: return value.is_boolean() ? nullptr : "true or false";
    case FieldType::list: return value.is_array() ? nullptr : "a list";
    case FieldType::object: return value.is_object() ? nullptr : "an object";
    case FieldType::list_or_object: return value.is_array() || value.is_object() ? nullptr : "a list or an object";
    case FieldType::biases:  // the third is called by the kind: "vera_only"
      return value == "none" || value == "all" ||
                     (value.is_string() && value.get_ref<const std::string&>().ends_with("_only"))
                 ? nullptr
                 : "\"none\", \"all\" or \"lora_only\"";
  }
  return nullptr;
}

const AdapterKind& kind_of(const JsonFields& fields) {
  const auto type = fields.optional_string("peft_type");
  if (!type) fields.fail_unset("peft_type", "\"LORA\"", "is this the adapter_config.json of a PEFT adapter?");
  if (const AdapterKind* kind = find_kind(*type)) return *kind;
  const std::string reason(why_not_merged(*type));
  fields.fail(ErrorKind::unsupported, "peft_type",
              "peft_type is \"" + *type + "\"" +
                  (reason.empty() ? ", a kind of adapter that ropewalk does not merge" : ": " + reason),
              reason.empty() ? "merge it with PEFT, where PEFT can" : "it cannot be merged: serve it beside the model");
}

void check_fields(const PeftConfig& config) {
  const JsonFields fields = config.fields();
  for (const auto& [key, value] : config.json.items()) {
    const AdapterField* field = find_field(*config.kind, key);
    if (field && !value.is_null())
      if (const char* expected = expected_instead(value, field->type))
        fields.fail(ErrorKind::bad_input, key, "'" + key + "' is " + shown(value) + ", expected " + expected,
                    "correct the value in the file");
    if ((field && field->use != FieldUse::refused) || is_off(value)) continue;
    const std::string kind(config.kind->name);
    fields.fail(
        ErrorKind::unsupported, key,
        "'" + key + "' is " + shown(value) +
            (field ? ", which changes the merge and is not read"
                   : ", a field of " + kind + " whose effect on a merge is not known to ropewalk (PEFT 0.21.2)"),
        field ? "merge it with PEFT"
              : "remove it if it changes nothing in the weights, else the adapter cannot be merged yet");
  }
}

}  // namespace

bool PeftConfig::flag(std::string_view name) const {
  const Json* value = fields().find_set(name);
  return value && fields().boolean(name, false);
}

PeftConfig read_peft_config(const std::string& path, const std::string& text) {
  PeftConfig config;
  config.json = parse_json(path, text);
  config.path = path;
  config.text = text;
  if (!config.json.is_object())
    throw Error(ErrorKind::bad_input, {.path = path, .line = 1, .column = 1},
                std::string("the file holds ") + config.json.type_name() + ", expected an object",
                "save the adapter again");
  config.kind = &kind_of(config.fields());
  check_fields(config);
  config.base_model = config.fields().optional_string("base_model_name_or_path").value_or("");
  return config;
}

namespace {
constexpr double kMostRank = 1 << 20, kMostAlpha = 1e9;
}

PatternNumbers::PatternNumbers(const PeftConfig& config, Of what) {
  const bool ranks = what == Of::ranks;
  const char* field = ranks ? "rank_pattern" : "alpha_pattern";
  const double min = ranks ? 1 : -kMostAlpha, max = ranks ? kMostRank : kMostAlpha;
  const Json* patterns = config.fields().find_set(field);
  if (!patterns) return;
  for (const auto& [key, value] : patterns->items()) {
    const std::string pointer = "/" + std::string(field) + "/" + pointer_segment(key);
    if (!(ranks ? value.is_number_integer() : value.is_number()) ||
        !(value.get<double>() >= min && value.get<double>() <= max))
      throw Error(ErrorKind::bad_input, json_place(config.path, config.text, pointer),
                  "'" + std::string(field) + "': \"" + key + "\" is " + shown(value) + ", expected " +
                      (ranks ? "an integer" : "a number") + " from " + trimmed(min) + " to " + trimmed(max),
                  "correct the value in the file");
    entries_.push_back({key,
                        PythonPattern("(.*\\.)?(" + key + ")$", PythonPattern::Anchor::begin,
                                      json_place(config.path, config.text, pointer), field),
                        value.get<double>()});
  }
}

std::optional<double> PatternNumbers::find(const std::string& module) const {
  for (const Entry& entry : entries_)
    if (entry.pattern.match(module)) return entry.number;
  return std::nullopt;
}

std::optional<std::pair<PatternNumbers::Said, PatternNumbers::Said>> PatternNumbers::rivals(
    const std::string& module) const {
  if (!std::ranges::is_sorted(entries_, {}, &Entry::key)) return std::nullopt;
  const auto matches = [&](const Entry& entry) { return entry.pattern.match(module).has_value(); };
  const auto first = std::ranges::find_if(entries_, matches);
  for (auto other = first; other != entries_.end(); ++other)
    if (other->number != first->number && matches(*other))
      return std::pair(Said(first->key, first->number), Said(other->key, other->number));
  return std::nullopt;
}

RankAndScale::RankAndScale(const PeftConfig& config, const char* alpha)
    : ranks_(config, PatternNumbers::Of::ranks),
      alphas_(config, PatternNumbers::Of::alphas),
      rslora_(config.flag("use_rslora")) {
  const JsonFields fields = config.fields();
  rank_ = double(fields.integer("r", 1, std::int64_t(kMostRank)));
  if (!fields.find_set(alpha)) fields.fail_unset(alpha, "a number", "the scale depends on it: save the adapter again");
  alpha_ = *fields.optional_number(alpha, -kMostAlpha, kMostAlpha);
}

RankAndScale::Numbers RankAndScale::of(const std::string& module) const {
  const double rank = ranks_.find(module).value_or(rank_), alpha = alphas_.find(module).value_or(alpha_);
  return {std::uint64_t(rank), rslora_ ? alpha / std::sqrt(rank) : alpha / rank};
}

}  // namespace ropewalk::formats
