#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "formats/json.h"
#include "lib/error.h"

namespace ropewalk::formats {

/// A value of a JSON file with its place, for reading nested structures: every refusal names line, column and field.
/// Refers to path, text and value, which must outlive it.
class JsonNode {
 public:
  JsonNode(const std::string& path, std::string_view text, const Json& value, std::string pointer = "")
      : path_(&path), text_(text), value_(&value), pointer_(std::move(pointer)) {}

  const Json& json() const { return *value_; }
  bool is_null() const { return value_->is_null(); }
  /// nullopt if absent or null. The node must be an object.
  std::optional<JsonNode> find(std::string_view key) const {
    const auto found = value_->find(std::string(key));
    if (found == value_->end() || found->is_null()) return std::nullopt;
    return JsonNode(*path_, text_, *found, pointer_ + "/" + pointer_segment(key));
  }
  JsonNode at(std::string_view key) const {
    auto found = find(key);
    if (!found) fail("has no '" + std::string(key) + "'");
    return *found;
  }
  /// Of a list.
  JsonNode item(std::size_t at) const { return {*path_, text_, (*value_)[at], pointer_ + "/" + std::to_string(at)}; }
  std::size_t size() const { return value_->size(); }

  const JsonNode& require_object() const { return require(value_->is_object(), "an object"); }
  const JsonNode& require_list() const { return require(value_->is_array(), "a list"); }
  std::string string() const {
    require(value_->is_string(), "a string");
    return value_->get<std::string>();
  }
  bool boolean() const {
    require(value_->is_boolean(), "true or false");
    return value_->get<bool>();
  }
  std::int64_t integer(std::int64_t min, std::int64_t max) const {
    const bool fits = value_->is_number_integer() &&
                      (!value_->is_number_unsigned() || value_->get<std::uint64_t>() <= std::uint64_t{1} << 62);
    const std::int64_t number = fits ? value_->get<std::int64_t>() : 0;
    require(fits && number >= min && number <= max,
            "a whole number from " + std::to_string(min) + " to " + std::to_string(max));
    return number;
  }
  double number() const {
    require(value_->is_number(), "a number");
    return value_->get<double>();
  }
  std::string string_or(std::string_view key, std::string absent) const {
    const auto found = find(key);
    return found ? found->string() : absent;
  }
  std::optional<std::string> optional_string(std::string_view key) const {
    const auto found = find(key);
    return found ? std::optional(found->string()) : std::nullopt;
  }
  bool boolean_or(std::string_view key, bool absent) const {
    const auto found = find(key);
    return found ? found->boolean() : absent;
  }

  /// "'model/merges/3' `problem`".
  [[noreturn]] void fail(const std::string& problem) const { fail(ErrorKind::bad_input, problem); }
  [[noreturn]] void unsupported(const std::string& problem) const { fail(ErrorKind::unsupported, problem); }

 private:
  [[noreturn]] void fail(ErrorKind kind, const std::string& problem) const;
  const JsonNode& require(bool holds, const std::string& expected) const;

  const std::string* path_;
  std::string_view text_;
  const Json* value_;
  std::string pointer_;
};

}  // namespace ropewalk::formats
