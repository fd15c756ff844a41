#include "formats/json_lines.h"

#include <algorithm>

namespace ropewalk::formats {

void for_each_json_line(const std::string& path, std::string_view text,
                        const std::function<void(const Json& value, std::string_view line)>& visit) {
  int number = 0;
  while (!text.empty()) {
    ++number;
    const std::size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.find_first_not_of(" \t") == line.npos) continue;
    try {
      visit(parse_json(path, line), line);
    } catch (const Error& error) {
      Error::Where where = error.where();
      if (where.path == path) where.line = where.line.value_or(1) + number - 1;
      throw Error(error.kind(), where, error.problem(), error.fix());
    }
  }
}

}  // namespace ropewalk::formats
