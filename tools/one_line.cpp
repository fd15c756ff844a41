#include "tools/one_line.h"

#include <cstddef>
#include <string_view>

#include "formats/utf8.h"

namespace ropewalk::tools {
namespace {

/// Bytes that are no UTF-8, as \xHH.
std::string valid_utf8(std::string text) {
  static constexpr char kHex[] = "0123456789abcdef";
  for (std::size_t at = 0; (at += formats::first_invalid_utf8(std::string_view(text).substr(at))) < text.size();) {
    const auto byte = static_cast<unsigned char>(text[at]);
    text.replace(at, 1, {'\\', 'x', kHex[byte >> 4], kHex[byte & 15]});
    at += 4;
  }
  return text;
}

std::string without_controls(std::string text, bool keep_lines) {
  text = valid_utf8(std::move(text));
  for (std::size_t at = 0; at < text.size(); ++at) {
    const auto c = static_cast<unsigned char>(text[at]);
    if (keep_lines && (c == '\n' || c == '\t')) continue;
    if (c < 0x20 || c == 0x7f) text[at] = ' ';
    // U+0080 to U+009F, in UTF-8: some terminals take U+009B for ESC [
    if (c == 0xc2 && at + 1 < text.size() && static_cast<unsigned char>(text[at + 1]) >= 0x80 &&
        static_cast<unsigned char>(text[at + 1]) < 0xa0)
      text[at] = text[at + 1] = ' ';
    // U+200E, U+200F, U+202A to U+202E and U+2066 to U+2069 change the order in which a line is shown
    if (c == 0xe2 && at + 2 < text.size()) {
      const auto b = static_cast<unsigned char>(text[at + 1]), a = static_cast<unsigned char>(text[at + 2]);
      const bool turns =
          (b == 0x80 && (a == 0x8e || a == 0x8f || (a >= 0xaa && a <= 0xae))) || (b == 0x81 && a >= 0xa6 && a <= 0xa9);
      if (turns) text[at] = text[at + 1] = text[at + 2] = ' ';
    }
  }
  return text;
}

}  // namespace

std::string one_line(std::string text) { return without_controls(std::move(text), false); }
std::string plain_lines(std::string text) { return without_controls(std::move(text), true); }

}  // namespace ropewalk::tools
