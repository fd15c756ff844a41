#pragma once

#include <string>
#include <string_view>

namespace ropewalk::formats {

/// JSON with // and /* */ comments, each replaced by as many blanks, line ends kept: places in what is parsed are those
/// of the file. Nothing else is changed. Error(bad_input) with the place for a comment that does not end.
std::string without_comments(const std::string& path, std::string_view text);

}  // namespace ropewalk::formats
