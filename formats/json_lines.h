#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "formats/json.h"

namespace ropewalk::formats {

/// JSON Lines (jsonlines.org): one value on each line; blank lines are passed over, CR before LF too. Calls `visit` for
/// each with the value and its text. What parse_json() refuses, and any Error of `visit` about `path`, leaves with the line
/// of the file.
void for_each_json_line(const std::string& path, std::string_view text,
                        const std::function<void(const Json& value, std::string_view line)>& visit);

}  // namespace ropewalk::formats
