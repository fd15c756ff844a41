#include "formats/adapters/python_pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <utility>

namespace ropewalk::formats {
namespace {

constexpr std::uint32_t kMatchLimit = 100'000;  // steps; a sane expression takes some dozens on a module's path
constexpr std::size_t kLongestPattern = 64 << 10;

bool too_large(int error) {
  return error == PCRE2_ERROR_PATTERN_TOO_LARGE || error == PCRE2_ERROR_PATTERN_TOO_COMPLICATED ||
         error == PCRE2_ERROR_PARENTHESES_NEST_TOO_DEEP || error == PCRE2_ERROR_HEAP_FAILED;
}

std::string beginning(const std::string& text) { return text.size() <= 80 ? text : text.substr(0, 77) + "..."; }

PCRE2_SPTR bytes(const std::string& text) { return reinterpret_cast<PCRE2_SPTR>(text.data()); }

}  // namespace

struct PythonPattern::Code {
  struct Free {
    void operator()(pcre2_code* code) const { pcre2_code_free(code); }
  };
  std::unique_ptr<pcre2_code, Free> compiled;
};

PythonPattern::PythonPattern(const std::string& text, Anchor anchor, Error::Where where, std::string field)
    : code_(std::make_unique<Code>()), text_(text), where_(std::move(where)), field_(std::move(field)) {
  int error = 0;
  PCRE2_SIZE at = 0;
  if (text.size() > kLongestPattern)
    refuse("has " + std::to_string(text.size()) + " characters, expected at most " + std::to_string(kLongestPattern));
  const std::uint32_t options = anchor == Anchor::whole ? PCRE2_ANCHORED | PCRE2_ENDANCHORED : PCRE2_ANCHORED;
  code_->compiled.reset(pcre2_compile(bytes(text), text.size(), options, &error, &at, nullptr));
  if (!code_->compiled) refuse(too_large(error) ? "is too large a regular expression" : "is no regular expression");
}
PythonPattern::~PythonPattern() = default;
PythonPattern::PythonPattern(PythonPattern&&) noexcept = default;
PythonPattern& PythonPattern::operator=(PythonPattern&&) noexcept = default;

std::optional<std::string> PythonPattern::match(const std::string& subject) const {
  const pcre2_code* code = code_->compiled.get();
  const std::unique_ptr<pcre2_match_data, decltype(&pcre2_match_data_free)> data(
      pcre2_match_data_create_from_pattern(code, nullptr), pcre2_match_data_free);
  const std::unique_ptr<pcre2_match_context, decltype(&pcre2_match_context_free)> context(
      pcre2_match_context_create(nullptr), pcre2_match_context_free);
  pcre2_set_match_limit(context.get(), kMatchLimit);
  const int found = pcre2_match(code, bytes(subject), subject.size(), 0, 0, data.get(), context.get());
  if (found == PCRE2_ERROR_NOMATCH) return std::nullopt;
  if (found < 0) refuse("takes too much work to match '" + subject + "'");
  const PCRE2_SIZE* ends = pcre2_get_ovector_pointer(data.get());
  const int group = pcre2_substring_number_from_name(code, reinterpret_cast<PCRE2_SPTR>("idx"));
  const std::size_t i = group > 0 ? static_cast<std::size_t>(group) : 0;
  return subject.substr(ends[2 * i], ends[2 * i + 1] - ends[2 * i]);
}

void PythonPattern::refuse(const std::string& problem) const {
  throw Error(ErrorKind::bad_input, where_, "'" + field_ + "': '" + beginning(text_) + "' " + problem,
              "correct it, or name the modules in a list");
}

}  // namespace ropewalk::formats
