#define PCRE2_CODE_UNIT_WIDTH 8
#include "formats/tokenizers/regex.h"

#include <pcre2.h>

#include <mutex>
#include <vector>

#include "formats/tokenizers/newer_characters.h"
#include "formats/tokenizers/regex_syntax.h"
#include "formats/utf8.h"
#include "lib/error.h"

namespace ropewalk::formats {
namespace {

constexpr std::size_t kMaxPatternBytes = 64 << 10;
constexpr std::uint32_t kMatchLimit = 20'000'000;    // of one match; a megabyte of spaces takes about as many as bytes
constexpr std::uint64_t kMaxStackBytes = 16u << 20;  // of the JIT code, allocated as it is needed

PCRE2_SPTR units(std::string_view text) { return reinterpret_cast<PCRE2_SPTR>(text.data()); }

std::string message_of(int code) {
  unsigned char text[200] = {};
  pcre2_get_error_message(code, text, sizeof text);
  return reinterpret_cast<const char*>(text);
}

/// What pcre2_compile refused. Only brackets without a partner are wrong for sure: Oniguruma takes what PCRE2 does not,
/// such as lookbehinds of several lengths.
[[noreturn]] void refuse(int error) {
  if (error == PCRE2_ERROR_MISSING_SQUARE_BRACKET || error == PCRE2_ERROR_MISSING_CLOSING_PARENTHESIS ||
      error == PCRE2_ERROR_UNMATCHED_CLOSING_PARENTHESIS)
    throw Error(ErrorKind::bad_input, {}, "its regular expression does not compile: " + message_of(error),
                "fetch the file again or repair it");
  throw Error(ErrorKind::unsupported, {}, "its regular expression is not understood: " + message_of(error),
              "pass token ids instead of text");
}

template <auto release>
struct Free {
  template <class T>
  void operator()(T* object) const {
    release(object);
  }
};

/// What one matching thread needs.
struct State {
  std::unique_ptr<pcre2_match_data, Free<pcre2_match_data_free>> data;
  std::unique_ptr<pcre2_match_context, Free<pcre2_match_context_free>> context;
  std::unique_ptr<pcre2_jit_stack, Free<pcre2_jit_stack_free>> stack;
};

using Program = std::unique_ptr<pcre2_code, Free<pcre2_code_free>>;

Program compiled(const std::string& text, std::uint32_t options) {
  std::unique_ptr<pcre2_compile_context, Free<pcre2_compile_context_free>> context(
      pcre2_compile_context_create(nullptr));
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  int error = 0;
  PCRE2_SIZE at = 0;
  Program code(pcre2_compile(units(text), text.size(), options, &error, &at, context.get()));
  if (!code) refuse(error);
  pcre2_jit_compile(code.get(), PCRE2_JIT_COMPLETE);  // without it matching is slow, and right
  return code;
}

}  // namespace

struct Regex::Code {
  Program code;
  Program of_newer;  // for texts with characters that PCRE2 does not know, if that makes a difference
  bool utf = true;
  std::mutex mutex;
  std::vector<State> idle;

  State borrow() {
    {
      const std::lock_guard lock(mutex);
      if (!idle.empty()) {
        State state = std::move(idle.back());
        idle.pop_back();
        return state;
      }
    }
    State state;
    state.data.reset(pcre2_match_data_create(1, nullptr));
    state.context.reset(pcre2_match_context_create(nullptr));
    state.stack.reset(pcre2_jit_stack_create(64 << 10, kMaxStackBytes, nullptr));
    if (!state.data || !state.context || !state.stack) throw std::bad_alloc();
    pcre2_set_match_limit(state.context.get(), kMatchLimit);
    pcre2_jit_stack_assign(state.context.get(), nullptr, state.stack.get());
    return state;
  }
  void give_back(State state) {
    const std::lock_guard lock(mutex);
    idle.push_back(std::move(state));
  }
};

Regex::Regex(const TextPattern& pattern) : code_(std::make_unique<Code>()) {
  if (pattern.text.size() > kMaxPatternBytes)
    throw Error(ErrorKind::unsupported, {},
                "its regular expression has " + std::to_string(pattern.text.size()) + " bytes, at most " +
                    std::to_string(kMaxPatternBytes) + " are read",
                "check that this is the model's own tokenizer");
  if (!pattern.is_regex) {
    code_->code = compiled(pattern.text, PCRE2_UTF | PCRE2_LITERAL);
    return;
  }
  constexpr std::uint32_t kOptions = PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C | PCRE2_MULTILINE;
  const std::string text = oniguruma_to_pcre2(pattern.text, false), newer = oniguruma_to_pcre2(pattern.text, true);
  code_->code = compiled(text, kOptions);
  if (newer != text) code_->of_newer = compiled(newer, kOptions);
}

Regex::Regex(const Own& pattern) : code_(std::make_unique<Code>()) {
  code_->utf = pattern.utf;
  code_->code = compiled(pattern.text, pattern.utf ? PCRE2_UTF : 0);
}

Regex::~Regex() = default;
Regex::Regex(Regex&&) noexcept = default;
Regex& Regex::operator=(Regex&&) noexcept = default;

void Regex::for_each_match(std::string_view text, const std::function<void(Match)>& take) const {
  const pcre2_code* code = (code_->of_newer && has_newer_character(text) ? code_->of_newer : code_->code).get();
  State state = code_->borrow();
  const PCRE2_SIZE* place = pcre2_get_ovector_pointer(state.data.get());
  std::optional<std::size_t> last_end;
  for (std::size_t from = 0; from <= text.size();) {
    const int found =
        pcre2_match(code, units(text), text.size(), from, PCRE2_NO_UTF_CHECK, state.data.get(), state.context.get());
    if (found == PCRE2_ERROR_NOMATCH) break;
    if (found < 0)
      throw Error(
          ErrorKind::unsupported, {},
          "its regular expression gives up at byte " + std::to_string(from) + " of the text: " + message_of(found),
          "check that this is the model's own tokenizer");
    if (place[0] == place[1] && last_end == place[1]) {
      from += code_->utf && from < text.size() ? utf8_length(text[from]) : 1;
      continue;
    }
    from = place[1];
    last_end = place[1];
    take({place[0], place[1]});
  }
  code_->give_back(std::move(state));
}

}  // namespace ropewalk::formats
