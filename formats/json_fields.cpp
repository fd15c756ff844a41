#include "formats/json_fields.h"

#include <cmath>
#include <limits>

namespace ropewalk::formats {

std::string shown(const Json& value) {
  std::string text = value.dump(-1, ' ', true, Json::error_handler_t::replace);
  if (text.size() > 60) text = text.substr(0, 57) + "...";
  return text;
}

const Json* JsonFields::find(std::string_view key) const {
  const auto it = object_.find(std::string(key));
  return it == object_.end() ? nullptr : &*it;
}

const Json* JsonFields::find_set(std::string_view key) const {
  const Json* value = find(key);
  return value && !value->is_null() ? value : nullptr;
}

void JsonFields::fail(ErrorKind kind, std::string_view key, const std::string& problem, const std::string& fix) const {
  throw Error(kind, json_place(path_, text_, "/" + pointer_segment(key)), problem, fix);
}

void JsonFields::fail_unset(std::string_view key, const std::string& expected, const std::string& fix) const {
  fail(ErrorKind::bad_input, key,
       "'" + std::string(key) + "' is " + (find(key) ? "null" : "missing") + ", expected " + expected, fix);
}

void JsonFields::wrong_type(std::string_view key, const Json& found, const char* expected) const {
  const std::string name(key);
  fail(ErrorKind::bad_input, key,
       "'" + name + "' is " + shown(found) + (found.is_null() ? "" : std::string(" (") + found.type_name() + ")") +
           ", expected " + expected,
       found.is_string() ? "remove the quotes or correct the value" : "correct the value in the file");
}

std::optional<std::int64_t> JsonFields::optional_integer(std::string_view key, std::int64_t min,
                                                         std::int64_t max) const {
  const Json* value = find_set(key);
  if (!value) return std::nullopt;
  if (!value->is_number_integer()) wrong_type(key, *value, "an integer");
  // An unsigned value above 2^63 must not wrap into range.
  const bool fits = !value->is_number_unsigned() ||
                    value->get<std::uint64_t>() <= std::uint64_t(std::numeric_limits<std::int64_t>::max());
  const std::int64_t number = fits ? value->get<std::int64_t>() : 0;
  if (!fits || number < min || number > max)
    fail(ErrorKind::bad_input, key,
         "'" + std::string(key) + "' is " + shown(*value) + ", expected " + std::to_string(min) + " to " +
             std::to_string(max),
         "correct the value in the file");
  return number;
}

std::int64_t JsonFields::integer(std::string_view key, std::int64_t min, std::int64_t max) const {
  if (!find(key))
    fail(ErrorKind::bad_input, key, "'" + std::string(key) + "' is missing, expected an integer",
         "take the file from the model's repository again, or add the field");
  const auto value = optional_integer(key, min, max);
  if (!value) wrong_type(key, *find(key), "an integer");
  return *value;
}

std::optional<double> JsonFields::optional_number(std::string_view key, double min, double max) const {
  const Json* value = find(key);
  if (!value) return std::nullopt;
  if (!value->is_number()) wrong_type(key, *value, "a number");
  const double number = value->get<double>();
  if (!(number >= min && number <= max)) {
    const auto text = [](double v) { return Json(v).dump(); };
    fail(ErrorKind::bad_input, key,
         "'" + std::string(key) + "' is " + shown(*value) + ", expected " + text(min) + " to " + text(max),
         "correct the value in the file");
  }
  return number;
}

bool JsonFields::boolean(std::string_view key, bool absent) const {
  const Json* value = find(key);
  if (!value) return absent;
  if (!value->is_boolean()) wrong_type(key, *value, "true or false");
  return value->get<bool>();
}

std::optional<std::string> JsonFields::optional_string(std::string_view key) const {
  const Json* value = find_set(key);
  if (!value) return std::nullopt;
  if (!value->is_string()) wrong_type(key, *value, "a string");
  return value->get<std::string>();
}

std::string trimmed(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "Infinity" : "-Infinity";
  const std::string text = Json(value).dump();
  return text.ends_with(".0") ? text.substr(0, text.size() - 2) : text;
}

}  // namespace ropewalk::formats
