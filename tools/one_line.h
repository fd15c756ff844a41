#pragma once

#include <string>

namespace ropewalk::tools {

// Text that may come from a file (names of tensors, kinds, pieces) is printed so that it cannot drive the terminal.

/// Control characters become spaces, bytes that are no UTF-8 \xHH: the text stays one line.
std::string one_line(std::string text);
/// The same for a paragraph: line ends and tabs stay.
std::string plain_lines(std::string text);

}  // namespace ropewalk::tools
