#include "tools/one_line.h"

#include <cstddef>

namespace ropewalk::tools {
namespace {

std::string without_controls(std::string text, bool keep_lines) {
  for (std::size_t at = 0; at < text.size(); ++at) {
    const auto c = static_cast<unsigned char>(text[at]);
    if (keep_lines && (c == '\n' || c == '\t')) continue;
    if (c < 0x20 || c == 0x7f) text[at] = ' ';
    // U+0080 to U+009F, in UTF-8: some terminals take U+009B for ESC [
    if (c == 0xc2 && at + 1 < text.size() && static_cast<unsigned char>(text[at + 1]) >= 0x80 &&
        static_cast<unsigned char>(text[at + 1]) < 0xa0)
      text[at] = text[at + 1] = ' ';
  }
  return text;
}

}  // namespace

std::string one_line(std::string text) { return without_controls(std::move(text), false); }
std::string plain_lines(std::string text) { return without_controls(std::move(text), true); }

}  // namespace ropewalk::tools
