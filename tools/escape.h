#pragma once

#include <string>

namespace ropewalk::tools {

// Any text, such as a name from a file, as it stands in a format: one function for each. Terminals: one_line.h.

/// In XML 1.0, HTML and SVG, as content or within double quotes: on one line, markup escaped, U+FFFE and U+FFFF, which
/// XML has no way to write, as U+FFFD.
std::string xml_text(const std::string& text);
/// A field of RFC 4180, in UTF-8; of control characters only line ends and tabs stay.
std::string csv_field(const std::string& text);
/// A paragraph or a table's cell of Markdown (CommonMark, GitHub's tables): on one line, no tag, link, image, code or
/// emphasis of its own.
std::string markdown_text(const std::string& text);
/// Lines as they are, in a fence that none of them closes.
std::string markdown_fence(const std::string& lines);

}  // namespace ropewalk::tools
