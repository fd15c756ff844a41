#include "formats/tokenizers/llama_cpp_words.h"

#include <utf8proc.h>

#include <array>

#include "formats/tokenizers/characters.h"
#include "formats/utf8.h"
#include "lib/error.h"

namespace ropewalk::formats {
namespace {

constexpr char kRest = '\xD0', kNumber = '\xD1', kLetter = '\xD2', kPunctuation = '\xD3', kMark = '\xD4',
               kSymbol = '\xD5', kHanLetter = '\xD6', kHanRest = '\xD7', kWhite = '\x0B';

/// utf8proc 2.8 knows Unicode 15.0; the engine's table has three ranges more.
char class_of(std::uint32_t code) {
  if (is_white_space(code)) return kWhite;
  if (code >= 0x2EBF0 && code <= 0x2EE5D) return kLetter;
  if ((code >= 0x2FFC && code <= 0x2FFF) || code == 0x31EF) return kSymbol;
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(code))) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO: return kLetter;
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME: return kMark;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO: return kNumber;
    case UTF8PROC_CATEGORY_PC:
    case UTF8PROC_CATEGORY_PD:
    case UTF8PROC_CATEGORY_PS:
    case UTF8PROC_CATEGORY_PE:
    case UTF8PROC_CATEGORY_PI:
    case UTF8PROC_CATEGORY_PF:
    case UTF8PROC_CATEGORY_PO: return kPunctuation;
    case UTF8PROC_CATEGORY_SM:
    case UTF8PROC_CATEGORY_SC:
    case UTF8PROC_CATEGORY_SK:
    case UTF8PROC_CATEGORY_SO: return kSymbol;
    default: return kRest;
  }
}

/// The engine's blocks of Chinese characters, unassigned ones too.
bool is_han(std::uint32_t code) {
  return (code >= 0x4E00 && code <= 0x9FFF) || (code >= 0x3400 && code <= 0x4DBF) ||
         (code >= 0x20000 && code <= 0x2A6DF) || (code >= 0x2A700 && code <= 0x2EBEF) ||
         (code >= 0xF900 && code <= 0xFAFF) || (code >= 0x2F800 && code <= 0x2FA1F);
}

/// \p{L} and its like as bytes, with ASCII's members, in brackets of their own outside brackets.
std::string over_classes(std::string_view pattern) {
  std::string out;
  bool inside = false;
  for (std::size_t at = 0; at < pattern.size(); ++at) {
    const char c = pattern[at];
    if (c == '\\' && pattern.substr(at).starts_with("\\p{")) {
      std::string_view set;
      switch (pattern[at + 3]) {
        case 'N': set = R"(\x{D1}0-9)"; break;
        case 'L': set = R"(\x{D2}A-Za-z)"; break;
        case 'P': set = R"(\x{D3}!-#%-*,-/:;?@\[-\]_{})"; break;
        case 'M': set = R"(\x{D4})"; break;
        default: set = R"(\x{D5}$+<=>^`|~)";
      }
      out += inside ? std::string(set) : "[" + std::string(set) + "]";
      at += 4;
      continue;
    }
    if (c == '\\') {
      out += c;
      out += pattern[++at];
      continue;
    }
    if (c == '[') inside = true;
    if (c == ']') inside = false;
    out += c;
  }
  return out;
}

/// \s as all white space. Written inside brackets or outside.
std::string over_characters(std::string_view pattern) {
  constexpr std::string_view kSpaces =
      R"(\s\x{85}\x{A0}\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000})";
  std::string out;
  bool inside = false;
  for (std::size_t at = 0; at < pattern.size(); ++at) {
    if (pattern[at] == '[') inside = true;
    if (pattern[at] == ']') inside = false;
    if (!pattern.substr(at).starts_with("\\s")) {
      out += pattern[at];
      continue;
    }
    out += inside ? std::string(kSpaces) : "[" + std::string(kSpaces) + "]";
    ++at;
  }
  return out;
}

/// The text by characters: where each begins, its class, and the bytes with surrogates replaced, which PCRE2 refuses.
struct Characters {
  std::string_view text;
  std::vector<std::uint32_t> begins;  // [characters + 1]
  std::string classes;                // [characters]
  std::string without_surrogates;     // empty: text has none

  Characters(std::string_view all, bool han) : text(all) {
    begins.reserve(all.size() + 1);
    classes.reserve(all.size());
    for (std::size_t at = 0; at < all.size();) {
      begins.push_back(static_cast<std::uint32_t>(at));
      if (static_cast<unsigned char>(all[at]) < 0x80) {
        classes += all[at++];
        continue;
      }
      const Character next = first_character(all.substr(at));
      char kind = class_of(next.code);
      if (han && is_han(next.code)) kind = kind == kLetter ? kHanLetter : kHanRest;
      classes += kind;
      if (next.code >= 0xD800 && next.code < 0xE000) {
        if (without_surrogates.empty()) without_surrogates = all;
        without_surrogates.replace(at, 3, "\xEE\x80\x80");  // U+E000: on the same side of every range of ours
      }
      at += next.length;
    }
    begins.push_back(static_cast<std::uint32_t>(all.size()));
  }
  std::string_view bytes() const { return without_surrogates.empty() ? text : std::string_view(without_surrogates); }
};

struct Range {
  std::uint32_t begin, end;  // in characters
};

/// Cuts one word at what is found in it.
class Cutter {
 public:
  Cutter(Range word, std::vector<Range>& out) : word_(word), last_(word.begin), out_(out) {}
  void match(std::uint32_t begin, std::uint32_t end) {
    put(begin);
    put(end);
  }
  void finish() { put(word_.end); }
  void put(std::uint32_t end) {
    if (end > last_) out_.push_back({last_, end});
    last_ = end;
  }

 private:
  Range word_;
  std::uint32_t last_;
  std::vector<Range>& out_;
};

bool is_number(char kind) { return kind == kNumber || (kind >= '0' && kind <= '9'); }
bool is_digit(char kind) { return kind >= '0' && kind <= '9'; }

/// Runs of characters of a kind: hands their end and length in from the left.
template <class Is, class Take>
void for_each_run(std::string_view classes, Range word, const Is& is, const Take& take) {
  for (std::uint32_t at = word.begin; at < word.end;) {
    const std::uint32_t begin = at;
    while (at < word.end && is(classes[at])) ++at;
    if (at > begin) take(begin, at);
    else ++at;
  }
}

}  // namespace

LlamaCppWords::LlamaCppWords(const LlamaCppPre& pre) {
  for (const LlamaCppStep& step : pre.steps) {
    Step& made = steps_.emplace_back();
    made.kind = step.kind;
    if (step.kind == LlamaCppStep::Kind::classes_and_han) han_ = true;
    if (step.pattern.empty()) continue;
    const bool utf = step.kind == LlamaCppStep::Kind::characters;
    made.regex.emplace_back(Regex::Own{utf ? over_characters(step.pattern) : over_classes(step.pattern), utf});
  }
}

std::vector<std::string_view> LlamaCppWords::cut(std::string_view text) const {
  const Characters characters(text, han_);
  std::vector<Range> words = {{0, static_cast<std::uint32_t>(characters.classes.size())}};
  for (const Step& step : steps_) {
    std::vector<Range> next;
    next.reserve(words.size());
    for (const Range word : words) {
      Cutter cutter(word, next);
      if (step.kind == LlamaCppStep::Kind::digit_groups) {
        for_each_run(characters.classes, word, is_number, [&](std::uint32_t begin, std::uint32_t end) {
          for (std::uint32_t at = begin + ((end - begin) % 3 != 0 ? (end - begin) % 3 : 3); at <= end; at += 3)
            cutter.put(at);
        });
      } else if (step.kind == LlamaCppStep::Kind::thousands) {
        for_each_run(characters.classes, word, is_digit, [&](std::uint32_t begin, std::uint32_t end) {
          for (std::uint32_t at = begin + (end - begin) % 3; at < end; at += 3) cutter.put(at);
        });
      } else if (step.kind == LlamaCppStep::Kind::characters) {
        const std::uint32_t first = characters.begins[word.begin];
        std::uint32_t at = word.begin;
        const auto character_at = [&](std::size_t byte) {
          while (characters.begins[at] < first + byte) ++at;
          return at;
        };
        step.regex[0].for_each_match(characters.bytes().substr(first, characters.begins[word.end] - first),
                                     [&](Regex::Match match) {
                                       const std::uint32_t begin = character_at(match.begin);
                                       cutter.match(begin, character_at(match.end));
                                     });
      } else {
        step.regex[0].for_each_match(std::string_view(characters.classes).substr(word.begin, word.end - word.begin),
                                     [&](Regex::Match match) {
                                       cutter.match(word.begin + static_cast<std::uint32_t>(match.begin),
                                                    word.begin + static_cast<std::uint32_t>(match.end));
                                     });
      }
      cutter.finish();
    }
    words = std::move(next);
  }
  std::vector<std::string_view> out;
  out.reserve(words.size());
  for (const Range word : words) {
    const std::uint32_t begin = characters.begins[word.begin];
    out.push_back(text.substr(begin, characters.begins[word.end] - begin));
  }
  return out;
}

namespace {

/// take(its first byte's index, character), U+FFFD for a byte that begins none.
template <class Take>
void for_each_engine_character(std::string_view text, const Take& take) {
  for (std::size_t at = 0; at < text.size();) {
    const auto first = static_cast<unsigned char>(text[at]);
    const std::size_t length = first < 0x80   ? 1
                               : first < 0xC0 ? 0
                               : first < 0xE0 ? 2
                               : first < 0xF0 ? 3
                               : first < 0xF8 ? 4
                                              : 0;
    bool whole = length > 0 && length <= text.size() - at;
    std::uint32_t code = length < 2 ? first : first & (0xFFu >> (length + 1));
    for (std::size_t more = 1; whole && more < length; ++more) {
      const auto next = static_cast<unsigned char>(text[at + more]);
      whole = (next & 0xC0) == 0x80;
      code = code << 6 | (next & 0x3Fu);
    }
    take(at, whole ? code : 0xFFFD);
    at += whole ? length : 1;
  }
}

}  // namespace

std::string as_llama_cpp_reads(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for_each_engine_character(text, [&](std::size_t at, std::uint32_t code) {
    if (code > 0x10FFFF)
      throw Error(ErrorKind::bad_input, {},
                  "byte " + std::to_string(at) + " of the text begins a character past U+10FFFF, which ends llama.cpp",
                  "correct the text's encoding");
    append_utf8(out, code);
  });
  return out;
}

std::vector<std::uint32_t> llama_cpp_characters(std::string_view text) {
  std::vector<std::uint32_t> out;
  out.reserve(text.size());
  for_each_engine_character(text, [&](std::size_t, std::uint32_t code) { out.push_back(code); });
  return out;
}

}  // namespace ropewalk::formats
