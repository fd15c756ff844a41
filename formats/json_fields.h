#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "formats/json.h"
#include "lib/error.h"

namespace ropewalk::formats {

/// Typed fields of one JSON object of a text file: nothing is converted (a number in quotes is not a number), and every
/// refusal names file, line, column, what was found and what was expected. Holds references: path, text and object must
/// outlive it.
class JsonFields {
 public:
  JsonFields(const std::string& path, std::string_view text, const Json& object)
      : path_(path), text_(text), object_(object) {}

  /// nullptr if absent.
  const Json* find(std::string_view key) const;
  /// nullptr if absent or null.
  const Json* find_set(std::string_view key) const;

  /// Error(bad_input) if absent, not an integer, or outside [min, max].
  std::int64_t integer(std::string_view key, std::int64_t min, std::int64_t max) const;
  /// nullopt if absent or null, else as above.
  std::optional<std::int64_t> optional_integer(std::string_view key, std::int64_t min, std::int64_t max) const;
  /// nullopt if absent; null is refused like any other type. [min, max].
  std::optional<double> optional_number(std::string_view key, double min, double max) const;
  /// `absent` if absent; null is refused.
  bool boolean(std::string_view key, bool absent) const;
  /// nullopt if absent or null.
  std::optional<std::string> optional_string(std::string_view key) const;

  /// Error(bad_input) for what has to be there: "'key' is missing, expected ...", or "is null".
  [[noreturn]] void fail_unset(std::string_view key, const std::string& expected, const std::string& fix) const;
  /// Error at the key's value (at the file's start if absent).
  [[noreturn]] void fail(ErrorKind kind, std::string_view key, const std::string& problem,
                         const std::string& fix) const;

 private:
  [[noreturn]] void wrong_type(std::string_view key, const Json& found, const char* expected) const;
  const std::string& path_;
  std::string_view text_;
  const Json& object_;
};

/// A value for a message: as in the file, cut after 60 characters.
std::string shown(const Json& value);
/// A number as a file has it, without a needless ".0": "4", "0.25"; "NaN", "Infinity" as Python writes them.
std::string trimmed(double value);

}  // namespace ropewalk::formats
