#include "formats/rope_fields.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>
#include <string_view>

#include "formats/json_fields.h"
#include "lib/number_text.h"

namespace ropewalk::formats {
namespace {

constexpr double kMostFloat = std::numeric_limits<float>::max();

/// The first frequency of a table that float32 does not hold as a number above 0.
std::optional<double> lost_frequency(const RopeSpec& spec, int length) {
  const std::vector<double> table = rope_table(spec, length).inv_freq;
  for (std::size_t pair = 0; pair < std::size_t(spec.rotary_dim / 2) && pair < table.size(); ++pair)
    if (!(table[pair] <= kMostFloat && float(table[pair]) > 0)) return table[pair];
  return std::nullopt;
}

std::optional<RopeFault> factor_fault(const RopeSpec& spec) {
  const double s = rope_factor(spec).value_or(1);
  if (!(s > kMostFactor)) return std::nullopt;
  return RopeFault{"factor", "the rope factor is " + number_text(s, 9) + ", which no context has been extended by",
                   "write the new context / the original one, at most " + trimmed(kMostFactor)};
}

}  // namespace

std::optional<RopeFault> frequency_fault(const RopeSpec& spec) {
  const auto blamed = [](const char* field, const std::string& what, double frequency) {
    const char* lost = frequency <= kMostFloat ? "0" : std::isnan(frequency) ? "no number" : "infinite";
    const bool base = std::string_view(field) == "theta";
    return RopeFault{field, what + " makes frequencies that are " + lost + " in float32, in which engines turn",
                     base ? "write the base the model was trained with" : "write the new context / the original one"};
  };
  RopeSpec plain = spec;
  plain.scaling = RopeUnscaled{};
  plain.frequency_divisors.clear();
  const std::string base = "a base of " + number_text(spec.theta, 9);
  if (spec.theta > kMostFloat && spec.rotary_dim > 2) return blamed("theta", base, 0);
  if (const auto lost = lost_frequency(plain, 1)) return blamed("theta", base, *lost);
  for (const int length : {1, std::max(1, spec.context)})
    if (const auto lost = lost_frequency(spec, length)) {
      const std::optional<double> factor = rope_factor(spec);
      if (auto fault = factor_fault(spec)) return fault;
      return blamed("factor", factor ? "a factor of " + number_text(*factor, 9) : "its scaling", *lost);
    }
  return std::nullopt;
}

std::optional<RopeFault> rope_fault(const RopeSpec& spec) {
  if (auto fault = factor_fault(spec)) return fault;
  return frequency_fault(spec);
}

std::string pointer_of(const RopeSpec& spec, const std::string& field) {
  const auto from = std::find_if(spec.provenance.begin(), spec.provenance.end(),
                                 [&](const RopeProvenance& one) { return one.field == field; });
  return from == spec.provenance.end() ? "" : from->pointer;
}

bool is_renamed_type(const Json& rope_type, const Json& type) {
  return (rope_type == "longrope" && type == "su") || (rope_type == "default" && type == "mrope");
}

Json spelling_apart(const Json& dictionary) {
  nlohmann::json sorted = dictionary;  // without regard to order
  if (sorted.is_object()) {
    if (!sorted.contains("rope_type") && sorted.contains("type")) sorted["rope_type"] = sorted["type"];
    sorted.erase("type");
    sorted.erase("rope_theta");
    for (auto& item : sorted.items())
      if (item.value().is_number_integer()) item.value() = item.value().get<double>();
  }
  return Json(sorted);
}

RopeFields::RopeFields(const std::string& path, const std::string& text, const Json& config, std::string pointer,
                       std::string defaults)
    : path_(path),
      text_(text),
      config_(config),
      pointer_(std::move(pointer)),
      defaults_(std::move(defaults)),
      file_(std::filesystem::path(path).filename().string()) {
  if (!pointer_.empty()) dictionary_ = &at(pointer_);
}

const Json& RopeFields::at(const std::string& pointer) const { return config_.at(Json::json_pointer(pointer)); }

const Json* RopeFields::value(const char* key) const { return in_dictionary(key) ? &dictionary_->at(key) : nullptr; }

void RopeFields::fail(ErrorKind kind, const std::string& pointer, const std::string& problem,
                      const std::string& fix) const {
  throw Error(kind, json_place(path_, text_, pointer), problem, fix);
}

double RopeFields::number_at(const std::string& pointer) const {
  const Json& found = at(pointer);
  double value = std::numeric_limits<double>::quiet_NaN();
  if (found.is_number()) value = found.get<double>();
  if (!std::isfinite(value))
    fail(ErrorKind::bad_input, pointer,
         pointer.substr(1) + " is " + found.dump().substr(0, 40) + ", a number was expected",
         found.is_string() ? "write it as a number, without quotes" : "write it as a number");
  return value;
}

double RopeFields::number(const char* key, const char* field) {
  if (!in_dictionary(key))
    fail(ErrorKind::bad_input, pointer_, pointer_.substr(1) + " has no '" + key + "', which its type needs",
         std::string("add \"") + key + "\"");
  record(field, pointer_to(key));
  return number_at(pointer_to(key));
}

std::optional<double> RopeFields::optional_number(const char* key, const char* field) {
  if (!in_dictionary(key) || dictionary_->at(key).is_null()) return std::nullopt;
  return number(key, field);
}

double RopeFields::positive(const char* key, const char* field) {
  const double value = number(key, field);
  if (!(value > 0))
    fail(ErrorKind::bad_input, pointer_to(key),
         std::string(key) + " is " + at(pointer_to(key)).dump() + ", a number above 0 was expected", "correct it");
  return value;
}

std::vector<double> RopeFields::positive_list(const char* key, std::size_t length, const char* field) {
  const std::string pointer = pointer_to(key);
  if (!in_dictionary(key))
    fail(ErrorKind::bad_input, pointer_, pointer_.substr(1) + " has no '" + key + "', which its type needs",
         std::string("add \"") + key + "\"");
  const Json& list = at(pointer);
  if (!list.is_array() || list.size() != length)
    fail(ErrorKind::bad_input, pointer,
         std::string(key) + (list.is_array() ? " has " + std::to_string(list.size()) + " entries" : " is no list") +
             ", " + std::to_string(length) + " numbers were expected (half the rotary dimension)",
         "use the list published with the model");
  record(field, pointer);
  std::vector<double> out;
  for (std::size_t entry = 0; entry < length; ++entry) {
    out.push_back(number_at(pointer + "/" + std::to_string(entry)));
    if (!(out.back() > 0))
      fail(ErrorKind::bad_input, pointer + "/" + std::to_string(entry),
           std::string(key) + " has an entry of " + list[entry].dump() + ", a number above 0 was expected",
           "correct it");
    if (out.back() > double(std::numeric_limits<float>::max()))
      fail(ErrorKind::bad_input, pointer + "/" + std::to_string(entry),
           std::string(key) + " has an entry of " + list[entry].dump() + ", which float32 does not hold", "correct it");
  }
  return out;
}

int RopeFields::context_at(const std::string& where, const char* field) {
  const double value = number_at(where);
  if (!(value >= 1 && value <= std::numeric_limits<int>::max() && value == std::floor(value)))
    fail(ErrorKind::bad_input, where,
         where.substr(1) + " is " + at(where).dump() + ", a whole number of tokens above 0 was expected", "correct it");
  record(field, where);
  return int(value);
}

double RopeFields::theta() {
  std::string where;
  if (in_dictionary("rope_theta")) where = pointer_to("rope_theta");
  else if (at_top_level("rope_theta")) where = "/rope_theta";
  if (where.empty()) {
    record_default("theta");
    return 10000;
  }
  record("theta", where);
  const double value = number_at(where);
  if (!(value > 0))
    fail(ErrorKind::bad_input, where, "rope_theta is " + at(where).dump() + ", a number above 0 was expected",
         "use the base the model was trained with");
  return value;
}

}  // namespace ropewalk::formats
