#include "tools/escape.h"

#include <algorithm>

#include "tools/one_line.h"

namespace ropewalk::tools {

std::string xml_text(const std::string& text) {
  std::string line = one_line(text), out;
  for (const char* none : {"\xef\xbf\xbe", "\xef\xbf\xbf"})
    for (std::size_t at = 0; (at = line.find(none, at)) != std::string::npos;) line.replace(at, 3, "\xef\xbf\xbd");
  for (const char c : line) switch (c) {
      case '&': out += "&amp;"; break;
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      case '"': out += "&quot;"; break;
      default: out += c;
    }
  return out;
}

std::string csv_field(const std::string& text) {
  const std::string plain = plain_lines(text);
  if (plain.find_first_of(",\"\n") == std::string::npos) return plain;
  std::string out = "\"";
  for (const char c : plain) out += c == '"' ? std::string("\"\"") : std::string(1, c);
  return out + "\"";
}

std::string markdown_text(const std::string& text) {
  std::string out;
  for (const char c : one_line(text)) switch (c) {
      case '&': out += "&amp;"; break;
      case '<': out += "&lt;"; break;
      case '\\':
      case '`':
      case '*':
      case '[':
      case '|': out += '\\'; [[fallthrough]];
      default: out += c;
    }
  return out;
}

std::string markdown_fence(const std::string& lines) {
  const std::string plain = plain_lines(lines);
  std::size_t longest = 0, run = 0;
  for (const char c : plain) longest = std::max(longest, run = c == '`' ? run + 1 : 0);
  const std::string fence(std::max<std::size_t>(3, longest + 1), '`');
  return fence + "\n" + plain + "\n" + fence;
}

}  // namespace ropewalk::tools
