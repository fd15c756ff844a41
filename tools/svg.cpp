#include "tools/svg.h"

#include "tools/one_line.h"
#include "tools/units.h"

namespace ropewalk::tools {

std::string svg_text(const std::string& text) {
  std::string out;
  for (const char c : one_line(text)) {
    if (c == '&') out += "&amp;";
    else if (c == '<') out += "&lt;";
    else if (c == '>') out += "&gt;";
    else if (c == '"') out += "&quot;";
    else out += c;
  }
  return out;
}

std::string svg_px(double value) { return fixed_text(value, 2); }

}  // namespace ropewalk::tools
