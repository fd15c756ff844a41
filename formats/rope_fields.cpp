#include "formats/rope_fields.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>

namespace ropewalk::formats {

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
