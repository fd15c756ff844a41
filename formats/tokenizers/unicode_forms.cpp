#include "formats/tokenizers/unicode_forms.h"

#include <utf8proc.h>

#include <algorithm>
#include <vector>

#include "formats/tokenizers/characters.h"
#include "formats/tokenizers/library_unicode.h"

namespace ropewalk::formats {
namespace {

bool is_ascii(char c) { return static_cast<unsigned char>(c) < 0x80; }

int combining_class(utf8proc_int32_t code) { return utf8proc_get_property(code)->combining_class; }

void decompose(std::string_view text, bool compatible, std::vector<utf8proc_int32_t>& out) {
  const auto options =
      static_cast<utf8proc_option_t>(UTF8PROC_STABLE | (compatible ? UTF8PROC_COMPAT : 0) | UTF8PROC_DECOMPOSE);
  int boundary = 0;
  while (!text.empty()) {
    const Character next = first_character(text);
    text.remove_prefix(next.length);
    const auto code = static_cast<utf8proc_int32_t>(next.code);
    utf8proc_int32_t parts[32];
    const utf8proc_ssize_t n = utf8proc_decompose_char(code, parts, 32, options, &boundary);
    if (n < 0 || n > 32) out.push_back(code);  // none is longer than 18
    else out.insert(out.end(), parts, parts + n);
  }
}

/// Marks between two characters of class 0 in order of their classes. utf8proc's own sorting is quadratic.
void order_marks(std::vector<utf8proc_int32_t>& text) {
  for (std::size_t begin = 0; begin < text.size();) {
    if (combining_class(text[begin]) == 0) {
      ++begin;
      continue;
    }
    std::size_t end = begin + 1;
    while (end < text.size() && combining_class(text[end]) != 0) ++end;
    std::stable_sort(text.begin() + static_cast<std::ptrdiff_t>(begin), text.begin() + static_cast<std::ptrdiff_t>(end),
                     [](auto a, auto b) { return combining_class(a) < combining_class(b); });
    begin = end;
  }
}

struct Form {
  bool compose, compatible;
};

/// `text` without a character that the forms do not know.
void append_known(std::string_view text, Form form, std::vector<utf8proc_int32_t>& codes, std::string& out) {
  codes.clear();
  decompose(text, form.compatible, codes);
  order_marks(codes);
  if (form.compose) {
    const auto options = static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    const utf8proc_ssize_t n =
        utf8proc_normalize_utf32(codes.data(), static_cast<utf8proc_ssize_t>(codes.size()), options);
    codes.resize(static_cast<std::size_t>(std::max<utf8proc_ssize_t>(n, 0)));
  }
  for (utf8proc_int32_t code : codes) append_utf8(out, static_cast<std::uint32_t>(code));
}

/// Nothing decomposes, moves or combines across a character that the forms do not know: between two of them a text is
/// one of its own.
void append_form(std::string_view text, Form form, std::vector<utf8proc_int32_t>& codes, std::string& out) {
  for (std::size_t at = 0; at < text.size();) {
    const Character next = first_character(text.substr(at));
    at += next.length;
    if (!newer_than_library_forms(next.code)) continue;
    append_known(text.substr(0, at - next.length), form, codes, out);
    out += text.substr(at - next.length, next.length);
    text.remove_prefix(at);
    at = 0;
  }
  append_known(text, form, codes, out);
}

}  // namespace

std::string unicode_form(std::string_view text, bool compose, bool compatible) {
  std::string out;
  out.reserve(text.size());
  std::vector<utf8proc_int32_t> codes;
  while (!text.empty()) {
    // ASCII stays as it is, less the last character before others: marks may follow and combine with it.
    std::size_t plain = 0;
    while (plain < text.size() && is_ascii(text[plain])) ++plain;
    if (plain == text.size()) return out += text;
    if (plain > 0) --plain;
    out += text.substr(0, plain);
    text.remove_prefix(plain);
    std::size_t end = is_ascii(text[0]) ? 1 : 0;
    while (end < text.size() && !is_ascii(text[end])) ++end;
    append_form(text.substr(0, end), {compose, compatible}, codes, out);
    text.remove_prefix(end);
  }
  return out;
}

}  // namespace ropewalk::formats
