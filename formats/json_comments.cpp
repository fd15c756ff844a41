#include "formats/json_comments.h"

#include <algorithm>

#include "lib/error.h"

namespace ropewalk::formats {

std::string without_comments(const std::string& path, std::string_view text) {
  std::string out(text);
  bool quoted = false;
  for (std::size_t at = 0; at < out.size(); ++at) {
    if (quoted) {
      if (out[at] == '\\') ++at;
      else if (out[at] == '"' || out[at] == '\n') quoted = false;  // a line end there is for the parser to refuse
      continue;
    }
    if (out[at] == '"') quoted = true;
    if (out[at] != '/' || at + 1 == out.size() || (out[at + 1] != '/' && out[at + 1] != '*')) continue;
    const bool line = out[at + 1] == '/';
    const std::size_t end = line ? std::min(out.find('\n', at), out.size()) : out.find("*/", at + 2);
    if (end == std::string::npos)
      throw Error(
          ErrorKind::bad_input,
          {.path = path,
           .line = 1 + static_cast<int>(std::count(out.begin(), out.begin() + static_cast<std::ptrdiff_t>(at), '\n'))},
          "a comment begins there and does not end", "close it with */");
    const std::size_t stop = line ? end : end + 2;
    for (; at < stop; ++at)
      if (out[at] != '\n') out[at] = ' ';
    --at;
  }
  return out;
}

}  // namespace ropewalk::formats
