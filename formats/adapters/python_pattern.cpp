#include "formats/adapters/python_pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <utility>

#include "formats/adapters/python_syntax.h"

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
  std::size_t group = 0;  // whose text match() returns
};

PythonPattern::PythonPattern(const std::string& text, Anchor anchor, Error::Where where, std::string field)
    : code_(std::make_unique<Code>()), text_(text), where_(std::move(where)), field_(std::move(field)) {
  if (text.size() > kLongestPattern)
    refuse("has " + std::to_string(text.size()) + " characters, expected at most " + std::to_string(kLongestPattern));
  std::string pattern;
  try {
    TranslatedPattern translated = translate_python_pattern(text);
    pattern = std::move(translated.text);
    code_->group = translated.idx;
  } catch (const NoTranslation& none) {
    if (none.unsupported) refuse("is not supported: it holds " + none.reason, ErrorKind::unsupported);
    refuse("is no regular expression: " + none.reason);
  }
  const std::unique_ptr<pcre2_compile_context, decltype(&pcre2_compile_context_free)> context(
      pcre2_compile_context_create(nullptr), pcre2_compile_context_free);
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  const std::uint32_t options =
      PCRE2_ANCHORED | PCRE2_UTF | PCRE2_ALT_CIRCUMFLEX | (anchor == Anchor::whole ? PCRE2_ENDANCHORED : 0);
  int error = 0;
  PCRE2_SIZE at = 0;
  code_->compiled.reset(pcre2_compile(bytes(pattern), pattern.size(), options, &error, &at, context.get()));
  if (code_->compiled) return;
  if (too_large(error)) refuse("is too large a regular expression");
  char message[256] = {};
  pcre2_get_error_message(error, reinterpret_cast<PCRE2_UCHAR*>(message), sizeof message);
  refuse("is not supported: " + std::string(message), ErrorKind::unsupported);
}
PythonPattern::~PythonPattern() = default;
PythonPattern::PythonPattern(PythonPattern&&) noexcept = default;
PythonPattern& PythonPattern::operator=(PythonPattern&&) noexcept = default;

std::optional<std::string> PythonPattern::match(const std::string& subject) const {
  if (std::ranges::any_of(subject, [](char c) { return static_cast<unsigned char>(c) >= 0x80; }))
    refuse("is not supported for '" + subject + "', which holds characters beyond ASCII", ErrorKind::unsupported);
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
  const std::size_t i = code_->group;
  if (ends[2 * i] == PCRE2_UNSET) return std::string();
  return subject.substr(ends[2 * i], ends[2 * i + 1] - ends[2 * i]);
}

void PythonPattern::refuse(const std::string& problem, ErrorKind kind) const {
  throw Error(kind, where_, "'" + field_ + "': '" + beginning(text_) + "' " + problem,
              "correct it, or name the modules in a list");
}

}  // namespace ropewalk::formats
