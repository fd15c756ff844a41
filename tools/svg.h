#pragma once

#include <string>

namespace ropewalk::tools {

/// The end of a long path, which tells more than its beginning.
std::string ending(const std::string& text, std::size_t letters);
/// The one style of all drawings, light or dark as the viewer prefers: several may stand in one page. Colours c0 to c7 stay
/// apart in grey and for the common kinds of colour blindness; curves differ in dashes too.
std::string svg_style();
inline constexpr int kSvgColors = 8;
/// A whole SVG 1.1 image on paper, with that style.
std::string svg_image(const std::string& title, double width, double height, const std::string& body);
/// A length, in hundredths of a pixel.
std::string svg_px(double value);

}  // namespace ropewalk::tools
