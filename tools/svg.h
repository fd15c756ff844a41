#pragma once

#include <string>

namespace ropewalk::tools {

/// Any text as it stands in an SVG: on one line, its markup escaped.
std::string svg_text(const std::string& text);
/// A length, in hundredths of a pixel.
std::string svg_px(double value);

}  // namespace ropewalk::tools
