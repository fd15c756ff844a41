#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "lib/error.h"

namespace ropewalk::formats {

/// A regular expression of a configuration, which means what Python's re means, read by PCRE2 with a limit on its work.
class PythonPattern {
 public:
  enum class Anchor {
    begin,  // re.match
    whole,  // re.fullmatch
  };
  /// Error(bad_input) at `where`, naming `field`, if `text` is none or too large, Error(unsupported) for what PCRE2 has
  /// not (python_syntax.h). The same for what match() cannot do.
  PythonPattern(const std::string& text, Anchor anchor, Error::Where where, std::string field);
  ~PythonPattern();
  PythonPattern(PythonPattern&&) noexcept;
  PythonPattern& operator=(PythonPattern&&) noexcept;

  /// The group named idx, or the whole match if there is no such group; nullopt if `subject` does not match.
  std::optional<std::string> match(const std::string& subject) const;

 private:
  [[noreturn]] void refuse(const std::string& problem, ErrorKind kind = ErrorKind::bad_input) const;
  struct Code;
  std::unique_ptr<Code> code_;
  std::string text_;
  Error::Where where_;
  std::string field_;
};

}  // namespace ropewalk::formats
